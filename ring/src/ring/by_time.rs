//! Delivers the records of all shards in the order of their timestamps.

use std::fmt;

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{Found, ReadStats, Shards, Turn, clock_fence};

#[cfg(doc)]
use super::Reader;
#[cfg(doc)]
use mapring_core::protocol::ring::Merge;

use super::event::Event;
use super::in_slot::InSlot;
use super::merges::Merges;
use super::order::Order;
use super::rings::Rings;
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
    pub(super) merges: Merges<T>,
    /// The numbers of the shards, for [`Event::shard`]. Only resizable rings change, and theirs are in order.
    numbers: Box<[usize]>,
    stamp: F,
    pub(super) clock: Clock,
    /// Nothing writes the ring any more.
    pub(super) is_past: bool,
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

impl<T: AnyBitPattern, F> ByTime<T, F> {
    /// For the shards with these numbers. See [`Merge::new`] for the times.
    pub(super) fn new(numbers: Box<[usize]>, has_tails: bool, delay: u64, settle: u64, stamp: F) -> Self {
        let merges = Merges::new(numbers.len(), has_tails, delay, settle);
        let _ = Clock::default().now(); // reads the time namespace, so that no later call does
        Self { merges, numbers, stamp, clock: Clock::default(), is_past: false }
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

    fn is_ready(&mut self, rings: &mut Rings<T>) -> Option<bool> {
        let is_ready = self.merges.is_ready()
            || match &self.merges {
                Merges::Plain(_) => self.round::<T>(rings),
                Merges::Tailed(_) => self.round::<Tailed<T>>(rings),
            };
        Some(is_ready)
    }

    fn held(&self) -> u64 {
        self.merges.held()
    }

    fn count(&self, stats: &mut ReadStats) {
        self.merges.count(stats);
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
