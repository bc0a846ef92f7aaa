//! Rings with a map for each CPU: each shard has its own map, on the NUMA node of the CPU that writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::abi::Geometry;
use crate::bpf::{MapFd, MapLocator, MapOfMaps, is_gone};
use crate::cpus::{nodes_of_cpus, online_cpus, online_nodes, possible_cpus};
use crate::error::{Cause, Error, Result};
use crate::region::{OpenOptions, Region};

/// A ring with a map for each CPU.
///
/// The kernel allocates a map on its CPU's node first. If that node is full, it silently takes the remaining pages from
/// other nodes. Only CPUs that are online when the ring is initialized get a map. A CPU that is offline when the ring is
/// opened counts as one of the first node.
#[derive(Clone)]
pub(in crate::ring) struct PerCpu {
    shards: Arc<[Shard]>,
    /// The directory from which it was opened.
    pinned: Option<(Arc<Path>, OpenOptions)>,
}

struct Shard {
    cpu: usize,
    node: usize,
    region: Region,
}

impl PerCpu {
    /// Takes the regions of these CPUs.
    pub(super) fn new(regions: impl IntoIterator<Item = (usize, Region)>) -> Result<Self> {
        let regions: Vec<_> = regions.into_iter().collect();
        belong_together(&regions)?;
        let (nodes, there) = (nodes_of_cpus()?, online_nodes()?);
        let node = |cpu| nodes.get(&cpu).or(there.first()).copied().unwrap_or_default();
        let shards =
            regions.into_iter().map(|(cpu, region)| Shard { cpu, node: node(cpu), region }).collect();
        Ok(Self { shards, pinned: None })
    }

    /// Opens the maps that [`initialize`] put in a map of maps.
    pub(super) fn open(maps: &MapOfMaps, options: OpenOptions) -> Result<Self> {
        let region = |cpu| options.find(MapLocator::Inner(maps.at(&key(cpu))));
        let regions = those_there(&fitting_cpus(maps)?, region)?;
        let is_new = regions.iter().any(|(_, region)| region.live(0).is_ok_and(|magic| magic == 0));
        if let Some(missing) = online_cpus()?.into_iter().find(|cpu| regions.iter().all(|(of, _)| of != cpu))
            && is_new
        {
            // Before `initialize`.
            options.find(MapLocator::Inner(maps.at(&key(missing))))?;
        }
        Self::new(regions)
    }

    /// Opens the maps that are [pinned](Self::pins) in the directory `dir`.
    pub(super) fn pinned(dir: &Path, options: OpenOptions) -> Result<Self> {
        let cpus = possible_cpus()?;
        let open = || {
            // By its descriptor: another ring's directory may get the name meanwhile.
            let opened = MapFd::directory(dir)?;
            let region = |cpu| {
                let path = dir.join(pin_of(cpu));
                options.adopt(MapFd::pinned_in(&opened, &path)?, MapLocator::Pin(path))
            };
            let regions = those_there(&cpus, region)?;
            // Then some of its pins may be gone already.
            let is_replaced = !is_same(&opened, &MapFd::directory(dir)?)?;
            Ok((regions, is_replaced))
        };
        // The directory of a ring that was replaced is removed.
        let opened = (0..MapLocator::AGAIN).fold(open(), |opened, _| match opened {
            Err(e) if is_gone(&e) => open(),
            Ok((_, true)) => open(),
            opened => opened,
        });
        let (regions, _) = opened?;
        Ok(Self { pinned: Some((dir.into(), options.write_preamble(false))), ..Self::new(regions)? })
    }

    /// The names under which its regions are pinned in a directory.
    pub(super) fn pins(&self) -> Vec<(Option<String>, &Region)> {
        self.regions().map(|(cpu, region)| (Some(pin_of(cpu)), region)).collect()
    }

    /// The ring that replaced this one, if any of its regions was replaced.
    pub(super) fn replaced(&self) -> Result<Option<Self>> {
        let mut now = Vec::new();
        let mut any = false;
        for (cpu, region) in self.regions() {
            let replaced = region.replaced()?;
            any |= replaced.is_some();
            now.push((cpu, replaced.unwrap_or_else(|| region.clone())));
        }
        if !any {
            return Ok(None);
        }
        match &self.pinned {
            // All of one ring, even if it was replaced in the middle of the loop.
            Some((dir, options)) => Self::pinned(dir, *options).map(Some),
            None => Self::new(now).map(Some),
        }
    }

    /// The first CPU's region. There is always one.
    pub(super) fn first(&self) -> &Region {
        &self.shards[0].region
    }

    /// Each CPU with its region.
    pub(super) fn regions(&self) -> impl Iterator<Item = (usize, &Region)> {
        self.shards.iter().map(|shard| (shard.cpu, &shard.region))
    }

    /// The same for the CPUs of one node.
    pub(super) fn regions_of(&self, node: usize) -> Result<impl Iterator<Item = (usize, &Region)> + Clone> {
        let there = online_nodes()?;
        if !there.contains(&node) {
            return Err(Error::from(Cause::Node { node, there }));
        }
        let of_node = self.shards.iter().filter(move |shard| shard.node == node);
        Ok(of_node.map(|shard| (shard.cpu, &shard.region)))
    }
}

/// Whether these are the same directory.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> Result<bool> {
    let of = |fd: &OwnedFd| rustix::fs::fstat(fd).map_err(|e| Error::system("fstat", e));
    let [one, other] = [of(one)?, of(other)?];
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The regions of these CPUs that exist: at least one.
fn those_there(cpus: &[usize], open: impl Fn(usize) -> Result<Region>) -> Result<Vec<(usize, Region)>> {
    let (mut regions, mut missing) = (Vec::new(), None);
    for &cpu in cpus {
        match open(cpu) {
            Err(e) if is_gone(&e) => missing = missing.or(Some(e)),
            region => regions.push((cpu, region?)),
        }
    }
    match missing {
        Some(e) if regions.is_empty() => Err(e),
        _ => Ok(regions),
    }
}

/// Creates the missing rings in `maps` of the CPUs that are online, each on the node of its CPU. Until then, CPUs other than
/// the first drop (and count) records.
pub(crate) fn initialize(maps: &MapOfMaps) -> Result<()> {
    fitting_cpus(maps)?;
    let (cpus, nodes) = (online_cpus()?, nodes_of_cpus()?);
    let options = OpenOptions::new();
    let first = options.write_preamble(true).find(MapLocator::Inner(maps.at(&key(0))))?;
    let mut made = Vec::new();
    for cpu in cpus {
        let locator = MapLocator::Inner(maps.at(&key(cpu)));
        match options.find(locator.clone()) {
            Err(e) if is_gone(&e) => {
                let node = nodes.get(&cpu).copied();
                made.push((key(cpu), first.another(*first.geometry(), node, options, locator)?));
            }
            found => drop(found?),
        }
    }
    maps.put_all(&made)
}

/// The possible CPUs, if `maps` has an entry for each.
fn fitting_cpus(maps: &MapOfMaps) -> Result<Vec<usize>> {
    let cpus = possible_cpus()?;
    let last = cpus.last().copied().unwrap_or_default();
    if maps.entries() != last + 1 {
        return Err(Error::from(Cause::NotFitted {
            what: maps.what().to_owned(),
            shards: maps.entries(),
            last,
        }));
    }
    Ok(cpus)
}

fn key(cpu: usize) -> [u8; 4] {
    u32::try_from(cpu).expect("CPUs are numbered by u32").to_ne_bytes()
}

/// The name of a shard's pin.
pub(crate) fn pin_of(cpu: usize) -> String {
    format!("cpu{cpu}")
}

/// Checks that each region is the ring of one CPU, that all have one shape, and that none comes twice: a region read
/// twice would deliver its records twice.
fn belong_together(regions: &[(usize, Region)]) -> Result<()> {
    let (mut cpus, mut maps) = (BTreeSet::new(), BTreeMap::new());
    let Some((first, shape)) = regions.first() else {
        return Err(Error::from(Cause::Index { thing: "CPU", index: 0, count: 0 }));
    };
    for (cpu, region) in regions {
        of_one_cpu(*cpu, region)?;
        like(*cpu, region, *first, shape.geometry())?;
        let found = match maps.insert(region.identity(), *cpu) {
            Some(other) if other != *cpu => format!("the same map as that of CPU {other}"),
            _ if !cpus.insert(*cpu) => "the second one of this CPU".to_owned(),
            _ => continue,
        };
        return Err(not_numa(*cpu, region, found, "a map of its own for each CPU".to_owned()));
    }
    Ok(())
}

/// Checks that `region` is the ring of one CPU, not one that all CPUs write.
fn of_one_cpu(cpu: usize, region: &Region) -> Result<()> {
    if region.geometry().options().has_per_cpu_maps() { Ok(()) } else { Err(of_all_cpus(cpu, region)) }
}

/// Checks that `region` has as many slots as the ring of the CPU `first`, and records of the same size.
fn like(cpu: usize, region: &Region, first: usize, shape: &Geometry) -> Result<()> {
    let found = region.geometry();
    if (found.capacity(), found.record()) == (shape.capacity(), shape.record()) {
        return Ok(());
    }
    let [found, expected] = [found, shape]
        .map(|ring| format!("a ring of {} slots for records of {} bytes", ring.capacity(), ring.record()));
    Err(not_numa(cpu, region, found, format!("{expected}, as that of CPU {first}")))
}

/// The error for a ring that has one map for all CPUs.
pub(super) fn all_in_one(region: &Region) -> Error {
    of_all_cpus(0, region)
}

fn of_all_cpus(cpu: usize, region: &Region) -> Error {
    let expected = "that of one CPU, as MAPRING_RING with PER_CPU_MAPS makes them".to_owned();
    not_numa(cpu, region, "a ring for all CPUs".to_owned(), expected)
}

fn not_numa(cpu: usize, region: &Region, found: String, expected: String) -> Error {
    Error::from(Cause::NotNuma { what: region.what().to_owned(), cpu, found, expected })
}
