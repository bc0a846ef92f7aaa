//! Samples of values: cells, latches, counters, arrays and global data, recorded when they changed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mapring::abi::Kind;
use mapring::time::Clock;
use mapring::{AnyMap, Counters, ReadError};
use mapring_untyped::{self as untyped, Table};

use super::format::{Sample, Source};
use super::output::Output;
use super::record::Stop;
use crate::output;
use crate::regions::target::{Sort, Target};

/// What is sampled.
enum Values {
    Table(Box<dyn Table>, usize),
    Counters(Counters),
    Array(AnyMap),
}

/// Samples until it is time to stop, or once.
pub(super) fn run(
    target: Target,
    (source, btf): (Source, Vec<u8>),
    every: Duration,
    once: bool,
    stop: &Stop,
    out: &mut Output<'_>,
) -> Result<()> {
    let place = target.place.clone();
    let values = values(target).with_context(|| place.to_string())?;
    if let Some(why) = &source.no_types {
        output::note(format_args!("mapring: values are written without types: {why}"));
    }
    out.source(source, btf)?;
    let mut last = HashMap::new();
    let (mut rounds, mut busy, mut next) = (0_u64, 0_u64, Instant::now());
    loop {
        if std::mem::take(&mut out.is_new) {
            last.clear();
        }
        busy += values.round(&mut last, out).with_context(|| place.to_string())?;
        rounds += 1;
        if once || stop.is_due() {
            break;
        }
        out.tick()?;
        out.update_clock()?;
        // Rounds for which there was no time are left out.
        next = (next + every).max(Instant::now());
        while !stop.is_due() && Instant::now() < next {
            stop.sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(200)));
            out.tick()?;
        }
    }
    let bytes = output::bytes(out.finish()?);
    if busy > 0 {
        eprintln!("mapring: {busy} times a value was not read: a writer was in the middle of it each time");
    }
    output::note(format_args!("mapring: {} changed values in {rounds} samples, {bytes}", out.count));
    Ok(())
}

fn values(target: Target) -> Result<Values> {
    let Sort::Region(region) = &target.sort else {
        return Ok(Values::Array(target.map.context("no map")?));
    };
    Ok(match region.geometry().kind() {
        Kind::Counters | Kind::PerCpuCounters => Values::Counters(Counters::from_region(region.clone())?),
        _ => Values::Table(untyped::table(region)?, region.geometry().capacity()),
    })
}

/// The last recorded version and bytes of each value, by index and CPU.
type Last = HashMap<(u32, Option<u32>), (u64, Vec<u8>)>;

impl Values {
    /// Records each value that changed; returns how many could not be read.
    fn round(&self, last: &mut Last, out: &mut Output<'_>) -> Result<u64> {
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
            Self::Array(map) => {
                let (size, mut words) = (map.facts().value_size, Vec::new());
                for index in 0..map.facts().max_entries {
                    map.read(index, &mut words)?;
                    for (at, copy) in words.chunks(size.div_ceil(8).max(1)).enumerate() {
                        let bytes: &[u8] = bytemuck::cast_slice(copy);
                        let cpu = map.cpus().and_then(|cpus| cpus.get(at)).copied();
                        record(index, cpu, 0, bytes.get(..size).unwrap_or(bytes))?;
                    }
                }
            }
        }
        Ok(busy)
    }
}
