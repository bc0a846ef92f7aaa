//! Rings that replace each other: programs as in `detail/replace.bpf.h` on a weakly ordered machine, the production code
//! that replaces a ring, and the production code that moves on to the next ring.
//!
//! Programs may sleep here, so nothing waits for programs that still use an old ring.

use std::convert::Infallible;
use std::sync::Arc;

use mapring_core::abi::{Gate, Geometry, Kind};
use mapring_core::protocol::ring::{
    Cursor, Follow, Found, Leaving, Losses, PROGRAM_GATE, ReadStats, Shard, Shards, Start, Step, Whole, gate,
    open, read, replace,
};
use mapring_core::protocol::{Words, WordsMut};

use crate::bpf::Bpf;
use crate::ring::{Claimed, Producer, Ring};
use crate::sync::{AtomicU64, Ordering, fence};

/// The number of shards of each ring.
pub const SHARDS: usize = 2;

/// Some rings, each of which can replace the one before it; and the index of the current one.
pub struct Rings {
    rings: Vec<[Ring; SHARDS]>,
    in_use: AtomicU64,
    /// This ring is replaced at the moment when a follower enters it.
    pub replaced_on_entry: Option<usize>,
}

impl Rings {
    /// Rings with these numbers of slots per shard. The first one is current.
    pub fn new(slots: &[u64]) -> Arc<Self> {
        let ring = |&slots: &u64| {
            let geometry = Geometry::new(Kind::Ring, 8, slots, SHARDS as u64).unwrap();
            let geometry = geometry.resizable().unwrap();
            let shards: [Ring; SHARDS] = Ring::shards(geometry);
            let [first, ..] = &shards;
            open(WordsMut::new(first.words()), &geometry);
            // As in its preamble: `open` is for programs.
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

    /// The gate of a ring, as readers see it.
    pub fn gate(&self, ring: usize) -> Gate {
        gate(Words::new(self.words(ring)))
    }

    /// The tickets of the rings before this one, and whether that is the final number.
    pub fn before(&self, ring: usize) -> u64 {
        self.words(ring)[Gate::BEFORE].load(Ordering::Relaxed)
    }

    /// The tickets of a retired ring.
    pub fn ends(&self, ring: usize) -> u64 {
        self.rings[ring].iter().map(|shard| shard.shard().end()).sum()
    }

    /// A ring in the form that `Ring` uses.
    pub fn whole(&self, ring: usize) -> Whole<'_> {
        let (words, geometry) = (WordsMut::new(self.words(ring)), self.rings[ring][0].geometry());
        Whole { words, geometry, id: u32::try_from(ring + 1).unwrap() }
    }

    /// The ring that programs find. The kernel has a pointer here: accesses through it come after its load.
    pub fn in_use(&self) -> usize {
        usize::try_from(self.in_use.load(Ordering::Acquire)).unwrap()
    }

    /// Makes programs find this ring: the kernel's exchange when userspace updates the map of maps.
    pub fn put(&self, ring: usize) {
        self.in_use.store(ring as u64, Ordering::Release);
    }

    /// `Ring::resize`: replaces `old` by the next ring.
    pub fn resize(&self, old: usize) {
        self.resize_after(old, || ());
    }

    /// The same, and calls `before` right before programs find the next ring.
    pub fn resize_after(&self, old: usize, before: impl FnOnce()) {
        let put = || {
            before();
            self.put(old + 1);
            Ok::<_, Infallible>(())
        };
        let Ok(()) = replace(self.whole(old), self.whole(old + 1), put);
    }

    /// `mapring_reserve`, then `mapring_commit`, on the CPU of this shard. Returns the ring that has the record, if
    /// any, and whether a slot was given back.
    pub fn push(&self, shard: usize, value: u64) -> (Option<usize>, bool) {
        self.push_with(shard, || value)
    }

    /// The same with a value that is computed after the claim.
    pub fn push_with(&self, shard: usize, value: impl FnOnce() -> u64) -> (Option<usize>, bool) {
        let mut back = false;
        for _ in 0..2 {
            let at = self.in_use();
            let ring = self.shard(at, shard);
            let gate = &ring.header()[PROGRAM_GATE];
            let open = gate.load(Ordering::Relaxed);
            if Gate::decode(open) == Gate::Open {
                let Some(mut slot) = Bpf::Xchg.claim(ring) else { return (None, back) };
                if gate.load(Ordering::Relaxed) == open {
                    slot.fill(value());
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

/// A record that a follower got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The ring of the record.
    pub ring: usize,
    /// The shard.
    pub shard: usize,
    /// Its ticket in that ring.
    pub ticket: u64,
    /// Its content.
    pub value: u64,
}

/// A reader of the shards of one ring.
#[derive(Debug)]
pub struct Current {
    rings: Shared,
    ring: usize,
    cursors: [Cursor; SHARDS],
}

/// The rings, with a short `Debug`.
struct Shared(Arc<Rings>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Current {
    /// Reads this ring.
    pub fn new(rings: Arc<Rings>, ring: usize, start: Start, patience: u64) -> Self {
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

/// As the reader of a merged reader.
impl Shards<u64> for Current {
    fn count(&self) -> usize {
        SHARDS
    }

    fn in_use(&mut self) -> bool {
        Leaving::gate(self) == Gate::Open
    }

    fn read(&mut self, at: usize, _held: Option<u64>, room: &mut [u64], f: impl FnMut(u64, &[u64])) -> Found {
        let ring = &self.rings.0.rings[self.ring][at];
        read(&mut self.cursors[at], &mut ring.shard(), room, 100, f)
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

    fn leave(&mut self, losses: &mut Losses) -> ReadStats {
        self.cursors.iter_mut().flat_map(Cursor::take_losses).for_each(|loss| losses.push(loss));
        self.stats()
    }
}

/// A production follower, and the records that it got.
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

    /// Polls this many times.
    #[must_use]
    pub fn polls(mut self, count: usize) -> Self {
        (0..count).for_each(|_| _ = self.poll());
        self
    }

    /// `Reader::poll`: returns whether it found a record.
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

    /// Whether it waits for the process that is replacing the ring.
    pub fn unfinished(&self) -> bool {
        self.follow.unfinished()
    }

    /// The number of polls that it waits for a record.
    pub fn patience(&self) -> u64 {
        self.current.patience()
    }

    /// The records that it got.
    pub fn log(&self) -> &[Given] {
        &self.log
    }

    /// The counts of the tickets of all rings.
    pub fn stats(&self) -> ReadStats {
        self.follow.stats(&self.current)
    }

    /// The tickets of all rings that are lost according to the lists of losses, which it empties.
    pub fn take_lost(&mut self) -> u64 {
        let current = self.current.cursors.iter_mut().flat_map(Cursor::take_losses);
        self.follow.take_losses().chain(current).map(|loss| loss.count).sum()
    }

    /// Reads until nothing is left in the current ring.
    pub fn finish(&mut self, rings: &Rings) {
        let last = usize::try_from(rings.in_use.load(Ordering::Relaxed)).unwrap();
        let mut empty = 0;
        for _ in 0..1000 {
            let at = self.ring();
            empty = if self.poll() || self.ring() != at { 0 } else { empty + 1 };
            // A cursor looks past its ticket only once in several steps.
            if empty > 40 && self.ring() == last {
                return;
            }
        }
        panic!("does not come to the end: {self:?}");
    }
}
