//! Wall time at a BPF clock, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::ClockId;

use super::history::{Basis, Change, History, Reading};
use super::{Clock, read};
use crate::error::Result;

/// A converted time. The true one is at most `error` earlier or later; see [`Basis`] for when this holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate<T> {
    /// The time.
    pub value: T,
    /// The largest error. As a rule less than 100 ns.
    pub error: Duration,
    /// What the estimate is based on.
    pub basis: Basis,
}

/// Converts the time stamps of programs to wall time and back, without a system call.
///
/// It compares both clocks now and at each [`update`](Self::update): it reads the wall clock between two reads of the
/// programs' clock. The distance of these two is the error. The error does not grow with time, because NTP changes the
/// rates of both clocks alike.
///
/// When an update finds that the wall clock was set (or a leap second was inserted), or that the machine was suspended,
/// times before and after that are converted differently. The last 64 such changes are remembered. A change that is
/// smaller than the error, or that was undone before the next update, is not noticed.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use mapring::time::{Basis, Clock, WallClock};
///
/// let mut wall = WallClock::new(Clock::Monotonic)?;
/// let stamp = Clock::Monotonic.now();                   // programs: bpf_ktime_get_ns()
/// if let Some(change) = wall.update() {                 // after reading records, before converting their stamps
///     println!("the clock was set, or the machine was suspended: {change:?}");
/// }
/// let time = wall.to_wall(stamp);
/// assert_eq!(time.basis, Basis::Compared);
/// println!("{:?}, ± {:?}", time.value, time.error);
/// # Ok::<(), mapring::Error>(())
/// ```
///
/// **Suspend.** [`Clock::Monotonic`] stands still while the machine is suspended; wall time goes on. Stamps from before
/// and after a suspend are converted correctly, if there was an update on both sides of it. [`Clock::Boottime`] needs
/// none of this: prefer it where machines are suspended. A program that reads it while the machine resumes may read a
/// value without this suspend (`ktime_get_boot_fast_ns` in the kernel).
///
/// **Time namespaces.** Programs read the clocks of the machine, not those of the process's time namespace. The offsets
/// between them are taken into account ([`Clock::ahead`]). A process that is moved to another namespace (`setns`) must
/// begin anew.
///
/// **System calls.** Only [`new`](Self::new) makes some. On machines whose clock the vDSO can't read (the clock source
/// `hpet`, for example), each reading of a clock is a system call, and the error is larger.
#[derive(Clone, Debug)]
pub struct WallClock {
    clock: Clock,
    history: History,
}

impl WallClock {
    /// How many changes are remembered.
    pub const CHANGES: usize = History::CHANGES;

    /// Compares this clock with the wall clock: 16 readings. Reads files of procfs, and allocates.
    ///
    /// # Errors
    /// As for [`Clock::ahead`]: it is not known what programs read.
    pub fn new(clock: Clock) -> Result<Self> {
        clock.ahead()?;
        let mut wall = Self { clock, history: History::new() };
        wall.update();
        Ok(wall)
    }

    /// Compares the clocks again: four reads of clocks, and some more if this thread is interrupted meanwhile. Returns
    /// what happened since the last call. Call it after reading records and before converting their stamps, so that
    /// there is a comparison after each stamp.
    pub fn update(&mut self) -> Option<Change> {
        let clock = self.clock;
        self.history.update(|| Reading {
            before: clock.now(),
            boot: Clock::Boottime.now(),
            wall: read(ClockId::CLOCK_REALTIME),
            after: clock.now(),
        })
    }

    /// The clock whose times are converted.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The wall time when the clock was `ns`.
    ///
    /// After a [change](Basis::Changed) it is the time by the older offset, and the error reaches to the time by the
    /// newer one.
    pub fn to_wall(&self, ns: u64) -> Estimate<SystemTime> {
        let (at, error, basis) = self.history.wall(ns);
        let distance = duration(at);
        let value = if at < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance };
        Estimate { value, error: duration(error), basis }
    }

    /// The clock at a wall time, in nanoseconds: the last time if the wall clock was set back and showed this time
    /// twice, and the time of the change if the wall clock was set forward past it.
    pub fn to_clock(&self, time: SystemTime) -> Estimate<u64> {
        let ns = |distance: Duration| i128::try_from(distance.as_nanos()).unwrap_or(i128::MAX);
        let at = time.duration_since(UNIX_EPOCH).map_or_else(|before| -ns(before.duration()), ns);
        let (value, error, basis) = self.history.clock(at);
        Estimate { value, error: duration(error), basis }
    }
}

/// The distance of `ns` nanoseconds from 0; the longest duration if it is longer.
fn duration(ns: i128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let ns = ns.unsigned_abs();
    let rest = u32::try_from(ns % SECOND).unwrap_or(0);
    u64::try_from(ns / SECOND).map_or(Duration::MAX, |seconds| Duration::new(seconds, rest))
}
