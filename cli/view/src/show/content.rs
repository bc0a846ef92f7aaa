//! The present content of each kind of region, for `mapring show` and `top`.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use mapring::any::AnyMap;
use mapring::time::Clock;
use mapring::{Counters, Gauges, Histograms, Start, TopKeys};
use mapring_kit::text::{ascii, grouped, json_line, printable};
use serde_json::{Value as Json, json};

use super::Printer;
use crate::content::Content;
use crate::follow::{Ends, has_passed};
use crate::histogram;
use crate::target::Target;
use crate::unended;
use crate::untyped::{self, Item, Table};
use crate::value::{self, Chars, Value};

pub(super) fn content<W: Write>(target: &Target, out: &mut Printer<'_, W>) -> Result<()> {
    let content = target.content()?;
    if !matches!(content, Content::Ring) {
        out.begin(None)?;
    }
    match content {
        Content::Ring => ring(target, out),
        Content::Ringbuf => ringbuf(target, out),
        Content::Table(table, len) => cells(target, &*table, len, out),
        Content::Counters(counters) => self::counters(&counters, out),
        Content::Histograms(histograms) => self::histograms(&histograms, out),
        Content::Gauges(gauges) => self::gauges(&gauges, out),
        Content::TopKeys(keys) => top_keys(&keys, out),
        Content::Array(map) => array(target, map, out),
        Content::Globals(map) => globals(target, map, out),
        Content::Internal(kind) => {
            Ok(out.line(&format!("(the content of {kind} is for programs; it is not shown)"))?)
        }
        Content::Other => programs(target, out),
        Content::Damaged(_) => Ok(()),
    }
}

/// The latest records, merged by time if they have one.
fn ring<W: Write>(target: &Target, out: &mut Printer<'_, W>) -> Result<()> {
    out.zeros = None;
    let stamp = target.stamp();
    let mut records = target.records(Start::Oldest)?;
    let ends: Ends = target.records(Start::Now)?.positions().into_iter().collect();
    let (mut latest, mut orders) = (VecDeque::new(), HashMap::new());
    let (most, mut present) = (out.left.max(1) as u64, 0);
    let mut keep = |item: Item<'_>| {
        // Only records that were there at the start, so that this ends while programs write.
        let Some(after) = ends.get(&item.shard).and_then(|end| end.checked_sub(item.ticket + 1)) else {
            return;
        };
        present += 1;
        if after >= most {
            return;
        }
        // In the order of time, but never against the order of a shard.
        let latest_of = orders.entry(item.shard).or_insert(0_u64);
        *latest_of = stamp.map_or(item.ticket, |stamp| stamp.order(item.bytes)).max(*latest_of);
        let tail = item.tail.map(<[u8]>::to_vec);
        latest.push_back((*latest_of, item.shard, item.ticket, item.bytes.to_vec(), tail));
    };
    // A record that is being written holds others back for the reader's patience.
    for _ in 0..1000 {
        while records.each(1 << 16, &mut keep) > 0 && !has_passed(&*records, &ends) {}
        if has_passed(&*records, &ends) {
            break;
        }
        records.wait(Duration::from_millis(1))?;
    }
    let written: u64 = ends.values().sum();
    let (stats, all) = (records.stats(), records.unended());
    let unended_json: Vec<_> = all.iter().map(unended::json_of).collect();
    out.begin(Some(json!({ "stepped_over": stats.stepped_over, "unended": unended_json })))?;
    out.line(&format!(
        "{} records reserved, {} still in the ring, {} dropped by programs",
        grouped(written),
        grouped(present),
        grouped(stats.dropped())
    ))?;
    for unended in all {
        out.line(&unended.to_string())?;
    }
    if stats.stepped_over > 0 {
        let count = grouped(stats.stepped_over);
        out.line(&format!("programs stepped over {count} of the tickets in the ring, which had no record"))?;
    }
    let mut latest: Vec<_> = latest.into();
    latest.sort_by_key(|(order, shard, ticket, ..)| (*order, *shard, *ticket));
    if let Some(age) = stamp.zip(latest.last()).and_then(|(stamp, (.., bytes, _))| stamp.age(bytes)) {
        out.line(&format!("the last one is {age:.1?} old"))?;
    }
    let skip = latest.len().saturating_sub(out.left);
    for (_, shard, ticket, bytes, tail) in latest.into_iter().skip(skip) {
        let mut more = serde_json::Map::new();
        if let Some(tail) = tail {
            Value::Text(Chars::tail(&tail)).put("tail", &mut more);
        }
        let more: Vec<_> = more.iter().map(|(name, json)| (name.as_str(), json.clone())).collect();
        out.value(&[("shard", shard as u64), ("ticket", ticket)], &target.decode(&bytes), &more)?;
    }
    Ok(())
}

/// The latest records that the consumer of a BPF ringbuf has not taken.
fn ringbuf<W: Write>(target: &Target, out: &mut Printer<'_, W>) -> Result<()> {
    out.zeros = None;
    let mut observed = target.observed(Start::Oldest)?;
    let (written, most) = (observed.written(), out.left);
    let (mut latest, mut count) = (VecDeque::new(), 0);
    let (bytes, lost) = observed.present(|at, bytes| {
        count += 1;
        if latest.len() == most {
            latest.pop_front();
        }
        if most > 0 {
            latest.push_back((at, bytes.to_vec()));
        }
    });
    out.line(&format!(
        "{} bytes written; {} records in {} bytes that the consumer has not taken",
        grouped(written),
        grouped(count),
        grouped(bytes - lost.min(bytes))
    ))?;
    if lost > 0 {
        out.line(&format!("{} bytes were overwritten while they were read", grouped(lost)))?;
    }
    for (at, bytes) in latest {
        out.value(&[("position", at)], &target.decode(&bytes), &[("text", ascii(&bytes).into())])?;
    }
    Ok(())
}

fn cells<W: Write>(target: &Target, table: &dyn Table, len: usize, out: &mut Printer<'_, W>) -> Result<()> {
    for index in 0..len {
        let copies = match table.read(index) {
            Ok(copies) => copies,
            Err(e) => {
                if !out.is_full() {
                    match out.json {
                        true => writeln!(out.out, "{}", json!({ "index": index, "error": e.to_string() }))?,
                        false => writeln!(out.out, "index {index}: {e}")?,
                    }
                }
                continue;
            }
        };
        for copy in copies {
            if copy.version == 0
                && let Some(zeros) = &mut out.zeros
            {
                *zeros += 1;
                continue;
            }
            let cpu = copy.cpu.map(|cpu| ("cpu", cpu as u64));
            let location: Vec<_> = [("index", index as u64)].into_iter().chain(cpu).collect();
            let zeros = out.zeros.take(); // a value of zeros that was written is shown
            if !out.skips(&copy.bytes) {
                out.value(&location, &target.decode(&copy.bytes), &[])?;
            }
            out.zeros = zeros;
        }
    }
    Ok(())
}

fn counters<W: Write>(counters: &Counters, out: &mut Printer<'_, W>) -> Result<()> {
    for index in 0..counters.len() {
        let each =
            (0..counters.shards()).map(|cpu| counters.get(cpu, index)).collect::<Result<Vec<_>, _>>()?;
        let sum = each.iter().fold(0, |sum: u64, one| sum.wrapping_add(*one));
        let each = if each.len() > 1 { vec![("cpus", Json::from(each))] } else { Vec::new() };
        out.value(&[("index", index as u64)], &Value::Unsigned(sum), &each)?;
    }
    Ok(())
}

fn histograms<W: Write>(histograms: &Histograms, out: &mut Printer<'_, W>) -> Result<()> {
    for index in 0..histograms.len() {
        let histogram = histograms.snapshot(index)?;
        if histogram.count() == 0
            && let Some(zeros) = &mut out.zeros
        {
            *zeros += 1;
            continue;
        }
        if out.is_full() {
            continue;
        }
        if out.json {
            let buckets: Vec<_> = histogram
                .buckets()
                .map(|(range, count)| json!([range.start(), range.end(), count]))
                .collect();
            let percentiles: serde_json::Map<_, _> =
                histogram::percentiles(&histogram).map(|(p, most)| (format!("p{p}"), json!(most))).collect();
            let object = json!({ "index": index, "count": histogram.count(), "mean": histogram.mean(),
                "percentiles": percentiles, "buckets": buckets });
            writeln!(out.out, "{object}")?;
        } else {
            write!(out.out, "index {index}: {}", histogram::drawn(&histogram, 78))?;
        }
    }
    Ok(())
}

fn gauges<W: Write>(gauges: &Gauges, out: &mut Printer<'_, W>) -> Result<()> {
    for index in 0..gauges.len() {
        let windows = gauges.windows(index)?;
        let Some(last) = windows.last() else {
            out.zeros = out.zeros.map(|zeros| zeros + 1);
            continue;
        };
        let (min, max) = (windows.iter().map(|w| w.min).min(), windows.iter().map(|w| w.max).max());
        let age = Clock::Monotonic.now().saturating_sub(last.ns) / 1_000_000;
        let fields = [
            ("min", min.unwrap_or_default()),
            ("max", max.unwrap_or_default()),
            ("last_min", last.min),
            ("last_max", last.max),
            ("last_ms_ago", age),
            ("windows", windows.len() as u64),
        ];
        let fields = fields.map(|(name, number)| (name.to_owned(), Value::Unsigned(number)));
        out.value(&[("index", index as u64)], &Value::Struct(fields.into()), &[])?;
    }
    Ok(())
}

fn top_keys<W: Write>(keys: &TopKeys, out: &mut Printer<'_, W>) -> Result<()> {
    let ranking = keys.largest(out.left)?;
    out.line(&format!(
        "{} in all; no key that is not listed has more than {}",
        grouped(ranking.total),
        grouped(ranking.unlisted)
    ))?;
    for key in &ranking.keys {
        let error = ("error", Json::from(key.error));
        out.value(&[("key", key.key)], &Value::Unsigned(key.count), &[error])?;
    }
    Ok(())
}

fn array<W: Write>(target: &Target, map: &AnyMap, out: &mut Printer<'_, W>) -> Result<()> {
    let facts = map.facts();
    let mut words = Vec::new();
    for index in 0..facts.max_entries {
        for (cpu, bytes) in untyped::copies(map, facts.value_size, index, &mut words)? {
            let cpu = cpu.map(|cpu| ("cpu", cpu as u64));
            let location: Vec<_> = [("index", index as u64)].into_iter().chain(cpu).collect();
            if !out.skips(bytes) {
                out.value(&location, &target.decode(bytes), &[])?;
            }
        }
    }
    Ok(())
}

fn globals<W: Write>(target: &Target, map: &AnyMap, out: &mut Printer<'_, W>) -> Result<()> {
    let mut words = Vec::new();
    map.read(0, &mut words)?;
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    let bytes = bytes.get(..map.facts().value_size).unwrap_or(bytes);
    out.zeros = None;
    for variable in target.variables() {
        if out.is_full() {
            continue;
        }
        let end = variable.offset.saturating_add(variable.size).min(bytes.len());
        let value = value::decode(variable.ty, bytes.get(variable.offset..end).unwrap_or_default());
        let name = String::from_utf8_lossy(variable.name);
        let name = printable(&name);
        match (out.json, &value) {
            (true, _) => {
                let mut object = serde_json::Map::from_iter([("name".to_owned(), (&*name).into())]);
                value.put("value", &mut object);
                writeln!(out.out, "{}", json_line(&Json::Object(object)))?;
            }
            (false, Value::Struct(_)) => writeln!(out.out, "{name} = {{{value}}}")?,
            (false, _) => writeln!(out.out, "{name} = {value}")?,
        }
    }
    Ok(())
}

/// The programs in a table of programs.
fn programs<W: Write>(target: &Target, out: &mut Printer<'_, W>) -> Result<()> {
    let kind = target.map.as_ref().map(|map| map.facts().kind).unwrap_or_default();
    if kind != "prog_array" {
        return Ok(
            out.line(&format!("(a map of type {}: its content is not shown)", kind.replace('_', " ")))?
        );
    }
    let table = mapring::dispatch::Dispatch::open(target.location.source()?)?;
    for slot in table.iter() {
        let (slot, id) = slot?;
        let name = table.get(slot).ok().flatten().map(|program| ("name", Json::from(program.name)));
        out.value(&[("slot", slot as u64)], &Value::Unsigned(id.into()), name.as_slice())?;
    }
    Ok(())
}
