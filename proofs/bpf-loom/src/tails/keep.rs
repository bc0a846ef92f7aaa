//! Rings with tails that keep their oldest records: programs interrupt and preempt each other at every access, and a
//! production reader reads in between. While it is required, it gets every record that was published, with its tail.

use std::collections::BTreeSet;
use std::sync::Arc;

use mapring_core::abi::readers::{REQUIRED, position};
use mapring_core::abi::{Geometry, Kind, Tails};
use mapring_core::protocol::WordsMut;
use mapring_core::protocol::readers;
use mapring_core::protocol::ring::tails::Area;
use mapring_core::protocol::ring::{Cursor, ShardPlace, Start};

use super::{ACTIVE, Code, Found, HEADER, LONGEST, Map, Reader, Ring, SHORT, TAILS};
use crate::check;
use crate::decode::{CMPXCHG, From, Insn};
use crate::keeping::BECOMES;
use crate::map::Inner;
use crate::models::{PATIENT, Seen};
use crate::mutate::{Mutant, mutant, set};
use crate::order::{Fetch, Order};
use crate::sync::thread;

/// Words of a ring that keeps its oldest records: what required readers have read, the mark, the newest ticket that ended.
pub(super) const READ: usize = TAILS + 6;
pub(super) const MARK: usize = TAILS + 7;
pub(super) const ENDED: usize = TAILS + 8;
/// A lease that lasts longer than any model.
const LEASE: u64 = u64::MAX;

impl Ring {
    /// `kept4` or `kept16`: two or eight of the longest tails fill the area.
    fn that_keeps(name: &'static str) -> Self {
        let (slots, capacity) = if name == "kept4" { (4, 2 * LONGEST) } else { (16, 8 * LONGEST) };
        let tails = Tails::new(LONGEST, capacity).unwrap();
        let geometry = Geometry::new(Kind::Ring, 24, slots as u64, 1).unwrap().with_tails(tails).unwrap();
        let geometry = geometry.keep_oldest().unwrap();
        let (place, area) = (ShardPlace::new(&geometry, 0), Area::new(&geometry, 0).unwrap());
        let mut map = Map::new(name, &geometry);
        map.add_readers(1);
        Self { map, place, area, slots, capacity }
    }

    /// The first word of the readers.
    fn readers(&self) -> usize {
        let Some(Inner::Readers(first, _)) = self.map.inner else { panic!("it has no readers") };
        first
    }

    /// The first reader's seat.
    fn reader(&self) -> readers::Seat<'_> {
        readers::Seat::at(WordsMut::new(&self.map.words[self.readers()..]), 0)
    }
}

impl Reader {
    /// Reads what is there, and tells programs.
    fn read_and_tell(&mut self, ring: &Ring) {
        self.read(ring);
        ring.reader().has_read(0, self.cursor.next());
    }

    /// All programs have ended, which published these values: the reader, which is required, gets them all.
    fn expect_all(&mut self, ring: &Ring, published: u64) {
        self.cursor.set_patience(0);
        self.read_and_tell(ring);
        self.cursor.set_patience(PATIENT);
        let stats = self.cursor.stats();
        assert_eq!((self.lost, stats.lapped, stats.torn), (0, 0, 0), "overwritten: {self:?}");
        assert_eq!(self.whole.len() as u64, published, "{self:?}");
    }
}

/// The states in which programs meet: the records before, and how many of them the reader had not read.
const STATES: [(usize, usize); 3] = [(7, 7), (15, 5), (23, 0)];
/// When the reader reads and tells programs: never, or at one of these moments.
const MOMENTS: usize = 4;
/// The second program stops at some accesses, one in so many, and at others the next time.
const EACH: usize = 29;

impl Found {
    /// One program interrupts or preempts another one, while a reader is required.
    pub fn keeps(&mut self, code: &Code, other: &Code) {
        for state in STATES {
            for (moment, preempts) in (0..MOMENTS).flat_map(|moment| [(moment, false), (moment, true)]) {
                let mut outer = 0;
                loop {
                    let mut inner = outer % EACH;
                    let (mut outer_ended, mut inner_ended) = (false, false);
                    while !inner_ended {
                        let stops = [outer, inner];
                        (outer_ended, inner_ended) = self.keep([code, other], state, moment, preempts, stops);
                        inner += EACH;
                    }
                    if outer_ended {
                        break;
                    }
                    outer += 1;
                }
            }
        }
    }

    /// Nothing is dropped while a reader is always a quarter of the area behind.
    pub fn lags(&mut self, code: &Code) {
        let (ring, mut reader) = (Ring::that_keeps("kept16"), Reader::default());
        ring.reader().require(LEASE);
        for value in 0..40 {
            assert_eq!(self.push_all(&ring, code, value, &[LONGEST]), 1, "record {value}");
            reader.read(&ring);
            ring.reader().has_read(0, reader.cursor.next().saturating_sub(2));
        }
    }

    /// Returns which of the two had ended when it should stop.
    fn keep(
        &mut self,
        codes: [&Code; 2],
        (before, unread): (usize, usize),
        moment: usize,
        preempts: bool,
        at: [usize; 2],
    ) -> (bool, bool) {
        let (ring, mut reader) = (Ring::that_keeps("kept16"), Reader::default());
        ring.reader().require(LEASE);
        let mut published = 0;
        for (at, value) in (0..before).zip(0..) {
            published += self.push_all(&ring, codes[0], value, &[LONGEST]);
            if at < before - unread {
                reader.read_and_tell(&ring);
            }
        }
        assert_eq!(published, before as u64, "there is room");
        let (mut a, mut b) = (ring.machine(codes[0], 50, LONGEST), ring.machine(codes[1], 100, LONGEST));
        let a_stops = self.run_to(&mut a, at[0]);
        let a_ends = if preempts { a_stops.or_else(|| self.run_out_of_guard(&mut a)) } else { a_stops };
        if moment == 1 {
            reader.read_and_tell(&ring);
        }
        let b_stops = self.run_to(&mut b, at[1]);
        published += self.push_all(&ring, codes[0], 70, &[LONGEST, SHORT]);
        if moment == 2 {
            reader.read_and_tell(&ring);
        }
        let mut last = [(b, b_stops), (a, a_ends)];
        if preempts {
            let (b, ends) = &mut last[0];
            *ends = ends.or_else(|| self.run_out_of_guard(b));
            last.reverse();
        }
        for (machine, ends) in &mut last {
            published += ends.unwrap_or_else(|| self.run(machine));
            published += self.push_all(&ring, codes[1], 110, &[LONGEST; 2]);
            if moment == 3 {
                reader.read_and_tell(&ring);
            }
        }
        published += self.push_all(&ring, codes[0], 120, &[LONGEST; 9]);
        assert!(published < before as u64 + 14 || moment > 0, "something was dropped");
        reader.expect_all(&ring, published);
        // What it read can be overwritten.
        let again = self.push_all(&ring, codes[0], 140, &[LONGEST; 9]);
        assert!((4..=8).contains(&again), "{again}");
        reader.expect_all(&ring, published + again);
        self.cases += 1;
        (a_stops.is_some(), b_stops.is_some())
    }
}

/// A required reader reads while a program publishes: it gets each record, and none is overwritten as it copies.
pub(crate) fn reads(_name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let ring = Arc::new(Ring::that_keeps("kept4"));
        ring.reader().require(LEASE);
        let there = Arc::clone(&ring);
        let reader = thread::spawn(move || {
            let mut reader = Reader::default();
            (0..2).for_each(|_| reader.read_and_tell(&there));
            reader
        });
        let published = (1..5).map(|value| ring.push(&code, value, LONGEST)).sum();
        let mut reader = reader.join().unwrap();
        seen.note("dropped", published < 4);
        seen.note("kept up", published > 2);
        reader.expect_all(&ring, published);
    })
}

/// A reader becomes required while a program publishes: no tail is overwritten whose record was claimed after that.
pub(crate) fn becomes_required(_name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(3), move || {
        let ring = Arc::new(Ring::that_keeps("kept4"));
        let mut published = ring.push(&code, 1, LONGEST);
        let there = Arc::clone(&ring);
        let reader = thread::spawn(move || {
            there.reader().has_read(0, 1);
            there.reader().require(LEASE);
            Cursor::new(&mut there.shard(), Start::Now, PATIENT).next()
        });
        published += (2..6).map(|value| ring.push(&code, value, LONGEST)).sum::<u64>();
        let kept = reader.join().unwrap();
        let mut reader = Reader { cursor: Cursor::at(kept, PATIENT), ..Reader::default() };
        reader.expect_all(&ring, published - kept);
        seen.note(BECOMES[0], published == 3);
        seen.note(BECOMES[1], published > 3);
        seen.note(BECOMES[2], kept > 1 && published < 5);
    })
}

/// A program that ignores which readers are required, how far they have read, who is in a tail, or which ticket ended; that
/// takes all for read, or forgets what was. Or, of the models with threads, a machine with weaker atomics. (There is no mutant
/// without the barrier before it looks: entering a position is one, too.)
pub fn mutants(name: &'static str, code: &Code, of_threads: bool) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let ring = Ring::that_keeps(name);
    ring.reader().require(LEASE);
    let (bits, told) = (ring.readers() + REQUIRED, ring.readers() + position(0, 0));
    let mut mutants = Vec::new();
    let mut add =
        |at: usize, what: &str, program| mutants.push(mutant(code, format!("{at}: {what}"), program));
    let mut met = BTreeSet::new();
    for value in 1..10 {
        let mut machine = ring.machine(code, value, LONGEST);
        let (mut looks, mut looked) = (false, false);
        loop {
            let (at, shares) = (machine.pc(), machine.shares_next());
            let insn = program.code[at];
            // Until it claims a slot. There it looks at the readers once more, which has its own mutants (`keeping.rs`).
            looks = (looks || shares == Some(READ)) && shares != Some(HEADER);
            let word = shares.filter(|word| (looks || *word == ENDED) && met.insert((at, *word)));
            let loads = |value: u64| match insn {
                Insn::Load { dst, .. } => Some(program.patched(at, &[set(dst, From::Imm(value))])),
                _ => None,
            };
            let left_out = || program.patched(at, &[]);
            match (word, insn) {
                (Some(READ), Insn::Load { .. }) => add(at, "all is read", loads(1 << 20).unwrap()),
                (Some(MARK), Insn::Load { .. }) => add(at, "the mark is further on", loads(1 << 40).unwrap()),
                (Some(ENDED), Insn::Load { .. }) if looks => {
                    add(at, "no ticket has ended", loads(0).unwrap());
                }
                (Some(ENDED), Insn::Atomic { op: CMPXCHG, .. }) => {
                    add(at, "the newest ticket is forgotten", left_out());
                }
                (Some(READ), _) if !of_threads => add(at, "what was read is forgotten", left_out()),
                (Some(MARK), _) if !of_threads => add(at, "there is no new mark", left_out()),
                (Some(word), Insn::Load { dst, .. }) if word == told => {
                    let more = Insn::Alu { op: 0x00, wide: true, dst, from: From::Imm(1), off: 0 };
                    add(at, "the reader has read one more", program.patched(at, &[insn, more]));
                }
                (Some(word), Insn::Load { .. }) if word == bits => {
                    looked = true;
                    add(at, "nobody is required", loads(0).unwrap());
                }
                (Some(ACTIVE), Insn::Load { .. }) if !looked => {
                    add(at, "nobody is in a tail", loads(0).unwrap());
                }
                _ => {}
            }
            if machine.step().is_some() {
                break;
            }
        }
    }
    if of_threads {
        mutants.extend([Fetch::Relaxed].map(|fetch| Mutant {
            name: format!("on a machine with {fetch:?} atomics"),
            program: program.clone(),
            order: Order { fetch, ..order },
            equivalent: None,
            of_write: None,
        }));
    }
    mutants
}
