//! Reads a ring to its present end, or follows it when its loader starts again: for `tail` and `record`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use mapring::Start;
use mapring::any::AnyMap;
use mapring_kit::output;

use crate::find::Location;
use crate::find_stamp;
use crate::stamp::Stamp;
use crate::target::Target;
use crate::untyped::Records;

/// Where to start.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// With the oldest record that is still there
    #[value(alias = "oldest")]
    First,
    /// With the next record
    Now,
}

impl From {
    pub(crate) fn start(self) -> Start {
        if self == Self::Now { Start::Now } else { Start::Oldest }
    }
}

/// The time between two checks of the pin, and between two reports of losses.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// By now a merged reader has delivered all records that it held.
pub(crate) const HELD: Duration = Duration::from_millis(25);

/// The next ticket of each shard at some moment.
pub type Ends = BTreeMap<usize, u64>;

/// Whether a reader has passed these ends.
pub fn has_passed(records: &dyn Records, ends: &Ends) -> bool {
    records.positions().iter().all(|(shard, next)| ends.get(shard).is_none_or(|end| next >= end))
}

/// The ring that is read now.
pub(crate) struct Source {
    pub(crate) target: Target,
    pub(crate) records: Box<dyn Records>,
    pub(crate) stamp: Option<Stamp>,
    wanted: find_stamp::Wanted,
    checked: PinChecks,
}

/// What earlier checks of a pin have found.
#[derive(Default)]
pub struct PinChecks {
    /// Whether nothing was pinned at the last check.
    pub gone: bool,
    /// The last map that could not be read instead, and how often it was found.
    unfit: (u32, u32),
}

/// What is pinned in the place of a map.
pub enum Pinned<T> {
    /// The same map, or nothing that can be read yet.
    Same,
    /// Another map.
    Other(T),
    /// Nothing any more, for this reason.
    Gone(mapring::Error),
    /// Another map, which can't be read instead, for this reason.
    Unfit(anyhow::Error),
}

/// Looks whether another map is now pinned in the place of this one, and opens it. Returns `Gone` once, and `Unfit` once for
/// each map.
pub fn check_pin<T>(
    target: &Target,
    checked: &mut PinChecks,
    open: impl FnOnce(Location) -> Result<T>,
) -> Result<Pinned<T>> {
    let Location::Pin(_) = target.location else { return Ok(Pinned::Same) }; // only a pin can be replaced
    let Some(id) = target.map.as_ref().map(|map| map.facts().id) else { return Ok(Pinned::Same) };
    let now = AnyMap::open(target.location.source()?).map(|map| map.facts().id);
    Ok(match now {
        Ok(now) if now == id => {
            checked.gone = false;
            Pinned::Same
        }
        Ok(now) => match open(target.location.clone()) {
            Ok(other) => Pinned::Other(other),
            Err(e) => {
                let times = if checked.unfit.0 == now { checked.unfit.1.saturating_add(1) } else { 1 };
                checked.unfit = (now, times);
                // At the first check its loader may still be initializing it.
                if times == 2 { Pinned::Unfit(e) } else { Pinned::Same }
            }
        },
        Err(e) if !std::mem::replace(&mut checked.gone, true) => Pinned::Gone(e),
        Err(_) => Pinned::Same,
    })
}

impl Source {
    /// Opens the ring at a location. Its shards are merged by the stamp that is wanted, or else by one that fits a clock.
    pub(crate) fn open(location: Location, wanted: &find_stamp::Wanted, start: Start) -> Result<Self> {
        let target = Target::open(location)?;
        let (stamp, guess) = wanted.find(&target)?;
        let records = target.records(start, stamp)?;
        if let Some(guess) = guess {
            output::note(format_args!("mapring: {guess}"));
        }
        Ok(Self { target, records, stamp, wanted: wanted.clone(), checked: PinChecks::default() })
    }

    /// The present end of each shard.
    pub(crate) fn ends(&self) -> Result<Ends> {
        Ok(self.target.records(Start::Now, None)?.positions().into_iter().collect())
    }

    /// Calls `batch` until all records before `ends` were read. `batch` returns whether there was a record, or `None` to
    /// stop.
    pub(crate) fn present(
        &mut self,
        ends: &Ends,
        mut batch: impl FnMut(&mut Self) -> Result<Option<bool>>,
    ) -> Result<()> {
        let mut since: Option<Instant> = None;
        while let Some(some) = batch(self)? {
            // The merged reader may still hold records, or wait for one that is being written.
            let is_done = has_passed(&*self.records, ends) || !some;
            since = if is_done { since.or(Some(Instant::now())) } else { None };
            if since.is_some_and(|since| since.elapsed() > HELD) {
                batch(self)?;
                break;
            }
            if !some {
                self.records.wait(HELD)?;
            }
        }
        Ok(())
    }

    /// Looks whether another ring is now pinned in the place of this one, and whether it fits. For what it returns, see
    /// [`check_pin`].
    pub(crate) fn check_pin(&mut self, fits: impl FnOnce(&Target) -> Result<()>) -> Result<Pinned<Self>> {
        let open = |location| {
            let next = Self::open(location, &self.wanted, Start::First)?;
            fits(&next.target)?;
            Ok(next)
        };
        check_pin(&self.target, &mut self.checked, open)
    }

    /// Calls `batch` until this ring, which another one replaced, has no more records. For `batch`, see
    /// [`present`](Self::present).
    pub(crate) fn rest(&mut self, mut batch: impl FnMut(&mut Self) -> Result<Option<bool>>) -> Result<()> {
        let end = Instant::now() + HELD;
        while let Some(some) = batch(self)? {
            let now = Instant::now();
            if !some && now > end || now > end + CHECK_INTERVAL {
                break; // Its programs may still write it.
            }
            self.records.wait(Duration::from_millis(1))?;
        }
        Ok(())
    }
}
