//! Resizable rings that programs write, the production code that replaces them, the production code that moves on to
//! the next, and their models. Nothing waits for programs that still use the old ring: the kernel does not, if they may
//! sleep.

mod reader;

use std::convert::Infallible;
use std::sync::Arc;

use mapring_core::abi::seq::DISCARDED;
use mapring_core::abi::{Gate, Geometry, Kind};
use mapring_core::protocol::ring::{PROGRAM_GATE, Shard, ShardPlace, Whole, open, replace};
use mapring_core::protocol::{Words, WordsMut};

use self::reader::Reader;
use crate::check;
use crate::decode::Insn;
use crate::machine::Machine;
use crate::map::{Change, Inner, Map};
use crate::models::{Code, Seen};
use crate::mutate::{Mutant, store};
use crate::order::{Fetch, Order};
use crate::sync::thread;
use crate::sync::{AtomicU64, Ordering};

/// Shards of each ring.
const SHARDS: usize = 2;

/// Slots per shard: of the current ring, and of its replacement.
const SLOTS: [u64; 2] = [1, 2];

/// Two rings.
struct Rings {
    map: Map,
    geometry: [Geometry; 2],
}

impl Rings {
    fn new(name: &'static str) -> Arc<Self> {
        let geometry = SLOTS
            .map(|slots| Geometry::new(Kind::Ring, 8, slots, SHARDS as u64).unwrap().resizable().unwrap());
        let [first, second] = &geometry;
        assert_eq!(first.bytes(), second.bytes(), "so small that both take the same");
        let words = (0..2 * first.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let inner = Some(Inner::InUse(2, AtomicU64::new(0)));
        let rings = Self { map: Map { name, words, stride: first.element_words(), inner }, geometry };
        for (ring, geometry) in rings.geometry.iter().enumerate() {
            open(WordsMut::new(rings.words(ring)), geometry);
            // As in its preamble: `open` is for programs.
            rings.words(ring)[Gate::WORD].store(Gate::Open.encode(geometry.capacity()), Ordering::Relaxed);
        }
        Arc::new(rings)
    }

    /// Words of one of them.
    fn half(&self) -> usize {
        self.map.words.len() / 2
    }

    fn words(&self, ring: usize) -> &[AtomicU64] {
        &self.map.words[ring * self.half()..][..self.half()]
    }

    fn in_use(&self) -> &AtomicU64 {
        let Some(Inner::InUse(_, in_use)) = &self.map.inner else { unreachable!("as it was made") };
        in_use
    }

    fn place(&self, ring: usize, shard: usize) -> ShardPlace {
        ShardPlace::new(&self.geometry[ring], shard)
    }

    fn machine<'a>(&'a self, code: &'a Code, cpu: usize, value: u64) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, cpu as u64, [value, 0])
    }

    /// Pushes a record on a CPU. Returns the ring that has it, and whether a slot was given back.
    fn push(&self, code: &Code, cpu: usize, value: u64) -> (usize, bool) {
        let mut machine = self.machine(code, cpu, value);
        let returned = machine.run() & 0xffff_ffff;
        assert_eq!(returned, 0, "there is place, and a ring: {:?}", machine.changes());
        let back = self.gives_back(&machine);
        // The publication is its last store.
        let last = machine.changes().last().expect("it wrote").word;
        (last / self.half(), back)
    }

    /// Whether a program gave a slot back.
    fn gives_back(&self, machine: &Machine<'_>) -> bool {
        machine.changes().iter().any(|change| self.is_seq(change.word) && change.value & DISCARDED != 0)
    }

    fn is_seq(&self, word: usize) -> bool {
        let (ring, at) = (word / self.half(), word % self.half());
        let seqs = |shard| (0..SLOTS[ring]).map(move |t| self.place(ring, shard).seq(t));
        (0..SHARDS).flat_map(seqs).any(|seq| seq == at)
    }

    fn whole(&self, ring: usize) -> Whole<'_> {
        let id = u32::try_from(ring + 1).unwrap();
        Whole { words: WordsMut::new(self.words(ring)), geometry: &self.geometry[ring], id }
    }

    /// `Ring::resize`
    fn resize(&self) {
        let put = || {
            self.in_use().store(1, Ordering::Release); // the kernel: xchg
            Ok::<_, Infallible>(())
        };
        let Ok(()) = replace(self.whole(0), self.whole(1), put);
    }

    /// All tickets of a retired ring.
    fn ends(&self, ring: usize) -> u64 {
        let shard = |shard| Shard::new(Words::new(self.words(ring)), &self.place(ring, shard)).end();
        (0..SHARDS).map(shard).sum()
    }

    fn before(&self, ring: usize) -> u64 {
        self.words(ring)[Gate::BEFORE].load(Ordering::Relaxed)
    }
}

/// A program that runs while its ring is replaced, and a follower that leaves the old one. `bounds` has the limit of
/// preemptions for each CPU of the program, in turn.
fn while_replaced(
    name: &'static str,
    code: &Code,
    seen: &Seen,
    mapped: bool,
    bounds: &[(usize, usize)],
) -> u64 {
    let on = |&(cpu, preemptions): &(usize, usize)| {
        let (code, seen) = (code.clone(), seen.clone());
        check(Some(preemptions), move || {
            let rings = Rings::new(name);
            let (there, also) = (Arc::clone(&rings), Arc::clone(&rings));
            let resizer = thread::spawn(move || there.resize());
            let follower = thread::spawn(move || {
                let mut follower = Reader::new(&also, mapped);
                (0..2).for_each(|_| _ = follower.poll());
                follower
            });
            let (at, back) = rings.push(&code, cpu, 7);
            resizer.join().unwrap();
            let follower = follower.join().unwrap();
            let left = follower.ring() == 1;
            seen.note("left", left);
            seen.note("given back", back);
            seen.note("left what was given back", left && back);
            seen.note("in the old ring", at == 0);
            seen.note("read, then left", left && at == 0 && !follower.log.is_empty());
            follower.finish(&rings, &[(cpu, 7, at)]);
        })
    };
    bounds.iter().map(on).sum()
}

/// The follower has both rings mapped.
pub(crate) fn replaced(name: &'static str, code: Code, seen: Seen) -> u64 {
    while_replaced(name, &code, &seen, true, &[(0, 1), (1, 2)])
}

/// The follower reads by system call.
pub(crate) fn replaced_by_call(name: &'static str, code: Code, seen: Seen) -> u64 {
    while_replaced(name, &code, &seen, false, &[(1, 1)])
}

/// Programs on both CPUs.
pub(crate) fn two_programs(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(1), move || {
        let rings = Rings::new(name);
        let (there, also, other) = (Arc::clone(&rings), Arc::clone(&rings), code.clone());
        let resizer = thread::spawn(move || there.resize());
        let other = thread::spawn(move || also.push(&other, 1, 11));
        let mine = rings.push(&code, 0, 7);
        resizer.join().unwrap();
        let other = other.join().unwrap();
        seen.note("one in each", mine.0 != other.0);
        seen.note("both given back", mine.1 && other.1);
        let stats = Reader::new(&rings, true).finish(&rings, &[(0, 7, mine.0), (1, 11, other.0)]);
        assert_eq!(stats.discarded, u64::from(mine.1) + u64::from(other.1));
    })
}

/// A program that does not read the gate, keeps a slot that it should give back, or reads the next ring too early; or a
/// machine with less ordering.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let rings = Rings::new(name);
    let mut machine = rings.machine(code, 0, 1);
    let of_shard = rings.geometry[0].shard(0) * rings.geometry[0].element_words() + PROGRAM_GATE;
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
    for &look in &looks {
        let decides = |at: &usize| matches!(program.code[*at], Insn::If { .. });
        let at = (look..look + 20).find(decides).expect("something is decided by it");
        let Insn::If { to, .. } = program.code[at] else { unreachable!("as was found") };
        let (always, never) = (program.patched(at, &[Insn::Goto { to }]), program.patched(at, &[]));
        mutants.push(mutant(format!("{at}: the gate is not looked at"), always, order));
        mutants.push(mutant(format!("{at}: the gate is not looked at, the other way"), never, order));
    }
    // The ring is replaced right before the second read.
    let mut machine = rings.machine(code, 0, 1);
    while machine.pc() != looks[1] {
        assert_eq!(machine.step(), None, "it comes there");
    }
    rings.resize();
    loop {
        let (at, changes, is_barrier) = (machine.pc(), machine.changes().len(), machine.is_at_barrier());
        let returned = machine.step();
        let gives_back = |change: &Change| rings.is_seq(change.word) && change.value & DISCARDED != 0;
        if machine.changes()[changes..].iter().any(gives_back) {
            // The result of the exchange is unused.
            mutants.push(mutant(
                format!("{at}: the slot is not given back"),
                program.patched(at, &[]),
                order,
            ));
        } else if let (true, Insn::Atomic { base, off, src, .. }) = (is_barrier, program.code[at]) {
            let plain = program.patched(at, &[store(base, off, src)]);
            mutants.push(mutant(
                format!("{at}: no barrier before the next ring is looked for"),
                plain,
                order,
            ));
        }
        if returned.is_some() {
            break;
        }
    }
    assert!(rings.gives_back(&machine), "it gave the slot back");
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
