//! Writes into a shard, by the same steps as `mapring_reserve`, `_commit` and `_discard` in BPF.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use bytemuck::NoUninit;

use super::super::WordsMut;
use super::super::words::{is_any, words_of};
use super::tails::{PREFIX, SlotTail};
use super::{DROPPED, DROPS_SINCE, DROPS_UNTIL, HEAD, SPELL, ShardMut};
use crate::abi::seq::{DISCARDED, TRIES, WALK, state};
use crate::sync::{At, Ordering, fence, latest, now, order};

/// A slot of a ring that is claimed for one record, with bytes for its tail if the ring has tails. No other writer writes it
/// until it is committed or discarded.
/// Dropping it discards it. If it is forgotten, its ticket never ends, as if its writer had died: readers skip it and
/// count it as lost.
#[must_use = "a slot that is dropped is discarded"]
pub struct Slot<'a, T> {
    /// The slot's words: its sequence, and space for the record.
    element: WordsMut<'a>,
    ticket: u64,
    published: u64,
    written: bool,
    /// The bytes of its tail, in a ring with tails.
    pub(super) tail: Option<SlotTail<'a>>,
    record: PhantomData<fn(T)>,
}

impl<T: NoUninit> Slot<'_, T> {
    /// The record's number in its shard.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Writes the record, replacing an earlier one. Readers do not see it yet. Makes no system call.
    #[inline]
    pub fn write(&mut self, record: &T) {
        self.element.write(1 + self.tail.as_ref().map_or(0, |_| PREFIX), record);
        self.written = true;
    }

    /// Writes the record's tail, replacing an earlier one; without this call it is empty. Returns whether it did: not if the
    /// tail is longer than the longest of the ring, 0 without `TAILS`. Makes no system call.
    #[inline]
    #[must_use = "a tail that is too long is not written"]
    pub fn write_tail(&mut self, tail: &[u8]) -> bool {
        self.tail.as_mut().map_or(tail.is_empty(), |own| own.write(tail))
    }

    /// Publishes the record: from here on readers see it, whole. A release. Returns its ticket, or `None` if no record
    /// was written; the slot is then discarded.
    #[inline]
    pub fn commit(self) -> Option<u64> {
        if !self.written {
            return None;
        }
        let slot = ManuallyDrop::new(self);
        if let Some(tail) = &slot.tail {
            slot.element.write(1, &tail.prefix());
        }
        slot.element.store(0, slot.published, order!(At::RingCommit)); // SYNC publish, follow
        if let Some(tail) = &slot.tail {
            tail.end(true);
        }
        Some(slot.ticket)
    }

    /// Gives the slot back without a record: readers pass over it and count it as discarded, not as lost.
    #[inline]
    pub fn discard(self) {
        drop(self);
    }
}

impl<T> Drop for Slot<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.element.store(0, self.published | DISCARDED, order!(At::RingDiscard)); // SYNC follow
        if let Some(tail) = &self.tail {
            tail.end(false);
        }
    }
}

impl<T> fmt::Debug for Slot<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("ticket", &self.ticket).field("written", &self.written).finish()
    }
}

impl<'a> ShardMut<'a> {
    /// Claims the next free slot for a record, in a bounded number of steps. Returns `None` if none of [`TRIES`] slots
    /// was free; the record is then counted as dropped.
    ///
    /// # Panics
    /// If a `T` does not fit into a slot; then nothing is claimed.
    #[inline]
    pub fn reserve<T: NoUninit>(&self) -> Option<Slot<'a, T>> {
        self.expect_room::<T>(1);
        self.claim_slot()
    }

    #[inline]
    pub(super) fn expect_room<T>(&self, before: usize) {
        let fits = is_any::<T>() || before + words_of::<T>() <= self.place.stride;
        assert!(fits, "records are larger than slots");
    }

    #[inline]
    pub(super) fn claim_slot<T>(&self) -> Option<Slot<'a, T>> {
        let ticket = self.claim()?;
        let element = self.elements.slice(self.place.slot(ticket), self.place.stride);
        let published = self.place.slots.published(ticket);
        Some(Slot { element, ticket, published, written: false, tail: None, record: PhantomData })
    }

    /// Publishes a record and returns its ticket, or `None` if the record was dropped and counted.
    ///
    /// # Panics
    /// As for [`reserve`](Self::reserve).
    #[inline]
    pub fn push<T: NoUninit>(&self, record: &T) -> Option<u64> {
        let mut slot = self.reserve()?;
        slot.write(record);
        slot.commit()
    }

    /// Claims the next free ticket: two loads and one compare-and-swap, unless another producer interferes.
    #[inline]
    fn claim(&self) -> Option<u64> {
        let t = self.header.load(HEAD, order!(At::RingHead)); // SYNC order: pairs with the store in `take`
        let claimed = if self.take(t, self.place.slots.free(t)) { Some(t) } else { self.claim_slow() };
        // SYNC claim: pairs with the second fence in `Shard::take`. SYNC overwrite: pairs with the fence in `Area::copy`.
        fence(order!(At::RingClaimed));
        claimed
    }

    /// Ends every ticket that is being written as discarded, and returns their number. No producer of this shard may be
    /// alive: it would lose its slot while it writes.
    pub fn recover(&self) -> usize {
        let mut ended = 0;
        for slot in 0..self.place.slots.count() {
            let seen = self.seq(slot);
            let discarded = state(seen).wrapping_add(1) | DISCARDED;
            // If two recover at once, only one ends the ticket.
            // SYNC follow: this swap is both sides, as the producer that died ended nothing.
            if seen & 1 != 0
                && self.elements.swap_if(self.place.slot(slot), seen, discarded, order!(At::RingRecover))
            {
                ended += 1;
            }
        }
        ended
    }

    /// Claims a ticket when `head` was not the next free one.
    #[cold]
    fn claim_slow(&self) -> Option<u64> {
        let mut t = self.header.load(HEAD, order!(At::RingSlowHead)); // SYNC order, as in `claim`
        // The slot is taken by another producer, or still being written in an earlier lap: walk.
        for _ in 0..WALK {
            let seen = self.seq(t);
            if self.take_free(t, seen) {
                return Some(t);
            }
            if state(seen) > self.place.slots.published(t) {
                break;
            }
            t = t.wrapping_add(1);
        }
        let seen = state(self.seq(t));
        if seen > self.place.slots.free(t) {
            // `t` is far behind: the latest ticket of its slot is taken, and so are all from there to the end.
            let taken = self.place.slots.taken(seen, t);
            t = self.place.slots.last_taken(taken, |t| self.seq(t)).wrapping_add(1);
            fence(order!(At::RingBisected)); // SYNC order: pairs with the swap in `take`
        }
        for _ in WALK..TRIES {
            if self.take_free(t, self.seq(t)) {
                return Some(t);
            }
            t = t.wrapping_add(1);
        }
        if self.place.slots.count() > u64::from(TRIES) {
            // Either several slots in a row are stuck, or `head` was so stale that the search did not reach the end.
            // The next claim continues from here. In a smaller ring, all slots were tried.
            self.header.store(HEAD, t, order!(At::RingFailedHead)); // SYNC order
        }
        self.drop_one()
    }

    /// Counts a record that is dropped. Returns `None`.
    #[cold]
    pub fn drop_one(&self) -> Option<u64> {
        self.time_drop();
        self.header.add(DROPPED, 1);
        None
    }

    /// Notes the time of a drop, before it is counted. Drops of less than a second after each other are one spell. If
    /// producers interrupt each other here, the times are of one of them.
    #[cold]
    pub(super) fn time_drop(&self) {
        let now = now();
        if now.saturating_sub(self.header.load(DROPS_UNTIL, Ordering::Relaxed)) > SPELL {
            self.header.store(DROPS_SINCE, now, Ordering::Relaxed);
        }
        self.header.store(DROPS_UNTIL, latest(), Ordering::Relaxed);
    }

    /// Takes the slot of `t`, if `seen`, its sequence, is free for `t`.
    fn take_free(&self, t: u64, seen: u64) -> bool {
        state(seen) <= self.place.slots.free(t) && seen & 1 == 0 && self.take(t, seen)
    }

    /// Takes the slot of `t`, if its sequence is still `seen`, and stores the hint for the next claim.
    #[inline]
    fn take(&self, t: u64, seen: u64) -> bool {
        // Acquire. SYNC follow: pairs with the store that ended the slot's previous ticket.
        // Release. SYNC order: pairs with the fence after the bisection.
        let (slot, writing) = (self.place.slot(t), self.place.slots.writing(t));
        let taken = self.elements.swap_if(slot, seen, writing, order!(At::RingClaim));
        if taken {
            self.header.store(HEAD, t.wrapping_add(1), order!(At::RingNextHead)); // SYNC order
        }
        taken
    }

    fn seq(&self, t: u64) -> u64 {
        self.elements.load(self.place.slot(t), Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::super::{Cursor, ReadStats, Shard, ShardPlace, Start, Step};
    use super::*;
    use crate::abi::{Geometry, Kind};
    use crate::protocol::WordsMut;
    use crate::sync::AtomicU64;

    /// Claims a slot like a writer that dies.
    fn abandoned(shard: &ShardMut<'_>) -> u64 {
        let slot = shard.reserve::<u64>().unwrap();
        let ticket = slot.ticket();
        core::mem::forget(slot);
        ticket
    }

    #[test]
    fn a_slot_ends_once_and_as_its_owner_said() {
        let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = ShardPlace::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        let mut slots: Vec<_> = (0..5).map(|_| writer.reserve::<u64>().unwrap()).collect();
        assert_eq!(slots.iter().map(Slot::ticket).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        // In another order than they were claimed: dropped, committed, discarded, committed without a record.
        drop(slots.pop());
        slots[3].write(&1);
        slots[3].write(&13);
        assert_eq!(slots.pop().unwrap().commit(), Some(3));
        slots[2].write(&12);
        slots.pop().unwrap().discard();
        assert_eq!(slots.pop().unwrap().commit(), None);
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::at(0, 1 << 14);
        let mut value = 0_u64;
        assert_eq!(reader.step(&mut look, &mut value), Step::Empty, "ticket 0 is being written");
        slots[0].write(&10);
        assert_eq!(slots.pop().unwrap().commit(), Some(0));
        let mut read = vec![];
        for _ in 0..8 {
            if let Step::Record(t) = reader.step(&mut look, &mut value) {
                read.push((t, value));
            }
        }
        assert_eq!(read, [(0, 10), (3, 13)]);
        assert_eq!(reader.stats(), ReadStats { delivered: 2, discarded: 3, ..ReadStats::default() });
    }

    #[test]
    fn a_record_that_does_not_fit_claims_nothing() {
        let geometry = Geometry::new(Kind::Ring, 9, 2, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let writer = ShardMut::new(WordsMut::new(&words), &ShardPlace::new(&geometry, 0));
        let larger = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| writer.push(&[7_u64; 3])));
        assert!(larger.is_err());
        assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert_eq!(writer.push(&[7_u64; 2]), Some(0));
    }

    #[test]
    fn abandoned_tickets_end_as_discarded_and_their_slots_are_free_again() {
        let geometry = Geometry::new(Kind::Ring, 8, 4, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = ShardPlace::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::new(&mut look, Start::Oldest, 1 << 14);

        assert_eq!(writer.push(&10_u64), Some(0));
        assert_eq!([abandoned(&writer), abandoned(&writer)], [1, 2]);
        assert_eq!(writer.push(&13_u64), Some(3));
        assert_eq!(writer.recover(), 2);
        assert_eq!(writer.recover(), 0);
        for t in 4..8 {
            assert_eq!(writer.push(&(10 + t)), Some(t));
        }
        // Lapped by now: the rest is about the next lap.
        let mut late = Cursor::new(&mut look, Start::Oldest, 1 << 14);
        let mut read = vec![];
        let mut value = 0;
        while let Step::Record(t) = late.step(&mut look, &mut value) {
            read.push((t, value));
        }
        assert_eq!(read, [(4, 14), (5, 15), (6, 16), (7, 17)]);
        while reader.step::<u64>(&mut look, &mut value) != Step::Empty {}
        assert_eq!(reader.stats().delivered + reader.stats().lapped, 8);
    }

    #[test]
    fn a_ticket_that_was_stepped_over_is_no_end_that_never_comes() {
        let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = ShardPlace::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::new(&mut look, Start::First, 0);
        assert_eq!(abandoned(&writer), 0);
        (1..8).for_each(|n: u64| assert_eq!(writer.push(&n), Some(n)));
        assert_eq!(abandoned(&writer), 9, "the slot of ticket 8 is still that of ticket 0");
        let mut value = 0_u64;
        for _ in 0..64 {
            if reader.step(&mut look, &mut value) == Step::Empty && reader.at_end(&mut look) {
                assert_eq!(
                    reader.stats(),
                    ReadStats {
                        delivered: 5,
                        lapped: 2,
                        skipped: 2,
                        stepped_over: 1,
                        ..ReadStats::default()
                    },
                    "9 is written where 1 was"
                );
                return;
            }
        }
        panic!("no end: {reader:?}");
    }

    #[test]
    fn readers_pass_what_was_recovered_without_a_loss() {
        let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = ShardPlace::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::new(&mut look, Start::Oldest, 1 << 14);
        assert_eq!((abandoned(&writer), writer.push(&1_u64), abandoned(&writer)), (0, Some(1), 2));
        assert_eq!(writer.recover(), 2);
        let mut value = 0_u64;
        let steps: Vec<_> = (0..4).map(|_| reader.step(&mut look, &mut value)).collect();
        assert_eq!(steps, [Step::Moved, Step::Record(1), Step::Moved, Step::Empty]);
        assert_eq!(reader.stats(), ReadStats { delivered: 1, discarded: 2, ..ReadStats::default() });
    }
    #[test]
    fn a_head_in_the_midst_of_a_nested_claim_is_as_good_a_hint() {
        let geometry = Geometry::new(Kind::Ring, 8, 64, 1).unwrap();
        let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let place = ShardPlace::new(&geometry, 0);
        let writer = ShardMut::new(WordsMut::new(&words), &place);
        // More than a reader checks without a hint.
        let dead = 2 * u64::from(TRIES);
        (0..dead).for_each(|t| assert_eq!(abandoned(&writer), t));
        assert_eq!(writer.push(&7_u64), Some(dead));
        words[place.head()].fetch_or(1 << 63, Ordering::Relaxed); // as in docs/abi.md
        let mut look = Shard::new(*WordsMut::new(&words), &place);
        let mut reader = Cursor::at(0, 0);
        let mut value = 0_u64;
        let steps = (0..64 * dead).map(|_| reader.step(&mut look, &mut value));
        assert!(steps.into_iter().any(|step| step == Step::Record(dead)), "{reader:?}");
        assert_eq!(reader.stats(), ReadStats { delivered: 1, skipped: dead, ..ReadStats::default() });
    }
}
