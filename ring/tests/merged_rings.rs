//! Several rings of different types, read in one order: ties, idle rings, stuck writers, floods, tails, sleeps.
#![allow(missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mapring::abi::Tails;
use mapring::reading::ByTime;
use mapring::time::Clock;
use mapring::writers::MemfdOptions;
use mapring::{Event, Merged, Reader, Ring};

const SETTLE: Duration = Reader::<()>::SETTLE;

/// Stamp, shard, number.
type Three = [u64; 3];
/// Number, stamp.
type Two = [u64; 2];

type ByStamp<T> = ByTime<T, fn(&T) -> u64>;

/// Ring, shard and stamp of each record, and its number.
type Seen = Vec<(usize, usize, u64, u64)>;

fn threes(ring: &Ring<Three>) -> Reader<Three, ByStamp<Three>> {
    ring.reader().with_patience(Duration::MAX).merged(|record| record[0])
}

fn three(ring: usize) -> impl FnMut(&mut Seen, Event<&Three, &[u8]>) + Send {
    move |seen, event| seen.push((ring, event.shard, event.record[0], event.record[2]))
}

fn twos(ring: &Ring<Two>) -> Reader<Two, ByStamp<Two>> {
    ring.reader().with_patience(Duration::MAX).merged(|record| record[1])
}

fn two(ring: usize) -> impl FnMut(&mut Seen, Event<&Two, &[u8]>) + Send {
    move |seen, event| seen.push((ring, event.shard, event.record[1], event.record[0]))
}

/// Pseudo-random numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32).unwrap() % limit
    }
}

#[test]
fn any_number_of_rings_is_merged_in_order() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let shapes: Vec<_> = (0..numbers.below(6)).map(|_| 1 + numbers.below(5)).collect();
        let rings: Vec<_> =
            shapes.iter().map(|shards| Ring::<Three>::create_memfd(1024, *shards).unwrap()).collect();
        let mut expected = Seen::new();
        for n in 0..if rings.is_empty() { 0 } else { 1000 } {
            // Many equal stamps; most records in the first rings.
            let ring = numbers.below(rings.len()).min(numbers.below(rings.len()));
            let shard = numbers.below(shapes[ring]);
            rings[ring].writer(shard).unwrap().push(&[n / 4, shard as u64, n]).unwrap();
            expected.push((ring, shard, n / 4, n));
        }
        expected.sort_by_key(|&(ring, shard, stamp, n)| (stamp, ring, shard, n));
        let mut merged = Merged::new(Clock::Monotonic);
        for (at, ring) in rings.iter().enumerate() {
            merged = merged.with(threes(ring), three(at));
        }
        let mut seen = Seen::new();
        loop {
            let limit = 1 + numbers.below(200);
            let before = seen.len();
            let count = merged.for_each(&mut seen, limit);
            assert!(count <= limit && seen.len() == before + count);
            if count == 0 {
                break;
            }
        }
        assert_eq!(seen, expected, "seed {seed}");
        for ring in 0..rings.len() {
            let (reader, of) = (merged.reader(ring), expected.iter().filter(|record| record.0 == ring));
            let stats = reader.stats();
            assert_eq!((stats.delivered, stats.lost(), stats.late), (of.count() as u64, 0, 0));
        }
        assert!(!merged.stopped_early() && !merged.wait(Duration::ZERO).unwrap());
    }
}

/// As when the loader of one ring starts again.
#[test]
fn a_ring_takes_the_place_of_another() {
    let few = Ring::<Two>::create_memfd(64, 1).unwrap();
    let [old, new] = [(); 2].map(|()| Ring::<Three>::create_memfd(64, 1).unwrap());
    let (few_writer, old_writer) = (few.writer(0).unwrap(), old.writer(0).unwrap());
    let mut both = Merged::new(Clock::Monotonic).with(threes(&old), three(0)).with(twos(&few), two(1));
    let mut seen = Seen::new();
    old_writer.push(&[10, 0, 1]).unwrap();
    few_writer.push(&[2, 20]).unwrap();
    assert_eq!(both.for_each(&mut seen, usize::MAX), 2);
    both.replace(0, Merged::new(Clock::Monotonic).with(threes(&new), three(2)));
    old_writer.push(&[25, 0, 3]).unwrap();
    few_writer.push(&[4, 40]).unwrap();
    for record in [[15, 0, 5], [30, 0, 6]] {
        new.writer(0).unwrap().push(&record).unwrap();
    }
    assert_eq!(both.for_each(&mut seen, usize::MAX), 3);
    assert_eq!(seen, [(0, 0, 10, 1), (1, 0, 20, 2), (2, 0, 15, 5), (2, 0, 30, 6), (1, 0, 40, 4)]);
    let stats = [0, 1].map(|ring| both.reader(ring).stats());
    assert_eq!(stats.map(|stats| (stats.delivered, stats.late)), [(2, 1), (2, 0)]);
    assert_eq!([0, 1].map(|shard| both.reader(0).position(shard)), [Some(2), None]);
}

/// Ends the writers, also if the reader panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Records of the ring `flood` overwrite each other; none of the other ring is lost, and all are in order.
#[test]
fn a_flood_overwrites_its_own_ring_only() {
    const COUNT: usize = 20_000;
    const SLOTS: usize = 1024;
    let few = Ring::<Two>::create_memfd(SLOTS, 2).unwrap();
    let flood = Ring::<Three>::create_memfd(64, 2).unwrap();
    let mut both = Merged::new(Clock::Monotonic)
        .with(twos(&few).with_delay(Duration::MAX), two(0))
        .with(threes(&flood).with_delay(Duration::MAX), three(1));
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    // How many records of each shard were read: the writers of the few don't lap the reader.
    let next = [const { AtomicUsize::new(0) }; 2];
    let (mut last, mut count) = (0, 0);
    let mut seen = Seen::new();
    let mut read = |both: &mut Merged<'_, Seen>| {
        let found = both.for_each(&mut seen, 10_000);
        for (ring, shard, stamp, n) in seen.drain(..) {
            assert!(stamp >= last, "{stamp} of ring {ring} after {last}");
            last = stamp;
            if ring == 0 {
                assert_eq!(n, next[shard].fetch_add(1, Ordering::Relaxed) as u64, "shard {shard}");
                count += 1;
            }
        }
        (found, count)
    };
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for (shard, read) in next.iter().enumerate() {
            let (few, flood) = (few.writer(shard).unwrap(), flood.writer(shard).unwrap());
            let (stop, written) = (&stop, &written);
            scope.spawn(move || {
                for n in 0..COUNT {
                    while n - read.load(Ordering::Relaxed) >= SLOTS / 2 && !stop.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    let mut slot = few.reserve().unwrap();
                    slot.write(&[n as u64, Clock::Monotonic.now()]);
                    slot.commit();
                }
                written.fetch_add(1, Ordering::Relaxed);
            });
            scope.spawn(move || {
                for n in 0.. {
                    let Some(mut slot) = flood.reserve() else { continue };
                    slot.write(&[Clock::Monotonic.now(), shard as u64, n]);
                    slot.commit();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        while written.load(Ordering::Relaxed) < 2 || both.reader(1).stats().lapped == 0 {
            read(&mut both);
        }
    });
    std::thread::sleep(SETTLE);
    while read(&mut both).0 > 0 {}
    let [important, flood] = [0, 1].map(|ring| both.reader(ring).stats());
    assert_eq!(read(&mut both), (0, 2 * COUNT));
    assert_eq!((important.lost(), important.dropped(), important.late, flood.late), (0, 0, 0, 0));
    let losses = both.reader_mut(1).take_losses();
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), flood.lost() + flood.dropped());
    assert!(both.reader_mut(0).take_losses().is_empty());
}

#[test]
fn a_record_that_is_being_written_holds_back_all_rings_for_the_delay() {
    let (a, b) = (Ring::<Two>::create_memfd(64, 1).unwrap(), Ring::<Three>::create_memfd(64, 1).unwrap());
    let (to_a, to_b) = (a.writer(0).unwrap(), b.writer(0).unwrap());
    let mut both = Merged::new(Clock::Monotonic)
        .with(twos(&a).with_delay(Duration::MAX), two(0))
        .with(threes(&b).with_delay(Duration::MAX), three(1));
    let mut seen = Seen::new();
    let mut open = to_a.reserve().unwrap();
    let early = Clock::Monotonic.now();
    to_b.push(&[Clock::Monotonic.now(), 0, 1]);
    std::thread::sleep(2 * SETTLE);
    assert_eq!(both.for_each(&mut seen, usize::MAX), 0);
    assert!(!both.wait(Duration::from_millis(1)).unwrap());
    open.write(&[0, early]);
    open.commit();
    assert!(both.wait(Duration::MAX).unwrap());
    assert_eq!(both.for_each(&mut seen, usize::MAX), 2);
    assert_eq!(seen.iter().map(|record| record.3).collect::<Vec<_>>(), [0, 1]);

    // Not for longer than the delay. Then it is late, although it is the first one of its ring.
    let mut both = Merged::new(Clock::Monotonic)
        .with(twos(&a).with_delay(Duration::from_millis(1)), two(0))
        .with(threes(&b), three(1));
    both.for_each(&mut seen, usize::MAX);
    seen.clear();
    let mut open = to_a.reserve().unwrap();
    let early = Clock::Monotonic.now();
    let begun = Instant::now();
    to_b.push(&[Clock::Monotonic.now(), 0, 2]);
    assert!(both.wait(Duration::MAX).unwrap() && begun.elapsed() >= Duration::from_millis(1));
    assert_eq!(both.for_each(&mut seen, 1), 1);
    open.write(&[3, early]);
    open.commit();
    while both.for_each(&mut seen, 1) == 0 {}
    assert_eq!(seen.iter().map(|record| (record.0, record.3)).collect::<Vec<_>>(), [(1, 2), (0, 3)]);
    let [a, b] = [0, 1].map(|ring| both.reader(ring).stats().late);
    assert_eq!((a, b), (1, 0));
}

/// A ring without records does not hold back the other one; a wait ends soon after a record, in whichever ring.
#[test]
fn a_wait_ends_with_a_record_of_any_ring() {
    let a = Ring::<Two>::create_memfd_with(64, 3, MemfdOptions::default().wakeable()).unwrap();
    let b = Ring::<Three>::create_memfd(64, 1).unwrap();
    let mut both = Merged::new(Clock::Monotonic).with(twos(&a), two(0)).with(threes(&b), three(1));
    assert!(!both.wait(Duration::from_millis(5)).unwrap());
    assert!(both.arm().is_some_and(|limit| limit <= Reader::<()>::NAP));
    for n in 0..20 {
        let mut seen = Seen::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(2));
                let now = Clock::Monotonic.now();
                if n % 2 == 0 {
                    a.writer(n % 3).unwrap().push(&[n as u64, now]);
                } else {
                    b.writer(0).unwrap().push(&[now, 0, n as u64]);
                }
            });
            assert!(both.wait(Duration::MAX).unwrap());
        });
        assert_eq!((both.for_each(&mut seen, usize::MAX), seen[0].3), (1, n as u64));
    }
    assert!(format!("{both:?}").starts_with("Merged { clock: Monotonic, rings: ["), "{both:?}");
}

#[test]
fn tails_are_delivered_with_their_records() {
    let tails = MemfdOptions::default().tails(Tails::new(64, 4096).unwrap());
    let a = Ring::<Two>::create_memfd_with(64, 1, tails).unwrap();
    let b = Ring::<Three>::create_memfd(64, 1).unwrap();
    let write = |n: u64| {
        if n.is_multiple_of(3) {
            a.writer(0).unwrap().push_with_tail(&[n, n], &n.to_ne_bytes());
        } else {
            b.writer(0).unwrap().push(&[n, 0, n]);
        }
    };
    let mut both = Merged::<Vec<(u64, Vec<u8>)>>::new(Clock::Monotonic)
        .with(twos(&a), |seen, event| seen.push((event.record[0], event.tail.to_vec())))
        .with(threes(&b), |seen, event| seen.push((event.record[2], event.tail.to_vec())));
    (0..40).for_each(write);
    let mut seen = Vec::new();
    assert_eq!(both.for_each(&mut seen, usize::MAX), 40);
    let tail = |n: u64| if n.is_multiple_of(3) { n.to_ne_bytes().to_vec() } else { Vec::new() };
    assert_eq!(seen, (0..40).map(|n| (n, tail(n))).collect::<Vec<_>>());
    assert_eq!([0, 1].map(|ring| both.reader(ring).stats().delivered), [14, 26]);
    assert!(both.reader_mut(0).take_error().is_none());
}
