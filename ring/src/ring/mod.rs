//! Rings: every record in order, for any number of readers, with exact counts of the records lost.

#[cfg(feature = "bpf")]
mod nodes;
mod reader;
#[cfg(feature = "bpf")]
mod resize;
mod sweep;
mod tails;
mod writer;

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "bpf")]
use std::path::Path;

use bytemuck::{AnyBitPattern, NoUninit};

pub use self::reader::{Drain, Reader};
pub use self::tails::Tailed;
pub use self::writer::Writer;

#[cfg(feature = "bpf")]
use self::nodes::PerCpu;
#[cfg(feature = "bpf")]
use self::resize::Resizable;
use self::sweep::Sweep;
#[cfg(feature = "bpf")]
pub(crate) use self::{nodes::initialize as initialize_nodes, resize::initialize as initialize_resizable};
use crate::abi::{Geometry, Kind};
#[cfg(feature = "bpf")]
use crate::bpf::{MapLocator, PinOptions};
use crate::error::{Cause, Error, Result};
use crate::protocol::ring::Start;
use crate::record::{LayoutCheck, Record};
use crate::region::{Access, OpenOptions, Region, Source};

/// A ring of records of type `T`, with a shard for each CPU that writes.
///
/// Writers overwrite the oldest record and never wait. A reader that is fast enough gets every record whole, once, in
/// order within its shard, and counts exactly how many it missed. Readers are independent of each other and have no
/// effect on writers. Clones are handles to the same ring.
///
/// The macro that declares the ring in the BPF program decides where its memory is. [`open`](Self::open) finds it:
///
/// | macro | memory |
/// |---|---|
/// | `MAPRING_RING` | one map |
/// | `MAPRING_RESIZABLE_RING` | a map in a map of maps: [`resize`](Self::resize) replaces it by another one, and readers continue there |
/// | `MAPRING_RING_WITH_TAILS` | one map, for records with bytes of any length: [`Tailed`] |
/// | `MAPRING_NUMA_RING` | a map for each CPU, on the NUMA node of that CPU; [`reader_of_node`](Self::reader_of_node) reads the maps of one node |
pub struct Ring<T> {
    flavour: Flavour,
    record: PhantomData<fn() -> T>,
}

#[derive(Clone)]
enum Flavour {
    /// In one map or memfd.
    Plain(Region),
    /// In a map of maps, where another one can replace it.
    #[cfg(feature = "bpf")]
    Resizable(Resizable),
    /// In a map for each CPU.
    #[cfg(feature = "bpf")]
    PerCpu(PerCpu),
}

impl<T: Record> Ring<T> {
    /// Opens a ring for reading. The source of a resizable ring or a NUMA ring is the map of maps from which programs
    /// reserve records. For a NUMA ring it can also be the directory in which its maps are pinned. Compares the fields
    /// of the records with those of the C type, if the map has BTF that this process may read. Makes system calls;
    /// reading makes none if [`access`](Self::access) is mapped.
    ///
    /// # Errors
    /// As for [`OpenOptions::open`]; also [`ErrorKind::WrongType`](crate::ErrorKind::WrongType),
    /// [`ErrorKind::Layout`](crate::ErrorKind::Layout). Of a NUMA ring [`ErrorKind::Open`](crate::ErrorKind::Open)
    /// if [`loader::initialize`](crate::loader::initialize) was not called yet.
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        Self::open_with(source, OpenOptions::new())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(source: impl Into<Source>, options: OpenOptions) -> Result<Self> {
        let options = options.record_of::<T>(Kind::Ring);
        let source = source.into();
        #[cfg(feature = "bpf")]
        let source = match flavour(source, options)? {
            Ok(flavour) => return Self::new(flavour),
            Err(source) => source,
        };
        Self::from_region(options.open(source)?)
    }
}

/// The flavour of a ring in several maps, or the source if the ring is in one map.
#[cfg(feature = "bpf")]
fn flavour(source: Source, options: OpenOptions) -> Result<Result<Flavour, Source>> {
    if let Some(dir) = source.directory() {
        return PerCpu::pinned(dir, options).map(|ring| Ok(Flavour::PerCpu(ring)));
    }
    let maps = match source.array_of_maps()? {
        Ok(maps) => maps,
        Err(source) => return Ok(Err(source)),
    };
    let first = options.find(MapLocator::Inner(maps.clone()))?;
    let geometry = first.geometry();
    if geometry.is_of_cpu() {
        return PerCpu::open(&maps, options).map(|ring| Ok(Flavour::PerCpu(ring)));
    }
    if geometry.is_resizable() {
        return Ok(Ok(Flavour::Resizable(Resizable::new(maps, first, options))));
    }
    Err(maps.holds_no_ring())
}

impl<T: AnyBitPattern> Ring<T> {
    fn new(flavour: Flavour) -> Result<Self> {
        let ring = Self { flavour, record: PhantomData };
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
        Self::new(Flavour::Plain(region))
    }

    /// A NUMA ring over regions that are already open, each with the CPU that writes it: from file descriptors received
    /// through a socket, or for types that are not a [`Record`]. Reads files of sysfs.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a region that is not the ring of one CPU, differs from
    /// the first one, or comes twice; [`ErrorKind::System`](crate::ErrorKind::System) without sysfs;
    /// [`ErrorKind::Layout`](crate::ErrorKind::Layout).
    #[cfg(feature = "bpf")]
    pub fn from_regions(regions: impl IntoIterator<Item = (usize, Region)>) -> Result<Self> {
        Self::new(Flavour::PerCpu(PerCpu::new(regions)?))
    }

    /// Creates a ring between ordinary processes in a memfd: `shards` shards with `slots` slots (a power of two) each.
    /// See [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that no ring can have,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(slots: usize, shards: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::Ring, size_of::<T>() as u64, slots as u64, shards as u64)?;
        Self::from_region(Region::create_memfd(geometry, std::any::type_name::<T>())?)
    }

    /// The number of shards: the possible CPUs, if BPF programs write the ring.
    pub fn shards(&self) -> usize {
        match &self.flavour {
            #[cfg(feature = "bpf")]
            Flavour::PerCpu(ring) => ring.regions().count(),
            _ => self.region().geometry().shards(),
        }
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
        Reader::new(match &self.flavour {
            #[cfg(feature = "bpf")]
            Flavour::PerCpu(ring) => Sweep::new(ring.first(), ring.regions(), start),
            _ => Sweep::of(&self.region(), start),
        })
    }

    /// A reader of the records that the CPUs of one NUMA node write, starting at `start`: for a thread that runs on
    /// that node. On machines with one node this reads all shards.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a node that does not exist,
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a ring that is not a NUMA ring.
    #[cfg(feature = "bpf")]
    pub fn reader_of_node(&self, node: usize, start: Start) -> Result<Reader<T>> {
        let Flavour::PerCpu(ring) = &self.flavour else { return Err(nodes::all_in_one(&self.region())) };
        Ok(Reader::new(Sweep::new(ring.first(), ring.regions_of(node)?, start)))
    }

    /// Replaces this ring by one with `slots` slots (a power of two) for each CPU. Programs and readers continue
    /// meanwhile, and every record goes to one of the two rings. Makes system calls, and waits for an RCU grace period:
    /// milliseconds. Needs CAP_BPF to create the map and CAP_SYS_ADMIN to open maps by id. Only one process at a time
    /// may do this; within a process, calls wait for each other.
    ///
    /// The kernel frees the old ring when its last reader closes it. If this fails before the new ring is in use,
    /// nothing has changed. If only the pin can't be replaced, the new ring is in use, and readers that opened the pin
    /// wait for the next resize. If the process dies in this call, readers wait in the old ring until
    /// [`loader::initialize`](crate::loader::initialize) or the next resize finishes it.
    ///
    /// # Errors
    /// [`ErrorKind::NotResizable`](crate::ErrorKind::NotResizable) for other rings,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape), [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable),
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    #[cfg(feature = "bpf")]
    pub fn resize(&self, slots: usize) -> Result<()> {
        match &self.flavour {
            Flavour::Resizable(ring) => ring.resize(slots),
            _ => Err(Error::from(Cause::NotResizable { what: self.region().what().to_owned() })),
        }
    }

    /// Pins the ring at `path` with this mode. A NUMA ring is pinned in a directory, which is created if it does not
    /// exist. Of a resizable ring this pins the map in use. After each [`resize`](Self::resize) of this handle and its
    /// clones, the new map replaces the old one at the pin. See [`freeze_and_pin`](Self::freeze_and_pin) for readers
    /// without privilege. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) if `path` exists, or is not in a BPF file system.
    #[cfg(feature = "bpf")]
    pub fn pin(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        match &self.flavour {
            Flavour::Plain(region) => region.pin(path, mode),
            Flavour::Resizable(ring) => ring.pin(path, mode),
            Flavour::PerCpu(ring) => ring.pin_each(path, |region, path| region.pin(path, mode)),
        }
    }

    /// [`Region::freeze_and_pin`] for all maps of the ring. The maps of a NUMA ring are pinned in a directory, which is
    /// created if it does not exist. Other users need search permission on it. After that, a resizable ring can no
    /// longer be resized.
    ///
    /// # Errors
    /// [`ErrorKind::CannotSeal`](crate::ErrorKind::CannotSeal) with the step that failed, and the remedy. Maps that were
    /// pinned before stay pinned.
    #[cfg(feature = "bpf")]
    pub fn freeze_and_pin(&self, path: impl AsRef<Path>, options: impl Into<PinOptions>) -> Result<()> {
        let (path, options) = (path.as_ref(), options.into());
        match &self.flavour {
            Flavour::PerCpu(ring) => ring.pin_each(path, |region, path| region.freeze_and_pin(path, options)),
            _ => self.region().freeze_and_pin(path, options),
        }
    }

    /// The ring that is now pinned where this one was opened, or is now in its map of maps, if it is another one: see
    /// [`Region::replaced`]. For processes that live longer than loaders. A resize does not count: readers continue in
    /// the new ring, and so does a resizable ring that was opened by its map of maps. Makes system calls.
    ///
    /// # Errors
    /// As for [`Region::replaced`] and [`open`](Self::open).
    #[cfg(feature = "bpf")]
    pub fn replaced(&self) -> Result<Option<Self>> {
        match &self.flavour {
            Flavour::PerCpu(ring) => {
                ring.replaced()?.map(|ring| Self::new(Flavour::PerCpu(ring))).transpose()
            }
            _ => self.region().replaced()?.map(Self::from_region).transpose(),
        }
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
    /// The region that holds the ring now; for a NUMA ring, the first CPU's region.
    pub fn region(&self) -> Region {
        match &self.flavour {
            Flavour::Plain(region) => region.clone(),
            #[cfg(feature = "bpf")]
            Flavour::Resizable(ring) => ring.region(),
            #[cfg(feature = "bpf")]
            Flavour::PerCpu(ring) => ring.first().clone(),
        }
    }

    /// The regions that hold the ring now: one, or one for each possible CPU of a NUMA ring, in the order of CPUs.
    pub fn regions(&self) -> Vec<Region> {
        match &self.flavour {
            #[cfg(feature = "bpf")]
            Flavour::PerCpu(ring) => ring.regions().map(|(_, region)| region.clone()).collect(),
            _ => vec![self.region()],
        }
    }
}

impl<T: NoUninit> Ring<T> {
    /// A writer into one shard of a memfd that this process created or opened with [`OpenOptions::write`]. Only BPF
    /// programs may write rings in BPF maps: all writers of a shard must run on one CPU.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    pub fn writer(&self, shard: usize) -> Result<Writer<T>> {
        self.any_writer(shard)
    }
}

impl<T> Ring<T> {
    fn any_writer(&self, shard: usize) -> Result<Writer<T>> {
        let region = self.region();
        let count = region.geometry().shards();
        if shard >= count {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count }));
        }
        let (place, area) = tails::places(&region, shard);
        let shared = region.shared_mut()?;
        if region.identity().is_map() {
            return Err(Error::from(Cause::ProgramsOnly { what: region.what().to_owned() }));
        }
        Ok(Writer { shared, writer: region.count_writer(shard), place, area, record: PhantomData })
    }
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self { flavour: self.flavour.clone(), record: PhantomData }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions()).finish()
    }
}

/// A record with its shard and ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// The shard: the CPU, if BPF programs write the ring.
    pub shard: usize,
    /// The record's number in its shard, from 0.
    pub ticket: u64,
    /// The record.
    pub record: T,
}
