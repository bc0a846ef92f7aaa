//! Cells, latches and counters.

use mapring::{Cells, Counters, Latches, OpenOptions, ReadError, Snapshot};
use mapring_hostile_tests::{Memory, Record};

use super::{at_every_store, kill, next};

fn reopened<T>(region: &mapring::Region, from: impl FnOnce(mapring::Region) -> mapring::Result<T>) -> T {
    from(OpenOptions::new().open(Memory::of(region).fd()).unwrap()).unwrap()
}

/// The content of a cell, for a handle opened before and for a new one: `None` if it is busy.
fn cell(cells: &Cells<Record>, index: usize) -> Option<Snapshot<Record>> {
    let late: Cells<Record> = reopened(cells.region(), Cells::from_region);
    let [seen, seen_late] = [cells, &late].map(|cells| match cells.snapshot(index) {
        Ok(snapshot) => {
            assert!(snapshot.value.is_whole(), "{snapshot:?}");
            Some(snapshot)
        }
        Err(ReadError::Busy { .. }) => None,
        Err(other) => panic!("{other}"),
    });
    assert_eq!(seen, seen_late);
    seen
}

fn snapshot(version: u64, n: u64) -> Option<Snapshot<Record>> {
    Some(Snapshot { version, value: Record::new(n) })
}

#[test]
fn a_cell_holds_the_old_value_the_new_one_or_none() {
    const DONE: usize = 2 + Record::WORDS;
    at_every_store("cell set", DONE, |stores| {
        let cells = Cells::<Record>::create_memfd(2).unwrap();
        let writer = cells.writer().unwrap();
        assert!(writer.set(0, &Record::new(1)).unwrap() && writer.set(1, &Record::new(2)).unwrap());
        let death = kill(cells.region(), stores, &["set", "3"]);
        let busy = (1..DONE).contains(&death.stores);
        let left = if death.stores == 0 { snapshot(1, 1) } else { snapshot(2, 3) };
        assert_eq!(cell(&cells, 0), left.filter(|_| !busy));
        assert_eq!(cell(&cells, 1), snapshot(1, 2), "a neighbour");

        assert_eq!(next(cells.region(), &["set", "4"]), (!busy).to_string());
        assert_eq!(cells.region().dropped().unwrap(), u64::from(busy));
        let version = left.unwrap().version;
        assert_eq!(cell(&cells, 0), snapshot(version + 1, 4).filter(|_| !busy));

        // Publishes only if a write was abandoned.
        assert_eq!(next(cells.region(), &["recover-cell", "5"]), busy.to_string());
        assert_eq!(cell(&cells, 0), if busy { snapshot(2, 5) } else { snapshot(version + 1, 4) });
        assert_eq!(next(cells.region(), &["set", "6"]), "true");
        assert_eq!(cell(&cells, 0).unwrap().value, Record::new(6));
        death
    });
}

#[test]
fn giving_up_on_a_busy_cell_is_one_store() {
    at_every_store("cell set, busy", 1, |stores| {
        let cells = Cells::<Record>::create_memfd(1).unwrap();
        kill(cells.region(), 2, &["set", "1"]);
        let death = kill(cells.region(), stores, &["set", "2"]);
        assert_eq!((cell(&cells, 0), cells.region().dropped().unwrap()), (None, death.stores as u64));
        death
    });
}

#[test]
fn recovery_of_a_cell_can_be_killed_and_repeated() {
    const DONE: usize = Record::WORDS + 1;
    at_every_store("cell recover", DONE, |stores| {
        let cells = Cells::<Record>::create_memfd(1).unwrap();
        assert!(cells.writer().unwrap().set(0, &Record::new(1)).unwrap());
        kill(cells.region(), 3, &["set", "2"]);
        let death = kill(cells.region(), stores, &["recover-cell", "3"]);
        let busy = death.stores < DONE;
        assert_eq!(cell(&cells, 0), snapshot(2, 3).filter(|_| !busy));
        assert_eq!(next(cells.region(), &["recover-cell", "4"]), busy.to_string());
        assert_eq!(cell(&cells, 0), snapshot(2, if busy { 4 } else { 3 }));
        death
    });
}

#[test]
fn a_latch_always_holds_the_last_finished_value() {
    const DONE: usize = Record::WORDS + 1;
    for again in 0..=DONE {
        at_every_store(&format!("latch set after death at {again}"), DONE, |stores| {
            let latches = Latches::<Record>::create_memfd(2).unwrap();
            let writer = latches.writer().unwrap();
            writer.set(0, &Record::new(1)).unwrap();
            writer.set(1, &Record::new(2)).unwrap();
            drop(writer);
            kill(latches.region(), again, &["latch", "3"]);
            let first = again / DONE;
            let death = kill(latches.region(), stores, &["latch", "4"]);
            let second = death.stores / DONE;
            let late: Latches<Record> = reopened(latches.region(), Latches::from_region);
            let value = if second == 1 { 4 } else { [1, 3][first] };
            let version = 1 + (first + second) as u64;
            for latches in [&latches, &late] {
                assert_eq!(latches.snapshot(0).unwrap(), snapshot(version, value).unwrap());
                assert_eq!(latches.snapshot(1).unwrap(), snapshot(1, 2).unwrap(), "a neighbour");
            }
            if again == 2 {
                next(latches.region(), &["latch", "5"]);
                assert_eq!(latches.snapshot(0).unwrap(), snapshot(version + 1, 5).unwrap());
            }
            death
        });
    }
}

#[test]
fn a_counter_holds_the_old_number_or_the_new_one() {
    at_every_store("counter add", 1, |stores| {
        let counters = Counters::create_memfd(2, 2).unwrap();
        counters.writer(0).unwrap().add(0, 10).unwrap();
        counters.writer(1).unwrap().add(0, 100).unwrap();
        let death = kill(counters.region(), stores, &["add", "5"]);
        let now = 10 + 5 * death.stores as u64;
        let late = reopened(counters.region(), Counters::from_region);
        for counters in [&counters, &late] {
            assert_eq!((counters.get(0, 0).unwrap(), counters.sum(0).unwrap()), (now, now + 100));
            assert_eq!(counters.sum(1).unwrap(), 0, "a neighbour");
        }
        next(counters.region(), &["add", "7"]);
        assert_eq!(counters.get(0, 0).unwrap(), now + 7);
        death
    });
}
