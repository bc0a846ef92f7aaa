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

/// The seat of a required reader, with the positions that programs know.
pub(in crate::ring) struct Required {
    seat: Arc<ReaderSeat>,
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
        seat: Arc<ReaderSeat>,
        lease: u64,
        positions: impl Iterator<Item = (usize, u64)>,
    ) -> Self {
        let told: Box<[_]> = positions.collect();
        for shard in 0..seat.shards() {
            // A shard that it does not read, of another NUMA node, it has read for good.
            let next = told.iter().find(|(number, _)| *number == shard).map_or(FOR_GOOD, |(_, next)| *next);
            seat.get().has_read(shard, next);
            seat.get().holds_nothing(shard);
        }
        // If it fails, a program that has judged an earlier reader of this seat for that long can still end this reader's
        // requirement, which the reader reports. A writer of a memfd can in any case, if it was stopped in the midst of it.
        let _ = ReaderSeat::wait_for_writers();
        seat.get().require(lease);
        Self { seat, lease, told, holds: true, lost: false }
    }

    /// Tells programs that the tickets before `next` were read of the shard at this place in the order of reading.
    #[inline(never)] // most readers are not required
    pub(super) fn has_read(&mut self, at: usize, next: u64) {
        let (shard, told) = self.told[at];
        if told == next || shard >= self.seat.shards() {
            return;
        }
        self.told[at].1 = next;
        if !self.holds || self.seat.is_inherited() && self.renew() {
            return;
        }
        // Its seat may be another reader's by now: see `ReaderSeat::is_mine`.
        if self.is_required() {
            self.seat.get().has_read(shard, next);
        } else {
            (self.holds, self.lost) = (false, true);
        }
    }

    /// In a child of `fork`: the seat is the parent's, and this reader takes one of its own. Returns whether it has one.
    #[cold]
    fn renew(&mut self) -> bool {
        let Ok(seat) = self.seat.another() else { return false };
        *self = Self::new(Arc::new(seat), self.lease, self.told.iter().copied());
        true
    }

    /// Whether programs wait for this reader.
    pub(super) fn is_required(&self) -> bool {
        self.seat.is_mine() && self.seat.get().is_required()
    }

    /// Whether programs have ceased to wait for it since the last call of this method.
    pub(super) fn lease_ended(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }
}
