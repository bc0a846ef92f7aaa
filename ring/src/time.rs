//! The clocks of BPF programs.

use nix::time::{ClockId, clock_gettime};

/// A clock that programs stamp records with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// `bpf_ktime_get_ns()`: CLOCK_MONOTONIC. It stands still while the machine is suspended.
    #[default]
    Monotonic,
    /// `bpf_ktime_get_boot_ns()`: CLOCK_BOOTTIME, which goes on while the machine is suspended. Linux 5.8.
    Boottime,
}

impl Clock {
    /// Nanoseconds of this clock as the calling process sees it. The vDSO reads it, without a system call.
    #[inline]
    pub fn now(self) -> u64 {
        let id = match self {
            Self::Monotonic => ClockId::CLOCK_MONOTONIC,
            Self::Boottime => ClockId::CLOCK_BOOTTIME,
        };
        read(id)
    }
}

/// Nanoseconds of a clock.
#[inline]
fn read(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    now.map_or(0, |now| now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}
