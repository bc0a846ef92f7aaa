//! Tails as compiled from the headers: programs that interrupt or preempt each other at every access to their shard, and
//! a production reader. Each tail is whole or counted.

use std::sync::Arc;

use mapring::abi::{Geometry, Kind, Tails};
use mapring::protocol::Words;
use mapring::protocol::ring::tails::Area;
use mapring::protocol::ring::{Cursor, Place, Shard, Step};
use mapring_bpf_loom::check;
use mapring_bpf_loom::machine::Machine;
use mapring_bpf_loom::map::Map;
use mapring_bpf_loom::models::Code;
use mapring_bpf_loom::object::variants;
#[cfg(not(loom))]
use mapring_bpf_loom::sync::Ordering;
use mapring_bpf_loom::sync::thread;

/// `tails4` in `bpf/programs.bpf.c`: two of the longest tails fill the area.
const LONGEST: u64 = 64;
const SHORT: u64 = 8;
const PATIENT: u64 = 1 << 20;

struct Ring {
    map: Map,
    place: Place,
    area: Area,
}

impl Ring {
    fn new() -> Self {
        let tails = Tails::new(LONGEST, 2 * LONGEST).unwrap();
        let geometry = Geometry::new(Kind::Ring, 24, 4, 1).unwrap().with_tails(tails).unwrap();
        let (place, area) = (Place::new(&geometry, 0), Area::new(&geometry, 0).unwrap());
        Self { map: Map::new("tails4", &geometry), place, area }
    }

    /// A program that writes `value` to the first and last word of its space, and commits `len` bytes.
    fn machine<'a>(&'a self, code: &'a Code, value: u64, len: u64) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, 0, [value, len])
    }

    /// Runs a program to its end. Returns 1 if it published its record.
    fn push(&self, code: &Code, value: u64, len: u64) -> u64 {
        ended(self.machine(code, value, len).run())
    }

    /// Records that were dropped because there was no space for a tail.
    #[cfg(not(loom))]
    fn no_space(&self) -> u64 {
        self.map.words[24 + 3].load(Ordering::Relaxed)
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

#[derive(Debug)]
struct Reader {
    cursor: Cursor,
    whole: Vec<u64>,
    lost: u64,
}

impl Reader {
    fn new() -> Self {
        Self { cursor: Cursor::at(0, PATIENT), whole: Vec::new(), lost: 0 }
    }

    fn read(&mut self, ring: &Ring) {
        let words = Words::new(&ring.map.words);
        let (mut out, mut tail) = ([0_u64; 3], [0; 64]);
        for _ in 0..24 {
            match self.cursor.step(&mut Shard::new(words, &ring.place), &mut out) {
                Step::Record(_) => {
                    let [at, len, value] = out;
                    let Some(tail) = ring.area.copy(words, at, len, &mut tail) else {
                        self.lost += 1;
                        continue;
                    };
                    let word = |at: usize| u64::from_ne_bytes(tail[at * 8..][..8].try_into().unwrap());
                    assert!(len == SHORT || len == LONGEST, "{len} bytes");
                    assert_eq!(word(0), value, "the tail of {value}");
                    assert!(len == SHORT || word(7) == value, "the end of the tail of {value}");
                    self.whole.push(value);
                }
                Step::Moved => {}
                Step::Empty => return,
            }
        }
    }

    /// After all programs have ended: all published records are delivered or counted.
    fn finish(mut self, ring: &Ring, published: u64) -> Self {
        self.cursor.set_patience(0);
        self.read(ring);
        let stats = self.cursor.stats();
        // Slots that a program stepped over have no record.
        let tickets = self.whole.len() as u64 + self.lost + stats.lapped + stats.skipped;
        assert!(
            tickets >= published && tickets - published <= stats.skipped + stats.lapped,
            "{published} of {self:?}"
        );
        self
    }
}

fn codes() -> Vec<Code> {
    ["push_tails4", "guarded push_tails4"]
        .into_iter()
        .flat_map(|name| variants(&[name]))
        .map(|variant| Code { program: Arc::new(variant.programs[0].clone()), order: variant.order })
        .collect()
}

/// The number of accesses of a program to its shard after `before` records.
#[cfg(not(loom))]
fn accesses(code: &Code, before: u64) -> usize {
    let ring = Ring::new();
    (0..before).for_each(|n| assert_eq!(ring.push(code, n, LONGEST), 1));
    let (mut machine, mut count) = (ring.machine(code, 1, SHORT), 0);
    loop {
        count += usize::from(machine.shares_next().is_some());
        if machine.step().is_some() {
            return count;
        }
    }
}

/// Runs a program up to its access number `at`. Returns its result if it ended before.
#[cfg(not(loom))]
fn run_to(machine: &mut Machine<'_>, mut at: usize) -> Option<u64> {
    loop {
        if machine.shares_next().is_some() {
            if at == 0 && !machine.is_guarded() {
                return None;
            }
            at = at.saturating_sub(1);
        }
        if let Some(returned) = machine.step() {
            return Some(ended(returned));
        }
    }
}

/// Programs with tails of these lengths run one after the other.
#[cfg(not(loom))]
fn push_all(ring: &Ring, code: &Code, lens: &[u64]) -> u64 {
    (100..).zip(lens).map(|(value, &len)| ring.push(code, value, len)).sum()
}

#[cfg(not(loom))]
const INNER: [&[u64]; 4] = [&[SHORT], &[LONGEST], &[SHORT, LONGEST], &[LONGEST, LONGEST]];

/// Before each access of a program, others run to their end. Without weak memory: they run on one CPU.
#[test]
#[cfg(not(loom))]
fn programs_interrupt_each_other_at_every_access() {
    let (mut cases, mut dropped) = (0, 0);
    for code in codes() {
        for before in 0..3 {
            for lens in INNER {
                for at in 0..accesses(&code, before) {
                    let ring = Ring::new();
                    let mut published: u64 = (0..before).map(|n| ring.push(&code, n, LONGEST)).sum();
                    let mut machine = ring.machine(&code, 50, SHORT);
                    let ends = run_to(&mut machine, at);
                    published += push_all(&ring, &code, lens);
                    published += ends.unwrap_or_else(|| ended(machine.run()));
                    published += push_all(&ring, &code, &[SHORT, LONGEST]);
                    let reader = Reader::new().finish(&ring, published);
                    assert!(reader.whole.contains(&101) || ring.no_space() > 0, "{reader:?}");
                    dropped += ring.no_space();
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases, {dropped} dropped");
    assert!(dropped > 0, "none found another in its way");
}

/// Two tasks preempt each other: one stops before each access, the other runs up to each access of its own; the first
/// ends, others follow, and the second ends last.
#[test]
#[cfg(not(loom))]
fn tasks_preempt_each_other_at_every_access() {
    let (mut cases, mut dropped) = (0, 0);
    for code in codes() {
        for before in 0..3 {
            let all = accesses(&code, before);
            for first in 0..all {
                for second in 0..all + 8 {
                    for lens in [INNER[0], INNER[3]] {
                        let ring = Ring::new();
                        let mut published: u64 = (0..before).map(|n| ring.push(&code, n, LONGEST)).sum();
                        let (mut a, mut b) =
                            (ring.machine(&code, 50, SHORT), ring.machine(&code, 60, LONGEST));
                        let ends = run_to(&mut a, first);
                        let other = run_to(&mut b, second);
                        published += ends.unwrap_or_else(|| ended(a.run()));
                        published += push_all(&ring, &code, lens);
                        published += other.unwrap_or_else(|| ended(b.run()));
                        published += push_all(&ring, &code, &[SHORT]);
                        let _ = Reader::new().finish(&ring, published);
                        dropped += ring.no_space();
                        cases += 1;
                    }
                }
            }
        }
    }
    println!("{cases} cases, {dropped} dropped");
    assert!(dropped > 0, "none found another in its way");
}

/// A reader copies tails while a program overwrites them.
#[test]
fn a_tail_is_overwritten_while_it_is_copied() {
    for code in codes() {
        let runs = check(Some(2), move || {
            let ring = Arc::new(Ring::new());
            let published =
                [(1, SHORT), (2, LONGEST), (3, SHORT)].map(|(value, len)| ring.push(&code, value, len));
            let there = Arc::clone(&ring);
            let reader = thread::spawn(move || {
                let mut reader = Reader::new();
                reader.read(&there);
                reader
            });
            let last = ring.push(&code, 4, LONGEST) + ring.push(&code, 5, SHORT);
            let reader = reader.join().unwrap().finish(&ring, published.iter().sum::<u64>() + last);
            assert_eq!(reader.whole.last(), Some(&5));
        });
        println!("{runs} executions");
    }
}
