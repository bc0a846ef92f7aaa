//! Rings with tails whose positions, lengths and headers are forged, once or while they are read and written.

use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use mapring::abi::{Preamble, Tails};
use mapring::writers::MemfdOptions;
use mapring::{Reader, Ring};
use mapring_hostile_tests::{Neighbour, hostile_word};

use crate::threads::time;

type Record = [u64; 2];
const SLOTS: usize = 16;
const LONGEST: usize = 100;
const AREA: u64 = 1024;

fn ring() -> Ring<Record> {
    Ring::create_memfd_with(
        SLOTS,
        2,
        MemfdOptions::default().tails(Tails::new(LONGEST as u64, AREA).unwrap()),
    )
    .unwrap()
}

/// Reads in both ways. Returns the number of records and of those lost.
fn read(reader: &mut Reader<Record>) -> [u64; 2] {
    let before = reader.stats();
    let mut delivered = 0;
    let calls = reader.for_each(usize::MAX, |mapring::Event { tail, .. }| {
        assert!(tail.len() <= LONGEST);
        delivered += 1;
    });
    assert_eq!(calls as u64, delivered);
    for _ in 0..2 * (SLOTS + 16) {
        let Some(mapring::Event { tail, .. }) = reader.poll() else { break };
        assert!(tail.len() <= LONGEST);
        delivered += 1;
    }
    let now = reader.stats();
    assert_eq!(now.delivered - before.delivered, delivered);
    [delivered, now.tail_lost - before.tail_lost]
}

/// Words that are forged before they are read: all of them, or the places of tails alone.
#[test]
fn forged_places_of_tails() {
    let images = std::env::var("MAPRING_HOSTILE_IMAGES").map_or(1000, |n| n.parse().expect("a number"));
    let ring = ring();
    let neighbour = Neighbour::of(&ring.region());
    let writer = ring.writer(0).unwrap();
    let element = ring.region().geometry().element() / 8;
    // The header for tails is three lines after the shard's; a slot has its sequence, position, length and record.
    let (header, slots) = (Preamble::WORDS + 8, Preamble::WORDS + 8 + 24);
    let (mut delivered, mut lost, mut pushed, mut refused) = (0, 0, 0_u64, 0_u64);
    for seed in 0..images {
        let mut rng = Rng::with_seed(seed);
        neighbour.restore();
        (0..12).for_each(|n| assert_eq!(writer.push_with_tail(&[n, n], &[7; 90]), Some(n)));
        let words = neighbour.words();
        for shard in 0..2 {
            for slot in 0..SLOTS {
                for word in [1, 2] {
                    if rng.bool() {
                        words.store(
                            shard * element + slots + slot * 5 + word,
                            hostile_word(&mut rng),
                            Ordering::Relaxed,
                        );
                    }
                }
            }
            let count = if rng.u8(..4) == 0 { 24 } else { rng.usize(..3) };
            for _ in 0..count {
                words.store(
                    shard * element + header + rng.usize(..24),
                    hostile_word(&mut rng),
                    Ordering::Relaxed,
                );
            }
        }
        if rng.u8(..8) == 0 {
            (0..40).for_each(|_| {
                words.store(
                    rng.usize(Preamble::WORDS..2 * element),
                    hostile_word(&mut rng),
                    Ordering::Relaxed,
                );
            });
        }
        let [some, gone] = read(&mut ring.reader());
        (delivered, lost) = (delivered + some, lost + gone);
        for n in 0..20 {
            let done = writer.push_with_tail(&[n, n], &[9; LONGEST]).is_some();
            (pushed, refused) = (pushed + u64::from(done), refused + u64::from(!done));
        }
        read(&mut ring.reader());
    }
    println!("{images} images: {delivered} delivered, {lost} lost, {pushed} pushed, {refused} dropped");
    assert!(delivered > 0 && lost > 0 && pushed > 0 && refused > 0);
}

/// A neighbour stores random words while others read and write.
#[test]
fn scribbled_tails() {
    let ring = ring();
    let stop = AtomicBool::new(false);
    let [delivered, lost] = std::thread::scope(|scope| {
        let neighbour = Neighbour::of(&ring.region());
        let (stop, ring) = (&stop, &ring);
        scope.spawn(move || neighbour.scribble(1, stop));
        scope.spawn(move || {
            let writer = ring.writer(0).unwrap();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                writer.push_with_tail(&[n, n], &[5; LONGEST][..usize::try_from(n % 101).unwrap()]);
            }
        });
        let reading = scope.spawn(move || {
            let (mut reader, mut sum, mut rounds) = (ring.reader(), [0; 2], 0_u64);
            while !stop.load(Ordering::Relaxed) {
                rounds += 1;
                if rounds.is_multiple_of(64) {
                    reader = ring.reader();
                }
                let [some, gone] = read(&mut reader);
                sum = [sum[0] + some, sum[1] + gone];
            }
            sum
        });
        std::thread::sleep(time());
        stop.store(true, Ordering::Relaxed);
        reading.join().unwrap()
    });
    println!("{delivered} delivered, {lost} tails lost");
    assert!(delivered > 0 && lost > 0);
}
