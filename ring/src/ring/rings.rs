//! The ring that is read, and the move to the one that replaces it.

use bytemuck::AnyBitPattern;
use mapring_core::clock::now;
use mapring_core::protocol::ring::{Follow, Leaving, Loss, Losses, ReadStats, Start};

use super::sweep::Sweep;
use crate::abi::{Gate, Kind};
use crate::error::{Cause, Error, Result};
use crate::region::Region;

/// The shards of the ring that is read, and what is known of the rings before and after it.
pub struct Rings<T> {
    pub(super) sweep: Sweep<T>,
    /// Whether another ring can replace this one.
    resizable: bool,
    next: Next,
}

/// The state of the move to the next ring.
#[derive(Default)]
struct Next {
    follow: Follow<Error>,
    /// When it began to wait for the process that resizes the ring.
    waits_since: Option<u64>,
    error: Option<Error>,
}

impl<T: AnyBitPattern> Leaving for Sweep<T> {
    type Ring = Region;
    type Error = Error;

    fn enter(ring: Region, start: Start, patience: u64) -> Result<Self> {
        ring.expect_record::<T>(Kind::Ring)?;
        let mut sweep = Self::of(&ring, start);
        sweep.set_patience(patience);
        Ok(sweep)
    }

    fn patience(&self) -> u64 {
        Self::patience(self)
    }

    #[inline]
    fn gate(&mut self) -> Gate {
        Self::gate(self)
    }

    fn before(&self) -> Result<u64> {
        self.region().before()
    }

    fn replaced(&self) -> Result<Option<(Region, u64)>> {
        let Some(next) = self.region().successor()? else { return Ok(None) };
        let before = next.before()?;
        Ok(Some((next, before)))
    }

    fn at_end(&mut self) -> bool {
        Self::at_end(self)
    }

    fn ends(&mut self) -> Option<u64> {
        Self::ends(self)
    }

    fn stats(&self) -> ReadStats {
        Self::stats(self)
    }

    fn leave(&mut self, losses: &mut Losses) -> ReadStats {
        self.take_losses(|loss| losses.push(loss));
        self.reported()
    }
}

impl<T: AnyBitPattern> Rings<T> {
    /// The most rings that one call continues with: a process that replaces rings all the time must not keep it running.
    pub(super) const MOST: usize = Follow::<Error>::RINGS;

    pub(super) fn new(sweep: Sweep<T>) -> Self {
        let resizable = sweep.region().geometry().options().is_resizable();
        Self { sweep, resizable, next: Next::default() }
    }

    /// Whether no other ring can replace this one.
    #[inline(always)]
    pub(super) fn is_the_last(&self) -> bool {
        !self.resizable
    }

    /// After nothing was found: continues with the ring that replaced this one, if there is one and this one is read to
    /// its end.
    pub(super) fn follow(&mut self) -> bool {
        self.resizable && self.next.follow(&mut self.sweep)
    }

    /// Whether no record is written to a later ring yet.
    pub(super) fn in_use(&mut self) -> bool {
        !self.resizable || matches!(self.sweep.gate(), Gate::Open)
    }

    /// The number of rings, the present one included.
    pub(super) fn count(&self) -> u64 {
        self.next.follow.rings()
    }

    /// The counts of all rings.
    pub(super) fn stats(&self) -> ReadStats {
        self.next.follow.stats(&self.sweep)
    }

    /// The records that were lost in all rings.
    pub(super) fn lost(&self) -> u64 {
        self.next.follow.past().lost().wrapping_add(self.sweep.lost())
    }

    /// The losses in all rings that were not reported yet.
    pub(super) fn take_losses(&mut self) -> Vec<Loss> {
        let mut losses: Vec<_> = self.next.follow.take_losses().collect();
        self.sweep.take_losses(|loss| losses.push(loss));
        losses
    }

    /// The last error of the move to another ring.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.next.error.take().or_else(|| self.next.follow.take_error())
    }
}

impl Next {
    /// How long the process that resizes a ring may take before a reader reports that it has not finished. The process
    /// waits for programs: milliseconds, or more on a busy machine. Nanoseconds.
    const UNFINISHED: u64 = 1_000_000_000;

    /// After a read found nothing: continues with the next ring, if there is one.
    #[cold]
    fn follow<T: AnyBitPattern>(&mut self, sweep: &mut Sweep<T>) -> bool {
        let found = self.follow.poll_on(sweep, |_| Some(())).is_some();
        if !found {
            self.found_nothing(sweep.region());
        }
        found
    }

    /// After a read found nothing in `region`: checks whether the cause is a process that does not finish.
    fn found_nothing(&mut self, region: &Region) {
        if !self.follow.unfinished() {
            self.waits_since = None;
            return;
        }
        let since = *self.waits_since.get_or_insert_with(now);
        if now().saturating_sub(since) < Self::UNFINISHED {
            return;
        }
        self.waits_since = None;
        match region.successor() {
            Ok(Some(next)) => {
                self.error = Some(Error::from(Cause::ResizeUnfinished { what: next.what().to_owned() }))
            }
            // The resize failed before another ring replaced this one, so nothing has changed.
            Ok(None) => {}
            Err(e) => self.error = Some(e),
        }
    }
}
