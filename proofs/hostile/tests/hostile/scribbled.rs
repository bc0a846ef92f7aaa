//! A process that overwrites live regions of every kind with random words, for `MAPRING_HOSTILE_SECONDS` (default 2),
//! while readers, writers and new readers continue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use mapring::protocol::Words;
use mapring::protocol::ring::{Cursor, Shard, ShardPlace, Step};
use mapring::{
    Cells, Counters, ErrorKind, Gauges, Histograms, Latches, OpenOptions, ReadError, ReadStats, Reader,
    Region, Ring, Start, TopKeys,
};
use mapring_hostile_tests::{Counted, Memory, Neighbour, Record, read_all, read_merged};

use super::images::is_truncated;

const SLOTS: usize = 16;
const SHARDS: usize = 2;

pub(crate) fn time() -> Duration {
    let seconds = std::env::var("MAPRING_HOSTILE_SECONDS").map_or(2.0, |s| s.parse().expect("seconds"));
    Duration::from_secs_f64(seconds)
}

/// The counts of one thread: its rounds, and two other counts.
pub(crate) type Done<'scope> = (&'static str, ScopedJoinHandle<'scope, [u64; 3]>);

/// Runs `round` until `stop`, and at least once.
pub(crate) fn until<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &'static str,
    stop: &'scope AtomicBool,
    mut round: impl FnMut() -> [u64; 2] + Send + 'scope,
) -> Done<'scope> {
    let thread = scope.spawn(move || {
        let mut sum = [0; 3];
        loop {
            let [a, b] = round();
            sum = [sum[0] + 1, sum[1] + a, sum[2] + b];
            if stop.load(Ordering::Relaxed) {
                return sum;
            }
        }
    });
    (name, thread)
}

/// Every operation of a reader, once: counts records delivered, and tickets lost or discarded.
pub(crate) fn read_ring(reader: &mut Reader<Record>) -> [u64; 2] {
    let shards = reader.region().geometry().shards();
    let begin: Vec<_> =
        (0..shards).map(|shard| (reader.position(shard), reader.shard_stats(shard))).collect();
    let limit = shards * (reader.region().geometry().capacity() + 16);
    let mut delivered = reader.drain().count();
    assert!(delivered <= limit, "{delivered} records");
    delivered += usize::from(reader.poll().is_some());
    let some = reader.for_each(3, |_| {});
    assert!(some <= 3, "{some} of 3");
    let all = reader.for_each(usize::MAX, |_| {});
    assert!(all <= limit, "{all} records");
    delivered += some + all;
    let (mut counted, mut passed) = (0, 0_u64);
    for (shard, (position, before)) in begin.into_iter().enumerate() {
        let (before, now) = (before.unwrap(), reader.shard_stats(shard).unwrap());
        let delta = |of: fn(&mapring::ReadStats) -> u64| of(&now).wrapping_sub(of(&before));
        let moved = reader.position(shard).unwrap().wrapping_sub(position.unwrap());
        let other = delta(|stats| stats.lost().wrapping_add(stats.discarded));
        assert_eq!(delta(|stats| stats.delivered).wrapping_add(other), moved, "{before:?} {now:?}");
        counted += delta(|stats| stats.delivered);
        passed = passed.saturating_add(other);
    }
    assert_eq!(counted, delivered as u64);
    [counted, passed.min(1)]
}

/// A reader that counts its reads, from its start through some steps: records, and other steps.
fn count_looks(words: Words<'_>, places: &[ShardPlace]) -> [u64; 2] {
    let mut steps = [0; 2];
    for place in places {
        let mut look = Counted::new(Shard::new(words, place));
        let mut cursor = Cursor::new(&mut look, Start::Oldest, 3);
        for _ in 0..2 * SLOTS {
            assert!(look.looks <= look.limit(), "{} looks", look.looks);
            look.looks = 0;
            let delivered = matches!(cursor.step(&mut look, &mut [0_u64; 3]), Step::Record(_));
            steps[usize::from(!delivered)] += 1;
        }
        assert!(look.looks <= look.limit(), "{} looks", look.looks);
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
        Err(e) if e.kind() == ErrorKind::Preamble || is_truncated(&e) => [0, 1],
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

/// Whether every event happened: records and losses, values and busy cells, opened and refused.
pub(crate) fn proves_something((name, [_, a, b]): &(&str, [u64; 3])) -> bool {
    *a > 0 && (*b > 0 || *name == "latches")
}

#[test]
fn readers_survive_a_neighbour_that_scribbles_everywhere() {
    // On a busy machine, some events do not happen every time.
    for _ in 0..10 {
        let threads = play();
        for (name, [rounds, a, b]) in &threads {
            println!("{name:20} {rounds:>9} rounds: {a} and {b}");
        }
        if threads.iter().all(proves_something) {
            return;
        }
    }
    panic!("nothing to survive");
}

/// Runs everything at the same time for the configured duration. Returns each thread's counts.
fn play() -> Vec<(&'static str, [u64; 3])> {
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
    let stop = AtomicBool::new(false);
    let stop = &stop;
    std::thread::scope(|scope| {
        let scribblers: Vec<_> = (1..)
            .zip(&neighbours)
            .map(|(seed, neighbour)| scope.spawn(move || neighbour.scribble(seed, stop)))
            .collect();

        let mut threads = Vec::new();
        for (name, start, patience) in [
            ("ring, oldest", Start::Oldest, Duration::ZERO),
            ("ring, now", Start::Now, Duration::from_millis(1)),
        ] {
            let ring = &ring;
            let renewed = move || ring.reader_from(start).with_patience(patience);
            let (mut reader, mut rounds) = (renewed(), 0);
            threads.push(until(scope, name, stop, move || {
                rounds += 1;
                // A word that means "2^60 laps ahead" moves a reader there permanently.
                if rounds % 16 == 0 {
                    reader = renewed();
                }
                read_ring(&mut reader)
            }));
        }
        let merged = || ring.reader().merged(|record: &Record| record.n).with_delay(Duration::ZERO);
        let (mut reader, mut rounds) = (merged(), 0);
        threads.push(until(scope, "ring, merged", stop, move || {
            rounds += 1;
            if rounds % 16 == 0 {
                reader = merged();
            }
            let before = reader.stats().read;
            let delivered = read_merged(&mut reader, |_, _, _| {});
            let now = reader.stats().read;
            let passed = |stats: ReadStats| stats.lost().wrapping_add(stats.discarded);
            [delivered, u64::from(passed(before) != passed(now))]
        }));
        threads.push(until(scope, "ring, looks", stop, || count_looks(*neighbours[0].words(), &places)));
        threads.push(until(scope, "ring, new readers", stop, || read_ring(&mut ring.reader())));
        let mut writers = [0, 1].map(|shard| ring.writer(shard).unwrap());
        let mut n = 0;
        threads.push(until(scope, "ring, written", stop, move || {
            n += 1;
            let pushed = writers.iter().filter_map(|writer| writer.push(&Record::new(n))).count();
            if n % 1000 == 0 {
                assert!(writers[0].recover().unwrap() <= SLOTS);
            }
            [pushed as u64, (writers.len() - pushed) as u64]
        }));
        threads.push(until(scope, "cells", stop, || {
            let _ = set.set(0, &Record::new(1)).unwrap();
            assert!(cells.try_snapshot(1).is_ok());
            busy(cells.read(0))
        }));
        threads.push(until(scope, "latches", stop, || {
            latch.set(0, &Record::new(1)).unwrap();
            assert!(latches.try_snapshot(1).is_ok());
            busy(latches.read(0))
        }));
        threads.push(until(scope, "counters", stop, || {
            add.add(2, 1).unwrap();
            let mut sums = [0; 4];
            counters.sums(&mut sums).unwrap();
            assert_eq!(sums[3], 0, "there are three");
            [counters.get(1, 2).map(|_| 1).unwrap(), counters.sum(0).map(|_| 1).unwrap()]
        }));
        threads.push(until(scope, "histograms", stop, || {
            histograms.writer(1).unwrap().add(1, 1 << 40).unwrap();
            let all = histograms.snapshot(1).unwrap();
            assert_eq!(all.count() == 0, all.percentile(99.0).is_none());
            [1, u64::from(all.since(&histograms.snapshot(0).unwrap()).is_some())]
        }));
        let mut gauge = gauges.reader(0).unwrap();
        threads.push(until(scope, "gauges", stop, move || {
            let since = gauge.read().unwrap();
            [1, since.windows.len() as u64]
        }));
        threads.push(until(scope, "top keys", stop, || {
            let counted = top.writer(1).unwrap().add(7, 1);
            match top.largest(5) {
                Ok(ranking) => assert!(ranking.keys.len() <= 5 && ranking.other <= ranking.total),
                Err(e) => assert!(matches!(e, ReadError::Busy { .. }), "{e}"),
            }
            [1, u64::from(counted)]
        }));
        threads.push(until(scope, "newcomers", stop, || {
            regions.iter().map(|region| open_and_read(region)).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
        }));

        let end = Instant::now() + time();
        while Instant::now() < end && !threads.iter().any(|(_, thread)| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let came_to =
            |(name, thread): Done<'_>| (name, thread.join().unwrap_or_else(|_| panic!("{name} panicked")));
        let mut done: Vec<_> = threads.into_iter().map(came_to).collect();
        let written: u64 = scribblers.into_iter().map(|thread| thread.join().unwrap()).sum();
        done.push(("words scribbled", [1, written, written]));
        done
    })
}
