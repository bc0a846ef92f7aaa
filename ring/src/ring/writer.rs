//! Writes a ring in a memfd from Rust.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;

use crate::error::Result;
use crate::protocol::ring::tails::{Area, TailsMut};
use crate::protocol::ring::{ShardMut, ShardPlace, Slot};
use crate::region::{Region, SharedMut, Writer as Counted};

/// A producer in Rust, for one shard of a ring.
///
/// Any number of writers may write the same shard, from any thread or process: none waits for another. When two writers
/// meet, records may be dropped; they are counted.
pub struct Writer<T> {
    pub(super) shared: SharedMut,
    pub(super) writer: Counted,
    pub(super) place: ShardPlace,
    /// Where the tails are, in a ring with tails.
    pub(super) area: Option<Area>,
    pub(super) record: PhantomData<fn(T)>,
}

impl<T: NoUninit> Writer<T> {
    /// Publishes a record and returns its ticket, or `None` if no slot was free and the record was dropped and counted.
    /// Makes no system call, never waits, takes a bounded number of steps.
    #[inline]
    pub fn push(&self, record: &T) -> Option<u64> {
        match self.tails() {
            Some(tails) => self.shard().push_with_tail(&tails, record, &[]),
            None => self.shard().push(record),
        }
    }

    /// The same with a tail: bytes beside the record. Also `None` if the ring has no space for the tail, or if the tail is longer
    /// than the longest (0 in a ring without `TAILS`). The record was then counted as dropped.
    #[inline]
    pub fn push_with_tail(&self, record: &T, tail: &[u8]) -> Option<u64> {
        match self.tails() {
            Some(tails) => self.shard().push_with_tail(&tails, record, tail),
            None if tail.is_empty() => self.shard().push(record),
            None => self.shard().drop_one(),
        }
    }

    /// Claims a slot, so that its record, and its tail in a ring with `TAILS`, are written and [committed](Slot::commit) later. Returns `None` if no slot was
    /// free; the record is then counted as dropped. Until the commit, readers wait for the slot, or skip it. Makes no
    /// system call, never waits, takes a bounded number of steps.
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
        match self.tails() {
            Some(tails) => self.shard().reserve_with_tail(&tails),
            None => self.shard().reserve(),
        }
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
