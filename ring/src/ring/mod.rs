//! Rings: every record in order, for any number of readers, with exact counts of the records lost.

mod backing;
mod bell;
mod by_time;
mod event;
mod in_slot;
mod memfd;
mod merged;
mod merges;
mod order;
mod reader;
mod readers;
mod rings;
mod seat;
#[cfg(feature = "tokio")]
mod stream;
mod sweep;
mod tails;
mod unended;
mod writer;

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{AnyBitPattern, NoUninit};

pub use self::by_time::ByTime;
pub use self::event::Event;
pub use self::memfd::MemfdOptions;
pub use self::merged::Merged;
pub use self::order::{ByShard, Order};
pub use self::reader::{AnyReader, Drain, Liveness, Reader};
pub use self::readers::{Behind, RingReader};
#[cfg(feature = "tokio")]
pub use self::stream::Events;
pub use self::unended::Unended;
pub use self::writer::Writer;

use self::backing::Backing;
pub(crate) use self::backing::initialize;
pub(crate) use self::backing::pin_of;
use crate::abi::{Kind, RingOptions};
use crate::access::Access;
use crate::error::{Cause, Error, Result};
use crate::record::{LayoutCheck, Record};
use crate::region::{OpenOptions, Region, Source};
use mapring_core::protocol::ring::Start;

/// A ring of records of type `T`, with a shard for each CPU that writes.
///
/// Writers overwrite the oldest record and never wait. A reader that is fast enough gets every record whole, once, in
/// order within its shard, and counts exactly how many it missed. Readers are independent of each other and have no
/// effect on writers. Clones are handles to the same ring.
///
/// The options with which `MAPRING_RING` declares the ring in the BPF program decide where its memory is, and what programs do
/// for readers. [`open`](Self::open) finds it, and [`options`](Self::options) says what it has:
///
/// | option | |
/// |---|---|
/// | none | one map |
/// | `WAKEABLE` | two more maps, by which programs wake readers that [`wait`](Reader::wait) |
/// | `KEEP_OLDEST` | the same; programs drop new records rather than overwrite what a reader has not read, if it is [required](Reader::require) |
/// | `TAILS` | records with bytes of any length: [`Event::tail`] |
/// | `PER_CPU_MAPS` | a map for each CPU that is online, on the NUMA node of that CPU; [`reader_of_node`](Self::reader_of_node) reads the maps of one node |
/// | `RESIZABLE` | a map in a map of maps: [`resize`](Self::resize) replaces it by another one, and readers continue there |
///
/// A ring in a memfd has its options from [`create_memfd_with`](Self::create_memfd_with). The records of all of them can have several
/// types: [`Tagged`](type@crate::Tagged).
pub struct Ring<T> {
    backing: Backing,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Ring<T> {
    /// Opens a ring for reading. The source of a resizable ring or a `PER_CPU_MAPS` ring is the map of maps from which programs
    /// reserve records. For a `PER_CPU_MAPS` ring it can also be the directory in which its maps are pinned. Compares the fields
    /// of the records with those of the C type, if the map has BTF that this process may read. Makes system calls;
    /// reading makes none if [`access`](Self::access) is mapped.
    ///
    /// # Errors
    /// As for [`OpenOptions::open`]; also [`ErrorKind::WrongType`](crate::ErrorKind::WrongType),
    /// [`ErrorKind::Layout`](crate::ErrorKind::Layout). Of a `PER_CPU_MAPS` ring [`ErrorKind::Open`](crate::ErrorKind::Open)
    /// if `mapring_loader::initialize` was not called yet.
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        Self::open_with(source, OpenOptions::new())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(source: impl Into<Source>, options: OpenOptions) -> Result<Self> {
        let options = options.record_of::<T>(Kind::Ring);
        Self::new(Backing::open(source.into(), options)?)
    }
}

impl<T: AnyBitPattern> Ring<T> {
    fn new(backing: Backing) -> Result<Self> {
        let ring = Self { backing, record: PhantomData };
        ring.region().expect_record::<T>(Kind::Ring)?;
        Ok(ring)
    }

    /// A ring over a region that is already open. The records are compared with `T` only if the region was opened with
    /// [`OpenOptions::expect_record`]. Use this function for types that are not a [`Record`].
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) and [`ErrorKind::Layout`](crate::ErrorKind::Layout), with
    /// both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        Self::new(Backing::OneMap(region))
    }

    /// Creates a ring between ordinary processes in a memfd: `shards` shards with `slots` slots (a power of two) each.
    /// See [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that no ring can have,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(slots: usize, shards: usize) -> Result<Self> {
        Self::create_memfd_with(slots, shards, MemfdOptions::default())
    }

    /// The number of shards: the possible CPUs, if BPF programs write the ring.
    pub fn shards(&self) -> usize {
        self.numbered().iter().map(|(_, region)| region.geometry().shards()).sum()
    }

    /// The number of slots per shard: how many records it holds before writers overwrite the oldest.
    pub fn slots(&self) -> usize {
        self.region().geometry().capacity()
    }

    /// A reader that starts with the oldest records that are still present.
    pub fn reader(&self) -> Reader<T> {
        self.reader_from(Start::Oldest)
    }

    /// A reader that starts at `start` in each shard. Allocates; loads a few slots.
    pub fn reader_from(&self, start: Start) -> Reader<T> {
        let regions = self.numbered();
        Reader::new(&regions[0].1, regions.iter().map(|(shard, region)| (*shard, region)), start)
    }

    /// The options of the ring: what it can do beyond what every ring does.
    pub fn options(&self) -> RingOptions {
        self.region().geometry().options()
    }

    /// How the ring is read: mapped, or by system calls and why, even if only one shard needs them.
    pub fn access(&self) -> Access {
        let mut all = self.regions().into_iter().map(|region| region.access());
        all.find(|access| *access != Access::Mapped).unwrap_or(Access::Mapped)
    }

    /// Whether the record type was compared field by field with the C type when the ring was opened, or only by size,
    /// and why.
    pub fn layout_check(&self) -> LayoutCheck {
        self.region().layout_check::<T>()
    }
}

impl<T> Ring<T> {
    /// The region that holds the ring now; for a `PER_CPU_MAPS` ring, the first CPU's region.
    pub fn region(&self) -> Region {
        self.backing.first()
    }

    /// The regions that hold the ring now: one, or one for each possible CPU of a `PER_CPU_MAPS` ring, in the order of CPUs.
    pub fn regions(&self) -> Vec<Region> {
        self.numbered().into_iter().map(|(_, region)| region).collect()
    }

    /// The same, each with the number of its first shard.
    fn numbered(&self) -> Vec<(usize, Region)> {
        self.backing.regions()
    }
}

impl<T: NoUninit> Ring<T> {
    /// A writer into one shard of a memfd that this process created or opened with [`OpenOptions::write`]. Only BPF
    /// programs may write rings in BPF maps: all writers of a shard must run on one CPU.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange);
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for options that no ring in a memfd can have.
    pub fn writer(&self, shard: usize) -> Result<Writer<T>> {
        let region = self.region();
        let count = region.geometry().shards();
        if shard >= count {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count }));
        }
        region.writable().map_err(|refusal| Error::not_writable(region.what(), refusal))?;
        if region.identity().is_map() {
            return Err(Error::from(Cause::ProgramsOnly { what: region.what().to_owned() }));
        }
        region.expect_options_of_memfd()?;
        Writer::new(&region, shard)
    }
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self { backing: self.backing.clone(), record: PhantomData }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions()).finish()
    }
}
