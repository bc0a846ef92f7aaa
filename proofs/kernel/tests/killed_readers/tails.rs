//! Required readers of tails that are killed: they hold programs back for their lease only, and the living ones lose
//! nothing.

use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::tails::{
    ALL, Counts, Item, KEPT, LONGEST, ONE, RINGS, both, expected, pattern, write_one, written_by_all,
};

use super::victim::{Victim, killed};
use super::{FOREVER, PATIENCE, pinned};

/// The longest tail.
const LONG: u64 = LONGEST[KEPT];

/// Reads all there is, and compares the tails. Returns how many.
fn read(reader: &mut Reader<Item>, pattern: &[u8]) -> u64 {
    reader.for_each(usize::MAX, |event| {
        assert!(event.tail == expected(pattern, event.record), "{event:?}");
    }) as u64
}

#[test]
fn a_required_one_holds_tails_back_for_its_lease_only() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&ONE, |object| {
        let (ring, write, pin, _pins) = pinned::<Item>(object, RINGS[KEPT], "write_one");
        let publish = || write_one(&write, KEPT, LONG);
        let mut living = ring.reader();
        living.require(FOREVER).unwrap();
        for stages in [
            &["require=100"][..],
            &["bell", "require=100", "arm"],
            &["require=100", "wait"],
            &["require=100", "within"],
        ] {
            // One record for those that read it.
            assert!(publish());
            let victim = killed(&ring, "tails", &pin, stages);
            let behind = victim.seat(&ring).unwrap().required.unwrap();
            assert_eq!(behind.lease, Duration::from_millis(100), "{stages:?}");
            assert_eq!(behind.unread > 0, stages.contains(&"within"), "{stages:?}");
            // The dead one holds programs back, even if the living one reads all.
            let (started, full) = (Instant::now(), living.stats().full);
            while victim.seat(&ring).unwrap().required.is_some() {
                assert!(started.elapsed() < PATIENCE, "{stages:?}: its lease does not end");
                publish();
                read(&mut living, &pattern);
            }
            assert!(living.stats().full > full && !victim.seat(&ring).unwrap().alive, "{stages:?}");

            // Only the living one counts from here on.
            read(&mut living, &pattern);
            for _ in 0..500 {
                assert!(publish(), "{stages:?}");
                assert_eq!(read(&mut living, &pattern), 1);
            }
            let (stats, counts) = (living.stats(), Counts::of(object));
            assert_eq!((stats.delivered, stats.lost()), (counts.published(KEPT), 0), "{stages:?}: {stats}");
            assert_eq!(
                (stats.full, stats.dropped()),
                (counts.dropped(KEPT), stats.full),
                "{stages:?}: {stats}"
            );
            assert!(living.is_required(), "{stages:?}");
        }
    });
}

/// Killed at moments that the stages do not name, while programs on all CPUs interrupt each other in tails.
#[test]
fn the_living_get_every_tail_wherever_a_required_one_is_killed() {
    require_bpf!();
    let pattern = pattern();
    both(&ALL, |object| {
        let (ring, _, pin, _pins) = pinned::<Item>(object, RINGS[KEPT], "on_packet");
        let mut living = ring.reader().with_patience(FOREVER);
        living.require(FOREVER).unwrap();
        // A reader that is slower than its lease is not required when it is killed: the next one gets a longer lease.
        let (mut required, mut lease) = (0, Duration::from_millis(50));
        written_by_all(object, || {
            while required < 3 {
                assert!(lease < PATIENCE, "no reader stays required");
                let require = format!("require={}", lease.as_millis());
                let mut victim = Victim::at("tails", &pin, &[&require, "read"]);
                let mut read_some = |count: u64| {
                    let (started, enough) = (Instant::now(), living.stats().delivered + count);
                    while living.stats().delivered < enough {
                        assert!(started.elapsed() < PATIENCE, "programs do not go on: {}", living.stats());
                        if read(&mut living, &pattern) == 0 {
                            thread::yield_now();
                        }
                    }
                };
                read_some(fastrand::u64(1..200));
                victim.kill();
                match victim.seat(&ring).and_then(|seat| seat.required) {
                    Some(_) => required += 1,
                    None => lease *= 2,
                }
                // More than the ring holds: programs went on without the dead one.
                read_some(300);
                assert!(victim.seat(&ring).is_none_or(|seat| seat.required.is_none()));
            }
        });
        let (started, counts) = (Instant::now(), Counts::of(object));
        while living.stats().delivered < counts.published(KEPT) {
            assert!(started.elapsed() < PATIENCE, "{counts:?}: {}", living.stats());
            read(&mut living, &pattern);
        }
        let stats = living.stats();
        println!("{required} were required when they were killed, with leases of up to {lease:?}; {stats}");
        assert!(living.is_required());
        assert_eq!(stats.delivered, counts.published(KEPT), "{stats}");
        assert_eq!(stats.dropped(), counts.dropped(KEPT), "{stats}");
        assert_eq!(stats.lost(), stats.skipped, "no record was in those tickets: {stats}");
    });
}
