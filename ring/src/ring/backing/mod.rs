//! Where the memory of a ring is: in one map, in a map that another one can replace, or in a map for each CPU.

mod nodes;
mod resize;

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::Start;

use self::nodes::PerCpu;
pub(crate) use self::nodes::pin_of;
use self::resize::Resizable;
use super::{Reader, Ring};
use crate::bpf::{MapLocator, MapOfMaps};
use crate::error::{Cause, Error, Result};
use crate::region::maps::{pinning, publish};
use crate::region::{OpenOptions, Region, Source};

/// The maps of a ring.
#[derive(Clone)]
pub(super) enum Backing {
    /// One map or memfd.
    OneMap(Region),
    /// A map in a map of maps, where another one can replace it.
    Replaceable(Resizable),
    /// A map for each CPU.
    PerCpu(PerCpu),
}

impl Backing {
    pub(super) fn open(source: Source, options: OpenOptions) -> Result<Self> {
        if let Some(dir) = source.directory() {
            return PerCpu::pinned(dir, options).map(Self::PerCpu);
        }
        match source.array_of_maps()? {
            Err(source) => options.open(source).map(Self::OneMap),
            Ok(maps) => {
                let first = first_in(&maps, options)?;
                if first.geometry().options().is_resizable() {
                    return Ok(Self::Replaceable(Resizable::new(maps.without_object(), first, options)));
                }
                PerCpu::open(&maps, options).map(Self::PerCpu)
            }
        }
    }

    /// The region that holds the ring now; for a `PER_CPU_MAPS` ring, the first CPU's region.
    pub(super) fn first(&self) -> Region {
        match self {
            Self::OneMap(region) => region.clone(),
            Self::Replaceable(ring) => ring.region(),
            Self::PerCpu(ring) => ring.first().clone(),
        }
    }

    /// The regions that hold the ring now, each with the number of its first shard.
    pub(super) fn regions(&self) -> Vec<(usize, Region)> {
        match self {
            Self::PerCpu(ring) => ring.regions().map(|(cpu, region)| (cpu, region.clone())).collect(),
            _ => vec![(0, self.first())],
        }
    }
}

/// The first map of a ring in a map of maps.
fn first_in(maps: &MapOfMaps, options: OpenOptions) -> Result<Region> {
    let first = options.find(MapLocator::Inner(maps.clone()))?;
    let ring = first.geometry().options();
    if ring.has_per_cpu_maps() || ring.is_resizable() { Ok(first) } else { Err(maps.holds_no_ring()) }
}

/// Lets programs write to all of the ring in `maps`: see [`loader::initialize_map`](crate::loader::initialize_map).
pub(crate) fn initialize(maps: &MapOfMaps) -> Result<()> {
    match first_in(maps, OpenOptions::new())?.geometry().options().is_resizable() {
        true => resize::initialize(maps),
        false => nodes::initialize(maps),
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
    |ring, path, how| match &ring.backing {
        Backing::OneMap(region) => publish(&[(None, region)], path, how),
        Backing::Replaceable(ring) => ring.publish(path, how),
        Backing::PerCpu(ring) => publish(&ring.pins(), path, how),
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
        Self::new(Backing::PerCpu(PerCpu::new(regions)?))
    }

    /// A reader of the records that the CPUs of one NUMA node write, starting at `start`: for a thread that runs on
    /// that node. On machines with one node this reads all shards.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a node that does not exist,
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a ring that is not a `PER_CPU_MAPS` ring.
    pub fn reader_of_node(&self, node: usize, start: Start) -> Result<Reader<T>> {
        let Backing::PerCpu(ring) = &self.backing else {
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
    /// `mapring_loader::initialize` or the next resize finishes it.
    ///
    /// # Errors
    /// [`ErrorKind::NotResizable`](crate::ErrorKind::NotResizable) for other rings, and for a ring that was opened by the pin or the
    /// id of the map in use instead of the map of maps,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape), [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable),
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn resize(&self, slots: usize) -> Result<()> {
        match &self.backing {
            Backing::Replaceable(ring) => ring.resize(slots),
            _ => {
                let (region, what) = (self.region(), self.region().what().to_owned());
                Err(Error::from(match region.geometry().options().is_resizable() {
                    true => Cause::WithoutMaps { what },
                    false => Cause::NotResizable { what, memfd: region.is_memfd() },
                }))
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
        match &self.backing {
            Backing::PerCpu(ring) => {
                ring.replaced()?.map(|ring| Self::new(Backing::PerCpu(ring))).transpose()
            }
            _ => self.region().replaced()?.map(Self::from_region).transpose(),
        }
    }
}
