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

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader of rings with these numbers, each with what a test says of it.
    #[derive(Clone, Debug)]
    struct Ring {
        number: u64,
        gate: Gate,
        at_end: bool,
        before: Result<u64, &'static str>,
        ends: Option<u64>,
        next: Result<Option<(Box<Ring>, u64)>, &'static str>,
        opens: bool,
        searches: std::rc::Rc<std::cell::Cell<u32>>,
    }

    impl Ring {
        /// A ring that was replaced and read to its end, with 10 tickets.
        fn left(number: u64, before: u64, next: Option<(Ring, u64)>) -> Self {
            let gate = if next.is_some() { Gate::Retired } else { Gate::Open };
            let next = Ok(next.map(|(ring, before)| (Box::new(ring), before)));
            let (before, ends) = (Ok(before), Some(10));
            Self { number, gate, at_end: true, before, ends, next, opens: true, searches: Default::default() }
        }

        fn open(number: u64) -> Self {
            Self::left(number, 0, None)
        }
    }

    impl Leaving for Ring {
        type Ring = Box<Ring>;
        type Error = &'static str;

        fn enter(ring: Box<Ring>, start: Start, patience: u64) -> Result<Self, &'static str> {
            assert_eq!((start, patience), (Start::First, 77));
            ring.opens.then_some(*ring).ok_or("can't open")
        }

        fn patience(&self) -> u64 {
            77
        }

        fn gate(&mut self) -> Gate {
            self.gate
        }

        fn before(&self) -> Result<u64, &'static str> {
            self.before
        }

        fn replaced(&self) -> Result<Option<(Box<Ring>, u64)>, &'static str> {
            self.searches.set(self.searches.get() + 1);
            self.next.clone()
        }

        fn at_end(&mut self) -> bool {
            self.at_end
        }

        fn ends(&mut self) -> Option<u64> {
            self.ends
        }

        fn stats(&self) -> ReadStats {
            ReadStats { delivered: self.number, ..ReadStats::default() }
        }

        fn leave(&mut self, losses: &mut Losses) -> ReadStats {
            losses.push(Loss::new(Some(0), LossCause::Skipped, None, 1));
            self.stats()
        }
    }

    type Following = Follow<&'static str>;

    /// Polls once; only the ring with this number has something.
    fn poll(follow: &mut Following, ring: &mut Ring, number: u64) -> Option<u64> {
        follow.poll_on(ring, |ring| (ring.number == number).then_some(ring.number))
    }

    #[test]
    fn it_goes_on_with_the_next_ring_and_counts_what_it_missed() {
        let third = Ring::open(3);
        let second = Ring::left(2, 10, Some((third, 35)));
        let mut ring = Ring::left(1, 0, Some((second, 10)));
        let mut follow = Following::default();
        assert_eq!(poll(&mut follow, &mut ring, 3), Some(3));
        assert_eq!((follow.rings(), follow.unfinished(), follow.take_error()), (3, false, None));
        // The rings before the third had 35 tickets: 10 and 10 of those that were read, and 15 in between.
        assert_eq!(follow.past(), ReadStats { delivered: 3, lapped: 15, ..ReadStats::default() });
        assert_eq!(follow.stats(&ring), ReadStats { delivered: 6, lapped: 15, ..ReadStats::default() });
        let losses: Vec<_> =
            follow.take_losses().map(|it| (it.shard, it.cause, it.count, it.until > 0)).collect();
        let own = (Some(0), LossCause::Skipped, 1, false);
        assert_eq!(losses, [own, own, (None, LossCause::Lapped, 15, true)]);
        assert_eq!((poll(&mut follow, &mut ring, 4), follow.rings()), (None, 3));
    }

    #[test]
    fn it_stays_while_there_is_more_or_the_count_is_not_final() {
        let mut follow = Following::default();
        let mut stays = |ring: &Ring, unfinished| {
            let mut ring = ring.clone();
            assert_eq!(poll(&mut follow, &mut ring, 2), None, "{ring:?}");
            assert_eq!((follow.rings(), follow.unfinished()), (1, unfinished), "{ring:?}");
        };
        let left = Ring::left(1, 0, Some((Ring::open(2), 10)));
        stays(&Ring { gate: Gate::Open, ..left.clone() }, false);
        stays(&Ring { gate: Gate::Closing, ..left.clone() }, true);
        stays(&Ring { at_end: false, ..left.clone() }, false);
        stays(&Ring::left(1, 0, Some((Ring::open(2), Gate::COUNTING | 10))), true);
        stays(&Ring { ends: None, ..left.clone() }, false);
        stays(&Ring { next: Ok(None), ..left }, false);
    }

    #[test]
    fn errors_are_kept_and_the_search_is_repeated_less_and_less() {
        let left = Ring::left(1, 0, Some((Ring { opens: false, ..Ring::open(2) }, 10)));
        let mut follow = Following::default();
        let mut ring = left.clone();
        assert_eq!((poll(&mut follow, &mut ring, 2), follow.take_error()), (None, Some("can't open")));
        assert_eq!(follow.take_error(), None);
        let mut follow = Following::default();
        let mut ring = Ring { next: Err("no ring"), searches: Default::default(), ..left.clone() };
        (0..4100).for_each(|_| assert_eq!(poll(&mut follow, &mut ring, 2), None));
        // At first, at powers of two up to 4096, and at 3072.
        assert_eq!((ring.searches.get(), follow.take_error()), (1 + 13 + 1, Some("no ring")));
        ring.at_end = false;
        assert_eq!(poll(&mut follow, &mut ring, 2), None);
        ring.at_end = true;
        assert_eq!((poll(&mut follow, &mut ring, 2), ring.searches.get()), (None, 16), "it counts anew");
        let mut ring = Ring { before: Err("no word"), searches: Default::default(), ..left };
        assert_eq!((poll(&mut Following::default(), &mut ring, 2), ring.searches.get()), (None, 1));
    }

    #[test]
    fn a_call_ends_after_16_rings() {
        let last = Ring::open(20);
        let mut ring = (1..20).rev().fold(last, |next, number| Ring::left(number, 0, Some((next, 0))));
        let mut follow = Following::default();
        assert_eq!((poll(&mut follow, &mut ring, 20), follow.rings(), ring.number), (None, 17, 17));
        assert_eq!((poll(&mut follow, &mut ring, 20), follow.rings()), (Some(20), 20));
        assert_eq!(follow.past().lapped, 0, "the first rings of other loaders");
    }
}
