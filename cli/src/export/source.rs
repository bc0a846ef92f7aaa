//! A region or array that stays open and mapped, and the values of its last reading.

use std::time::{Instant, SystemTime};

use anyhow::Result;
use mapring::abi::Kind as Of;
use mapring::reading::TopKey;
use mapring::time::{Clock, WallClock};
use mapring::{Counters, Gauges, Histogram, Histograms, Start, TopKeys};

use super::series::Number;
use crate::regions::target::{Sort, Target};
use crate::regions::text::said;
use crate::regions::untyped::{self, Copied, Table};
use crate::regions::value::Value;

pub(super) struct Source {
    pub(super) target: Target,
    pub(super) values: Values,
    pub(super) by_cpu: bool,
    /// When its values began with 0, in nanoseconds since 1970.
    pub(super) start: u64,
    /// The tickets of a ring at the last reading, and when they last changed.
    pub(super) last: (u64, Instant),
    /// Why the last reading failed.
    pub(super) error: Option<String>,
    /// Records or updates that programs dropped, by cause.
    pub(super) dropped: Vec<(&'static str, u64)>,
}

/// The values of the last reading, in a list.
pub(super) enum Values {
    /// A value for each counter; `by_cpu` one for each CPU and counter.
    Counters {
        handle: Counters,
        by_cpu: bool,
        read: Vec<u64>,
    },
    Histograms {
        handle: Histograms,
        read: Vec<Histogram>,
    },
    /// The smallest, the largest and the last value of each gauge.
    Gauges {
        handle: Gauges,
        count: usize,
        read: Vec<Option<[u64; 3]>>,
    },
    Top {
        handle: TopKeys,
        most: usize,
        read: Vec<TopKey>,
    },
    /// The tickets of each shard.
    Ring {
        read: Vec<(usize, u64)>,
    },
    /// The values of cells or latches, or without `table` of an array; of a per-CPU one a value for each CPU.
    Table {
        table: Option<Box<dyn Table>>,
        count: usize,
        copies: usize,
        read: Vec<Option<Value>>,
    },
}

impl Source {
    /// The most keys of a table of top keys.
    const KEYS: usize = 20;

    /// `None` if it has no values to export. Of its values it reads at most `most`.
    pub(super) fn open(target: Target, by_cpu: bool, most: usize) -> Result<Option<Self>> {
        let region = target.region().cloned();
        let values = match (target.kind(), region) {
            (Some(Of::Counters | Of::PerCpuCounters), Some(region)) => {
                let handle = Counters::from_region(region)?;
                let shards = if by_cpu { handle.shards() } else { 1 };
                let count = handle.len().min(most.div_ceil(shards));
                Values::Counters { read: vec![0; count * shards], by_cpu, handle }
            }
            (Some(Of::Histograms), Some(region)) => {
                let handle = Histograms::from_region(region)?;
                // Each has as many series as buckets.
                let count = handle.len().min(most.div_ceil(64));
                Values::Histograms { read: vec![Histogram::new(); count], handle }
            }
            (Some(Of::Gauges), Some(region)) => {
                let handle = Gauges::from_region(region)?;
                Values::Gauges { count: handle.len().min(most), read: Vec::new(), handle }
            }
            (Some(Of::TopKeys), Some(region)) => {
                let handle = TopKeys::from_region(region)?;
                Values::Top { handle, most: most.min(Self::KEYS), read: Vec::new() }
            }
            (Some(Of::Ring), _) => Values::Ring { read: Vec::new() },
            (Some(Of::Cells | Of::Latches | Of::PerCpuCells), Some(region)) => {
                let table = untyped::table(&region)?;
                let copies = table.read(0).map_or(1, |copies| copies.len().max(1));
                let count = region.geometry().capacity().min(most.div_ceil(copies));
                Values::Table { table: Some(table), count, copies, read: Vec::new() }
            }
            _ if matches!(target.sort, Sort::Array | Sort::Globals) => {
                let Some(map) = &target.map else { return Ok(None) };
                let (copies, facts) = (map.cpus().map_or(1, <[_]>::len), map.facts());
                let count = facts.max_entries.min(most.div_ceil(copies.max(1)));
                Values::Table { table: None, count, copies, read: Vec::new() }
            }
            _ => return Ok(None),
        };
        let (start, last) = (begun(&target), (0, Instant::now()));
        Ok(Some(Self { target, values, by_cpu, start, last, error: None, dropped: Vec::new() }))
    }

    /// How many values it has in all, to say that some are left out.
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Counters { handle, .. } => handle.len(),
            Values::Histograms { handle, .. } => handle.len(),
            Values::Gauges { handle, .. } => handle.len(),
            Values::Top { .. } | Values::Ring { .. } => 0,
            Values::Table { .. } => match (self.target.region(), &self.target.map) {
                (Some(region), _) => region.geometry().capacity(),
                (None, map) => map.as_ref().map_or(0, |map| map.facts().max_entries),
            },
        }
    }

    /// How many of them it reads.
    pub(super) fn count(&self) -> usize {
        match &self.values {
            Values::Counters { handle, by_cpu, read } => {
                read.len() / if *by_cpu { handle.shards().max(1) } else { 1 }
            }
            Values::Histograms { read, .. } => read.len(),
            Values::Gauges { count, .. } | Values::Table { count, .. } => *count,
            Values::Top { .. } | Values::Ring { .. } => 0,
        }
    }

    /// The CPUs whose values are apart, if they are.
    pub(super) fn cpus(&self) -> Vec<usize> {
        match &self.values {
            Values::Counters { handle, by_cpu: true, .. } => (0..handle.shards()).collect(),
            Values::Table { table, copies, .. } if *copies > 1 => {
                let of_map = self.target.map.as_ref().and_then(|map| map.cpus().map(<[_]>::to_vec));
                let of_table = || table.as_ref()?.read(0).ok()?.iter().map(|copy| copy.cpu).collect();
                of_map.or_else(of_table).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Reads all values. Of a mapped region it makes no system call.
    pub(super) fn read(&mut self) {
        let done = self.try_read();
        self.error = done.err().as_ref().map(said);
    }

    fn try_read(&mut self) -> Result<()> {
        let Self { target, values, dropped, .. } = self;
        dropped.clear();
        match values {
            Values::Counters { handle, by_cpu: false, read } => handle.sums(read)?,
            Values::Counters { handle, by_cpu: true, read } => {
                let count = read.len() / handle.shards().max(1);
                for (cpu, bank) in read.chunks_mut(count.max(1)).enumerate() {
                    for (index, value) in bank.iter_mut().enumerate() {
                        *value = handle.get(cpu, index)?;
                    }
                }
            }
            Values::Histograms { handle, read } => {
                for (index, histogram) in read.iter_mut().enumerate() {
                    handle.snapshot_into(index, histogram)?;
                }
            }
            Values::Gauges { handle, count, read } => {
                read.clear();
                for index in 0..*count {
                    let windows = handle.windows(index)?;
                    let (min, max) =
                        (windows.iter().map(|w| w.min).min(), windows.iter().map(|w| w.max).max());
                    read.push(windows.last().and_then(|last| Some([min?, max?, last.max])));
                }
            }
            Values::Top { handle, most, read } => *read = handle.largest(*most)?.keys,
            Values::Ring { read } => {
                let records = target.records(Start::Now, None)?;
                *read = records.positions();
                let stats = records.stats();
                dropped.extend([
                    ("no_slot", stats.no_slot),
                    ("held_by_reader", stats.full),
                    ("no_shard", stats.no_shard),
                    ("no_tail_space", stats.no_tail),
                ]);
            }
            Values::Table { table: Some(table), count, copies, read } => {
                read.clear();
                (0..*count).for_each(|index| push_cell(target, table.read(index).ok(), *copies, read));
            }
            Values::Table { table: None, count, read, .. } => {
                read.clear();
                if let Some(map) = &target.map {
                    let (mut words, size, decode) = (Vec::new(), map.facts().value_size, target.decoder());
                    map.read_run(0, *count, &mut words)?;
                    let values = words.chunks(size.div_ceil(8).max(1));
                    let bytes =
                        values.map(|value| bytemuck::cast_slice(value).get(..size).unwrap_or_default());
                    read.extend(bytes.map(|bytes| Some(decode(bytes))));
                }
            }
        }
        if dropped.is_empty()
            && let Some(region) = target.region()
        {
            dropped.push(("no_place", region.dropped()?));
        }
        Ok(())
    }

    /// The fields with numbers of its values: their paths, in order.
    pub(super) fn fields(&self) -> Vec<String> {
        let size = match (self.target.region(), &self.target.map) {
            (Some(region), _) => region.geometry().record(),
            (None, map) => map.as_ref().map_or(0, |map| map.facts().value_size),
        };
        let mut fields = Vec::new();
        if self.target.ty().is_ok() {
            numbers(&self.target.decode(&vec![0; size]), &mut String::new(), &mut fields);
        }
        fields
    }
}

/// When a region was created; of other maps, or if the region says nothing that can be, now: then the begin of its values
/// is not known.
fn begun(target: &Target) -> u64 {
    let created = target.region().zip(WallClock::new(Clock::Monotonic).ok()).and_then(|(region, clock)| {
        let wall = clock.to_wall(region.preamble().generation).value;
        u64::try_from(wall.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos()).ok()
    });
    let now = super::nanoseconds();
    created.unwrap_or(now).min(now)
}

/// The most fields of a value.
const FIELDS: usize = 64;

/// Adds the paths of all numbers in `value`.
fn numbers(value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match value {
        _ if found.len() >= FIELDS => {}
        Value::Struct(fields) => {
            for (name, value) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                numbers(value, path, found);
                path.truncate(length);
            }
        }
        Value::List(list) => {
            for (index, value) in list.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                numbers(value, path, found);
                path.truncate(length);
            }
        }
        value if number(value).is_some() => found.push(path.clone()),
        _ => {}
    }
}

pub(super) fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Unsigned(number) => Some(Number::Unsigned(*number)),
        Value::Signed(number) => Some(Number::Signed(*number)),
        Value::Code(number) => Some(match u64::try_from(*number) {
            Ok(number) => Number::Unsigned(number),
            Err(_) => Number::Signed(i64::try_from(*number).ok()?),
        }),
        Value::Float(number) => Some(Number::Float(*number)),
        Value::Bool(value) => Some(Number::Unsigned((*value).into())),
        _ => None,
    }
}

/// Adds the copies of a cell. One that was never written has no value.
fn push_cell(target: &Target, cell: Option<Vec<Copied>>, copies: usize, read: &mut Vec<Option<Value>>) {
    let end = read.len() + copies;
    for copy in cell.unwrap_or_default() {
        read.push((copy.version > 0).then(|| target.decode(&copy.bytes)));
    }
    read.resize(end, None);
}
