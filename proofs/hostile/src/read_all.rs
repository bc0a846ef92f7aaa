//! Reads everything in a region of unknown content. Checks that this takes no more steps than guaranteed, and that
//! skipped records are counted.

use bytemuck::{AnyBitPattern, NoUninit};
use mapring::abi::gauge::WINDOWS;
use mapring::abi::histogram::{BUCKETS, STRIDE, values};
use mapring::abi::seq::Slots;
use mapring::abi::top::WAYS;
use mapring::abi::{Geometry, Kind};
use mapring::any::AnyRecord;
use mapring::reading::Order;
use mapring::{
    Cells, Commands, Counters, Gauges, Histogram, Histograms, Latches, OpenOptions, ReadError, Reader,
    Region, Ring, Start, TopKeys,
};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::merged::{beside_itself, merged};

/// The result of reading a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Records delivered and values read.
    pub values: u64,
    /// Tickets passed without a record.
    pub passed: u64,
    /// Cells that were being written.
    pub busy: u64,
    /// Merged readers that got what another reader got.
    pub compared: u64,
}

impl std::ops::Add for Reads {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            values: self.values + other.values,
            passed: self.passed.wrapping_add(other.passed),
            busy: self.busy + other.busy,
            compared: self.compared + other.compared,
        }
    }
}

impl std::ops::AddAssign for Reads {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The words of the slot of `ticket`, in the image of a ring.
pub fn slot_words<'w>(geometry: &Geometry, words: &'w [u64], shard: usize, ticket: u64) -> &'w [u64] {
    let slots = u32::try_from(geometry.capacity()).ok().and_then(Slots::new).expect("a ring's");
    let at = (geometry.slots(shard) + slots.of(ticket)) * geometry.element_words();
    &words[at..at + geometry.element_words()]
}

/// Reads everything from `region` in every way. With `image`, the words of a region that has no writer, it compares
/// each value with them.
///
/// # Panics
/// Panics if a bound is exceeded, a count is wrong, or a value differs from the memory.
pub fn read_all(region: &Region, image: Option<&[u64]>) -> Reads {
    let record = region.geometry().record();
    let reads = match record {
        1 => typed::<u8>(region, image),
        8 => typed::<u64>(region, image),
        13 => typed::<[u8; 13]>(region, image) + any::<1>(region, image),
        24 => typed::<[u64; 3]>(region, image),
        // More words than readers keep in registers.
        264 => typed::<[[u64; 11]; 3]>(region, image) + any::<32>(region, image),
        _ if region.geometry().kind() == Kind::Histograms => {
            histograms(&Histograms::from_region(region.clone()).expect("histograms"), image)
        }
        _ if region.geometry().kind() == Kind::Gauges => {
            gauges(&Gauges::from_region(region.clone()).expect("gauges"))
        }
        _ if region.geometry().kind() == Kind::TopKeys => {
            top_keys(&TopKeys::from_region(region.clone()).expect("top keys"))
        }
        _ => Reads::default(),
    };
    // None of these types has the size of the record, and each must return an error.
    assert!(Ring::<[u8; 7]>::from_region(region.clone()).is_err() || record == 7);
    assert!(Cells::<[u8; 7]>::from_region(region.clone()).is_err() || record == 7);
    assert!(Latches::<[u8; 7]>::from_region(region.clone()).is_err() || record == 7);
    assert!(Commands::<[u8; 7]>::from_region(region.clone()).is_err() || record == 7);
    reads
}

/// The same as [`typed`], with records that may be larger than the region's.
fn any<const N: usize>(region: &Region, image: Option<&[u64]>) -> Reads {
    if !matches!(region.geometry().kind(), Kind::Ring | Kind::Cells | Kind::Latches) {
        return Reads::default();
    }
    let fd = region.as_fd().try_clone_to_owned().expect("a descriptor");
    let region = OpenOptions::new().allow_unsealed(true).any_record().open(fd).expect("opened before");
    typed::<AnyRecord<N>>(&region, image)
}

fn typed<T: AnyBitPattern + NoUninit + Send>(region: &Region, image: Option<&[u64]>) -> Reads {
    match region.geometry().kind() {
        Kind::Ring => ring::<T>(&Ring::from_region(region.clone()).expect("of this size"), image),
        Kind::Cells => cells::<T>(&Cells::from_region(region.clone()).expect("of this size"), image),
        Kind::Latches => latches::<T>(&Latches::from_region(region.clone()).expect("of this size"), image),
        Kind::Counters => counters(&Counters::from_region(region.clone()).expect("counters"), image),
        Kind::Commands => commands::<T>(&Commands::from_region(region.clone()).expect("of this size"), image),
        other => panic!("a new kind: {other}"),
    }
}

fn ring<T: AnyBitPattern + NoUninit + Send>(ring: &Ring<T>, image: Option<&[u64]>) -> Reads {
    let mut reads = Reads::default();
    for start in [Start::Oldest, Start::Now] {
        for patience in [Duration::ZERO, Duration::from_millis(1)] {
            let mut reader = ring.reader_from(start).with_patience(patience);
            let begin = positions(&reader);
            let mut delivered = 0;
            let limit = ring.shards() * (ring.slots() + 16);
            let mut last = vec![None; ring.shards()];
            let mut turns = 0;
            let mut check = |cpu: usize, ticket, record: &T| {
                let Some(image) = image else { return };
                let slot = slot_words(ring.region().geometry(), image, cpu, ticket);
                assert_value(record, &slot[1..], &ring.region(), ticket);
                let before = last[cpu].replace(ticket);
                // Sequences near both ends of the number range can make a reader wrap around.
                turns += usize::from(before >= Some(ticket));
            };
            for _ in 0..3 {
                let drained = reader.drain().inspect(|event| check(event.shard, event.ticket, &event.record));
                let drained = drained.count();
                assert!(drained <= limit, "{drained} records");
                delivered += drained;
                if let Some(event) = reader.poll() {
                    check(event.shard, event.ticket, &event.record);
                    delivered += 1;
                }
                let some = reader.for_each(5, |event| check(event.shard, event.ticket, event.record));
                assert!(some <= 5, "{some} of 5");
                let all = reader.for_each(usize::MAX, |event| check(event.shard, event.ticket, event.record));
                assert!(all <= limit, "{all} records");
                delivered += some + all;
            }
            conserved(&reader, &begin);
            let stats = reader.stats();
            assert_eq!(stats.delivered, delivered as u64);
            if image.is_some() {
                // Nothing changes, so each slot delivers at most one record per turn, and no record is torn.
                assert!(delivered <= (ring.shards() + turns) * ring.slots(), "{delivered} records");
                assert_eq!(stats.torn, 0);
            }
            let listed = reader.take_losses();
            if image.is_some() {
                let listed = listed.iter().fold(0, |sum: u64, loss| sum.wrapping_add(loss.count));
                assert_eq!(listed, stats.lost().wrapping_add(stats.dropped()));
            }
            assert!(reader.take_error().is_none());
            let _ = reader.stats().dropped();
            let before = positions(&reader);
            reader.for_each_newest(|event| assert!(event.shard < ring.shards()));
            assert_eq!(positions(&reader), before);
            let mut stamps = 0;
            reader.skip_before(u64::MAX / 2, |record| {
                stamps += 1;
                bytemuck::bytes_of(record)
                    .iter()
                    .fold(0, |hash: u64, byte| hash.rotate_left(9) ^ u64::from(*byte))
            });
            assert!(stamps <= ring.shards() * 32, "{stamps} stamps");
            assert!(reader.drain().count() <= limit);
            reads += Reads {
                values: stats.delivered,
                passed: stats.passed().wrapping_sub(stats.delivered),
                ..Reads::default()
            };
        }
    }
    reads.values += beside_itself(ring);
    reads + merged(ring, image)
}

pub(crate) fn positions<T: AnyBitPattern, O: Order<T>>(reader: &Reader<T, O>) -> Vec<u64> {
    (0..).map_while(|shard| reader.position(shard)).collect()
}

/// Whether each shard's counts add up to its progress from `begin`.
pub(crate) fn conserved<T: AnyBitPattern, O: Order<T>>(reader: &Reader<T, O>, begin: &[u64]) {
    for (shard, (begin, now)) in begin.iter().zip(positions(reader)).enumerate() {
        let stats = reader.shard_stats(shard).expect("a shard");
        let passed = stats.passed();
        assert_eq!(passed, now.wrapping_sub(*begin), "shard {shard}: {stats:?}");
    }
}

/// The words of element `index` of a table.
fn element<'w>(geometry: &Geometry, words: &'w [u64], index: usize) -> &'w [u64] {
    let at = (geometry.first() + index) * geometry.element_words();
    &words[at..at + geometry.element_words()]
}

/// What follows the region's record in an [`AnyRecord`] can have any value.
pub(crate) fn assert_value<T: NoUninit>(value: &T, words: &[u64], of: &Region, version: u64) {
    let (bytes, len): (&[u8], _) = (bytemuck::cast_slice(words), of.geometry().record());
    assert_eq!(bytemuck::bytes_of(value)[..len], bytes[..len], "ticket or version {version}");
}

fn cells<T: AnyBitPattern + NoUninit>(cells: &Cells<T>, image: Option<&[u64]>) -> Reads {
    let mut reads = Reads::default();
    for index in 0..cells.len() {
        let words = image.map(|words| element(cells.region().geometry(), words, index));
        let once = cells.try_snapshot(index).expect("a cell");
        match (cells.snapshot(index), words) {
            (Ok(snapshot), Some(words)) => {
                assert_eq!((words[0] % 2, snapshot.version), (0, words[0] / 2));
                assert_value(&snapshot.value, &words[1..], cells.region(), words[0]);
                assert_eq!(once.map(|s| s.version), Some(snapshot.version));
                reads.values += 1;
            }
            (Ok(_), None) => reads.values += 1,
            (Err(ReadError::Busy { tries }), words) => {
                assert_eq!(tries, Cells::<T>::MAX_TRIES);
                assert!(words.is_none_or(|words| words[0] % 2 == 1 && once.is_none()));
                reads.busy += 1;
            }
            (Err(other), _) => panic!("{other}"),
        }
    }
    assert!(matches!(cells.read(cells.len()), Err(ReadError::Index { .. })));
    reads
}

fn latches<T: AnyBitPattern + NoUninit>(latches: &Latches<T>, image: Option<&[u64]>) -> Reads {
    let mut reads = Reads::default();
    for index in 0..latches.len() {
        match latches.snapshot(index) {
            Ok(snapshot) => {
                reads.values += 1;
                let Some(image) = image else { continue };
                let words = element(latches.region().geometry(), image, index);
                assert_eq!(snapshot.version, words[0]);
                let copy =
                    if words[0].is_multiple_of(2) { &words[1..] } else { &words[1 + words.len() / 2..] };
                assert_value(&snapshot.value, copy, latches.region(), words[0]);
            }
            Err(ReadError::Busy { tries }) => {
                assert!(image.is_none() && tries == Latches::<T>::MAX_TRIES);
                reads.busy += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(matches!(latches.read(latches.len()), Err(ReadError::Index { .. })));
    reads
}

fn counters(counters: &Counters, image: Option<&[u64]>) -> Reads {
    let mut reads = Reads::default();
    let mut sums = vec![0; counters.len()];
    counters.sums(&mut sums).expect("mapped");
    for (index, &all) in sums.iter().enumerate() {
        let each = (0..counters.shards()).map(|cpu| counters.get(cpu, index).expect("a counter"));
        let sum = each.fold(0, u64::wrapping_add);
        let at_once = counters.sum(index).expect("a counter");
        reads.values += counters.shards() as u64;
        let Some(image) = image else { continue };
        let geometry = counters.region().geometry();
        let words =
            (0..counters.shards()).map(|cpu| image[geometry.shard(cpu) * geometry.element_words() + index]);
        assert_eq!([sum, at_once, all], [words.fold(0, u64::wrapping_add); 3]);
    }
    assert!(matches!(counters.sum(counters.len()), Err(ReadError::Index { .. })));
    assert!(matches!(counters.get(counters.shards(), 0), Err(ReadError::Index { .. })));
    reads
}

fn histograms(histograms: &Histograms, image: Option<&[u64]>) -> Reads {
    let mut reads = Reads::default();
    let mut before = Histogram::new();
    for index in 0..histograms.len() {
        let all = histograms.snapshot(index).expect("a histogram");
        let each: Vec<_> = (0..histograms.shards())
            .map(|cpu| histograms.snapshot_of(cpu, index).expect("a histogram"))
            .collect();
        reads.values += 1 + each.len() as u64;
        assert_eq!(all.count() == 0, all.percentile(50.0).is_none());
        assert!(all.mean().is_none_or(f64::is_finite) && all.to_string().lines().count() <= 65);
        assert!(all.buckets().all(|(values, count)| values.start() <= values.end() && count > 0));
        let _ = all.since(&before);
        before.merge(&all);
        let Some(image) = image else { continue };
        let geometry = histograms.region().geometry();
        let mut sums = [0_u64; BUCKETS];
        for (cpu, histogram) in each.iter().enumerate() {
            let words = &image[geometry.shard(cpu) * geometry.element_words() + index * STRIDE..][..BUCKETS];
            assert_eq!(counts(words), histogram.buckets().collect::<Vec<_>>());
            sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
        assert_eq!(counts(&sums), all.buckets().collect::<Vec<_>>());
    }
    assert!(matches!(histograms.snapshot(histograms.len()), Err(ReadError::Index { .. })));
    assert!(matches!(histograms.snapshot_of(histograms.shards(), 0), Err(ReadError::Index { .. })));
    reads
}

fn gauges(gauges: &Gauges) -> Reads {
    let mut reads = Reads::default();
    for index in 0..gauges.len() {
        let windows = gauges.windows(index).expect("a gauge");
        assert!(windows.len() <= WINDOWS * gauges.shards());
        assert!(
            windows.is_sorted_by(|a, b| a.ns < b.ns) && windows.iter().all(|window| window.min <= window.max)
        );
        let mut reader = gauges.reader(index).expect("a gauge");
        for _ in 0..2 {
            let since = reader.read().expect("mapped");
            assert!(since.windows.len() <= WINDOWS * gauges.shards() && since.min() <= since.max());
        }
        reads.values += 3;
    }
    assert!(matches!(gauges.windows(gauges.len()), Err(ReadError::Index { .. })));
    reads
}

fn top_keys(top: &TopKeys) -> Reads {
    for k in [0, 3, usize::MAX] {
        match top.largest(k) {
            Ok(ranking) => {
                assert!(ranking.keys.len() <= k.min(WAYS * top.buckets() * top.shards()));
                assert!(
                    ranking.keys.is_sorted_by(|a, b| a.count >= b.count) && ranking.other <= ranking.total
                );
                assert!(ranking.keys.iter().all(|top| top.error <= top.count));
            }
            Err(e) => {
                assert!(matches!(e, ReadError::Busy { .. }), "{e}");
                return Reads { busy: 1, ..Reads::default() };
            }
        }
    }
    Reads { values: 3, ..Reads::default() }
}

/// The non-empty buckets.
fn counts(words: &[u64]) -> Vec<(std::ops::RangeInclusive<u64>, u64)> {
    let filled = words.iter().enumerate().filter(|(_, count)| **count != 0);
    filled.map(|(bucket, count)| (values(bucket), *count)).collect()
}

fn commands<T: AnyBitPattern>(commands: &Commands<T>, image: Option<&[u64]>) -> Reads {
    let read = [commands.pushed(), commands.acknowledged(), commands.skipped()].map(|n| n.expect("mapped"));
    let owner = commands.owner().expect("mapped");
    if let Some(image) = image {
        let geometry = commands.region().geometry();
        let header = &image[geometry.first() * geometry.element_words()..][..8];
        assert_eq!(read, [header[0], header[1], header[3]]);
        assert_eq!(owner.map_or(0, u64::from), header[4] % (1 << 22));
    }
    Reads { values: read.len() as u64, ..Reads::default() }
}
