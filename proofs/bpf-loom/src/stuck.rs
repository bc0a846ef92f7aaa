//! Rings with more slots than a claim tries: some slots in a row are stuck, because their writers died, and the head is
//! behind. Programs that interrupt each other meet them in every way.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use mapring_core::abi::seq::PENDING;

use crate::check;
use crate::decode::{From, Insn};
use crate::history::{End, History};
use crate::models::{Code, PATIENT, Seen};
use crate::mutate::{AX, Mutant, set, store};
use crate::nest::{Choices, Nest};
use crate::object::Program;
use crate::ring::{Reader, Ring, Word};
use crate::sync::thread;

/// The number of slots that a claim tries: `MAPRING__TRIES`.
const TRIES: u64 = 6;
/// How many of these tries come after the bisection for the end of the ring.
const AFTER_BISECTION: u64 = 4;

/// The state that programs find.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// The number of stuck slots in a row.
    pub stuck: u64,
    /// Free slots between the end of the ring and the stuck ones.
    pub free: u64,
    /// How many laps ago their writers died: 1 is the last lap.
    pub laps: u64,
    /// How far the head is behind the end of the ring.
    pub stale: u64,
}

/// All such states of a ring of `slots`.
pub fn states(slots: u64) -> Vec<State> {
    let mut states = Vec::new();
    for stuck in [0, TRIES - 1, TRIES, slots - 1] {
        for free in (0..2).filter(|free| free + stuck <= slots) {
            for laps in 1..=if stuck == 0 { 1 } else { 2 } {
                let behind = [0, slots, 2 * slots];
                states.extend(behind.map(|stale| State { stuck, free, laps, stale }));
            }
        }
    }
    states
}

/// Two free slots and then none, for the rest of the lap: a claim, another one that interrupts it, and two more that
/// interrupt that one, reach the first one's slot.
const ROUND: State = State { stuck: TRIES, free: 2, laps: 1, stale: 0 };

impl State {
    /// A ring in this state, and its producers' actions.
    pub fn ring(self, name: &'static str) -> (Ring, History) {
        let ring = Ring::new(name);
        // In some states the stuck slots wrap around the end of the ring's memory.
        let end = 3 * ring.slots() + 2;
        let first = end + self.free - self.laps * ring.slots();
        let mut history = History::default();
        for t in 0..end {
            let slot = (t + ring.slots() - first % ring.slots()) % ring.slots();
            match t {
                _ if slot >= self.stuck || t < first => history.note(t, End::Published(t)),
                _ if t < first + self.stuck => history.note(t, End::Held),
                _ => {} // unclaimed
            }
        }
        ring.restore(&history);
        ring.set_head(end - self.stale);
        (ring, history)
    }

    /// The maximum number of failed claims in a row before one succeeds: each continues where the last one gave up.
    fn drops(self) -> u64 {
        // Slots stuck for longer look like the end of the ring to a claim that searches for it.
        let stale = if self.laps > 1 { self.stale } else { 0 };
        (self.stuck + stale).div_ceil(AFTER_BISECTION)
    }
}

/// Programs interrupt each other, and then each slot that is not stuck can be claimed again. Returns the number of
/// runs, and of dropped records.
pub fn nest(name: &'static str, code: &Code) -> (u64, u64) {
    let slots = Ring::new(name).slots();
    let round = (slots == TRIES + ROUND.free).then_some((ROUND, 3));
    let (mut runs, mut drops) = (0, 0);
    for (state, interrupts) in states(slots).into_iter().map(|state| (state, 2)).chain(round) {
        runs += Choices::explore(|choices| {
            let (ring, mut history) = state.ring(name);
            let (program, order) = (&*code.program, code.order);
            let mut nest =
                Nest { ring: &ring, programs: &[program], discards: false, order, seen: &mut |_| () };
            nest.run(choices, &mut { interrupts }, &mut history);
            for value in 0..=slots {
                let in_a_row = push(&ring, code, 1000 + value, &mut history);
                assert!(in_a_row <= state.drops(), "{in_a_row} drops in a row: {state:?}");
            }
            drops += history.dropped();
            ring.check(&history);
        });
    }
    (runs, drops)
}

/// Without interrupts. If the head is right, claims try the documented number of slots; if it is behind and no slot is
/// stuck, the first claim finds the end of the ring.
pub fn walk(name: &'static str, code: &Code) {
    let slots = Ring::new(name).slots();
    for stale in 0..=3 * slots {
        let state = State { stuck: 0, free: 0, laps: 1, stale };
        let (ring, mut history) = state.ring(name);
        let end = history.taken();
        assert_eq!(push(&ring, code, 1000, &mut history), 0, "drops: {state:?}");
        assert_eq!(history.get(end), Some(End::Published(1000)), "the first free ticket: {state:?}");
        ring.check(&history);
    }
    for stuck in 1..slots {
        for (free, laps) in [(0, 1), (1, 1), (0, 2), (1, 2)] {
            let state = State { stuck, free, laps, stale: 0 };
            let (ring, mut history) = state.ring(name);
            for value in 0..=free {
                let expected = if value < free { 0 } else { stuck / TRIES };
                assert_eq!(push(&ring, code, 1000 + value, &mut history), expected, "drops: {state:?}");
            }
            ring.check(&history);
        }
    }
}

/// Pushes a record until it is not dropped. Returns the number of drops.
fn push(ring: &Ring, code: &Code, value: u64, history: &mut History) -> u64 {
    for drops in 0..ring.slots() {
        let next = ring.push_all(&code.program, code.order, [value]);
        let dropped = next.dropped() > 0;
        *history = mem::take(history).with(next);
        if !dropped {
            return drops;
        }
    }
    panic!("the ring is stopped: {history:?}");
}

/// A program that meets stuck slots, and a reader.
pub(crate) fn read(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let (ring, history) = State { stuck: TRIES, free: 1, laps: 1, stale: 0 }.ring(name);
        let (ring, first) = (Arc::new(ring), history.taken() - 1);
        let there = Arc::clone(&ring);
        let reader = thread::spawn(move || Reader::at(first, PATIENT).steps(&there, 2));
        let history = history.with(ring.push_all(&code.program, code.order, 100..103));
        seen.note("dropped", history.dropped() == 1);
        let reader = reader.join().unwrap();
        seen.note("meanwhile", reader.log().len() > 1);
        let reader = reader.finish(&ring, &history);
        seen.note("stepped over", reader.stats().stepped_over == TRIES);
        ring.check(&history);
    })
}

/// The actions of instructions in these states.
#[derive(Default)]
struct Sites {
    /// Stores to the head, and whether one stored the mark of a claim.
    heads: BTreeMap<usize, bool>,
    /// Loads of sequences, and whether some were made although the head was not behind.
    looks: BTreeMap<usize, bool>,
    /// The instructions that programs execute when they claim a slot.
    claims: BTreeSet<usize>,
}

impl Sites {
    fn find(name: &'static str, code: &Code) -> Self {
        let mut sites = Self::default();
        for state in states(Ring::new(name).slots()) {
            sites.note(state, name, code, 0);
            if code.program.guarded {
                sites.note(state, name, code, PENDING); // during another claim
            }
        }
        sites
    }

    fn note(&mut self, state: State, name: &'static str, code: &Code, mark: u64) {
        let (ring, _) = state.ring(name);
        ring.set_head(ring.head() | mark);
        let mut machine = ring.machine(&code.program, code.order, 1);
        let mut executed = Vec::new();
        let returned = loop {
            let (at, before) = (machine.pc(), machine.changes().len());
            let word = machine.shares_next().map(|word| ring.word(word).any_slot());
            executed.push(at);
            let returned = machine.step();
            let wrote = machine.changes().get(before).map(|change| change.value);
            match (word, wrote) {
                (Some(Word::Head), Some(value)) => {
                    *self.heads.entry(at).or_default() |= value & PENDING != 0;
                }
                (Some(Word::Seq(_)), None) => *self.looks.entry(at).or_default() |= state.stale == 0,
                _ => {}
            }
            if let Some(returned) = returned {
                break returned;
            }
        };
        if returned & 0xffff_ffff == 0 {
            self.claims.extend(executed);
        }
    }
}

/// Programs that do not continue behind stuck slots, lose the mark of a claim, or search for the end of the ring in the
/// wrong place.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let Sites { heads, looks, claims } = Sites::find(name, code);
    let mut mutants = Vec::new();
    let mut add = |name: String, program: Program| {
        mutants.push(Mutant { name, program, order, equivalent: None, of_write: None });
    };
    for (at, marks) in heads {
        let Insn::Store { base, off, from, .. } = program.code[at] else { panic!("{at} is no store") };
        if !claims.contains(&at) {
            add(format!("{at}: head not advanced after a drop"), program.patched(at, &[]));
        }
        // In a larger ring, a full lap takes more programs than run here.
        if marks && Ring::new(name).slots() == TRIES + ROUND.free {
            let unmark = Insn::Alu { op: 0x50, wide: true, dst: AX, from: From::Imm(!PENDING), off: 0 };
            let lost = program.patched(at, &[set(AX, from), unmark, store(base, off, AX)]);
            add(format!("{at}: the mark of a claim lost"), lost);
        }
    }
    let mut blind = program.clone();
    for at in looks.into_iter().filter(|(_, always)| !always).map(|(at, _)| at) {
        let Insn::Load { dst, .. } = program.code[at] else { continue };
        blind = blind.patched(at, &[set(dst, From::Imm(0))]);
        let taken = program.patched(at, &[set(dst, From::Imm(u64::MAX >> 2))]);
        add(format!("{at}: the bisection takes this slot for taken"), taken);
    }
    add("the bisection takes all slots for free".into(), blind);
    mutants
}
