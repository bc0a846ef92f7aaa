//! Records with tails over memfds, by any number of writers: each tail is whole or counted.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapring::abi::Tails;
use mapring::reading::LossCause;
use mapring::{ErrorKind, Event, Ring, Tailed};

type Record = [u64; 2];

fn ring(slots: usize, shards: usize, longest: u64, bytes: u64) -> Ring<Tailed<Record>> {
    Ring::create_memfd_with_tails(slots, shards, Tails::new(longest, bytes).unwrap()).unwrap()
}

/// The tail of record `n`, of any length.
fn tail(n: u64) -> Vec<u8> {
    let len = n.wrapping_mul(0x9e37_79b9) % 301;
    (0..len).map(|i| u8::try_from((n * 31 + i * 7) % 256).unwrap()).collect()
}

#[test]
fn tails_are_delivered_with_their_records() {
    let ring = ring(8, 2, 300, 4096);
    let writer = ring.writer_with_tails(1).unwrap();
    let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
    let mut other = Ring::<Tailed<Record>>::open(fd).unwrap().reader();
    let mut reader = ring.reader();
    for n in 0..1000 {
        assert_eq!(writer.push_with_tail(&[n, 7], &tail(n)), Some(n));
        let (event, bytes) = reader.poll_with_tail().unwrap();
        assert_eq!((event.shard, event.ticket, event.record, bytes), (1, n, [n, 7], &tail(n)[..]));
        assert!(reader.poll_with_tail().is_none());
    }
    assert_eq!((reader.stats().delivered, reader.lost()), (1000, 0));
    let mut seen = Vec::new();
    let calls = other.for_each_with_tail(usize::MAX, |event, bytes| {
        assert_eq!(bytes, tail(event.record[0]));
        seen.push(event.ticket);
    });
    assert_eq!((seen.len(), seen.last()), (calls, Some(&999)));
    let stats = other.stats();
    assert_eq!((stats.delivered, stats.delivered + stats.lost()), (calls as u64, 1000));
}

#[test]
fn merged_readers_deliver_tails_in_order() {
    let ring = ring(256, 3, 300, 1 << 14);
    let writers: Vec<_> = (0..3).map(|shard| ring.writer_with_tails(shard).unwrap()).collect();
    let by_number = || ring.reader().merged(|tailed| tailed.record[0]);
    let (mut polled, mut each) = (by_number(), by_number());
    assert!(!polled.wait(Duration::ZERO).unwrap() && polled.poll_with_tail().is_none());
    for n in 0..90 {
        // Three of a shard follow each other, the next shard is any.
        let shard = (n / 3 * 7 % 11 % 3) as usize;
        assert!(writers[shard].push_with_tail(&[n, shard as u64], &tail(n)).is_some());
    }
    let mut next = 0;
    let mut check = |event: Event<[u64; 2]>, bytes: &[u8]| {
        assert_eq!((event.record, bytes), ([next, event.shard as u64], &tail(next)[..]));
        next += 1;
    };
    while polled.wait(Duration::ZERO).unwrap() {
        let (event, bytes) = polled.poll_with_tail().unwrap();
        check(event, bytes);
    }
    assert_eq!((next, polled.stats().read.delivered, polled.stats().held), (90, 90, 0));

    // Tails that are overwritten while the reader holds their records are lost, and counted.
    assert_eq!(each.for_each_with_tail(1, |event, _| assert_eq!(event.record[0], 0)), 1);
    assert_eq!(each.stats().held, 89);
    for n in 90..400 {
        assert!(writers[0].push_with_tail(&[n, 0], &tail(n)).is_some());
    }
    let mut whole = 1;
    while each.wait(Duration::ZERO).unwrap() {
        whole += each.for_each_with_tail(usize::MAX, |event, bytes| assert_eq!(bytes, tail(event.record[0])));
    }
    let stats = each.stats().read;
    assert!(stats.tail_lost > 0, "{stats}");
    assert_eq!((stats.delivered, stats.delivered + stats.lost()), (whole as u64, 400), "{stats}");
    let losses = each.take_losses();
    let lost = losses.iter().filter(|loss| loss.cause == LossCause::TailLost);
    assert_eq!(lost.map(|loss| loss.count).sum::<u64>(), stats.tail_lost);
}

#[test]
fn a_tail_that_is_too_long_is_refused_and_counted() {
    let ring = ring(8, 1, 300, 1024);
    let writer = ring.writer_with_tails(0).unwrap();
    assert_eq!(writer.push_with_tail(&[0, 0], &[1; 301]), None);
    assert_eq!(writer.push_with_tail(&[1, 0], &[1; 300]), Some(0));
    assert_eq!(writer.push_with_tail(&[2, 0], &[]), Some(1));
    let mut reader = ring.reader();
    assert_eq!(reader.poll_with_tail().unwrap().1, [1; 300]);
    assert_eq!(reader.poll_with_tail().unwrap().1, []);
    let stats = reader.stats();
    assert_eq!((stats.too_long, stats.dropped()), (1, 1));
    assert_eq!(stats.to_string(), "2 delivered, 0 lost, 1 dropped (1 tail too long)");
}

#[test]
fn a_tail_that_was_overwritten_is_lost_with_its_own_cause() {
    let ring = ring(64, 1, 300, 1024);
    let writer = ring.writer_with_tails(0).unwrap();
    (0..40)
        .for_each(|n| assert_eq!(writer.push_with_tail(&[n, 0], &[u8::try_from(n).unwrap(); 300]), Some(n)));
    let mut reader = ring.reader();
    let mut seen = Vec::new();
    while let Some((event, bytes)) = reader.poll_with_tail() {
        assert_eq!(bytes, [u8::try_from(event.ticket).unwrap(); 300]);
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
fn rings_without_tails_say_so() {
    let plain = Ring::<Tailed<Record>>::create_memfd(8, 1).unwrap();
    let error = plain.writer_with_tails(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    assert!(error.to_string().contains("has no tails"), "{error}");
    assert!(plain.reader().poll_with_tail().is_none());
    assert_eq!(plain.reader().for_each_with_tail(9, |_, _| {}), 0);
    let ring = ring(8, 1, 300, 1024);
    let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
    let error = Ring::<Record>::open(fd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    let said = error.to_string();
    assert!(said.contains("has records with tails") && said.contains("Ring<Tailed<T>>"), "{said}");
    assert!(said.contains("poll_with_tail") && !said.contains("tail_at"), "{said}");
    let fd = plain_ring().region().as_fd().try_clone_to_owned().unwrap();
    let said = Ring::<Tailed<Record>>::open(fd).unwrap_err().to_string();
    assert!(said.contains("without Tailed") && said.contains("Ring::create_memfd_with_tails"), "{said}");
    assert!(!said.contains("MAPRING_"), "a memfd has no macro: {said}");
}

/// What a ring in a memfd lacks, no macro gives it.
#[test]
fn a_memfd_is_not_told_to_use_a_macro() {
    let ring = plain_ring();
    let errors = [
        #[cfg(feature = "bpf")]
        ring.resize(64).unwrap_err(),
        ring.reader().require(std::time::Duration::from_secs(1)).unwrap_err(),
    ];
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
                        let check = |event: mapring::Event<&Record>, bytes: &[u8]| {
                            assert_eq!(bytes, tail(event.record[0]), "{event:?}");
                        };
                        if reader.for_each_with_tail(usize::MAX, check) == 0
                            && ends
                            && !reader.stopped_early()
                        {
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
                    let to = ring.writer_with_tails(0).unwrap();
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
