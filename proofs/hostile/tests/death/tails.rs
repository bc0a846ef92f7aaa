//! Rings with tails: every path through the claim of a tail, and every end of one.

use std::ops::Range;

use mapring::abi::{Preamble, Tails};
use mapring::writers::MemfdOptions;
use mapring::{OpenOptions, Region, Ring};
use mapring_hostile_tests::{Death, Memory, Record};

use super::witness::Witness;
use super::{at_every_store, kill, next};

const SLOTS: usize = 4;
const LONGEST: usize = 32;
/// Four of the longest tails, and the bytes of its newest tails that can always be read.
const AREA: u64 = 128;
const ALWAYS: u64 = AREA * 7 / 8 - LONGEST as u64;

/// The header for tails; the slots, and the words of one: sequence, position, length, record.
const TAILS: usize = Preamble::WORDS + 8;
const NEXT: usize = TAILS;
const HIGH: usize = TAILS + 1;
const ACTIVE: usize = TAILS + 16;
const FIRST_SLOT: usize = ACTIVE + Tails::WRITERS;
const SLOT: usize = 3 + Record::WORDS;

/// The ring before the victim runs, and the victim's operation.
struct Scene {
    name: &'static str,
    args: &'static [&'static str],
    prepare: fn(&Ring<Record>),
    /// The number of stores, and which of them enters the position, claims the slot, publishes the record, leaves the
    /// position, and counts the drop.
    stores: usize,
    enters: usize,
    claims: usize,
    publishes: usize,
    leaves: usize,
    counts: usize,
    /// Where it has left a position, and not entered the next one.
    again: Range<usize>,
    /// Slots and positions of those who died before.
    stuck: usize,
    dead: usize,
}

const VICTIM: u64 = 500;
const SHORT: &[&str] = &["tails", "1", "500", "16"];

/// A record with a tail of two words, over the oldest one: the position, the entry, the grant (two stores); the slot, its
/// hint; record, tail, position and length; the record's end, what is given back, and the entry.
const PUSH: Scene = Scene {
    name: "push with a tail",
    args: SHORT,
    prepare: |ring| push(ring, 1..8, LONGEST),
    stores: 4 + 2 + Record::WORDS + 2 + 2 + 3,
    enters: 2,
    claims: 5,
    publishes: 14,
    leaves: 16,
    counts: usize::MAX,
    again: 0..0,
    stuck: 0,
    dead: 0,
};

/// Drops: no record is published.
const DROP: Scene = Scene { claims: usize::MAX, publishes: usize::MAX, prepare: |_| {}, ..PUSH };

const SCENES: &[Scene] = &[
    PUSH,
    Scene {
        name: "push over a dead writer",
        prepare: |ring| {
            kill(&ring.region(), 8, SHORT);
            push(ring, 1..4, LONGEST);
        },
        stores: PUSH.stores + 6,
        // The position, the entry; the grant (three stores), the entry. Then again.
        again: 6..8,
        claims: PUSH.claims + 6,
        publishes: PUSH.publishes + 6,
        leaves: PUSH.leaves + 6,
        stuck: 1,
        dead: 1,
        ..PUSH
    },
    Scene {
        name: "drop where no entry is free",
        prepare: |ring| {
            let memory = Memory::of(&ring.region());
            push(ring, 1..2, LONGEST);
            (ACTIVE..FIRST_SLOT).for_each(|entry| memory.put(entry, 1));
        },
        stores: 5,
        enters: usize::MAX,
        leaves: usize::MAX,
        counts: 5,
        dead: Tails::WRITERS,
        ..DROP
    },
    // With a grant.
    Scene {
        name: "drop where all slots are stuck",
        prepare: |ring| {
            let memory = Memory::of(&ring.region());
            (0..SLOTS).for_each(|slot| memory.put(FIRST_SLOT + SLOT * slot, 1));
            memory.put(Preamble::WORDS, SLOTS as u64);
        },
        stores: 9,
        leaves: 9,
        counts: 7,
        stuck: SLOTS,
        ..DROP
    },
    Scene {
        name: "a tail that is too long",
        args: &["tails", "1", "500", "40"],
        stores: 3,
        enters: usize::MAX,
        leaves: usize::MAX,
        counts: 3,
        ..DROP
    },
];

fn push(ring: &Ring<Record>, numbers: Range<u64>, bytes: usize) {
    let writer = ring.writer(0).unwrap();
    numbers.map(Record::new).for_each(|record| {
        assert!(writer.push_with_tail(&record, &record.tail(bytes)).is_some());
    });
}

fn create() -> Ring<Record> {
    Ring::create_memfd_with(
        SLOTS,
        1,
        MemfdOptions::default().tails(Tails::new(LONGEST as u64, AREA).unwrap()),
    )
    .unwrap()
}

/// The number of slots that are claimed and have not ended, and of entered positions.
fn left(region: &Region) -> (usize, usize) {
    let words = Memory::of(region).words();
    let seqs = words[FIRST_SLOT..].iter().step_by(SLOT).take(SLOTS);
    let entries = words[ACTIVE..FIRST_SLOT].iter();
    (seqs.filter(|seq| **seq % 2 == 1).count(), entries.filter(|entry| **entry != 0).count())
}

/// The records in the slots whose tails can be read, and those whose tails can always be read.
fn readable(region: &Region) -> [Vec<u64>; 2] {
    let words = Memory::of(region).words();
    let mut slots: Vec<_> =
        words[FIRST_SLOT..].chunks(SLOT).take(SLOTS).filter(|slot| slot[0] != 0).collect();
    slots.retain(|slot| slot[0] % 2 == 0 && slot[0] >> 63 == 0);
    let after = |position: u64, bytes: u64| {
        let there = slots.iter().filter(|slot| position <= slot[1] + bytes);
        let mut there: Vec<_> = there.map(|slot| slot[3]).collect();
        there.sort_unstable();
        there
    };
    [after(words[HIGH], AREA), after(words[NEXT], ALWAYS)]
}

fn play(scene: &Scene, stores: usize) -> Death {
    let ring = create();
    (scene.prepare)(&ring);
    // Three readers: one has read everything before the victim ran, one has read nothing yet, one starts later.
    let mut early = Witness::new(&ring);
    early.read();
    let before = early.values();
    let behind = Witness::new(&ring);
    let dropped = early.reader.stats().dropped();

    let [_, always] = readable(&ring.region());
    let death = kill(&ring.region(), stores, scene.args);
    let holds = (scene.enters..scene.leaves).contains(&death.stores) && !scene.again.contains(&death.stores);
    let claimed = (scene.claims..scene.publishes).contains(&death.stores);
    let now = left(&ring.region());
    assert_eq!(now, (scene.stuck + usize::from(claimed), scene.dead + usize::from(holds)), "{death:?}");

    // Readers get the records that are still there, with their tails; the newest ones always are.
    let published = death.stores >= scene.publishes;
    let [there, _] = readable(&ring.region());
    assert_eq!(there.contains(&VICTIM), published, "{death:?}");
    // The oldest record may have been in the victim's slot.
    let oldest = before.iter().rev().nth(SLOTS - 1);
    let missing = always.iter().find(|n| !there.contains(n) && Some(*n) != oldest);
    assert_eq!(missing, None, "{there:?}, {death:?}");
    let late = OpenOptions::new().open(Memory::of(&ring.region()).fd()).unwrap();
    let mut witnesses = [early, behind, Witness::new(&Ring::from_region(late).unwrap())];
    for witness in &mut witnesses {
        witness.read();
    }
    let with_it: Vec<_> = before.into_iter().chain(published.then_some(VICTIM)).collect();
    assert_eq!(witnesses[0].values(), with_it, "{death:?}");
    assert_eq!([witnesses[1].values(), witnesses[2].values()], [there.clone(), there], "{death:?}");

    // The next writer continues, or finds the same in its way. Its records reach every reader.
    let output = next(&ring.region(), &["tails", "2", "1000", "16"]);
    let refused = output.split(' ').filter(|ticket| *ticket == "-").count();
    assert_eq!(
        refused,
        if scene.stuck == SLOTS || scene.dead == Tails::WRITERS { 2 } else { 0 },
        "{output}, {death:?}"
    );
    for witness in &mut witnesses {
        witness.read();
        let values = witness.values();
        assert!(values.ends_with(&[1000, 1001][refused..]), "{values:?}, {death:?}");
        let own = usize::from(death.stores >= scene.counts);
        assert_eq!(witness.reader.stats().dropped() - dropped, (refused + own) as u64);
    }

    around(&ring, &mut witnesses[0], now);
    death
}

/// A dead writer in a tail costs its bytes, until it is removed: the others go on, unless all entries are taken.
fn around(ring: &Ring<Record>, witness: &mut Witness, (stuck, dead): (usize, usize)) {
    let writer = ring.writer(0).unwrap();
    let mut push = |count: u64| {
        let mut pushed = Vec::new();
        for record in (0..count).map(|n| Record::new(2000 + n)) {
            let before = witness.reader.stats().dropped();
            let ticket = writer.push_with_tail(&record, &record.tail(LONGEST));
            witness.read();
            assert_eq!(witness.reader.stats().dropped() - before, u64::from(ticket.is_none()));
            assert!(ticket.is_none_or(|ticket| witness.read.get(&ticket) == Some(&record.n)));
            pushed.push(ticket);
        }
        pushed
    };
    let pushed = push(12);
    let done = pushed.iter().take_while(|ticket| ticket.is_some()).count();
    assert!(pushed[done..].iter().all(Option::is_none), "{pushed:?}");
    if dead == Tails::WRITERS || stuck == SLOTS {
        assert!(done <= 4, "{pushed:?}");
    } else {
        assert_eq!(done, 12);
    }
    drop(writer);
    assert_eq!(next(&ring.region(), &["recover-tails"]), stuck.to_string());
    assert_eq!(left(&ring.region()), (0, 0));
    assert_eq!(next(&ring.region(), &["recover-tails"]), "0");
    let writer = ring.writer(0).unwrap();
    let lost = {
        witness.read();
        witness.reader.lost()
    };
    for record in (0..12).map(|n| Record::new(3000 + n)) {
        let ticket = writer.push_with_tail(&record, &record.tail(LONGEST)).expect("nobody is in the way");
        witness.read();
        assert_eq!(witness.read.get(&ticket), Some(&record.n));
    }
    assert_eq!(witness.reader.lost(), lost, "every ticket has a record");
}

#[test]
fn a_ring_with_tails_loses_the_victims_record_and_no_other() {
    for scene in SCENES {
        at_every_store(scene.name, scene.stores, |stores| play(scene, stores));
    }
}

#[test]
fn recovery_of_tails_can_be_killed_and_repeated() {
    // Two entries, and one slot.
    at_every_store("recover tails", 3, |stores| {
        let ring = create();
        push(&ring, 1..3, LONGEST);
        kill(&ring.region(), 2, SHORT);
        kill(&ring.region(), 8, SHORT);
        assert_eq!(left(&ring.region()), (1, 2));
        let mut early = Witness::new(&ring);
        early.read();
        let death = kill(&ring.region(), stores, &["recover-tails"]);
        let now = left(&ring.region());
        assert_eq!(now, (1 - death.stores / 3, 2 - death.stores.min(2)), "entries first");
        let mut witnesses = [early, Witness::new(&ring)];
        for witness in &mut witnesses {
            witness.read();
            assert_eq!(witness.values(), [1, 2]);
        }
        around(&ring, &mut witnesses[0], now);
        death
    });
}
