//! The loom switch: the only module that names an atomic type, so that the models check the code that ships.
//! `RUSTFLAGS="--cfg loom"` switches to loom. The orderings of the code are in [`orderings`].

#[allow(dead_code, reason = "people and checks read the names and texts")]
mod orderings;
#[cfg(loom)]
mod weaken;

pub(crate) use self::orderings::At;
#[cfg(loom)]
pub(crate) use self::weaken::{fence, weakened};
#[cfg(loom)]
#[allow(clippy::disallowed_types)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

#[cfg(not(loom))]
#[allow(clippy::disallowed_types)]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};

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

/// Nanoseconds of a clock that never goes back. It is the coarse clock: it advances every few milliseconds, and the
/// vDSO reads it in some nanoseconds. Not read by rustix, which does not find the functions of some vDSOs (Debian's
/// Linux 6.1) and makes system calls instead.
#[cfg(not(loom))]
pub(crate) fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(0, |now| now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}

/// Two ticks after [`now`]: the present, or later, unless the machine's ticks are late. Not the exact clock: where the
/// vDSO can't read that one, it takes a system call.
#[cfg(not(loom))]
pub(crate) fn latest() -> u64 {
    static TICK: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let tick = TICK.get_or_init(|| {
        let longest = 10_000_000;
        if cfg!(miri) {
            return longest; // it has no such function
        }
        let tick = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
        tick.map_or(longest, |tick| tick.tv_nsec().cast_unsigned())
    });
    now() + 2 * tick
}

/// Advances by one with each call, so that models count the waits. All threads of a model run on one thread of the
/// machine.
#[cfg(loom)]
pub(crate) fn now() -> u64 {
    NOW.with(|now| now.replace(now.get() + 1))
}

/// The time of the next call of [`now`].
#[cfg(loom)]
pub(crate) fn latest() -> u64 {
    NOW.with(core::cell::Cell::get)
}

#[cfg(loom)]
std::thread_local!(static NOW: core::cell::Cell<u64> = const { core::cell::Cell::new(0) });
