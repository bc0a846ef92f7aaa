//! A resizable ring that programs write, the production code that retires it, and their models.
//! Nobody waits for programs that are at work with the old ring: the kernel doesn't, if they may sleep.

use std::sync::Arc;

use mapring::layout::{Gate, Geometry, Kind};
use mapring::protocol::ring::{Cursor, GATE, Place, Shard, Step, close, gate, open, retire};
use mapring::protocol::{Words, WordsMut};

use crate::check;
use crate::decode::Insn;
use crate::machine::{Inner, Machine, Map};
use crate::models::{Code, PATIENT, Seen};
use crate::mutate::Mutant;
use crate::order::{Fetch, Order};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicU64, Ordering};

/// A ring of two slots, and another one that takes its place.
struct Rings {
    map: Map,
    geometry: Geometry,
}

impl Rings {
    fn new(name: &'static str) -> Arc<Self> {
        let geometry = Geometry::new(Kind::Ring, 8, 2, 1).unwrap();
        let words = (0..2 * geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let inner = Some(Inner::InUse(2, AtomicU64::new(0)));
        let rings = Self { map: Map { name, words, stride: geometry.element_words(), inner }, geometry };
        for ring in 0..2 {
            open(WordsMut::new(rings.words(ring)), &geometry);
        }
        Arc::new(rings)
    }

    /// The words of one of them.
    fn words(&self, ring: usize) -> &[AtomicU64] {
        let half = self.map.words.len() / 2;
        &self.map.words[ring * half..][..half]
    }

    fn shard(&self, ring: usize) -> Shard<'_> {
        Shard::new(Words::new(self.words(ring)), &Place::new(&self.geometry, 0))
    }

    fn machine<'a>(&'a self, code: &'a Code, value: u64) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, 0, [value, 0])
    }

    /// Pushes a record: whether it was not dropped.
    fn push(&self, code: &Code, value: u64) -> bool {
        match self.machine(code, value).run() & 0xffff_ffff {
            0 => true,
            0xffff_ffff => false,
            other => panic!("returned {other:#x}"),
        }
    }

    /// `ResizableRing::resize`
    fn resize(&self) {
        let Some(Inner::InUse(_, in_use)) = &self.map.inner else { unreachable!("as it was made") };
        in_use.store(1, Ordering::Release); // the kernel: xchg
        let words = WordsMut::new(self.words(0));
        close(words, &self.geometry);
        retire(words, &self.geometry);
    }

    /// All that a reader finds of a ring from where it is.
    fn rest(&self, ring: usize, cursor: &mut Cursor, log: &mut Vec<u64>) {
        let mut out = 0;
        cursor.set_patience(1);
        for _ in 0..50 {
            match cursor.step(&mut self.shard(ring), &mut out) {
                Step::Record(_) => log.push(out),
                Step::Moved => {}
                Step::Empty => return,
            }
        }
        panic!("does not come to rest: {cursor:?}");
    }
}

/// `Follower::poll`, so many times, in the old ring: the reader, its records, whether it has left.
fn follows(rings: &Arc<Rings>, polls: usize) -> JoinHandle<(Cursor, Vec<u64>, bool)> {
    let rings = Arc::clone(rings);
    thread::spawn(move || {
        let (mut cursor, mut log, mut out) = (Cursor::at(0, PATIENT), Vec::new(), 0);
        for _ in 0..polls {
            let step = cursor.step(&mut rings.shard(0), &mut out);
            log.extend(matches!(step, Step::Record(_)).then_some(out));
            let retired = || gate(Words::new(rings.words(0))) == Gate::Retired;
            if step == Step::Empty && retired() && cursor.at_end(&mut rings.shard(0), 0) {
                return (cursor, log, true);
            }
        }
        (cursor, log, false)
    })
}

/// A program at work while its ring is replaced, and a reader that leaves the old one.
pub(crate) fn replaced(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let rings = Rings::new(name);
        let there = Arc::clone(&rings);
        let resizer = thread::spawn(move || there.resize());
        let reader = follows(&rings, 2);
        let pushed = rings.push(&code, 7);
        resizer.join().unwrap();
        let (mut cursor, mut log, left) = reader.join().unwrap();
        let before = log.len();
        rings.rest(0, &mut cursor, &mut log);
        assert!(!left || log.len() == before, "a record came after the end: {cursor:?}");
        seen.note("left", left);
        seen.note("given back", cursor.tally().discarded > 0);
        seen.note("in the old ring", !log.is_empty());
        let mut next = Cursor::at(0, PATIENT);
        rings.rest(1, &mut next, &mut log);
        assert!(pushed, "there is place, and a ring");
        assert_eq!(log, [7], "{cursor:?} {next:?}");
        assert_eq!((cursor.tally().lost(), next.tally().lost()), (0, 0));
    })
}

/// A program that does not look at the gate, or a machine that orders less.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let rings = Rings::new(name);
    let mut machine = rings.machine(code, 1);
    let of_shard = rings.geometry.shard(0) * rings.geometry.element_words() + GATE;
    let mut looks = Vec::new();
    loop {
        let (pc, shares) = (machine.pc(), machine.shares_next());
        looks.extend((shares.is_some_and(|word| word == of_shard)).then_some(pc));
        if machine.step().is_some() {
            break;
        }
    }
    assert_eq!(looks.len(), 2, "one look at the gate before the claim, one after");
    let (program, order) = (&*code.program, code.order);
    let mutant =
        |name: String, program, order| Mutant { name, program, order, equivalent: None, of_write: None };
    let mut mutants = Vec::new();
    for look in looks {
        let decides = |at: &usize| matches!(program.code[*at], Insn::If { .. });
        let at = (look..look + 20).find(decides).expect("something is decided by it");
        let Insn::If { to, .. } = program.code[at] else { unreachable!("as was found") };
        let (always, never) = (program.patched(at, &[Insn::Goto { to }]), program.patched(at, &[]));
        mutants.push(mutant(format!("{at}: the gate is not looked at"), always, order));
        mutants.push(mutant(format!("{at}: the gate is not looked at, the other way"), never, order));
    }
    let weaker = if order == Order::TSO {
        vec![Order::WEAK]
    } else {
        [Fetch::AcqRel, Fetch::Relaxed].map(|fetch| Order { fetch, ..order }).to_vec()
    };
    mutants.extend(
        weaker
            .into_iter()
            .map(|order| mutant(format!("on a machine that orders {order:?}"), program.clone(), order)),
    );
    mutants
}
