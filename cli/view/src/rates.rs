//! How fast regions change: records, counts and updates in a time. For `stat` and `top`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mapring::liveness::Unended;
use mapring::reading::LossCause;
use mapring::time::Clock;
use mapring::{Counters, Histograms, ReadStats, Start, TopKeys};

use crate::content::Content;
use crate::follow::{PinChecks, Pinned, check_pin};
use crate::ringbuf::Observed;
use crate::stamp::Stamp;
use crate::target::Target;
use crate::untyped::{Item, Records, Table};

/// Reads how often a region was written.
pub struct Meter {
    pub(crate) target: Target,
    pub(crate) name: String,
    /// For people: the name, and the id if others have the same name.
    pub label: String,
    pub(crate) kind: String,
    /// The name of a part; none is its number.
    pub name_of: Option<fn(usize) -> String>,
    counts: Counts,
    /// The newest timestamp of each shard's records.
    newest: HashMap<usize, u64>,
    /// How many of a ring's latest records are kept.
    pub(crate) keep: usize,
    /// These records, each with its shard.
    pub(crate) latest: VecDeque<(usize, Vec<u8>)>,
}

enum Counts {
    Ring { records: Box<dyn Records>, stamp: Option<Stamp>, limit: usize },
    Counters(Counters, Vec<u64>),
    Histograms(Histograms),
    TopKeys(TopKeys),
    Table(Box<dyn Table>, usize),
    Ringbuf(Observed),
}

/// What a meter showed at one moment. All counts only grow.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// The number of each part, and its count: of shards records, of counters their values, of cells updates.
    pub(crate) counts: Vec<(usize, u64)>,
    /// Records or updates that programs dropped or did not end, by cause.
    pub(crate) losses: Vec<(&'static str, u64)>,
    /// Tickets among a ring's counts that no program had.
    pub(crate) stepped_over: u64,
}

impl Meter {
    /// Tables of more cells are not metered: each is read for its version.
    const CELLS: usize = 4096;

    /// Looks whether another region is now pinned in the place of this one, as [`check_pin`] does.
    pub(crate) fn check_pin(&self, checked: &mut PinChecks) -> Result<Pinned<Self>> {
        let open = |location| Self::new(Target::open(location)?)?.context("it has no rate");
        check_pin(&self.target, checked, open)
    }

    /// `None` if it is nothing that has a rate.
    pub fn new(target: Target) -> Result<Option<Self>> {
        let mut newest = HashMap::new();
        let Some(counts) = Self::counts(&target, &mut newest)? else { return Ok(None) };
        Ok(Some(Self {
            name: target.name(),
            label: target.name(),
            kind: target.kind().map_or_else(|| "ringbuf".to_owned(), |kind| kind.to_string()),
            name_of: None,
            counts,
            newest,
            keep: 0,
            latest: VecDeque::new(),
            target,
        }))
    }

    fn counts(target: &Target, newest: &mut HashMap<usize, u64>) -> Result<Option<Counts>> {
        Ok(Some(match target.content()? {
            Content::Ring => {
                let stamp = target.stamp();
                let mut records = target.records(Start::Now)?;
                records.newest(&mut |item| note(newest, stamp, item));
                let slots = target.region().map_or(0, |region| region.geometry().capacity());
                let limit = slots.saturating_mul(records.positions().len());
                Counts::Ring { records, stamp, limit }
            }
            Content::Ringbuf => Counts::Ringbuf(target.observed(Start::Now)?),
            Content::Counters(counters) => {
                let sums = vec![0; counters.len()];
                Counts::Counters(counters, sums)
            }
            Content::Histograms(histograms) => Counts::Histograms(histograms),
            Content::TopKeys(keys) => Counts::TopKeys(keys),
            Content::Table(table, len) if len <= Self::CELLS => Counts::Table(table, len),
            _ => return Ok(None),
        }))
    }

    /// A word for what is counted.
    pub(crate) fn unit(&self) -> &'static str {
        match &self.counts {
            Counts::Ring { .. } => "records",
            Counts::Counters(..) => "counts",
            Counts::Histograms(_) => "values",
            Counts::TopKeys(_) => "added",
            Counts::Table(..) => "updates",
            Counts::Ringbuf(_) => "bytes",
        }
    }

    /// A word for its parts.
    pub(crate) fn part(&self) -> &'static str {
        match &self.counts {
            Counts::Ring { .. } => "shard",
            Counts::Counters(..) => "counter",
            Counts::Histograms(_) => "histogram",
            Counts::TopKeys(_) => "table",
            Counts::Table(..) => "cell",
            Counts::Ringbuf(_) => "ringbuf",
        }
    }

    /// The name of one of them.
    pub fn name_of(&self, part: usize) -> String {
        self.name_of.map_or_else(|| format!("{} {part}", self.part()), |name_of| name_of(part))
    }

    /// Reads all counts into `reading`. Of a mapped region it makes no system call.
    pub(crate) fn read(&mut self, reading: &mut Reading) -> Result<()> {
        let Reading { at, counts, losses, stepped_over } = reading;
        counts.clear();
        losses.clear();
        match &mut self.counts {
            Counts::Ring { records, stamp, limit } => {
                let (newest, latest, keep) = (&mut self.newest, &mut self.latest, self.keep);
                records.each(*limit, &mut |item| {
                    note(newest, *stamp, item);
                    while latest.len() > keep {
                        latest.pop_front();
                    }
                    if keep > 0 {
                        let oldest = if latest.len() == keep { latest.pop_front() } else { None };
                        let mut copy = oldest.map_or_else(Vec::new, |(_, copy)| copy);
                        copy.clear();
                        copy.extend_from_slice(item.bytes);
                        latest.push_back((item.shard, copy));
                    }
                });
                counts.extend(records.positions());
                let stats = records.stats();
                losses.extend(causes(&stats));
                *stepped_over = stats.stepped_over;
                drop(records.take_losses());
                if let Some(e) = records.take_error() {
                    return Err(e.into());
                }
            }
            Counts::Counters(counters, sums) => {
                counters.sums(sums)?;
                counts.extend(sums.iter().copied().enumerate());
            }
            Counts::Histograms(histograms) => {
                for index in 0..histograms.len() {
                    counts.push((index, histograms.snapshot(index)?.count()));
                }
            }
            Counts::Ringbuf(observed) => counts.push((0, observed.written())),
            Counts::TopKeys(keys) => counts.push((0, keys.largest(0)?.total)),
            Counts::Table(table, len) => {
                for index in 0..*len {
                    let versions =
                        table.read(index).map_or(0, |copies| copies.iter().map(|c| c.version).sum());
                    counts.push((index, versions));
                }
            }
        }
        if losses.is_empty() {
            losses.extend(self.target.dropped()?.into_iter().flatten().map(|(_, count)| ("dropped", count)));
        }
        *at = Instant::now();
        Ok(())
    }

    /// Records of a ring that its reader found reserved and not ended.
    pub(crate) fn unended(&mut self) -> Vec<Unended> {
        match &mut self.counts {
            Counts::Ring { records, .. } => records.unended(),
            _ => Vec::new(),
        }
    }

    /// How old the newest record of a shard is, if records have a time.
    pub(crate) fn age(&self, shard: usize) -> Option<Duration> {
        let newest = self.newest.get(&shard)?;
        Some(Duration::from_nanos(Clock::Monotonic.now().saturating_sub(*newest)))
    }
}

/// Notes the time of a record as the newest one of its shard.
fn note(newest: &mut HashMap<usize, u64>, stamp: Option<Stamp>, item: Item<'_>) {
    if let Some(age) = stamp.and_then(|stamp| stamp.age(item.bytes)) {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        newest.insert(item.shard, Clock::Monotonic.now().saturating_sub(age));
    }
}

/// What programs dropped, and records that they did not end. What overtook this reader is not lost to others.
fn causes(stats: &ReadStats) -> impl Iterator<Item = (&'static str, u64)> {
    let causes = LossCause::ALL.iter().filter(|cause| cause.is_drop() || **cause == LossCause::Skipped);
    causes.map(|cause| (cause.as_str(), stats.missing(*cause)))
}

impl Reading {
    pub(crate) fn new() -> Self {
        Self { at: Instant::now(), counts: Vec::new(), losses: Vec::new(), stepped_over: 0 }
    }

    /// The sum of all counts.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, (_, count)| sum.wrapping_add(*count))
    }

    /// The seconds between two readings.
    pub(crate) fn seconds_since(&self, earlier: &Self) -> f64 {
        self.at.saturating_duration_since(earlier.at).as_secs_f64().max(1e-9)
    }

    /// By how much each part grew since an earlier reading, in order.
    pub(crate) fn growth(&self, earlier: &Self) -> Vec<(usize, u64)> {
        let before = earlier.counts.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        self.counts.iter().zip(before).map(|((part, now), before)| (*part, grown(*now, before))).collect()
    }

    /// By how much each cause of losses grew, without those that did not.
    pub(crate) fn new_losses(&self, earlier: &Self) -> Vec<(&'static str, u64)> {
        let before = earlier.losses.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        let pairs = self.losses.iter().zip(before);
        pairs.map(|((cause, now), before)| (*cause, grown(*now, before))).filter(|(_, n)| *n > 0).collect()
    }
}

/// A count that is smaller than before started again, with a new ring.
fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// `n` in `seconds`, as a rate.
#[allow(clippy::cast_precision_loss)] // for people
pub(crate) fn per_second(n: u64, seconds: f64) -> f64 {
    n as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_exact_and_survives_a_new_ring() {
        let at = Instant::now();
        let earlier = Reading {
            at,
            counts: vec![(0, 5), (2, 100)],
            losses: vec![("full", 1), ("late", 2)],
            stepped_over: 0,
        };
        let later = Reading {
            at: at + Duration::from_secs(2),
            counts: vec![(0, 9), (2, 7), (3, 1)],
            losses: vec![("full", 4), ("late", 2)],
            stepped_over: 0,
        };
        assert_eq!(later.growth(&earlier), [(0, 4), (2, 7), (3, 1)]);
        assert_eq!(later.new_losses(&earlier), [("full", 3)]);
        assert_eq!(later.total(), 17);
        assert!((per_second(later.total(), later.seconds_since(&earlier)) - 8.5).abs() < 1e-9);
    }
}
