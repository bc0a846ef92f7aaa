//! Reading on when a ring was replaced by another.

use std::fmt;
use std::io;

use bytemuck::AnyBitPattern;

use super::{Event, Reader, Ring};
use crate::error::{Error, Result};
use crate::layout::Gate;
use crate::protocol::ring::{Start, Tally};

/// A reader of a [resizable ring](crate::ResizableRing) and of those that take its place, each read to
/// its end before the next.
///
/// As a [`Reader`], it makes no system call while the ring is the same and mapped: whether it is, is
/// one load when there was nothing to read. Going on with another ring opens that: some system calls.
/// How it finds it depends on how the ring was opened: by its pin ([`Ring::open_pinned`]), or in the map
/// of maps ([`ResizableRing::reader`](crate::ResizableRing::reader),
/// [`Region::open_inner`](crate::Region::open_inner)); a ring opened by a descriptor alone has no successors.
///
/// The [tally](Self::tally) counts every ticket of every ring once: also those of rings that came and
/// went before they could be opened, as lapped. [`Event::ticket`] starts anew with each ring.
pub struct Follower<T> {
    reader: Reader<T>,
    past: Tally,
    dropped: u64,
    rings: u64,
    waited: u32,
    error: Option<Error>,
}

impl<T: AnyBitPattern> Follower<T> {
    /// Rings that one call goes on with, at most: whoever can replace them could do so for ever.
    const RINGS: usize = 16;

    pub(super) fn new(reader: Reader<T>) -> Self {
        Self { reader, past: Tally::default(), dropped: 0, rings: 1, waited: 0, error: None }
    }

    /// The next record, if there is one: see [`Reader::poll`].
    #[inline]
    pub fn poll(&mut self) -> Option<Event<T>> {
        for _ in 0..Self::RINGS {
            let event = self.reader.poll();
            if event.is_some() || !self.go_on() {
                return event;
            }
        }
        None
    }

    /// Calls `f` with up to `limit` records: see [`Reader::for_each`]. Returns how many there were.
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T>)) -> usize {
        for _ in 0..Self::RINGS {
            let count = self.reader.for_each(limit, &mut f);
            if count != 0 || limit == 0 || !self.go_on() {
                return count;
            }
        }
        0
    }

    /// What became of all tickets that were passed, in all rings.
    pub fn tally(&self) -> Tally {
        let mut sum = self.past;
        sum += self.reader.tally();
        sum
    }

    /// Records lost, in all rings: [`Tally::lost`].
    pub fn lost(&self) -> u64 {
        self.tally().lost()
    }

    /// Records that producers dropped, in all rings that were read: see [`Reader::dropped`].
    pub fn dropped(&mut self) -> u64 {
        self.dropped.wrapping_add(self.reader.dropped())
    }

    /// How many rings were read, the present one included.
    pub fn rings(&self) -> u64 {
        self.rings
    }

    /// The reader of the present ring.
    pub fn reader(&self) -> &Reader<T> {
        &self.reader
    }

    /// Why it could not go on with the ring that took the place of this one, since this was last asked;
    /// it tries again with each empty poll. Or the last system call that failed on the fallback path.
    pub fn take_error(&mut self) -> Option<Error> {
        let by_call = |e: io::Error| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e);
        self.error.take().or_else(|| self.reader.take_error().map(by_call))
    }

    /// After nothing was found: whether there may be something now.
    #[inline]
    fn go_on(&mut self) -> bool {
        self.reader.region().retired() && self.leave()
    }

    /// The ring is retired: goes on with the next, once this one is read to its end.
    #[cold]
    fn leave(&mut self) -> bool {
        let waited = self.waited;
        self.waited = waited.saturating_add(1);
        if !self.reader.at_end(waited) {
            return false;
        }
        match self.successor() {
            Ok(Some(next)) => {
                self.past = self.tally();
                // In rings that came and went meanwhile. None if it is no successor: its loader started anew.
                let up_to = self.reader.region().tickets_before().wrapping_add(self.reader.ends());
                let missed = next.region().tickets_before().saturating_sub(up_to);
                self.past.lapped = self.past.lapped.wrapping_add(missed);
                self.dropped = self.dropped();
                let patience = self.reader.patience();
                self.reader = next.reader_from(Start::First).with_patience(patience);
                (self.rings, self.waited) = (self.rings + 1, 0);
                true
            }
            Ok(None) => false,
            Err(e) => {
                self.error = Some(e);
                false
            }
        }
    }

    /// The ring that took the place of this one, once it says what was before it.
    fn successor(&self) -> Result<Option<Ring<T>>> {
        let Some(next) = self.reader.region().replaced()? else { return Ok(None) };
        let counting = next.live(Gate::BEFORE, Gate::COUNTING) & Gate::COUNTING != 0;
        // Whoever is to say that may have died.
        let wait = counting && self.waited < self.reader.patience();
        if wait { Ok(None) } else { Ring::from_region(next).map(Some) }
    }
}

impl<T> fmt::Debug for Follower<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("reader", &self.reader)
            .field("rings", &self.rings)
            .finish_non_exhaustive()
    }
}
