//! Models of cells, counters and histograms that programs write, and of latches that they read, in maps and in global
//! variables.

use std::collections::BTreeMap;
use std::sync::Arc;

use mapring_core::abi::histogram::bucket;
use mapring_core::protocol::{Words, WordsMut, cell, counters, latch};

use crate::check;
use crate::machine::Machine;
use crate::models::{Code, Seen};
use crate::region::{Region, TRIES};
use crate::sync::Ordering;
use crate::sync::thread::{self, JoinHandle};

/// Two writers of a cell, or its only one, and a reader of it. A write replaces the value, or `adds` to it.
fn writers(name: &'static str, two: bool, adds: bool, code: Code, seen: Seen) -> u64 {
    check(Some(if two { 1 } else { 2 }), move || {
        let region = Arc::new(Region::new(name));
        let reader = spawn(&region, |region| [region.look(), region.look()]);
        let writer = code.clone();
        let other = two.then(|| spawn(&region, move |region| region.run(&writer, 16).map(|seq| (seq, 16))));
        let mut writes = BTreeMap::from([(0, 0)]);
        let mut dropped = 0;
        let mine = [1, 2].map(|value| region.run(&code, value).map(|seq| (seq, value)));
        for write in mine.into_iter().chain(other.map(|other| other.join().unwrap())) {
            match write {
                Some((seq, value)) => {
                    assert_eq!(writes.insert(seq, value), None, "two writes with the sequence {seq}")
                }
                None => dropped += 1,
            }
        }
        let holds = |seq: u64| -> u64 {
            if adds { writes.range(..=seq).map(|(_, value)| value).sum() } else { writes[&seq] }
        };
        let looks = reader.join().unwrap();
        seen.note("meanwhile", looks[0] != looks[1] && looks[1].is_some());
        seen.note("dropped", dropped > 0);
        let last = region.look();
        assert!(last.is_some(), "every write has ended");
        for (seq, value) in looks.into_iter().chain([last]).flatten() {
            assert_eq!(value, [holds(seq); 2], "at {seq}, of {writes:?}");
        }
        assert!(
            looks[0].map(|look| look.0) <= looks[1].or(last).map(|look| look.0),
            "back in time: {looks:?}"
        );
        assert_eq!(last.map(|look| look.0), Some(2 * (writes.len() as u64 - 1)), "two a write");
        assert_eq!(region.dropped_by(0), dropped, "dropped, and not counted");
    })
}

/// Two writers that replace the value.
pub(crate) fn set(name: &'static str, code: Code, seen: Seen) -> u64 {
    writers(name, true, false, code, seen)
}

/// Two writers that add to it.
pub(crate) fn update(name: &'static str, code: Code, seen: Seen) -> u64 {
    writers(name, true, true, code, seen)
}

/// The only writer, which does not need to claim it.
pub(crate) fn alone(name: &'static str, code: Code, seen: Seen) -> u64 {
    writers(name, false, false, code, seen)
}

/// A program and the production writer write the same cell, and a production reader reads it.
pub(crate) fn beside_rust(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let region = Arc::new(Region::new(name));
        let other = spawn(&region, |region| cell::set(WordsMut::new(region.words()), &[16_u64; 2]));
        let reader = spawn(&region, Region::look);
        let mine = region.run(&code, 1);
        let other = other.join().unwrap();
        // The second writer's value remains.
        let writes = match (mine, other) {
            (Some(2), true) => vec![0, 1, 16],
            (Some(4), true) => vec![0, 16, 1],
            (Some(2), false) => vec![0, 1],
            (None, true) => vec![0, 16],
            wrote => panic!("{wrote:?}"),
        };
        seen.note("after the production writer", mine == Some(4));
        seen.note("before the production writer", writes.len() == 3 && mine == Some(2));
        seen.note("dropped", mine.is_none());
        seen.note("in the way of the production writer", !other);
        let (look, last) = (reader.join().unwrap(), region.look());
        seen.note("meanwhile", look.is_some_and(|(seq, _)| seq > 0));
        assert_eq!(last.map(|look| look.0), Some(2 * (writes.len() as u64 - 1)), "two a write");
        for (seq, value) in look.into_iter().chain(last) {
            assert_eq!(value, [writes[usize::try_from(seq / 2).unwrap()]; 2], "at {seq}, of {writes:?}");
        }
        assert_eq!(region.dropped_by(0), u64::from(mine.is_none()), "dropped, and not counted");
    })
}

/// Two writers that find the cell taken by another.
pub(crate) fn taken(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new(name));
        region.words()[0].store(1, Ordering::Relaxed);
        let writer = code.clone();
        let other = spawn(&region, move |region| region.run(&writer, 16));
        assert_eq!([region.run(&code, 1), other.join().unwrap()], [None, None], "took a taken cell");
        seen.note("dropped", true);
        assert_eq!(region.look(), None);
        assert_eq!(region.dropped_by(0), 2, "dropped, and not counted");
    })
}

/// Two programs that count, and a reader.
pub(crate) fn count(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new(name));
        let get = |region: &Region| counters::get(Words::new(region.words()), 0);
        let reader = spawn(&region, move |region| [get(region), get(region)]);
        let writer = code.clone();
        let other = spawn(&region, move |region| region.run(&writer, 16));
        for by in [1, 2] {
            region.run(&code, by);
        }
        other.join().unwrap();
        let [first, second] = reader.join().unwrap();
        assert!(first <= second, "counts back from {first} to {second}");
        seen.note("meanwhile", first != second);
        assert_eq!(get(&region), 19, "lost a count");
    })
}

/// Two programs that count values in a histogram, and a reader of differences.
pub(crate) fn observe(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new(name));
        // Values of one bucket.
        let get = |region: &Region| counters::get(Words::new(region.words()), bucket(1000));
        let reader = spawn(&region, move |region| [get(region), get(region)]);
        let writer = code.clone();
        let other = spawn(&region, move |region| region.run(&writer, 960));
        for value in [1023, 1000] {
            region.run(&code, value);
        }
        other.join().unwrap();
        let [first, second] = reader.join().unwrap();
        assert!(first <= second, "counts back from {first} to {second}");
        seen.note("meanwhile", first != second);
        assert_eq!(get(&region), 3, "lost a value");
    })
}

/// A program reads a latch while the production writer writes it twice, and once more. Each model starts after a
/// different number of failed reads.
pub(crate) fn read_latch(name: &'static str, code: Code, seen: Seen) -> u64 {
    let after = |looks: usize| {
        let (code, seen) = (code.clone(), seen.clone());
        check(None, move || {
            let (region, other) = (Arc::new(Region::new(name)), Region::new(name));
            let program = code.clone();
            let reader = spawn(&region, move |region| {
                run_to_end(region.machine_after(looks, &other, &program, 0, [0, 0]))
            });
            let latch = WordsMut::new(region.words()).slice(0, 5);
            (1..=2_u64).for_each(|value| latch::set(latch, &[value; 2]));
            let (found, steps) = reader.join().unwrap();
            let (last, undisturbed) = run_to_end(region.machine(&code, 0, [0, 0]));
            assert_eq!(last, Some([2; 2]), "the last value");
            match found {
                Some([a, b]) => assert!(a == b && a <= 2, "{a} and {b}"),
                None => assert!(looks > TRIES - 3, "two writes can't spoil more than two looks"),
            }
            seen.note("meanwhile", found == Some([1; 2]));
            seen.note("looked again", looks == 0 && steps > undisturbed);
        })
    };
    (0..TRIES).map(after).sum()
}

/// The program's result of a read, and its number of instructions.
pub(crate) fn run_to_end(mut machine: Machine<'_>) -> (Option<[u64; 2]>, usize) {
    let value = match machine.run() & 0xffff_ffff {
        0 => Some(machine.context()),
        0xffff_ffff => None,
        other => panic!("returned {other:#x}"),
    };
    assert!(machine.changes().is_empty(), "who reads writes nothing");
    (value, machine.steps())
}

pub(crate) fn spawn<T: 'static + Send>(
    region: &Arc<Region>,
    run: impl FnOnce(&Region) -> T + Send + 'static,
) -> JoinHandle<T> {
    let region = Arc::clone(region);
    thread::spawn(move || run(&region))
}
