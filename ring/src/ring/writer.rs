//! Writes a ring in a memfd from Rust.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;
use mapring_core::protocol::ring::tails::{Area, TailsMut};
use mapring_core::protocol::ring::{Dropped, Ended, MemfdReaders, ShardMut, ShardPlace, Slot};

use crate::abi::readers::ASLEEP;
use crate::error::Result;
use crate::region::{Region, SharedMut, Writer as Counted, wake};
use crate::time::Clock;

/// A producer in Rust, for one shard of a ring.
///
/// Any number of writers may write the same shard, from any thread or process: none waits for another. When two writers
/// meet, records may be dropped; they are counted.
///
/// In a ring that [wakes](super::MemfdOptions::wakeable) its readers, the end of a record makes one or two system calls if a
/// reader sleeps that is to be woken by it, and otherwise none. Nothing else here makes one.
pub struct Writer<T> {
    shared: SharedMut,
    writer: Counted,
    place: ShardPlace,
    /// Where the tails are, in a ring with tails.
    area: Option<Area>,
    readers: Option<Readers>,
    /// Whether it has neither.
    plain: bool,
    record: PhantomData<fn(T)>,
}

/// The readers that the writer knows, in a ring that wakes them.
struct Readers {
    ring: SharedMut,
    place: ShardPlace,
    table: SharedMut,
    shard: usize,
    /// Whether records are kept for those that are required.
    keeps: bool,
    ahead: u64,
}

impl Readers {
    #[inline]
    fn known(&self) -> MemfdReaders<'_> {
        MemfdReaders::new(self.table.words(), self.shard, self.ahead)
    }
}

impl Ended for Readers {
    #[inline]
    fn ended(&self, ticket: u64) {
        let asleep = self.known().to_wake(&ShardMut::new(self.ring.words(), &self.place), ticket);
        if asleep != 0 {
            wake(self.table.words(), ASLEEP, asleep);
        }
    }
}

impl<T: NoUninit> Writer<T> {
    /// A writer of this shard, which is in the region.
    pub(super) fn new(region: &Region, shard: usize) -> Result<Self> {
        let (geometry, shared) = (region.geometry(), region.shared_mut()?);
        let (place, area) = (ShardPlace::new(geometry, shard), Area::new(geometry, shard));
        let ahead = Clock::Monotonic.ahead().unwrap_or(0).cast_unsigned();
        let keeps = geometry.options().keeps_oldest();
        let readers = |table| Readers { ring: shared.clone(), place, table, shard, keeps, ahead };
        let wakes = geometry.options().wakes_readers();
        let readers = wakes.then(|| region.readers_in_memfd()).transpose()?.map(readers);
        let plain = area.is_none() && readers.is_none();
        let writer = region.count_writer(shard);
        Ok(Self { shared, writer, place, area, readers, plain, record: PhantomData })
    }

    /// Publishes a record and returns its ticket, or `None` if the record was dropped and counted: no slot was free, or, in a
    /// ring that keeps its oldest records, a required reader has not read the oldest one. Never waits, takes a bounded number
    /// of steps.
    #[inline]
    pub fn push(&self, record: &T) -> Option<u64> {
        // One branch for a ring without options.
        if self.plain { self.shard().push(record) } else { self.push_with_tail(record, &[]) }
    }

    /// The same with a tail: bytes beside the record. Also `None` if the ring has no space for the tail, or if the tail is longer
    /// than the longest (0 in a ring without `TAILS`). The record was then counted as dropped.
    #[inline(never)] // so that little code is left where records without options are pushed
    pub fn push_with_tail(&self, record: &T, tail: &[u8]) -> Option<u64> {
        let shard = self.shard();
        let ticket = if let Some(tails) = self.tails() {
            shard.push_with_tail(&tails, record, tail)?
        } else if tail.is_empty() {
            let mut slot = shard.reserve_before(self.keeping().as_ref()).ok()?;
            slot.write(record);
            slot.commit()?
        } else {
            shard.drop_one();
            return None;
        };
        if let Some(readers) = &self.readers {
            readers.ended(ticket);
        }
        Some(ticket)
    }

    /// Claims a slot, so that its record, and its tail in a ring with `TAILS`, are written and [committed](Slot::commit)
    /// later. Returns `None` if the record is dropped, as for [`push`](Self::push). Until the commit, readers wait for the
    /// slot, or skip it. Makes no system call, never waits, takes a bounded number of steps.
    ///
    /// ```
    /// let ring = mapring::Ring::<[u64; 2]>::create_memfd(8, 1)?; // slots, shards
    /// let writer = ring.writer(0)?;
    /// if let Some(mut slot) = writer.reserve() {
    ///     slot.write(&[slot.ticket(), 7]);
    ///     slot.commit(); // or `discard`, as does dropping it
    /// }
    /// assert_eq!(ring.reader().poll().unwrap().record, [0, 7]);
    /// # Ok::<(), mapring::Error>(())
    /// ```
    #[inline]
    pub fn reserve(&self) -> Option<Slot<'_, T>> {
        self.try_reserve().ok()
    }

    /// The same, with the reason if the record is dropped.
    ///
    /// # Errors
    /// [`Dropped::Full`] if a required reader has not read the oldest record. Otherwise writers are in the way.
    #[inline]
    pub fn try_reserve(&self) -> Result<Slot<'_, T>, Dropped> {
        if self.plain {
            return self.shard().reserve_before(None);
        }
        let slot = match self.tails() {
            Some(tails) => self.shard().reserve_with_tail(&tails)?,
            None => self.shard().reserve_before(self.keeping().as_ref())?,
        };
        Ok(slot.waking(self.readers.as_ref().map(|readers| readers as _)))
    }
}

impl<T> Writer<T> {
    /// Ends all tickets of this shard that writers claimed but never ended because they died. It ends them as
    /// discarded, so readers pass over them. Returns the number of these tickets. Without this call, each of them makes
    /// its slot unusable for good, and costs readers a lost ticket per lap. Loads every slot; makes no system call.
    /// Writers of the shard that this process creates meanwhile wait until it returns.
    ///
    /// Call it only while **no writer of this shard is alive** or in the middle of a record in any other process: after
    /// all of them have been seen to end, before new ones start. Otherwise it ends a record in progress, and two
    /// writers write its slot. (Readers may continue.) If the process dies in this call, the next call ends the
    /// remaining tickets.
    ///
    /// # Errors
    /// [`ErrorKind::OtherWriters`](crate::ErrorKind::OtherWriters) if this process has other writers of this shard;
    /// then nothing is done.
    pub fn recover(&mut self) -> Result<usize> {
        let _alone = self.region().expect_alone(&self.writer, "shard")?;
        if let Some(tails) = self.tails() {
            tails.recover();
        }
        Ok(self.shard().recover())
    }

    #[inline]
    fn shard(&self) -> ShardMut<'_> {
        ShardMut::new(self.shared.words(), &self.place)
    }

    #[inline]
    fn tails(&self) -> Option<TailsMut<'_>> {
        self.area.as_ref().map(|area| TailsMut::new(self.shared.words(), area))
    }

    /// The readers for which records are kept.
    #[inline]
    fn keeping(&self) -> Option<MemfdReaders<'_>> {
        self.readers.as_ref().filter(|readers| readers.keeps).map(Readers::known)
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("place", &self.place).finish_non_exhaustive()
    }
}
