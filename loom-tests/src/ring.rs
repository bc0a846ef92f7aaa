//! A ring of one shard in loom's memory, the production producer on it, and a reader that checks the guarantees at each
//! step.

use std::sync::Arc;

use mapring_core::abi::seq::state;
use mapring_core::abi::{Geometry, Kind};
use mapring_core::protocol::ring::{
    Cursor, LossCause, ReadStats, Shard, ShardMut, ShardPlace, Slot, SlotSource, Start, Step,
};
use mapring_core::protocol::{Words, WordsMut};

use crate::history::{End, History};
use crate::sync::{AtomicU64, Ordering, words};

/// Patience that lasts longer than any model.
pub const PATIENT: u64 = 1 << 20;

/// A shard with records of `W` words, all with the same value.
pub struct Ring<const W: usize = 1> {
    words: Arc<[AtomicU64]>,
    geometry: Geometry,
    shard: usize,
    place: ShardPlace,
}

impl<const W: usize> Ring<W> {
    /// A new ring with this number of slots.
    pub fn new(slots: u64) -> Arc<Self> {
        let geometry = Geometry::new(Kind::Ring, 8 * W as u64, slots, 1).unwrap();
        let [ring] = Self::shards(geometry);
        Arc::new(ring)
    }

    /// The shards of a new ring of this shape, which share its words.
    pub fn shards<const SHARDS: usize>(geometry: Geometry) -> [Self; SHARDS] {
        assert_eq!((geometry.record(), geometry.shards()), (8 * W, SHARDS));
        let words: Arc<[_]> = words(geometry.bytes() / 8).into();
        std::array::from_fn(|shard| {
            let place = ShardPlace::new(&geometry, shard);
            Self { words: Arc::clone(&words), geometry, shard, place }
        })
    }

    /// The shard, as production readers see it.
    pub fn shard(&self) -> Shard<'_> {
        Shard::new(Words::new(&self.words), &self.place)
    }

    /// The shard, as production writers see it.
    pub fn shard_mut(&self) -> ShardMut<'_> {
        ShardMut::new(WordsMut::new(&self.words), &self.place)
    }

    /// The number of slots.
    pub fn slots(&self) -> u64 {
        self.geometry.capacity() as u64
    }

    /// The header's words: head, dropped.
    pub fn header(&self) -> &[AtomicU64] {
        &self.words[self.geometry.shard(self.shard) * self.geometry.element_words()..]
    }

    /// The words of the slot of ticket `t`: sequence, record.
    pub fn slot(&self, t: u64) -> &[AtomicU64] {
        let element = self.geometry.slots(self.shard) + self.place.slots().of(t);
        &self.words[element * self.geometry.element_words()..][..1 + W]
    }

    /// Its place in its ring.
    pub fn place(&self) -> &ShardPlace {
        &self.place
    }

    /// All words of the ring, the preamble first.
    pub fn words(&self) -> &Arc<[AtomicU64]> {
        &self.words
    }

    /// Its shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Sets the hint to another ticket, as if a producer was interrupted before it stored the hint.
    pub fn set_head(&self, head: u64) {
        self.header()[0].store(head, Ordering::Relaxed);
    }

    /// After all threads have ended: memory matches the producers' history, and a new reader finds all records that
    /// were not overwritten.
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
    /// A claimed slot.
    type Slot<'a, const W: usize>: Claimed;

    /// Claims the next free slot.
    fn claim<const W: usize>(self, ring: &Ring<W>) -> Option<Self::Slot<'_, W>>;

    /// Claims the next free slot and never ends it, like a producer that dies there. Returns its ticket.
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

/// The operations on a claimed slot.
pub trait Claimed: Sized {
    /// Its ticket.
    fn ticket(&self) -> u64;
    /// Fills its record with `value`.
    fn fill(&mut self, value: u64);
    /// Publishes it.
    fn publish(self);
    /// Discards it.
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

/// A production reader, and the records that it got.
#[derive(Debug)]
pub struct Reader<const W: usize = 1> {
    cursor: Cursor,
    first: u64,
    impatient: bool,
    log: Vec<(u64, u64)>,
    /// The other tickets that it passed.
    passed: Vec<(u64, Cause)>,
}

/// Why a ticket was passed without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Lapped,
    Skipped,
    Discarded,
    SteppedOver,
}

impl<const W: usize> Reader<W> {
    /// A reader that starts at `start`.
    pub fn new(ring: &Ring<W>, start: Start, patience: u64) -> Self {
        Self::from(Cursor::new(&mut ring.shard(), start, patience))
    }

    /// A reader at ticket `next`.
    pub fn at(next: u64, patience: u64) -> Self {
        Self::from(Cursor::at(next, patience))
    }

    fn from(cursor: Cursor) -> Self {
        let (first, impatient) = (cursor.next(), cursor.patience() < PATIENT);
        Self { cursor, first, impatient, log: Vec::new(), passed: Vec::new() }
    }

    /// Takes this many steps.
    #[must_use]
    pub fn steps(mut self, ring: &Ring<W>, count: usize) -> Self {
        (0..count).for_each(|_| _ = self.step(ring));
        self
    }

    /// One step, whose outcome must match the cursor and its stats.
    pub fn step(&mut self, ring: &Ring<W>) -> Step {
        self.step_by(&mut ring.shard())
    }

    /// The same with another source of slots.
    pub fn step_by(&mut self, look: &mut impl SlotSource) -> Step {
        let (mut out, before) = ([0; W], self.cursor.clone());
        let step = self.cursor.step(look, &mut out);
        if let Step::Record(t) = step {
            self.note(t, out);
        }
        self.count(before);
        step
    }

    /// Takes at most this many records in a run, which ends with the lap.
    #[must_use]
    pub fn run(mut self, ring: &Ring<W>, limit: usize) -> Self {
        let before = self.log.len();
        let mut cursor = self.cursor.clone();
        let (count, _) = cursor.run(&mut ring.shard(), &mut [0; W], limit, |t, out| self.note(t, *out));
        let started = std::mem::replace(&mut self.cursor, cursor);
        assert_eq!(count, self.log.len() - before);
        self.count(started);
        self
    }

    fn note(&mut self, t: u64, out: [u64; W]) {
        assert!(self.log.last().is_none_or(|&(last, _)| last < t), "in order, and never twice: {t} {self:?}");
        assert!(out.iter().all(|&word| word == out[0]), "ticket {t} is torn: {out:?}");
        self.log.push((t, out[0]));
    }

    /// The ticket to read next.
    pub fn next(&self) -> u64 {
        self.cursor.next()
    }

    /// Checks that the stats match the cursor's progress since `before`; records the tickets that it passed, and why.
    fn count(&mut self, before: Cursor) {
        let (was, now) = (before.stats(), self.stats());
        assert_eq!(now.delivered, self.log.len() as u64);
        // Passed tickets come after the records, if any.
        let passed = before.next() + (now.delivered - was.delivered)..self.cursor.next();
        let more = [
            (Cause::Lapped, now.lapped - was.lapped),
            (Cause::Skipped, now.skipped - was.skipped),
            (Cause::Discarded, now.discarded - was.discarded),
            (Cause::SteppedOver, now.stepped_over - was.stepped_over),
        ];
        let more: Vec<_> = more.into_iter().filter(|&(_, count)| count > 0).collect();
        let losses: Vec<_> = self.cursor.take_losses().collect();
        match more[..] {
            [] => assert!(passed.is_empty() && losses.is_empty(), "uncounted: {passed:?} {self:?}"),
            [(cause, count)] => {
                assert_eq!(passed.end - passed.start, count, "{cause:?}: {passed:?} {self:?}");
                match (&losses[..], cause) {
                    ([], Cause::Discarded | Cause::SteppedOver) => {}
                    ([loss], Cause::Lapped | Cause::Skipped) => {
                        let skipped = cause == Cause::Skipped;
                        assert_eq!(loss.cause == LossCause::Skipped, skipped);
                        assert_eq!((&loss.tickets, loss.count), (&Some(passed.clone()), count));
                        assert!(loss.since <= Some(loss.until));
                    }
                    _ => panic!("{cause:?}, but {losses:?}"),
                }
                self.passed.extend(passed.map(|t| (t, cause)));
            }
            _ => panic!("one step, {more:?}: {self:?}"),
        }
    }

    /// Reads all that is left, with no patience for unfinished tickets.
    pub fn drain(&mut self, ring: &Ring<W>) {
        self.drain_by(&mut ring.shard());
    }

    /// The same with another source of slots.
    pub fn drain_by(&mut self, look: &mut impl SlotSource) {
        self.cursor.set_patience(0);
        let limit = 100;
        let steps = (0..limit).take_while(|_| self.step_by(look) != Step::Empty).count();
        assert!(steps < limit, "{self:?} does not come to an end");
    }

    /// The counts of the tickets passed.
    pub fn stats(&self) -> ReadStats {
        self.cursor.stats()
    }

    /// The first ticket.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The records that it got.
    pub fn log(&self) -> &[(u64, u64)] {
        &self.log
    }

    /// After all threads have ended: every delivered record was published with this value, and every other ticket is
    /// counted by its cause.
    pub fn check(&self, ring: &Ring<W>, history: &History) {
        for &(t, value) in &self.log {
            assert_eq!(history.get(t), Some(End::Published(value)), "ticket {t} of {self:?} {history:?}");
        }
        // Every ticket between the end and the cursor is unclaimed.
        assert!(self.cursor.next() <= history.end_of_ring().max(self.first), "{self:?} {history:?}");
        let (slots, end) = (ring.slots(), history.end_of_ring());
        for &(t, cause) in &self.passed {
            let how = history.get(t);
            let right = match cause {
                Cause::Lapped => t + slots - slots / 8 < end,
                Cause::Discarded => how == Some(End::Discarded),
                Cause::SteppedOver => how.is_none(),
                Cause::Skipped => match how {
                    None | Some(End::Held) => true,
                    // Its writer was still busy when the reader ran out of patience, or had to move on.
                    Some(_) => self.impatient || end - 1 - t >= slots - slots / 4,
                },
            };
            assert!(right, "ticket {t} counts as {cause:?}, but {how:?}: {self:?} {history:?}");
        }
    }

    /// [`drain`](Self::drain) and [`check`](Self::check).
    pub fn finish(mut self, ring: &Ring<W>, history: &History) -> Self {
        self.drain(ring);
        assert_eq!(self.cursor.next(), history.end_of_ended().max(self.first), "{self:?} {history:?}");
        self.check(ring, history);
        self
    }
}
