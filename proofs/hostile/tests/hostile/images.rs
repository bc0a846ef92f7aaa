//! Static images: regions of every kind with a corrupt preamble, corrupt content, or random bytes. Each run tests
//! `MAPRING_HOSTILE_IMAGES` new images of each sort (default 1000); a failing image is shrunk and printed.

use std::cell::Cell;

use bytemuck::AnyBitPattern;
use fastrand::Rng;
use mapring::abi::gauge::GAUGE;
use mapring::abi::histogram::HISTOGRAM;
use mapring::abi::seq::{DISCARDED, Slots};
use mapring::abi::top::BUCKET;
use mapring::abi::{Geometry, Kind, LINE, Preamble, WORD};
use mapring::{Error, ErrorKind, OpenOptions, Region};
use mapring_core::protocol::Words;
use mapring_core::protocol::ring::{Cursor, Shard, ShardPlace, SlotSource, Start, Step};
use mapring_hostile_tests::{Counted, Memory, Reads, forge, hostile_word, read_all};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Runs `test` with the configured number of images, and prints that number.
pub(crate) fn with_images<S: Strategy>(sort: &str, images: &S, test: impl Fn(S::Value)) {
    let cases = std::env::var("MAPRING_HOSTILE_IMAGES").map_or(1000, |n| n.parse().expect("a number"));
    let run = Cell::new(0_u32);
    // Shrinking finds the smallest image, which is in the message; nothing is kept in a file.
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let outcome = TestRunner::new(config).run(images, |image| {
        run.set(run.get() + 1);
        test(image);
        Ok::<(), TestCaseError>(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{sort}: {} images", run.get());
}

/// Words with a meaning, nearly with a meaning, or random.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..64,
        2 => (0_u64..64).prop_map(|n| DISCARDED | n),
        2 => (0_u64..64).prop_map(|n| u64::MAX - n),
        2 => (0_u32..64, 0_u64..3).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add(off).wrapping_sub(1)),
        1 => any::<u64>(),
    ]
}

/// Tickets where arithmetic could overflow.
fn ticket() -> impl Strategy<Value = u64> {
    let near = |around: u64| (0_u64..80).prop_map(move |n| around.wrapping_sub(40).wrapping_add(n));
    prop_oneof![4 => 0_u64..200, 1 => near(1 << 32), 1 => near(1 << 62), 1 => near(1 << 63), 1 => near(0)]
}

fn shape() -> impl Strategy<Value = Geometry> {
    let record = prop::sample::select(vec![1_u64, 8, 13, 24, 264]);
    let kinds = vec![
        Kind::Ring,
        Kind::Ring,
        Kind::Cells,
        Kind::Counters,
        Kind::Latches,
        Kind::Histograms,
        Kind::Commands,
        Kind::Gauges,
        Kind::TopKeys,
    ];
    let kind = prop::sample::select(kinds);
    (kind, record, 0_u32..6, 1_u64..10, 1_u64..4).prop_map(|(kind, record, bits, count, shards)| {
        let geometry = match kind {
            Kind::Ring => Geometry::new(kind, record, 1 << bits, shards),
            Kind::Counters => Geometry::new(kind, WORD as u64, count, shards),
            Kind::Histograms => Geometry::new(kind, HISTOGRAM as u64, count.min(2), shards),
            Kind::Commands => Geometry::new(kind, record, 1 << bits, 1),
            Kind::Gauges => Geometry::new(kind, GAUGE as u64, 1, shards.min(2)),
            Kind::TopKeys => Geometry::new(kind, BUCKET as u64, 1 << bits, shards),
            _ => Geometry::new(kind, record, count, 1),
        };
        geometry.unwrap()
    })
}

/// A region as plain words.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) geometry: Geometry,
    pub(crate) words: Vec<u64>,
}

/// Fills each shard of a ring as its producers leave it before ticket `end`.
fn fill_ring(geometry: &Geometry, words: &mut [u64], end: u64) {
    let slots = Slots::new(u32::try_from(geometry.capacity()).unwrap()).unwrap();
    for shard in 0..geometry.shards() {
        words[geometry.shard(shard) * geometry.element_words()] = end;
        for back in 1..=slots.count() {
            let t = end.wrapping_sub(back);
            let at = (geometry.slots(shard) + slots.of(t)) * geometry.element_words();
            words[at] = slots.published(t);
        }
    }
}

/// A valid preamble, followed by any content; a ring may have been valid before some of its words were corrupted. All
/// other words come from a seed, or are zero.
pub(crate) fn contents() -> impl Strategy<Value = Image> {
    shape().prop_flat_map(|geometry| {
        let all = geometry.bytes() / WORD;
        let spoilt = vec((Preamble::WORDS..all, word()), 0..12);
        (Just(geometry), prop::option::of(any::<u64>()), prop::option::weighted(0.7, ticket()), spoilt)
            .prop_map(move |(geometry, seed, end, spoilt)| {
                let mut rng = Rng::with_seed(seed.unwrap_or_default());
                let mut words: Vec<_> =
                    (0..all).map(|_| seed.map_or(0, |_| hostile_word(&mut rng))).collect();
                if let (Kind::Ring, Some(end)) = (geometry.kind(), end) {
                    fill_ring(&geometry, &mut words, end);
                }
                for (at, word) in spoilt {
                    words[at] = word;
                }
                let preamble = Preamble { geometry, generation: words[7], name: "image".into() };
                words[..Preamble::WORDS].copy_from_slice(&preamble.encode());
                Image { geometry, words }
            })
    })
}

pub(crate) fn open(bytes: &[u8], sealed: bool, options: OpenOptions) -> Result<Region, Error> {
    options.open(forge(bytes, sealed))
}

#[test]
fn contents_of_any_kind_are_read_to_the_end() {
    let reads = Cell::new(Reads::default());
    with_images("contents", &contents(), |image| {
        let region = open(bytemuck::cast_slice(&image.words), true, OpenOptions::new()).unwrap();
        assert_eq!(*region.geometry(), image.geometry);
        let mut sum = reads.get();
        sum += read_all(&region, Some(&image.words));
        reads.set(sum);
        assert_eq!(Memory::of(&region).words(), image.words, "readers write nothing");
    });
    let reads = reads.get();
    println!("{reads:?}");
    assert!(reads.values > 0 && reads.passed > 0 && reads.busy > 0 && reads.compared > 0, "{reads:?}");
}

#[test]
fn no_step_takes_more_than_a_few_dozen_looks() {
    let most = Cell::new(0);
    let rings = contents().prop_filter("rings", |image| image.geometry.kind() == Kind::Ring);
    with_images("rings, loads counted", &rings, |image| {
        // Of exactly this size, so that a sanitizer detects a read beyond the last word.
        let words = shared(&image.words);
        for shard in 0..image.geometry.shards() {
            let place = ShardPlace::new(&image.geometry, shard);
            let shard = Shard::new(Words::new(&words), &place);
            for start in [Start::Oldest, Start::Now] {
                let loads = match image.geometry.record() {
                    1 => most_looks::<u8>(shard, start),
                    8 => most_looks::<u64>(shard, start),
                    13 => most_looks::<[u8; 13]>(shard, start),
                    24 => most_looks::<[u64; 3]>(shard, start),
                    _ => most_looks::<[[u64; 11]; 3]>(shard, start),
                };
                most.set(most.get().max(loads));
            }
        }
    });
    println!("at most {} loads a step", most.get());
    assert!(most.get() > 2);
}

/// The number of reads in the most expensive step from `start` through `shard`. Every step is within the limit, and
/// none moves backward.
fn most_looks<T: AnyBitPattern>(shard: Shard<'_>, start: Start) -> u64 {
    let mut counted = Counted::new(shard);
    let mut cursor = Cursor::new(&mut counted, start, 3);
    let mut most = 0;
    let mut record = T::zeroed();
    for _ in 0..4 * counted.slots().count() {
        assert!(counted.loads <= counted.limit(), "{} loads", counted.loads);
        most = most.max(counted.loads);
        counted.loads = 0;
        let before = cursor.next();
        let step = cursor.step(&mut counted, &mut record);
        let moved = cursor.next().wrapping_sub(before);
        match step {
            Step::Record(ticket) => assert_eq!((ticket, moved), (before, 1)),
            Step::Moved => assert!(moved < 1 << 63, "from {before} back to {}", cursor.next()),
            Step::Empty => assert_eq!(moved, 0),
        }
        // The calls' own cost, in units of 16 reads.
        let (loads, cost) = (counted.loads, u64::from(cursor.cost()));
        assert!(matches!(step, Step::Record(_)) || loads <= 16 * cost, "{loads} loads cost {cost}");
    }
    most
}

#[allow(clippy::disallowed_types)] // the types behind `Words`
fn shared(words: &[u64]) -> Vec<std::sync::atomic::AtomicU64> {
    words.iter().map(|&word| word.into()).collect()
}

/// A valid region with some words of the preamble corrupted, or without its end.
pub(crate) fn spoilt_preambles() -> impl Strategy<Value = (Image, i64, bool)> {
    let spoilt = vec((0..Preamble::WORDS, word(), any::<bool>()), 0..3);
    (contents(), spoilt, -200_i64..80, any::<bool>()).prop_map(|(mut image, spoilt, tail, sealed)| {
        for (at, word, near) in spoilt {
            let old = image.words[at];
            image.words[at] = if near { old ^ (1 << (word % 8)) } else { word };
        }
        (image, tail, sealed)
    })
}

#[test]
fn a_spoilt_preamble_is_a_typed_error_or_another_region() {
    let outcomes = Cell::new([0_u64; 5]);
    with_images("preambles", &spoilt_preambles(), |(image, tail, sealed)| {
        let mut bytes = bytemuck::cast_slice::<u64, u8>(&image.words).to_vec();
        let len = bytes.len().saturating_add_signed(isize::try_from(tail.min(0)).unwrap());
        bytes.resize(len.saturating_add_signed(isize::try_from(tail.max(0)).unwrap()), 0xa5);
        let mut count = outcomes.get();
        count[outcome(&bytes, sealed)] += 1;
        outcomes.set(count);
    });
    let outcomes = outcomes.get();
    println!("opened, preamble, truncated, unsealed, other: {outcomes:?}");
    assert!(outcomes[..4].iter().all(|&count| count > 0), "{outcomes:?}");
}

/// Each bit of the words for the kind of a region and for its gate has a meaning, or is an error: a newer version may give it a
/// meaning that readers must know.
#[test]
fn what_this_version_does_not_know_is_a_typed_error() {
    let kinds = [Kind::Ring, Kind::Cells, Kind::Counters, Kind::Latches, Kind::Commands];
    let shapes = kinds.map(|kind| Geometry::new(kind, 8, 16, 1).unwrap());
    let ring = shapes[0];
    let known = [ring.of_cpu().unwrap(), ring.resizable().unwrap()];
    let (mut opened, mut refused) = (0, 0);
    for geometry in shapes.into_iter().chain(known) {
        // The largest of them, or one with the table of its readers.
        let words = ring.resizable().unwrap().bytes() / WORD + 64 + mapring::abi::readers::words(1);
        let mut words = vec![0; words];
        let preamble = Preamble { geometry, generation: 1, name: "image".into() };
        words[..Preamble::WORDS].copy_from_slice(&preamble.encode());
        for (at, bit) in [2, Preamble::LINK, 14].into_iter().flat_map(|at| (0..64).map(move |bit| (at, bit)))
        {
            let mut words = words.clone();
            words[at] ^= 1 << bit;
            match open(bytemuck::cast_slice(&words), true, OpenOptions::new()) {
                // Another kind of region, or the same one retired; readers ignore the rest of a gate.
                Ok(region) => {
                    opened += 1;
                    let mut known = region.preamble().encode();
                    known[14] = if region.retired().unwrap() { 3 } else { known[14] & 0xff };
                    let says = if at == 14 { words[14] & 0xff } else { words[at] };
                    // Only readers that wait follow a link.
                    assert!(at == Preamble::LINK || known[at] == says, "{geometry:?}, word {at}, bit {bit}");
                }
                Err(e) if e.kind() == ErrorKind::Preamble => refused += 1,
                Err(e) if needs_a_map(&e) => assert!(words[2] == 5 || words[2] == 6),
                Err(other) => panic!("{geometry:?}, word {at}, bit {bit}: {other:?}"),
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > 400);
}

#[test]
fn bytes_that_are_no_region_are_a_typed_error() {
    let magic = prop::option::of(Just(Preamble::MAGIC));
    let bytes = (magic, vec(any::<u8>(), 0..1024), any::<bool>());
    with_images("raw bytes", &bytes, |(magic, mut bytes, sealed)| {
        if let (Some(magic), Some(start)) = (magic, bytes.first_chunk_mut()) {
            *start = magic.to_ne_bytes();
        }
        outcome(&bytes, sealed);
    });
}

/// The result of opening these bytes; reads everything in a region that opens.
fn outcome(bytes: &[u8], sealed: bool) -> usize {
    match open(bytes, sealed, OpenOptions::new()) {
        Ok(region) => {
            assert!(sealed && region.geometry().bytes() <= bytes.len());
            let words = Memory::of(&region).words();
            read_all(&region, Some(&words));
            0
        }
        Err(e) if e.kind() == ErrorKind::Preamble => 1,
        Err(e) if is_truncated(&e) => {
            assert!(
                e.to_string().contains(&format!(" has {} bytes, expected at least ", bytes.len())),
                "{e}"
            );
            2
        }
        Err(e) if is_unsealed(&e) => {
            assert!(!sealed);
            match open(bytes, sealed, OpenOptions::new().allow_unsealed(true)) {
                Ok(region) => {
                    read_all(&region, None);
                }
                Err(e) if e.kind() == ErrorKind::Preamble || is_truncated(&e) => {}
                Err(e) if needs_a_map(&e) && is_per_cpu(bytes) => {}
                Err(other) => panic!("{other:?}"),
            }
            3
        }
        Err(e) if needs_a_map(&e) && is_per_cpu(bytes) => 4,
        Err(other) => panic!("{other:?}"),
    }
}

/// Whether the preamble marks the region as per-CPU. No memfd is per-CPU, so it is refused.
fn is_per_cpu(bytes: &[u8]) -> bool {
    matches!(bytes[16], 5 | 6)
}

#[test]
fn the_largest_shapes_do_not_overflow() {
    // A preamble may claim anything; the file's length decides.
    let numbers = [0, 1, 2, 3, 8, LINE as u64, 1 << 20, 1 << 29, 1 << 31, 1 << 32, 1 << 63, u64::MAX];
    let mut tried = 0;
    for kind in 0..10 {
        for record in numbers {
            for capacity in numbers {
                for shards in numbers {
                    let mut words = vec![0; 64];
                    words[..6].copy_from_slice(&[Preamble::MAGIC, 1, kind, record, capacity, shards]);
                    // The matching element size, if one exists.
                    let geometry = Kind::from_raw(kind)
                        .and_then(|kind| Geometry::new(kind, record, capacity, shards).ok());
                    words[6] = geometry.map_or(8, |geometry| geometry.element() as u64);
                    outcome(bytemuck::cast_slice(&words), true);
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} shapes");
}

/// Whether the region has fewer bytes than its preamble says.
pub(crate) fn is_truncated(error: &Error) -> bool {
    error.kind() == ErrorKind::Contradiction && error.to_string().contains(" bytes, expected at least ")
}

/// Whether another process can shrink the region.
pub(crate) fn is_unsealed(error: &Error) -> bool {
    error.kind() == ErrorKind::Untrusted && error.to_string().contains(" is not sealed against resizing ")
}

/// Whether regions of this kind exist in BPF maps only.
pub(crate) fn needs_a_map(error: &Error) -> bool {
    error.kind() == ErrorKind::WrongType
        && error.to_string().contains(" is not a BPF map, expected percpu_array; ")
}
