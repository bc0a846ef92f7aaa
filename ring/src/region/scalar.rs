//! Single variables in mapped memory, read and written whole, without touching their neighbours.
//!
//! Each access has the variable's own size, as those of the programs. So this process never accesses the same bytes by
//! atomics of different sizes at once, which Rust's memory model does not allow: the kernel refuses BTF in which
//! variables of a section overlap, and a variable has one size. Programs and other processes are outside of that model;
//! for them, accesses of one size to an aligned place are single-copy atomic.
//!
//! A compare-and-swap of the word around the variable would keep the neighbours as well. But it could fail as often as a
//! program writes one of them, while a store always takes one step.
#![allow(unsafe_code, clippy::disallowed_types)]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Loads the `size` (1, 2, 4 or 8) bytes at `at`, by one relaxed load. The others are zeros.
///
/// # Safety
/// `at` is aligned to `size`; `size` bytes from there can be read; this process accesses them only atomically, and by
/// this size.
#[inline]
pub(super) unsafe fn load(at: *mut u8, size: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    match size {
        // SAFETY: guaranteed by the caller. A shared reference to an atomic allows concurrent changes.
        1 => bytes[0] = unsafe { &*at.cast::<AtomicU8>() }.load(Ordering::Relaxed),
        2 => {
            // SAFETY: as above.
            let value = unsafe { &*at.cast::<AtomicU16>() }.load(Ordering::Relaxed);
            bytes[..2].copy_from_slice(&value.to_ne_bytes());
        }
        4 => {
            // SAFETY: as above.
            let value = unsafe { &*at.cast::<AtomicU32>() }.load(Ordering::Relaxed);
            bytes[..4].copy_from_slice(&value.to_ne_bytes());
        }
        // SAFETY: as above.
        _ => bytes = unsafe { &*at.cast::<AtomicU64>() }.load(Ordering::Relaxed).to_ne_bytes(),
    }
    bytes
}

/// Stores the first `size` (1, 2, 4 or 8) of these bytes at `at`, by one release store.
///
/// # Safety
/// As for [`load`], and the bytes can be written.
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Shared([AtomicU64; 2]);

    impl Shared {
        fn at(&self, offset: usize) -> *mut u8 {
            assert!(offset < size_of::<Self>());
            self.0.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset)
        }
    }

    /// Miri runs this: it reports accesses of different sizes.
    #[test]
    fn neighbours_in_a_word_are_written_at_once() {
        const PLACES: [(usize, usize); 5] = [(0, 4), (4, 2), (6, 1), (7, 1), (8, 8)];
        let shared = &Shared([const { AtomicU64::new(0) }; 2]);
        let turns: u8 = if cfg!(miri) { 20 } else { 250 };
        let whole = |bytes: [u8; 8], size: usize| {
            assert!(bytes[..size].iter().all(|&byte| byte == bytes[0]) && bytes[size..] == [0; 8][size..]);
            bytes[0]
        };
        std::thread::scope(|scope| {
            for (offset, size) in PLACES {
                scope.spawn(move || {
                    for turn in 1..=turns {
                        // SAFETY: aligned, in the words, and only accessed so.
                        unsafe { store(shared.at(offset), size, [turn; 8]) };
                        // SAFETY: as above.
                        assert_eq!(whole(unsafe { load(shared.at(offset), size) }, size), turn);
                    }
                });
                scope.spawn(move || {
                    let mut last = 0;
                    while last < turns {
                        // SAFETY: as above.
                        let now = whole(unsafe { load(shared.at(offset), size) }, size);
                        assert!(now >= last);
                        last = now;
                        std::thread::yield_now();
                    }
                });
            }
        });
    }
}
