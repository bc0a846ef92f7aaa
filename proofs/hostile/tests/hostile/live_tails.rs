//! Rings with tails in BPF maps, one of them keeping its oldest records, whose words a neighbour overwrites, those of the
//! headers above all. Meanwhile programs write them on every CPU, and readers read them, for `MAPRING_HOSTILE_SECONDS`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use libbpf_rs::Object;
use mapring::abi::Preamble;
use mapring::{Reader, Region, Ring, Start};
use mapring_hostile_tests::{Neighbour, hostile_word};
use mapring_kernel_tests::tails::{Counts, Item, KEPT, LONGEST, RINGS, both, expected, pattern, write_one};
use mapring_kernel_tests::{Runner, cpus, everywhere, map, on_cpu, require_bpf};

use super::scribbled::Before;
use super::threads::survive_and;

/// The rings that are overwritten, in [`RINGS`]. The others are so large that few words of them would be.
const OVERWRITTEN: [usize; 3] = [0, 1, KEPT];
/// The words of a shard from its header on, with those of the tails and of the first slots.
const HEADERS: usize = 48;

fn open(object: &Object, ring: usize) -> Ring<Item> {
    Ring::open(&map(object, RINGS[ring])).unwrap()
}

fn neighbour(object: &Object, name: &str) -> Neighbour {
    Neighbour::of(&Region::open(&map(object, name)).unwrap())
}

/// Overwrites words after the preamble until `stop`; restores all of them now and then.
fn scribble(neighbour: &Neighbour, element: usize, seed: u64, stop: &AtomicBool) -> u64 {
    let (words, mut rng, mut written) = (neighbour.words(), Rng::with_seed(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        if rng.u8(..8) == 0 {
            neighbour.restore();
        }
        for _ in 0..1 << rng.u32(..6) {
            let headers = rng.usize(..words.len() / element) * element + Preamble::WORDS;
            let at = if rng.u8(..4) == 0 {
                rng.usize(Preamble::WORDS..words.len())
            } else {
                headers + rng.usize(..HEADERS)
            };
            words.store(at, hostile_word(&mut rng), Ordering::Relaxed);
            written += 1;
        }
        if rng.bool() {
            std::thread::sleep(Duration::from_micros(50)); // so that the victims run in between
        }
    }
    written
}

/// Reads all there is, by both calls: counts records delivered, and whether tickets were lost.
fn read(reader: &mut Reader<Item>, longest: usize) -> [u64; 2] {
    let geometry = *reader.region().geometry();
    let (before, limit) = (Before::of(reader), geometry.shards() * (geometry.capacity() + 16));
    let mut delivered = 0;
    let all = reader.for_each(usize::MAX, |mapring::Event { tail, .. }| {
        assert!(tail.len() <= longest, "{} bytes", tail.len());
        delivered += 1;
    });
    assert!(all == delivered && all <= limit, "{all} records");
    if let Some(mapring::Event { tail, .. }) = reader.poll() {
        assert!(tail.len() <= longest, "{} bytes", tail.len());
        delivered += 1;
    }
    _ = (reader.take_error(), reader.take_losses(), reader.stats().dropped());
    before.check(reader, delivered)
}

#[test]
fn programs_and_readers_survive_forged_headers_of_tails() {
    require_bpf!();
    both(&["write_one", "on_packet"], survive);
}

fn survive(object: &Object) {
    everywhere();
    let mut neighbours: Vec<_> = OVERWRITTEN
        .iter()
        .map(|&ring| {
            let element = open(object, ring).region().geometry().element() / 8;
            (neighbour(object, RINGS[ring]), element)
        })
        .collect();
    let readers = neighbour(object, "kept__readers");
    let all = readers.words().len();
    neighbours.push((readers, all));
    let program = Runner::new(object, "on_packet");
    let rings = OVERWRITTEN.map(|ring| open(object, ring));
    let mut before = Counts::of(object);
    let wrote = || {
        let after = Counts::of(object);
        let wrote = OVERWRITTEN.map(|ring| {
            let published = after.published(ring) - before.published(ring);
            let dropped = after.dropped(ring) - before.dropped(ring);
            println!("{:10} {published} published, {dropped} dropped", RINGS[ring]);
            assert_eq!(after.published(ring) + after.dropped(ring), after.begun(ring), "{}", RINGS[ring]);
            published > 0 && dropped > 0
        });
        before = after;
        wrote == [true; 3]
    };
    survive_and(wrote, |threads| {
        for (seed, (neighbour, element)) in (1..).zip(&neighbours) {
            neighbour.restore();
            threads.hostile(move |stop| scribble(neighbour, *element, seed, stop));
        }
        threads.run_on_cpus("programs", |_| {
            program.packets(1);
            [1, 1]
        });
        for (&ring, handle) in OVERWRITTEN.iter().zip(&rings) {
            let renewed = move || handle.reader_from(Start::Oldest).with_patience(Duration::ZERO);
            let (mut reader, mut rounds) = (renewed(), 0_u64);
            let longest = usize::try_from(LONGEST[ring]).unwrap();
            threads.run(RINGS[ring], move || {
                rounds += 1;
                // A word that means "2^60 laps ahead" moves a reader there permanently.
                if rounds.is_multiple_of(16) {
                    reader = renewed();
                    if ring == KEPT && rounds.is_multiple_of(32) {
                        _ = reader.require(Duration::from_millis(1));
                    }
                }
                read(&mut reader, longest)
            });
        }
    });

    // After the content is restored, everything works as before.
    neighbours.iter().for_each(|(neighbour, _)| neighbour.restore());
    on_cpu(cpus()[0]);
    let (pattern, write) = (pattern(), Runner::new(object, "write_one"));
    for ring in OVERWRITTEN {
        let mut reader = open(object, ring).reader();
        if ring == KEPT {
            reader.require(Duration::from_secs(3600)).unwrap();
        }
        for n in 0..300 {
            let len = n % (LONGEST[ring] + 1);
            assert!(write_one(&write, ring, len), "{}: record {n}", RINGS[ring]);
            let event = reader.poll().expect("it was published");
            assert_eq!((event.ticket, event.record.len), (n, len), "{}", RINGS[ring]);
            assert!(event.tail == expected(&pattern, &event.record), "{}: record {n}", RINGS[ring]);
        }
        let stats = reader.stats();
        assert_eq!((stats.delivered, stats.lost(), stats.dropped()), (300, 0, 0), "{}: {stats}", RINGS[ring]);
    }
}
