//! Merged reading between the threads of one process: order, ties, idle shards, stuck writers, wrong clocks.
#![allow(missing_docs)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapring::reading::ByTime;
use mapring::time::Clock;
use mapring::writers::Slot;
use mapring::{Reader, Ring, Writer};

/// Stamp, shard, number.
type Item = [u64; 3];

/// How many programs of a shard can be between reserve and stamp.
const OPEN: usize = mapring::Reader::<()>::OPEN;
const SETTLE: Duration = mapring::Reader::<()>::SETTLE;

fn writers(ring: &Ring<Item>) -> Vec<Writer<Item>> {
    (0..ring.shards()).map(|shard| ring.writer(shard).unwrap()).collect()
}

type Merged<F> = Reader<Item, ByTime<Item, F>>;

fn by_stamp(reader: Reader<Item>) -> Merged<fn(&Item) -> u64> {
    reader.merged(|item| item[0])
}

/// Records that have nothing to wait for.
fn poll_all<F: FnMut(&Item) -> u64>(merged: &mut Merged<F>, count: usize) -> Vec<Item> {
    (0..count).map(|n| merged.poll().unwrap_or_else(|| panic!("record {n} of {count}")).record).collect()
}

/// Pseudo-random numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32) % limit
    }
}

#[test]
fn two_to_1024_shards_are_merged_in_order() {
    for shards in [1, 2, 3, 7, 64, 1000, 1024] {
        let ring = Ring::<Item>::create_memfd(256, shards).unwrap();
        let (writers, mut numbers) = (writers(&ring), Numbers(shards as u64));
        let mut expected = Vec::new();
        // Many equal stamps; some shards stay empty.
        for stamp in 1..=shards as u64 * 20 {
            let shard = numbers.below(shards as u64).min(numbers.below(shards as u64));
            let item = [stamp / 3, shard, stamp];
            writers[usize::try_from(shard).unwrap()].push(&item);
            expected.push(item);
        }
        expected.sort_unstable();
        let mut merged = by_stamp(ring.reader());
        let found: Vec<_> = merged.drain().map(|event| event.record).collect();
        assert_eq!(found, expected, "{shards} shards");
        let stats = merged.stats();
        assert_eq!(stats.delivered, expected.len() as u64);
        assert_eq!((stats.lost(), stats.late, stats.ahead, stats.held), (0, 0, 0, 0));
    }
}

#[test]
fn every_way_of_reading_has_the_same_order() {
    let ring = Ring::<Item>::create_memfd(4096, 3).unwrap();
    let (writers, mut numbers) = (writers(&ring), Numbers(9));
    for stamp in 0..9000 {
        let shard = numbers.below(3);
        writers[usize::try_from(shard).unwrap()].push(&[stamp, shard, stamp]);
    }
    let [mut drained, mut each, mut polled] = [(); 3].map(|()| by_stamp(ring.reader()));
    let drained: Vec<_> = drained.drain().map(|event| (event.shard, event.ticket, event.record)).collect();
    assert_eq!(drained.len(), 9000);
    assert!(drained.is_sorted_by_key(|(_, _, item)| item[0]));
    assert!(drained.iter().all(|&(shard, _, item)| shard as u64 == item[1]));
    let mut found = Vec::new();
    while each.for_each(7, |event| found.push((event.shard, event.ticket, *event.record))) == 7 {}
    assert_eq!(found, drained);
    let polled = std::iter::from_fn(|| polled.poll().map(|event| (event.shard, event.ticket, event.record)));
    assert_eq!(polled.collect::<Vec<_>>(), drained);
}

/// Programs that are interrupted between reserve and stamp, up to [`OPEN`] at a time and each for a long time, while
/// many others write: tickets in one order, stamps in another.
#[test]
fn nested_programs_are_delivered_in_the_order_of_their_stamps() {
    let ring = Ring::<Item>::create_memfd(4096, 2).unwrap();
    let (writers, mut numbers) = (writers(&ring), Numbers(3));
    let mut open: Vec<Slot<'_, Item>> = Vec::new();
    let mut expected = Vec::new();
    for stamp in 0..6000 {
        // The last one that began ends first.
        if open.len() < OPEN && numbers.below(40) == 0 {
            open.push(writers[0].reserve().unwrap());
        } else if numbers.below(80) == 0
            && let Some(mut slot) = open.pop()
        {
            slot.write(&[stamp, 0, 1]);
            slot.commit();
            expected.push([stamp, 0, 1]);
        } else {
            let shard = numbers.below(2);
            writers[usize::try_from(shard).unwrap()].push(&[stamp, shard, 0]);
            expected.push([stamp, shard, 0]);
        }
    }
    for (mut slot, stamp) in open.into_iter().rev().zip(6000..) {
        slot.write(&[stamp, 0, 1]);
        slot.commit();
        expected.push([stamp, 0, 1]);
    }
    let long_ago = expected.iter().filter(|item| item[2] == 1).count();
    assert!(long_ago > OPEN, "{long_ago} programs were interrupted");
    let mut merged = by_stamp(ring.reader());
    let found: Vec<_> = merged.drain().map(|event| event.record).collect();
    assert_eq!(found, expected);
    assert_eq!(merged.stats().late, 0);
}

/// More of them than [`OPEN`] at a time: some records are late, all are delivered, and the count is right.
#[test]
fn more_nested_programs_than_that_are_late_and_counted() {
    let ring = Ring::<Item>::create_memfd(4096, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    let open: Vec<_> = (0..100).map(|_| writer.reserve().unwrap()).collect();
    for stamp in 0..1000 {
        writer.push(&[stamp, 0, 0]);
    }
    for (mut slot, stamp) in open.into_iter().zip(1000..) {
        slot.write(&[stamp, 0, 1]);
        slot.commit();
    }
    let mut merged = by_stamp(ring.reader());
    let found: Vec<_> = merged.drain().map(|event| event.record[0]).collect();
    let mut last = 0;
    let late = found.iter().filter(|&&stamp| {
        let late = stamp < last;
        last = last.max(stamp);
        late
    });
    let late = late.count() as u64;
    assert!(late > 0);
    assert_eq!(merged.stats().late, late);
    let mut sorted = found;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1100).collect::<Vec<_>>());
}

#[test]
fn idle_shards_hold_nothing_back() {
    let ring = Ring::<Item>::create_memfd(64, 512).unwrap();
    let writers = writers(&ring);
    let mut merged = by_stamp(ring.reader()).with_delay(Duration::MAX);
    for stamp in 0..100 {
        writers[300].push(&[stamp, 300, 0]);
        assert_eq!(poll_all(&mut merged, 1), [[stamp, 300, 0]]);
    }
}

#[test]
fn a_record_that_is_being_written_holds_back_later_ones() {
    let ring = Ring::<Item>::create_memfd(64, 3).unwrap();
    let writers = writers(&ring);
    let mut merged = by_stamp(ring.reader()).with_delay(Duration::MAX);
    let mut slow = writers[1].reserve().unwrap();
    writers[0].push(&[20, 0, 0]);
    writers[2].push(&[5, 2, 0]);
    for _ in 0..100 {
        assert_eq!(merged.poll(), None);
    }
    assert_eq!(merged.stats().held, 2);
    assert_eq!(merged.stats().delivered, 0, "records that are held were not passed yet");
    slow.write(&[10, 1, 0]);
    slow.commit();
    assert_eq!(poll_all(&mut merged, 3).map_stamps(), [5, 10, 20]);
    assert_eq!((merged.stats().late, merged.stats().held), (0, 0));
}

#[test]
fn after_the_delay_others_go_ahead_and_the_record_is_late() {
    let ring = Ring::<Item>::create_memfd(64, 2).unwrap();
    let writers = writers(&ring);
    let mut merged =
        by_stamp(ring.reader().with_patience(Duration::MAX)).with_delay(Duration::from_secs(3600));
    let mut slow = writers[1].reserve().unwrap();
    let now = Clock::Monotonic.now();
    writers[0].push(&[now, 0, 0]);
    for _ in 0..100 {
        assert_eq!(merged.poll(), None);
    }
    // The same stamps, with a delay that is over.
    let mut merged = merged.with_delay(Duration::ZERO);
    while merged.poll().is_none() {} // until the clock is after the stamp
    slow.write(&[now - 1, 1, 0]);
    slow.commit();
    assert_eq!(poll_all(&mut merged, 1).map_stamps(), [now - 1]);
    let stats = merged.stats();
    assert_eq!((stats.late, stats.delivered, stats.lost()), (1, 2, 0));
    assert_eq!(stats.to_string(), "2 delivered, 0 lost, 0 dropped, 1 late");
}

/// A writer that died holds back a shard for ever, but others only for the delay. Once later records of its shard are
/// present, its ticket is lost.
#[test]
fn a_dead_writer_holds_back_nothing_for_ever() {
    let ring = Ring::<Item>::create_memfd(64, 2).unwrap();
    let writers = writers(&ring);
    std::mem::forget(writers[1].reserve().unwrap());
    writers[1].push(&[1, 1, 0]);
    writers[0].push(&[2, 0, 0]);
    let mut merged = by_stamp(ring.reader().with_patience(Duration::ZERO)).with_delay(Duration::MAX);
    assert_eq!(poll_all(&mut merged, 2).map_stamps(), [1, 2]);
    let stats = merged.stats();
    assert_eq!((stats.skipped, stats.late), (1, 0));
}

#[test]
fn stamps_of_another_clock_are_delivered_and_counted() {
    let ring = Ring::<Item>::create_memfd(64, 2).unwrap();
    let writers = writers(&ring);
    let mut merged = by_stamp(ring.reader()).with_delay(Duration::MAX);
    writers[0].push(&[u64::MAX, 0, 0]);
    writers[0].push(&[u64::MAX - 1, 0, 0]);
    writers[1].push(&[7, 1, 0]);
    let mut found = Vec::new();
    while found.len() < 3 {
        found.extend(merged.poll().map(|event| event.record[0]));
    }
    // `u64::MAX` and the number below it are one stamp.
    assert_eq!((found[0], merged.stats().ahead, merged.stats().late), (7, 2, 0));
    // What comes after them is not late.
    writers[0].push(&[Clock::Monotonic.now(), 0, 0]);
    while merged.poll().is_none() {}
    assert_eq!(merged.stats().late, 0);
}

/// Threads write at the same time, each into its own shard, and stamp after the reserve: the order is exact.
#[test]
fn writers_on_all_cpus_are_merged_exactly() {
    const COUNT: u64 = 100_000;
    let ring = Ring::<Item>::create_memfd(1 << 14, 4).unwrap();
    let mut merged = by_stamp(ring.reader().with_patience(Duration::MAX)).with_delay(Duration::MAX);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads = (0..3).map(|shard| {
            let writer = ring.writer(shard).unwrap();
            scope.spawn(move || {
                for n in 0..COUNT {
                    let mut slot = writer.reserve().unwrap();
                    slot.write(&[Clock::Monotonic.now(), shard as u64, n]);
                    slot.commit();
                    if n % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        let done = &done;
        scope.spawn(move || {
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            done.store(true, Ordering::Release);
        });
        let (mut last, mut next, mut met) = ([0, 0, 0], [0; 3], 0);
        let passed = |merged: &Reader<_, ByTime<_, _>>| {
            let stats = merged.stats();
            stats.delivered + stats.lost()
        };
        while !done.load(Ordering::Acquire) || passed(&merged) < 3 * COUNT {
            merged.for_each(1000, |event| {
                let &item = event.record;
                assert!(item[0] >= last[0], "{item:?} after {last:?}");
                met += u64::from(item[1] != last[1]);
                last = item;
                let shard = usize::try_from(item[1]).unwrap();
                assert!(item[2] >= next[shard], "{item:?} twice");
                next[shard] = item[2] + 1;
            });
        }
        assert!(met > 10, "the writers' records met {met} times");
    });
    let stats = merged.stats();
    assert_eq!((stats.late, stats.ahead, stats.held), (0, 0, 0));
    assert_eq!(stats.delivered + stats.lost(), 3 * COUNT, "{stats}");
}

trait Stamps {
    fn map_stamps(&self) -> Vec<u64>;
}

impl Stamps for Vec<Item> {
    fn map_stamps(&self) -> Vec<u64> {
        self.iter().map(|item| item[0]).collect()
    }
}

#[test]
fn it_waits_for_the_turn_of_a_record() {
    let ring = Ring::<Item>::create_memfd(64, 2).unwrap();
    let writers = writers(&ring);
    let mut merged = by_stamp(ring.reader());
    assert!(!merged.wait(Duration::ZERO).unwrap());
    assert!(!merged.wait(Duration::from_millis(3)).unwrap());
    let push = |stamp: u64| writers[1].push(&[stamp, 1, 0]).unwrap();
    assert!(merged.arm().is_some() && merged.bell().is_err(), "the ring wakes nobody");
    // The turn of this one comes when the clock is `SETTLE` after its stamp.
    push(Clock::Monotonic.now());
    while let Some(limit) = merged.arm() {
        assert!(merged.stats().held == 0 || limit == SETTLE);
        std::thread::sleep(limit);
    }
    assert!(merged.wait(Duration::MAX).unwrap());
    assert!(merged.wait(Duration::ZERO).unwrap(), "it is still there");
    assert_eq!(merged.poll().unwrap().shard, 1);
    assert!(!merged.wait(Duration::ZERO).unwrap());

    // A record that is being written holds it back, at most for the delay.
    let held = writers[0].reserve().unwrap();
    push(Clock::Monotonic.now());
    assert!(merged.wait(Duration::MAX).unwrap());
    assert_eq!(merged.poll().unwrap().shard, 1);
    drop(held);

    std::thread::scope(|scope| {
        scope.spawn(|| (0..1000).for_each(|_| _ = push(Clock::Monotonic.now())));
        let mut left = 1000;
        while left > 0 {
            assert!(merged.wait(Duration::MAX).unwrap());
            left -= merged.for_each(usize::MAX, |_| ()) as u64 + lost(&mut merged);
        }
    });
    let stats = merged.stats();
    assert_eq!((stats.late, stats.ahead, stats.held), (0, 0, 0), "{stats}");
}

/// What it lost since the last call.
fn lost<F: FnMut(&Item) -> u64>(merged: &mut Merged<F>) -> u64 {
    merged.take_losses().iter().map(|loss| loss.count).sum()
}

#[test]
fn ticket_order_holds_whatever_the_stamps() {
    for shards in [1, 2, 5] {
        let ring = Ring::<Item>::create_memfd(64, shards).unwrap();
        let (writers, mut numbers) = (writers(&ring), Numbers(7));
        let mut merged = by_stamp(ring.reader()).with_ticket_order();
        let (mut next, mut written) = (vec![0; shards], 0);
        for _ in 0..200 {
            for _ in 0..numbers.below(40) {
                let shard = usize::try_from(numbers.below(shards as u64)).unwrap();
                let stamps = [numbers.below(1000), 0, Clock::Monotonic.now(), u64::MAX];
                let stamp = stamps[usize::try_from(numbers.below(4)).unwrap()];
                writers[shard].push(&[stamp, shard as u64, written]).unwrap();
                written += 1;
            }
            while next.iter().sum::<u64>() < written {
                if let Some(event) = merged.poll() {
                    assert_eq!(event.ticket, std::mem::replace(&mut next[event.shard], event.ticket + 1));
                }
            }
        }
        assert_eq!(merged.stats().lost(), 0);
    }
    // Across shards, records in order stay in order.
    let ring = Ring::<Item>::create_memfd(64, 2).unwrap();
    let writers = writers(&ring);
    for (shard, stamp) in [(0, 10), (1, 20), (0, 5), (1, 30), (0, 40)] {
        writers[shard].push(&[stamp, shard as u64, 0]);
    }
    let mut merged = by_stamp(ring.reader()).with_ticket_order();
    let stamps: Vec<_> = merged.drain().map(|event| event.record[0]).collect();
    assert_eq!(stamps, [10, 5, 20, 30, 40]);
}
