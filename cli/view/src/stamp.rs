//! The time stamps of records, and their clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use mapring::time::{Clock, WallClock};
use serde::{Deserialize, Serialize};

/// A clock that programs can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StampClock {
    /// CLOCK_MONOTONIC: bpf_ktime_get_ns()
    Monotonic,
    /// CLOCK_BOOTTIME: bpf_ktime_get_boot_ns()
    Boottime,
    /// Nanoseconds since 1970
    Realtime,
}

impl std::fmt::Display for StampClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Monotonic => "CLOCK_MONOTONIC",
            Self::Boottime => "CLOCK_BOOTTIME",
            Self::Realtime => "CLOCK_REALTIME",
        })
    }
}

impl StampClock {
    pub(crate) const ALL: [Self; 3] = [Self::Monotonic, Self::Boottime, Self::Realtime];

    pub(crate) fn now(self) -> u64 {
        match self {
            Self::Monotonic => Clock::Monotonic.now(),
            Self::Boottime => Clock::Boottime.now(),
            Self::Realtime => since_1970(SystemTime::now()),
        }
    }
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall time of a number of nanoseconds since 1970.
pub(crate) fn wall(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}

/// The field with the time stamps of records.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Its offset.
    pub at: usize,
    /// The clock that it is of.
    pub clock: StampClock,
    /// No record has an earlier one: earlier numbers are of another kind. 0 is none.
    pub since: u64,
    /// By how much the clock was ahead of CLOCK_MONOTONIC.
    ahead: u64,
}

impl Stamp {
    pub(crate) fn new(at: usize, clock: StampClock, since: u64) -> Self {
        Self { at, clock, since: since.max(1), ahead: clock.now().saturating_sub(Clock::Monotonic.now()) }
    }

    /// The time stamp of a record, unless its clock can't have it.
    pub fn ns(self, bytes: &[u8]) -> Option<u64> {
        let ns = u64::from_ne_bytes(*bytes.get(self.at..)?.first_chunk()?);
        (ns >= self.since).then_some(ns)
    }

    /// The same by CLOCK_MONOTONIC, about: for the order of records. 0 if the record has none.
    pub(crate) fn order(self, bytes: &[u8]) -> u64 {
        self.ns(bytes).map_or(0, |ns| ns.saturating_sub(self.ahead))
    }

    /// The wall time of a record. `monotonic` converts times of CLOCK_MONOTONIC.
    pub fn time(self, bytes: &[u8], monotonic: &WallClock) -> Option<SystemTime> {
        let (ns, now) = self.past(bytes)?;
        Some(match self.clock {
            StampClock::Monotonic => monotonic.to_wall(ns).value,
            StampClock::Boottime => SystemTime::now() - Duration::from_nanos(now.saturating_sub(ns)),
            StampClock::Realtime => wall(ns),
        })
    }

    /// The time since a record.
    pub(crate) fn age(self, bytes: &[u8]) -> Option<Duration> {
        let (ns, now) = self.past(bytes)?;
        Some(Duration::from_nanos(now.saturating_sub(ns)))
    }

    /// The time stamp of a record, unless it is of the future, and the time now.
    fn past(self, bytes: &[u8]) -> Option<(u64, u64)> {
        let (ns, now) = (self.ns(bytes)?, self.clock.now());
        (ns <= now.saturating_add(SLACK)).then_some((ns, now))
    }
}

/// By so much the clocks of programs and readers may differ.
pub(crate) const SLACK: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_is_of_time_zero_or_of_the_future() {
        let stamp = Stamp::new(0, StampClock::Monotonic, 0);
        assert_eq!([0, 1].map(|ns: u64| stamp.ns(&ns.to_ne_bytes())), [None, Some(1)]);
        let has_age = |ns: u64| stamp.age(&ns.to_ne_bytes()).is_some();
        assert_eq!([0, 1, u64::MAX].map(has_age), [false, true, false]);
    }
}
