//! Reading on when a ring was replaced by another: when a reader leaves the old one, and what it counts.

use super::{ReadStats, Start};
use crate::layout::Gate;

/// A reader of a ring that can be replaced, of all its shards.
pub trait Leaving: Sized {
    /// A ring that is not yet read.
    type Ring;
    /// Why a ring can't be looked at.
    type Error;

    /// A reader that starts where `start` says, in each shard, with that patience.
    ///
    /// # Errors
    /// If the ring is none that it can read.
    fn enter(ring: Self::Ring, start: Start, patience: u64) -> Result<Self, Self::Error>;

    /// How long it waits for a record: [`Cursor::patience`](super::Cursor::patience).
    fn patience(&self) -> u64;

    /// What the gate of its ring says. [`Gate::None`] if that can't be looked at, and the reader says why.
    fn gate(&mut self) -> Gate;

    /// The word [`Gate::BEFORE`] of its ring.
    ///
    /// # Errors
    /// If it can't be looked at.
    fn before(&self) -> Result<u64, Self::Error>;

    /// The ring that is found where its own was, if that is another one, and the word [`Gate::BEFORE`] of that.
    ///
    /// # Errors
    /// If it can't be opened.
    fn replaced(&self) -> Result<Option<(Self::Ring, u64)>, Self::Error>;

    /// Whether it has come to the end of each shard: [`Cursor::at_end`](super::Cursor::at_end).
    fn at_end(&mut self) -> bool;

    /// How many tickets there were in all shards of its ring, which is retired. `None` if the ring can't be
    /// looked at.
    fn ends(&mut self) -> Option<u64>;

    /// What became of the records of its ring.
    fn stats(&self) -> ReadStats;
}

/// What a reader of a ring needs to go on with those that take its place, each read to its end before the next: what
/// became of the tickets of the rings before.
#[derive(Debug)]
pub struct Follow<E> {
    past: ReadStats,
    rings: u64,
    /// How often the next ring was looked for in vain.
    tries: u64,
    unfinished: bool,
    error: Option<E>,
}

impl<E> Default for Follow<E> {
    fn default() -> Self {
        Self { past: ReadStats::default(), rings: 1, tries: 0, unfinished: false, error: None }
    }
}

impl<E> Follow<E> {
    /// One call goes on with so many rings at most: a process that replaces them all the time must not keep it going.
    const RINGS: usize = 16;
    /// Once the next ring was looked for in vain a few times, it is looked for in one of so many polls.
    const RETRY: u64 = 1 << 10;

    /// How many rings were read, the present one included.
    pub fn rings(&self) -> u64 {
        self.rings
    }

    /// Whether, at the last poll that found nothing, the ring or the one in its place waited for the
    /// process that replaces it.
    #[inline]
    pub fn unfinished(&self) -> bool {
        self.unfinished
    }

    /// Why it could not go on, since this was last asked.
    pub fn take_error(&mut self) -> Option<E> {
        self.error.take()
    }

    /// After `read` found nothing: what it finds in a ring that took the place of this one.
    pub fn poll_on<R: Leaving<Error = E>, X>(
        &mut self,
        reader: &mut R,
        mut read: impl FnMut(&mut R) -> Option<X>,
    ) -> Option<X> {
        for _ in 0..Self::RINGS {
            if !self.go_on(reader) {
                return None;
            }
            let found = read(reader);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// What became of the records of all rings that were read.
    pub fn stats(&self, reader: &impl Leaving<Error = E>) -> ReadStats {
        let mut sum = self.past;
        sum += reader.stats();
        sum
    }

    /// What became of the records of the rings before this one.
    pub fn past(&self) -> ReadStats {
        self.past
    }

    /// After nothing was found: whether there may be something now.
    #[inline]
    fn go_on(&mut self, reader: &mut impl Leaving<Error = E>) -> bool {
        match reader.gate() {
            Gate::Retired => self.leave(reader),
            gate => {
                self.unfinished = gate == Gate::Closing;
                false
            }
        }
    }

    /// The ring is retired: goes on with the next, once this one is read to its end.
    #[cold]
    fn leave(&mut self, reader: &mut impl Leaving<Error = E>) -> bool {
        self.unfinished = false;
        if !reader.at_end() {
            self.tries = 0;
            return false;
        }
        let tries = self.tries;
        self.tries = tries.wrapping_add(1);
        if tries != 0 && !tries.is_power_of_two() && !tries.is_multiple_of(Self::RETRY) {
            return false;
        }
        self.next(reader).unwrap_or_else(|e| {
            self.error = Some(e);
            false
        })
    }

    /// Goes on with the ring that took the place of this one, once it says what was before it.
    fn next<R: Leaving<Error = E>>(&mut self, reader: &mut R) -> Result<bool, E> {
        let Some((next, before)) = reader.replaced()? else { return Ok(false) };
        if before & Gate::COUNTING != 0 {
            self.unfinished = true;
            return Ok(false);
        }
        // In rings that came and went meanwhile. None if it is no successor: its loader started anew.
        let mine = reader.before()? & !Gate::COUNTING;
        let Some(ends) = reader.ends() else { return Ok(false) };
        let missed = before.saturating_sub(mine.wrapping_add(ends));
        let next = R::enter(next, Start::First, reader.patience())?;
        self.past = self.stats(reader);
        self.past.lapped = self.past.lapped.wrapping_add(missed);
        *reader = next;
        (self.rings, self.tries) = (self.rings + 1, 0);
        Ok(true)
    }
}
