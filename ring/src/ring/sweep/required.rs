//! What a required reader tells programs: how far it has read.

use std::sync::Arc;

use crate::abi::Geometry;
use crate::abi::readers::FOR_GOOD;
use crate::ring::seat::ReaderSeat;

/// After so many records it tells programs how far it has read: they fill an eighth of a shard's slots, or of its area if
/// all have the longest tail. At least 1.
pub(super) fn eighth(ring: &Geometry) -> usize {
    let tails = ring.tails().map_or(usize::MAX, |tails| tails.bytes() / tails.longest());
    (ring.capacity().min(tails) / 8).max(1)
}

/// The place of a required reader, with the positions that programs know.
pub(in crate::ring) struct Required {
    place: Arc<ReaderSeat>,
    lease: u64,
    /// The number of each shard that is read, and the next ticket.
    told: Box<[(usize, u64)]>,
    /// Whether programs still wait for this reader, as far as known.
    holds: bool,
    lost: bool,
}

impl Required {
    /// Tells programs that the reader at these positions is required, and for how long it may hold them back. Waits for an RCU
    /// grace period.
    pub(super) fn new(
        place: Arc<ReaderSeat>,
        lease: u64,
        positions: impl Iterator<Item = (usize, u64)>,
    ) -> Self {
        let told: Box<[_]> = positions.collect();
        for shard in 0..place.shards() {
            // A shard that it does not read, of another NUMA node, it has read for good.
            let next = told.iter().find(|(number, _)| *number == shard).map_or(FOR_GOOD, |(_, next)| *next);
            place.get().has_read(shard, next);
            place.get().holds_nothing(shard);
        }
        // If it fails, a program that has judged an earlier reader of this place for that long can still end this reader's
        // requirement, which the reader reports. A writer of a memfd can in any case, if it was stopped in the midst of it.
        let _ = ReaderSeat::wait_for_writers();
        place.get().require(lease);
        Self { place, lease, told, holds: true, lost: false }
    }

    /// Tells programs that the tickets before `next` were read of the shard at this place in the order of reading.
    #[inline]
    pub(super) fn has_read(&mut self, at: usize, next: u64) {
        let (shard, told) = self.told[at];
        if told == next || shard >= self.place.shards() {
            return;
        }
        self.told[at].1 = next;
        if !self.holds || self.place.is_inherited() && self.renew() {
            return;
        }
        // Its place may be another reader's by now: see `ReaderSeat::is_mine`.
        if self.is_required() {
            self.place.get().has_read(shard, next);
        } else {
            (self.holds, self.lost) = (false, true);
        }
    }

    /// In a child of `fork`: the place is the parent's, and this reader takes one of its own. Returns whether it has one.
    #[cold]
    fn renew(&mut self) -> bool {
        let Ok(place) = self.place.another() else { return false };
        *self = Self::new(Arc::new(place), self.lease, self.told.iter().copied());
        true
    }

    /// Whether programs wait for this reader.
    pub(super) fn is_required(&self) -> bool {
        self.place.is_mine() && self.place.get().is_required()
    }

    /// Whether programs have ceased to wait for it since the last call of this method.
    pub(super) fn lease_ended(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }
}
