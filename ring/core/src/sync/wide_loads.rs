//! Loads of two or four words at once, on machines that have them and keep them in order.
//!
//! Rust has no such load. An `asm!` block may do anything that the machine does, and these instructions act on each word
//! like a relaxed load: SSE2 is part of x86-64, and AVX is asked for. The machine may split such a load at a multiple of 8
//! only into parts of at least a word, and it does not reorder loads with other loads (Intel's manual, volume 3, 9.1.1
//! and 9.2.2).
#![allow(unsafe_code, clippy::disallowed_types)]

pub(crate) use here::{ARE_FASTER, copy, copy_lines, copy_pairs, prefetch};

/// Not in models and interpreters, which have to see each load.
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
mod here {
    use core::arch::asm;
    use core::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_prefetch};

    use crate::sync::{AtomicU64, Ordering};

    pub(crate) const ARE_FASTER: bool = true;

    /// Loads the line at `at` into the cache, if there is memory.
    #[inline(always)]
    pub(crate) fn prefetch(at: *const AtomicU64) {
        // SAFETY: this instruction has no other effect and never fails, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    /// Copies two words.
    ///
    /// # Safety
    /// They can be read at `from`, which is aligned to 8, and written at `to`, which nothing else accesses.
    #[inline(always)]
    pub(crate) unsafe fn copy(from: *const AtomicU64, to: *mut u8) {
        let both: __m128i;
        // SAFETY: reads what the caller guarantees to be readable, and changes nothing but its outputs.
        unsafe {
            asm!(
                "movups {both}, [{from}]",
                both = out(xmm_reg) both,
                from = in(reg) from,
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<__m128i>().write_unaligned(both) };
    }

    /// From this number of lines on, a check for AVX costs less than AVX saves.
    const WIDE: usize = 16;

    /// Copies `pairs` times two words.
    ///
    /// # Safety
    /// They can be read at `from`, which is aligned to 8, and written at `to`, which nothing else accesses.
    #[inline]
    pub(crate) unsafe fn copy_pairs(from: *const AtomicU64, to: *mut u8, pairs: usize) {
        let lines = pairs / 4;
        if lines > 0 {
            // SAFETY: guaranteed by the caller.
            unsafe { copy_lines(from, to, lines) };
        }
        for pair in lines * 4..pairs {
            let (from, to) = (from.wrapping_add(2 * pair), to.wrapping_add(16 * pair));
            // SAFETY: `pair < pairs`; the rest is guaranteed by the caller.
            unsafe { copy(from, to) };
        }
    }

    /// Copies `lines` times 64 bytes, at least once.
    ///
    /// # Safety
    /// They can be read at `from`, which is aligned to 8, and written at `to`, which nothing else accesses.
    #[inline]
    pub(crate) unsafe fn copy_lines(from: *const AtomicU64, to: *mut u8, lines: usize) {
        if lines >= WIDE {
            // SAFETY: guaranteed by the caller.
            return unsafe { copy_many_lines(from, to, lines) };
        }
        // SAFETY: guaranteed by the caller.
        unsafe { copy_narrow(from, to, lines) }
    }

    /// The same, not inlined: most callers rarely come here, and keep more in registers.
    ///
    /// # Safety
    /// As for [`copy_lines`]; `lines` is at least [`WIDE`].
    #[inline(never)]
    unsafe fn copy_many_lines(from: *const AtomicU64, to: *mut u8, lines: usize) {
        if !std::is_x86_feature_detected!("avx") {
            // SAFETY: guaranteed by the caller.
            return unsafe { copy_narrow(from, to, lines) };
        }
        // Stores that cross lines take much longer: on an Intel machine, 4 KiB took 80 ns instead of 47.
        let (words, before) = (8 * lines, to.align_offset(32) / 8);
        let lines = (words - before) / 8;
        let after = before + 8 * lines;
        let at = |word| (from.wrapping_add(word), to.wrapping_add(8 * word));
        // SAFETY: the caller's first words.
        unsafe { copy_words(from, to, before) };
        let (middle, to_middle) = at(before);
        // SAFETY: the machine has AVX, and `before + 8 * lines <= words`; `lines` isn't 0, since `before` is less than 4.
        unsafe { copy_wide(middle, to_middle, lines) };
        let (last, to_last) = at(after);
        // SAFETY: the caller's last words.
        unsafe { copy_words(last, to_last, words - after) };
    }

    /// Copies `words` words, one at a time.
    ///
    /// # Safety
    /// They can be read at `from`, which is aligned to 8, and written at `to`, which nothing else accesses.
    #[inline(always)]
    unsafe fn copy_words(from: *const AtomicU64, to: *mut u8, words: usize) {
        for word in 0..words {
            // SAFETY: guaranteed by the caller; an `AtomicU64` may change meanwhile.
            let from = unsafe { &*from.wrapping_add(word) };
            // SAFETY: guaranteed by the caller.
            unsafe { to.cast::<u64>().wrapping_add(word).write_unaligned(from.load(Ordering::Relaxed)) };
        }
    }

    /// The same with two words at once.
    ///
    /// # Safety
    /// As for [`copy_lines`].
    #[inline(always)]
    unsafe fn copy_narrow(from: *const AtomicU64, to: *mut u8, lines: usize) {
        // SAFETY: reads and writes what the caller guarantees to be readable and writable, and changes nothing but its
        // outputs.
        unsafe {
            asm!(
                "2:",
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "dec {lines}",
                "jnz 2b",
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                lines = inout(reg) lines => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack),
            );
        }
    }

    /// The same with four words at once.
    ///
    /// # Safety
    /// As for [`copy_lines`], and the machine has AVX.
    #[target_feature(enable = "avx")]
    unsafe fn copy_wide(from: *const AtomicU64, to: *mut u8, lines: usize) {
        // SAFETY: as in `copy_lines`. It changes all registers that a function may change: after AVX, other code is slow
        // until the upper halves of the vector registers are cleared.
        unsafe {
            asm!(
                "2:",
                "vmovups ymm0, [rsi]",
                "vmovups ymm1, [rsi + 32]",
                "vmovups [rdi], ymm0",
                "vmovups [rdi + 32], ymm1",
                "add rsi, 64",
                "add rdi, 64",
                "dec rdx",
                "jnz 2b",
                "vzeroupper",
                inout("rsi") from => _,
                inout("rdi") to => _,
                inout("rdx") lines => _,
                clobber_abi("sysv64"),
                options(nostack),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
mod here {
    use crate::sync::AtomicU64;

    pub(crate) const ARE_FASTER: bool = false;

    pub(crate) fn prefetch(_: *const AtomicU64) {}

    pub(crate) unsafe fn copy(_: *const AtomicU64, _: *mut u8) {
        unreachable!("wide loads are no faster here");
    }

    pub(crate) unsafe fn copy_lines(_: *const AtomicU64, _: *mut u8, _: usize) {
        unreachable!("wide loads are no faster here");
    }

    pub(crate) unsafe fn copy_pairs(_: *const AtomicU64, _: *mut u8, _: usize) {
        unreachable!("wide loads are no faster here");
    }
}
