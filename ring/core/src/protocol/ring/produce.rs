//! Writes into a shard, by the same steps as `mapring_reserve`, `_commit` and `_discard` in BPF.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use bytemuck::NoUninit;

use super::super::WordsMut;
use super::super::words::{is_any, words_of};
use super::memfd_readers::{Ended, MemfdReaders};
use super::tails::{PREFIX, SlotTail};
use super::{DROPS_SINCE, DROPS_UNTIL, FULL, HEAD, NO_SLOT, SPELL, ShardMut};
use crate::abi::seq::{DISCARDED, TRIES, WALK, after, state};
use crate::clock::{latest, now};
use crate::sync::{At, Ordering, fence, order};

/// A slot of a ring that is claimed for one record, with bytes for its tail if the ring has tails. No other writer writes it
/// until it is committed or discarded.
/// Dropping it discards it. If it is forgotten, its ticket never ends, as if its writer had died: readers skip it and
/// count it as lost.
#[must_use = "a slot that is dropped is discarded"]
pub struct Slot<'a, T> {
    claimed: Claimed<'a>,
    written: bool,
    /// The bytes of its tail, in a ring with tails.
    pub(super) tail: Option<SlotTail<'a>>,
    /// Who is told when it ends, in a ring that wakes its readers.
    wakes: Option<&'a dyn Ended>,
    record: PhantomData<fn(T)>,
}

/// A claimed slot without what options add to it: it fits into registers.
struct Claimed<'a> {
    /// The slot's words: its sequence, and space for the record.
    element: WordsMut<'a>,
    ticket: u64,
    published: u64,
}

impl Claimed<'_> {
    #[inline]
    fn publish(&self) {
        self.element.store(0, self.published, order!(At::RingCommit)); // SYNC publish, follow
    }

    #[inline]
    fn discard(&self) {
        self.element.store(0, self.published | DISCARDED, order!(At::RingDiscard)); // SYNC follow
    }
}

/// Why a record was dropped. It is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// No slot was free: other writers are between reserve and commit, or died there.
    NoSlot,
    /// A required reader has not read the record that would be overwritten.
    Full,
    /// There was no space for the tail.
    NoSpace,
}

impl<T: NoUninit> Slot<'_, T> {
    /// The record's number in its shard.
    pub fn ticket(&self) -> u64 {
        self.claimed.ticket
    }

    /// Writes the record, replacing an earlier one. Readers do not see it yet. Makes no system call.
    #[inline]
    pub fn write(&mut self, record: &T) {
        self.claimed.element.write(1 + self.tail.as_ref().map_or(0, |_| PREFIX), record);
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
            slot.claimed.element.write(1, &tail.prefix());
        }
        slot.claimed.publish();
        if let Some(tail) = &slot.tail {
            tail.end(true);
        }
        if let Some(wakes) = slot.wakes {
            wakes.ended(slot.ticket());
        }
        Some(slot.ticket())
    }

    /// Gives the slot back without a record: readers pass over it and count it as discarded, not as lost.
    #[inline]
    pub fn discard(self) {
        drop(self);
    }
}

impl<'a, T> Slot<'a, T> {
    /// Has `wakes` told when the slot ends.
    #[inline]
    pub fn waking(mut self, wakes: Option<&'a dyn Ended>) -> Self {
        self.wakes = wakes;
        self
    }
}

impl<T> Drop for Slot<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.claimed.discard();
        if let Some(tail) = &self.tail {
            tail.end(false);
        }
        if let Some(wakes) = self.wakes {
            wakes.ended(self.claimed.ticket);
        }
    }
}

impl<T> fmt::Debug for Slot<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("ticket", &self.claimed.ticket).field("written", &self.written).finish()
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
        self.reserve_before(None).ok()
    }

    /// The same in a ring that keeps its oldest records, if these are its readers.
    ///
    /// # Errors
    /// Why the record was dropped.
    ///
    /// # Panics
    /// As for [`reserve`](Self::reserve).
    #[inline]
    pub fn reserve_before<T: NoUninit>(
        &self,
        readers: Option<&MemfdReaders<'_>>,
    ) -> Result<Slot<'a, T>, Dropped> {
        self.expect_room::<T>(1);
        self.claim_slot(readers)
    }

    #[inline]
    pub(super) fn expect_room<T>(&self, before: usize) {
        let fits = is_any::<T>() || before + words_of::<T>() <= self.place.stride;
        assert!(fits, "records are larger than slots");
    }

    #[inline]
    pub(super) fn claim_slot<T>(&self, readers: Option<&MemfdReaders<'_>>) -> Result<Slot<'a, T>, Dropped> {
        let claimed = self.claimed(readers)?;
        Ok(Slot { claimed, written: false, tail: None, wakes: None, record: PhantomData })
    }

    #[inline(always)] // otherwise it would go through memory, and readers would take the slot's line away meanwhile
    fn claimed(&self, readers: Option<&MemfdReaders<'_>>) -> Result<Claimed<'a>, Dropped> {
        let ticket = self.claim(readers)?;
        let element = self.elements.slice(self.place.slot(ticket), self.place.stride);
        Ok(Claimed { element, ticket, published: self.place.slots.published(ticket) })
    }

    /// Publishes a record and returns its ticket, or `None` if the record was dropped and counted.
    ///
    /// # Panics
    /// As for [`reserve`](Self::reserve).
    #[inline]
    pub fn push<T: NoUninit>(&self, record: &T) -> Option<u64> {
        self.expect_room::<T>(1);
        let claimed = self.claimed(None).ok()?;
        claimed.element.write(1, record);
        claimed.publish();
        Some(claimed.ticket)
    }

    /// Claims the next free ticket: two loads and one compare-and-swap, unless another producer interferes.
    #[inline(always)]
    fn claim(&self, readers: Option<&MemfdReaders<'_>>) -> Result<u64, Dropped> {
        let t = self.header.load(HEAD, order!(At::RingHead)); // SYNC order: pairs with the store in `take`
        let is_beyond = readers.is_some() && self.is_beyond(t);
        let claimed = if !is_beyond && self.take(t, self.place.slots.free(t)) {
            Ok(t)
        } else {
            self.claim_slow(readers)
        };
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
    fn claim_slow(&self, readers: Option<&MemfdReaders<'_>>) -> Result<u64, Dropped> {
        let mut t = self.header.load(HEAD, order!(At::RingSlowHead)); // SYNC order, as in `claim`
        // The slot is taken by another producer, or still being written in an earlier lap: walk.
        for _ in 0..WALK {
            if readers.is_some() && self.is_beyond(t) {
                break;
            }
            let seen = self.seq(t);
            if self.take_free(t, seen) {
                return Ok(t);
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
        let limit = readers.map(|readers| readers.limit(self, t));
        let mut dropped = Dropped::NoSlot;
        for _ in WALK..TRIES {
            if limit.is_some_and(|limit| !after(limit, t)) {
                dropped = Dropped::Full;
                break;
            }
            if self.take_free(t, self.seq(t)) {
                return Ok(t);
            }
            t = t.wrapping_add(1);
        }
        if self.place.slots.count() > u64::from(TRIES) {
            // Either several slots in a row are stuck, or `head` was so stale that the search did not reach the end.
            // The next claim continues from here. In a smaller ring, all slots were tried.
            self.header.store(HEAD, t, order!(At::RingFailedHead)); // SYNC order
        }
        if dropped == Dropped::Full {
            self.time_drop();
            self.header.add(FULL, 1);
        } else {
            self.drop_one();
        }
        Err(dropped)
    }

    /// Counts a record that is dropped.
    #[cold]
    pub fn drop_one(&self) {
        self.time_drop();
        self.header.add(NO_SLOT, 1);
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

    pub(super) fn seq(&self, t: u64) -> u64 {
        self.elements.load(self.place.slot(t), Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests;
