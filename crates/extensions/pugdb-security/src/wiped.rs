//! Keys, and what the library that does the cryptography makes of them, in slots of their own, overwritten when they are dropped: it does
//! not do that itself.

#![expect(unsafe_code, reason = "a value of any type lies in a slot of bytes")]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::slots::{SLOT_ALIGN, SLOT_BYTES_MAX, Slot};

/// A value that owns nothing but its bytes. It does not move while it is in here, so it leaves no copies; those that were made before, on
/// the stack of who made it, are not its concern.
pub(crate) struct Wiped<T>(Slot, PhantomData<T>);

impl<T> Wiped<T> {
    pub(crate) fn new(value: T) -> Self {
        const {
            assert!(!std::mem::needs_drop::<T>(), "it owns nothing, so its bytes are all of it");
            assert!(
                size_of::<T>() <= SLOT_BYTES_MAX && align_of::<T>() <= SLOT_ALIGN,
                "it has room in a slot"
            );
        }
        let mut slot = Slot::take(size_of::<T>());
        // SAFETY: the slot is as long and as aligned as the assertions above say, and nobody else has it.
        unsafe { slot.bytes_mut().as_mut_ptr().cast::<T>().write(value) };
        Self(slot, PhantomData)
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has written a `T` at the slot's begin, and only the slot's own drop overwrites it.
        unsafe { &*self.0.bytes().as_ptr().cast::<T>() }
    }
}

impl<T> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `self` is borrowed for this alone.
        unsafe { &mut *self.0.bytes_mut().as_mut_ptr().cast::<T>() }
    }
}
