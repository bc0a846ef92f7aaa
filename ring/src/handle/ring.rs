//! Rings: every record in order, for any number of readers, with exact counts of what was lost.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{AnyBitPattern, NoUninit};

use super::{Reader, openers};
use crate::error::{Error, Result};
use crate::layout::{Geometry, Kind};
use crate::protocol::ring::{Place, ShardMut, Slot, Start};
use crate::region::{Region, SharedMut, Writer};

/// A ring of records of type `T`, with a shard for each CPU that writes.
///
/// Writers overwrite the oldest record and never wait; readers see every record that they are
/// fast enough for, whole, once, in order within its shard, and know exactly how many they missed.
/// Readers are independent of each other and have no effect on writers.
pub struct Ring<T> {
    region: Region,
    record: PhantomData<fn() -> T>,
}

openers!([] Ring<T>, T, Kind::Ring);

impl<T: AnyBitPattern> Ring<T> {
    /// A ring over a region that is already open. The records are compared with `T` only if it was
    /// opened with [`Options::record`](crate::Options::record): this is the way for types that are no
    /// [`Record`](crate::Record), and with that, for options.
    ///
    /// # Errors
    /// [`Error::Kind`] and [`Error::RecordSize`], naming both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect_record::<T>(Kind::Ring)?;
        Ok(Self { region, record: PhantomData })
    }

    /// Makes a ring between ordinary processes, of `shards` shards with `slots` slots (a power of
    /// two) each, in a memfd. See [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`Error::Geometry`] for numbers that can't be, [`Error::System`].
    pub fn create_memfd(slots: usize, shards: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::Ring, size_of::<T>() as u64, slots as u64, shards as u64)?;
        Self::from_region(Region::create_memfd(geometry, std::any::type_name::<T>())?)
    }

    /// Shards: possible CPUs, for what BPF programs write.
    pub fn shards(&self) -> usize {
        self.region.geometry().shards()
    }

    /// Slots a shard: how many records it holds before it overwrites the oldest.
    pub fn slots(&self) -> usize {
        self.region.geometry().capacity()
    }

    /// A reader that starts with the oldest records that are still there.
    pub fn reader(&self) -> Reader<T> {
        self.reader_from(Start::Oldest)
    }

    /// A reader that starts where `start` says, in each shard. Allocates; looks at a few slots.
    pub fn reader_from(&self, start: Start) -> Reader<T> {
        Reader::new(&self.region, start)
    }
}

impl<T: NoUninit> Ring<T> {
    /// A writer into one shard of a memfd that was made here or opened with
    /// [`Options::write`](crate::Options::write). Only BPF programs write rings in BPF maps: their claims are
    /// made for the programs of one CPU.
    ///
    /// # Errors
    /// [`Error::ProgramsOnly`], [`Error::NotWritable`] with the reason, [`Error::Sealed`], [`Error::Index`].
    pub fn writer(&self, shard: usize) -> Result<RingWriter<T>> {
        let count = self.region.geometry().shards();
        if shard >= count {
            return Err(Error::Index { thing: "shard", index: shard, count });
        }
        let place = Place::new(self.region.geometry(), shard);
        let shared = self.region.shared_mut()?;
        if self.region.identity().is_map() {
            return Err(Error::ProgramsOnly { what: self.region.what().to_owned() });
        }
        Ok(RingWriter { shared, writer: self.region.count_writer(shard), place, record: PhantomData })
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ring").field(&self.region).finish()
    }
}

/// A record, and where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// The shard: for what BPF programs write, the CPU.
    pub cpu: usize,
    /// The record's number in its shard, from 0.
    pub ticket: u64,
    /// The record.
    pub record: T,
}

/// A producer in ordinary Rust, into one shard of a ring.
///
/// Any number of them may write the same shard, from any thread or process: none waits for
/// another. Where two meet, records may be dropped, and are counted.
pub struct RingWriter<T> {
    shared: SharedMut,
    writer: Writer,
    place: Place,
    record: PhantomData<fn(T)>,
}

impl<T: NoUninit> RingWriter<T> {
    /// Publishes a record: its ticket, or `None` if no slot was free and it was dropped, and
    /// counted. No system call, no waiting, a bounded number of steps.
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
    /// [`Error::OtherWriters`], if this process has any; then nothing is done.
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

impl<T> fmt::Debug for RingWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingWriter").field("place", &self.place).finish_non_exhaustive()
    }
}
