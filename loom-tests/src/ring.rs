//! A ring of one shard in loom's memory, the production producer over it, and a reader that
//! checks what it is promised at each step.

use std::sync::Arc;

use mapring::layout::seq::state;
use mapring::layout::{Geometry, Kind};
use mapring::protocol::ring::{Cursor, Place, Shard, ShardMut, Slot, Start, Step, Tally};
use mapring::protocol::{Words, WordsMut};

use crate::history::{End, History};
use crate::sync::{AtomicU64, Ordering, words};

/// Patience that no model uses up.
pub const PATIENT: u32 = 1 << 20;

/// A shard with records of `W` words, which all hold the same value.
pub struct Ring<const W: usize = 1> {
    words: Box<[AtomicU64]>,
    geometry: Geometry,
    place: Place,
}

impl<const W: usize> Ring<W> {
    /// A new ring with so many slots.
    pub fn new(slots: u64) -> Arc<Self> {
        let geometry = Geometry::new(Kind::Ring, 8 * W as u64, slots, 1).unwrap();
        let place = Place::new(&geometry, 0);
        Arc::new(Self { words: words(geometry.bytes() / 8), geometry, place })
    }

    /// The shard, as production readers see it.
    pub fn shard(&self) -> Shard<'_> {
        Shard::new(Words::new(&self.words), &self.place)
    }

    /// The shard, as production writers see it.
    pub fn shard_mut(&self) -> ShardMut<'_> {
        ShardMut::new(WordsMut::new(&self.words), &self.place)
    }

    /// How many slots it has.
    pub fn slots(&self) -> u64 {
        self.geometry.capacity() as u64
    }

    /// The header's words: head, dropped.
    pub fn header(&self) -> &[AtomicU64] {
        &self.words[self.geometry.shard(0) * self.geometry.element_words()..]
    }

    /// The words of the slot of ticket `t`: sequence, record.
    pub fn slot(&self, t: u64) -> &[AtomicU64] {
        let element = self.geometry.slots(0) + self.place.slots().of(t);
        &self.words[element * self.geometry.element_words()..][..1 + W]
    }

    /// All words of the ring, its preamble's first.
    pub fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    /// Its shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Makes the hint point elsewhere, as a producer does that was interrupted before it stored it.
    pub fn set_head(&self, head: u64) {
        self.header()[0].store(head, Ordering::Relaxed);
    }

    /// When all is quiet: what memory says is what producers say, and a new reader finds all
    /// that has not been overwritten.
    pub fn check(&self, history: &History) {
        assert_eq!(self.shard().dropped(), history.dropped(), "every dropped record is counted");
        let slots = self.place.slots();
        for slot in 0..self.slots() {
            let last = history.tickets().filter(|&(t, _)| slots.of(t) as u64 == slot).last();
            let expected = last.map_or(0, |(t, end)| match end {
                End::Held => slots.writing(t),
                End::Published(_) | End::Discarded => slots.published(t),
            });
            assert_eq!(
                state(self.slot(slot)[0].load(Ordering::Relaxed)),
                expected,
                "slot {slot}: {history:?}"
            );
        }
        let mut reader = Reader::new(self, Start::Oldest, PATIENT);
        reader.drain(self);
        let found: Vec<_> =
            reader.log.iter().copied().filter(|(t, _)| t + self.slots() >= history.end_of_ring()).collect();
        assert_eq!(found, history.readable(self.slots()).collect::<Vec<_>>(), "{reader:?} {history:?}");
        reader.check(self, history);
    }
}

/// The steps that producers in all languages have.
pub trait Producer: Copy + Send + Sync + 'static {
    /// A slot that is claimed.
    type Slot<'a, const W: usize>: Claimed;

    /// Claims the next free slot.
    fn claim<const W: usize>(self, ring: &Ring<W>) -> Option<Self::Slot<'_, W>>;

    /// Claims the next free slot as one does that dies there, or stays in it for ever: its ticket.
    fn claim_for_good<const W: usize>(self, ring: &Ring<W>) -> Option<u64> {
        self.claim(ring).map(Claimed::abandon)
    }

    /// Publishes a record for each of `values`.
    fn push_all<const W: usize>(self, ring: &Ring<W>, values: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for value in values {
            let slot = self.claim(ring);
            let claimed = slot.as_ref().map(Claimed::ticket);
            if let Some(mut slot) = slot {
                slot.fill(value);
                slot.publish();
            }
            history.note(claimed, End::Published(value));
        }
        history
    }
}

/// What can be done with a slot that is claimed.
pub trait Claimed: Sized {
    /// Its ticket.
    fn ticket(&self) -> u64;
    /// Fills its record with `value`.
    fn fill(&mut self, value: u64);
    /// Ends it.
    fn publish(self);
    /// Ends it without a record.
    fn discard(self);

    /// Leaves it as it is.
    fn abandon(self) -> u64 {
        let ticket = self.ticket();
        std::mem::forget(self);
        ticket
    }
}

/// The production writer in Rust.
#[derive(Clone, Copy, Debug)]
pub struct Rust;

impl Producer for Rust {
    type Slot<'a, const W: usize> = Slot<'a, [u64; W]>;

    fn claim<const W: usize>(self, ring: &Ring<W>) -> Option<Slot<'_, [u64; W]>> {
        ring.shard_mut().reserve()
    }
}

impl<const W: usize> Claimed for Slot<'_, [u64; W]> {
    fn ticket(&self) -> u64 {
        Self::ticket(self)
    }

    fn fill(&mut self, value: u64) {
        self.write(&[value; W]);
    }

    fn publish(self) {
        assert!(self.commit().is_some(), "published without a record");
    }

    fn discard(self) {
        Self::discard(self);
    }
}

/// A production reader and all that it was given.
#[derive(Debug)]
pub struct Reader<const W: usize = 1> {
    cursor: Cursor,
    first: u64,
    log: Vec<(u64, u64)>,
}

impl<const W: usize> Reader<W> {
    /// A reader that starts where `start` says.
    pub fn new(ring: &Ring<W>, start: Start, patience: u32) -> Self {
        Self::from(Cursor::new(&mut ring.shard(), start, patience))
    }

    /// A reader that has come to ticket `next`.
    pub fn at(next: u64, patience: u32) -> Self {
        Self::from(Cursor::at(next, patience))
    }

    fn from(cursor: Cursor) -> Self {
        Self { cursor, first: cursor.next(), log: Vec::new() }
    }

    /// So many steps.
    #[must_use]
    pub fn steps(mut self, ring: &Ring<W>, count: usize) -> Self {
        (0..count).for_each(|_| _ = self.step(ring));
        self
    }

    /// One step, whose outcome must be what the cursor and its tally say.
    pub fn step(&mut self, ring: &Ring<W>) -> Step {
        let mut out = [0; W];
        let step = self.cursor.step(&mut ring.shard(), &mut out);
        if let Step::Record(t) = step {
            self.note(t, out);
        }
        self.count();
        step
    }

    /// At most so many records in one go.
    #[must_use]
    pub fn run(mut self, ring: &Ring<W>, limit: usize) -> Self {
        let before = self.log.len();
        let mut cursor = self.cursor;
        let (count, _) = cursor.run(&mut ring.shard(), &mut [0; W], limit, |t, out| self.note(t, *out));
        self.cursor = cursor;
        assert_eq!(count, self.log.len() - before);
        self.count();
        self
    }

    fn note(&mut self, t: u64, out: [u64; W]) {
        assert!(self.log.last().is_none_or(|&(last, _)| last < t), "in order, and never twice: {t} {self:?}");
        assert!(out.iter().all(|&word| word == out[0]), "ticket {t} is torn: {out:?}");
        self.log.push((t, out[0]));
    }

    /// Whether this is the end of a ring of which no slot is claimed any more.
    pub fn at_end(&mut self, ring: &Ring<W>) -> bool {
        self.cursor.at_end(&mut ring.shard(), 0)
    }

    /// The ticket that is read next.
    pub fn next(&self) -> u64 {
        self.cursor.next()
    }

    /// What the tally says is how far the cursor came.
    fn count(&self) {
        let Tally { delivered, lapped, skipped, discarded, .. } = self.tally();
        assert_eq!(delivered, self.log.len() as u64);
        assert_eq!(delivered + lapped + skipped + discarded, self.cursor.next() - self.first, "{self:?}");
    }

    /// All that is left, with no patience for what does not end.
    pub fn drain(&mut self, ring: &Ring<W>) {
        self.cursor.set_patience(1);
        let limit = 100;
        let steps = (0..limit).take_while(|_| self.step(ring) != Step::Empty).count();
        assert!(steps < limit, "{self:?} does not come to an end");
    }

    /// What became of the tickets passed.
    pub fn tally(&self) -> Tally {
        self.cursor.tally()
    }

    /// The ticket it started with.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The records it was given.
    pub fn log(&self) -> &[(u64, u64)] {
        &self.log
    }

    /// When all is quiet: everything that was delivered was published as it was delivered, and
    /// what was not is accounted for by its cause.
    pub fn check(&self, ring: &Ring<W>, history: &History) {
        for &(t, value) in &self.log {
            assert_eq!(history.get(t), Some(End::Published(value)), "ticket {t} of {self:?} {history:?}");
        }
        // Nobody has taken a ticket that lies before the cursor and later than the end.
        assert!(self.cursor.next() <= history.end_of_ring().max(self.first), "{self:?} {history:?}");
        let tally = self.tally();
        let missed = (self.first..self.cursor.next()).filter(|t| self.log.iter().all(|(got, _)| got != t));
        let mut may_be_lapped = 0;
        let mut ended_without = 0;
        let mut there = 0;
        for t in missed {
            match history.get(t) {
                _ if t + ring.slots() - ring.slots() / 8 < history.end_of_ring() => may_be_lapped += 1,
                Some(End::Discarded) => ended_without += 1,
                _ => there += 1,
            }
        }
        assert!(tally.lapped <= may_be_lapped, "lapped, but not overwritten: {self:?} {history:?}");
        assert!(tally.discarded >= ended_without || tally.skipped > 0 || tally.lapped > 0);
        assert!(tally.skipped >= there, "neither delivered nor counted: {self:?} {history:?}");
    }

    /// [`drain`](Self::drain) and [`check`](Self::check).
    pub fn finish(mut self, ring: &Ring<W>, history: &History) -> Self {
        self.drain(ring);
        assert_eq!(self.cursor.next(), history.end_of_ended().max(self.first), "{self:?} {history:?}");
        self.check(ring, history);
        self
    }
}
