//! Writes a ring in a memfd from Rust.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;

use crate::error::Result;
use crate::protocol::ring::{Place, ShardMut, Slot};
use crate::region::{Region, SharedMut, Writer as Counted};

/// A producer in Rust, for one shard of a ring.
///
/// Any number of writers may write the same shard, from any thread or process: none waits for another. When two writers
/// meet, records may be dropped; they are counted.
pub struct Writer<T> {
    pub(super) shared: SharedMut,
    pub(super) writer: Counted,
    pub(super) place: Place,
    pub(super) record: PhantomData<fn(T)>,
}

impl<T: NoUninit> Writer<T> {
    /// Publishes a record and returns its ticket, or `None` if no slot was free and the record was dropped and counted.
    /// Makes no system call, never waits, takes a bounded number of steps.
    #[inline]
    pub fn push(&self, record: &T) -> Option<u64> {
        self.shard().push(record)
    }

    /// Claims a slot, to write its record and [commit](Slot::commit) it later: `None` if no slot was free,
    /// and the record is counted as dropped. Until then readers wait for it, or skip it. No system call, no
    /// waiting, a bounded number of steps.
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
        self.shard().reserve()
    }

    /// Ends the tickets of this shard that writers claimed and, because they died, never ended:
    /// as discarded, which readers pass over. Returns how many there were. Without it each costs its
    /// slot for good, and readers a lost ticket a lap. Looks at every slot; no system call. Other writers of
    /// the shard that this process makes meanwhile wait for it.
    ///
    /// To be called only while **no writer of this shard is alive** or in the middle of a record,
    /// in any other process: after all of them were seen to have ended, before new ones start. A record
    /// in progress would be ended under its writer, and its slot be written by two. (Readers may
    /// go on.) Whoever dies in here leaves the rest for the next call.
    ///
    /// # Errors
    /// [`Error::OtherWriters`](crate::Error::OtherWriters), if this process has any; then nothing is done.
    pub fn recover(&mut self) -> Result<usize> {
        let _alone = self.region().expect_alone(&self.writer, "shard")?;
        Ok(self.shard().recover())
    }

    #[inline]
    fn shard(&self) -> ShardMut<'_> {
        ShardMut::new(self.shared.words(), &self.place)
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
