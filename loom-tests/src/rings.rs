//! Rings that take each other's place: programs as `resizable.bpf.h` has them on a weak machine, the
//! production code that replaces a ring, and the production code that leaves it for the next.
//!
//! Programs may sleep here, so that nobody waits for those that are still at work with an old ring.

use std::convert::Infallible;
use std::sync::Arc;

use mapring::layout::{Gate, Geometry, Kind};
use mapring::protocol::ring::{
    Cursor, Follow, GATE, Leaving, ReadStats, Shard, Start, Step, Whole, gate, open, replace,
};
use mapring::protocol::{Words, WordsMut};

use crate::bpf::Bpf;
use crate::ring::{Claimed, Producer, Ring};
use crate::sync::{AtomicU64, Ordering, fence};

/// How many shards each ring has.
pub const SHARDS: usize = 2;

/// Some rings, each made to take the place of the one before it; which one is in use.
pub struct Rings {
    rings: Vec<[Ring; SHARDS]>,
    in_use: AtomicU64,
    /// This ring is replaced in the moment in which a follower comes to it.
    pub replaced_on_entry: Option<usize>,
}

impl Rings {
    /// Rings with so many slots a shard. The first one is in use.
    pub fn new(slots: &[u64]) -> Arc<Self> {
        let ring = |&slots: &u64| {
            let geometry = Geometry::new(Kind::Ring, 8, slots, SHARDS as u64).unwrap();
            let geometry = geometry.resizable().unwrap();
            let shards: [Ring; SHARDS] = Ring::shards(geometry);
            let [first, ..] = &shards;
            open(WordsMut::new(first.words()), &geometry);
            // As its preamble has it: `open` is for programs.
            first.words()[Gate::WORD].store(Gate::Open.encode(geometry.capacity()), Ordering::Relaxed);
            shards
        };
        Arc::new(Self {
            rings: slots.iter().map(ring).collect(),
            in_use: AtomicU64::new(0),
            replaced_on_entry: None,
        })
    }

    /// A shard of a ring.
    pub fn shard(&self, ring: usize, shard: usize) -> &Ring {
        &self.rings[ring][shard]
    }

    /// All words of a ring.
    pub fn words(&self, ring: usize) -> &[AtomicU64] {
        self.rings[ring][0].words()
    }

    /// What the gate of a ring says to readers.
    pub fn gate(&self, ring: usize) -> Gate {
        gate(Words::new(self.words(ring)))
    }

    /// The tickets of the rings before this one, and whether that is all.
    pub fn before(&self, ring: usize) -> u64 {
        self.words(ring)[Gate::BEFORE].load(Ordering::Relaxed)
    }

    /// The tickets of a ring that is retired.
    pub fn ends(&self, ring: usize) -> u64 {
        self.rings[ring].iter().map(|shard| shard.shard().end()).sum()
    }

    /// A ring as `Ring` has it.
    pub fn whole(&self, ring: usize) -> Whole<'_> {
        let (words, geometry) = (WordsMut::new(self.words(ring)), self.rings[ring][0].geometry());
        Whole { words, geometry, id: u32::try_from(ring + 1).unwrap() }
    }

    /// Has programs find this ring: what the kernel does when it is put in the map of maps (an exchange).
    pub fn put(&self, ring: usize) {
        self.in_use.store(ring as u64, Ordering::Release);
    }

    /// `Ring::resize`: puts the next ring in the place of `old`.
    pub fn resize(&self, old: usize) {
        self.resize_after(old, || ());
    }

    /// The same, with something else right before programs find the next ring.
    pub fn resize_after(&self, old: usize, before: impl FnOnce()) {
        let put = || {
            before();
            self.put(old + 1);
            Ok::<_, Infallible>(())
        };
        let Ok(()) = replace(self.whole(old), self.whole(old + 1), put);
    }

    /// `mapring_reserve`, then `mapring_commit`, on the CPU of this shard: which ring has the record, if one
    /// does; and whether a slot was given back.
    pub fn push(&self, shard: usize, value: u64) -> (Option<usize>, bool) {
        let mut back = false;
        for _ in 0..2 {
            // The kernel has a pointer there: what is read through it comes after it.
            let at = usize::try_from(self.in_use.load(Ordering::Acquire)).unwrap();
            let ring = self.shard(at, shard);
            let gate = &ring.header()[GATE];
            let open = gate.load(Ordering::Relaxed);
            if Gate::decode(open) == Gate::Open {
                let Some(mut slot) = Bpf::Xchg.claim(ring) else { return (None, back) };
                if gate.load(Ordering::Relaxed) == open {
                    slot.fill(value);
                    slot.publish();
                    return (Some(at), back);
                }
                slot.discard();
                back = true;
            }
            fence(Ordering::SeqCst); // `mapring__barrier`
        }
        panic!("the gate was closed before there was another ring");
    }
}

/// A record that a follower was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The ring that had it.
    pub ring: usize,
    /// The shard.
    pub shard: usize,
    /// Its ticket there.
    pub ticket: u64,
    /// What it says.
    pub value: u64,
}

/// A reader of the shards of one ring.
#[derive(Debug)]
pub struct Current {
    rings: Shared,
    ring: usize,
    cursors: [Cursor; SHARDS],
}

/// The rings, of which not all is to be printed.
struct Shared(Arc<Rings>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Current {
    fn new(rings: Arc<Rings>, ring: usize, start: Start, patience: u64) -> Self {
        let cursors =
            std::array::from_fn(|at| Cursor::new(&mut rings.shard(ring, at).shard(), start, patience));
        Self { rings: Shared(rings), ring, cursors }
    }

    /// The ring that it reads.
    pub fn ring(&self) -> usize {
        self.ring
    }

    fn each(&mut self) -> impl Iterator<Item = (usize, Shard<'_>, &mut Cursor)> {
        let ring = &self.rings.0.rings[self.ring];
        ring.iter().zip(&mut self.cursors).enumerate().map(|(at, (ring, cursor))| (at, ring.shard(), cursor))
    }

    /// The next record, from any shard.
    pub fn poll(&mut self) -> Option<Given> {
        let from = self.ring;
        self.each().find_map(|(shard, mut look, cursor)| {
            let mut value = 0_u64;
            loop {
                match cursor.step(&mut look, &mut value) {
                    Step::Record(ticket) => return Some(Given { ring: from, shard, ticket, value }),
                    Step::Moved => {}
                    Step::Empty => return None,
                }
            }
        })
    }
}

impl Leaving for Current {
    type Ring = (Arc<Rings>, usize);
    type Error = Infallible;

    fn enter((rings, ring): Self::Ring, start: Start, patience: u64) -> Result<Self, Infallible> {
        if rings.replaced_on_entry == Some(ring) {
            rings.resize(ring);
        }
        Ok(Self::new(rings, ring, start, patience))
    }

    fn patience(&self) -> u64 {
        self.cursors[0].patience()
    }

    fn gate(&mut self) -> Gate {
        self.rings.0.gate(self.ring)
    }

    fn before(&self) -> Result<u64, Infallible> {
        Ok(self.rings.0.before(self.ring))
    }

    fn replaced(&self) -> Result<Option<(Self::Ring, u64)>, Infallible> {
        let rings = &self.rings.0;
        let now = usize::try_from(rings.in_use.load(Ordering::Acquire)).unwrap();
        Ok((now != self.ring).then(|| ((Arc::clone(rings), now), rings.before(now))))
    }

    fn at_end(&mut self) -> bool {
        self.each().all(|(_, mut look, cursor)| cursor.at_end(&mut look))
    }

    fn ends(&mut self) -> Option<u64> {
        Some(self.rings.0.ends(self.ring))
    }

    fn stats(&self) -> ReadStats {
        let mut sum = ReadStats::default();
        self.cursors.iter().for_each(|cursor| sum += cursor.stats());
        sum
    }
}

/// A production follower, and all that it was given.
#[derive(Debug)]
pub struct Reader {
    current: Current,
    follow: Follow<Infallible>,
    log: Vec<Given>,
}

impl Reader {
    /// Reads the first ring from its first record.
    pub fn new(rings: &Arc<Rings>, patience: u64) -> Self {
        let first = Current::new(Arc::clone(rings), 0, Start::First, patience);
        Self { current: first, follow: Follow::default(), log: Vec::new() }
    }

    /// So many polls.
    #[must_use]
    pub fn polls(mut self, count: usize) -> Self {
        (0..count).for_each(|_| _ = self.poll());
        self
    }

    /// `Reader::poll`: whether there was a record.
    pub fn poll(&mut self) -> bool {
        let given = self.current.poll().or_else(|| self.follow.poll_on(&mut self.current, Current::poll));
        if let Some(given) = given {
            let earlier = self.log.iter().rev().find(|e| e.shard == given.shard);
            assert!(
                earlier.is_none_or(|e| (e.ring, e.ticket) < (given.ring, given.ticket)),
                "in order, and never twice: {given:?} {self:?}"
            );
            self.log.push(given);
        }
        given.is_some()
    }

    /// The ring that it reads.
    pub fn ring(&self) -> usize {
        self.current.ring()
    }

    /// Whether it waits for the process that replaces a ring.
    pub fn unfinished(&self) -> bool {
        self.follow.unfinished()
    }

    /// How many polls it waits for a record.
    pub fn patience(&self) -> u64 {
        self.current.patience()
    }

    /// What it was given.
    pub fn log(&self) -> &[Given] {
        &self.log
    }

    /// What became of the tickets of all rings.
    pub fn stats(&self) -> ReadStats {
        self.follow.stats(&self.current)
    }

    /// Reads until there is nothing more, in the ring that is in use.
    pub fn finish(&mut self, rings: &Rings) {
        let last = usize::try_from(rings.in_use.load(Ordering::Relaxed)).unwrap();
        let mut empty = 0;
        for _ in 0..1000 {
            let at = self.ring();
            empty = if self.poll() || self.ring() != at { 0 } else { empty + 1 };
            // A cursor looks past its ticket once in so many steps.
            if empty > 40 && self.ring() == last {
                return;
            }
        }
        panic!("does not come to the end: {self:?}");
    }
}
