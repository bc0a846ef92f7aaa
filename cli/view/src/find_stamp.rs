//! Which field of records is their time stamp, and of which clock it is. A guess is checked against the clocks.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use mapring::Start;
use mapring::time::Clock;

use crate::stamp::{SLACK, Stamp, StampClock};
use crate::target::Target;
use crate::untyped::Item;
use crate::value;

/// Options of commands that read records in the order of time.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wanted {
    /// The field with the time in nanoseconds, by which CPUs are merged; `none` for no field. May be given several
    /// times: each ring uses the first of these fields that it has [default: ns, ts, time or similar, if its values fit a
    /// clock]
    #[arg(long, value_name = "FIELD")]
    stamp: Vec<String>,
    /// The clock of the time stamps [default: the one that they fit]
    #[arg(long, value_name = "CLOCK", value_enum)]
    clock: Option<StampClock>,
}

/// The most records that are looked at.
const LOOKED_AT: usize = 1 << 14;

/// The stamp of a target's records, and a sentence about a guess.
pub type Found = (Option<Stamp>, Option<String>);

impl Wanted {
    /// Finds the stamp that these options name, or else one that fits a clock.
    pub fn find(&self, target: &Target) -> Result<Found> {
        let is_named = !self.stamp.is_empty();
        if self.stamp == ["none"] {
            ensure!(self.clock.is_none(), "--clock needs a time stamp, and --stamp is none");
            return Ok((None, None));
        }
        let ty = match target.ty() {
            Ok(ty) => ty,
            Err(why) if is_named => bail!("--stamp: the fields are not known: {why}"),
            Err(why) if self.clock.is_some() => bail!("--clock: the fields are not known: {why}"),
            Err(_) => return Ok((None, None)),
        };
        let named = || self.stamp.iter().flat_map(|name| value::stamps(ty, Some(name)));
        let fields = if is_named { named().collect() } else { value::stamps(ty, None) };
        let Some((name, at)) = fields.first() else {
            ensure!(!is_named, "--stamp: {} has no field of 8 bytes with this name", value::type_name(ty));
            ensure!(self.clock.is_none(), "--clock: name the field of the time stamps with --stamp");
            return Ok((None, None));
        };
        let note = |name: &str, clock: StampClock| {
            let others = "--stamp and --clock name others, --stamp none takes none";
            format!("field {name} is taken as the time stamp, in nanoseconds of {clock}: {others}")
        };
        if let Some(clock) = self.clock.filter(|_| is_named) {
            return Ok((Some(Stamp::new(*at, clock, 0)), None));
        }
        let clocks = self.clock.map_or(StampClock::ALL.to_vec(), |clock| vec![clock]);
        for (name, at) in &fields {
            let stamps = Stamps::of(target, *at)?;
            let fits = |clock: &StampClock| stamps.fit(*clock, target);
            let (clock, since) = match clocks.iter().copied().find(fits) {
                found if is_named => (found.unwrap_or(StampClock::Monotonic), 0),
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
        let mut records = target.records(Start::Oldest)?;
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

impl Target {
    /// The field of its records that is the time, as far as the clocks say.
    pub fn stamp(&self) -> Option<Stamp> {
        Wanted::default().find(self).ok()?.0
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
    }
}
