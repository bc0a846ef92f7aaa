//! Tables of one cell or one latch, a bank of counters, and histograms: in a map, in a per-CPU map, or in a global variable.

use mapring_core::abi::histogram::HISTOGRAM;
use mapring_core::abi::{Geometry, Kind, Preamble};
use mapring_core::protocol::{Words, cell};

use crate::machine::Machine;
use crate::map::{Change, Inner, Map};
use crate::models::Code;
use crate::mutate::Sites;
use crate::ring::Word;
use crate::sync::{AtomicU64, Ordering};

/// The number of CPUs with a copy of a map.
pub const CPUS: usize = 2;

/// A bit in the context that makes a program write, if it can do both.
pub const WRITE: u64 = 1 << 63;

/// Words of a value.
const VALUE: usize = 2;

/// A cell, a latch, counters or histograms.
pub struct Region {
    /// Its map, or its variable.
    pub map: Map,
    /// Its position: in each copy, if each CPU has one.
    at: usize,
    /// The word that counts dropped updates.
    dropped: Option<usize>,
}

impl Region {
    /// The map or variable with the programs' name `name`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let variable = |stride: usize, dropped| {
            let words = (0..stride).map(|_| AtomicU64::new(0)).collect();
            Self { map: Map { name, words, stride, inner: None }, at: 0, dropped }
        };
        let geometry = match name {
            "global_cell" => return variable(1 + VALUE + 1, Some(1 + VALUE)),
            "global_latch" => return variable(1 + 2 * VALUE, None),
            "cell" | "percpu_cell" => Geometry::new(Kind::Cells, 8 * VALUE as u64, 1, 1),
            "histogram" => Geometry::new(Kind::Histograms, HISTOGRAM as u64, 2, 1),
            "latch" => Geometry::new(Kind::Latches, 8 * VALUE as u64, 1, 1),
            _ => Geometry::new(Kind::Counters, 8, 2, 1),
        };
        let geometry = geometry.unwrap();
        let inner = name.starts_with("percpu").then_some(Inner::Copies(CPUS));
        let copies = if inner.is_some() { CPUS } else { 1 };
        let words = (0..copies * geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let map = Map { name, words, stride: geometry.element_words(), inner };
        Self { map, at: geometry.shard(0) * geometry.element_words(), dropped: Some(Preamble::DROPPED) }
    }

    /// Words of a CPU's copy.
    fn copy(&self) -> usize {
        if let Some(Inner::Copies(cpus)) = self.map.inner {
            self.map.words.len() / cpus
        } else {
            self.map.words.len()
        }
    }

    /// The words of a cell, a latch or a bank and the words after it, in this CPU's copy if each has one.
    #[must_use]
    pub fn words_of(&self, cpu: usize) -> &[AtomicU64] {
        &self.map.words[cpu * self.copy()..][..self.copy()][self.at..]
    }

    /// The words of the first one.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.words_of(0)
    }

    /// The number of dropped updates in a CPU's copy.
    #[must_use]
    pub fn dropped_by(&self, cpu: usize) -> u64 {
        let dropped = self.dropped.expect("programs do not write latches");
        self.map.words[cpu * self.copy() + dropped].load(Ordering::Relaxed)
    }

    /// The kind of a word of the map.
    #[must_use]
    pub fn kind(&self, word: usize) -> Word {
        let word = word % self.copy();
        match word {
            _ if Some(word) == self.dropped => Word::Dropped,
            _ if self.map.name.ends_with("counters") || self.map.name == "histogram" => Word::Record,
            _ if word == self.at => Word::Seq(0),
            _ => Word::Record,
        }
    }

    /// A program ready to run.
    #[must_use]
    pub fn machine<'a>(&'a self, code: &'a Code, cpu: usize, context: [u64; 2]) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, cpu as u64, context)
    }

    /// A program that reads in `cpu`'s copy, stopped before another read after `looks` failed ones: those read `other`,
    /// where writers spoilt each.
    #[must_use]
    pub fn machine_after<'a>(
        &'a self,
        looks: usize,
        other: &'a Self,
        code: &'a Code,
        cpu: usize,
        context: [u64; 2],
    ) -> Machine<'a> {
        // A taken cell is read only once per try.
        let at_seq = if self.map.name.ends_with("cell") { looks } else { 2 * looks };
        let mut machine = other.machine(code, 0, context);
        let mut seqs = 0;
        loop {
            if machine.shares_next().is_some_and(|word| other.kind(word) == Word::Seq(0)) {
                if seqs == at_seq {
                    machine.move_to(&self.map);
                    return machine;
                }
                seqs += 1;
                other.spoil(cpu);
            }
            assert_eq!(machine.step(), None, "it looks again");
        }
    }

    /// Changes a cell or a latch so that a read fails.
    fn spoil(&self, cpu: usize) {
        let seq = &self.words_of(cpu)[0];
        seq.store((seq.load(Ordering::Relaxed) | 1) + 2, Ordering::Relaxed);
    }

    /// Runs a program that writes the first one. Returns the final sequence of its write to a cell, if it wrote.
    pub fn run(&self, code: &Code, value: u64) -> Option<u64> {
        self.write(self.machine(code, 0, [value, 0]))
    }

    /// Runs a program that writes to its end: as [`run`](Self::run).
    pub fn write(&self, mut machine: Machine<'_>) -> Option<u64> {
        let returned = machine.run() & 0xffff_ffff;
        let wrote = |change: &&Change| self.kind(change.word) == Word::Seq(0);
        let seqs: Vec<_> = machine.changes().iter().filter(wrote).map(|change| change.value).collect();
        match seqs[..] {
            [] if self.map.name.ends_with("cell") => {
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

    /// One read of the first cell by the production reader.
    #[must_use]
    pub fn look(&self) -> Option<(u64, [u64; 2])> {
        let mut value = [0; 2];
        cell::try_read(Words::new(&self.words()[..1 + VALUE]), &mut value).map(|seq| (seq, value))
    }
}

/// The maximum number of reads by a program: `MAPRING__MAX_TRIES`.
pub const TRIES: usize = 4;

/// The accesses of a program's instructions: undisturbed, with another writer in the cell, and with all reads spoilt.
pub fn sites(name: &'static str, code: &Code) -> Sites {
    let mut sites = Sites::new();
    for (seq, does, spoilt) in
        [(0, 0, false), (1, 0, false), (0, 0, true), (0, WRITE, false), (1, WRITE, false)]
    {
        let region = Region::new(name);
        if does == WRITE && !matches!(region.map.inner, Some(Inner::Copies(_))) {
            continue;
        }
        region.words()[0].store(seq, Ordering::Relaxed);
        // A writer writes 1; a reader reads from CPU 0.
        let mut machine = region.machine(code, 0, [does >> 63, does]);
        loop {
            if let Some(word) = machine.shares_next() {
                if spoilt && region.kind(word) == Word::Seq(0) && machine.changes().is_empty() {
                    region.spoil(0);
                }
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
