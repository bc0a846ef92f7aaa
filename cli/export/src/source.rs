//! A region or array that stays open and mapped, and the values of its last reading.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use anyhow::{Result, ensure};
use mapring::reading::TopKey;
use mapring::time::{Clock, WallClock};
use mapring::{Counters, Gauges, Histogram, Histograms, Start, TopKeys};
use mapring_kit::text::one_line;
use mapring_view::content::Content;
use mapring_view::target::{self, Target};
use mapring_view::untyped::{Copied, Table};
use mapring_view::value::{self, Value};

use crate::series::Number;

pub(crate) struct Source {
    pub(crate) target: Target,
    pub(crate) values: Values,
    pub(crate) by_cpu: bool,
    /// When its values began with 0, in nanoseconds since 1970.
    pub(crate) start: u64,
    /// The tickets of a ring at the last reading, and when they last changed.
    pub(crate) last: (u64, Instant),
    /// Why the last reading failed.
    pub(crate) error: Option<String>,
    /// Records or updates that programs dropped, by cause.
    pub(crate) dropped: Vec<(&'static str, u64)>,
}

/// The values of the last reading, in a list.
pub(crate) enum Values {
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
    /// The numbers of cells or latches, or without `table` of an array: of each value, and of a per-CPU one of each CPU's,
    /// those in these fields.
    Table {
        table: Option<Box<dyn Table>>,
        count: usize,
        copies: usize,
        fields: Vec<String>,
        read: Vec<Option<Number>>,
    },
}

impl Source {
    /// The most keys of a table of top keys.
    const KEYS: usize = 20;

    /// `None` if it has no values to export. Of its values it reads at most `most`.
    pub(crate) fn open(target: Target, by_cpu: bool, most: usize) -> Result<Option<Self>> {
        let values = match target.content()? {
            Content::Counters(handle) => {
                let shards = if by_cpu { handle.shards() } else { 1 };
                let count = handle.len().min(most.div_ceil(shards));
                Values::Counters { read: vec![0; count * shards], by_cpu, handle }
            }
            Content::Histograms(handle) => {
                // Each has as many series as buckets.
                let count = handle.len().min(most.div_ceil(64));
                Values::Histograms { read: vec![Histogram::new(); count], handle }
            }
            Content::Gauges(handle) => {
                Values::Gauges { count: handle.len().min(most), read: Vec::new(), handle }
            }
            Content::TopKeys(handle) => Values::Top { handle, most: most.min(Self::KEYS), read: Vec::new() },
            Content::Ring => Values::Ring { read: Vec::new() },
            Content::Table(table, len) => {
                let copies = table.read(0).map_or(1, |copies| copies.len().max(1));
                let (count, fields) = (len.min(most.div_ceil(copies)), fields_of(&target));
                Values::Table { table: Some(table), count, copies, fields, read: Vec::new() }
            }
            Content::Array(map) | Content::Globals(map) => {
                let (copies, facts) = (map.cpus().map_or(1, <[_]>::len), map.facts());
                let count = facts.max_entries.min(most.div_ceil(copies.max(1)));
                Values::Table { table: None, count, copies, fields: fields_of(&target), read: Vec::new() }
            }
            _ => return Ok(None),
        };
        let (start, last) = (begun(&target), (0, Instant::now()));
        Ok(Some(Self { target, values, by_cpu, start, last, error: None, dropped: Vec::new() }))
    }

    /// How many values it has in all, to say that some are left out.
    pub(crate) fn len(&self) -> usize {
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
    pub(crate) fn count(&self) -> usize {
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
    pub(crate) fn cpus(&self) -> Vec<usize> {
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
    pub(crate) fn read(&mut self) {
        let done = self.try_read();
        self.error = done.err().as_ref().map(one_line);
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
                let records = target.records(Start::Now)?;
                *read = records.positions();
                dropped.extend(target::drops(&records.stats()));
            }
            Values::Table { table, count, copies, fields, read } => {
                let mut numbers = Numbers::new(target, fields, read);
                for index in 0..table.as_ref().map_or(0, |_| *count) {
                    let cell = table.as_ref().and_then(|table| table.read(index).ok()).unwrap_or_default();
                    // One that was never written has no value.
                    let written = |at| cell.get(at).filter(|copy: &&Copied| copy.version > 0);
                    (0..*copies).try_for_each(|at| numbers.push(written(at).map(|copy| &*copy.bytes)))?;
                }
                if let (None, Some(map)) = (table, &target.map) {
                    let size = map.facts().value_size;
                    let (mut words, stride) = (Vec::new(), size.div_ceil(8).max(1));
                    let step = (RUN / (stride * *copies).max(1)).max(1);
                    for first in (0..*count).step_by(step) {
                        map.read_run(first, step.min(*count - first), &mut words)?;
                        let values =
                            words.chunks(stride).map(|value| bytemuck::cast_slice(value).get(..size));
                        values
                            .map(Option::unwrap_or_default)
                            .try_for_each(|bytes| numbers.push(Some(bytes)))?;
                    }
                }
            }
        }
        if dropped.is_empty() {
            dropped.extend(target.dropped()?.unwrap_or_default());
        }
        Ok(())
    }

    /// The fields with numbers of its values: their paths, in order.
    pub(crate) fn fields(&self) -> &[String] {
        if let Values::Table { fields, .. } = &self.values { fields } else { &[] }
    }
}

/// When a region was created; of other maps, or if the region says nothing that can be, now: then the begin of its values
/// is not known.
fn begun(target: &Target) -> u64 {
    let created = target.region().zip(WallClock::new(Clock::Boottime).ok()).and_then(|(region, clock)| {
        let wall = clock.to_wall(region.preamble().generation).value;
        u64::try_from(wall.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos()).ok()
    });
    let now = super::nanoseconds();
    created.unwrap_or(now).min(now)
}

/// The most fields of a value.
const FIELDS: usize = 64;
/// The words of an array that are read at once.
const RUN: usize = 1 << 17;
/// What decoding the values of a region may cost, about half a second: any user may have made its types.
const COST: usize = 1 << 26;

fn fields_of(target: &Target) -> Vec<String> {
    let size = match (target.region(), &target.map) {
        (Some(region), _) => region.geometry().record(),
        (None, map) => map.as_ref().map_or(0, |map| map.facts().value_size),
    };
    let mut fields = Vec::new();
    if let Ok(ty) = target.ty() {
        let empty = value::decode_within(ty, &vec![0; size], &mut { COST });
        each_number(&empty, &mut String::new(), &mut |path, _| {
            fields.push(path.to_owned());
            fields.len() < FIELDS
        });
    }
    fields
}

/// Calls `visit` with the path of each number in `value`, until it returns false.
fn each_number(value: &Value, path: &mut String, visit: &mut impl FnMut(&str, Number) -> bool) -> bool {
    let length = path.len();
    match value {
        Value::Struct(fields) => fields.iter().all(|(name, value)| {
            if length > 0 {
                path.push('.');
            }
            path.push_str(name);
            let goes_on = each_number(value, path, visit);
            path.truncate(length);
            goes_on
        }),
        Value::List(list) => list.iter().enumerate().all(|(index, value)| {
            path.push_str(&format!("[{index}]"));
            let goes_on = each_number(value, path, visit);
            path.truncate(length);
            goes_on
        }),
        value => number(value).is_none_or(|number| visit(path, number)),
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Unsigned(number) => Some(Number::Unsigned(*number)),
        Value::Signed(number) => Some(Number::Signed(*number)),
        Value::Code(number) | Value::Name(_, number) => Some(match u64::try_from(*number) {
            Ok(number) => Number::Unsigned(number),
            Err(_) => Number::Signed(i64::try_from(*number).ok()?),
        }),
        Value::Float(number) => Some(Number::Float(*number)),
        Value::Bool(value) => Some(Number::Unsigned((*value).into())),
        _ => None,
    }
}

/// Takes the numbers out of one value after the other.
struct Numbers<'a> {
    target: &'a Target,
    /// The place of each field among those of a value.
    fields: HashMap<&'a str, usize>,
    read: &'a mut Vec<Option<Number>>,
    /// What decoding may still cost.
    left: usize,
}

impl<'a> Numbers<'a> {
    fn new(target: &'a Target, fields: &'a [String], read: &'a mut Vec<Option<Number>>) -> Self {
        read.clear();
        // In a forged type several may have the same path: then it is the first one.
        let fields = fields.iter().enumerate().rev().map(|(at, field)| (field.as_str(), at)).collect();
        Self { target, fields, read, left: COST }
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<()> {
        let first = self.read.len();
        let Ok(ty) = self.target.ty() else { return Ok(()) };
        self.read.resize(first + self.fields.len(), None);
        let Some(bytes) = value else { return Ok(()) };
        ensure!(self.left > 0, "its values are too many and too complex to be read at each scrape");
        let value = value::decode_within(ty, bytes, &mut self.left);
        let (fields, mut missing) = (&self.fields, self.fields.len());
        let read = self.read.get_mut(first..).unwrap_or_default();
        each_number(&value, &mut String::new(), &mut |path, number| {
            if let Some(location @ None) = fields.get(path).and_then(|at| read.get_mut(*at)) {
                *location = Some(number);
                missing -= 1;
            }
            missing > 0
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_enum_is_exported_whether_it_has_a_name_or_not() {
        let named = |value| Value::Name("IDLE".to_owned(), value);
        assert_eq!(number(&named(3)), Some(Number::Unsigned(3)));
        assert_eq!([number(&named(-3)), number(&Value::Code(-3))], [Some(Number::Signed(-3)); 2]);
    }
}
