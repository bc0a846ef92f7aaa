//! Programs that read a cell or a latch up to four times, while others write before any of their accesses, in every
//! order: this tests the programs' decisions. The models under loom test the reordering of machines.

use std::collections::BTreeSet;

use mapring_core::protocol::{WordsMut, cell, latch};

use crate::decode::Insn;
use crate::models::Code;
use crate::mutate::Mutant;
use crate::nest::Choices;
use crate::region::{CPUS, Region, TRIES, WRITE};
use crate::ring::Word;
use crate::sync::Ordering;

/// The CPU whose cells and counters programs of another CPU read.
const OTHER: usize = CPUS - 1;

/// The value in the program's own CPU's copy.
const OWN: u64 = 99;

/// The writer of the value: each write is a number of steps, and writes its number to both words.
#[derive(Clone, Copy)]
enum Writer {
    /// The production writer of a cell, step by step.
    Cell,
    /// The production writer of a latch, word by word.
    Latch,
}

impl Writer {
    const fn steps(self) -> u64 {
        match self {
            Self::Cell => 4,
            Self::Latch => 3,
        }
    }

    /// Performs step `at`, counted over all writes.
    fn step(self, words: WordsMut<'_>, at: u64) {
        let number = at / self.steps() + 1;
        let step = usize::try_from(at % self.steps()).unwrap();
        match (self, step) {
            (Self::Cell, 0) => assert_eq!(cell::begin(words), Some(2 * number - 1)),
            (Self::Cell, 3) => cell::end(words, 2 * number - 1),
            (Self::Cell, word) => words.write(word, &number),
            (Self::Latch, 2) => words.store(0, number, Ordering::Release),
            (Self::Latch, word) => {
                words.write(latch::copy_at::<[u64; 2]>(number, words.len()).0 + word, &number)
            }
        }
    }

    /// The number of writes that have ended after this many steps.
    const fn ended(self, steps: u64) -> u64 {
        steps / self.steps()
    }

    /// Groups these loads into reads of the value: for each, whether its copy was whole.
    fn looks(self, loads: &[Load]) -> Vec<bool> {
        let mut looks = Vec::new();
        let mut loads = loads.iter().copied().peekable();
        while let Some(load) = loads.next() {
            let Load::Seq(before) = load else {
                panic!("a value is copied between two looks at its sequence")
            };
            while loads.next_if_eq(&Load::Value).is_some() {}
            looks.push(match (self, before & 1) {
                (Self::Cell, 1) => false,
                _ => match loads.next() {
                    Some(Load::Seq(after)) => after == before,
                    _ => panic!("a value is copied, and its sequence not looked at again"),
                },
            });
        }
        looks
    }
}

/// One load of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// This sequence.
    Seq(u64),
    /// A word of a value.
    Value,
}

/// The results of all runs of a program.
#[derive(Debug, Default)]
pub struct Found {
    /// The number of runs.
    pub runs: u64,
    /// The number of runs that reported a busy writer.
    pub busy: u64,
    /// The number of runs that read again, and then got the value.
    pub again: u64,
    /// The executed instructions.
    executed: BTreeSet<usize>,
}

impl Found {
    /// Runs the program that reads element `index`, in the copy of `cpu` if each CPU has one, and calls `before` before
    /// each access. Returns the value, unless the program reports none, and its loads.
    fn read(
        &mut self,
        region: &Region,
        code: &Code,
        cpu: u64,
        index: u64,
        mut before: impl FnMut(),
    ) -> (Option<u64>, Vec<Load>) {
        let context = if region.map.inner.is_some() { [cpu, index] } else { [0, index] };
        let mut machine = region.machine(code, 0, context);
        let mut loads = Vec::new();
        let returned = loop {
            if let Some(word) = machine.shares_next() {
                before();
                let value = region.map.words[word].load(Ordering::Relaxed);
                loads.push(if region.kind(word) == Word::Seq(0) { Load::Seq(value) } else { Load::Value });
            }
            self.executed.insert(machine.pc());
            if let Some(returned) = machine.step() {
                break returned;
            }
        };
        assert!(machine.changes().is_empty(), "who reads writes nothing");
        let [a, b] = machine.context();
        match returned & 0xffff_ffff {
            0 => {
                assert_eq!(a, b, "a half-written value");
                (Some(a), loads)
            }
            0xffff_ffff => (None, loads),
            other => panic!("returned {other:#x}"),
        }
    }

    /// Before each access any number of steps, `chunk` at a time, `limit` at most.
    fn interrupted(&mut self, name: &'static str, code: &Code, writer: Writer, chunk: u64, limit: u64) {
        self.runs += Choices::explore(|choices| {
            let region = Region::new(name);
            let copies = region.map.inner.is_some();
            if copies {
                assert_eq!(region.write(region.machine(code, 0, [OWN, WRITE])), Some(2));
            }
            let words = WordsMut::new(region.words_of(if copies { OTHER } else { 0 }));
            let (mut steps, mut first) = (0, None);
            let (value, loads) = self.read(&region, code, OTHER as u64, 0, || {
                while steps < limit && choices.choose() {
                    (0..chunk).for_each(|step| writer.step(words, steps + step));
                    steps += chunk;
                }
                first.get_or_insert(steps);
            });
            let (from, to) = (writer.ended(first.expect("it looked")), writer.ended(steps));
            assert!(
                value.is_none_or(|value| (from..=to).contains(&value)),
                "{value:?} was there before or after, not meanwhile"
            );
            // One read for each busy writer, and at most four.
            let looks = writer.looks(&loads);
            let spoilt = looks.iter().take_while(|whole| !**whole).count();
            assert_eq!(looks.len(), TRIES.min(spoilt + 1), "{looks:?} of {loads:?}");
            assert_eq!(value.is_some(), spoilt < TRIES, "{looks:?} of {loads:?}");
            self.busy += u64::from(value.is_none());
            self.again += u64::from(value.is_some() && spoilt > 0);
        });
    }

    /// The element or the CPU does not exist.
    fn astray(&mut self, name: &'static str, code: &Code) {
        let region = Region::new(name);
        let (past, all) = (CPUS as u64, u64::from(u32::MAX));
        let mut nowhere = vec![(0, 1), (0, all), (0, all - 1)];
        if region.map.inner.is_some() {
            nowhere.extend([(past, 0), (all, 0)]);
        }
        for (cpu, index) in nowhere {
            let (value, _) = self.read(&region, code, cpu, index, || ());
            assert_eq!(value, None, "there is no element {index} of CPU {cpu}");
            self.runs += 1;
        }
    }

    /// Counters of another CPU: only existing ones.
    fn counters(&mut self, name: &'static str, code: &Code) {
        let region = Region::new(name);
        for cpu in 0..CPUS {
            for (index, word) in region.words_of(cpu).iter().enumerate() {
                word.store((100 * cpu + index) as u64 + OWN, Ordering::Relaxed);
            }
            region.machine(code, cpu, [1000, WRITE]).run();
        }
        let (past, all) = (CPUS as u64, u64::from(u32::MAX));
        let there = [(0, 0, OWN + 1000), (0, 1, OWN + 1), (1, 0, OWN + 1100), (1, 1, OWN + 101)];
        let not = [(0, 2), (1, 15), (1, 16), (0, 1 << 29), (1, u64::MAX), (past, 0), (all, 1)];
        for (cpu, index, expected) in there.into_iter().chain(not.map(|(cpu, index)| (cpu, index, 0))) {
            let mut machine = region.machine(code, 0, [cpu, index]);
            while machine.step().is_none() {
                self.executed.insert(machine.pc());
            }
            assert!(machine.changes().is_empty(), "who reads writes nothing");
            assert_eq!(machine.context()[0], expected, "counter {index} of CPU {cpu}");
            self.runs += 1;
        }
    }
}

/// Runs the program in all these ways.
#[must_use]
pub fn explore(name: &'static str, code: &Code) -> Found {
    let mut found = Found::default();
    match name {
        "percpu_counters" => found.counters(name, code),
        "percpu_cell" => {
            found.astray(name, code);
            // One write, and half of another.
            found.interrupted(name, code, Writer::Cell, 1, Writer::Cell.steps() * 3 / 2);
        }
        _ => {
            if name == "latch" {
                found.astray(name, code);
            }
            found.interrupted(name, code, Writer::Latch, 1, 2 * Writer::Latch.steps());
            // Enough to spoil three reads and tear the fourth, or to spoil the fourth as well.
            found.interrupted(name, code, Writer::Latch, Writer::Latch.steps(), 5 * Writer::Latch.steps());
        }
    }
    found
}

/// Mutants that invert a decision, or always decide the same; and mutants that read their own CPU's copy.
#[must_use]
pub fn mutants(code: &Code, found: &Found) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let mutant = |at: usize, what: &str, instead: &[Insn]| Mutant {
        name: format!("{at}: {what}"),
        program: program.patched(at, instead),
        order,
        equivalent: None,
        of_write: None,
    };
    let mut mutants = Vec::new();
    for &at in &found.executed {
        match program.code[at] {
            Insn::If { to, .. } => {
                mutants.push(mutant(at, "never jumps", &[]));
                mutants.push(mutant(at, "always jumps", &[Insn::Goto { to }]));
            }
            Insn::Helper { id: 195 } => {
                mutants.push(mutant(at, "looks at its own CPU's copy", &[Insn::Helper { id: 1 }]));
            }
            _ => {}
        }
    }
    mutants
}
