//! Records with tails over memfds, by any number of writers: each tail is whole or counted.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapring::abi::Tails;
use mapring::reading::LossCause;
use mapring::writers::MemfdOptions;
use mapring::{Event, Ring};

type Record = [u64; 2];

fn ring(slots: usize, shards: usize, longest: u64, bytes: u64) -> Ring<Record> {
    Ring::create_memfd_with(slots, shards, MemfdOptions::default().tails(Tails::new(longest, bytes).unwrap()))
        .unwrap()
}

/// The tail of record `n`, of any length.
fn tail(n: u64) -> Vec<u8> {
    let len = n.wrapping_mul(0x9e37_79b9) % 301;
    (0..len).map(|i| u8::try_from((n * 31 + i * 7) % 256).unwrap()).collect()
}

#[test]
fn tails_are_delivered_with_their_records() {
    let ring = ring(8, 2, 300, 4096);
    let writer = ring.writer(1).unwrap();
    let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
    let mut other = Ring::<Record>::open(fd).unwrap().reader();
    let mut reader = ring.reader();
    for n in 0..1000 {
        assert_eq!(writer.push_with_tail(&[n, 7], &tail(n)), Some(n));
        let event = reader.poll().unwrap();
        assert_eq!((event.shard, event.ticket, event.record, event.tail), (1, n, [n, 7], &tail(n)[..]));
        assert!(reader.poll().is_none());
    }
    assert_eq!((reader.stats().delivered, reader.lost()), (1000, 0));
    let mut seen = Vec::new();
    let calls = other.for_each(usize::MAX, |event| {
        assert_eq!(event.tail, tail(event.record[0]));
        seen.push(event.ticket);
    });
    assert_eq!((seen.len(), seen.last()), (calls, Some(&999)));
    let stats = other.stats();
    assert_eq!((stats.delivered, stats.delivered + stats.lost()), (calls as u64, 1000));
}

#[test]
fn merged_readers_deliver_tails_in_order() {
    let ring = ring(256, 3, 300, 1 << 14);
    let writers: Vec<_> = (0..3).map(|shard| ring.writer(shard).unwrap()).collect();
    let by_number = || ring.reader().merged(|record| record[0]);
    let (mut polled, mut each) = (by_number(), by_number());
    assert!(!polled.wait(Duration::ZERO).unwrap() && polled.poll().is_none());
    for n in 0..90 {
        // Three of a shard follow each other, the next shard is any.
        let shard = (n / 3 * 7 % 11 % 3) as usize;
        assert!(writers[shard].push_with_tail(&[n, shard as u64], &tail(n)).is_some());
    }
    let mut next = 0;
    let mut check = |event: Event<[u64; 2], &[u8]>| {
        assert_eq!((event.record, event.tail), ([next, event.shard as u64], &tail(next)[..]));
        next += 1;
    };
    while polled.wait(Duration::ZERO).unwrap() {
        check(polled.poll().unwrap());
    }
    assert_eq!((next, polled.stats().delivered, polled.stats().held), (90, 90, 0));

    // Tails that are overwritten while the reader holds their records are lost, and counted.
    assert_eq!(each.for_each(1, |event| assert_eq!(event.record[0], 0)), 1);
    assert_eq!(each.stats().held, 89);
    for n in 90..400 {
        assert!(writers[0].push_with_tail(&[n, 0], &tail(n)).is_some());
    }
    let mut whole = 1;
    while each.wait(Duration::ZERO).unwrap() {
        whole += each.for_each(usize::MAX, |event| assert_eq!(event.tail, tail(event.record[0])));
    }
    let stats = each.stats();
    assert!(stats.tail_lost > 0, "{stats}");
    assert_eq!((stats.delivered, stats.delivered + stats.lost()), (whole as u64, 400), "{stats}");
    let losses = each.take_losses();
    let lost = losses.iter().filter(|loss| loss.cause == LossCause::TailLost);
    assert_eq!(lost.map(|loss| loss.count).sum::<u64>(), stats.tail_lost);
}

#[test]
fn a_tail_that_is_too_long_is_refused_and_counted() {
    let ring = ring(8, 1, 300, 1024);
    let writer = ring.writer(0).unwrap();
    assert_eq!(writer.push_with_tail(&[0, 0], &[1; 301]), None);
    assert_eq!(writer.push_with_tail(&[1, 0], &[1; 300]), Some(0));
    assert_eq!(writer.push_with_tail(&[2, 0], &[]), Some(1));
    let mut reader = ring.reader();
    assert_eq!(reader.poll().unwrap().tail, [1; 300]);
    assert_eq!(reader.poll().unwrap().tail, []);
    let stats = reader.stats();
    assert_eq!((stats.too_long, stats.dropped()), (1, 1));
    assert_eq!(stats.to_string(), "2 delivered, 0 lost, 1 dropped (1 tail too long)");
}

#[test]
fn a_tail_that_was_overwritten_is_lost_with_its_own_cause() {
    let ring = ring(64, 1, 300, 1024);
    let writer = ring.writer(0).unwrap();
    (0..40)
        .for_each(|n| assert_eq!(writer.push_with_tail(&[n, 0], &[u8::try_from(n).unwrap(); 300]), Some(n)));
    let mut reader = ring.reader();
    let mut seen = Vec::new();
    while let Some(event) = reader.poll() {
        assert_eq!(event.tail, [u8::try_from(event.ticket).unwrap(); 300]);
        seen.push(event.ticket);
    }
    // The records are all present, but their tails have space for three.
    assert_eq!(seen, [37, 38, 39]);
    let stats = reader.stats();
    assert_eq!((stats.delivered, stats.tail_lost, stats.lost(), stats.lapped), (3, 37, 37, 0));
    assert_eq!(reader.lost(), 37);
    assert_eq!(reader.shard_stats(0).unwrap(), stats);
    assert_eq!(stats.to_string(), "3 delivered, 37 lost (37 tail overwritten), 0 dropped");
}

#[test]
fn tails_are_empty_where_a_ring_or_a_writer_has_none() {
    let plain = plain_ring();
    let writer = plain.writer(0).unwrap();
    assert_eq!(writer.push_with_tail(&[1; 2], &[]), Some(0));
    assert_eq!(writer.push_with_tail(&[2; 2], &[7]), None, "longer than the longest");
    let mut slot = writer.reserve().unwrap();
    slot.write(&[3; 2]);
    assert!(slot.write_tail(&[]) && !slot.write_tail(&[7]));
    assert_eq!(slot.commit(), Some(1));
    let mut reader = plain.reader();
    let records: Vec<_> = std::iter::from_fn(|| reader.poll().map(|e| (e.record[0], e.tail.len()))).collect();
    assert_eq!((records, reader.stats().dropped()), (vec![(1, 0), (3, 0)], 1));

    let ring = ring(8, 1, 300, 1024);
    let writer = ring.writer(0).unwrap();
    assert_eq!(writer.push(&[1; 2]), Some(0));
    let mut slot = writer.reserve().unwrap();
    slot.write(&[2; 2]);
    assert!(slot.write_tail(&[8; 3]) && !slot.write_tail(&[9; 301]) && slot.write_tail(&[7; 5]));
    assert_eq!(slot.commit(), Some(1));
    let mut unwritten = writer.reserve().unwrap();
    assert!(unwritten.write_tail(&[1; 200]));
    assert_eq!(unwritten.commit(), None, "without a record it is discarded");
    let (mut reader, mut found) = (ring.reader(), Vec::new());
    reader.for_each(usize::MAX, |event| found.push((event.record[0], event.tail.to_vec())));
    assert_eq!(found, [(1, vec![]), (2, vec![7; 5])]);
    assert_eq!(ring.reader().drain().map(|event| event.record[0]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((reader.stats().discarded, reader.stats().dropped()), (1, 0));
}

/// What a ring in a memfd lacks, no macro gives it.
#[test]
fn a_memfd_is_not_told_to_use_a_macro() {
    let ring = plain_ring();
    let errors =
        [ring.resize(64).unwrap_err(), ring.reader().require(std::time::Duration::from_secs(1)).unwrap_err()];
    for error in errors {
        assert!(error.to_string().contains("memfd") && !error.to_string().contains("MAPRING_"), "{error}");
    }
}

fn plain_ring() -> Ring<Record> {
    Ring::create_memfd(8, 1).unwrap()
}

/// Threads write all shards, and readers check each byte.
#[test]
fn writers_in_parallel_never_share_bytes() {
    let ring = ring(64, 1, 300, 4096);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (mut reader, done) = (ring.reader(), &done);
                scope.spawn(move || {
                    loop {
                        let ends = done.load(Ordering::Relaxed);
                        let check = |event: Event<&Record, &[u8]>| {
                            assert_eq!(event.tail, tail(event.record[0]), "{event:?}");
                        };
                        if reader.for_each(usize::MAX, check) == 0 && ends && !reader.stopped_early() {
                            return reader.stats();
                        }
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let ring = &ring;
                scope.spawn(move || {
                    let to = ring.writer(0).unwrap();
                    let count = if cfg!(miri) { 200 } else { 20_000 };
                    (0..count)
                        .filter(|n| {
                            to.push_with_tail(&[n * 3 + writer, writer], &tail(n * 3 + writer)).is_some()
                        })
                        .count() as u64
                })
            })
            .collect();
        let written: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let stats = reader.join().unwrap();
            // Overwritten tickets may be ones that nobody claimed.
            let tickets = stats.delivered + stats.lost();
            assert!(
                tickets >= written && tickets - written <= stats.skipped + stats.lapped,
                "{stats}, {written} written"
            );
        }
    });
}
