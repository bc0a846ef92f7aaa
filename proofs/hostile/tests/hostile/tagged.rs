//! Tagged records whose words are forged, once or while they are read: any tag, any bytes.

use std::hint::black_box;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use mapring::{Reader, Ring, Tagged};
use mapring_hostile_tests::{Neighbour, hostile_word};

use crate::threads::time;

#[derive(Debug, mapring::Tagged)]
enum Event<'r> {
    #[tag(1)]
    Byte(&'r u8),
    #[tag(2)]
    Words(&'r [u32; 5]),
}

/// A tag and more bytes than the largest variant has.
type Words = [u64; 6];
/// Its bytes that a reader copies.
const PAYLOAD: usize = 24;
const SLOTS: usize = 16;

fn rings() -> (Ring<Words>, Ring<Tagged<Event<'static>>>) {
    let ring = Ring::<Words>::create_memfd(SLOTS, 2).unwrap();
    let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
    (ring, Ring::open(fd).unwrap())
}

/// Reads all records. Returns how many had each tag, and how many another one.
fn read(reader: &mut Reader<Tagged<Event<'static>>>) -> [u64; 3] {
    let before = reader.stats();
    let mut found = [0; 3];
    let calls = reader.for_each(usize::MAX, |event| match event.record.variant() {
        Ok(Event::Byte(byte)) => {
            black_box(*byte);
            found[0] += 1;
        }
        Ok(Event::Words(words)) => {
            black_box(*words);
            found[1] += 1;
        }
        Err(unknown) => {
            assert!(!(1..=2).contains(&unknown.tag) && unknown.bytes.len() == PAYLOAD);
            found[2] += 1;
        }
    });
    let now = reader.stats();
    assert_eq!(calls as u64, found.iter().sum());
    assert_eq!(now.delivered - before.delivered, calls as u64);
    found
}

#[test]
fn forged_tags_and_payloads() {
    let images = std::env::var("MAPRING_HOSTILE_IMAGES").map_or(1000, |n| n.parse().expect("a number"));
    let (ring, tagged) = rings();
    let neighbour = Neighbour::of(&ring.region());
    let writer = ring.writer(0).unwrap();
    let geometry = *ring.region().geometry();
    let element = geometry.element() / 8;
    let (first, words) = (geometry.first() * element, neighbour.words().len());
    let mut found = [0; 3];
    for seed in 0..images {
        let mut rng = Rng::with_seed(seed);
        neighbour.restore();
        (0..12_u64).for_each(|n| assert!(writer.push(&[n % 4; 6]).is_some()));
        for _ in 0..rng.usize(..40) {
            neighbour.words().store(rng.usize(first..words), hostile_word(&mut rng), Ordering::Relaxed);
        }
        let mut reader = tagged.reader();
        for _ in 0..3 {
            read(&mut reader).iter().zip(&mut found).for_each(|(more, sum)| *sum += more);
        }
    }
    println!("{images} images: {found:?}");
    assert!(found.iter().all(|&count| count > 0), "{found:?}");
}

/// A neighbour stores random words while others read and write.
#[test]
fn scribbled_tags() {
    let (ring, tagged) = rings();
    let stop = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let neighbour = Neighbour::of(&ring.region());
        let (stop, ring) = (&stop, &ring);
        scope.spawn(move || neighbour.scribble(1, stop));
        scope.spawn(move || {
            let writer = ring.writer(0).unwrap();
            let mut n = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                writer.push(&[n % 4; 6]);
            }
        });
        let reading = scope.spawn(move || {
            let (mut reader, mut sum, mut rounds) = (tagged.reader(), [0; 3], 0_u64);
            while !stop.load(Ordering::Relaxed) {
                rounds += 1;
                if rounds.is_multiple_of(64) {
                    reader = tagged.reader();
                }
                read(&mut reader).iter().zip(&mut sum).for_each(|(more, sum)| *sum += more);
            }
            sum
        });
        std::thread::sleep(time());
        stop.store(true, Ordering::Relaxed);
        reading.join().unwrap()
    });
    println!("{found:?}");
    assert!(found.iter().all(|&count| count > 0), "{found:?}");
}
