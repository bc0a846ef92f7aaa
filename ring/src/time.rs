//! The clocks of BPF programs, and wall time.

mod history;
mod namespace;
mod wall;

use std::io;
use std::sync::OnceLock;

use nix::time::{ClockId, clock_gettime};

pub use self::history::{Basis, Change};
pub use self::wall::{Estimate, WallClock};
use crate::error::Result;

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
    /// Nanoseconds of this clock as programs read it, also in a [time namespace](Self::ahead). The vDSO reads it,
    /// without a system call, unless the machine's clock source is one that only the kernel can read: hpet, acpi_pm, or
    /// the kvm-clock of some hosts (`/sys/devices/system/clocksource/clocksource0/current_clocksource`). The first call in a process reads files of procfs; so does opening a [`WallClock`] or a
    /// [merged](crate::Reader::merged) reader.
    #[inline]
    pub fn now(self) -> u64 {
        let id = match self {
            Self::Monotonic => ClockId::CLOCK_MONOTONIC,
            Self::Boottime => ClockId::CLOCK_BOOTTIME,
        };
        read(id).wrapping_sub(self.offset().unwrap_or(0)).cast_unsigned()
    }

    /// By how many nanoseconds this clock is ahead in the calling process, compared with what programs read: the offset
    /// of its time namespace, see time_namespaces(7). 0 for processes that are in none. It is read once in a process.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) if procfs is not mounted. Also if the process called
    /// `unshare(CLONE_NEWTIME)`: procfs then has the offset of its children. [`now`](Self::now) then assumes 0.
    pub fn ahead(self) -> Result<i64> {
        let unknown = || io::Error::other("it could not be read when this process first needed it");
        self.offset()
            .ok_or_else(|| namespace::offsets().err().unwrap_or_else(|| namespace::failed(unknown())))
    }

    /// None if it is not known.
    fn offset(self) -> Option<i64> {
        static OFFSETS: OnceLock<Option<namespace::Offsets>> = OnceLock::new();
        let offsets = OFFSETS.get_or_init(|| namespace::offsets().ok());
        offsets.as_ref().map(|offsets| offsets.of(self))
    }
}

/// Nanoseconds of a clock.
#[inline]
fn read(id: ClockId) -> i64 {
    clock_gettime(id).map_or(0, |now| now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}
