//! Keys of the library that does the cryptography, overwritten when they are dropped: it does not do that itself.

#![expect(unsafe_code, reason = "a value of any type is overwritten byte by byte")]

use std::mem::MaybeUninit;
use std::ops::Deref;

/// A value that owns nothing but its bytes. It does not move while it is in here, so it leaves no copies; those that were made before, on
/// the stack of who made it, are not its concern.
pub(crate) struct Wiped<T>(Box<MaybeUninit<T>>);

impl<T> Wiped<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Box::new(MaybeUninit::new(value)))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has written it, and nothing but the drop overwrites it.
        unsafe { self.0.assume_init_ref() }
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        const { assert!(!std::mem::needs_drop::<T>(), "it owns nothing, so its bytes are all of it") };
        // SAFETY: any bytes are a `MaybeUninit`, and nobody looks at them any more.
        unsafe { zeroize::zeroize_flat_type(std::ptr::from_mut(&mut *self.0)) };
    }
}
