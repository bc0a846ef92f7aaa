//! The time stamps of records: which field has them, and of which clock they are. A guess is checked against the clocks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use mapring::Start;
use mapring::time::{Clock, WallClock};
use serde::{Deserialize, Serialize};

use crate::target::Target;
use crate::untyped::Item;
use crate::value;

/// Options of commands that read records in the order of time.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wanted {
    /// The field with the time in nanoseconds, by which CPUs are merged; `none` for no field [default: ns, ts, time or
    /// similar, if its values fit a clock]
    #[arg(long, value_name = "FIELD")]
    stamp: Option<String>,
    /// The clock of the time stamps [default: the one that they fit]
    #[arg(long, value_name = "CLOCK", value_enum)]
    clock: Option<StampClock>,
}

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
    const ALL: [Self; 3] = [Self::Monotonic, Self::Boottime, Self::Realtime];

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
    fn new(at: usize, clock: StampClock, since: u64) -> Self {
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
    pub fn time(self, item: &Item<'_>, monotonic: &WallClock) -> Option<SystemTime> {
        let (ns, now) = self.past(item.bytes)?;
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
/// The most records that are looked at.
const LOOKED_AT: usize = 1 << 14;

/// The stamp of a target's records, and a sentence about a guess.
pub type Found = (Option<Stamp>, Option<String>);

impl Wanted {
    /// Finds the stamp that these options name, or else one that fits a clock.
    pub fn find(&self, target: &Target) -> Result<Found> {
        let wanted = self.stamp.as_deref();
        if wanted == Some("none") {
            ensure!(self.clock.is_none(), "--clock needs a time stamp, and --stamp is none");
            return Ok((None, None));
        }
        let ty = match (target.ty(), wanted) {
            (Ok(ty), _) => ty,
            (Err(why), Some(_)) => bail!("--stamp: the fields are not known: {why}"),
            (Err(why), None) if self.clock.is_some() => bail!("--clock: the fields are not known: {why}"),
            (Err(_), None) => return Ok((None, None)),
        };
        let fields = value::stamps(ty, wanted);
        let Some((name, at)) = fields.first() else {
            ensure!(
                wanted.is_none(),
                "--stamp: {} has no field of 8 bytes with this name",
                value::type_name(ty)
            );
            ensure!(self.clock.is_none(), "--clock: name the field of the time stamps with --stamp");
            return Ok((None, None));
        };
        let note = |name: &str, clock: StampClock| {
            let others = "--stamp and --clock name others, --stamp none takes none";
            format!("field {name} is taken as the time stamp, in nanoseconds of {clock}: {others}")
        };
        if let (Some(_), Some(clock)) = (wanted, self.clock) {
            return Ok((Some(Stamp::new(*at, clock, 0)), None));
        }
        let clocks = self.clock.map_or(StampClock::ALL.to_vec(), |clock| vec![clock]);
        for (name, at) in &fields {
            let stamps = Stamps::of(target, *at)?;
            let fits = |clock: &StampClock| stamps.fit(*clock, target);
            let (clock, since) = match clocks.iter().copied().find(fits) {
                found if wanted.is_some() => (found.unwrap_or(StampClock::Monotonic), 0),
                // Records that are not there yet are checked as they come.
                _ if stamps.count == 0 => {
                    let clock = self.clock.unwrap_or(StampClock::Monotonic);
                    (clock, clock.now().saturating_sub(SLACK))
                }
                Some(clock) => (clock, stamps.since.unwrap_or_default().saturating_sub(SLACK)),
                None => continue,
            };
            return Ok((Some(Stamp::new(*at, clock, since)), Some(note(name, clock))));
        }
        let clocks: Vec<_> = clocks.iter().map(StampClock::to_string).collect();
        let clocks = clocks.join(", ");
        let why = format!(
            "field {name} is not taken as the time stamp: its values do not fit {clocks}; --stamp {name} takes it"
        );
        Ok((None, Some(why)))
    }
}

/// What was seen of the field in the records that a ring holds.
#[derive(Default)]
struct Stamps {
    /// The latest stamp of each shard.
    latest: BTreeMap<usize, u64>,
    count: usize,
    /// Of the records with a stamp, which is not 0.
    first: Option<u64>,
    last: u64,
    /// The earliest that is not earlier than the one before it: a few are of another kind.
    since: Option<u64>,
    /// Steps from a record to the next one of its shard: all, those to a later stamp, and those to an earlier one.
    steps: usize,
    up: usize,
    down: usize,
}

impl Stamps {
    fn of(target: &Target, at: usize) -> Result<Self> {
        let mut records = target.records(Start::Oldest, None)?;
        let mut found = Self::default();
        let mut see = |item: Item<'_>| {
            let Some(ns) = item.bytes.get(at..).and_then(<[u8]>::first_chunk) else { return };
            found.see(item.shard, u64::from_ne_bytes(*ns));
        };
        let mut left = LOOKED_AT;
        while left > 0 {
            match records.each(left, &mut see) {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(found)
    }

    fn see(&mut self, shard: usize, ns: u64) {
        self.count += 1;
        if ns == 0 {
            return;
        }
        let earliest = |of: Option<u64>| Some(of.map_or(ns, |first| first.min(ns)));
        (self.first, self.last) = (earliest(self.first), self.last.max(ns));
        let before = self.latest.insert(shard, ns);
        if before.is_none_or(|before| ns >= before) {
            self.since = earliest(self.since);
        }
        if let Some(before) = before {
            self.steps += 1;
            self.up += usize::from(ns > before);
            self.down += usize::from(ns < before);
        }
    }

    /// Whether all stamps can be of this clock: none is of the future, few are earlier than the one before, and all were
    /// made while the loader lived. A loader that found records of an earlier one has made the last of those that grow.
    fn fit(&self, clock: StampClock, target: &Target) -> bool {
        let loader = target.region().and_then(|region| region.loader().ok().flatten());
        let Some(loader) = loader else { return false };
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let began = loader.start.saturating_mul(1_000_000_000 / ticks).saturating_sub(SLACK);
        let began = match clock {
            StampClock::Boottime => began,
            clock => (began.saturating_add(clock.now())).saturating_sub(Clock::Boottime.now()),
        };
        let grows = self.steps >= 8 && 10 * self.up >= 9 * self.steps;
        let is_of_loader = self.first.is_some_and(|first| first >= began) || grows && self.last >= began;
        let is_past = self.last <= clock.now().saturating_add(1_000_000);
        is_past && is_of_loader && 10 * self.down <= self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_the_few_that_do_not_grow_do_not_count() {
        let mut stamps = Stamps::default();
        for (shard, ns) in [(0, 100), (1, 0), (1, 90), (0, 0), (0, 110), (0, 5), (0, 120), (1, 95), (1, 0)] {
            stamps.see(shard, ns);
        }
        assert_eq!((stamps.count, stamps.first, stamps.last), (9, Some(5), 120));
        assert_eq!((stamps.since, stamps.steps, stamps.up, stamps.down), (Some(90), 4, 3, 1));
        let stamp = Stamp::new(0, StampClock::Monotonic, 0);
        assert_eq!([0, 1].map(|ns: u64| stamp.ns(&ns.to_ne_bytes())), [None, Some(1)]);
        let has_age = |ns: u64| stamp.age(&ns.to_ne_bytes()).is_some();
        assert_eq!([0, 1, u64::MAX].map(has_age), [false, true, false]);
    }
}
