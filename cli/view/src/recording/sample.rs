//! Samples of values, recorded when they changed: of all kinds of regions but rings, of arrays and global data.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mapring::any::AnyMap;
use mapring::time::Clock;
use mapring::{Counters, Histogram, Histograms, ReadError, TopKeys};
use mapring_kit::output;

use super::format::Sample;
use super::output::{Files, Output};
use super::source;
use super::stop::Stop;
use super::summaries::{self, Gauge};
use crate::content::Content;
use crate::find::Location;
use crate::follow::{CHECK_INTERVAL, PinChecks, Pinned, check_pin};
use crate::target::Target;
use crate::untyped::{self, Table};

/// What is sampled.
enum Values<'a> {
    Table(Box<dyn Table>, usize),
    Counters(Counters),
    Histograms(Histograms),
    Gauges(Vec<Gauge>),
    TopKeys(TopKeys),
    Array(&'a AnyMap),
}

/// The options for sampling.
pub(super) struct Sampling<'a> {
    pub(super) every: Duration,
    pub(super) once: bool,
    pub(super) stop: &'a Stop,
}

/// What was counted.
#[derive(Default)]
struct Counts {
    rounds: u64,
    /// Values that were not read because a writer was in the middle of them.
    busy: u64,
}

/// Samples until it is time to stop, or once. Continues with the map of a restarted loader.
pub(super) fn run(mut target: Target, sampling: &Sampling<'_>, files: &Files) -> Result<()> {
    let every = u64::try_from(sampling.every.as_nanos()).ok();
    let (mut source, mut btf) = source::of(&target, None, every)?;
    if let Some(why) = source.no_types.as_ref().filter(|_| source.kind.layout().is_none()) {
        output::note(format_args!("mapring: values are written without types: {why}"));
    }
    let (mut out, mut counts) = (Output::new(files)?, Counts::default());
    loop {
        out.source(source, btf)?;
        let location = target.location.to_string();
        let next = until_replaced(&target, sampling, &mut out, &mut counts);
        let Some(next) = next.with_context(|| location.clone())? else { break };
        out.print(format_args!("mapring: {location}: another map is pinned there now; continuing with it"));
        (source, btf) = source::of(&next, None, every)?;
        target = next;
    }
    let bytes = output::bytes(out.finish()?);
    if counts.busy > 0 {
        eprintln!(
            "mapring: {} reads of values failed, because a writer was in the middle of them",
            counts.busy
        );
    }
    output::note(format_args!("mapring: {} changed values in {} samples, {bytes}", out.count, counts.rounds));
    Ok(())
}

/// Samples until it is time to stop, or until another map is pinned in the place of this one.
fn until_replaced(
    target: &Target,
    sampling: &Sampling<'_>,
    out: &mut Output<'_>,
    counts: &mut Counts,
) -> Result<Option<Target>> {
    let Sampling { every, once, stop } = sampling;
    let mut values = Values::of(target)?;
    let (mut last, mut before) = (HashMap::new(), PinChecks::default());
    let (mut next, mut checked) = (Instant::now(), Instant::now());
    loop {
        if std::mem::take(&mut out.is_new) {
            last.clear();
        }
        counts.busy += values.round(&mut last, out)?;
        counts.rounds += 1;
        if *once || stop.is_due() {
            return Ok(None);
        }
        out.tick()?;
        // Rounds for which there was no time are left out.
        next = (next + *every).max(Instant::now());
        while !stop.is_due() && Instant::now() < next {
            stop.sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(200)));
            out.tick()?;
        }
        if checked.elapsed() > CHECK_INTERVAL {
            checked = Instant::now();
            out.update_clock()?;
            match check_pin(target, &mut before, sampled)? {
                Pinned::Same => {}
                Pinned::Other(next) => {
                    values.round(&mut last, out)?;
                    return Ok(Some(next));
                }
                Pinned::Unfit(e) => out.print(format_args!(
                    "mapring: {}: not continuing with the map that is pinned there now: {e:#}",
                    target.location
                )),
                Pinned::Gone(e) => out.print(format_args!("mapring: {e}; waiting for another map there")),
            }
        }
    }
}

/// Opens what can be sampled.
fn sampled(location: Location) -> Result<Target> {
    let target = Target::open(location)?;
    source::of(&target, None, None)?;
    Values::of(&target)?;
    Ok(target)
}

/// The last recorded version and bytes of each value, by index and CPU.
type Last = HashMap<(u32, Option<u32>), (u64, Vec<u8>)>;

impl<'a> Values<'a> {
    fn of(target: &'a Target) -> Result<Self> {
        Ok(match target.content()? {
            Content::Table(table, len) => Self::Table(table, len),
            Content::Counters(counters) => Self::Counters(counters),
            Content::Histograms(histograms) => Self::Histograms(histograms),
            Content::Gauges(gauges) => {
                let gauge = |index| Ok::<_, ReadError>(Gauge { reader: gauges.reader(index)?, seen: None });
                Self::Gauges((0..gauges.len()).map(gauge).collect::<Result<_, _>>()?)
            }
            Content::TopKeys(keys) => Self::TopKeys(keys),
            Content::Array(map) | Content::Globals(map) => Self::Array(map),
            _ => bail!("{}: it has no values", target.location),
        })
    }

    /// Records each value that changed; returns how many could not be read.
    fn round(&mut self, last: &mut Last, out: &mut Output<'_>) -> Result<u64> {
        let time = Clock::Monotonic.now();
        let mut busy = 0;
        let mut record = |index: usize, cpu: Option<usize>, version: u64, bytes: &[u8]| {
            let (index, cpu) = (u32::try_from(index)?, cpu.map(u32::try_from).transpose()?);
            let before = last.get_mut(&(index, cpu));
            let is_same = match &before {
                Some((version_before, bytes_before)) => *version_before == version && bytes_before == bytes,
                None => version == 0 && bytes.iter().all(|byte| *byte == 0),
            };
            if is_same {
                return Ok(());
            }
            match before {
                Some((version_before, bytes_before)) => {
                    *version_before = version;
                    bytes_before.copy_from_slice(bytes);
                }
                None => drop(last.insert((index, cpu), (version, bytes.to_vec()))),
            }
            out.sample(&Sample { time, index, cpu, version, bytes })
        };
        match self {
            Self::Table(table, count) => {
                for index in 0..*count {
                    match table.read(index) {
                        Ok(copies) => {
                            for copy in copies {
                                record(index, copy.cpu, copy.version, &copy.bytes)?;
                            }
                        }
                        Err(ReadError::Busy { .. }) => busy += 1,
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            Self::Counters(counters) => {
                for index in 0..counters.len() {
                    for cpu in 0..counters.shards() {
                        record(index, Some(cpu), 0, &counters.get(cpu, index)?.to_ne_bytes())?;
                    }
                }
            }
            Self::Histograms(histograms) => {
                let mut histogram = Histogram::new();
                for index in 0..histograms.len() {
                    histograms.snapshot_into(index, &mut histogram)?;
                    record(index, None, 0, bytemuck::cast_slice(&summaries::of_histogram(&histogram)))?;
                }
            }
            Self::Gauges(gauges) => {
                for (index, gauge) in gauges.iter_mut().enumerate() {
                    if let Some(words) = gauge.read()? {
                        record(index, None, 0, bytemuck::cast_slice(&words))?;
                    }
                }
            }
            Self::TopKeys(keys) => match keys.largest(summaries::KEYS) {
                Ok(ranking) => {
                    record(0, None, 0, bytemuck::cast_slice(&summaries::of_ranking(&ranking)))?;
                }
                Err(ReadError::Busy { .. }) => busy += 1,
                Err(e) => return Err(e.into()),
            },
            Self::Array(map) => {
                let (size, mut words) = (map.facts().value_size, Vec::new());
                for index in 0..map.facts().max_entries {
                    for (cpu, bytes) in untyped::copies(map, size, index, &mut words)? {
                        record(index, cpu, 0, bytes)?;
                    }
                }
            }
        }
        Ok(busy)
    }
}
