//! Reading a ring, and those that take its place.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;

use super::Event;
use super::sweep::{Pass, Sweep, nanoseconds};
use crate::error::{Cause, Error, Result};
use crate::layout::Gate;
use crate::protocol::ring::{Follow, Leaving, ReadStats, Start};
use crate::region::Region;

/// A place in each shard of a ring.
///
/// Reading a mapped ring makes no system call, allocates nothing, writes nothing to the ring and
/// never blocks. Shards are visited in turn, so that a busy one does not starve the others; between
/// shards there is no order.
///
/// **Bounded calls.** No call goes on for long without a record, however many slots and shards there are and whatever
/// they hold. A call ends after [`STEPS`](Self::STEPS) tickets and shards in a row that give none
/// ([`STEPS_BY_CALL`](Self::STEPS_BY_CALL) where the ring is not mapped). It then returns as if there were nothing more,
/// [`stopped_early`](Self::stopped_early) says so, and the next call goes on from there. That takes thousands of tickets
/// in a row that were discarded or never ended, or memory that somebody scribbled over.
///
/// **Resizable rings.** When a ring is [resized](super::Ring::resize), the reader reads the old ring to its end and goes on
/// with the new one. Until then this costs one load when there was nothing to read. Opening the next ring makes system
/// calls. The reader finds it where the ring was opened: at its pin, or in the map of maps; a ring opened by a file
/// descriptor has no successors. [`stats`](Self::stats) counts every ticket of every ring once. Tickets of rings that
/// came and went before they could be opened count as lapped. [`Event::ticket`] starts anew with each ring. If the process
/// that resizes a ring dies before it has finished, the reader stays in the old ring, says so
/// ([`Error::ResizeUnfinished`]), and goes on once the loader has finished the resize
/// ([`loader::initialize`](crate::loader::initialize)).
pub struct Reader<T> {
    sweep: Sweep<T>,
    /// Whether another ring can take the place of this one.
    resizable: bool,
    next: Next,
}

/// The way to the ring that takes the place of this one.
#[derive(Default)]
struct Next {
    follow: Follow<Error>,
    /// Since when it waits for the process that resizes the ring.
    waits_since: Option<Instant>,
    error: Option<Error>,
}

impl<T: AnyBitPattern> Leaving for Sweep<T> {
    type Ring = Region;
    type Error = Error;

    fn enter(ring: Region, start: Start, patience: u64) -> Result<Self> {
        ring.expect_record::<T>(crate::layout::Kind::Ring)?;
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
        let Some(next) = self.region().replaced()? else { return Ok(None) };
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
}

impl<T: AnyBitPattern> Reader<T> {
    /// How long a reader waits for a record that was not committed although later records are present. Then it counts
    /// the record as skipped. See [`with_patience`](Self::with_patience).
    pub const PATIENCE: Duration = Sweep::<T>::PATIENCE;

    /// What a call spends between two records, at most. A ticket that was discarded, skipped or torn costs 1. So does a
    /// shard that has nothing. A search for the oldest record, after tickets were overwritten, costs 6. For each of
    /// these there are 16 loads at most.
    pub const STEPS: u32 = Sweep::<T>::STEPS;
    /// The same of a ring that is not mapped, where loads are system calls. A step that looks at several slots makes
    /// 4 calls, or 193 where the kernel has no batches (before 5.6).
    pub const STEPS_BY_CALL: u32 = Sweep::<T>::STEPS_BY_CALL;

    pub(super) fn new(sweep: Sweep<T>) -> Self {
        let resizable = sweep.region().geometry().is_resizable();
        Self { sweep, resizable, next: Next::default() }
    }

    /// Sets how long the reader waits, instead of [`PATIENCE`](Self::PATIENCE), for a record whose writer was
    /// interrupted, preempted or killed before it committed it. Meanwhile the reader delivers no later record of that
    /// shard. Then it skips the record, and all others that were not committed when it began to wait, and counts them as
    /// lost. It does not wait if the next records of the ring are about to be overwritten. With [`Duration::ZERO`] it never
    /// waits, and looks for later records in every call, which disturbs writers more.
    ///
    /// The reader looks at a clock only while it waits, and every millisecond or two. The clock is the coarse one of the
    /// vDSO: no system call, and the wait may take 10 ms longer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.sweep.set_patience(nanoseconds(patience));
        self
    }

    /// The next record, if there is one: up to 64 in a row from one shard, then from the next.
    ///
    /// It is made for being called again at once. A reader that has met programs at work between claim
    /// and end leaves their slots alone until `head` says that there is a record; where a nested program
    /// left that stale, the record is found with the next one, or 256 calls later. [`drain`](Self::drain)
    /// and [`for_each`](Self::for_each) look at the slots. `None` says that there is none, or that this call
    /// [stopped early](Self::stopped_early).
    #[inline(always)] // so that the record need not go through memory
    pub fn poll(&mut self) -> Option<Event<T>> {
        let Self { sweep, resizable, next } = self;
        sweep.poll(|sweep| {
            if !*resizable {
                return None;
            }
            next.poll(sweep, |sweep| sweep.poll(|_| None).map(|event| sweep.apart(event)))
        })
    }

    /// Everything that is there: each shard in turn, at most one lap of it. Ends; a writer that is
    /// faster than the reader does not keep it going. May [stop early](Self::stopped_early).
    pub fn drain(&mut self) -> Drain<'_, T> {
        Drain { pass: self.sweep.pass(), reader: self }
    }

    /// Calls `f` with up to `limit` records, each shard in turn and at most one lap of it, without
    /// copying them more than once: the fastest way. Returns how many there were. May
    /// [stop early](Self::stopped_early).
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T>)) -> usize {
        let count = self.sweep.for_each(limit, &mut f);
        if count != 0 || limit == 0 || !self.resizable {
            return count;
        }
        let some = |sweep: &mut Sweep<T>| Some(sweep.for_each(limit, &mut f)).filter(|&count| count != 0);
        self.next.poll(&mut self.sweep, some).unwrap_or(0)
    }

    /// Whether a call ended [early](Self::STEPS) since this was last asked: there may be a record further on, and the
    /// next call goes on there. For loops that wait when there is nothing: they should not wait then.
    pub fn stopped_early(&mut self) -> bool {
        self.sweep.stopped_early()
    }

    /// Records lost to this reader, all shards together: [`ReadStats::lost`]. Makes no system call.
    pub fn lost(&self) -> u64 {
        self.next.follow.past().lost().wrapping_add(self.sweep.passed().lost())
    }

    /// What became of the records, all shards together: what this reader delivered and lost, and what programs dropped.
    /// A system call for each shard if the ring is not mapped. Then a failed one counts as 0, and
    /// [`take_error`](Self::take_error) returns the error.
    pub fn stats(&self) -> ReadStats {
        self.next.follow.stats(&self.sweep)
    }

    /// The same of one shard of the present ring, or `None` if this reader does not read it. Records without a shard are
    /// in none.
    pub fn shard_stats(&self, shard: usize) -> Option<ReadStats> {
        self.sweep.shard_stats(shard)
    }

    /// The ticket that is read next in one shard, or `None` if it reads no such shard.
    pub fn position(&self, shard: usize) -> Option<u64> {
        self.sweep.position(shard)
    }

    /// The shards that are read, in the order of their turns.
    pub fn shards(&self) -> impl Iterator<Item = usize> {
        self.sweep.numbers()
    }

    /// How many rings were read, the present one included: 1, unless the ring was resized.
    pub fn rings(&self) -> u64 {
        self.next.follow.rings()
    }

    /// The region that is read now; of a NUMA ring, the first one.
    pub fn region(&self) -> &Region {
        self.sweep.region()
    }

    /// The last error since this was last asked. Always `None` on a mapped ring that cannot be resized.
    ///
    /// - A system call that failed on the fallback path. Reading finds nothing while they fail.
    /// - Why it could not go on with the ring that took the place of this one; it tries again at later calls.
    /// - [`Error::ResizeUnfinished`] if the process that resizes the ring has not finished for a second. It comes again
    ///   each second.
    pub fn take_error(&mut self) -> Option<Error> {
        let by_call = |e: io::Error| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e);
        let earlier = self.next.error.take().or_else(|| self.next.follow.take_error());
        earlier.or_else(|| self.sweep.take_error().map(by_call))
    }
}

impl Next {
    /// How long the process that resizes a ring may take before a reader says that it has not finished. It
    /// waits for programs: milliseconds, or more on a machine with much to do.
    const UNFINISHED: Duration = Duration::from_secs(1);

    /// What `read` finds in the rings that took the place of this one, in which it found nothing.
    #[cold]
    fn poll<T: AnyBitPattern, X>(
        &mut self,
        sweep: &mut Sweep<T>,
        read: impl FnMut(&mut Sweep<T>) -> Option<X>,
    ) -> Option<X> {
        let found = self.follow.poll_on(sweep, read);
        if found.is_none() {
            self.found_nothing(sweep.region());
        }
        found
    }

    /// After nothing was found in `region`: whether that is because a process does not finish.
    fn found_nothing(&mut self, region: &Region) {
        if !self.follow.unfinished() {
            self.waits_since = None;
            return;
        }
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        if since.elapsed() < Self::UNFINISHED {
            return;
        }
        self.waits_since = None;
        match region.replaced() {
            Ok(Some(next)) => {
                self.error = Some(Error::from(Cause::ResizeUnfinished { what: next.what().to_owned() }))
            }
            // It failed before it put another ring in the place of this one, which is as good as before.
            Ok(None) => {}
            Err(e) => self.error = Some(e),
        }
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("ring", &self.sweep)
            .field("rings", &self.next.follow.rings())
            .finish_non_exhaustive()
    }
}

/// The records that [`Reader::drain`] finds.
#[derive(Debug)]
pub struct Drain<'r, T> {
    reader: &'r mut Reader<T>,
    pass: Pass,
}

impl<T: AnyBitPattern> Iterator for Drain<'_, T> {
    type Item = Event<T>;

    #[inline(always)] // as in `poll`
    fn next(&mut self) -> Option<Event<T>> {
        let Reader { sweep, resizable, next } = &mut *self.reader;
        sweep.next_of(&mut self.pass, |sweep| {
            if !*resizable {
                return None;
            }
            next.poll(sweep, |sweep| sweep.poll(|_| None).map(|event| sweep.apart(event)))
        })
    }
}
