//! A process that overwrites live regions of every kind with random words, for `MAPRING_HOSTILE_SECONDS` (default 2),
//! while readers, writers and new readers continue.

use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring::time::Clock;
use mapring::{
    Cells, Counters, ErrorKind, Gauges, Histograms, Latches, OpenOptions, ReadError, ReadStats, Reader,
    Region, Ring, Start, TopKeys,
};
use mapring_core::protocol::Words;
use mapring_core::protocol::ring::{Cursor, Shard, ShardPlace, Step};
use mapring_hostile_tests::{Counted, Memory, Neighbour, Record, read_all, read_merged};

use super::images::{is_truncated, needs_a_map};
use super::threads::survive;

const SLOTS: usize = 16;
const SHARDS: usize = 2;

/// The positions and counts of a reader before it reads.
pub(crate) struct Before(Vec<(u64, ReadStats)>);

impl Before {
    pub(crate) fn of<T: AnyBitPattern>(reader: &Reader<T>) -> Self {
        let of = |shard| (reader.position(shard).unwrap(), reader.shard_stats(shard).unwrap());
        Self((0..reader.region().geometry().shards()).map(of).collect())
    }

    /// Checks that each ticket that was passed since then was counted once. Returns the count of these that were delivered,
    /// and whether there were others.
    pub(crate) fn check<T: AnyBitPattern>(self, reader: &Reader<T>, delivered: usize) -> [u64; 2] {
        let (mut counted, mut others) = (0, false);
        for (shard, ((position, before), (moved, now))) in self.0.iter().zip(Self::of(reader).0).enumerate() {
            let delta = |of: fn(&ReadStats) -> u64| of(&now).wrapping_sub(of(before));
            let other = delta(|stats| stats.passed().wrapping_sub(stats.delivered));
            let delivered = delta(|stats| stats.delivered);
            let moved = moved.wrapping_sub(*position);
            assert_eq!(delivered.wrapping_add(other), moved, "shard {shard}: {before:?} {now:?}");
            counted += delivered;
            others |= other > 0;
        }
        assert_eq!(counted, delivered as u64);
        [counted, others.into()]
    }
}

/// Every operation of a reader, once: counts records delivered, and tickets lost or discarded.
pub(crate) fn read_ring(reader: &mut Reader<Record>) -> [u64; 2] {
    let geometry = *reader.region().geometry();
    let (before, limit) = (Before::of(reader), geometry.shards() * (geometry.capacity() + 16));
    let mut delivered = reader.drain().count();
    assert!(delivered <= limit, "{delivered} records");
    delivered += usize::from(reader.poll().is_some());
    let some = reader.for_each(3, |_| {});
    assert!(some <= 3, "{some} of 3");
    let all = reader.for_each(usize::MAX, |_| {});
    assert!(all <= limit, "{all} records");
    before.check(reader, delivered + some + all)
}

/// A reader that counts its reads, from its start through some steps: records, and other steps.
fn count_loads(words: Words<'_>, places: &[ShardPlace]) -> [u64; 2] {
    let mut steps = [0; 2];
    for place in places {
        let mut counted = Counted::new(Shard::new(words, place));
        let mut cursor = Cursor::new(&mut counted, Start::Oldest, 3);
        for _ in 0..2 * SLOTS {
            assert!(counted.loads <= counted.limit(), "{} loads", counted.loads);
            counted.loads = 0;
            let delivered = matches!(cursor.step(&mut counted, &mut [0_u64; 3]), Step::Record(_));
            steps[usize::from(!delivered)] += 1;
        }
        assert!(counted.loads <= counted.limit(), "{} loads", counted.loads);
    }
    steps
}

/// A new reader: opens the region, and reads everything. Counts opened, and refused.
fn open_and_read(region: &Region) -> [u64; 2] {
    match OpenOptions::new().open(Memory::of(region).fd()) {
        Ok(region) => {
            read_all(&region, None);
            [1, 0]
        }
        Err(e) if e.kind() == ErrorKind::Preamble || is_truncated(&e) || needs_a_map(&e) => [0, 1],
        Err(other) => panic!("{other:?}"),
    }
}

pub(crate) fn busy<T>(result: Result<T, ReadError>) -> [u64; 2] {
    match result {
        Ok(_) => [1, 0],
        Err(ReadError::Busy { .. }) => [0, 1],
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn readers_survive_a_neighbour_that_scribbles_everywhere() {
    let ring = Ring::<Record>::create_memfd(SLOTS, SHARDS).unwrap();
    let cells = Cells::<Record>::create_memfd(2).unwrap();
    let latches = Latches::<Record>::create_memfd(2).unwrap();
    let counters = Counters::create_memfd(3, 2).unwrap();
    let histograms = Histograms::create_memfd(2, 2).unwrap();
    let gauges = Gauges::create_memfd(1, 2).unwrap();
    let top = TopKeys::create_memfd(1, 2).unwrap();
    let regions = [
        &ring.region(),
        cells.region(),
        latches.region(),
        counters.region(),
        histograms.region(),
        gauges.region(),
        top.region(),
    ];
    let (set, latch, add) = (cells.writer().unwrap(), latches.writer().unwrap(), counters.writer(1).unwrap());
    let neighbours = regions.map(Neighbour::of);
    let places = [0, 1].map(|shard| ShardPlace::new(ring.region().geometry(), shard));
    survive(|threads| {
        threads.scribble(&neighbours);
        for (name, start, patience) in [
            ("ring, oldest", Start::Oldest, Duration::ZERO),
            ("ring, now", Start::Now, Duration::from_millis(1)),
        ] {
            let ring = &ring;
            let renewed = move || ring.reader_from(start).with_patience(patience);
            let (mut reader, mut rounds) = (renewed(), 0);
            threads.run(name, move || {
                rounds += 1;
                // A word that means "2^60 laps ahead" moves a reader there permanently.
                if rounds % 16 == 0 {
                    reader = renewed();
                }
                read_ring(&mut reader)
            });
        }
        let merged = || ring.reader().merged(|record: &Record| record.n).with_delay(Duration::ZERO);
        let (mut reader, mut rounds) = (merged(), 0);
        threads.run("ring, merged", move || {
            rounds += 1;
            if rounds % 16 == 0 {
                reader = merged();
            }
            let before = reader.stats();
            let delivered = read_merged(&mut reader, |_, _, _| {});
            let now = reader.stats();
            let passed = |stats: ReadStats| stats.lost().wrapping_add(stats.discarded);
            [delivered, u64::from(passed(before) != passed(now))]
        });
        threads.run("ring, loads", || count_loads(*neighbours[0].words(), &places));
        threads.run("ring, new readers", || read_ring(&mut ring.reader()));
        let mut writers = [0, 1].map(|shard| ring.writer(shard).unwrap());
        let mut n = 0;
        threads.run("ring, written", move || {
            n += 1;
            let pushed = writers.iter().filter_map(|writer| writer.push(&Record::new(n))).count();
            if n % 1000 == 0 {
                assert!(writers[0].recover().unwrap() <= SLOTS);
            }
            [pushed as u64, (writers.len() - pushed) as u64]
        });
        threads.run("cells", || {
            let _ = set.set(0, &Record::new(1)).unwrap();
            assert!(cells.try_snapshot(1).is_ok());
            busy(cells.read(0))
        });
        threads.run("latches", || {
            latch.set(0, &Record::new(1)).unwrap();
            assert!(latches.try_snapshot(1).is_ok());
            busy(latches.read(0))
        });
        threads.run("counters", || {
            add.add(2, 1).unwrap();
            let mut sums = [0; 4];
            counters.sums(&mut sums).unwrap();
            assert_eq!(sums[3], 0, "there are three");
            [counters.get(1, 2).map(|_| 1).unwrap(), counters.sum(0).map(|_| 1).unwrap()]
        });
        threads.run("histograms", || {
            let before = histograms.snapshot(1).unwrap();
            histograms.writer(1).unwrap().add(1, 1 << 40).unwrap();
            let all = histograms.snapshot(1).unwrap();
            assert_eq!(all.count() == 0, all.percentile(99.0).is_none());
            [1, u64::from(all.since(&before).is_some())]
        });
        let (mut gauge, gauges) = (gauges.reader(0).unwrap(), &gauges);
        threads.run("gauges", move || {
            _ = gauges.writer(1).unwrap().set_at(0, 5, Clock::Monotonic.now()).unwrap();
            [1, gauge.read().unwrap().windows.len() as u64]
        });
        threads.run("top keys", || {
            let counted = top.writer(1).unwrap().add(7, 1);
            match top.largest(5) {
                Ok(ranking) => assert!(ranking.keys.len() <= 5 && ranking.other <= ranking.total),
                Err(e) => assert!(matches!(e, ReadError::Busy { .. }), "{e}"),
            }
            [1, u64::from(counted)]
        });
        threads.run("newcomers", || {
            regions.iter().map(|region| open_and_read(region)).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
        });
    });
}
