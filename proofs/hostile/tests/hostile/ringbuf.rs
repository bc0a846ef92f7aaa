//! The consumer of a BPF ringbuf stores any positions, while programs write it and observers read it, for
//! `MAPRING_HOSTILE_SECONDS` (default 2).

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use mapring::Start;
use mapring::any::RingbufObserver;
use mapring_hostile_tests::{Neighbour, hostile_word};
use mapring_kernel_tests::{Runner, bpf, map, require_bpf, unfitted};

use super::threads::survive;

const CAPACITY: u64 = 4096;

/// Reads with an observer; counts records that a program wrote, others, and losses.
fn observe(observer: &mut RingbufObserver) -> [u64; 3] {
    let mut counts = [0; 3];
    for limit in [1, 7, usize::MAX] {
        let (from, before) = (observer.position(), observer.stats());
        let (mut next, mut bytes, mut count) = (from, 0, 0);
        let returned = observer.for_each(limit, |at, record| {
            let words = record.as_chunks().0;
            let is_whole = words.len() >= 2 && u64::from_ne_bytes(words[0]) < 2 && {
                let fill = u64::from_ne_bytes(words[1]) & 255;
                record[16..].iter().all(|byte| u64::from(*byte) == fill)
            };
            assert!(at.wrapping_sub(from) >= next.wrapping_sub(from) && (record.len() as u64) < CAPACITY);
            next = at.wrapping_add(8);
            bytes += 8 + record.len().next_multiple_of(8) as u64;
            count += 1;
            counts[usize::from(!is_whole)] += 1;
        });
        let stats = observer.stats();
        assert!(returned == count && count <= limit && bytes <= CAPACITY);
        assert_eq!(stats.delivered - before.delivered, count as u64);
        let lost = stats.lost_bytes.wrapping_sub(before.lost_bytes);
        let moved = observer.position().wrapping_sub(from);
        let discarded = stats.discarded - before.discarded;
        counts[2] += u64::from(lost != 0);
        assert!(lost == 0 || count == 0 && discarded == 0 && moved == lost);
        assert!(lost != 0 || moved <= CAPACITY && (discarded > 0 || moved == bytes));
    }
    counts
}

#[test]
fn a_forged_position_of_the_consumer_does_no_harm() {
    require_bpf!();
    let object = &bpf::RINGBUF.load_only(unfitted);
    let ringbuf = map(object, "observed").as_fd().try_clone_to_owned().unwrap();
    let open = &|start| RingbufObserver::open(ringbuf.as_fd(), start).unwrap();
    let consumer = &Neighbour::start_of(&ringbuf, rustix::param::page_size());
    let place = &Runner::new(object, "place");
    survive(|threads| {
        let (kernel, mut first) = (open(Start::Now), open(Start::Oldest));
        threads.hostile(move |stop| {
            let (mut rng, mut stored) = (Rng::with_seed(1), 0);
            while !stop.load(Ordering::Relaxed) {
                let end = kernel.end();
                let position = match rng.u8(..12) {
                    0 => hostile_word(&mut rng),
                    1 => end.wrapping_sub(8 * rng.u64(..600)),
                    2 => end.wrapping_add(8 * rng.u64(..600)),
                    _ => end, // programs find space
                };
                consumer.words().store(0, position, Ordering::Release);
                stored += 1;
                if rng.u8(..) == 0 {
                    std::thread::yield_now(); // so that the others run in between
                }
            }
            stored
        });
        threads.run("programs", || {
            let mut args = [0, 64];
            place.run(&mut args);
            [u64::from(args[1] > 0), 1]
        });
        threads.run("observer", move || {
            let [whole, other, losses] = observe(&mut first);
            std::thread::yield_now(); // so that it is overtaken
            [whole + other, losses]
        });
        threads.run("new observers", || {
            let counts = [Start::Oldest, Start::First, Start::Now].map(|start| observe(&mut open(start)));
            counts.into_iter().fold([0; 2], |[a, b], [whole, other, _]| [a + whole, b + other])
        });
    });
}
