//! Wakeable rings whose links to their other maps are forged, and live ones that a neighbour overwrites, readers
//! included, while programs publish, and readers wait and are required.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libbpf_rs::{MapCore, Object};
use mapring::abi::{Kind, Preamble};
use mapring::{ErrorKind, Region, Ring, Start};
use mapring_hostile_tests::Neighbour;
use mapring_kernel_tests::{Rec, Runner, cpus, everywhere, map, on_cpu, require_bpf};

use super::scribbled::Before;
use super::threads::{Threads, survive};

/// The slots of a shard.
const SLOTS: usize = 64;
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

/// Options that the ring's types do not have.
#[test]
fn forged_options_are_refused() {
    let object = &require_bpf!(WAKEABLE);
    let open = || Ring::<Rec>::open(&map(object, "tailed"));
    let ring = neighbour(object, "tailed");
    let kind = ring.words().load(2, Ordering::Relaxed);
    for (option, bits) in [("KEEP_OLDEST", 2), ("none", 1), ("PER_CPU_MAPS", 8)] {
        ring.words().store(2, kind ^ bits << 8, Ordering::Relaxed);
        let why = open().unwrap_err();
        assert!([ErrorKind::Contradiction, ErrorKind::Preamble].contains(&why.kind()), "{option}: {why}");
    }
    ring.restore();
    assert!(open().unwrap().reader().bell().is_ok());
}

#[test]
fn a_link_to_the_maps_of_others_is_refused() {
    let object = &require_bpf!(WAKEABLE);
    let publish = Runner::new(object, "publish");
    let [ring, readers] = ["events", "events__readers"].map(|name| neighbour(object, name));
    let link = |map: &Neighbour, word| map.words().store(Preamble::LINK, word, Ordering::Relaxed);
    wakes(object, &publish);
    let id = |name: &str| id(object, name);

    let foreign = "its readers belong to another ring";
    // The readers of another ring; the ring itself, another one.
    for name in ["small__readers", "events", "small"] {
        link(&ring, Preamble::links(id(name), 0));
        let (kind, why) = refused(object);
        assert!(kind == ErrorKind::NotWakeable && why.contains(foreign), "{name}: {kind:?} {why}");
    }
    // No map has these ids; maps without a preamble; no link.
    for forged in [u32::MAX, id("events__bells"), id("small__bells")] {
        link(&ring, Preamble::links(forged, 0));
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
        let typed = [ErrorKind::Preamble, ErrorKind::WrongType, ErrorKind::Contradiction];
        assert!(typed.contains(&kind), "{kind:?} {why}");
    }
    readers.restore();
    wakes(object, &publish);
}

/// Records that programs wrote on a CPU, and that they dropped.
type Produced = [AtomicU64; 2];

/// Programs that publish on all CPUs, and readers that come and go, wait, and are required.
fn play<'env>(
    threads: &mut Threads<'_, 'env>,
    ring: &'env Ring<Rec>,
    program: &'env Runner,
    produced: &'env [Produced],
) {
    threads.run_on_cpus("programs", |cpu| {
        let mut args = [cpu as u64, 1];
        program.run(&mut args);
        let written = args[1] >> 32;
        let counts = [written, 1 - written];
        produced[cpu].iter().zip(counts).for_each(|(sum, count)| _ = sum.fetch_add(count, Ordering::Relaxed));
        counts
    });
    let renewed = || ring.reader_from(Start::Now).with_patience(Duration::ZERO);
    let (mut reader, mut rounds) = (renewed(), 0_u64);
    // Those without a bell nap: both must end in time.
    threads.run("found, and not", move || {
        rounds += 1;
        if rounds % 64 == 0 {
            reader = if rounds % 128 == 0 { renewed().with_watermark(8, SHORT) } else { renewed() };
            if rounds % 192 == 0 {
                _ = reader.require(SHORT);
            }
        }
        let found = reader.wait(SHORT).unwrap();
        let limit = cpus().len() * (SLOTS + 16);
        let before = Before::of(&reader);
        let read = reader.drain().count();
        assert!(read <= limit, "{read} records");
        before.check(&reader, read);
        _ = (reader.take_error(), reader.is_required());
        if let Some(sleep) = reader.arm() {
            assert!(sleep <= Duration::from_secs(1), "{sleep:?}");
        }
        [u64::from(found), u64::from(!found)]
    });
    threads.run("bells, and refusals", move || match renewed().bell() {
        Ok(_) => {
            assert!(ring.readers().map_or(true, |known| known.len() <= 64));
            [1, 0]
        }
        Err(e) => {
            // A forged link may name any map of this machine, or none.
            use ErrorKind::{Contradiction, NotWakeable, Open, System, WrongType};
            let typed = [ErrorKind::Preamble, Contradiction, NotWakeable, Open, System, WrongType];
            assert!(typed.contains(&e.kind()), "{e:?}");
            [0, 1]
        }
    });
}

fn nothing_produced(ring: &Ring<Rec>) -> Vec<Produced> {
    (0..ring.shards()).map(|_| Produced::default()).collect()
}

/// A ring's tickets and its counts of dropped records are words of the ring: if they are forged, no reader can know how many
/// records were produced. It counts each ticket that it passes all the same.
#[test]
fn readers_wait_on_while_a_neighbour_scribbles_over_the_ring_and_its_readers() {
    let object = &require_bpf!(KEEP);
    everywhere();
    let (ring, publish) = (open(object), Runner::new(object, "publish"));
    let neighbours = ["events", "events__readers"].map(|name| neighbour(object, name));
    let produced = nothing_produced(&ring);
    survive(|threads| {
        threads.scribble(&neighbours);
        play(threads, &ring, &publish, &produced);
    });
    neighbours.iter().for_each(Neighbour::restore);
    wakes(object, &publish);
}

/// Forged readers hold programs back, or let them overwrite what a required reader has not read. So nothing can be promised
/// about how many records are lost for which cause. But each record is delivered or counted, and those that programs drop
/// count as such.
#[test]
fn forged_readers_cost_records_that_are_counted() {
    let object = &require_bpf!(KEEP);
    everywhere();
    let (ring, publish) = (open(object), Runner::new(object, "publish"));
    let (readers, produced) = (neighbour(object, "events__readers"), nothing_produced(&ring));
    let observer = Mutex::new(ring.reader());
    survive(|threads| {
        threads.scribble([&readers]);
        play(threads, &ring, &publish, &produced);
        threads.run("observer", || {
            let mut observer = observer.lock().unwrap();
            let before = Before::of(&observer);
            let whole = |record: Rec| assert_eq!(record.twice, 2 * record.n);
            let delivered = observer.drain().inspect(|event| whole(event.record)).count();
            before.check(&observer, delivered)
        });
    });
    let mut observer = observer.into_inner().unwrap();
    observer.drain().for_each(drop);
    for (shard, [written, dropped]) in produced.into_iter().enumerate() {
        let (stats, dropped) = (observer.shard_stats(shard).unwrap(), dropped.into_inner());
        println!("shard {shard}: {stats}");
        assert_eq!(stats.delivered + stats.lapped, written.into_inner(), "shard {shard}: {stats}");
        assert_eq!((stats.lost(), stats.discarded), (stats.lapped, 0), "shard {shard}: {stats}");
        assert_eq!((stats.full, stats.dropped()), (dropped, dropped), "shard {shard}: {stats}");
    }

    // Without forged words a required reader loses nothing, and programs count what they drop because of it.
    readers.restore();
    on_cpu(cpus()[0]);
    let (mut required, full) = (ring.reader_from(Start::Now), observer.stats().full);
    required.require(Duration::from_secs(3600)).unwrap();
    for round in 1..=3 {
        publish.run(&mut [0, 100]);
        assert_eq!(required.drain().count(), SLOTS);
        assert_eq!(required.stats().full - full, round * (100 - SLOTS as u64));
    }
    assert!(required.is_required() && required.lost() == 0, "{}", required.stats());
    drop(required);
    wakes(object, &publish);
}
