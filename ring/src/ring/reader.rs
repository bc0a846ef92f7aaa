//! Reads a ring, and the rings that replace it.

mod drain;
mod liveness;
mod required;
mod wait;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::AnyBitPattern;

pub use self::drain::Drain;
pub use self::liveness::{Liveness, Unended};
use self::wait::Waiting;
use super::sweep::{Search, Sweep, nanoseconds};
use super::tails::TailReader;
use super::{Event, Merged};
use crate::abi::Gate;
use crate::bpf::ReaderPlace;
use crate::error::{Cause, Error, Result};
use crate::protocol::ring::{Follow, Leaving, Loss, Losses, NoRecord, ReadStats, Start};
use crate::region::Region;
use crate::sync::now;

/// The reading side of a ring: a position in each shard, and counts.
///
/// Reading a mapped ring makes no system call, allocates nothing, writes nothing to the ring and never blocks. The
/// reader visits the shards in turn, so that a busy one does not starve the others. Records of different shards have no
/// order, unless the reader is [merged](Self::merged).
///
/// **Bounded calls.** No call runs for long without a record, whatever the number of slots and shards and whatever they
/// contain. A call ends after [`STEPS`](Self::STEPS) tickets and shards in a row that give no record
/// ([`STEPS_BY_CALL`](Self::STEPS_BY_CALL) if the ring is not mapped). It then returns as if there were no more
/// records, [`stopped_early`](Self::stopped_early) reports this, and the next call continues from there. This happens
/// only after thousands of tickets in a row that were discarded or never ended, or in memory that was overwritten.
///
/// **Resizable rings.** When a ring is [resized](super::Ring::resize), the reader reads the old ring to its end and
/// continues with the new one. Until then this costs one load for each call that finds no record. Opening the next ring
/// makes system calls. The reader finds it where the ring was opened: at its pin, or in the map of maps. A ring opened
/// by a file descriptor has no successors. [`stats`](Self::stats) counts every ticket of every ring once. Tickets of
/// rings that were replaced before the reader could open them count as lapped. [`Event::ticket`] starts at 0 in each
/// ring. If the process that resizes a ring dies before it has finished, the reader stays in the old ring and reports
/// [`ErrorKind::ResizeUnfinished`](crate::ErrorKind::ResizeUnfinished). It continues once the loader has finished the
/// resize ([`loader::initialize`](crate::loader::initialize)).
pub struct Reader<T> {
    pub(super) sweep: Sweep<T>,
    /// Whether another ring can replace this one.
    resizable: bool,
    next: Next,
    waiting: Waiting,
    /// Its place among the readers that programs know, once it has one.
    place: Option<Arc<ReaderPlace>>,
    /// Only of a ring with tails.
    pub(super) tails: Option<Box<TailReader>>,
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
        ring.expect_record::<T>(crate::abi::Kind::Ring)?;
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

impl<T: AnyBitPattern> Reader<T> {
    /// How long a reader waits for a record that was not committed while later records are present. Then it counts the
    /// record as skipped. See [`with_patience`](Self::with_patience).
    pub const PATIENCE: Duration = Sweep::<T>::PATIENCE;

    /// The most steps that a call takes between two records. A ticket that was discarded, skipped or torn costs 1 step,
    /// and so does a shard that has no record. A search for the oldest record, after tickets were overwritten, costs 6.
    /// Each step takes at most 16 loads.
    pub const STEPS: u32 = Sweep::<T>::STEPS;
    /// The same for a ring that is not mapped, where loads are system calls. A step that checks several slots makes 4
    /// calls, or 193 if the kernel has no batches (before 5.6).
    pub const STEPS_BY_CALL: u32 = Sweep::<T>::STEPS_BY_CALL;

    /// The most rings that one call continues with: a process that replaces rings all the time must not keep it running.
    pub(super) const RINGS: usize = Follow::<Error>::RINGS;

    /// A reader of some regions of a ring whose first region is `first`, each with the number of its first shard.
    pub(super) fn new<'r>(
        first: &Region,
        regions: impl Iterator<Item = (usize, &'r Region)> + Clone,
        start: Start,
    ) -> Self {
        let sweep = Sweep::new(first, regions.clone(), start);
        let resizable = sweep.region().geometry().options().is_resizable();
        let tails = TailReader::new(regions);
        Self { sweep, resizable, next: Next::default(), waiting: Waiting::default(), place: None, tails }
    }

    /// Sets how long the reader waits for a record whose writer was interrupted, preempted or killed before it
    /// committed the record; the default is [`PATIENCE`](Self::PATIENCE). While it waits, the reader delivers no later
    /// record of that shard. Then it skips the record and all others that were not committed when the wait began, and
    /// counts them as lost. It does not wait if the next records of the ring are about to be overwritten. With
    /// [`Duration::ZERO`] it never waits, and checks for later records in every call, which disturbs writers more.
    ///
    /// The reader reads a clock only while it waits, and every millisecond or two. It is the coarse clock of the vDSO:
    /// no system call, and the wait may take 10 ms longer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.sweep.set_patience(nanoseconds(patience));
        self
    }

    /// Passes over records that are older than `time`, and does not count them, as if the reader had begun later. The stamps
    /// may be of any clock. Of each shard, it still delivers the last older record that it has found, and a few others,
    /// where later records have earlier stamps or were discarded.
    ///
    /// In a shard, every record that was *reserved* at `time` or later is still delivered. A program may stamp a record
    /// later than it reserves it: to get all records with a stamp of `time`, pass a time that is earlier by this.
    ///
    /// This is a bisection in each shard: it copies a record, or looks for one in up to 64 slots, for each bit of the number
    /// of slots. Makes system calls if the ring is not mapped. Only records of the present ring are passed over.
    ///
    /// ```
    /// # use mapring::Ring;
    /// let ring = Ring::<[u64; 2]>::create_memfd(1024, 1)?;
    /// let (writer, mut reader) = (ring.writer(0)?, ring.reader());
    /// (0..1000).for_each(|n| { writer.push(&[10 * n, n]); });
    /// reader.skip_before(9_900, |record| record[0]);
    /// let read: Vec<_> = reader.drain().map(|event| event.record[1]).collect();
    /// assert_eq!(read, (989..1000).collect::<Vec<_>>());
    /// assert_eq!(reader.lost(), 0);
    /// # Ok::<(), mapring::Error>(())
    /// ```
    pub fn skip_before(&mut self, time: u64, mut stamp: impl FnMut(&T) -> u64) {
        self.sweep.skip_before(|record| stamp(record) < time);
    }

    /// Delivers the records of all shards in the order of their timestamps, which `stamp` returns. See [`Merged`].
    /// Allocates.
    pub fn merged<F: FnMut(&T) -> u64>(mut self, stamp: F) -> Merged<T, F> {
        self.sweep.settle();
        Merged::new(self, stamp)
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

    /// Returns the next record, if there is one: up to 64 in a row from one shard, then from the next.
    ///
    /// `None` means that there is no record, or that this call [stopped early](Self::stopped_early).
    #[inline(always)] // so that the record need not go through memory
    pub fn poll(&mut self) -> Option<Event<T>> {
        let mut search = Search::new(&self.sweep);
        loop {
            match self.sweep.take() {
                Ok(event) => return Some(event),
                Err(no) if self.find(no, &mut search) => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether there may be a record, in this ring or in one that replaced it.
    #[inline(always)]
    fn find(&mut self, no: NoRecord, search: &mut Search) -> bool {
        self.sweep.find(no, search) || self.follow() && search.go_on(&self.sweep)
    }

    /// Returns all records that are present: each shard in turn, at most one lap of it. Ends even if a writer is faster
    /// than the reader. May [stop early](Self::stopped_early).
    pub fn drain(&mut self) -> Drain<'_, T> {
        Drain::new(self)
    }

    /// Calls `f` with up to `limit` records, each shard in turn and at most one lap of it. Copies each record only
    /// once: the fastest way. Returns the number of records. May [stop early](Self::stopped_early).
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T>)) -> usize {
        self.for_each_counted(limit, |event, _| f(event))
    }

    /// The same. `f` also gets the count of unknown tags.
    #[inline(always)] // as if it were in its callers
    pub(super) fn for_each_counted(&mut self, limit: usize, mut f: impl FnMut(Event<&T>, &mut u64)) -> usize {
        // A loop, not another call in the next ring: with that, all that `f` captures would be in memory.
        for _ in 0..=Self::RINGS {
            let count = self.sweep.for_each(limit, &mut f);
            if count != 0 || limit == 0 || !self.follow() {
                return count;
            }
        }
        0
    }

    /// True if any call since the last check stopped [early](Self::STEPS). Poll again before waiting: there may be a record
    /// further on.
    pub fn stopped_early(&mut self) -> bool {
        self.sweep.stopped_early()
    }

    /// Records that this reader lost, summed over all shards: [`ReadStats::lost`]. Makes no system call.
    pub fn lost(&self) -> u64 {
        let mut stats = self.next.follow.past();
        stats += self.sweep.passed();
        self.with_tails(stats, self.shards()).lost()
    }

    /// The counts of all shards together: the records that this reader delivered and lost, and those that programs
    /// dropped. Makes a system call for each shard if the ring is not mapped. A failed call counts as 0, and
    /// [`take_error`](Self::take_error) returns the error.
    pub fn stats(&self) -> ReadStats {
        self.with_tails(self.next.follow.stats(&self.sweep), self.shards())
    }

    /// The same for one shard of the current ring, or `None` if this reader does not read it. Records without a shard
    /// are in none.
    pub fn shard_stats(&self, shard: usize) -> Option<ReadStats> {
        self.sweep.shard_stats(shard).map(|stats| self.with_tails(stats, std::iter::once(shard)))
    }

    /// What this reader lost, and what programs dropped, since the last call of this method: how many records, for which
    /// cause, between which tickets, and when. The sums of their counts are those of [`stats`](Self::stats), if programs
    /// drop nothing meanwhile; the first call includes all drops since the ring's start. In the order of
    /// [`until`](Loss::until).
    ///
    /// The reader keeps a few losses for each shard. If there are more between two calls, it merges the oldest ones of a
    /// shard and cause, so counts stay exact, and intervals become longer. It reads the coarse clock when it finds a
    /// loss: no system call. Allocates. Makes system calls for each shard if the ring is not mapped. If a call fails,
    /// [`take_error`](Self::take_error) returns the error, and a later call of this method includes the drops.
    ///
    /// ```
    /// # use mapring::reading::LossCause;
    /// # use mapring::Ring;
    /// let ring = Ring::<u64>::create_memfd(4, 1)?;
    /// let (writer, mut reader) = (ring.writer(0)?, ring.reader());
    /// (0..10).for_each(|n| { writer.push(&n); });
    /// let read: Vec<_> = reader.drain().map(|event| event.ticket).collect();
    /// let losses = reader.take_losses();
    /// assert_eq!((losses[0].cause, losses[0].tickets.clone()), (LossCause::Lapped, Some(0..read[0])));
    /// # Ok::<(), mapring::Error>(())
    /// ```
    pub fn take_losses(&mut self) -> Vec<Loss> {
        let mut losses: Vec<_> = self.next.follow.take_losses().collect();
        self.sweep.take_losses(|loss| losses.push(loss));
        if let Some(tails) = &mut self.tails {
            losses.extend(tails.take_losses());
        }
        losses.sort_by_key(|loss| loss.until);
        losses
    }

    /// Counts the records whose tails were overwritten, if the ring has tails.
    fn with_tails(&self, mut stats: ReadStats, shards: impl Iterator<Item = usize>) -> ReadStats {
        if let Some(tails) = &self.tails {
            tails.count_lost(&mut stats, shards);
        }
        stats
    }

    /// Makes [`stopped_early`](Self::stopped_early) true.
    pub(super) fn stop_early(&mut self) {
        self.sweep.stop_early();
    }

    /// The next ticket to be read in one shard, or `None` if this reader does not read it.
    pub fn position(&self, shard: usize) -> Option<u64> {
        self.sweep.position(shard)
    }

    /// The shards that are read, in the order in which they are visited.
    pub fn shards(&self) -> impl Iterator<Item = usize> {
        self.sweep.numbers()
    }

    /// How many rings were read, including the current one: 1, unless the ring was resized.
    pub fn rings(&self) -> u64 {
        self.next.follow.rings()
    }

    /// The number of tickets of this ring, if another one has replaced it ([`Region::retired`]) and this reader has passed
    /// them all. Only for a reader that does not continue with the next ring, because its region was opened by a file
    /// descriptor or an id. Makes system calls if the ring is not mapped.
    pub fn ended(&mut self) -> Option<u64> {
        let is_over = self.sweep.gate() == Gate::Retired && self.sweep.at_end();
        if is_over { self.sweep.ends() } else { None }
    }

    /// The region that is being read; of a `PER_CPU_MAPS` ring, the first one.
    pub fn region(&self) -> &Region {
        self.sweep.region()
    }

    /// The last error since the last call of this method. Always `None` on a mapped ring that cannot be resized.
    ///
    /// - A system call of the fallback path failed. Reads find no records while these calls fail.
    /// - The reader could not continue with the ring that replaced this one; it tries again in later calls.
    /// - [`ErrorKind::ResizeUnfinished`](crate::ErrorKind::ResizeUnfinished) if the process that resizes the ring has not
    ///   finished for a second. It is repeated every second.
    /// - [`ErrorKind::LeaseEnded`](crate::ErrorKind::LeaseEnded) if programs no longer wait for this reader.
    pub fn take_error(&mut self) -> Option<Error> {
        let by_call = |e: io::Error| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e);
        let earlier = self.next.error.take().or_else(|| self.next.follow.take_error());
        let earlier = earlier.or_else(|| self.lease_error());
        earlier.or_else(|| self.sweep.take_error().map(by_call))
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

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("ring", &self.sweep)
            .field("rings", &self.next.follow.rings())
            .finish_non_exhaustive()
    }
}
