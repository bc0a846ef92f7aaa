//! Regions that are not rings.

use mapring::abi::top::{STRIDE, bucket};
use mapring::abi::{Geometry, Kind, LINE, gauge, readers};
use mapring::{Cells, Commands, Counters, Gauges, Histograms, Latches, Region, TopKeys};

use super::make::{Image, NO_SHARD, owner};
use super::seen::{Seen, Value, lines, numbers};

type Named = (String, Image, Seen);

pub(crate) fn images() -> Vec<Named> {
    let all = [
        ("cells", cells()),
        ("latches", latches()),
        ("counters", counters()),
        ("histograms", histograms()),
        ("gauges", gauges()),
        ("top_keys", top_keys()),
        ("top_keys_full", top_keys_full()),
        ("top_keys_busy", top_keys_busy()),
        ("commands", commands()),
        ("readers", of_readers()),
        ("per_cpu_cells", per_cpu(Kind::PerCpuCells, 12)),
        ("per_cpu_counters", per_cpu(Kind::PerCpuCounters, 8)),
    ];
    all.map(|(name, (image, seen))| (name.to_owned(), image, seen)).into()
}

fn region(image: &Image) -> Seen {
    let geometry = &image.geometry;
    Seen::region(&geometry.kind().to_string(), "", geometry.record(), geometry.capacity(), geometry.shards())
}

/// The value after so many writes: at first zeros.
fn value(version: u64) -> Value {
    let byte = u8::try_from(version).unwrap();
    Some((version, if version == 0 { vec![0; 12] } else { (byte..byte + 12).collect() }))
}

fn written(version: u64) -> [u8; 12] {
    value(version).unwrap().1.try_into().unwrap()
}

/// A writer is in the last cell for good. 3 writes found a writer there.
fn cells() -> (Image, Seen) {
    let cells = Cells::<[u8; 12]>::create_memfd(4).unwrap();
    let writer = cells.writer().unwrap();
    for (index, writes) in [(1, 1), (2, 5), (3, 2)] {
        (1..=writes).for_each(|version| assert!(writer.set(index, &written(version)).unwrap()));
    }
    let mut image = Image::of(cells.region());
    let last = (image.geometry.first() + 3) * image.geometry.element_words();
    image.words[last] += 1;
    image.words[NO_SHARD] = 3;
    let seen = region(&image).values(&[value(0), value(1), value(5), None]).with("dropped", 3);
    (image, seen)
}

/// Both copies are in use, and one that was never written.
fn latches() -> (Image, Seen) {
    let latches = Latches::<[u8; 12]>::create_memfd(4).unwrap();
    let writer = latches.writer().unwrap();
    let writes = [0, 1, 2, 7];
    for (index, writes) in writes.into_iter().enumerate() {
        (1..=writes).for_each(|version| writer.set(index, &written(version)).unwrap());
    }
    let image = Image::of(latches.region());
    let seen = region(&image).values(&writes.map(value));
    (image, seen)
}

/// The sum of the last one wraps. 4 writes had an index out of range.
fn counters() -> (Image, Seen) {
    let counters = Counters::create_memfd(9, 3).unwrap();
    let banks =
        [[1, 2, 3, 0, 0, 0, 0, 0, u64::MAX], [10, 0, 0, 0, 0, 0, 0, 0, 2], [0, 200, 0, 0, 5, 0, 0, 0, 0]];
    for (shard, bank) in banks.iter().enumerate() {
        let writer = counters.writer(shard).unwrap();
        bank.iter().enumerate().for_each(|(index, by)| writer.add(index, *by).unwrap());
    }
    let mut image = Image::of(counters.region());
    image.words[NO_SHARD] = 4;
    let seen = region(&image).with("counters", lines(banks.map(numbers), 2));
    let seen = seen.with("sums", numbers([11, 202, 3, 0, 5, 0, 0, 0, 1])).with("dropped", 4);
    (image, seen)
}

/// The examples of docs/abi.md, in two shards; the second histogram is empty.
fn histograms() -> (Image, Seen) {
    let histograms = Histograms::create_memfd(2, 2).unwrap();
    for (shard, values) in [(0, &[15, 16, 17, 960, u64::MAX][..]), (1, &[0, 17, 1023, 15 << 60])] {
        let writer = histograms.writer(shard).unwrap();
        values.iter().for_each(|value| writer.add(0, *value).unwrap());
    }
    let image = Image::of(histograms.region());
    let buckets = [[0, 0, 1], [15, 15, 1], [16, 17, 3], [960, 1023, 2], [15 << 60, u64::MAX, 2]];
    let all = [lines(buckets.map(numbers), 4), lines([], 4)];
    let seen = region(&image).with("histograms", lines(all, 2));
    (image, seen)
}

/// Windows 1500 and 1501 in two shards, and one whose words are of different windows, as while a program writes them. 5 values
/// were given up.
fn gauges() -> (Image, Seen) {
    let gauges = Gauges::create_memfd(1, 2).unwrap();
    for (shard, values) in [(0, &[(1500, 7), (1500, 3), (1501, u64::MAX)][..]), (1, &[(1500, 9), (2000, 0)])]
    {
        let writer = gauges.writer(shard).unwrap();
        values.iter().for_each(|(window, value)| assert!(writer.set_at(0, *value, window << 20).unwrap()));
    }
    let mut image = Image::of(gauges.region());
    let bank = image.geometry.first() * image.geometry.element_words();
    let [[largest, _], [_, smallest]] = [1033, 9].map(|window| gauge::words(window, 50));
    image.words[bank + 18..bank + 20].copy_from_slice(&[largest, smallest]);
    image.words[NO_SHARD] = 5;
    let windows = [[1500, 3, 9], [1501, (1 << 36) - 1, (1 << 36) - 1], [2000, 0, 0]];
    let seen = region(&image).with("gauges", lines([lines(windows.map(numbers), 4)], 2)).with("dropped", 5);
    (image, seen)
}

/// Fewer keys than a bucket counts: all counts are exact.
fn top_keys() -> (Image, Seen) {
    let keys = TopKeys::create_memfd(2, 2).unwrap();
    let added = |shard: usize, key: u64| if shard == 0 { 10 * key } else { key % 2 };
    for shard in 0..2 {
        let writer = keys.writer(shard).unwrap();
        (1..=6).for_each(|key| assert!(writer.add(key, added(shard, key))));
    }
    assert!([0, 1].iter().all(|it| (1..=6).any(|key| bucket(key, 2) == *it)), "both buckets");
    let image = Image::of(keys.region());
    let sum = |key| added(0, key) + added(1, key);
    let all = (1..=6).rev().map(|key| numbers([key, sum(key), sum(key)]));
    let total: u64 = (1..=6).map(sum).sum();
    let seen = region(&image).with("keys", lines(all, 2)).with("unlisted", 0).with("total", total);
    (image, seen)
}

/// Ten keys, and an eleventh that took the place of the first; 7 were added while a writer was in the bucket.
fn top_keys_full() -> (Image, Seen) {
    let keys = TopKeys::create_memfd(1, 1).unwrap();
    let writer = keys.writer(0).unwrap();
    (1..=10).for_each(|key| assert!(writer.add(key, 100 * key)));
    assert!(writer.add(11, 5));
    let mut image = Image::of(keys.region());
    let other = image.geometry.first() * STRIDE + 1;
    image.words[other] = 7;
    let listed = (2..=10).rev().map(|key| [key, 100 * key, 100 * key + 7]).chain([[11, 5, 112]]);
    let seen = region(&image).with("keys", lines(listed.map(numbers), 2)).with("unlisted", 112);
    (image, seen.with("total", 5512))
}

/// A writer died in a bucket.
fn top_keys_busy() -> (Image, Seen) {
    let mut image = Image::new(Kind::TopKeys, 248, 1, 1);
    let seq = image.geometry.first() * STRIDE;
    image.words[seq] = 3;
    let seen = region(&image).with("busy", true);
    (image, seen)
}

/// 3 commands, of which 2 were carried out. A program found words that no owner writes.
fn commands() -> (Image, Seen) {
    let geometry = Geometry::new(Kind::Commands, 16, 4, 1).unwrap();
    let commands =
        Commands::<[u64; 2]>::from_region(Region::create_memfd(geometry, "event").unwrap()).unwrap();
    let writer = commands.writer().unwrap();
    (1..=3).for_each(|number| assert_eq!(writer.push(&[number, 7 * number]).unwrap(), number));
    let mut image = Image::of(commands.region());
    let header = image.geometry.shard(0) * image.geometry.element_words();
    [(1, 2), (3, 1), (4, 0)].into_iter().for_each(|(at, word)| image.words[header + at] = word);
    let seen = region(&image).with("pushed", 3).with("applied", 2).with("skipped", 1);
    (image, seen)
}

/// A reader that sleeps in seat 0, and one in seat 63 that is required and does not read shard 1.
fn of_readers() -> (Image, Seen) {
    let mut image = Image::new(Kind::Readers, 8, 64, 2);
    for (at, word) in [
        (readers::ASLEEP, 1),
        (readers::REQUIRED, 1 << 63),
        (readers::owner(0), owner()),
        (readers::owner(63), owner() - 1),
        (readers::lease(63), 5_000_000_000),
        (readers::position(0, 63), 12),
        (readers::position(1, 63), readers::FOR_GOOD),
    ] {
        image.words[at] = word;
    }
    let seat = |seat, pid, asleep, required, lease: u64, positions| {
        format!(
            "{{\"seat\": {seat}, \"pid\": {pid}, \"asleep\": {asleep}, \"required\": {required}, \"lease\": {lease}, \"positions\": {}}}",
            numbers(positions)
        )
    };
    let [first, last] = [
        seat(0, 4_194_303, 1, 0, 0, [0, 0]),
        seat(63, 4_194_302, 0, 1, 5_000_000_000, [12, readers::FOR_GOOD]),
    ];
    let seen = region(&image).with("seats", lines([first, last], 2));
    (image, seen)
}

/// The copy of one CPU. Only BPF maps have this kind.
fn per_cpu(kind: Kind, record: u64) -> (Image, Seen) {
    let geometry = Geometry::new(kind, record, 8, 1).unwrap();
    let mut image = Image::preamble(geometry);
    image.words.resize(geometry.bytes().max(LINE) / 8, 0);
    (image, Seen::refused("WrongType", "for each CPU"))
}
