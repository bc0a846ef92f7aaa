//! Reads a ring, and the rings that replace it.

mod any;
mod drain;
mod liveness;
mod merged;
mod required;
mod turns;
mod wait;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::AnyBitPattern;

pub use self::any::AnyReader;
pub use self::drain::Drain;
pub use self::liveness::Liveness;
pub(in crate::ring) use self::turns::Turns;
use self::wait::Waiting;
use super::event::Event;
use super::order::{ByShard, Order};
use super::rings::Rings;
use super::seat::ReaderSeat;
use super::sweep::{Sweep, nanoseconds};
use super::tails::TailReader;
use crate::abi::Gate;
use crate::error::Error;
use crate::record::Tailed;
use crate::region::Region;
use mapring_core::protocol::ring::{Loss, OPEN, ReadStats, Start};

/// The reading side of a ring: a position in each shard, and counts. `O` is the order in which it delivers records:
/// [`ByShard`], or [`ByTime`](crate::reading::ByTime) after [`merged`](Self::merged).
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
/// resize (`mapring_loader::initialize`).
pub struct Reader<T, O = ByShard> {
    pub(super) rings: Rings<T>,
    /// Only of a ring with tails.
    tails: Option<Box<TailReader>>,
    pub(super) order: O,
    waiting: Waiting,
    /// Its seat among the readers that programs know, once it has one.
    seat: Option<Arc<ReaderSeat>>,
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

    /// The longest nap of a reader without a bell: how much later than a record [`wait`](Self::wait) returns at most,
    /// apart from the machine's scheduler.
    pub const NAP: Duration = Waiting::LONG;

    /// How long a record that is still being written holds back others in a merged reader: see
    /// [`with_delay`](Self::with_delay).
    pub const DELAY: Duration = Duration::from_millis(10);

    /// How old a stamp must be before a merged reader delivers its record. A program may read the clock before its claim of
    /// the slot is visible to other CPUs: stores wait in the CPU's store buffer, for less than a microsecond as a rule.
    pub const SETTLE: Duration = Duration::from_micros(10);

    /// How many programs of one CPU can be between reserve and stamp at the same time, without late records of a merged
    /// reader.
    pub const OPEN: usize = OPEN;

    /// A reader of some regions of a ring whose first region is `first`, each with the number of its first shard.
    pub(super) fn new<'r>(
        first: &Region,
        regions: impl Iterator<Item = (usize, &'r Region)> + Clone,
        start: Start,
    ) -> Self {
        let rings = Rings::new(Sweep::new(first, regions.clone(), start));
        let tails = TailReader::new(regions);
        Self { rings, tails, order: ByShard, waiting: Waiting::default(), seat: None }
    }

    /// The same reader with another order.
    pub(super) fn in_order<O>(self, order: O) -> Reader<T, O> {
        let Self { rings, tails, waiting, seat, .. } = self;
        Reader { rings, tails, order, waiting, seat }
    }
}

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
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
        self.rings.sweep.set_patience(nanoseconds(patience));
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
        if self.tails.is_some() {
            self.rings.sweep.skip_before(|tailed: &Tailed<T>| stamp(&tailed.record) < time);
        } else {
            self.rings.sweep.skip_before(|record: &T| stamp(record) < time);
        }
    }

    /// Returns the next record, if there is one, with its tail, which is empty in a ring without tails. By shard: up to 64 in a
    /// row from one shard, then from the next. By time: the record with the earliest stamp, if its turn is certain.
    ///
    /// A record whose tail was overwritten is lost: [`ReadStats::tail_lost`]. `None` means that there is no record, or that
    /// this call [stopped early](Self::stopped_early).
    #[inline(always)] // so that the record need not go through memory
    pub fn poll(&mut self) -> Option<Event<T, &[u8]>> {
        if self.tails.is_some() {
            let Event { shard, ticket, record: len, .. } = self.poll_with_tail()?;
            let tail = self.tails.as_deref()?.tail(len);
            return Some(Event { shard, ticket, record: self.rings.sweep.record.record, tail });
        }
        self.order.poll::<T, _>(&mut self.rings, [].as_slice())
    }

    /// The next record with a tail, which stay in the sweep and in `tails`, and how long the tail is. If it returned the
    /// record, the compiler would keep the event in memory also in a ring without tails.
    #[cold]
    fn poll_with_tail(&mut self) -> Option<Event<usize>> {
        let Self { order, rings, tails, .. } = self;
        let tails = tails.as_deref_mut()?;
        for _ in 0..Reader::<T>::STEPS {
            let Event { shard, ticket, record, .. } = order.poll::<Tailed<T>, ()>(rings, ())?;
            let len = tails.read(shard, ticket, &record).map(<[u8]>::len);
            tails.locate(&rings.sweep);
            if let Some(len) = len {
                rings.sweep.record = record;
                return Some(Event { shard, ticket, record: len, tail: () });
            }
        }
        rings.sweep.stop_early();
        None
    }

    /// Returns all records that are present, without their tails: by shard each in turn, at most one lap of it. Ends even if
    /// a writer is faster than the reader. May [stop early](Self::stopped_early).
    pub fn drain(&mut self) -> Drain<'_, T, O> {
        Drain::new(self)
    }

    /// Calls `f` with up to `limit` records and their tails: by shard each in turn, at most one lap of it. Copies each record
    /// and tail only once: the fastest way. Returns the number of records. May [stop early](Self::stopped_early).
    ///
    /// Tails are empty in a ring without tails. A record whose tail was overwritten is lost ([`ReadStats::tail_lost`]), and
    /// counts for the limit.
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T, &[u8]>)) -> usize {
        if self.tails.is_some() {
            return self.for_each_with_tail(limit, f);
        }
        self.order.for_each(&mut self.rings, limit, |Event { shard, ticket, record, .. }| {
            f(Event { shard, ticket, record, tail: &[] });
        })
    }

    #[inline(always)] // otherwise all that `f` captures would be in memory, also in the other loop
    fn for_each_with_tail(&mut self, limit: usize, mut f: impl FnMut(Event<&T, &[u8]>)) -> usize {
        let Self { order, rings, tails: Some(tails), .. } = self else { return 0 };
        let tails = &mut **tails;
        let mut whole = 0;
        order.for_each::<Tailed<T>>(rings, limit, |Event { shard, ticket, record, .. }| {
            if let Some(tail) = tails.read(shard, ticket, record) {
                whole += 1;
                f(Event { shard, ticket, record: &record.record, tail });
            }
        });
        tails.locate(&rings.sweep);
        whole
    }

    /// True if any call since the last check stopped [early](Self::STEPS). Poll again before waiting: there may be a record
    /// further on.
    pub fn stopped_early(&mut self) -> bool {
        self.rings.sweep.stopped_early()
    }

    /// Records that this reader lost, summed over all shards: [`ReadStats::lost`]. Makes no system call.
    pub fn lost(&self) -> u64 {
        self.with_tails(ReadStats::default(), self.shards()).lost().wrapping_add(self.rings.lost())
    }

    /// The counts of all shards together: the records that this reader delivered and lost, and those that programs
    /// dropped. Makes a system call for each shard if the ring is not mapped. A failed call counts as 0, and
    /// [`take_error`](Self::take_error) returns the error.
    pub fn stats(&self) -> ReadStats {
        let mut stats = self.with_tails(self.rings.stats(), self.shards());
        self.order.count(&mut stats);
        stats
    }

    /// The same for one shard of the current ring, or `None` if this reader does not read it. Records without a shard
    /// are in none.
    pub fn shard_stats(&self, shard: usize) -> Option<ReadStats> {
        self.rings.sweep.shard_stats(shard).map(|stats| self.with_tails(stats, std::iter::once(shard)))
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
        let mut losses = self.rings.take_losses();
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

    /// The next ticket to be read in one shard, or `None` if this reader does not read it.
    pub fn position(&self, shard: usize) -> Option<u64> {
        self.rings.sweep.position(shard)
    }

    /// The shards that are read, in the order in which they are visited.
    pub fn shards(&self) -> impl Iterator<Item = usize> {
        self.rings.sweep.numbers()
    }

    /// How many rings were read, including the current one: 1, unless the ring was resized.
    pub fn rings(&self) -> u64 {
        self.rings.count()
    }

    /// The number of tickets of this ring, if another one has replaced it ([`Region::retired`]) and this reader has passed
    /// them all. Only for a reader that does not continue with the next ring, because its region was opened by a file
    /// descriptor or an id. Makes system calls if the ring is not mapped.
    pub fn ended(&mut self) -> Option<u64> {
        let (mut held, sweep) = (ReadStats::default(), &mut self.rings.sweep);
        self.order.count(&mut held);
        let is_over = held.held == 0 && sweep.gate() == Gate::Retired && sweep.at_end();
        if is_over { sweep.ends() } else { None }
    }

    /// The region that is being read; of a `PER_CPU_MAPS` ring, the first one.
    pub fn region(&self) -> &Region {
        self.rings.sweep.region()
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
        let earlier = self.rings.take_error().or_else(|| self.lease_error());
        earlier.or_else(|| self.rings.sweep.take_error().map(by_call))
    }
}

impl<T, O> fmt::Debug for Reader<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("ring", &self.rings.sweep).finish_non_exhaustive()
    }
}
