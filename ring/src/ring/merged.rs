//! Reads all shards of a ring in the order of their records' timestamps.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;

use super::sweep::nanoseconds;
use super::{Event, Reader, Unended};
use crate::error::{Error, Result};
use crate::protocol::ring::{Found, Loss, Merge, OPEN, ReadStats, Shards, clock_fence};
use crate::time::Clock;

/// The records of all shards in the order of their timestamps: made by [`Reader::merged`].
///
/// ```
/// # use mapring::{Ring, time::Clock};
/// let ring = Ring::<[u64; 2]>::create_memfd(1024, 2)?;
/// for (shard, value) in [(1, 10), (0, 20), (1, 30)] {
///     let writer = ring.writer(shard)?;
///     let mut slot = writer.reserve().unwrap();
///     slot.write(&[Clock::Monotonic.now(), value]);       // programs: bpf_ktime_get_ns(), after the reserve
///     slot.commit();
/// }
/// let mut reader = ring.reader().merged(|record| record[0]);
/// # std::thread::sleep(mapring::Merged::<(), fn(&()) -> u64>::SETTLE);
/// let values: Vec<_> = reader.drain().map(|event| event.record[1]).collect();
/// assert_eq!(values, [10, 20, 30]);
/// # Ok::<(), mapring::Error>(())
/// ```
///
/// **Order.** Records are delivered in the order of their stamps, whatever the order in which programs committed them.
/// This is exact if each program reads the clock *after* it reserved the record, and ends the record within the
/// [delay](Self::with_delay). `docs/guarantees.md` has the details, *Order across CPUs*. Records with equal stamps come
/// in the order of their shards. Within a shard, records also come in the order of their stamps, not of their tickets:
/// a program that interrupts another one between reserve and stamp has the later ticket, and the earlier stamp.
/// [`with_ticket_order`](Self::with_ticket_order) keeps the order of the tickets.
///
/// **Delay.** A record is delivered by the first call that reads the clock [`SETTLE`](Self::SETTLE) after its stamp.
/// Shards without records hold nothing back. Records that are still being written hold back records with later stamps,
/// until the clock is a [delay](Self::with_delay) after those: no record waits longer than that.
///
/// **Late records.** A record whose stamp is earlier than the stamp of a record that was delivered before it is
/// delivered as well, and counts as [`late`](MergedStats::late). A record can also be late if a resize takes longer
/// than the delay, or if its slot was stepped over and claimed later, for an earlier ticket. A tail is copied when its
/// record is delivered: if programs overwrote it while the reader held the record, the record is lost.
///
/// **Cost.** Calls read the clock through the vDSO, and make no system call on a mapped ring. (Where the vDSO can't
/// read it, they make one: [`Clock::now`].) After its creation the reader allocates nothing, unless a ring with more shards replaces this one. It holds up to 128 records of each shard.
/// Those that it still holds when it is dropped are not delivered. Another reader of the ring is not affected.
pub struct Merged<T, F> {
    pub(super) reader: Reader<T>,
    merge: Merge<T>,
    /// The numbers of the shards, for [`Event::shard`]. Only resizable rings change, and theirs are in order.
    numbers: Box<[usize]>,
    stamp: F,
    clock: Clock,
    /// Records that were delivered with a tag that their type does not know.
    unknown: u64,
}

/// The counts of a [`Merged`] reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergedStats {
    /// The counts of the tickets. Records that the reader holds are not counted: it has not passed them yet.
    pub read: ReadStats,
    /// Delivered records with an earlier stamp than a record that was delivered before.
    pub late: u64,
    /// Records whose stamp was later than the clock: their programs use another [clock](Merged::with_clock). Each is
    /// delivered as if it had been stamped when the reader noticed this.
    pub ahead: u64,
    /// Records that the reader holds, to deliver them later.
    pub held: u64,
}

/// As [`ReadStats`], then `, 2 late, 1 ahead of the clock, 3 held`, without zeros.
impl fmt::Display for MergedStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.read)?;
        let counts = [(self.late, "late"), (self.ahead, "ahead of the clock"), (self.held, "held")];
        let mut counts = counts.into_iter().filter(|(count, _)| *count != 0);
        counts.try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// The shards of the ring that is being read.
struct Here<'r, T>(&'r mut Reader<T>);

impl<T: AnyBitPattern> Shards<T> for Here<'_, T> {
    fn count(&self) -> usize {
        self.0.sweep.count()
    }

    fn in_use(&mut self) -> bool {
        self.0.in_use()
    }

    #[inline]
    fn read(&mut self, at: usize, held: Option<u64>, room: &mut [T], f: impl FnMut(u64, &[T])) -> Found {
        self.0.sweep.read_one(at, held, room, f)
    }
}

impl<T, F> Merged<T, F> {
    /// How long a record that is still being written holds back others. See [`with_delay`](Self::with_delay).
    pub const DELAY: Duration = Duration::from_millis(10);

    /// How old a stamp must be before its record is delivered. A program may read the clock before its claim of the
    /// slot is visible to other CPUs: stores wait in the CPU's store buffer, for less than a microsecond as a rule.
    pub const SETTLE: Duration = Duration::from_micros(10);

    /// How many programs of one CPU can be between reserve and stamp at the same time, without late records.
    pub const OPEN: usize = OPEN;
}

impl<T: AnyBitPattern, F: FnMut(&T) -> u64> Merged<T, F> {
    pub(super) fn new(reader: Reader<T>, stamp: F) -> Self {
        let [delay, settle] = [Self::DELAY, Self::SETTLE].map(nanoseconds);
        let merge = Merge::new(reader.sweep.count(), delay, settle);
        let numbers = reader.shards().collect();
        let _ = Clock::default().now(); // reads the time namespace, so that no later call does
        Self { reader, merge, numbers, stamp, clock: Clock::default(), unknown: 0 }
    }

    /// Sets how long a record that is still being written holds back records with later stamps: until the clock is
    /// `delay` after their stamps. The default is [`DELAY`](Self::DELAY). If the record is committed after that, it is
    /// delivered late. If it takes longer than the reader's [patience](Reader::with_patience), and later records of its
    /// shard are present, it is lost.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.merge.set_delay(nanoseconds(delay));
        self
    }

    /// Sets the clock that programs stamp records with. The default is [`Clock::Monotonic`], which
    /// `bpf_ktime_get_ns()` reads.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Delivers the records of each shard in the order of their tickets, whatever their stamps. A record with an earlier
    /// stamp than the one before it then takes its place directly after that one.
    #[must_use]
    pub fn with_ticket_order(mut self) -> Self {
        self.merge.keep_ticket_order();
        self
    }

    /// Waits until there are records to deliver, at most for `timeout`. Returns whether there are some.
    ///
    /// While the reader holds no records, it waits as [`Reader::wait`] does. It takes naps while it holds records whose turn
    /// has not come: from 10 µs up to [`Reader::NAP`], so it is late by this at most.
    ///
    /// # Errors
    /// As for [`Reader::wait`].
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        let mut nap = Self::SETTLE;
        loop {
            if self.merge.is_ready() || self.round() {
                return Ok(true);
            }
            let rest = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(false);
            }
            if self.merge.held() > 0 || self.reader.wait(rest)? {
                // Their turn has not come. Or this ring is being replaced, and the next one is not there yet.
                thread::sleep(nap.min(rest));
                nap = (2 * nap).min(Reader::<T>::NAP);
            }
        }
    }

    /// As [`Reader::bell`], for event loops. Call [`arm`](Self::arm) before each sleep.
    ///
    /// # Errors
    /// As for [`Reader::bell`].
    pub fn bell(&mut self) -> Result<BorrowedFd<'_>, &Error> {
        self.reader.bell()
    }

    /// As [`Reader::arm`]. While it holds records whose turn has not come, nobody rings: it returns [`SETTLE`](Self::SETTLE).
    #[must_use = "with `None` there are records to read, and maybe nobody rings"]
    pub fn arm(&mut self) -> Option<Duration> {
        if self.merge.is_ready() || self.round() {
            return None;
        }
        if self.merge.held() > 0 { Some(Self::SETTLE) } else { self.reader.arm() }
    }

    /// Returns the record with the earliest stamp, if there is one whose turn is certain.
    #[inline]
    pub fn poll(&mut self) -> Option<Event<T>> {
        if let Some(event) = self.next() {
            return Some(event);
        }
        self.round();
        self.next()
    }

    /// Returns all records up to the present, in order. Ends even if writers are faster than the reader.
    pub fn drain(&mut self) -> impl Iterator<Item = Event<T>> {
        let (mut left, mut begun) = (self.most(), false);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            if let Some(event) = self.next() {
                return Some(event);
            }
            if std::mem::replace(&mut begun, true) {
                left = 0;
                return None;
            }
            self.round();
            self.next()
        })
    }

    /// Calls `f` with up to `limit` records in order, and returns how many: the fastest way.
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T>)) -> usize {
        self.for_each_counted(limit, |event, _| f(event))
    }

    /// The same. `f` also gets the count of unknown tags.
    #[inline(always)] // as if it were in its callers
    pub(super) fn for_each_counted(&mut self, limit: usize, mut f: impl FnMut(Event<&T>, &mut u64)) -> usize {
        let limit = limit.min(self.most());
        // A loop, not two calls: with these, all that `f` captures would be in memory.
        let (mut count, mut rounds) = (0, 0);
        loop {
            count += self.take(limit - count, &mut f);
            if count == limit || rounds == 1 {
                return count;
            }
            self.round();
            rounds += 1;
        }
    }

    /// The counts of all shards together. Makes system calls as [`Reader::stats`] does.
    pub fn stats(&self) -> MergedStats {
        let (mut read, held) = (self.reader.stats(), self.merge.held());
        read.delivered = read.delivered.wrapping_sub(held);
        read.unknown = self.unknown;
        MergedStats { read, late: self.merge.late(), ahead: self.merge.ahead(), held }
    }

    /// As [`Reader::for_each_newest`].
    pub fn for_each_newest(&mut self, f: impl FnMut(Event<&T>)) {
        self.reader.for_each_newest(f);
    }

    /// As [`Reader::unended`].
    pub fn unended(&mut self) -> Vec<Unended> {
        self.reader.unended()
    }

    /// As [`Reader::take_losses`].
    pub fn take_losses(&mut self) -> Vec<Loss> {
        self.reader.take_losses()
    }

    /// The reader that this one reads with: for its region, its shards and rings. Its counts and positions include the
    /// records that are held. It does not count unknown tags.
    pub fn reader(&self) -> &Reader<T> {
        &self.reader
    }

    /// As [`Reader::take_error`].
    pub fn take_error(&mut self) -> Option<Error> {
        self.reader.take_error()
    }

    /// The most records of a pass: what the ring and the reader hold.
    fn most(&self) -> usize {
        let slots = self.reader.region().geometry().capacity();
        self.reader.sweep.count().saturating_mul(slots + 128)
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Event<T>> {
        let Self { reader, merge, stamp, numbers, .. } = self;
        let (at, ticket, &record) = merge.next(&mut Here(reader), stamp)?;
        Some(Event { shard: numbers.get(at).copied().unwrap_or(at), ticket, record })
    }

    /// Delivers up to `limit` records of this round.
    #[inline(always)]
    fn take(&mut self, limit: usize, f: &mut impl FnMut(Event<&T>, &mut u64)) -> usize {
        let Self { reader, merge, stamp, numbers, unknown, .. } = self;
        let number = |at| numbers.get(at).copied().unwrap_or(at);
        merge.for_each(&mut Here(reader), stamp, limit, |at, ticket, record| {
            f(Event { shard: number(at), ticket, record }, unknown)
        })
    }

    /// Begins a round, in the next ring if this one was replaced and nothing of it is left to deliver. Returns whether there
    /// is a record to deliver.
    #[inline(never)]
    fn round(&mut self) -> bool {
        let Self { reader, merge, stamp, clock, .. } = self;
        for _ in 0..Reader::<T>::RINGS {
            let now = clock.now();
            clock_fence();
            reader.sweep.begin_round(now, *clock);
            if merge.round(&mut Here(reader), now, stamp) {
                return true;
            }
            if !reader.follow() {
                return false;
            }
        }
        false
    }
}

impl<T, F> fmt::Debug for Merged<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged")
            .field("reader", &self.reader)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
