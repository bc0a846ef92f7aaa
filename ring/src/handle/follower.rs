//! Reading on when a ring was replaced by another.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;

use super::{Event, Reader, Ring};
use crate::error::{Error, Result};
use crate::layout::Gate;
use crate::protocol::ring::{Follow, Leaving, Start, Tally};
use crate::region::Region;

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
///
/// If the process that replaces a ring dies before it is done, the follower stays in the old ring, says so
/// ([`Error::ResizeUnfinished`]), and goes on once the loader has opened the
/// [`ResizableRing`](crate::ResizableRing) again.
pub struct Follower<T> {
    rings: Follow<Current<T>, Error>,
    /// Since when it waits for the process that replaces a ring.
    waits_since: Option<Instant>,
    error: Option<Error>,
}

/// The reader of the ring that is read now.
struct Current<T>(Reader<T>);

impl<T: AnyBitPattern> Leaving for Current<T> {
    type Ring = Region;
    type Error = Error;

    fn enter(ring: Region, start: Start, patience: u32) -> Result<Self> {
        Ok(Self(Ring::from_region(ring)?.reader_from(start).with_patience(patience)))
    }

    fn patience(&self) -> u32 {
        self.0.patience()
    }

    #[inline]
    fn gate(&mut self) -> Gate {
        self.0.gate()
    }

    fn before(&self) -> Result<u64> {
        self.0.region().before()
    }

    fn replaced(&self) -> Result<Option<(Region, u64)>> {
        let Some(next) = self.0.region().replaced()? else { return Ok(None) };
        let before = next.before()?;
        Ok(Some((next, before)))
    }

    fn at_end(&mut self, waited: u64) -> bool {
        self.0.at_end(waited)
    }

    fn ends(&mut self) -> Option<u64> {
        self.0.ends()
    }

    fn tally(&self) -> Tally {
        self.0.tally()
    }

    fn dropped(&mut self) -> u64 {
        self.0.dropped()
    }
}

impl<T: AnyBitPattern> Follower<T> {
    /// How long the process that replaces a ring may take before a follower says that it has not finished. It
    /// waits for programs: milliseconds, or more on a machine with much to do.
    const UNFINISHED: Duration = Duration::from_secs(1);

    pub(super) fn new(reader: Reader<T>) -> Self {
        Self { rings: Follow::new(Current(reader)), waits_since: None, error: None }
    }

    /// The next record, if there is one: see [`Reader::poll`].
    #[inline]
    pub fn poll(&mut self) -> Option<Event<T>> {
        let event = self.rings.poll(|reader| reader.0.poll());
        if event.is_none() {
            self.found_nothing();
        }
        event
    }

    /// Calls `f` with up to `limit` records: see [`Reader::for_each`]. Returns how many there were.
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T>)) -> usize {
        let some = |reader: &mut Current<T>| {
            let count = reader.0.for_each(limit, &mut f);
            (count != 0 || limit == 0).then_some(count)
        };
        self.rings.poll(some).unwrap_or_else(|| {
            self.found_nothing();
            0
        })
    }

    /// What became of all tickets that were passed, in all rings.
    pub fn tally(&self) -> Tally {
        self.rings.tally()
    }

    /// Records lost, in all rings: [`Tally::lost`].
    pub fn lost(&self) -> u64 {
        self.tally().lost()
    }

    /// Records that producers dropped, in all rings that were read: see [`Reader::dropped`].
    pub fn dropped(&mut self) -> u64 {
        self.rings.dropped()
    }

    /// How many rings were read, the present one included.
    pub fn rings(&self) -> u64 {
        self.rings.rings()
    }

    /// The reader of the present ring.
    pub fn reader(&self) -> &Reader<T> {
        &self.rings.reader().0
    }

    /// Why it could not go on with the ring that took the place of this one, since this was last asked;
    /// it tries again at later polls. [`Error::ResizeUnfinished`] if the process that replaces the ring has not
    /// finished for a second: it comes again each second. Or the last system call that failed on the fallback
    /// path.
    pub fn take_error(&mut self) -> Option<Error> {
        let by_call = |e: io::Error| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e);
        let earlier = self.error.take().or_else(|| self.rings.take_error());
        earlier.or_else(|| self.rings.reader_mut().0.take_error().map(by_call))
    }

    /// After nothing was found: whether that is because a process does not finish.
    #[inline]
    fn found_nothing(&mut self) {
        if self.rings.unfinished() {
            self.wait_for_it();
        } else if self.waits_since.is_some() {
            self.waits_since = None;
        }
    }

    #[cold]
    fn wait_for_it(&mut self) {
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        if since.elapsed() < Self::UNFINISHED {
            return;
        }
        self.waits_since = None;
        match self.reader().region().replaced() {
            Ok(Some(next)) => self.error = Some(Error::ResizeUnfinished { what: next.what().to_owned() }),
            // It failed before it put another ring in the place of this one, which is as good as before.
            Ok(None) => {}
            Err(e) => self.error = Some(e),
        }
    }
}

impl<T> fmt::Debug for Follower<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("reader", &self.rings.reader().0)
            .field("rings", &self.rings.rings())
            .finish_non_exhaustive()
    }
}
