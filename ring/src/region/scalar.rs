//! Single variables in mapped memory, written whole without touching their neighbours.
#![allow(unsafe_code, clippy::disallowed_types)]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Stores the first `size` (1, 2, 4 or 8) of these bytes at `at`, by one release store.
///
/// # Safety
/// `at` is aligned to `size`; `size` bytes from there can be written; this process accesses them only atomically.
pub(super) unsafe fn store(at: *mut u8, size: usize, [a, b, c, d, e, f, g, h]: [u8; 8]) {
    match size {
        // SAFETY: guaranteed by the caller. A shared reference to an atomic allows concurrent changes.
        1 => unsafe { &*at.cast::<AtomicU8>() }.store(a, Ordering::Release),
        // SAFETY: as above.
        2 => unsafe { &*at.cast::<AtomicU16>() }.store(u16::from_ne_bytes([a, b]), Ordering::Release),
        // SAFETY: as above.
        4 => unsafe { &*at.cast::<AtomicU32>() }.store(u32::from_ne_bytes([a, b, c, d]), Ordering::Release),
        // SAFETY: as above.
        _ => unsafe { &*at.cast::<AtomicU64>() }
            .store(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), Ordering::Release),
    }
}
