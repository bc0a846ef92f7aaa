//! The handles in threads over memory files: a writer's mapping and readers' mappings of the same
//! pages. Made for the sanitizers, which watch every access of this process.
#![cfg(not(miri))] // which knows no memory files

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mapring::writers::LatchesWriter;
use mapring::{Cells, Counters, Latches, OpenOptions, Region, Ring};

type Record = [u64; 7];

const COUNT: u64 = 20_000;

fn record(n: u64) -> Record {
    std::array::from_fn(|i| n.wrapping_mul(2 * i as u64 + 1))
}

/// Now and then it is the readers' turn, even where there are more threads than CPUs.
fn pause(n: u64) {
    if n.is_multiple_of(32) {
        thread::yield_now();
    }
}

/// A mapping of its own of the same memory.
fn again(region: &Region, write: bool) -> Region {
    let fd = region.as_fd().try_clone_to_owned().unwrap();
    OpenOptions::new().write(write).open(fd).unwrap()
}

/// Runs `writers` threads to their end, and beside them `reader` until it has returned `true` after
/// that. Returns how often it was called.
fn beside(writers: u64, write: impl Fn(u64) + Sync, mut reader: impl FnMut() -> bool + Send) -> u64 {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for calls in 1.. {
                let last = done.load(Ordering::Acquire);
                if reader() && last {
                    return calls;
                }
            }
            unreachable!()
        });
        let write = &write;
        let writers: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        assert!(ended.iter().all(Result::is_ok));
        reader.join().unwrap()
    })
}

/// All that a reader finds, by one of its methods.
fn rings(mut take: impl FnMut(&mut mapring::Reader<Record>, &mut dyn FnMut(&Record)) + Send) {
    for slots in [1, 4, 256] {
        let ring = Ring::<Record>::create_memfd(slots, 2).unwrap();
        let mut reader = Ring::<Record>::from_region(again(&ring.region(), false)).unwrap().reader();
        let (mut reads, mut idle) = (0_u64, 0);
        beside(
            4,
            |writer| {
                let region = again(&ring.region(), true);
                let ring = Ring::<Record>::from_region(region).unwrap();
                let writer = ring.writer(usize::try_from(writer % 2).unwrap()).unwrap();
                (0..COUNT / 4).for_each(|n| {
                    pause(n);
                    writer.push(&record(n));
                });
            },
            || {
                let before = reader.position(0).unwrap() + reader.position(1).unwrap();
                take(&mut reader, &mut |read| {
                    assert_eq!(*read, record(read[0]), "torn");
                    reads += 1;
                });
                let now = reader.position(0).unwrap() + reader.position(1).unwrap();
                idle = if now == before { idle + 1 } else { 0 };
                idle > 1 << 17
            },
        );
        let stats = reader.stats();
        let passed = reader.position(0).unwrap() + reader.position(1).unwrap();
        assert_eq!(stats.delivered, reads);
        assert_eq!(stats.passed(), passed);
        assert!(reads > 0, "nothing was delivered");
        println!("explored {reads} records of {slots} slots: {stats:?}");
    }
}

#[test]
fn rings_by_poll() {
    rings(|reader, f| {
        std::iter::from_fn(|| reader.poll().map(|event| event.record)).take(64).for_each(|record| f(&record))
    });
}

#[test]
fn rings_by_for_each() {
    rings(|reader, f| _ = reader.for_each(usize::MAX, |event| f(event.record)));
}

#[test]
fn rings_by_drain() {
    rings(|reader, f| reader.drain().for_each(|event| f(&event.record)));
}

#[test]
fn cells_of_two_writers() {
    let cells = Cells::<Record>::create_memfd(2).unwrap();
    let region = again(cells.region(), false);
    let reader = Cells::<Record>::from_region(region).unwrap();
    let (mut versions, mut reads) = ([0; 2], 0_u64);
    beside(
        2,
        |_| {
            let writer = cells.writer().unwrap();
            (0..COUNT).for_each(|n| {
                pause(n);
                writer.set(usize::from(n % 2 == 1), &record(n)).unwrap();
            });
        },
        || {
            for (index, version) in versions.iter_mut().enumerate() {
                let Some(snapshot) = reader.try_snapshot(index).unwrap() else { return false };
                assert_eq!(snapshot.value, record(snapshot.value[0]), "torn");
                assert!(snapshot.version >= *version);
                *version = snapshot.version;
                reads += 1;
            }
            true
        },
    );
    assert_eq!(versions.iter().sum::<u64>() + cells.region().dropped().unwrap(), 2 * COUNT);
    println!("explored {reads} looks at cells");
}

/// A value that takes long enough to write that its writers meet, on any machine.
type Large = [u64; 512];

fn large(n: u64) -> Large {
    std::array::from_fn(|i| n.wrapping_mul(2 * i as u64 + 1))
}

/// Two threads that write one latch, by the writers that `writers` gives them, and a reader beside them.
fn latches(writers: fn(&Latches<Large>) -> [Arc<LatchesWriter<Large>>; 2]) {
    let latches = Latches::<Large>::create_memfd(1).unwrap();
    let reader = Latches::<Large>::from_region(again(latches.region(), false)).unwrap();
    let (mut last, mut reads) = (0, 0_u64);
    let writers = writers(&latches);
    beside(
        2,
        |writer| {
            let writer = &writers[usize::try_from(writer).unwrap()];
            (0..COUNT / 4).for_each(|n| writer.set(0, &large(n)).unwrap());
        },
        || {
            let Some(snapshot) = reader.try_snapshot(0).unwrap() else { return false };
            assert!(snapshot.value == large(snapshot.value[0]), "a mixture is version {}", snapshot.version);
            assert!(snapshot.version >= last);
            last = snapshot.version;
            reads += 1;
            true
        },
    );
    assert_eq!(last, COUNT / 2, "each write counts");
    println!("explored {reads} looks at a latch");
}

#[test]
fn latches_of_one_writer() {
    latches(|latches| {
        let writer = Arc::new(latches.writer().unwrap());
        [Arc::clone(&writer), writer]
    });
}

#[test]
fn latches_of_two_writers_of_one_handle() {
    latches(|latches| [(); 2].map(|()| Arc::new(latches.writer().unwrap())));
}

#[test]
fn latches_of_two_writers_that_opened_them_apart() {
    latches(|latches| {
        [(); 2].map(|()| {
            let latches = Latches::from_region(again(latches.region(), true)).unwrap();
            Arc::new(latches.writer().unwrap())
        })
    });
}

#[test]
fn counters_of_two_writers() {
    let counters = Counters::create_memfd(3, 2).unwrap();
    let reader = Counters::from_region(again(counters.region(), false)).unwrap();
    let (mut last, mut reads) = (0, 0_u64);
    beside(
        4,
        |writer| {
            let writer = counters.writer(usize::try_from(writer % 2).unwrap()).unwrap();
            (0..COUNT).for_each(|_| writer.add(1, 2).unwrap());
        },
        || {
            let sum = reader.sum(1).unwrap();
            assert!(sum >= last);
            last = sum;
            reads += 1;
            true
        },
    );
    assert_eq!(last, 8 * COUNT);
    println!("explored {reads} sums");
}
