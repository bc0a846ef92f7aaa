//! Rings: every record in order, for any number of readers, with exact counts of what was lost.

#[cfg(feature = "bpf")]
mod nodes;
mod reader;
#[cfg(feature = "bpf")]
mod resize;
mod sweep;
mod writer;

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "bpf")]
use std::path::Path;

use bytemuck::{AnyBitPattern, NoUninit};

pub use self::reader::{Drain, Reader};
pub use self::writer::Writer;

#[cfg(feature = "bpf")]
use self::nodes::PerCpu;
#[cfg(feature = "bpf")]
use self::resize::Resizable;
use self::sweep::Sweep;
#[cfg(feature = "bpf")]
pub(crate) use self::{nodes::initialize as initialize_nodes, resize::initialize as initialize_resizable};
#[cfg(feature = "bpf")]
use crate::bpf::{MapLocator, PinOptions};
use crate::error::{Cause, Error, Result};
use crate::layout::{Geometry, Kind};
use crate::protocol::ring::{Place, Start};
use crate::record::{LayoutCheck, Record};
use crate::region::{Access, OpenOptions, Region, Source};

/// A ring of records of type `T`, with a shard for each CPU that writes.
///
/// Writers overwrite the oldest record and never wait; readers see every record that they are
/// fast enough for, whole, once, in order within its shard, and know exactly how many they missed.
/// Readers are independent of each other and have no effect on writers. Clones are handles to the same ring.
///
/// The macro that declares the ring in the BPF program decides where it is. [`open`](Self::open) finds that out:
///
/// | macro | memory |
/// |---|---|
/// | `MAPRING_RING` | one map |
/// | `MAPRING_RESIZABLE_RING` | a map in a map of maps: [`resize`](Self::resize) puts another one in its place, and readers follow |
/// | `MAPRING_NUMA_RING` | a map for each CPU, on the NUMA node of that CPU; [`reader_of_node`](Self::reader_of_node) reads those of one node |
pub struct Ring<T> {
    flavour: Flavour,
    record: PhantomData<fn() -> T>,
}

#[derive(Clone)]
enum Flavour {
    /// In one map or memfd.
    Plain(Region),
    /// In a map of maps, where another one can take its place.
    #[cfg(feature = "bpf")]
    Resizable(Resizable),
    /// In a map for each CPU.
    #[cfg(feature = "bpf")]
    PerCpu(PerCpu),
}

impl<T: Record> Ring<T> {
    /// Opens a ring for reading. The source of a resizable ring or a NUMA ring is the map of maps that programs reserve
    /// from. Of a NUMA ring it can also be the directory in which its maps are pinned. Compares the fields of the records
    /// with those of the C type, where the map has BTF that this process may read. Makes system calls; reading makes
    /// none if [`access`](Self::access) is mapped.
    ///
    /// # Errors
    /// As for [`OpenOptions::open`]; also [`Error::Kind`], [`Error::Layout`] and [`Error::RecordSize`]. For a NUMA ring
    /// [`Error::NotNuma`], and [`Error::Open`] before [`loader::initialize`](crate::loader::initialize).
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

/// The flavour of a ring in several maps, or the source of a ring in one.
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

    /// A ring over a region that is already open. The records are compared with `T` only if it was
    /// opened with [`OpenOptions::expect_record`]: this is the way for types that are not a [`Record`].
    ///
    /// # Errors
    /// [`Error::Kind`] and [`Error::RecordSize`], naming both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        Self::new(Flavour::Plain(region))
    }

    /// A NUMA ring over regions that are already open, each with the CPU that writes it: from file descriptors that came
    /// over a socket, or for types that are not a [`Record`]. Reads files of sysfs.
    ///
    /// # Errors
    /// [`Error::NotNuma`] for a region that is not the ring of one CPU, is not like the first one, or comes twice;
    /// [`Error::System`] without sysfs; [`Error::Kind`] and [`Error::RecordSize`].
    #[cfg(feature = "bpf")]
    pub fn from_regions(regions: impl IntoIterator<Item = (usize, Region)>) -> Result<Self> {
        Self::new(Flavour::PerCpu(PerCpu::new(regions)?))
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
        match &self.flavour {
            #[cfg(feature = "bpf")]
            Flavour::PerCpu(ring) => ring.regions().count(),
            _ => self.region().geometry().shards(),
        }
    }

    /// Slots a shard: how many records it holds before it overwrites the oldest.
    pub fn slots(&self) -> usize {
        self.region().geometry().capacity()
    }

    /// A reader that starts with the oldest records that are still there.
    pub fn reader(&self) -> Reader<T> {
        self.reader_from(Start::Oldest)
    }

    /// A reader that starts where `start` says, in each shard. Allocates; looks at a few slots.
    pub fn reader_from(&self, start: Start) -> Reader<T> {
        Reader::new(match &self.flavour {
            #[cfg(feature = "bpf")]
            Flavour::PerCpu(ring) => Sweep::new(ring.first(), ring.regions(), start),
            _ => Sweep::of(&self.region(), start),
        })
    }

    /// A reader of what the CPUs of one NUMA node write, that starts where `start` says: for a thread that runs on that
    /// node. On machines with one node this reads all shards.
    ///
    /// # Errors
    /// [`Error::Node`] for a node that does not exist, [`Error::NotNuma`] for a ring whose shards are not on nodes of their
    /// own.
    #[cfg(feature = "bpf")]
    pub fn reader_of_node(&self, node: usize, start: Start) -> Result<Reader<T>> {
        let Flavour::PerCpu(ring) = &self.flavour else { return Err(nodes::all_in_one(&self.region())) };
        Ok(Reader::new(Sweep::new(ring.first(), ring.regions_of(node)?, start)))
    }

    /// Puts a ring of `slots` slots (a power of two) for each CPU in the place of this one. Programs and readers go on
    /// meanwhile, and every record goes to one of the two. Makes system calls, and waits for an RCU grace period:
    /// milliseconds. Needs CAP_BPF to make the map and CAP_SYS_ADMIN to open maps by id. One process at a time may do this;
    /// within a process, calls wait for each other.
    ///
    /// The old ring goes when its last reader does. If this fails before the new ring is in use, nothing has changed. If
    /// only the pin cannot be replaced, the new ring is in use, and readers that opened the pin wait for the next resize.
    /// If the process dies in the midst of this, readers wait in the old ring until
    /// [`loader::initialize`](crate::loader::initialize) or the next resize finishes it.
    ///
    /// # Errors
    /// [`Error::NotResizable`] for other rings, [`Error::Geometry`], [`Error::NotWritable`], [`Error::System`].
    #[cfg(feature = "bpf")]
    pub fn resize(&self, slots: usize) -> Result<()> {
        match &self.flavour {
            Flavour::Resizable(ring) => ring.resize(slots),
            _ => Err(Error::from(Cause::NotResizable { what: self.region().what().to_owned() })),
        }
    }

    /// Pins the ring at `path` with this mode: a NUMA ring in a directory, which is made if it does not exist; of a
    /// resizable ring the map in use, and after each [`resize`](Self::resize) of this handle and its clones the new one in
    /// its place. See [`freeze_and_pin`](Self::freeze_and_pin) for readers without privilege. Makes system calls.
    ///
    /// # Errors
    /// [`Error::System`] if something is at `path`, or if it is not in a BPF file system.
    #[cfg(feature = "bpf")]
    pub fn pin(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        match &self.flavour {
            Flavour::Plain(region) => region.pin(path, mode),
            Flavour::Resizable(ring) => ring.pin(path, mode),
            Flavour::PerCpu(ring) => ring.pin_each(path, |region, path| region.pin(path, mode)),
        }
    }

    /// [`Region::freeze_and_pin`] for all maps of the ring: those of a NUMA ring in a directory, which is made if it does
    /// not exist. Other users need search permission on it. A resizable ring can not be resized any more after that.
    ///
    /// # Errors
    /// [`Error::UnprivilegedBpf`]; [`Error::Seal`] with what failed, and the remedy. Maps that were pinned before stay
    /// pinned.
    #[cfg(feature = "bpf")]
    pub fn freeze_and_pin(&self, path: impl AsRef<Path>, options: impl Into<PinOptions>) -> Result<()> {
        let (path, options) = (path.as_ref(), options.into());
        match &self.flavour {
            Flavour::PerCpu(ring) => ring.pin_each(path, |region, path| region.freeze_and_pin(path, options)),
            _ => self.region().freeze_and_pin(path, options),
        }
    }

    /// The ring that is now pinned where this one was opened, or in the map of maps, if that is another one:
    /// [`Region::replaced`]. For processes that outlive loaders. A resize is not that: readers follow it, and so does a
    /// resizable ring that was opened by its map of maps. Makes system calls.
    ///
    /// # Errors
    /// As there, and those of opening it.
    #[cfg(feature = "bpf")]
    pub fn replaced(&self) -> Result<Option<Self>> {
        match &self.flavour {
            Flavour::PerCpu(ring) => {
                ring.replaced()?.map(|ring| Self::new(Flavour::PerCpu(ring))).transpose()
            }
            _ => self.region().replaced()?.map(Self::from_region).transpose(),
        }
    }

    /// How reading goes: mapped, or by system calls and why, if for one shard alone.
    pub fn access(&self) -> Access {
        let mut all = self.regions().into_iter().map(|region| region.access());
        all.find(|access| *access != Access::Mapped).unwrap_or(Access::Mapped)
    }

    /// What the record type was compared with when this was opened: the fields of the C type,
    /// if the map has BTF that this process may read.
    pub fn layout_check(&self) -> LayoutCheck {
        self.region().layout_check::<T>()
    }
}

impl<T> Ring<T> {
    /// The region that holds the ring now; of a NUMA ring, that of the first CPU.
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
    /// A writer into one shard of a memfd that was made here or opened with
    /// [`OpenOptions::write`]. Only BPF programs write rings in BPF maps: their claims are
    /// made for the programs of one CPU.
    ///
    /// # Errors
    /// [`Error::ProgramsOnly`], [`Error::NotWritable`] with the reason, [`Error::Sealed`], [`Error::Index`].
    pub fn writer(&self, shard: usize) -> Result<Writer<T>> {
        let region = self.region();
        let count = region.geometry().shards();
        if shard >= count {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count }));
        }
        let place = Place::new(region.geometry(), shard);
        let shared = region.shared_mut()?;
        if region.identity().is_map() {
            return Err(Error::from(Cause::ProgramsOnly { what: region.what().to_owned() }));
        }
        Ok(Writer { shared, writer: region.count_writer(shard), place, record: PhantomData })
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

/// A record, and where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// The shard: for what BPF programs write, the CPU.
    pub shard: usize,
    /// The record's number in its shard, from 0.
    pub ticket: u64,
    /// The record.
    pub record: T,
}
