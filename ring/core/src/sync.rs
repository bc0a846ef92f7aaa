//! The loom switch: the only module that names an atomic type, so that the models check the code that ships.
//! `RUSTFLAGS="--cfg loom"` switches to loom. The orderings of the code are in [`orderings`].

pub mod coarse_clock;
#[allow(dead_code, reason = "people and checks read the names and texts")]
mod orderings;
#[cfg(loom)]
mod weaken;
pub(crate) mod wide_loads;

pub(crate) use self::orderings::At;
#[cfg(loom)]
pub(crate) use self::weaken::{fence, weakened};
#[cfg(loom)]
#[allow(clippy::disallowed_types)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
#[allow(clippy::disallowed_types)]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The ordering of a place. Outside of loom, a place of [`At`] is its ordering. A macro, so that the machine code is the same
/// as if it was written there.
#[cfg(not(loom))]
macro_rules! order {
    ($at:path) => {
        $at
    };
}

/// The same, or what is left of it.
#[cfg(loom)]
macro_rules! order {
    ($at:path) => {
        $crate::sync::weakened($at)
    };
}

pub(crate) use order;

/// Keeps the compiler from moving accesses of memory from one side to the other. The machine may. (loom has neither.)
#[inline]
pub(crate) fn in_program_order() {
    #[cfg(not(loom))]
    core::sync::atomic::compiler_fence(order!(At::ProgramOrder));
}

/// Orders a clock that was read before with all loads that come after. On x86-64, `rdtsc` may read the clock after later
/// loads, and only `lfence` prevents this. (On aarch64 the vDSO orders the clock with later loads.)
#[inline]
pub fn clock_fence() {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    #[allow(unsafe_code)]
    // SAFETY: this instruction only waits for earlier ones. All x86-64 machines have it.
    unsafe {
        core::arch::asm!("lfence", options(nostack, preserves_flags));
    }
    fence(order!(At::Clock)); // SYNC clock: pairs with the full barrier of a claim, before its program reads the clock
}

/// Half of a word: the bits from 32 on if `upper`.
#[cfg(not(loom))]
#[allow(unsafe_code, clippy::disallowed_types)]
pub(crate) fn half(word: &AtomicU64, upper: bool) -> &AtomicU32 {
    let first = core::ptr::from_ref(word).cast::<AtomicU32>();
    // SAFETY: half of the word.
    let half = unsafe { first.add(usize::from(upper == cfg!(target_endian = "little"))) };
    // SAFETY: aligned, readable as long as the word, and written only atomically, like the word.
    unsafe { &*half }
}

/// No model sleeps in the kernel.
#[cfg(loom)]
#[allow(clippy::disallowed_types)]
pub(crate) fn half(_: &AtomicU64, _: bool) -> &AtomicU32 {
    unreachable!("loom's words have no halves")
}
