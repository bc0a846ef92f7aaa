//! Continues reading when a ring was replaced by another: when a reader leaves the old ring, and what it counts.

use super::{Loss, LossCause, Losses, ReadStats, Start};
use crate::abi::Gate;
use crate::clock::latest;

/// A reader of all shards of a ring that can be replaced.
pub trait Leaving: Sized {
    /// A ring that is not being read yet.
    type Ring;
    /// Why a ring can't be read.
    type Error;

    /// A reader that starts at `start` in each shard, with this patience.
    ///
    /// # Errors
    /// If it can't read the ring.
    fn enter(ring: Self::Ring, start: Start, patience: u64) -> Result<Self, Self::Error>;

    /// How long it waits for a record: [`Cursor::patience`](super::Cursor::patience).
    fn patience(&self) -> u64;

    /// The state of its ring's gate. [`Gate::None`] if the gate can't be read; the reader then reports the error.
    fn gate(&mut self) -> Gate;

    /// The word [`Gate::BEFORE`] of its ring.
    ///
    /// # Errors
    /// If it can't be read.
    fn before(&self) -> Result<u64, Self::Error>;

    /// The ring that is now where its own ring was found, if it is another one, with that ring's word [`Gate::BEFORE`].
    ///
    /// # Errors
    /// If it can't be opened.
    fn replaced(&self) -> Result<Option<(Self::Ring, u64)>, Self::Error>;

    /// Whether it has reached the end of each shard: [`Cursor::at_end`](super::Cursor::at_end).
    fn at_end(&mut self) -> bool;

    /// The number of tickets in all shards of its ring, which is retired. `None` if the ring can't be read.
    fn ends(&mut self) -> Option<u64>;

    /// The counts of its ring's records.
    fn stats(&self) -> ReadStats;

    /// The same for the last time, before it leaves the ring. Appends the losses of the ring that it has not reported
    /// yet to `losses`: with those reported before, their sums are these counts.
    fn leave(&mut self, losses: &mut Losses) -> ReadStats;
}

/// The state that a reader needs to continue with the rings that replace its ring, each read to its end before the
/// next. Contains the counts of the earlier rings.
#[derive(Debug)]
pub struct Follow<E> {
    past: ReadStats,
    /// The losses in the rings before this one.
    losses: Losses,
    rings: u64,
    /// How many times the search for the next ring failed.
    tries: u64,
    unfinished: bool,
    error: Option<E>,
}

impl<E> Default for Follow<E> {
    fn default() -> Self {
        let losses = Losses::new(Losses::OF_READER);
        Self { past: ReadStats::default(), losses, rings: 1, tries: 0, unfinished: false, error: None }
    }
}

impl<E> Follow<E> {
    /// The most rings that one call continues with: a process that replaces rings all the time must not keep it
    /// running.
    pub const RINGS: usize = 16;
    /// After a few failed searches for the next ring, only one of this number of polls searches again.
    const RETRY: u64 = 1 << 10;

    /// How many rings were read, including the current one.
    pub fn rings(&self) -> u64 {
        self.rings
    }

    /// Whether, at the last poll that found nothing, the ring or its successor waited for the process that replaces it.
    #[inline]
    pub fn unfinished(&self) -> bool {
        self.unfinished
    }

    /// Why it could not continue: the last error since the last call.
    pub fn take_error(&mut self) -> Option<E> {
        self.error.take()
    }

    /// To be called after `read` found nothing: returns the result of `read` in a ring that replaced this one.
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

    /// The counts of the records of all rings that were read.
    pub fn stats(&self, reader: &impl Leaving<Error = E>) -> ReadStats {
        let mut sum = self.past;
        sum += reader.stats();
        sum
    }

    /// The counts of the records of the rings before this one.
    pub fn past(&self) -> ReadStats {
        self.past
    }

    /// The losses in the rings before this one, since the last call of this method.
    pub fn take_losses(&mut self) -> impl Iterator<Item = Loss> {
        self.losses.take()
    }

    /// Called after nothing was found: returns whether there may be something now.
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

    /// The ring is retired: continues with the next ring once this one is read to its end.
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

    /// Continues with the ring that replaced this one, once the count of the tickets before it is final.
    fn next<R: Leaving<Error = E>>(&mut self, reader: &mut R) -> Result<bool, E> {
        let Some((next, before)) = reader.replaced()? else { return Ok(false) };
        if before & Gate::COUNTING != 0 {
            self.unfinished = true;
            return Ok(false);
        }
        // The tickets of rings that were replaced before this reader opened them. 0 if the ring is not a successor,
        // because its loader started again.
        let mine = reader.before()? & !Gate::COUNTING;
        let Some(ends) = reader.ends() else { return Ok(false) };
        let missed = before.saturating_sub(mine.wrapping_add(ends));
        let next = R::enter(next, Start::First, reader.patience())?;
        self.past += reader.leave(&mut self.losses);
        self.past.lapped = self.past.lapped.wrapping_add(missed);
        let (cause, until) = (LossCause::Lapped, latest());
        self.losses.push(Loss { shard: None, cause, tickets: None, count: missed, since: None, until });
        *reader = next;
        (self.rings, self.tries) = (self.rings + 1, 0);
        Ok(true)
    }
}
