//! Rings with tails: compiled programs beside the production writer in Rust, and programs that interrupt and preempt
//! each other at every access, with a production reader; and mutants of the tails' part, which must fail. The machine
//! keeps the order of accesses here.

use std::sync::Arc;

use mapring_core::abi::{Geometry, Kind, Preamble, Tails};
use mapring_core::protocol::ring::tails::{Area, TailsMut};
use mapring_core::protocol::ring::{Cursor, Shard, ShardMut, ShardPlace, Step};
use mapring_core::protocol::{Words, WordsMut};

use crate::machine::Machine;
use crate::map::Map;
use crate::models::{Code, PATIENT};
use crate::mutate::Mutant;
use crate::sync::Ordering;
use crate::trace::Trace;

mod alike;
mod changes;
mod crowded;
pub mod keep;
mod meet;

/// The longest tail.
pub const LONGEST: u64 = 64;
/// A short tail.
pub const SHORT: u64 = 8;

/// The header of the shard, its word for tails, and when there were drops.
const HEADER: usize = Preamble::WORDS;
const SINCE: usize = HEADER + 6;
const UNTIL: usize = HEADER + 7;
/// The header for tails, and its words.
const TAILS: usize = HEADER + 8;
const STEPPED: usize = TAILS + 9;
const NEXT: usize = TAILS;
const HIGH: usize = TAILS + 1;
const GRANTED: usize = TAILS + 2;
const NO_SPACE: usize = TAILS + 3;
const TOO_LONG: usize = TAILS + 4;
const BESIDE: usize = TAILS + 5;
const ACTIVE: usize = TAILS + 16;
/// Set in the first entry by a program that moves NEXT in the guard.
const MOVING: u64 = 2;
/// Set in an entry whose position is about to change.
const ENTERS: u64 = 4;
/// The slots, and the words of one: sequence, position, length, record.
const FIRST_SLOT: usize = ACTIVE + Tails::WRITERS;
const SLOT: usize = 4;

/// A ring with tails.
pub struct Ring {
    map: Map,
    place: ShardPlace,
    area: Area,
    slots: usize,
    capacity: u64,
}

impl Default for Ring {
    /// `tails4` in `bpf/programs.bpf.c`: two of the longest tails fill the area.
    fn default() -> Self {
        Self::new("tails4", 4, 2 * LONGEST)
    }
}

impl Ring {
    fn new(name: &'static str, slots: usize, capacity: u64) -> Self {
        let tails = Tails::new(LONGEST, capacity).unwrap();
        let geometry = Geometry::new(Kind::Ring, 24, slots as u64, 1).unwrap().with_tails(tails).unwrap();
        let (place, area) = (ShardPlace::new(&geometry, 0), Area::new(&geometry, 0).unwrap());
        Self { map: Map::new(name, &geometry), place, area, slots, capacity }
    }

    /// `tails16`, where no program is in the way of another.
    fn roomy() -> Self {
        Self::new("tails16", 16, 16 * LONGEST)
    }

    /// A program that writes `value` to the first and last word of its space, and commits `len` bytes.
    fn machine<'a>(&'a self, code: &'a Code, value: u64, len: u64) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, 0, [value, len])
    }

    /// Runs a program to its end. Returns 1 if it published its record.
    pub fn push(&self, code: &Code, value: u64, len: u64) -> u64 {
        ended(self.machine(code, value, len).run())
    }

    fn get(&self, word: usize) -> u64 {
        self.map.words[word].load(Ordering::Relaxed)
    }

    fn put(&self, word: usize, value: u64) {
        self.map.words[word].store(value, Ordering::Relaxed);
    }

    /// All before `at` was claimed, granted and left.
    fn granted_to(&self, at: u64) {
        [NEXT, HIGH, GRANTED].into_iter().for_each(|word| self.put(word, at));
    }

    /// The first word of the area.
    fn area(&self) -> usize {
        FIRST_SLOT + self.slots * SLOT
    }

    fn shard(&self) -> Shard<'_> {
        Shard::new(Words::new(&self.map.words), &self.place)
    }

    /// The words before the area, and whether there were drops instead of their times. BESIDE, which only programs
    /// have, counts as NEXT.
    fn words(&self) -> Vec<u64> {
        let mut words: Vec<_> = (0..self.area()).map(|word| self.get(word)).collect();
        (words[SINCE], words[UNTIL]) = (0, u64::from(words[UNTIL] != 0));
        let beside = std::mem::take(&mut words[BESIDE]);
        if beside.wrapping_sub(words[NEXT]).cast_signed() > 0 {
            words[NEXT] = beside;
        }
        words
    }

    /// The number of counted drops.
    fn dropped(&self) -> u64 {
        self.shard().dropped() + self.get(NO_SPACE)
    }
}

/// 1 for a program that published its record, 0 for one that dropped it.
fn ended(returned: u64) -> u64 {
    match returned & 0xffff_ffff {
        0 => 1,
        0xffff_ffff => 0,
        other => panic!("returned {other:#x}"),
    }
}

/// A production reader, and the values of the records that it got with their tails.
#[derive(Debug)]
pub struct Reader {
    cursor: Cursor,
    /// The values.
    pub whole: Vec<u64>,
    lost: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Self { cursor: Cursor::at(0, PATIENT), whole: Vec::new(), lost: 0 }
    }
}

impl Reader {
    /// Reads what is there.
    pub fn read(&mut self, ring: &Ring) {
        let (mut out, mut tail) = ([0_u64; 3], [0; 64]);
        for _ in 0..64 {
            match self.cursor.step(&mut ring.shard(), &mut out) {
                Step::Record(_) => {
                    let [at, len, value] = out;
                    let Some(tail) = ring.area.copy(Words::new(&ring.map.words), at, len, &mut tail) else {
                        self.lost += 1;
                        continue;
                    };
                    let word = |at: usize| u64::from_ne_bytes(tail[at * 8..][..8].try_into().unwrap());
                    assert_eq!(tail.len() as u64, len);
                    assert!(len < SHORT || word(0) == value, "the tail of {value}: {tail:?}");
                    assert!(len < LONGEST || word(7) == value, "the end of the tail of {value}: {tail:?}");
                    self.whole.push(value);
                }
                Step::Moved => {}
                Step::Empty => return,
            }
        }
    }

    /// After all programs have ended: all published records are delivered or counted.
    #[must_use]
    pub fn finish(mut self, ring: &Ring, published: u64) -> Self {
        self.cursor.set_patience(0);
        self.read(ring);
        let stats = self.cursor.stats();
        // Slots that a program stepped over have no record.
        let tickets = self.whole.len() as u64 + self.lost + stats.lapped + stats.skipped + stats.stepped_over;
        assert!(
            tickets >= published && tickets - published <= stats.skipped + stats.lapped + stats.stepped_over,
            "{published} of {self:?}"
        );
        self
    }
}

/// The results of runs.
#[derive(Debug)]
pub struct Found {
    /// The number of cases.
    pub cases: u64,
    /// The number of programs that dropped their records.
    pub dropped: u64,
    /// The executed instructions. The function that claims a slot has its own mutants elsewhere.
    trace: Trace,
    /// An empty ring, in which programs meet.
    ring: fn() -> Ring,
}

impl Default for Found {
    fn default() -> Self {
        Self { cases: 0, dropped: 0, trace: Trace::of(TAILS..FIRST_SLOT), ring: Ring::default }
    }
}

impl Found {
    /// In a ring with room for all, as `push_tails16` has.
    #[must_use]
    pub fn roomy() -> Self {
        Self { ring: Ring::roomy, ..Self::default() }
    }

    /// Whether two tails fill the area.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        (self.ring)().capacity == 2 * LONGEST
    }

    /// The mutants will be those of `code`, not of others that run beside it.
    pub fn mutate_only(&mut self, code: &Code) {
        self.trace.only(&code.program);
    }

    /// Mutants of what was executed.
    #[must_use]
    pub fn mutants(&self, code: &Code) -> Vec<Mutant> {
        self.trace.mutants(code)
    }

    /// Runs a model of a code with itself, and with each of `others` that has the guard if it has none, and the other way
    /// around.
    pub fn with_others(&mut self, code: &Code, others: &[Code], model: fn(&mut Self, &Code, &Code)) {
        model(self, code, code);
        for other in others.iter().filter(|other| code.program.guarded != other.program.guarded) {
            let mut other = other.clone();
            Arc::make_mut(&mut other.program).maps.clone_from(&code.program.maps);
            model(self, code, &other);
            model(self, &other, code);
        }
    }

    /// Executes an instruction. At the end of the program, returns 1 if it published its record.
    fn step(&mut self, machine: &mut Machine<'_>) -> Option<u64> {
        self.trace.step(machine).map(ended)
    }

    fn run(&mut self, machine: &mut Machine<'_>) -> u64 {
        loop {
            if let Some(published) = self.step(machine) {
                return published;
            }
        }
    }

    /// Programs with tails of these lengths run one after the other. Returns how many published their records.
    fn push_all(&mut self, ring: &Ring, code: &Code, first: u64, lens: &[u64]) -> u64 {
        (first..).zip(lens).map(|(value, &len)| self.run(&mut ring.machine(code, value, len))).sum()
    }
}
