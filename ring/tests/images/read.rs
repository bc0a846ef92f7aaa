//! Reads an image with the library.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mapring::abi::{Kind, WORD, readers};
use mapring::any::AnyRecord;
use mapring::{
    Cells, Commands, Counters, Error, Gauges, Histograms, Latches, OpenOptions, ReadError, Region, Ring,
    Start, TopKeys, table::Snapshot,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::seen::{Read, Record, Seen, Value, lines, numbers};

/// No image has larger records.
type Any = AnyRecord<4>;

/// A sealed memfd with these bytes.
fn memfd(bytes: &[u8]) -> OwnedFd {
    let fd = memfd_create("image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK).unwrap();
    file.into()
}

/// What the library finds. `expected` says how long to wait, and which part of an error's text counts.
pub(crate) fn read(bytes: &[u8], expected: &str) -> Seen {
    match OpenOptions::new().any_record().open(memfd(bytes)) {
        Ok(region) => found(region, bytes, expected),
        Err(error) => refused(&error, expected),
    }
}

fn refused(error: &Error, expected: &str) -> Seen {
    let text = expected.split("\"text\": \"").nth(1).and_then(|it| it.split('"').next()).unwrap_or_default();
    let all = error.to_string().replace('"', "'");
    Seen::refused(&format!("{:?}", error.kind()), if all.contains(text) { text } else { &all })
}

fn found(region: Region, bytes: &[u8], expected: &str) -> Seen {
    let geometry = *region.geometry();
    let seen = Seen::region(
        &geometry.kind().to_string(),
        &geometry.options().to_string(),
        geometry.record(),
        geometry.capacity(),
        geometry.shards(),
    );
    let dropped = region.dropped().unwrap();
    match geometry.kind() {
        Kind::Ring => ring(&Ring::from_region(region).unwrap(), seen, expected),
        Kind::Cells => {
            let cells = Cells::<Any>::from_region(region).unwrap();
            seen.values(&values(&cells.region().clone(), |at| cells.snapshot(at))).with("dropped", dropped)
        }
        Kind::Latches => {
            let latches = Latches::<Any>::from_region(region).unwrap();
            seen.values(&values(&latches.region().clone(), |at| latches.snapshot(at)))
        }
        Kind::Counters => {
            let counters = Counters::from_region(region).unwrap();
            let bank = |cpu| numbers((0..counters.len()).map(|at| counters.get(cpu, at).unwrap()));
            let sums = numbers((0..counters.len()).map(|at| counters.sum(at).unwrap()));
            let banks = lines((0..counters.shards()).map(bank), 2);
            seen.with("counters", banks).with("sums", sums).with("dropped", dropped)
        }
        Kind::Histograms => {
            let histograms = Histograms::from_region(region).unwrap();
            let one = |at| {
                let copy = histograms.snapshot(at).unwrap();
                let buckets =
                    copy.buckets().map(|(range, count)| numbers([*range.start(), *range.end(), count]));
                lines(buckets, 4)
            };
            seen.with("histograms", lines((0..histograms.len()).map(one), 2))
        }
        Kind::Gauges => {
            let gauges = Gauges::from_region(region).unwrap();
            let windows =
                |at| gauges.windows(at).unwrap().into_iter().map(|it| numbers([it.ns >> 20, it.min, it.max]));
            seen.with("gauges", lines((0..gauges.len()).map(|at| lines(windows(at), 4)), 2))
                .with("dropped", dropped)
        }
        Kind::Commands => {
            let commands = Commands::<Any>::from_region(region).unwrap();
            let seen = seen.with("pushed", commands.pushed().unwrap());
            seen.with("applied", commands.acknowledged().unwrap())
                .with("skipped", commands.skipped().unwrap())
        }
        Kind::TopKeys => top_keys(&TopKeys::from_region(region).unwrap(), seen),
        Kind::Readers => seen.with("seats", seats(bytes, geometry.shards())),
        kind => panic!("a memfd with {kind}"),
    }
}

fn values(region: &Region, read: impl Fn(usize) -> Result<Snapshot<Any>, ReadError>) -> Vec<Value> {
    let (count, size) = (region.geometry().capacity(), region.geometry().record());
    let one = |at| match read(at) {
        Ok(found) => Some((found.version, found.value.bytes(size).to_vec())),
        Err(ReadError::Busy { .. }) => None,
        Err(other) => panic!("{other}"),
    };
    (0..count).map(one).collect()
}

fn top_keys(keys: &TopKeys, seen: Seen) -> Seen {
    match keys.largest(usize::MAX) {
        Ok(found) => {
            let all = found.keys.iter().map(|key| numbers([key.key, key.count - key.error, key.count]));
            seen.with("keys", lines(all, 2)).with("unlisted", found.unlisted).with("total", found.total)
        }
        Err(ReadError::Busy { .. }) => seen.with("busy", true),
        Err(other) => panic!("{other}"),
    }
}

/// The seats of the map of a ring's readers. The library reads them beside a ring; here the numbers of the words are used.
fn seats(bytes: &[u8], shards: usize) -> String {
    let word = |at: usize| u64::from_ne_bytes(bytes[at * WORD..][..WORD].try_into().unwrap());
    let has = |bits: usize, seat: usize| word(bits) >> seat & 1;
    let seats = (0..readers::SEATS)
        .filter_map(|seat| Some((seat, readers::Owner::decode(word(readers::owner(seat)))?)));
    let seat = |(seat, owner): (usize, readers::Owner)| {
        let positions = numbers((0..shards).map(|shard| word(readers::position(shard, seat))));
        format!(
            "{{\"seat\": {seat}, \"pid\": {}, \"asleep\": {}, \"required\": {}, \"lease\": {}, \"positions\": {positions}}}",
            owner.pid,
            has(readers::ASLEEP, seat),
            has(readers::REQUIRED, seat),
            word(readers::lease(seat)),
        )
    };
    lines(seats.map(seat), 2)
}

fn ring(ring: &Ring<Any>, seen: Seen, expected: &str) -> Seen {
    let mut starts = expected.split("\"start\": \"").skip(1);
    let starts = [("oldest", Start::Oldest), ("first", Start::First), ("now", Start::Now)]
        .map(|(name, start)| one_read(ring, name, start, passed(starts.next().unwrap_or_default())));
    let seen = seen.reads(&starts);
    if expected.contains("\"merged\"") { seen.merged(&merged(ring, starts[0].counts[0])) } else { seen }
}

/// How many tickets a reader passes: the sum of the first six counts.
fn passed(expected: &str) -> u64 {
    let counts =
        expected.split("\"counts\": {").nth(1).and_then(|it| it.split('}').next()).unwrap_or_default();
    counts.split(", ").take(6).filter_map(|it| it.split(": ").nth(1)?.parse::<u64>().ok()).sum()
}

/// Reads until so many tickets are passed: the reader looks past a ticket that does not end once in a while only.
fn one_read(ring: &Ring<Any>, name: &'static str, start: Start, passed: u64) -> Read {
    let region = ring.region();
    let prefix = if region.geometry().tails().is_some() { 2 * WORD } else { 0 };
    let size = region.geometry().record() - prefix;
    let mut reader = ring.reader_from(start).with_patience(Duration::ZERO);
    let mut records = Vec::new();
    let end = Instant::now() + Duration::from_secs(5);
    let mut more = 3;
    while more > 0 {
        let found = reader.for_each(usize::MAX, |event| {
            let (record, tail) = (event.record.bytes(size).to_vec(), event.tail.to_vec());
            records.push(Record { shard: event.shard, ticket: event.ticket, record, tail });
        });
        let is_read = reader.stats().passed() >= passed || Instant::now() > end;
        more -= u32::from(is_read && found == 0);
    }
    records.sort_by_key(|record| record.shard);
    let stats = reader.stats();
    let unended = reader.unended().into_iter().map(|it| (it.shard, it.ticket)).collect();
    let counts = [
        stats.delivered,
        stats.lapped,
        stats.skipped,
        stats.tail_lost,
        stats.discarded,
        stats.stepped_over,
        stats.no_slot,
        stats.full,
        stats.no_shard,
        stats.no_tail,
        stats.too_long,
    ];
    Read { start: name, records, counts, unended }
}

/// The order of a merged reader, which delivers so many records.
fn merged(ring: &Ring<Any>, count: u64) -> Vec<(usize, u64)> {
    let stamp = |record: &Any| u64::from_ne_bytes(record.bytes(WORD).try_into().unwrap());
    let mut reader = ring.reader().with_patience(Duration::ZERO).merged(stamp);
    let mut order = Vec::new();
    let end = Instant::now() + Duration::from_secs(5);
    while order.len() as u64 != count && Instant::now() < end {
        reader.for_each(usize::MAX, |event| order.push((event.shard, event.ticket)));
    }
    order
}
