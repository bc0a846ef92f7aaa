//! Delivers the records of all shards in the order of their timestamps.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{Found, Merge, ReadStats, Shards, Turn, clock_fence};

use super::Reader;
use super::event::Event;
use super::in_slot::InSlot;
use super::order::Order;
use super::rings::Rings;
use super::sweep::nanoseconds;
use crate::error::Result;
use crate::record::Tailed;
use crate::time::Clock;

/// The records of all shards in the order of their timestamps: what [`Reader::merged`] returns is a `Reader<T, ByTime<T, F>>`.
/// [`Merged`](crate::Merged) delivers the records of several rings in this order.
///
/// ```
/// # use mapring::{Reader, Ring, time::Clock};
/// let ring = Ring::<[u64; 2]>::create_memfd(1024, 2)?;
/// for (shard, value) in [(1, 10), (0, 20), (1, 30)] {
///     let writer = ring.writer(shard)?;
///     let mut slot = writer.reserve().unwrap();
///     slot.write(&[Clock::Monotonic.now(), value]);       // programs: bpf_ktime_get_ns(), after the reserve
///     slot.commit();
/// }
/// let mut reader = ring.reader().merged(|record| record[0]);
/// # std::thread::sleep(Reader::<()>::SETTLE);
/// let values: Vec<_> = reader.drain().map(|event| event.record[1]).collect();
/// assert_eq!(values, [10, 20, 30]);
/// # Ok::<(), mapring::Error>(())
/// ```
///
/// **Order.** Records are delivered in the order of their stamps, whatever the order in which programs committed them.
/// This is exact if each program reads the clock *after* it reserved the record, and ends the record within the
/// [delay](Reader::with_delay). `docs/guarantees.md` has the details, *Order across CPUs*. Records with equal stamps come
/// in the order of their shards. Within a shard, records also come in the order of their stamps, not of their tickets:
/// a program that interrupts another one between reserve and stamp has the later ticket, and the earlier stamp.
/// [`with_ticket_order`](Reader::with_ticket_order) keeps the order of the tickets.
///
/// **Delay.** A record is delivered by the first call that reads the clock [`SETTLE`](Reader::SETTLE) after its stamp.
/// Shards without records hold nothing back. Records that are still being written hold back records with later stamps,
/// until the clock is a [delay](Reader::with_delay) after those: no record waits longer than that.
///
/// **Late records.** A record whose stamp is earlier than the stamp of a record that was delivered before it is
/// delivered as well, and counts as [`late`](ReadStats::late). A record can also be late if a resize takes longer
/// than the delay, or if its slot was stepped over and claimed later, for an earlier ticket. A tail is copied when its
/// record is delivered: if programs overwrote it while the reader held the record, the record is lost.
///
/// **Cost.** Calls read the clock through the vDSO, and make no system call on a mapped ring. (Where the vDSO can't
/// read it, they make one: [`Clock::now`].) After its creation the reader allocates nothing, unless a ring with more shards
/// replaces this one. It holds up to 128 records of each shard: [`position`](Reader::position) and
/// [`shard_stats`](Reader::shard_stats) count these as read. Those that it still holds when it is dropped are not delivered.
/// Another reader of the ring is not affected.
pub struct ByTime<T, F> {
    merges: Merges<T>,
    /// The numbers of the shards, for [`Event::shard`]. Only resizable rings change, and theirs are in order.
    numbers: Box<[usize]>,
    stamp: F,
    clock: Clock,
    /// Nothing writes the ring any more.
    is_past: bool,
}

/// The merge: of records, or of records with the places of their tails.
pub enum Merges<T> {
    Plain(Merge<T>),
    Tailed(Merge<Tailed<T>>),
}

/// Does the same with the merge, whatever its records are.
macro_rules! with_merge {
    ($merges:expr, $merge:ident => $do:expr) => {
        match $merges {
            Merges::Plain($merge) => $do,
            Merges::Tailed($merge) => $do,
        }
    };
}

/// The shards of the ring that is being read.
struct Here<'r, T>(&'r mut Rings<T>);

impl<T: AnyBitPattern, R: InSlot<T>> Shards<R> for Here<'_, T> {
    fn count(&self) -> usize {
        self.0.sweep.count()
    }

    fn in_use(&mut self) -> bool {
        self.0.in_use()
    }

    #[inline]
    fn read(&mut self, at: usize, held: Option<u64>, room: &mut [R], f: impl FnMut(u64, &[R])) -> Found {
        self.0.sweep.read_one(at, held, room, f)
    }
}

impl<T: AnyBitPattern> Reader<T> {
    /// Delivers the records of all shards in the order of their timestamps, which `stamp` returns. See
    /// [`ByTime`](crate::reading::ByTime). Allocates.
    pub fn merged<F: FnMut(&T) -> u64>(mut self, stamp: F) -> Reader<T, ByTime<T, F>> {
        self.rings.sweep.settle();
        let [delay, settle] = [Self::DELAY, Self::SETTLE].map(nanoseconds);
        let shards = self.rings.sweep.count();
        let merges = if self.tails.is_some() {
            Merges::Tailed(Merge::new(shards, delay, settle))
        } else {
            Merges::Plain(Merge::new(shards, delay, settle))
        };
        let numbers = self.shards().collect();
        let _ = Clock::default().now(); // reads the time namespace, so that no later call does
        self.in_order(ByTime { merges, numbers, stamp, clock: Clock::default(), is_past: false })
    }
}

impl<T: AnyBitPattern, F: FnMut(&T) -> u64> Reader<T, ByTime<T, F>> {
    /// Sets how long a record that is still being written holds back records with later stamps: until the clock is
    /// `delay` after their stamps. The default is [`DELAY`](Reader::DELAY). If the record is committed after that, it is
    /// delivered late. If it takes longer than the reader's [patience](Self::with_patience), and later records of its
    /// shard are present, it is lost.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        with_merge!(&mut self.order.merges, merge => merge.set_delay(nanoseconds(delay)));
        self
    }

    /// Sets the clock that programs stamp records with. The default is [`Clock::Monotonic`], which
    /// `bpf_ktime_get_ns()` reads.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.order.clock = clock;
        self
    }

    /// For a ring that nothing writes any more, such as a [copy](crate::Region::copy_ring), maybe of another machine: delivers
    /// all records at once, whatever this machine's clock says. Waits for no record that has not ended.
    #[must_use]
    pub fn of_the_past(mut self) -> Self {
        self.order.is_past = true;
        self.with_patience(Duration::ZERO)
    }

    /// Delivers the records of each shard in the order of their tickets, whatever their stamps. A record with an earlier
    /// stamp than the one before it then takes its place directly after that one.
    #[must_use]
    pub fn with_ticket_order(mut self) -> Self {
        with_merge!(&mut self.order.merges, merge => merge.keep_ticket_order());
        self
    }
}

/// The rest of a pass.
#[derive(Debug)]
pub struct Merging {
    left: usize,
    /// Whether its only round has begun.
    begun: bool,
}

#[allow(private_interfaces)]
impl<T: AnyBitPattern, F: FnMut(&T) -> u64> Order<T> for ByTime<T, F> {
    type Pass = Merging;

    #[inline(always)] // so that the record is copied once
    fn poll<R: InSlot<T>, B>(&mut self, rings: &mut Rings<T>, tail: B) -> Option<Event<R, B>> {
        let found =
            R::merge(&mut self.merges).is_ready() || self.has_next::<R>(rings) || self.round::<R>(rings);
        found.then(|| self.take(tail))?
    }

    #[inline(always)] // as if it were in its callers
    fn for_each<R: InSlot<T>>(
        &mut self,
        rings: &mut Rings<T>,
        limit: usize,
        mut f: impl FnMut(Event<&R>),
    ) -> usize {
        let limit = limit.min(most(rings));
        // A loop, not two calls: with these, all that `f` captures would be in memory.
        let (mut count, mut rounds) = (0, 0);
        loop {
            let Self { merges, stamp, numbers, .. } = self;
            let number = |at| numbers.get(at).copied().unwrap_or(at);
            let mut stamp = |held: &R| stamp(held.record());
            count += R::merge(merges).for_each(
                &mut Here(rings),
                &mut stamp,
                limit - count,
                |at, ticket, record| f(Event { shard: number(at), ticket, record, tail: () }),
            );
            if count == limit || rounds == 1 {
                return count;
            }
            self.round::<R>(rings);
            rounds += 1;
        }
    }

    fn begin_pass(&mut self, rings: &mut Rings<T>) -> Merging {
        Merging { left: most(rings), begun: false }
    }

    #[inline]
    fn next<R: InSlot<T>>(&mut self, rings: &mut Rings<T>, pass: &mut Merging) -> Option<Event<R>> {
        pass.left = pass.left.checked_sub(1)?;
        if !self.has_next::<R>(rings) {
            if std::mem::replace(&mut pass.begun, true) {
                pass.left = 0;
                return None;
            }
            self.round::<R>(rings);
        }
        self.take(())
    }

    fn wait(reader: &mut Reader<T, Self>, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        let mut nap = Reader::<T>::SETTLE;
        loop {
            let Reader { order, rings, .. } = reader;
            if order.is_ready(rings) {
                return Ok(true);
            }
            let rest = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(false);
            }
            if order.held() > 0 || reader.wait_for_unread(rest)? {
                // Their turn has not come. Or this ring is being replaced, and the next one is not there yet.
                thread::sleep(nap.min(rest));
                nap = (2 * nap).min(Reader::<T>::NAP);
            }
        }
    }

    fn arm(reader: &mut Reader<T, Self>) -> Option<Duration> {
        let Reader { order, rings, .. } = reader;
        if order.is_ready(rings) {
            return None;
        }
        if order.held() > 0 { Some(Reader::<T>::SETTLE) } else { reader.arm_bell(false) }
    }

    fn count(&self, stats: &mut ReadStats) {
        (stats.late, stats.ahead, stats.held) =
            with_merge!(&self.merges, merge => (merge.late(), merge.ahead(), merge.held()));
        stats.delivered = stats.delivered.wrapping_sub(stats.held);
    }
}

/// The most records of a pass: what the ring and the reader hold.
pub(super) fn most<T: AnyBitPattern>(rings: &Rings<T>) -> usize {
    let slots = rings.sweep.region().geometry().capacity();
    rings.sweep.count().saturating_mul(slots + 128)
}

impl<T: AnyBitPattern, F: FnMut(&T) -> u64> ByTime<T, F> {
    #[inline(always)]
    fn has_next<R: InSlot<T>>(&mut self, rings: &mut Rings<T>) -> bool {
        let Self { merges, stamp, .. } = self;
        R::merge(merges).has_next(&mut Here(rings), &mut |held: &R| stamp(held.record()))
    }

    #[inline(always)]
    fn take<R: InSlot<T>, B>(&mut self, tail: B) -> Option<Event<R, B>> {
        let (at, ticket, record) = R::merge(&mut self.merges).pop()?;
        let shard = self.numbers.get(at).copied().unwrap_or(at);
        Some(Event { shard, ticket, record: *record, tail })
    }

    /// What this ring delivers next, in this round or in the next one, which begins if nothing is left of this one.
    pub(super) fn turn<R: InSlot<T>>(&mut self, rings: &mut Rings<T>, begin: bool) -> Turn {
        if begin {
            self.round::<R>(rings);
        }
        let Self { merges, stamp, .. } = self;
        R::merge(merges).turn(&mut Here(rings), &mut |held: &R| stamp(held.record()))
    }

    /// See [`Merge::for_each_before`].
    #[inline]
    pub(super) fn for_each_before<R: InSlot<T>>(
        &mut self,
        rings: &mut Rings<T>,
        end: u64,
        limit: usize,
        last: &mut u64,
        mut f: impl FnMut(Event<&R>),
    ) -> usize {
        let Self { merges, stamp, numbers, .. } = self;
        let mut stamp = |held: &R| stamp(held.record());
        let each = |at, ticket, record: &R| {
            f(Event { shard: numbers.get(at).copied().unwrap_or(at), ticket, record, tail: () });
        };
        R::merge(merges).for_each_before(&mut Here(rings), &mut stamp, end, limit, last, each)
    }

    /// The records that are held.
    pub(super) fn held(&self) -> u64 {
        with_merge!(&self.merges, merge => merge.held())
    }

    fn is_ready(&mut self, rings: &mut Rings<T>) -> bool {
        match &self.merges {
            Merges::Plain(merge) => merge.is_ready() || self.round::<T>(rings),
            Merges::Tailed(merge) => merge.is_ready() || self.round::<Tailed<T>>(rings),
        }
    }

    /// Begins a round, in the next ring if this one was replaced and nothing of it is left to deliver. Returns whether there
    /// is a record to deliver.
    #[inline(never)]
    fn round<R: InSlot<T>>(&mut self, rings: &mut Rings<T>) -> bool {
        let Self { merges, stamp, clock, is_past, .. } = self;
        let merge = R::merge(merges);
        let mut stamp = |held: &R| stamp(held.record());
        for _ in 0..Rings::<T>::MOST {
            let now = clock.now();
            clock_fence();
            rings.sweep.begin_round(now, *clock);
            let now = if *is_past { u64::MAX } else { now };
            if merge.round(&mut Here(rings), now, &mut stamp) {
                return true;
            }
            if !rings.follow() {
                return false;
            }
        }
        false
    }
}

impl<T, F> fmt::Debug for ByTime<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByTime").field("clock", &self.clock).finish_non_exhaustive()
    }
}
