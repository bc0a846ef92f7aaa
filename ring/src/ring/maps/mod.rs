//! Rings in several maps: resizable rings and `PER_CPU_MAPS` rings.

mod nodes;
mod resize;

use bytemuck::AnyBitPattern;

use self::nodes::PerCpu;
pub(crate) use self::nodes::pin_of;
use self::resize::Resizable;
use super::{Flavour, Reader, Ring};
use crate::bpf::{MapLocator, MapOfMaps};
use crate::error::{Cause, Error, Result};
use crate::region::maps::{pinning, publish};
use crate::region::{OpenOptions, Region, Source};
use mapring_core::protocol::ring::Start;

/// The maps of a ring.
#[derive(Clone)]
pub(super) enum Maps {
    /// In a map of maps, where another one can replace it.
    Resizable(Resizable),
    /// In a map for each CPU.
    PerCpu(PerCpu),
}

impl Maps {
    /// The ring in several maps, or the source if the ring is in one map.
    pub(super) fn open(source: Source, options: OpenOptions) -> Result<Result<Self, Source>> {
        if let Some(dir) = source.directory() {
            return PerCpu::pinned(dir, options).map(Self::PerCpu).map(Ok);
        }
        let maps = match source.array_of_maps()? {
            Ok(maps) => maps,
            Err(source) => return Ok(Err(source)),
        };
        Ok(Ok(match Held::find(&maps, options)? {
            Held::Resizable(ring) => Self::Resizable(Resizable::new(maps.without_object(), ring, options)),
            Held::PerCpu => Self::PerCpu(PerCpu::open(&maps, options)?),
        }))
    }

    /// The region that holds the ring now; for a `PER_CPU_MAPS` ring, the first CPU's region.
    pub(super) fn first(&self) -> Region {
        match self {
            Self::Resizable(ring) => ring.region(),
            Self::PerCpu(ring) => ring.first().clone(),
        }
    }

    /// The regions that hold the ring now, each with the number of its first shard.
    pub(super) fn regions(&self) -> Vec<(usize, Region)> {
        match self {
            Self::Resizable(ring) => vec![(0, ring.region())],
            Self::PerCpu(ring) => ring.regions().map(|(cpu, region)| (cpu, region.clone())).collect(),
        }
    }
}

/// The ring that an array of maps holds.
enum Held {
    /// A resizable ring, now in this region.
    Resizable(Region),
    /// A `PER_CPU_MAPS` ring.
    PerCpu,
}

impl Held {
    fn find(maps: &MapOfMaps, options: OpenOptions) -> Result<Self> {
        let first = options.find(MapLocator::Inner(maps.clone()))?;
        if first.geometry().options().has_per_cpu_maps() {
            Ok(Self::PerCpu)
        } else if first.geometry().options().is_resizable() {
            Ok(Self::Resizable(first))
        } else {
            Err(maps.holds_no_ring())
        }
    }
}

/// Lets programs write to all of the ring in `maps`: see [`loader::initialize_map`](crate::loader::initialize_map).
pub(crate) fn initialize(maps: &MapOfMaps) -> Result<()> {
    match Held::find(maps, OpenOptions::new())? {
        Held::Resizable(_) => resize::initialize(maps),
        Held::PerCpu => nodes::initialize(maps),
    }
}

pinning!(
    [T] Ring<T>,
    "A `PER_CPU_MAPS` ring is pinned in a directory, which is created if it does not exist: others need search permission on it. Of a \
     resizable ring this pins the map in use. After each [`resize`](Self::resize) of this handle and its clones, the new map \
     replaces the old one at the pin. Of a ring that wakes readers or keeps its oldest records, this also pins the maps of \
     its readers and bells, as `PATH__readers` and `PATH__bells`.",
    "After that, a resizable ring can no longer be resized. The readers and bells of a ring are not frozen: each process \
     that can open the pin `PATH__readers` for writing can be a required reader.",
    |ring, path, how| match &ring.flavour {
        Flavour::Plain(region) => publish(&[(None, region)], path, how),
        Flavour::Maps(Maps::Resizable(ring)) => ring.publish(path, how),
        Flavour::Maps(Maps::PerCpu(ring)) => publish(&ring.pins(), path, how),
    }
);

impl<T: AnyBitPattern> Ring<T> {
    /// A `PER_CPU_MAPS` ring over regions that are already open, each with the CPU that writes it: from file descriptors received
    /// through a socket, or for types that are not a [`Record`](crate::Record). Reads files of sysfs.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a region that is not the ring of one CPU, differs from
    /// the first one, or comes twice; [`ErrorKind::System`](crate::ErrorKind::System) without sysfs;
    /// [`ErrorKind::Layout`](crate::ErrorKind::Layout).
    pub fn from_regions(regions: impl IntoIterator<Item = (usize, Region)>) -> Result<Self> {
        Self::new(Flavour::Maps(Maps::PerCpu(PerCpu::new(regions)?)))
    }

    /// A reader of the records that the CPUs of one NUMA node write, starting at `start`: for a thread that runs on
    /// that node. On machines with one node this reads all shards.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a node that does not exist,
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a ring that is not a `PER_CPU_MAPS` ring.
    pub fn reader_of_node(&self, node: usize, start: Start) -> Result<Reader<T>> {
        let Flavour::Maps(Maps::PerCpu(ring)) = &self.flavour else {
            return Err(nodes::all_in_one(&self.region()));
        };
        Ok(Reader::new(ring.first(), ring.regions_of(node)?, start))
    }

    /// Replaces this ring by one with `slots` slots (a power of two) for each CPU. Programs and readers continue
    /// meanwhile, and every record goes to one of the two rings. Makes system calls, and waits for an RCU grace period:
    /// milliseconds. Needs CAP_BPF to create the map and CAP_SYS_ADMIN to open maps by id. Only one process at a time
    /// may do this; within a process, calls wait for each other.
    ///
    /// The kernel frees the old ring when its last reader closes it. If this fails before the new ring is in use,
    /// nothing has changed. If only a pin can't be replaced, the new ring is in use, and readers that opened that pin
    /// wait for the next resize. If the process dies in this call, readers wait in the old ring until
    /// [`loader::initialize`](crate::loader::initialize) or the next resize finishes it.
    ///
    /// # Errors
    /// [`ErrorKind::NotResizable`](crate::ErrorKind::NotResizable) for other rings,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape), [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable),
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn resize(&self, slots: usize) -> Result<()> {
        match &self.flavour {
            Flavour::Maps(Maps::Resizable(ring)) => ring.resize(slots),
            _ => {
                let (what, memfd) = (self.region().what().to_owned(), self.region().is_memfd());
                Err(Error::from(Cause::NotResizable { what, memfd }))
            }
        }
    }

    /// The ring that is now pinned where this one was opened, or is now in its map of maps, if it is another one: see
    /// [`Region::replaced`]. For processes that live longer than loaders. A resize does not count: readers continue in
    /// the new ring, and so does a resizable ring that was opened by its map of maps. Makes system calls.
    ///
    /// # Errors
    /// As for [`Region::replaced`] and [`open`](Self::open).
    pub fn replaced(&self) -> Result<Option<Self>> {
        match &self.flavour {
            Flavour::Maps(Maps::PerCpu(ring)) => {
                ring.replaced()?.map(|ring| Self::new(Flavour::Maps(Maps::PerCpu(ring)))).transpose()
            }
            _ => self.region().replaced()?.map(Self::from_region).transpose(),
        }
    }
}
