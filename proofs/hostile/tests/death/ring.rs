//! Rings: every path through a claim, and every end of a ticket.

use mapring::abi::seq::DISCARDED;
use mapring::{OpenOptions, Region, Ring};
use mapring_hostile_tests::{Death, Memory, Record, slot_words};

use super::witness::Witness;
use super::{at_every_store, kill, next};

/// Few enough that only overwritten tickets are skipped, and that a lap is short.
const SLOTS: usize = 4;
/// The first values of the victim's records and of the next writer's.
const VICTIMS: u64 = 500;
const NEXT: u64 = 1000;

/// The ring before the victim runs, and the victim's operation.
struct Scene {
    name: &'static str,
    args: &'static [&'static str],
    /// The number of stores of the operation.
    stores: usize,
    prepare: fn(&Ring<Record>),
    /// Tickets that died before, each in its own slot.
    stuck: usize,
}

/// Claim and hint, the record, the commit.
const PUSH: usize = 2 + Record::WORDS + 1;

const SCENES: &[Scene] = &[
    Scene {
        name: "push into an empty ring",
        args: &["push", "1", "500"],
        stores: PUSH,
        prepare: |_| {},
        stuck: 0,
    },
    Scene {
        name: "push over the oldest",
        args: &["push", "1", "500"],
        stores: PUSH,
        prepare: |ring| push(ring, 0..7),
        stuck: 0,
    },
    Scene {
        name: "push with a hint one behind",
        args: &["push", "1", "500"],
        stores: PUSH,
        prepare: |ring| {
            push(ring, 0..3);
            set_head(ring, 2);
        },
        stuck: 0,
    },
    Scene {
        name: "push with a hint of laps ago",
        args: &["push", "1", "500"],
        stores: PUSH,
        prepare: |ring| {
            push(ring, 0..14);
            set_head(ring, 1);
        },
        stuck: 0,
    },
    Scene {
        name: "push past a slot that is stuck",
        args: &["push", "1", "500"],
        stores: PUSH,
        prepare: |ring| {
            push(ring, 0..2);
            abandon(ring, 1);
            push(ring, 3..6);
        },
        stuck: 1,
    },
    Scene {
        name: "push over a record that was discarded",
        args: &["push", "1", "500"],
        stores: PUSH,
        prepare: |ring| {
            push(ring, 0..1);
            let writer = ring.writer(0).unwrap();
            writer.reserve().unwrap().discard();
            push(ring, 2..5);
        },
        stuck: 0,
    },
    Scene {
        name: "claim, fill, publish",
        args: &["fill", "500"],
        stores: PUSH,
        prepare: |ring| push(ring, 0..5),
        stuck: 0,
    },
    Scene { name: "discard", args: &["discard"], stores: 3, prepare: |ring| push(ring, 0..2), stuck: 0 },
    Scene {
        name: "drop where all slots are stuck",
        args: &["push", "1", "500"],
        stores: 3, // two times, and the count
        prepare: |ring| {
            push(ring, 0..1);
            abandon(ring, SLOTS);
        },
        stuck: SLOTS,
    },
];

fn push(ring: &Ring<Record>, numbers: std::ops::Range<u64>) {
    let writer = ring.writer(0).unwrap();
    numbers.for_each(|n| assert!(writer.push(&Record::new(n)).is_some()));
}

/// Leaves this many slots claimed, as dead writers do.
fn abandon(ring: &Ring<Record>, count: usize) {
    let writer = ring.writer(0).unwrap();
    (0..count).for_each(|_| std::mem::forget(writer.reserve().unwrap()));
}

fn set_head(ring: &Ring<Record>, head: u64) {
    let region = ring.region();
    let geometry = region.geometry();
    Memory::of(&region).put(geometry.shard(0) * geometry.element_words(), head);
}

/// The sequences of the slots in memory.
fn seqs(region: &Region) -> Vec<u64> {
    let words = Memory::of(region).words();
    (0..SLOTS as u64).map(|slot| slot_words(region.geometry(), &words, 0, slot)[0]).collect()
}

/// The number of claimed slots that have not ended.
fn stuck(region: &Region) -> usize {
    seqs(region).iter().filter(|&seq| seq % 2 == 1).count()
}

fn tickets(output: &str) -> Vec<Option<u64>> {
    output.split_whitespace().map(|ticket| ticket.parse().ok()).collect()
}

fn play(scene: &Scene, stores: usize) -> Death {
    let drops = scene.stuck == SLOTS;
    let ring = Ring::<Record>::create_memfd(SLOTS, 1).unwrap();
    (scene.prepare)(&ring);
    // Three readers: one has read everything before the victim ran, one has read nothing yet, one starts later.
    let mut early = Witness::new(&ring);
    early.read();
    let before = early.read.clone();
    let behind = Witness::new(&ring);
    let dropped = early.reader.stats().dropped();

    let found = seqs(&ring.region());
    let death = kill(&ring.region(), stores, scene.args);
    let taken: Vec<_> = (0_u64..).zip(found).zip(seqs(&ring.region())).collect();
    let taken: Vec<_> =
        taken.iter().filter(|((_, found), left)| found != left).map(|((slot, _), _)| *slot).collect();
    assert_eq!(taken.len(), usize::from(!drops && death.stores > 0), "{death:?}");
    let pushes = scene.args[0] != "discard" && !drops;
    let abandoned = usize::from(!drops && (1..scene.stores).contains(&death.stores));
    assert_eq!(stuck(&ring.region()), scene.stuck + abandoned, "{death:?}");
    let late = OpenOptions::new().open(Memory::of(&ring.region()).fd()).unwrap();
    let late = Witness::new(&Ring::from_region(late).unwrap());

    // Every published record is still delivered, except the one in the slot that the victim claimed.
    let mut witnesses = [early, behind, late];
    for (witness, who) in witnesses.iter_mut().zip(["early", "behind", "late"]) {
        witness.read();
        let is_there = |ticket: &u64| who == "early" || !taken.contains(&(ticket % SLOTS as u64));
        let mut expected: Vec<_> =
            before.iter().filter(|(ticket, _)| is_there(ticket)).map(|(_, &n)| n).collect();
        let published = pushes && death.stores == scene.stores;
        expected.extend(published.then_some(VICTIMS));
        assert_eq!(witness.values(), expected, "{who}, {death:?}");
    }

    // The next writer continues, and its records reach every reader.
    let given = tickets(&next(&ring.region(), &["push", "2", "1000"]));
    let (written, refused): (Vec<_>, Vec<_>) = (NEXT..).zip(given).partition(|(_, ticket)| ticket.is_some());
    assert_eq!(refused.len(), if scene.stuck == SLOTS { 2 } else { 0 });
    for witness in &mut witnesses {
        let before = witness.reader.stats();
        witness.read();
        for (n, ticket) in &written {
            assert_eq!(witness.read.get(&ticket.unwrap()), Some(n), "{death:?}");
        }
        // The unfinished tickets: the victim's, if it claimed one, and the one in the slot that was stuck before.
        // Readers may have passed them already because of the victim's published records.
        let passed = written.is_empty() || !drops && death.stores == scene.stores;
        let (lost, stepped_over) = if passed { (0, 0) } else { (abandoned, scene.stuck) };
        let now = witness.reader.stats();
        assert_eq!(now.lost() - before.lost(), lost as u64, "{death:?}");
        assert_eq!(now.stepped_over - before.stepped_over, stepped_over as u64, "{death:?}");
        assert_eq!(now.discarded, before.discarded);
        let own = drops && death.stores == scene.stores;
        assert_eq!(witness.reader.stats().dropped() - dropped, refused.len() as u64 + u64::from(own));
    }

    laps_and_recovery(&ring, &mut witnesses[0], scene.stuck + abandoned);
    death
}

/// A stuck slot costs one ticket per lap until it is recovered, and nothing afterwards.
fn laps_and_recovery(ring: &Ring<Record>, witness: &mut Witness, stuck_slots: usize) {
    let writer = ring.writer(0).unwrap();
    let mut lap = |laps: usize| {
        witness.read(); // a recovered ticket counts as ended
        let without = |witness: &Witness| witness.reader.lost() + witness.reader.stats().stepped_over;
        let before = without(witness);
        let tickets: Vec<_> = (0..laps * SLOTS)
            .map(|i| {
                let ticket = writer.push(&Record::new(i as u64));
                witness.read();
                assert!(ticket.is_none_or(|ticket| witness.read.contains_key(&ticket)));
                ticket
            })
            .collect();
        (tickets, without(witness) - before)
    };
    if stuck_slots < SLOTS {
        let (tickets, lost) = lap(3);
        let [first, last] = [tickets[0], tickets[tickets.len() - 1]].map(Option::unwrap);
        let holes = last - first + 1 - tickets.len() as u64;
        assert!(lost >= holes && lost <= holes + stuck_slots as u64, "lost {lost}, {holes} holes");
        assert!(stuck_slots > 0 || lost == 0);
    }
    assert_eq!(next(&ring.region(), &["recover"]), stuck_slots.to_string());
    assert_eq!(stuck(&ring.region()), 0);
    assert_eq!(next(&ring.region(), &["recover"]), "0");
    let (tickets, lost) = lap(3);
    assert!(
        tickets.is_sorted_by(|a, b| a.is_some() && b.is_some_and(|b| a.unwrap() + 1 == b)),
        "{tickets:?}"
    );
    assert_eq!(lost, 0);
}

#[test]
fn a_ring_loses_the_victims_record_and_no_other() {
    for scene in SCENES {
        at_every_store(scene.name, scene.stores, |stores| play(scene, stores));
    }
}

#[test]
fn recovery_of_a_ring_can_be_killed_and_repeated() {
    at_every_store("ring recover", 3, |stores| {
        let ring = Ring::<Record>::create_memfd(SLOTS, 1).unwrap();
        let writer = ring.writer(0).unwrap();
        let mut early = Witness::new(&ring);
        abandon(&ring, 3);
        assert_eq!(writer.push(&Record::new(3)), Some(3));
        let death = kill(&ring.region(), stores, &["recover"]);
        let left = 3 - death.stores;
        assert_eq!(stuck(&ring.region()), left);
        assert_eq!(next(&ring.region(), &["recover"]), left.to_string());
        let words = Memory::of(&ring.region()).words();
        for slot in 0..3 {
            assert_eq!(slot_words(ring.region().geometry(), &words, 0, slot)[0], DISCARDED | 2);
        }
        for mut witness in [Witness::new(&ring), std::mem::replace(&mut early, Witness::new(&ring))] {
            witness.read();
            let stats = witness.reader.stats();
            assert_eq!((stats.delivered, stats.lost(), stats.discarded), (1, 0, 3));
        }
        death
    });
}

#[test]
fn a_claim_that_fails_past_a_row_of_stuck_slots_can_be_killed() {
    // The stores: the position of the next claim, two times, and the count of drops.
    const ROW: usize = 7;
    at_every_store("drop past a row of stuck slots", 4, |stores| {
        let ring = Ring::<Record>::create_memfd(16, 1).unwrap();
        push(&ring, 0..16);
        abandon(&ring, ROW);
        push(&ring, 23..32);
        let mut early = Witness::new(&ring);
        early.read();
        let death = kill(&ring.region(), stores, &["push", "1", "500"]);
        assert_eq!(early.reader.stats().dropped(), u64::from(death.stores == 4), "{death:?}");
        early.read();
        assert!(early.read.values().all(|&n| n < VICTIMS), "nothing of the victim's is there");

        // The next writer finds its way from the victim's first position, or from the position that the victim reached.
        let given = tickets(&next(&ring.region(), &["push", "3", "1000"]));
        let refused = given.iter().take_while(|ticket| ticket.is_none()).count();
        assert_eq!(refused, usize::from(death.stores == 0), "{given:?}, {death:?}");
        assert!(given[refused..].is_sorted() && given[refused..].iter().all(Option::is_some), "{given:?}");
        for mut witness in [Witness::new(&ring), early] {
            (0..ROW).for_each(|_| witness.read()); // each read gives up one ticket of the row
            for (n, ticket) in (NEXT..).zip(&given).filter_map(|(n, ticket)| Some((n, (*ticket)?))) {
                assert_eq!(witness.read.get(&ticket), Some(&n), "{given:?}, {death:?}");
            }
        }
        death
    });
}
