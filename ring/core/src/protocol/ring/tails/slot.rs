//! Slots with tails: their bytes are claimed before the slot, and end after it.

use bytemuck::NoUninit;

use super::super::{Dropped, ShardMut, Slot};
use super::{Claim, PREFIX, TailsMut};
use crate::abi::Tails;

/// The bytes of a tail that a [`Slot`] holds.
#[derive(Debug)]
pub(in super::super) struct SlotTail<'a> {
    tails: TailsMut<'a>,
    claim: Claim,
    /// The bytes that were written.
    len: u64,
}

impl SlotTail<'_> {
    /// Writes the tail, unless it is longer than the longest. Returns whether it did.
    #[inline]
    pub(in super::super) fn write(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() as u64 <= self.tails.area.longest;
        if fits {
            self.tails.write(&self.claim, bytes);
            self.len = bytes.len() as u64;
        }
        fits
    }

    /// The words before the record: where its tail is, and its length.
    #[inline]
    pub(in super::super) fn prefix(&self) -> [u64; 2] {
        [self.tails.last_position(self.claim.at), self.len]
    }

    /// After the record has ended: gives back what the tail did not need.
    #[inline]
    pub(in super::super) fn end(&self, published: bool) {
        self.tails.end(&self.claim, if published { self.len } else { 0 });
    }
}

impl<'a> ShardMut<'a> {
    /// Claims the bytes of a tail, and then a slot. SYNC overwrite: the claim of the slot ends with a release fence, which
    /// also comes between moving `HIGH` and the first byte of the tail. A writer within what another has granted has no
    /// other fence there. If there is no slot, the bytes are given back.
    ///
    /// # Panics
    /// If a `T` does not fit into a slot; then nothing is claimed.
    #[inline]
    pub fn reserve_with_tail<T: NoUninit>(&self, tails: &TailsMut<'a>) -> Result<Slot<'a, T>, Dropped> {
        self.expect_room::<T>(1 + PREFIX);
        let claim = tails.claim(|| self.time_drop()).ok_or(Dropped::NoSpace)?;
        let tail = SlotTail { tails: *tails, claim, len: 0 };
        match self.claim_slot(None) {
            Ok(mut slot) => {
                slot.tail = Some(tail);
                Ok(slot)
            }
            Err(dropped) => {
                tail.end(false);
                Err(dropped)
            }
        }
    }

    /// Publishes a record with a tail, and returns its ticket, or `None` if it was dropped and counted.
    #[inline]
    pub fn push_with_tail<T: NoUninit>(&self, tails: &TailsMut<'a>, record: &T, tail: &[u8]) -> Option<u64> {
        if tail.len() as u64 > tails.area.longest {
            self.time_drop();
            tails.header.add(Tails::TOO_LONG, 1);
            return None;
        }
        let mut slot = self.reserve_with_tail(tails).ok()?;
        slot.write(record);
        let fits = slot.write_tail(tail);
        debug_assert!(fits, "the longest is one length");
        slot.commit()
    }
}
