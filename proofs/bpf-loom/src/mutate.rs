//! Weaker programs: one instruction that accesses a ring is removed or changed. Or a weaker machine, with less
//! ordering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use mapring_core::abi::seq::PENDING;

use crate::decode::{ADD, CMPXCHG, From, Insn, XCHG};
use crate::models::Code;
use crate::nest::{Access, Choices, INTERRUPTS, Nest};
use crate::object::Program;
use crate::order::{Fetch, Order};
use crate::ring::{Ring, Word};

/// A program on a machine, with one of them weakened.
#[derive(Clone)]
pub struct Mutant {
    /// The change.
    pub name: String,
    /// The program.
    pub program: Program,
    /// The machine.
    pub order: Order,
    /// Why this change is harmless, if it is.
    pub equivalent: Option<&'static str>,
    /// This change has no effect if that instruction never writes.
    pub of_write: Option<usize>,
}

/// The words of the ring that each instruction accesses.
pub type Sites = BTreeMap<usize, BTreeSet<Word>>;

/// The register that no program uses.
pub(crate) const AX: u8 = 11;

/// The accesses of a ring's program when another one interrupts it.
pub fn ring_sites(ring: &'static str, code: &Code) -> Sites {
    let (program, order) = (&*code.program, code.order);
    let mut sites = Sites::new();
    for before in 0..3 {
        Choices::explore(|choices| {
            let ring = Ring::new(ring);
            let mut seen = |access: Access| {
                sites.entry(access.at).or_default().insert(ring.word(access.word).any_slot());
            };
            let mut history = ring.push_all(program, order, 1..=before);
            let mut nest =
                Nest { ring: &ring, programs: &[program], discards: false, order, seen: &mut seen };
            nest.run(choices, &mut 1, &mut history);
        });
    }
    sites
}

/// The accesses that write something another access relies on, in some of the models' nestings, so that one more
/// interrupt could matter there. Nothing relies on the mark of a claim that finds its slot taken, and marks the next
/// one.
pub fn ring_writes(ring: &'static str, code: &Code) -> BTreeSet<usize> {
    let writes = Arc::new(Mutex::new(BTreeSet::new()));
    let (code, found) = (code.clone(), Arc::clone(&writes));
    Choices::explore_alone(move |choices| {
        let (ring, mut found) = (Ring::new(ring), found.lock().unwrap());
        let (program, order) = (&*code.program, code.order);
        let mut history = ring.push_all(program, order, [1]);
        let mut seen = |Access { at, word, wrote, last }| {
            let is_head = ring.word(word) == Word::Head;
            if wrote && !is_head {
                found.insert(at);
            }
            // Whether a head matters depends on the next access.
            if wrote
                && let Some((head, change)) = last
                && !(is_head && change.value & PENDING != 0)
            {
                found.insert(head);
            }
        };
        let mut nest = Nest { ring: &ring, programs: &[program], discards: false, order, seen: &mut seen };
        nest.run(choices, &mut (INTERRUPTS - 1), &mut history);
    });
    std::mem::take(&mut writes.lock().unwrap())
}

/// The instructions that write a marked head, in programs that interrupt a guarded claim after its last mark: it marks the
/// head again before each slot that it tries.
fn marked_writes(ring: &'static str, code: &Code) -> BTreeSet<usize> {
    let (program, order) = (&*code.program, code.order);
    let mut writes = BTreeSet::new();
    for before in 0..3 {
        Choices::explore(|choices| {
            let ring = Ring::new(ring);
            let mut seen = |access: Access| {
                if access.wrote && ring.word(access.word) == Word::Head && ring.head() & PENDING != 0 {
                    writes.insert(access.at);
                }
            };
            let mut history = ring.push_all(program, order, 1..=before);
            ring.set_head((before + 1) | PENDING);
            let mut nest =
                Nest { ring: &ring, programs: &[program], discards: false, order, seen: &mut seen };
            nest.run(choices, &mut 1, &mut history);
        });
    }
    writes
}

/// Every mutant of a program.
pub fn mutants(code: &Code, sites: &Sites) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let mut mutants = Vec::new();
    let mut of_writes = Vec::new();
    for (&at, words) in sites {
        let only = |word| words.iter().eq([&word]);
        let mut add = |name: String, program: Program, equivalent| {
            mutants.push(Mutant { name, program, order, equivalent, of_write: None });
        };
        match program.code[at] {
            Insn::Store { release: true, bytes, base, off, from } => {
                let plain = Insn::Store { release: false, bytes, base, off, from };
                add(format!("{at}: store-release made plain"), program.patched(at, &[plain]), None);
            }
            Insn::Store { base, off, from, .. } => {
                let name = format!("{at}: store to {words:?} left out");
                let (head, without) = (only(Word::Head), program.patched(at, &[]));
                if head && program.guarded {
                    // It decides which program may claim what.
                    let of_write = Some(at);
                    of_writes.push(Mutant { name, program: without, order, equivalent: None, of_write });
                } else {
                    add(name, without, head.then_some("the head is a hint, nothing rests on it"));
                }
                if only(Word::Record)
                    && let Some(publish) = publish_after(program, sites, at)
                {
                    let late = [program.code[publish], store(base, off, AX)];
                    let program = program.patched(publish, &late).patched(at, &[set(AX, from)]);
                    add(format!("{at}: record written after it is published"), program, None);
                }
            }
            Insn::Load { .. } if only(Word::Head) && program.guarded => mutants.push(unseen_mark(code, at)),
            Insn::Atomic { op: XCHG, base, off, src, .. } => {
                add(format!("{at}: xchg made a store"), program.patched(at, &[store(base, off, src)]), None);
            }
            Insn::Atomic { op: CMPXCHG, base, off, src, .. } => {
                let blind = [store(base, off, src)];
                add(format!("{at}: cmpxchg made a store"), program.patched(at, &blind), None);
                let other = Insn::If { op: 0x50, wide: true, dst: AX, from: From::Reg(0), to: at + 3 };
                let split = [load(AX, base, off), other, store(base, off, src), set(0, From::Reg(AX))];
                of_writes.push(Mutant {
                    name: format!("{at}: cmpxchg not atomic"),
                    program: program.patched(at, &split),
                    order,
                    equivalent: None,
                    of_write: Some(at),
                });
                let early = [store(base, off + 8, src), program.code[at]];
                add(format!("{at}: record written before it is claimed"), program.patched(at, &early), None);
            }
            Insn::Atomic { op: ADD, base, off, src, .. } => {
                let sum = Insn::Alu { op: 0, wide: true, dst: AX, from: From::Reg(src), off: 0 };
                let split = [load(AX, base, off), sum, store(base, off, AX)];
                add(format!("{at}: addition not atomic"), program.patched(at, &split), None);
                add(format!("{at}: addition left out"), program.patched(at, &[]), None);
            }
            _ => {}
        }
    }
    mutants.extend(of_writes);
    mutants.extend(guards(code, sites));
    let orders = sites.values().flatten().any(|word| matches!(word, Word::Seq(_)));
    let equivalent = (!orders).then_some("a count orders nothing");
    let mut machine = |name: &str, order| {
        let program = program.clone();
        mutants.push(Mutant { name: name.into(), program, order, equivalent, of_write: None });
    };
    if order == Order::TSO {
        machine("made for x86, on a weaker machine", Order::WEAK);
    } else {
        machine("atomics that only acquire and release", Order { fetch: Fetch::AcqRel, ..order });
        machine("atomics that order nothing", Order { fetch: Fetch::Relaxed, ..order });
    }
    mutants
}

/// Claims by compare-and-swap that ignore the mark of the guarded claim that they interrupt.
pub fn of_mark(ring: &'static str, code: &Code, sites: &Sites) -> Vec<Mutant> {
    let (marked, one_slot) = (marked_writes(ring, code), Ring::new(ring).slots() == 1);
    let heads = sites.iter().filter(|(_, words)| words.iter().eq([&Word::Head]));
    let first = sites.iter().find(|(_, words)| words.contains(&Word::Head)).map(|(&at, _)| at);
    let mutant = |(&at, _)| match code.program.code[at] {
        Insn::Load { .. } => Mutant {
            equivalent: (one_slot && first == Some(at)).then_some("the only slot is behind a marked head"),
            ..unseen_mark(code, at)
        },
        Insn::Store { base, off, from, .. } => {
            let lost = [set(AX, from), unmark(AX), store(base, off, AX)];
            let lost = code.program.patched(at, &lost);
            let equivalent = (!marked.contains(&at)).then_some("no mark gets there");
            Mutant { equivalent, ..mutant(code, format!("{at}: the mark of a claim lost"), lost) }
        }
        insn => panic!("{at}: {insn:?} of a head"),
    };
    heads.map(mutant).collect()
}

fn unseen_mark(code: &Code, at: usize) -> Mutant {
    let Insn::Load { dst, .. } = code.program.code[at] else { panic!("{at} is no load") };
    let blind = code.program.patched(at, &[code.program.code[at], unmark(dst)]);
    mutant(code, format!("{at}: the mark of a claim not seen"), blind)
}

/// Guarded claims without their guard, or with a guard that ends before the store.
fn guards(code: &Code, sites: &Sites) -> Vec<Mutant> {
    let program = &*code.program;
    let [end, begin] = [false, true].map(|begins| Insn::Guard { begins });
    let mut mutants = Vec::new();
    for from in (0..program.code.len()).filter(|&at| program.guarded && program.code[at] == begin) {
        let inside = in_guard(program, from);
        // The last ones first, so that the numbers of the others stay.
        let ends = inside.iter().rev().filter(|&&at| program.code[at] == end);
        let (after, before): (Vec<_>, Vec<_>) = ends.partition(|&&at| at > from);
        let all = after.into_iter().chain([&from]).chain(before);
        let without = all.fold(program.clone(), |program, &at| program.patched(at, &[]));
        mutants.push(mutant(code, format!("{from}: no guard"), without));
        for &at in &inside {
            let claims = sites.get(&at).is_some_and(|words| words.contains(&Word::Seq(0)));
            let claim = program.code[at];
            if claims && matches!(claim, Insn::Store { .. }) {
                let early = program.patched(at, &[end, claim, begin]);
                mutants.push(mutant(code, format!("{at}: the guard ends before the claim"), early));
            }
        }
    }
    mutants
}

/// The instructions of the guard that begins at `from`, with its ends: compilers give each path its own.
fn in_guard(program: &Program, from: usize) -> BTreeSet<usize> {
    let (mut inside, mut next) = (BTreeSet::new(), vec![from + 1]);
    while let Some(at) = next.pop() {
        if !inside.insert(at) {
            continue;
        }
        match program.code[at] {
            Insn::Guard { begins } => assert!(!begins, "{at}: a guard in the guard of {from}"),
            Insn::Goto { to } => next.push(to),
            Insn::If { to, .. } => next.extend([at + 1, to]),
            Insn::Const { .. } => next.push(at + 2),
            Insn::Exit => panic!("{at}: the guard of {from} does not end"),
            _ => next.push(at + 1),
        }
    }
    inside
}

pub(crate) fn mutant(code: &Code, name: String, program: Program) -> Mutant {
    Mutant { name, program, order: code.order, equivalent: None, of_write: None }
}

/// The next instruction after `at` that publishes.
fn publish_after(program: &Program, sites: &Sites, at: usize) -> Option<usize> {
    let publishes = |insn| matches!(insn, Insn::Store { .. } | Insn::Atomic { op: XCHG, .. });
    let mut after = sites.range(at + 1..).map(|(&site, words)| (site, words));
    after
        .find(|&(site, words)| words.contains(&Word::Seq(0)) && publishes(program.code[site]))
        .map(|(site, _)| site)
}

pub(crate) fn load(dst: u8, base: u8, off: i16) -> Insn {
    Insn::Load { bytes: 8, signed: false, acquire: false, dst, base, off }
}

pub(crate) fn store(base: u8, off: i16, src: u8) -> Insn {
    Insn::Store { bytes: 8, release: false, base, off, from: From::Reg(src) }
}

fn unmark(dst: u8) -> Insn {
    Insn::Alu { op: 0x50, wide: true, dst, from: From::Imm(!PENDING), off: 0 }
}

pub(crate) fn set(dst: u8, from: From) -> Insn {
    Insn::Alu { op: 0xb0, wide: true, dst, from, off: 0 }
}
