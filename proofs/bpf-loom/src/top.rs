//! Top keys: two programs of a CPU preempt each other in a bucket, in every order, and a production reader looks after
//! each step. The machine keeps the order of accesses here.

use mapring_core::abi::top::{BUCKET, COUNTS, KEYS, OTHER, STRIDE, WAYS, bucket};
use mapring_core::abi::{Geometry, Kind, Preamble};
use mapring_core::protocol::top::{self, Copy, entries, other};
use mapring_core::protocol::{Words, WordsMut, cell};

use crate::decode::{From, Insn};
use crate::machine::Machine;
use crate::map::Map;
use crate::models::Code;
use crate::mutate::Mutant;
use crate::nest::Choices;
use crate::sync::Ordering;
use crate::trace::Trace;

/// An amount that is added to a key.
type Add = (u64, u64);

/// The results of runs.
#[derive(Debug)]
pub struct Found {
    /// The number of runs.
    pub runs: u64,
    /// The number of amounts that were added to no key.
    pub other: u64,
    trace: Trace,
}

impl Default for Found {
    fn default() -> Self {
        Self { runs: 0, other: 0, trace: Trace::of(0..usize::MAX) }
    }
}

/// Two buckets, for each of two CPUs.
struct Top {
    map: Map,
    /// The first word of the bucket.
    at: usize,
}

impl Top {
    fn new() -> Self {
        let geometry = Geometry::new(Kind::TopKeys, BUCKET as u64, 2, 2).unwrap();
        let at = (geometry.shard(1) + bucket(key(0), 2)) * STRIDE;
        Self { map: Map::new("top", &geometry), at }
    }

    fn get(&self, word: usize) -> u64 {
        self.map.words[word].load(Ordering::Relaxed)
    }

    fn bucket(&self) -> WordsMut<'_> {
        WordsMut::new(&self.map.words).slice(self.at, STRIDE)
    }

    /// Empties the bucket, and adds these amounts by the production writer.
    fn fill(&self, adds: &[Add]) {
        self.map.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        adds.iter().for_each(|(key, amount)| assert!(top::add(self.bucket(), *key, *amount)));
    }

    fn machine<'a>(&'a self, code: &'a Code, (key, amount): Add) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, 1, [key, amount])
    }

    /// A copy by the production reader, unless a program is in the bucket.
    fn read(&self) -> Option<Copy> {
        let mut copy = [0; STRIDE - 1];
        cell::try_read(Words::new(&self.map.words).slice(self.at, STRIDE), &mut copy).map(|_| copy)
    }
}

/// Key `n` of one bucket.
fn key(n: usize) -> u64 {
    (1..).filter(|key| bucket(*key, 2) == 1).nth(n).unwrap()
}

/// The keys and counts of a copy, in the order of the entries, with their errors.
fn counts(copy: &Copy) -> Vec<(u64, u64, u64)> {
    entries(copy).collect()
}

impl Found {
    /// Mutants of what was executed.
    #[must_use]
    pub fn mutants(&self, code: &Code) -> Vec<Mutant> {
        let mut mutants = self.trace.mutants(code);
        for mutant in &mut mutants {
            let (at, what) = mutant.name.split_once(": ").expect("as the trace names it");
            let at = at.parse::<usize>().expect("an instruction");
            let same = match code.program.code[at - 1..=at] {
                [_, Insn::If { from: From::Imm(9), .. }] => "never jumps",
                [_, Insn::If { from: From::Imm(10), .. }] => "always jumps",
                [Insn::Alu { from: From::Imm(10), dst, .. }, Insn::If { dst: with, .. }] if dst == with => {
                    "always jumps"
                }
                _ => continue,
            };
            if what == same {
                mutant.equivalent = Some("only the verifier does not know that an entry is one of ten");
            }
        }
        mutants
    }

    /// All cases: a bucket that is empty, one that is full; two programs that add to a new key, to the one that it
    /// replaces, to the last one.
    pub fn explore(&mut self, code: &Code) {
        let (top, reference) = (Top::new(), Top::new());
        self.out_of_range(&top, code);
        self.taken(&top, code);
        let full: Vec<_> = (0..WAYS).map(|n| (key(n), if n == 0 { 1 } else { 5 })).collect();
        let (new, other, first, last) = ((key(20), 2), (key(21), 4), (key(0), 3), (key(WAYS - 1), 9));
        for (before, adds) in [
            (&[][..], [new, other]),
            (&[], [new, new]),
            (&full, [new, first]),
            (&full, [new, other]),
            (&full, [last, last]),
        ] {
            self.runs +=
                Choices::explore(|choices| self.preempt(&top, &reference, code, choices, before, adds));
        }
    }

    fn preempt(
        &mut self,
        top: &Top,
        reference: &Top,
        code: &Code,
        choices: &mut Choices,
        before: &[Add],
        adds: [Add; 2],
    ) {
        // The bucket after some of the additions, one after the other.
        let after = |adds: &[Add]| {
            reference.fill(&[before, adds].concat());
            counts(&reference.read().unwrap())
        };
        let [a, b] = adds;
        let possible: [(&[usize], _); 5] = [
            (&[], after(&[])),
            (&[0], after(&[a])),
            (&[1], after(&[b])),
            (&[0, 1], after(&[a, b])),
            (&[0, 1], after(&[b, a])),
        ];
        top.fill(before);
        let mut tasks = adds.map(|add| Some(top.machine(code, add)));
        loop {
            let which = match tasks.each_ref().map(Option::is_some) {
                [true, true] => usize::from(choices.choose()),
                [true, false] => 0,
                [false, true] => 1,
                [false, false] => break,
            };
            loop {
                let task = tasks[which].as_mut().expect("it has not ended");
                if self.trace.step(task).is_some() {
                    tasks[which] = None;
                    break;
                }
                if is_stop(top, code, task) {
                    break;
                }
            }
            let Some(copy) = top.read() else { continue };
            // What is in the entries is not in `other`, and the amounts of those that have ended are in one of them.
            let ended = |task: usize| tasks[task].is_none();
            let fits = possible.iter().any(|(in_entries, entries)| {
                let others = [0, 1].map(|task| !in_entries.contains(&task));
                let sums = [[false; 2], [true, false], [false, true], [true; 2]];
                let fits = sums.iter().any(|in_other| {
                    let is_whole = (0..2).all(|task| {
                        (!in_other[task] || others[task]) && (!ended(task) || in_other[task] || !others[task])
                    });
                    let sum: u64 = (0..2).filter(|task| in_other[*task]).map(|task| adds[task].1).sum();
                    is_whole && sum == other(&copy)
                });
                fits && *entries == counts(&copy)
            });
            assert!(fits, "{copy:?}, {:?} ended", [0, 1].map(ended));
        }
        let last = top.read().expect("nobody is in the bucket");
        assert!(counts(&last) != possible[0].1, "one of them finds the bucket free");
        assert_eq!(top.get(Preamble::DROPPED), 0);
        self.other += u64::from(other(&last) > 0);
    }

    /// Another program is in the bucket for good. Two that find it there interrupt each other.
    fn taken(&mut self, top: &Top, code: &Code) {
        for at in 0.. {
            top.fill(&[(key(0), 1)]);
            top.map.words[top.at].fetch_add(1, Ordering::Relaxed);
            let [mut first, mut second] = [2, 4].map(|amount| top.machine(code, (key(0), amount)));
            let mut accesses = 0;
            let ended = loop {
                if first.shares_next().is_some() {
                    if accesses == at {
                        break false;
                    }
                    accesses += 1;
                }
                if self.trace.step(&mut first).is_some() {
                    break true;
                }
            };
            while self.trace.step(&mut second).is_none() {}
            while !ended && self.trace.step(&mut first).is_none() {}
            assert_eq!([KEYS, COUNTS, OTHER].map(|word| top.get(top.at + word)), [key(0), 1, 6]);
            self.runs += 1;
            if ended {
                break;
            }
        }
    }

    /// No such CPU. Another program counts the same in between.
    fn out_of_range(&mut self, top: &Top, code: &Code) {
        top.fill(&[]);
        let new = || Machine::new(&code.program, &top.map, code.order, 2, [key(0), 5]);
        let (mut machine, mut others) = (new(), 0);
        loop {
            if machine.shares_next().is_some() {
                let mut other = new();
                while self.trace.step(&mut other).is_none() {}
                others += 1;
            }
            if self.trace.step(&mut machine).is_some() {
                break;
            }
        }
        assert!(others > 0 && top.get(Preamble::DROPPED) == 1 + others);
        assert_eq!([KEYS, COUNTS, OTHER].map(|word| top.get(top.at + word)), [0; 3]);
        self.runs += 1;
    }
}

/// Whether a program is about to access a word that others change, or to change one. A load of an entry is neither: only
/// the program in the bucket changes it.
fn is_stop(top: &Top, code: &Code, machine: &Machine<'_>) -> bool {
    let is_load = matches!(code.program.code[machine.pc()], Insn::Load { .. });
    machine.shares_next().is_some_and(|word| !is_load || word <= top.at + OTHER)
}
