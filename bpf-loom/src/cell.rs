//! A cell and a bank of counters that programs write, a latch that they read, and their models.

use std::collections::BTreeMap;
use std::sync::Arc;

use mapring::layout::{Geometry, Kind, Preamble};
use mapring::protocol::{Words, WordsMut, cell, counters, latch};

use crate::check;
use crate::machine::{Machine, Map};
use crate::models::{Code, Seen};
use crate::mutate::Sites;
use crate::ring::Word;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicU64, Ordering};

/// A table of one cell or one latch, or a bank of two counters.
struct Region {
    map: Map,
    /// Where that is.
    at: usize,
}

impl Region {
    /// The map that programs call `name`.
    fn new(name: &'static str) -> Self {
        let geometry = match name {
            "cell" => Geometry::new(Kind::Cells, 16, 1, 1),
            "latch" => Geometry::new(Kind::Latches, 16, 1, 1),
            _ => Geometry::new(Kind::Counters, 8, 2, 1),
        };
        let geometry = geometry.unwrap();
        Self { map: Map::new(name, &geometry), at: geometry.shard(0) * geometry.element_words() }
    }

    fn words(&self) -> &[AtomicU64] {
        &self.map.words[self.at..]
    }

    fn kind(&self, word: usize) -> Word {
        match word {
            _ if word < self.at => Word::Dropped,
            _ if word == self.at && self.map.name != "counters" => Word::Seq(0),
            _ => Word::Record,
        }
    }

    /// Runs a program: the sequence that its write of a cell ended with, if it did write.
    fn run(&self, code: &Code, value: u64) -> Option<u64> {
        let mut machine = Machine::new(&code.program, &self.map, code.order, 0, [value, 0]);
        let returned = machine.run() & 0xffff_ffff;
        let wrote = |change: &&crate::machine::Change| self.kind(change.word) == Word::Seq(0);
        let seqs: Vec<_> = machine.changes().iter().filter(wrote).map(|change| change.value).collect();
        match seqs[..] {
            [] if self.map.name == "cell" => {
                assert_eq!(returned, 0xffff_ffff, "wrote nothing, and does not say so")
            }
            [] => {}
            [odd, even] => {
                assert_eq!((returned, odd & 1, even), (0, 1, odd + 1), "claims, then ends what it claimed")
            }
            _ => panic!("claims and ends otherwise than once: {seqs:?}"),
        }
        seqs.get(1).copied()
    }

    fn look(&self) -> Option<(u64, [u64; 2])> {
        let mut value = [0; 2];
        cell::look(Words::new(&self.words()[..3]), &mut value).map(|seq| (seq, value))
    }
}

/// What the instructions of a program access: undisturbed, and with another one in the cell.
pub fn sites(name: &'static str, code: &Code) -> Sites {
    let mut sites = Sites::new();
    for seq in [0, 1] {
        let region = Region::new(name);
        region.words()[0].store(seq, Ordering::Relaxed);
        let mut machine = Machine::new(&code.program, &region.map, code.order, 0, [1, 0]);
        loop {
            if let Some(word) = machine.shares_next() {
                sites.entry(machine.pc()).or_default().insert(region.kind(word));
            } else if machine.is_at_barrier() {
                sites.entry(machine.pc()).or_default();
            }
            if machine.step().is_some() {
                break;
            }
        }
    }
    sites
}

/// Two writers of a cell, or the only one, and a reader of it. What they write replaces what is there, or
/// `adds` to it.
fn writers(two: bool, adds: bool, code: Code, seen: Seen) -> u64 {
    check(Some(if two { 1 } else { 2 }), move || {
        let region = Arc::new(Region::new("cell"));
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
        assert_eq!(
            region.map.words[Preamble::DROPPED].load(Ordering::Relaxed),
            dropped,
            "dropped, and not counted"
        );
    })
}

/// Two writers that replace the value.
pub(crate) fn set(_: &'static str, code: Code, seen: Seen) -> u64 {
    writers(true, false, code, seen)
}

/// Two writers that add to it.
pub(crate) fn update(_: &'static str, code: Code, seen: Seen) -> u64 {
    writers(true, true, code, seen)
}

/// The only writer, which need not claim it.
pub(crate) fn alone(_: &'static str, code: Code, seen: Seen) -> u64 {
    writers(false, false, code, seen)
}

/// Two writers that find someone else in the cell.
pub(crate) fn taken(_: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new("cell"));
        region.words()[0].store(1, Ordering::Relaxed);
        let writer = code.clone();
        let other = spawn(&region, move |region| region.run(&writer, 16));
        assert_eq!([region.run(&code, 1), other.join().unwrap()], [None, None], "took a taken cell");
        seen.note("dropped", true);
        assert_eq!(region.look(), None);
        assert_eq!(
            region.map.words[Preamble::DROPPED].load(Ordering::Relaxed),
            2,
            "dropped, and not counted"
        );
    })
}

/// Two programs that count, and a reader.
pub(crate) fn count(_: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new("counters"));
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

/// A program that reads a latch while the production writer writes it twice, and once more.
pub(crate) fn read_latch(_: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new("latch"));
        let writer = spawn(&region, |region| {
            let latch = WordsMut::new(region.words()).slice(0, 5);
            (1..=2_u64).for_each(|value| latch::set(latch, &[value; 2]));
        });
        let read = || {
            let mut machine = Machine::new(&code.program, &region.map, code.order, 0, [0, 0]);
            assert_eq!(machine.run() & 0xffff_ffff, 0, "two writes can't spoil four looks");
            (machine.context(), machine.steps())
        };
        let ([a, b], steps) = read();
        assert!(a == b && a <= 2, "{a} and {b}");
        writer.join().unwrap();
        let (last, undisturbed) = read();
        assert_eq!(last, [2; 2], "the last value");
        seen.note("meanwhile", a == 1);
        seen.note("looked again", steps > undisturbed);
    })
}

fn spawn<T: 'static + Send>(
    region: &Arc<Region>,
    run: impl FnOnce(&Region) -> T + Send + 'static,
) -> JoinHandle<T> {
    let region = Arc::clone(region);
    thread::spawn(move || run(&region))
}
