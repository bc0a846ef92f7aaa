//! Rings whose shards lie on the memory nodes of their CPUs: each shard is a map of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use bytemuck::AnyBitPattern;
use libbpf_rs::MapCore;

use super::{Drain, Event, Reader, Ring};
use crate::cpus::{nodes_of_cpus, online_nodes, possible_cpus};
use crate::error::{Error, Result};
use crate::layout::{Geometry, Kind};
use crate::protocol::ring::{Start, Tally};
use crate::record::Record;
use crate::region::{Access, Found, Options, Outer, PinOptions, Region, is_gone};
use crate::text::printable;

/// A ring that `MAPRING_NUMA_RING` (`numa.bpf.h`) makes: a shard for each CPU, on the memory node of that CPU.
///
/// Programs write to memory of their own node, whatever the machine. Each shard is a map, and a [`Ring`] of one
/// shard: what holds for [`Ring`] holds for this. A [reader](Self::reader) goes over all of them, or over
/// [those of one node](Self::reader_of), for readers that run there.
///
/// The CPU's node is where the kernel looks for memory first; pages for which it has no room it takes
/// elsewhere, silently. A CPU that does not run when the ring is opened has its shard on any node, and counts
/// as one of the first. On a machine with one node all of this is the same as a [`Ring`], but for a
/// mapping each CPU.
pub struct NumaRing<T> {
    shards: Box<[Shard<Ring<T>>]>,
}

/// What there is for each CPU.
#[derive(Clone, Copy)]
struct Shard<X> {
    cpu: usize,
    node: usize,
    of: X,
}

impl<T: Record> NumaRing<T> {
    /// The ring of a loaded libbpf-rs object, given as the map that programs reserve from: makes the shards,
    /// each on the node of its CPU. This is the loader's way. Until then, CPUs other than the first drop
    /// (and count) records. Makes system calls, and waits for an RCU grace period: milliseconds (for each
    /// CPU where the kernel has no batches). Needs CAP_BPF to make maps, and CAP_SYS_ADMIN to open them by id.
    /// Not to be called by two processes at once: the shards of one would take the place of the other's.
    ///
    /// # Errors
    /// [`Error::MapType`], [`Error::NotNuma`], [`Error::NotFitted`]; what
    /// [`Region::open_inner`](crate::Region::open_inner) and [`Ring::from_region`] can say.
    pub fn open(rings: &impl MapCore) -> Result<Self> {
        Self::new(rings.as_fd())
    }

    /// The same of the map of maps behind a descriptor, opened by its pin for example.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_fd(rings: impl AsFd) -> Result<Self> {
        Self::new(rings.as_fd())
    }

    fn new(rings: BorrowedFd<'_>) -> Result<Self> {
        let key = |cpu: usize| u32::try_from(cpu).expect("CPUs are numbered by u32").to_ne_bytes();
        let (cpus, nodes) = (possible_cpus()?, nodes_of_cpus()?);
        let maps = Outer::array(rings, &key(0))?;
        let options = Options::new().record_of::<T>(Kind::Ring);
        let found = options.find(Found::Inner(maps.clone()))?;
        of_one_cpu(0, &found)?;
        let last = cpus.last().copied().unwrap_or_default();
        if maps.entries() != last + 1 {
            let (what, shards) = (maps.what().to_owned(), maps.entries());
            return Err(Error::NotFitted { what, shards, last });
        }
        let first = options.loader(true).find(Found::Inner(maps.clone()))?;
        let geometry = *first.geometry();
        let (mut rings, mut made) = (Vec::new(), Vec::new());
        for cpu in cpus {
            let place = Found::Inner(maps.at(&key(cpu)));
            let region = match options.find(place.clone()) {
                Err(e) if is_gone(&e) => {
                    let region = first.another(geometry, nodes.get(&cpu).copied(), options, place)?;
                    made.push((key(cpu), region.clone()));
                    region
                }
                found => found?,
            };
            rings.push((cpu, Ring::from_region(region)?));
        }
        let ring = Self::from_rings(rings)?;
        maps.put_all(&made)?;
        Ok(ring)
    }

    /// Opens the shards that were pinned in the directory `dir` by [`freeze_and_pin`](Self::freeze_and_pin), for reading. Makes
    /// system calls; reading makes none if [`access`](Self::access) is mapped.
    ///
    /// # Errors
    /// As for [`Ring::open_pinned`], and [`from_rings`](Self::from_rings).
    pub fn open_pinned(dir: impl AsRef<Path>) -> Result<Self> {
        let ring = |cpu| Ok((cpu, Ring::open_pinned(dir.as_ref().join(pin_of(cpu)))?));
        Self::from_rings(possible_cpus()?.into_iter().map(ring).collect::<Result<Vec<_>>>()?)
    }
}

/// Whether `region` is the ring of one CPU, and not one that all CPUs write.
fn of_one_cpu(cpu: usize, region: &Region) -> Result<()> {
    if region.geometry().is_of_cpu() {
        return Ok(());
    }
    let expected = "that of one CPU, as MAPRING_NUMA_RING (numa.bpf.h) makes them".to_owned();
    Err(not_numa(cpu, region, "a ring for all CPUs".to_owned(), expected))
}

/// Whether `region` has as many slots as that of the CPU `first`.
fn like(cpu: usize, region: &Region, first: usize, shape: &Geometry) -> Result<()> {
    let found = region.geometry();
    if found.capacity() == shape.capacity() {
        return Ok(());
    }
    let [found, expected] = [found, shape].map(|ring| format!("a ring of {} slots", ring.capacity()));
    Err(not_numa(cpu, region, found, format!("{expected}, as that of CPU {first}")))
}

/// Whether rings are those of one CPU each, of one shape, and each here once: whoever reads one twice delivers its
/// records twice.
fn belong_together<T: AnyBitPattern>(rings: &[(usize, Ring<T>)]) -> Result<()> {
    let (mut cpus, mut maps) = (BTreeSet::new(), BTreeMap::new());
    for (cpu, ring) in rings {
        let region = ring.region();
        of_one_cpu(*cpu, region)?;
        if let Some((first, of)) = rings.first() {
            like(*cpu, region, *first, of.region().geometry())?;
        }
        let found = match maps.insert(region.identity(), *cpu) {
            Some(other) if other != *cpu => format!("the same map as that of CPU {other}"),
            _ if !cpus.insert(*cpu) => "the second one of this CPU".to_owned(),
            _ => continue,
        };
        return Err(not_numa(*cpu, region, found, "a map of its own for each CPU".to_owned()));
    }
    Ok(())
}

fn not_numa(cpu: usize, region: &Region, found: String, expected: String) -> Error {
    Error::NotNuma { what: region.what().to_owned(), cpu, found, expected }
}

/// How the pin of a shard is called.
fn pin_of(cpu: usize) -> String {
    format!("cpu{cpu}")
}

impl<T: AnyBitPattern> NumaRing<T> {
    /// Shards that were opened by themselves, with the CPUs that write them: from descriptors that came over
    /// a socket, or of types that are no [`Record`]. Reads files of sysfs.
    ///
    /// # Errors
    /// [`Error::NotNuma`] for a map that is no ring of one CPU, is not like the first one, or is here already;
    /// [`Error::System`] without sysfs.
    pub fn from_rings(rings: impl IntoIterator<Item = (usize, Ring<T>)>) -> Result<Self> {
        let rings: Vec<_> = rings.into_iter().collect();
        belong_together(&rings)?;
        let (nodes, there) = (nodes_of_cpus()?, online_nodes()?);
        let node = |cpu| nodes.get(&cpu).or(there.first()).copied().unwrap_or_default();
        let shard = |(cpu, of)| Shard { cpu, node: node(cpu), of };
        Ok(Self { shards: rings.into_iter().map(shard).collect() })
    }

    /// [Freezes and pins](crate::Region::freeze_and_pin) all shards in the directory `dir`, for
    /// [`open_pinned`](Self::open_pinned). The directory is made if it does not exist; other users need search
    /// permission on it. Makes system calls.
    ///
    /// # Errors
    /// [`Error::UnprivilegedBpf`]; [`Error::Seal`] with what failed, and the remedy. Shards that were pinned
    /// before stay pinned.
    pub fn freeze_and_pin(&self, dir: impl AsRef<Path>, options: impl Into<PinOptions>) -> Result<()> {
        let (dir, options) = (dir.as_ref(), options.into());
        fs::create_dir_all(dir).map_err(|error| Error::Seal {
            what: format!("{self:?}"),
            step: format!("making {}", printable(&dir.to_string_lossy())),
            error,
            hint: "; pins need a BPF file system (mount -t bpf -o mode=0755 bpf /sys/fs/bpf)",
        })?;
        self.shards
            .iter()
            .try_for_each(|shard| shard.of.region().freeze_and_pin(dir.join(pin_of(shard.cpu)), options))
    }

    /// This ring, with the shards that are now pinned, or in the map of maps, in place of its own, if any is
    /// another map: see [`Ring::replaced`]. Makes system calls.
    ///
    /// # Errors
    /// As there, and as for [`from_rings`](Self::from_rings): of shards that a loader is replacing just now, by others
    /// of another shape, some are new already.
    pub fn replaced(&self) -> Result<Option<Self>> {
        let mut any = false;
        let mut now = |shard: &Shard<Ring<T>>| {
            let replaced = shard.of.replaced()?;
            any |= replaced.is_some();
            let same = || Ring::from_region(shard.of.region().clone());
            Ok((shard.cpu, replaced.map_or_else(same, Ok)?))
        };
        let rings = self.shards.iter().map(&mut now).collect::<Result<Vec<_>>>()?;
        any.then(|| Self::from_rings(rings)).transpose()
    }

    /// Each CPU, its memory node, and the ring that it writes.
    pub fn rings(&self) -> impl Iterator<Item = (usize, usize, &Ring<T>)> {
        self.shards.iter().map(|shard| (shard.cpu, shard.node, &shard.of))
    }

    /// How reading goes: mapped, or by system calls and why, if for one shard alone.
    pub fn access(&self) -> Access {
        let mut all = self.shards.iter().map(|shard| shard.of.access());
        all.find(|access| *access != Access::Mapped).unwrap_or(Access::Mapped)
    }

    /// A reader of all shards that starts with the oldest records that are still there.
    pub fn reader(&self) -> NumaReader<T> {
        self.reader_from(Start::Oldest)
    }

    /// A reader of all shards that starts where `start` says, in each. Allocates; looks at a few slots.
    pub fn reader_from(&self, start: Start) -> NumaReader<T> {
        NumaReader::new(self.shards.iter(), start)
    }

    /// A reader of what the CPUs of one node write, that starts where `start` says: for a thread that runs
    /// on that node.
    ///
    /// # Errors
    /// [`Error::Node`] for a node that is not there.
    pub fn reader_of(&self, node: usize, start: Start) -> Result<NumaReader<T>> {
        let there = online_nodes()?;
        if !there.contains(&node) {
            return Err(Error::Node { node, there });
        }
        Ok(NumaReader::new(self.shards.iter().filter(|shard| shard.node == node), start))
    }
}

impl<T> fmt::Debug for NumaRing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shards.iter().map(|shard| (shard.cpu, shard.node, &shard.of))).finish()
    }
}

/// A place in each shard of a [`NumaRing`], or in those of one node.
///
/// As [`Reader`]: no system call while the ring is mapped, no effect on writers, never blocks. Shards are
/// visited in turn; one that has nothing costs 4 ns (measured; 1.2 in a [`Reader`]). [`Event::cpu`] is the CPU.
pub struct NumaReader<T> {
    shards: Box<[Shard<Reader<T>>]>,
    turn: usize,
    /// Records in a row from the shard whose turn it is.
    burst: u32,
    /// What a call may spend between two records, in all shards together: see [`Reader::STEPS`].
    steps: u32,
    stopped_early: bool,
}

impl<T: AnyBitPattern> NumaReader<T> {
    /// Records that [`poll`](Self::poll) takes from a shard before it is the next one's turn.
    const BURST: u32 = 64;

    fn new<'r>(rings: impl Iterator<Item = &'r Shard<Ring<T>>>, start: Start) -> Self
    where
        T: 'r,
    {
        let reader =
            |&Shard { cpu, node, ref of }: &Shard<Ring<T>>| Shard { cpu, node, of: of.reader_from(start) };
        let shards: Box<[_]> = rings.map(reader).collect();
        let steps = shards.iter().map(|shard| shard.of.steps()).min().unwrap_or(1);
        Self { shards, turn: 0, burst: 0, steps, stopped_early: false }
    }

    /// Waits for `polls` empty-handed steps for a record that is not ended: see [`Reader::with_patience`].
    #[must_use]
    pub fn with_patience(mut self, polls: u32) -> Self {
        let patient = |shard: Shard<Reader<T>>| Shard { of: shard.of.with_patience(polls), ..shard };
        self.shards = self.shards.into_iter().map(patient).collect();
        self
    }

    /// The next record, if there is one: see [`Reader::poll`].
    #[inline]
    pub fn poll(&mut self) -> Option<Event<T>> {
        let mut left = self.steps;
        // The first one's turn may be over: it has another after all others.
        for _ in 0..=self.shards.len() {
            if left == 0 {
                self.stopped_early = true;
                break;
            }
            let Shard { cpu, of, .. } = self.shards.get_mut(self.turn)?;
            if self.burst < Self::BURST
                && let Some(event) = of.poll_within(&mut left)
            {
                self.burst += 1;
                return Some(Event { cpu: *cpu, ..event });
            }
            self.burst = 0;
            self.turn = (self.turn + 1) % self.shards.len();
        }
        None
    }

    /// Everything that is there: each shard in turn, at most one lap of it. See [`Reader::drain`].
    pub fn drain(&mut self) -> impl Iterator<Item = Event<T>> {
        // Whoever takes a few each time starts with another shard each time.
        let (before, from) = self.shards.split_at_mut(self.turn);
        self.turn = (self.turn + 1).checked_rem(before.len() + from.len()).unwrap_or(0);
        self.burst = 0;
        let (mut shards, mut now) = (from.iter_mut().chain(before), None);
        let (steps, stopped_early) = (self.steps, &mut self.stopped_early);
        let mut over = false;
        std::iter::from_fn(move || {
            let mut left = steps;
            while !over {
                if let Some((cpu, drain)) = &mut now {
                    let drain: &mut Drain<'_, T> = drain;
                    if let Some(event) = drain.next_within(&mut left) {
                        return Some(Event { cpu: *cpu, ..event });
                    }
                }
                *stopped_early |= left == 0;
                now = shards.next().map(|Shard { cpu, of, .. }| (*cpu, of.drain()));
                over = left == 0 || now.is_none();
            }
            None
        })
    }

    /// Calls `f` with up to `limit` records: see [`Reader::for_each`]. Returns how many there were.
    #[inline]
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(Event<&T>)) -> usize {
        let (mut count, mut left) = (0, self.steps);
        for _ in 0..self.shards.len() {
            if left == 0 {
                self.stopped_early = true;
                break;
            }
            let Shard { cpu, of, .. } = &mut self.shards[self.turn];
            count += of.for_each_within(limit - count, &mut left, |event| f(Event { cpu: *cpu, ..event }));
            self.burst = 0;
            self.turn = (self.turn + 1) % self.shards.len();
            if count >= limit {
                break;
            }
        }
        count
    }

    /// Whether a call ended early since this was last asked: see [`Reader::stopped_early`].
    pub fn stopped_early(&mut self) -> bool {
        let mut any = std::mem::take(&mut self.stopped_early);
        self.shards.iter_mut().for_each(|shard| any |= shard.of.stopped_early());
        any
    }

    /// Records lost to this reader, all shards together: [`Tally::lost`].
    pub fn lost(&self) -> u64 {
        self.tally().lost()
    }

    /// What became of the tickets that this reader has passed, all shards together.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.shards.iter().for_each(|shard| sum += shard.of.tally());
        sum
    }

    /// Records that producers themselves dropped: see [`Reader::dropped`]. What CPUs without a shard dropped is
    /// counted in the shard of the first.
    pub fn dropped(&mut self) -> u64 {
        self.shards.iter_mut().map(|shard| shard.of.dropped()).fold(0, u64::wrapping_add)
    }

    /// A system call that failed on the fallback path since this was last asked: see [`Reader::take_error`].
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.shards.iter_mut().find_map(|shard| shard.of.take_error())
    }

    /// Each CPU that is read, its memory node, and the reader of its shard.
    pub fn readers(&self) -> impl Iterator<Item = (usize, usize, &Reader<T>)> {
        self.shards.iter().map(|shard| (shard.cpu, shard.node, &shard.of))
    }
}

impl<T> fmt::Debug for NumaReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shards.iter().map(|shard| (shard.cpu, shard.node, &shard.of))).finish()
    }
}
