//! Words of a map, the memory operations of the protocols, and the kernel's helpers. All unsafe code that touches memory is here.
//!
//! The atomic operations are written as instructions. Rust's own do not exist on this target, and LLVM makes a plain `lock +=`,
//! which orders nothing on arm64, of one whose result is unused. Each `asm!` is also a barrier for the compiler.

use core::arch::asm;
use core::ffi::c_void;
use core::ptr::NonNull;

/// The address of a map, for helpers.
#[derive(Clone, Copy)]
#[doc(hidden)]
pub struct MapPtr(*const c_void);

impl MapPtr {
    /// The map that this variable of the section `.maps` declares.
    #[inline(always)]
    pub fn of<M>(map: &'static M) -> Self {
        Self((&raw const *map).cast())
    }

    /// The map that is an element of a map of maps.
    #[inline(always)]
    pub(crate) fn of_element(element: Word) -> Self {
        Self(element.as_ptr())
    }
}

/// A word of a map: it points into a value that the kernel has found. The verifier refuses a program that may use one beyond
/// its value, or one that lies on no word.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Word(NonNull<u64>);

impl Word {
    /// A whole-word load that the compiler neither splits nor repeats. Orders nothing.
    #[inline(always)]
    pub(crate) fn load(self) -> u64 {
        // SAFETY: a word of a map, which the verifier has checked; words are always initialized.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    /// A whole-word store that the compiler neither splits nor drops. Orders nothing.
    #[inline(always)]
    pub(crate) fn store(self, value: u64) {
        // SAFETY: as for `load`.
        unsafe { self.0.as_ptr().write_volatile(value) }
    }

    /// The word `words` after this one.
    #[inline(always)]
    pub(crate) fn plus(self, words: usize) -> Self {
        let word = self.0.as_ptr().wrapping_add(words);
        // SAFETY: a map's value is not at the end of the address space, so this is not null.
        Self(unsafe { NonNull::new_unchecked(word) })
    }

    /// The word `words` before this one.
    #[inline(always)]
    pub(crate) fn minus(self, words: usize) -> Self {
        let word = self.0.as_ptr().wrapping_sub(words);
        // SAFETY: as for `plus`.
        Self(unsafe { NonNull::new_unchecked(word) })
    }

    /// Its address.
    #[inline(always)]
    pub(crate) fn as_ptr<T>(self) -> *mut T {
        self.0.as_ptr().cast()
    }

    /// The word `BYTES / 8` words after this one. LLVM does not see the addition, and so leaves it behind the checks that come
    /// before, as the verifier needs.
    #[inline(always)]
    pub(crate) fn plus_checked<const BYTES: usize>(self) -> Self {
        let mut word = self.0.as_ptr();
        // SAFETY: an addition.
        unsafe { asm!("{0} += {1}", inout(reg) word, const BYTES, options(nomem, nostack)) };
        // SAFETY: as for `plus`. LLVM then knows it, too.
        unsafe { core::hint::assert_unchecked(!word.is_null()) };
        // SAFETY: as above.
        Self(unsafe { NonNull::new_unchecked(word) })
    }

    /// The word at this byte, a multiple of 8.
    #[inline(always)]
    pub(crate) fn at_byte(self, byte: u64) -> Self {
        let word = self.0.as_ptr().wrapping_byte_add(byte as usize);
        // SAFETY: as for `plus`.
        Self(unsafe { NonNull::new_unchecked(word) })
    }

    /// Stores `value` if the word is `expected`. Returns the old value. A full barrier on every JIT, like all fetching atomics.
    #[inline(always)]
    pub(crate) fn compare_exchange(self, expected: u64, value: u64) -> u64 {
        let seen;
        // SAFETY: one atomic operation on a word of a map.
        unsafe {
            asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) self.0.as_ptr(), in(reg) value, inout("r0") expected => seen);
        }
        seen
    }

    /// Adds. Returns the old value. Also a full barrier.
    #[inline(always)]
    pub(crate) fn fetch_add(self, mut by: u64) -> u64 {
        // SAFETY: one atomic operation on a word of a map.
        unsafe {
            asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) self.0.as_ptr(), inout(reg) by)
        };
        by
    }

    /// Clears all bits but those of `mask`. Returns the old value. Also a full barrier.
    #[inline(always)]
    pub(crate) fn fetch_and(self, mut mask: u64) -> u64 {
        // SAFETY: one atomic operation on a word of a map.
        unsafe {
            asm!("{1} = atomic_fetch_and((u64 *)({0} + 0), {1})", in(reg) self.0.as_ptr(), inout(reg) mask)
        };
        mask
    }

    /// Sets bits. Orders nothing.
    #[inline(always)]
    pub(crate) fn or(self, bits: u64) {
        // SAFETY: one atomic operation on a word of a map.
        unsafe { asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) self.0.as_ptr(), in(reg) bits) };
    }

    /// Adds atomically, even if a nested program adds to the same word. Orders nothing.
    #[inline(always)]
    pub(crate) fn count(self, by: u64) {
        // SAFETY: one atomic operation on a word of a map.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) self.0.as_ptr(), in(reg) by) };
    }

    /// Makes a record visible: a reader that sees `value` sees everything written before it. x86 keeps stores in order, so a
    /// compiler barrier is enough; the name of a member of the map's type tells loaders of other machines (`layout.rs`).
    /// SYNC publish: pairs with the first acquire fence of every reader.
    #[inline(always)]
    pub(crate) fn publish(self, value: u64) {
        if cfg!(bpf_target_arch = "x86_64") {
            // SAFETY: no instruction.
            unsafe { asm!("") };
            self.store(value);
        } else {
            exchange(self.0.as_ptr(), value);
        }
    }
}

/// Stores, as a full barrier.
#[inline(always)]
fn exchange(word: *mut u64, value: u64) {
    // SAFETY: one atomic operation; both callers have a word.
    unsafe { asm!("{1} = xchg_64({0} + 0, {1})", in(reg) word, inout(reg) value => _) };
}

/// A full barrier. BPF has no instruction for it, but a fetching atomic on any word, here on the stack, is one.
#[inline(always)]
pub(crate) fn full_barrier() {
    let mut word = 0;
    exchange(&raw mut word, 1);
}

/// These functions are instructions that LLVM does not look into. It would make a branch of the sign, of which the verifier follows
/// both sides, and leave out or move a mask that the verifier needs where it is.
///
/// They are not empty, as in C: rustc wants each operand to be used, and a comment would have a line in BTF without an instruction.
macro_rules! opaque {
    ($($(#[$doc:meta])* fn $name:ident(value) { $text:literal })*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(mut value: u64) -> u64 {
            // SAFETY: an operation on a register.
            unsafe { asm!($text, inout(reg) value, options(nomem, nostack)) };
            value
        }
    )*};
}

opaque! {
    /// 1 if the value is negative, else 0.
    fn sign(value) { "{0} >>= 63" }
    /// The bytes of this many words.
    fn bytes_of(value) { "{0} <<= 3" }
    /// The low four bits.
    fn low_four(value) { "{0} &= 15" }
    /// The same value.
    fn same(value) { "{0} = {0}" }
}

/// The bits of a value that are in a mask, below 2^31.
#[inline(always)]
pub(crate) fn masked(mut value: u64, mask: u64) -> u64 {
    // SAFETY: an operation on a register.
    unsafe { asm!("{0} &= {1}", inout(reg) value, in(reg) mask, options(nomem, nostack)) };
    value
}

/// The same value, of which the verifier knows nothing more. It follows what it knows of a value through each round of a loop.
/// `unknown` is any word that was loaded.
#[inline(always)]
pub(crate) fn forget(value: u64, unknown: u64) -> u64 {
    same(same(value.wrapping_add(unknown)).wrapping_sub(unknown))
}

/// The element `index` of a map. `None` if it is out of range.
#[inline(always)]
pub(crate) fn lookup(map: MapPtr, index: u32) -> Option<Word> {
    // SAFETY: the kernel's helper 1 has this signature; the loader makes a call of it.
    let lookup: unsafe extern "C" fn(*const c_void, *const u32) -> *mut u64 =
        unsafe { core::mem::transmute(1_usize) };
    let key = [index, 0]; // 8 bytes, as in `mapring__word` of atomic.bpf.h
    // SAFETY: a map whose keys are u32, and such a key.
    let word = unsafe { lookup(map.0, key.as_ptr()) };
    NonNull::new(word).map(Word)
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: as in `lookup`.
    let now: unsafe extern "C" fn() -> u64 = unsafe { core::mem::transmute(5_usize) };
    // SAFETY: no preconditions.
    unsafe { now() }
}

/// The number of this CPU. A program stays on its CPU until it ends.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: as in `lookup`.
    let cpu: unsafe extern "C" fn() -> u32 = unsafe { core::mem::transmute(8_usize) };
    // SAFETY: no preconditions.
    unsafe { cpu() }
}

/// Wakes the reader of a BPF ringbuf by an empty record. Returns whether the kernel did.
#[inline(always)]
pub(crate) fn ring_bell(bell: Word) -> bool {
    const FORCE_WAKEUP: u64 = 2;
    // SAFETY: as in `lookup`.
    let output: unsafe extern "C" fn(*mut c_void, *const u64, u64, u64) -> i64 =
        unsafe { core::mem::transmute(130_usize) };
    let nothing = 0;
    // SAFETY: a map of type RINGBUF, and no bytes.
    unsafe { output(bell.as_ptr(), &raw const nothing, 0, FORCE_WAKEUP) == 0 }
}
