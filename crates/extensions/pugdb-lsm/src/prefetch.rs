//! Asks the processor for memory before it is needed. Scans know where they go next, and each place is a wait of its own.

#![expect(unsafe_code, reason = "the one instruction, which touches nothing that a program can see")]

/// Half of what most processors bring at once: a line and its neighbour.
const LINE_BYTES: usize = 64;

/// Brings the beginning of `bytes` near, up to four lines. Nothing waits for it.
pub(crate) fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES).take(4) {
        prefetch_at(line.as_ptr());
    }
}

/// Brings the line at an address near. The address may be any.
pub(crate) fn prefetch_at<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads nothing and never faults, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    // Other processors have it too, but no stable name for it.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_will_do() {
        prefetch(&[]);
        prefetch(&[1; 1000]);
        prefetch_at(std::ptr::null::<u64>());
        prefetch_at(std::ptr::without_provenance::<u8>(usize::MAX));
    }
}
