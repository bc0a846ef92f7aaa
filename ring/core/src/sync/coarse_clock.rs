//! The time of readers and writers in userspace, to the tick. Models count their waits instead.

/// Nanoseconds of a clock that never goes back. It is the coarse clock: it advances every few milliseconds, and the
/// vDSO reads it in some nanoseconds. Not read by rustix, which does not find the functions of some vDSOs (Debian's
/// Linux 6.1) and makes system calls instead.
#[cfg(not(loom))]
pub fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(0, |now| now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}

/// Two ticks after [`now`]: the present, or later, unless the machine's ticks are late. Not the exact clock: where the
/// vDSO can't read that one, it takes a system call.
#[cfg(not(loom))]
pub fn latest() -> u64 {
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
pub fn now() -> u64 {
    NOW.with(|now| now.replace(now.get() + 1))
}

/// The time of the next call of [`now`].
#[cfg(loom)]
pub fn latest() -> u64 {
    NOW.with(core::cell::Cell::get)
}

#[cfg(loom)]
std::thread_local!(static NOW: core::cell::Cell<u64> = const { core::cell::Cell::new(0) });

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use nix::time::{ClockId, clock_getres, clock_gettime};

    use super::*;

    #[test]
    fn it_is_the_kernels_coarse_clock_and_two_ticks_after_it() {
        const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;
        let nanoseconds = |time: nix::sys::time::TimeSpec| {
            u64::try_from(std::time::Duration::from(time).as_nanos()).unwrap()
        };
        let tick = nanoseconds(clock_getres(CLOCK).unwrap());
        // Until no tick is between two readings.
        let found = std::iter::repeat_with(|| {
            let read = || nanoseconds(clock_gettime(CLOCK).unwrap());
            (read(), now(), latest(), read())
        });
        let (before, now, latest, _) =
            found.take(1 << 20).find(|(before, .., after)| before == after).unwrap();
        assert_eq!((now, latest), (before, before + 2 * tick));
    }
}
