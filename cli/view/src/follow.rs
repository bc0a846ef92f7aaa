//! Reads rings to their present end, or follows them when their loaders start again: for `tail` and `record`.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use mapring::any::AnyMap;
use mapring::liveness::Unended;
use mapring::time::Clock;
use mapring::{Loss, Merged, Start};
use mapring_kit::output;

use crate::find::Location;
use crate::find_stamp;
use crate::stamp::Stamp;
use crate::target::{self, Target};
use crate::untyped::{Item, Records};

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

/// A ring that is read.
pub(crate) struct Source {
    pub(crate) target: Target,
    pub(crate) stamp: Option<Stamp>,
    /// What tells it from the other rings; empty if there are none.
    pub(crate) label: String,
    checked: PinChecks,
}

/// Where records go.
pub(crate) trait Sink {
    fn take(&mut self, of: &Source, item: Item<'_>) -> Result<()>;
}

/// One ring or several that are read, and where their records go. If they have time stamps, which several must have, all
/// records come in the order of these.
pub(crate) struct Rings<S> {
    reader: Reader<S>,
    receiver: Receiver<S>,
    wanted: find_stamp::Wanted,
}

enum Reader<S> {
    ByShard(Box<dyn Records>),
    ByTime(Merged<'static, Receiver<S>>),
}

struct Receiver<S> {
    sources: Vec<Source>,
    sink: S,
    /// Of each ring: records from here on are left out.
    ends: Vec<Ends>,
    failed: Option<anyhow::Error>,
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
    let now = AnyMap::open(target.location.map()?).map(|map| map.facts().id);
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
        Err(e) if !mem::replace(&mut checked.gone, true) => Pinned::Gone(e),
        Err(_) => Pinned::Same,
    })
}

impl Source {
    /// Opens the ring at a location. Its stamp is the one that is wanted, or else one that fits a clock.
    fn open(location: Location, wanted: &find_stamp::Wanted, is_one: bool) -> Result<Self> {
        let target = Target::open(location)?;
        let found = wanted.find(&target);
        let (stamp, guess) =
            if is_one { found? } else { found.with_context(|| target.location.to_string())? };
        let size = target.region().map_or(0, |region| region.geometry().record());
        let stamp = stamp.filter(|stamp| stamp.at.checked_add(8).is_some_and(|end| end <= size));
        if !is_one && stamp.is_none() {
            target.records(Start::Now)?;
            let why = match (&guess, target.ty()) {
                (Some(guess), _) => guess,
                (None, Err(why)) => &format!("its fields are not known: {why}"),
                (None, Ok(_)) => "--stamp FIELD names its time stamp",
            };
            bail!("{}: several rings are read in the order of their time stamps: {why}", target.location);
        }
        if let Some(guess) = guess {
            let of = if is_one { String::new() } else { format!("{}: ", target.location) };
            output::note(format_args!("mapring: {of}{guess}"));
        }
        Ok(Self { target, stamp, label: String::new(), checked: PinChecks::default() })
    }
}

impl<S: Sink> Receiver<S> {
    fn take(&mut self, ring: usize, item: Item<'_>) {
        let ends = self.ends.get(ring);
        let is_new = ends.is_some_and(|ends| ends.get(&item.shard).is_none_or(|end| item.ticket >= *end));
        if self.failed.is_none() && !is_new {
            self.failed = self.sink.take(&self.sources[ring], item).err();
        }
    }
}

impl<S: Sink> Reader<S> {
    /// Of these rings, of which the first has this number.
    fn of(sources: &[Source], first: usize, start: Start) -> Result<Self> {
        let mut merged = Merged::new(Clock::Monotonic);
        for (ring, Source { target, stamp, .. }) in (first..).zip(sources) {
            let Some(stamp) = *stamp else { return Ok(Self::ByShard(target.records(start)?)) };
            let take = move |receiver: &mut Receiver<S>, item: Item<'_>| receiver.take(ring, item);
            merged = target.join(merged, start, stamp, take)?;
        }
        Ok(Self::ByTime(merged))
    }
}

/// Another ring that is pinned in the place of one.
pub(crate) struct Next<S>(Source, Reader<S>);

impl<S: Sink> Rings<S> {
    /// Opens the rings at these locations, and then where their records go.
    pub(crate) fn open(
        locations: Vec<Location>,
        wanted: &find_stamp::Wanted,
        start: Start,
        sink: impl FnOnce(&[Source]) -> Result<S>,
    ) -> Result<Self> {
        let is_one = locations.len() == 1;
        let open = |location| Source::open(location, wanted, is_one);
        let mut sources: Vec<_> = locations.into_iter().map(open).collect::<Result<_>>()?;
        if !is_one {
            let labels = target::labels(sources.iter().map(|source| &source.target));
            sources.iter_mut().zip(labels).for_each(|(source, label)| source.label = label);
        }
        let reader = Reader::of(&sources, 0, start)?;
        let receiver = Receiver { sink: sink(&sources)?, sources, ends: Vec::new(), failed: None };
        Ok(Self { reader, receiver, wanted: wanted.clone() })
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.receiver.sources
    }

    pub(crate) fn sink(&mut self) -> &mut S {
        &mut self.receiver.sink
    }

    /// Reads up to `limit` records; returns how many.
    pub(crate) fn read(&mut self, limit: usize) -> Result<usize> {
        let Self { reader, receiver, .. } = self;
        let count = match reader {
            Reader::ByShard(records) => records.each(limit, &mut |item| receiver.take(0, item)),
            Reader::ByTime(merged) => merged.for_each(receiver, limit),
        };
        receiver.failed.take().map_or(Ok(count), Err)
    }

    /// Waits for records, at most for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<()> {
        match &mut self.reader {
            Reader::ByShard(records) => records.wait(timeout),
            Reader::ByTime(merged) => Ok(merged.wait(timeout).map(drop)?),
        }
    }

    /// What was lost of a ring since the last call: the shard if it is known, the cause, and how many.
    pub(crate) fn take_losses(&mut self, ring: usize) -> Vec<Loss> {
        match &mut self.reader {
            Reader::ByShard(records) => records.take_losses(),
            Reader::ByTime(merged) => merged.reader_mut(ring).take_losses(),
        }
    }

    /// See [`Records::take_lost_bytes`].
    pub(crate) fn take_lost_bytes(&mut self) -> u64 {
        match &mut self.reader {
            Reader::ByShard(records) => records.take_lost_bytes(),
            Reader::ByTime(_) => 0,
        }
    }

    /// Records of a ring that were reserved and have not ended.
    pub(crate) fn unended(&mut self, ring: usize) -> Vec<Unended> {
        match &mut self.reader {
            Reader::ByShard(records) => records.unended(),
            Reader::ByTime(merged) => merged.reader_mut(ring).unended(),
        }
    }

    /// The last failed system call of a ring.
    pub(crate) fn take_error(&mut self, ring: usize) -> Option<mapring::Error> {
        match &mut self.reader {
            Reader::ByShard(records) => records.take_error(),
            Reader::ByTime(merged) => merged.reader_mut(ring).take_error(),
        }
    }

    /// How many records of a ring came after one with a later time stamp.
    pub(crate) fn late(&self, ring: usize) -> u64 {
        match &self.reader {
            Reader::ByShard(_) => 0,
            Reader::ByTime(merged) => merged.reader(ring).stats().late,
        }
    }

    fn has_passed_ends(&self) -> bool {
        let mut ends = self.receiver.ends.iter().enumerate();
        ends.all(|(ring, ends)| match &self.reader {
            Reader::ByShard(records) => has_passed(&**records, ends),
            Reader::ByTime(merged) => {
                let position = |shard: &usize| merged.reader(ring).position(*shard);
                ends.iter().all(|(shard, end)| position(shard).is_none_or(|next| next >= *end))
            }
        })
    }

    /// Calls `batch` until all records that the rings hold now were read. `batch` returns whether there was a record, or
    /// `None` to stop.
    pub(crate) fn present(&mut self, mut batch: impl FnMut(&mut Self) -> Result<Option<bool>>) -> Result<()> {
        let ends = |source: &Source| Ok(source.target.records(Start::Now)?.positions().into_iter().collect());
        self.receiver.ends = self.sources().iter().map(ends).collect::<Result<_>>()?;
        let mut since: Option<Instant> = None;
        while let Some(some) = batch(self)? {
            // The merged reader may still hold records, or wait for one that is being written.
            let is_done = self.has_passed_ends() || !some;
            since = if is_done { since.or(Some(Instant::now())) } else { None };
            if since.is_some_and(|since| since.elapsed() > HELD) {
                batch(self)?;
                break;
            }
            if !some {
                self.wait(HELD)?;
            }
        }
        Ok(())
    }

    /// Looks whether another ring is now pinned in the place of this one, and whether it fits. For what it returns, see
    /// [`check_pin`].
    pub(crate) fn check_pin(
        &mut self,
        ring: usize,
        fits: impl FnOnce(&[&Target]) -> Result<()>,
    ) -> Result<Pinned<Next<S>>> {
        let sources = &mut self.receiver.sources;
        let mut checked = mem::take(&mut sources[ring].checked);
        let pinned = check_pin(&sources[ring].target, &mut checked, |location| {
            let next = Source::open(location, &self.wanted, sources.len() == 1)?;
            let mut targets: Vec<_> = sources.iter().map(|source| &source.target).collect();
            targets[ring] = &next.target;
            fits(&targets)?;
            let reader = Reader::of(std::slice::from_ref(&next), ring, Start::First)?;
            Ok(Next(next, reader))
        });
        sources[ring].checked = checked;
        pinned
    }

    /// Calls `batch` until a ring that another one replaced has no more records. For `batch`, see [`present`](Self::present).
    pub(crate) fn rest(&mut self, mut batch: impl FnMut(&mut Self) -> Result<Option<bool>>) -> Result<()> {
        let end = Instant::now() + HELD;
        while let Some(some) = batch(self)? {
            let now = Instant::now();
            if !some && now > end || now > end + CHECK_INTERVAL {
                break; // Its programs may still write it.
            }
            self.wait(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// Reads another ring in the place of this one.
    pub(crate) fn replace(&mut self, ring: usize, next: Next<S>) {
        let before = &mut self.receiver.sources[ring];
        *before = Source { label: mem::take(&mut before.label), ..next.0 };
        match (&mut self.reader, next.1) {
            (Reader::ByTime(merged), Reader::ByTime(next)) => merged.replace(ring, next),
            (reader, next) => *reader = next,
        }
    }
}
