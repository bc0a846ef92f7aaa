//! Wakeable rings whose links to their other maps are forged, and live ones that a neighbour overwrites, readers
//! included, while programs publish, and readers wait and are required.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, Object};
use mapring::abi::{Kind, Preamble};
use mapring::{ErrorKind, Region, Ring, Start, Tailed};
use mapring_hostile_tests::Neighbour;
use mapring_kernel_tests::skel::{KeepSkelBuilder, WakeableSkelBuilder};
use mapring_kernel_tests::{Runner, cpus, everywhere, fitted, load, map, on_cpu, require_bpf};

use super::scribbled::{proves_something, time, until};

#[derive(Clone, Copy, Debug, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

const SHORT: Duration = Duration::from_millis(1);

fn open(object: &Object) -> Ring<Rec> {
    Ring::open(&map(object, "events")).unwrap()
}

fn neighbour(object: &Object, name: &str) -> Neighbour {
    Neighbour::of(&Region::open(&map(object, name)).unwrap())
}

fn id(object: &Object, name: &str) -> u32 {
    map(object, name).info().unwrap().info.id
}

/// Why a new reader has no bell. It waits all the same.
fn refused(object: &Object) -> (ErrorKind, String) {
    let mut reader = open(object).reader_from(Start::Now);
    assert!(!reader.wait(SHORT).unwrap(), "nothing is there");
    let why = reader.bell().unwrap_err();
    (why.kind(), why.to_string())
}

/// A new reader is woken by the next program.
fn wakes(object: &Object, publish: &Runner) {
    on_cpu(cpus()[0]);
    let mut reader = open(object).reader_from(Start::Now);
    assert!(reader.bell().is_ok() && reader.arm().is_some());
    publish.run(&mut [7, 1]);
    assert!(reader.wait(Duration::from_secs(60)).unwrap());
    assert_eq!(reader.drain().map(|event| event.record.n).collect::<Vec<_>>(), [7]);
    everywhere();
}

/// The link of a ring with tails is in another word. What is in the words of a link changes nothing for readers, unless it
/// contradicts the types of the ring.
#[test]
fn a_forged_link_of_a_ring_with_tails_is_refused() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<WakeableSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let (open, publish) = (
        || Ring::<Tailed<Rec>>::open(&map(object, "tailed")).unwrap(),
        Runner::new(object, "publish_tailed"),
    );
    let (ring, shape) = (neighbour(object, "tailed"), *open().region().geometry());
    let of_events = Preamble::wakeable(&shape, id(object, "events__readers"));
    for forged in [0, 1, 2, u64::MAX, 1 << 63, Preamble::wakeable(&shape, u32::MAX), of_events] {
        ring.words().store(Preamble::link(&shape), forged, Ordering::Relaxed);
        let mut reader = open().reader_from(Start::Now);
        assert!(!reader.wait(SHORT).unwrap(), "nothing is there");
        let why = reader.bell().unwrap_err();
        println!("{forged:#x}: {:?}: {why}", why.kind());
        assert!(
            [ErrorKind::NotWakeable, ErrorKind::Open, ErrorKind::System].contains(&why.kind()),
            "{why:?}"
        );
        publish.run(&mut [7, 1]);
        assert_eq!(reader.poll_with_tail().map(|(event, tail)| (event.record.n, tail.len())), Some((7, 8)));
    }
    // That of a ring that keeps its oldest records, which its types are not.
    ring.words().store(Preamble::link(&shape), 4, Ordering::Relaxed);
    let why = Ring::<Tailed<Rec>>::open(&map(object, "tailed")).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Contradiction, "{why}");
    ring.restore();
    assert!(open().reader().bell().is_ok());
}

#[test]
fn a_link_to_the_maps_of_others_is_refused() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<WakeableSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let publish = Runner::new(object, "publish");
    let [ring, readers] = ["events", "events__readers"].map(|name| neighbour(object, name));
    let shape = *open(object).region().geometry();
    let at = Preamble::link(&shape);
    let link = |map: &Neighbour, word| map.words().store(at, word, Ordering::Relaxed);
    wakes(object, &publish);
    let id = |name: &str| id(object, name);

    let foreign = "its readers belong to another ring";
    // The readers of another ring; the ring itself, another one.
    for name in ["small__readers", "events", "small"] {
        link(&ring, Preamble::wakeable(&shape, id(name)));
        let (kind, why) = refused(object);
        assert!(kind == ErrorKind::NotWakeable && why.contains(foreign), "{name}: {kind:?} {why}");
    }
    // No map has these ids; maps without a preamble; no link.
    for forged in [0, u32::MAX, id("events__bells"), id("small__bells")] {
        link(&ring, Preamble::wakeable(&shape, forged));
        let (kind, why) = refused(object);
        println!("{forged}: {kind:?}: {why}");
        assert!([ErrorKind::Open, ErrorKind::WrongType, ErrorKind::System].contains(&kind), "{kind:?} {why}");
    }
    link(&ring, 0);
    assert_eq!(refused(object).0, ErrorKind::NotWakeable);
    ring.restore();

    // The readers name another ring, or bells that are none.
    link(&readers, Preamble::links(id("small"), id("small__bells")));
    let (kind, why) = refused(object);
    assert!(kind == ErrorKind::NotWakeable && why.contains(foreign), "{kind:?} {why}");
    for forged in [0, u32::MAX, id("events"), id("events__readers")] {
        link(&readers, Preamble::links(id("events"), forged));
        let (kind, why) = refused(object);
        println!("bells {forged}: {kind:?}: {why}");
        assert!([ErrorKind::Open, ErrorKind::WrongType, ErrorKind::System].contains(&kind), "{kind:?} {why}");
    }
    readers.restore();

    // The readers are of another kind.
    for kind in [Kind::Ring, Kind::Cells, Kind::Counters] {
        readers.words().store(2, kind as u64, Ordering::Relaxed);
        let (kind, why) = refused(object);
        println!("{kind:?}: {why}");
        assert!([ErrorKind::Preamble, ErrorKind::WrongType].contains(&kind), "{kind:?} {why}");
    }
    readers.restore();
    wakes(object, &publish);
}

#[test]
fn readers_wait_on_while_a_neighbour_scribbles_over_their_readers() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<KeepSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    everywhere();
    let publish = Runner::new(object, "publish");
    let (ring, stop) = (open(object), AtomicBool::new(false));
    let (ring, stop, program) = (&ring, &stop, &publish);
    let neighbours = ["events", "events__readers"].map(|name| neighbour(object, name));
    // On a busy machine, some events do not happen every time.
    let happened = (0..10).any(|_| {
        stop.store(false, Ordering::Relaxed);
        let threads = std::thread::scope(|scope| {
            for (seed, neighbour) in (1..).zip(&neighbours) {
                scope.spawn(move || neighbour.scribble(seed, stop));
            }
            let mut threads = Vec::new();
            for &cpu in cpus() {
                threads.push(until(scope, "programs", stop, move || {
                    on_cpu(cpu);
                    program.run(&mut [cpu as u64, 1]);
                    [1, 1]
                }));
            }
            let renewed = || ring.reader_from(Start::Now).with_patience(Duration::ZERO);
            let (mut reader, mut rounds) = (renewed(), 0_u64);
            // Those without a bell nap: both must end in time.
            threads.push(until(scope, "found, and not", stop, move || {
                rounds += 1;
                if rounds % 64 == 0 {
                    reader = if rounds % 128 == 0 { renewed().with_watermark(8, SHORT) } else { renewed() };
                    if rounds % 192 == 0 {
                        _ = reader.require(SHORT);
                    }
                }
                let found = reader.wait(SHORT).unwrap();
                let limit = cpus().len() * (64 + 16);
                let read = reader.drain().count();
                assert!(read <= limit, "{read} records");
                _ = (reader.take_error(), reader.is_required());
                if let Some(sleep) = reader.arm() {
                    assert!(sleep <= Duration::from_secs(1), "{sleep:?}");
                }
                [u64::from(found), u64::from(!found)]
            }));
            threads.push(until(scope, "bells, and refusals", stop, move || match renewed().bell() {
                Ok(_) => {
                    assert!(ring.readers().map_or(true, |known| known.len() <= 64));
                    [1, 0]
                }
                Err(e) => {
                    let typed = [
                        ErrorKind::NotWakeable,
                        ErrorKind::Preamble,
                        ErrorKind::Contradiction,
                        ErrorKind::Open,
                    ];
                    assert!(typed.contains(&e.kind()), "{e:?}");
                    [0, 1]
                }
            }));
            let end = Instant::now() + time();
            while Instant::now() < end && !threads.iter().any(|(_, thread)| thread.is_finished()) {
                std::thread::sleep(Duration::from_millis(10));
            }
            stop.store(true, Ordering::Relaxed);
            let came_to = |(name, thread): super::scribbled::Done<'_>| (name, thread.join().unwrap());
            threads.into_iter().map(came_to).collect::<Vec<_>>()
        });
        for (name, [rounds, a, b]) in &threads {
            println!("{name:20} {rounds:>9} rounds: {a} and {b}");
        }
        threads.iter().all(proves_something)
    });
    assert!(happened, "nothing to survive");
    neighbours.iter().for_each(Neighbour::restore);
    wakes(object, &publish);
}
