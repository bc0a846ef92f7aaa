//! Resizable rings that programs write, the production code that replaces them, the production code that moves on to
//! the next, and their models. Nothing waits for programs that still use the old ring: the kernel does not, if they may
//! sleep.

use std::convert::Infallible;
use std::sync::Arc;

use mapring::abi::seq::DISCARDED;
use mapring::abi::{Gate, Geometry, Kind};
use mapring::protocol::ring::{
    Cursor, Follow, GATE, Leaving, Losses, ReadStats, Shard, ShardPlace, SlotSource, Start, Step, Whole,
    Window, gate, open, replace,
};
use mapring::protocol::{Elements, Words, WordsMut};

use crate::check;
use crate::decode::Insn;
use crate::machine::Machine;
use crate::map::{Change, Inner, Map};
use crate::models::{Code, PATIENT, Seen};
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

/// A ring read by lookups: copies of words, in no order.
struct Lookups {
    rings: Arc<Rings>,
    ring: usize,
}

impl Elements for Lookups {
    type Error = Infallible;

    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), Infallible> {
        let stride = self.rings.map.stride;
        assert_eq!(out.len(), count * stride);
        let from = &self.rings.words(self.ring)[first * stride..];
        out.iter_mut().zip(from).rev().for_each(|(out, word)| *out = word.load(Ordering::Relaxed));
        Ok(())
    }
}

/// A reader of the shards of one ring, mapped or by lookups.
struct Current {
    rings: Arc<Rings>,
    ring: usize,
    cursors: [Cursor; SHARDS],
    window: Option<Window<Lookups>>,
}

/// A record that a follower got: the shard, the value, the ring.
type Given = (usize, u64, usize);

impl Current {
    fn new(rings: Arc<Rings>, ring: usize, start: Start, patience: u64, mapped: bool) -> Self {
        let lookups = || Window::new(Lookups { rings: Arc::clone(&rings), ring }, &rings.geometry[ring]);
        let mut window = (!mapped).then(lookups);
        let cursors = std::array::from_fn(|shard| {
            let place = rings.place(ring, shard);
            match &mut window {
                None => Cursor::new(&mut Shard::new(Words::new(rings.words(ring)), &place), start, patience),
                Some(window) => Cursor::new(&mut window.of(shard, &place), start, patience),
            }
        });
        Self { rings, ring, cursors, window }
    }

    /// The next record, from any shard.
    fn poll(&mut self) -> Option<Given> {
        (0..SHARDS).find_map(|shard| {
            let mut value = 0;
            let place = self.rings.place(self.ring, shard);
            let cursor = &mut self.cursors[shard];
            let found = match &mut self.window {
                None => record(
                    cursor,
                    &mut Shard::new(Words::new(self.rings.words(self.ring)), &place),
                    &mut value,
                ),
                Some(window) => record(cursor, &mut window.of(shard, &place), &mut value),
            };
            found.then_some((shard, value, self.ring))
        })
    }
}

/// Steps until it finds a record, or nothing is left.
fn record(cursor: &mut Cursor, look: &mut impl SlotSource, value: &mut u64) -> bool {
    loop {
        match cursor.step(look, value) {
            Step::Record(_) => return true,
            Step::Moved => {}
            Step::Empty => return false,
        }
    }
}

impl Leaving for Current {
    type Ring = (Arc<Rings>, usize, bool);
    type Error = Infallible;

    fn enter((rings, ring, mapped): Self::Ring, start: Start, patience: u64) -> Result<Self, Infallible> {
        Ok(Self::new(rings, ring, start, patience, mapped))
    }

    fn patience(&self) -> u64 {
        self.cursors[0].patience()
    }

    fn gate(&mut self) -> Gate {
        gate(Words::new(self.rings.words(self.ring)))
    }

    fn before(&self) -> Result<u64, Infallible> {
        Ok(self.rings.before(self.ring))
    }

    fn replaced(&self) -> Result<Option<(Self::Ring, u64)>, Infallible> {
        let now = usize::try_from(self.rings.in_use().load(Ordering::Acquire)).unwrap();
        let next = (Arc::clone(&self.rings), now, self.window.is_none());
        Ok((now != self.ring).then(|| (next, self.rings.before(now))))
    }

    fn at_end(&mut self) -> bool {
        (0..SHARDS).all(|shard| {
            let place = self.rings.place(self.ring, shard);
            let cursor = &mut self.cursors[shard];
            match &mut self.window {
                None => cursor.at_end(&mut Shard::new(Words::new(self.rings.words(self.ring)), &place)),
                Some(window) => cursor.at_end(&mut window.of(shard, &place)),
            }
        })
    }

    fn ends(&mut self) -> Option<u64> {
        Some(self.rings.ends(self.ring))
    }

    fn stats(&self) -> ReadStats {
        let mut sum = ReadStats::default();
        self.cursors.iter().for_each(|cursor| sum += cursor.stats());
        sum
    }

    fn leave(&mut self, losses: &mut Losses) -> ReadStats {
        self.cursors.iter_mut().flat_map(Cursor::take_losses).for_each(|loss| losses.push(loss));
        self.stats()
    }
}

/// A production follower, and the records that it got.
struct Reader {
    current: Current,
    follow: Follow<Infallible>,
    log: Vec<Given>,
}

impl Reader {
    /// Reads the first ring from its first record.
    fn new(rings: &Arc<Rings>, mapped: bool) -> Self {
        let first = Current::new(Arc::clone(rings), 0, Start::First, PATIENT, mapped);
        Self { current: first, follow: Follow::default(), log: Vec::new() }
    }

    fn poll(&mut self) -> bool {
        let given = self.current.poll().or_else(|| self.follow.poll_on(&mut self.current, Current::poll));
        self.log.extend(given);
        given.is_some()
    }

    fn ring(&self) -> usize {
        self.current.ring
    }

    /// After all programs have ended: reads every pushed record once; nothing is left, and the tickets are counted.
    fn finish(mut self, rings: &Rings, pushed: &[Given]) -> ReadStats {
        let (left, known) = (self.ring(), self.log.len());
        let mut empty = 0;
        while empty < 20 || self.ring() == 0 {
            let at = self.ring();
            empty = if self.poll() || self.ring() != at { 0 } else { empty + 1 };
            assert!(empty < 200, "does not leave the old ring: {:?}", self.log);
        }
        let late = self.log[known..].iter().find(|given| given.2 < left);
        assert_eq!(late, None, "a record came after the end: {:?}", self.log);
        let mut pushed = pushed.to_vec();
        pushed.sort_unstable();
        self.log.sort_unstable();
        assert_eq!(self.log, pushed, "given, and pushed");
        let stats = self.follow.stats(&self.current);
        assert_eq!(stats.lost(), 0, "{stats:?}");
        assert_eq!(rings.before(1), rings.before(0) + rings.ends(0), "tickets that were counted");
        // A slot given back late need not be counted.
        let there = pushed.iter().filter(|given| given.2 == 0).count() as u64;
        assert!((there..=there + stats.discarded).contains(&rings.ends(0)), "tickets that were passed");
        stats
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
    let of_shard = rings.geometry[0].shard(0) * rings.geometry[0].element_words() + GATE;
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
