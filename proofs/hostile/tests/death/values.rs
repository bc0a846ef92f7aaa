//! Cells, latches, counters, gauges and top keys.

use mapring::abi::gauge::words;
use mapring::abi::top::OTHER;
use mapring::reading::{GaugeReader, GaugeWindow};
use mapring::table::Snapshot;
use mapring::{Cells, Counters, Gauges, Latches, OpenOptions, ReadError, TopKeys};
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

/// The window of the last second has the place of an older one.
#[test]
fn a_new_window_of_a_gauge_has_both_extremes_or_neither() {
    const WINDOW: u64 = 1 << 20;
    const LATER: u64 = WINDOW * 1024;
    at_every_store("gauge set", 2, |stores| {
        let gauges = Gauges::create_memfd(1, 1).unwrap();
        let writer = gauges.writer(0).unwrap();
        assert!(writer.set_at(0, 3, 0).unwrap() && writer.set_at(0, 9, WINDOW).unwrap());
        let death = kill(gauges.region(), stores, &["gauge", "5", &LATER.to_string()]);
        let late = reopened(gauges.region(), Gauges::from_region);
        let seen = |gauges: &Gauges| {
            let windows = gauges.windows(0).unwrap();
            windows.iter().map(|window| (window.ns, window.min, window.max)).collect::<Vec<_>>()
        };
        let expected = match death.stores {
            0 => vec![(0, 3, 3), (WINDOW, 9, 9)],
            1 => vec![(WINDOW, 9, 9)],
            _ => vec![(WINDOW, 9, 9), (LATER, 5, 5)],
        };
        assert_eq!([seen(&gauges), seen(&late)], [expected.clone(), expected], "{death:?}");
        // The next value is in its window. If the victim stored one extreme, that one remains.
        assert_eq!(next(gauges.region(), &["gauge", "4", &LATER.to_string()]), "true");
        let max = if death.stores == 0 { 4 } else { 5 };
        assert_eq!(seen(&gauges), [(WINDOW, 9, 9), (LATER, 4, max)]);
        death
    });
}

/// A writer is stopped between its two stores. Others set a later window, and a reader reads it: then only `windows` has
/// the first one's value.
#[test]
fn a_reader_does_not_go_back_to_a_window_that_was_new() {
    const WINDOW: u64 = 1 << 20;
    let gauges = Gauges::create_memfd(1, 1).unwrap();
    let mut reader = gauges.reader(0).unwrap();
    kill(gauges.region(), 1, &["gauge", "9", "0"]);
    assert_eq!(next(gauges.region(), &["gauge", "5", &WINDOW.to_string()]), "true");
    let of = |window: &GaugeWindow| (window.ns, window.min, window.max);
    let read = |reader: &mut GaugeReader| reader.read().unwrap().windows.iter().map(of).collect::<Vec<_>>();
    assert_eq!(read(&mut reader), [(WINDOW, 5, 5)]);
    // Its second store, as if it went on.
    let first = gauges.region().geometry().shard(0) * gauges.region().geometry().element_words();
    Memory::of(gauges.region()).put(first + 1, words(0, 9)[1]);
    assert_eq!(read(&mut reader), [(WINDOW, 5, 5)]);
    assert_eq!(gauges.windows(0).unwrap().iter().map(of).collect::<Vec<_>>(), [(0, 9, 9), (WINDOW, 5, 5)]);
}

/// A full bucket: the key 1 has the smallest count, and a new key takes its place.
#[test]
fn top_keys_stay_busy_and_count_on_in_other() {
    for (name, key, done) in [("a new key", 100, 5), ("a known key", 1, 3)] {
        at_every_store(&format!("top keys, {name}"), done, |stores| {
            let top = TopKeys::create_memfd(1, 2).unwrap();
            let writer = top.writer(0).unwrap();
            (1..=10).for_each(|key| assert!(writer.add(key, 10 * key)));
            let death = kill(top.region(), stores, &["top", &key.to_string(), "7"]);
            let late = reopened(top.region(), TopKeys::from_region);
            let busy = (1..done).contains(&death.stores);
            let added = if death.stores == done { 7 } else { 0 };
            for top in [&top, &late] {
                match top.largest(10) {
                    Err(ReadError::Busy { .. }) if busy => {}
                    Ok(ranking) if !busy => {
                        assert_eq!((ranking.total, ranking.other), (550 + added, 0));
                        let count =
                            ranking.keys.iter().find(|top| top.key == key).map(|top| (top.count, top.error));
                        let expected = match (key, added) {
                            (1, _) => Some((10 + added, 0)),
                            (_, 0) => None,
                            _ => Some((17, 10)),
                        };
                        assert_eq!(count, expected, "{death:?}");
                    }
                    other => panic!("{death:?}: {other:?}"),
                }
            }
            // The next writer never waits, and its amount is not lost. Nothing ends the bucket: it stays busy.
            let memory = Memory::of(top.region());
            let other = top.region().geometry().shard(0) * top.region().geometry().element_words() + OTHER;
            for round in 1..=2 {
                assert_eq!(next(top.region(), &["top", "5", "3"]), (!busy).to_string());
                assert_eq!(memory.words()[other], if busy { 3 * round } else { 0 });
                assert_eq!(top.largest(10).is_err(), busy);
            }
            // Other shards are written as before.
            assert!(top.writer(1).unwrap().add(5, 1));
            death
        });
    }
}

#[test]
fn an_amount_that_finds_a_busy_bucket_is_one_store() {
    at_every_store("top keys, busy", 1, |stores| {
        let top = TopKeys::create_memfd(1, 1).unwrap();
        kill(top.region(), 1, &["top", "1", "5"]);
        let death = kill(top.region(), stores, &["top", "2", "5"]);
        let memory = Memory::of(top.region());
        let other = top.region().geometry().shard(0) * top.region().geometry().element_words() + OTHER;
        assert_eq!(memory.words()[other], 5 * death.stores as u64);
        death
    });
}
