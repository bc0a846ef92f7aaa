//! Required readers: programs drop new records rather than overwrite records that such a reader has not read.

use std::sync::Arc;
use std::time::Duration;

use bytemuck::AnyBitPattern;

use super::super::order::Order;
use super::super::seat::ReaderSeat;
use super::Reader;
use crate::error::{Cause, Error, Result};

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
    /// Makes this a *required* reader: from now on programs do not overwrite records that it has not read. They drop new
    /// records instead, and count them ([`ReadStats::full`](crate::ReadStats::full)). This holds for every record that is
    /// reserved after this function has returned. A second call sets another lease, which begins anew. Up to 64 readers of a ring can be
    /// required or [wait](Self::wait). The slowest required one sets the pace. Other readers hold no program back.
    ///
    /// If it holds programs back for longer than `lease`, because its process died or is slow, programs go on without
    /// it. [`take_error`](Self::take_error) then reports [`ErrorKind::LeaseEnded`](crate::ErrorKind::LeaseEnded), and
    /// overwritten records count as lost, until this function is called again. The lease runs only while the ring is
    /// full, so a reader that finds no records keeps it.
    ///
    /// The reader updates its position after each eighth of the ring, and at each change of shard. This takes one store.
    /// In a ring with tails, it also does so after as many records as would fill an eighth of the area with the longest
    /// tails. Records that a call has delivered count as read, whatever the caller does with them. This function makes
    /// system calls, and waits for an RCU grace period: milliseconds.
    ///
    /// A child of `fork` that reads on with an inherited reader becomes required itself when it has read something. The
    /// parent stays required.
    ///
    /// # Errors
    /// [`ErrorKind::NotKeepOldest`](crate::ErrorKind::NotKeepOldest) if the ring was declared without
    /// `KEEP_OLDEST`, [`ErrorKind::NoSeat`](crate::ErrorKind::NoSeat) for the 65th reader; else why this
    /// process can't write the map of the ring's readers, or the ring's memfd.
    pub fn require(&mut self, lease: Duration) -> Result<()> {
        let region = self.region();
        if !region.geometry().options().keeps_oldest() {
            return Err(Error::from(Cause::NotKeeping {
                what: region.what().to_owned(),
                memfd: region.is_memfd(),
            }));
        }
        let seat = self.seat()?;
        self.rings.sweep.require(seat, lease);
        Ok(())
    }

    /// Whether this reader is required. Loads words that the ring's readers share: no system call.
    pub fn is_required(&self) -> bool {
        self.rings.sweep.is_required()
    }

    /// The reader's seat among the readers that programs know. The first call takes one.
    pub(super) fn seat(&mut self) -> Result<Arc<ReaderSeat>> {
        if let Some(seat) = self.seat.as_ref().filter(|seat| seat.is_mine()) {
            return Ok(Arc::clone(seat));
        }
        let seat = Arc::new(ReaderSeat::of(self.region())?);
        self.seat = Some(Arc::clone(&seat));
        Ok(seat)
    }

    pub(super) fn lease_error(&mut self) -> Option<Error> {
        let ended = self.rings.sweep.lease_ended();
        ended.then(|| Error::from(Cause::LeaseEnded { what: self.region().what().to_owned() }))
    }
}
