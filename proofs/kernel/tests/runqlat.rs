//! The example `runqlat` counts what bcc's counts: each slot of a power of two has as many values as our buckets in its
//! range. Both count in the same programs, under load.

use mapring::{Histogram, Histograms};
use mapring_kernel_tests::prelude::*;

/// The slots of the peer. The last one also counts all larger values.
const SLOTS: usize = 26;
const WAITS: u64 = 20_000;
/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

fn slot(us: u64) -> usize {
    (us.max(1).ilog2() as usize).min(SLOTS - 1)
}

fn our_slots(waits: &Histogram) -> [u64; SLOTS] {
    let mut slots = [0; SLOTS];
    for (values, count) in waits.buckets() {
        assert_eq!(slot(*values.start()), slot(*values.end()), "no bucket is in two slots");
        slots[slot(*values.start())] += count;
    }
    slots
}

fn peers_slots(object: &Object) -> [u64; SLOTS] {
    let slots = map(object, "peer").lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap();
    let slots: [u32; SLOTS] = slots.map_or([0; SLOTS], |bytes| bytemuck::pod_read_unaligned(&bytes));
    slots.map(u64::from)
}

#[test]
fn each_slot_of_the_peer_is_the_sum_of_our_buckets() {
    let object = &require_bpf!(RUNQLAT);
    let waits = Histograms::open(&map(object, "waits")).unwrap();
    let links: Vec<_> = object.progs_mut().map(|program| program.attach().unwrap()).collect();
    assert_eq!(links.len(), 3);

    let (stop, start) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        let _stopping = Stop(&stop);
        // More threads than CPUs: they wait for each other, some after a sleep.
        for n in 0..4 * cpus().len() {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match n % 2 {
                        0 => thread::yield_now(),
                        _ => thread::sleep(Duration::from_micros(50)),
                    }
                }
            });
        }
        while waits.snapshot(0).unwrap().count() < WAITS && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
    });
    drop(links);

    // A program that began before the links were gone may still be between the two counts.
    let detached = Instant::now();
    let (ours, peers) = loop {
        let (ours, peers) = (our_slots(&waits.snapshot(0).unwrap()), peers_slots(object));
        if ours == peers || detached.elapsed() > PATIENCE {
            break (ours, peers);
        }
        thread::yield_now();
    };
    assert_eq!(ours, peers);
    let count = ours.iter().sum::<u64>();
    assert!(count >= WAITS, "the test did not meet its subject: {count} waits");
    assert_eq!(waits.region().dropped().unwrap(), 0);
    println!("explored {count} waits in {} slots", ours.iter().filter(|count| **count != 0).count());
}
