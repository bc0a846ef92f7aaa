//! The rings that are recorded, as found by their pins. Reading them takes no privilege but to open the pins.

mod in_order;
mod typed;

use std::cmp::Reverse;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mapring::liveness::{Process, Unended};
use mapring::record::{Field, TypeLayout};
use mapring::time::Clock;
use mapring::{Reader, Region, Ring, Source};
use rustix::fs::{MemfdFlags, SealFlags};

pub(crate) use self::in_order::InOrder;
use self::typed::{Records, Typed};
use super::event::Event;
use super::record::{
    Block, Exec, Faults, FlightRecord, Irq, Locks, Marks, Net, Profile, Sched, Syscalls, Waits,
};
use super::recording::Recording;

/// A group of events: they have a ring of their own, so that a flood of one group does not overwrite another.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// The bytes of a record.
    #[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "only the loader chooses sizes"))]
    pub(crate) record: usize,
    /// Its part of the memory, next to the others.
    #[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "only the loader chooses sizes"))]
    pub(crate) weight: u64,
    /// Its records have stacks as tails. It is not recorded unless it is asked for.
    pub(crate) has_stacks: bool,
    layout: TypeLayout,
    /// With the time when the ring was copied, if it is a copy.
    open: fn(Source, Option<u64>) -> mapring::Result<Box<dyn Records>>,
}

impl Group {
    const fn of<T: FlightRecord>(name: &'static str, weight: u64) -> Self {
        Self {
            name,
            record: size_of::<T>(),
            weight,
            has_stacks: false,
            layout: T::LAYOUT,
            open: |source, copied| Ok(Box::new(Typed::<T>::new(Ring::open(source)?, copied))),
        }
    }

    const fn with_stacks(self) -> Self {
        Self { has_stacks: true, ..self }
    }

    /// The records as this version has them, in words.
    pub(crate) fn layout(&self) -> String {
        text_of(&self.layout)
    }

    /// Reads a ring that was copied at this time: a memory file.
    ///
    /// # Errors
    /// If it is not such a ring.
    pub(crate) fn restored(&'static self, memory: OwnedFd, copied: u64) -> mapring::Result<GroupRings> {
        Ok(GroupRings::new(self, (self.open)(memory.into(), Some(copied))?))
    }
}

/// `ns@0:8 comm@8:2x8`: for each field of a struct its name, its offset, and its bytes.
pub(crate) fn text_of(layout: &TypeLayout) -> String {
    match layout {
        TypeLayout::Array(of, count) => format!("{count}x{}", text_of(of)),
        TypeLayout::Struct(_, fields) => {
            let field = |field: &Field| format!("{}@{}:{}", field.name, field.offset, text_of(&field.layout));
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
        layout => layout.bytes().to_string(),
    }
}

/// All groups that there are.
pub(crate) static GROUPS: [Group; 10] = [
    Group::of::<Sched>("sched", 8),
    Group::of::<Irq>("irq", 4),
    Group::of::<Syscalls>("syscalls", 8),
    Group::of::<Exec>("exec", 1),
    Group::of::<Block>("block", 1),
    Group::of::<Net>("net", 2),
    Group::of::<Faults>("faults", 4),
    Group::of::<Profile>("profile", 4).with_stacks(),
    Group::of::<Waits>("waits", 4).with_stacks(),
    Group::of::<Locks>("locks", 2).with_stacks(),
];

/// Marks, and conditions of triggers that were met: always recorded, in a small ring.
pub(crate) static MARKS: Group = Group::of::<Marks>("marks", 0);

/// The rings of a recording, one for each group that is recorded, and one of marks. Empty if it has just ended.
///
/// # Errors
/// A pin that this process may not open, or that is not such a ring.
pub(crate) fn open(recording: &Recording) -> Result<Vec<GroupRings>> {
    let mut rings = Vec::new();
    for group in GROUPS.iter().chain([&MARKS]) {
        if let Some(map) = recording.map(group.name)? {
            let records = (group.open)(map.into(), None).with_context(|| format!("group {}", group.name))?;
            rings.push(GroupRings::new(group, records));
        }
    }
    Ok(rings)
}

/// The same, of which there must be one.
///
/// # Errors
/// Also if there is none.
pub(crate) fn open_all(recording: &Recording) -> Result<Vec<GroupRings>> {
    let rings = open(recording)?;
    ensure!(!rings.is_empty(), "{}: it has no rings", recording.dir().path().display());
    Ok(rings)
}

/// How long a record may take to be written until it comes too late for its place in the order.
pub(crate) const DELAY: Duration = Reader::<()>::DELAY;

/// A file in memory with this content, for [`Group::restored`]. Nobody can change it.
///
/// # Errors
/// Those of the kernel and of `fill`.
pub(crate) fn memory_file(fill: impl FnOnce(&mut File) -> Result<()>) -> Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("mapring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    fill(&mut file)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE)?;
    Ok(file.into())
}

/// The places of these rings, those with the shortest history first: a copy of them loses least in that order.
pub(crate) fn shortest_first(rings: &[GroupRings]) -> Vec<usize> {
    let mut places: Vec<_> = (0..rings.len()).collect();
    places.sort_by_cached_key(|at| Reverse(rings[*at].held().complete));
    places
}

/// The present, in nanoseconds of CLOCK_MONOTONIC. After this call [`InOrder`] finds all earlier events.
pub(crate) fn present() -> u64 {
    let now = Clock::Monotonic.now();
    thread::sleep(DELAY + Reader::<()>::SETTLE);
    now
}

/// No machine has as many.
fn cpu(shard: usize) -> u16 {
    u16::try_from(shard).unwrap_or(u16::MAX)
}

/// The ring of a group.
pub(crate) struct GroupRings {
    group: &'static Group,
    records: Box<dyn Records>,
}

/// What a ring holds at a time. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) records: u64,
    /// Of these, with stacks whose outer frames are missing.
    pub(crate) cut: u64,
    /// The oldest and the newest record of any CPU.
    pub(crate) span: Option<Range<u64>>,
    /// From here on, no CPU has overwritten a record. `None` if none ever did.
    pub(crate) complete: Option<u64>,
    /// Records that are in no ring, by cause in words.
    pub(crate) lost: Vec<(String, u64)>,
    pub(crate) unended: NotEnded,
}

/// Records that were reserved and not ended, and what follows of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct NotEnded {
    /// Later tickets of their slots. No program had these, so they are not lost.
    pub(crate) stepped_over: u64,
    pub(crate) records: Vec<Unended>,
}

impl NotEnded {
    /// Lines for people.
    pub(crate) fn lines(&self, group: &str) -> impl Iterator<Item = String> {
        let records = self.records.iter().map(move |unended| format!("{group}: {unended}"));
        let over = (self.stepped_over > 0).then(|| {
            format!("{group}: programs stepped over {} tickets, which had no record", self.stepped_over)
        });
        records.chain(over)
    }
}

impl GroupRings {
    fn new(group: &'static Group, records: Box<dyn Records>) -> Self {
        Self { group, records }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.group.name
    }

    pub(crate) fn group(&self) -> &'static Group {
        self.group
    }

    /// Whether it has a group of the kernel's events, and not marks.
    pub(crate) fn is_of_events(&self) -> bool {
        self.name() != MARKS.name
    }

    /// Calls `f` with all events that are present between these times, in no order. Disturbs nothing.
    pub(crate) fn scan(&self, times: Range<u64>, f: &mut dyn FnMut(&Event)) {
        self.records.scan(times, f);
    }

    /// Whether its events show the names of threads.
    pub(crate) fn shows_names(&self) -> bool {
        ["sched", "exec"].contains(&self.name())
    }

    /// How many records programs wrote in each CPU since the start.
    pub(crate) fn written(&self) -> Vec<u64> {
        self.records.written()
    }

    /// What the ring holds now. Looks at every record, with a reader of its own.
    pub(crate) fn held(&self) -> Held {
        self.records.held()
    }

    /// Slots for each CPU.
    pub(crate) fn slots(&self) -> usize {
        self.region().geometry().capacity()
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.region().geometry().bytes() as u64
    }

    /// A copy of the ring as it was at this time, or later. `None` if it is not mapped, or memory is short.
    pub(crate) fn copied(&self, at: u64) -> Option<Self> {
        let copy = self.region().copy_ring()?;
        let memory = memory_file(|file| Ok(file.write_all(bytemuck::cast_slice(&copy))?)).ok()?;
        self.group.restored(memory, at).ok()
    }

    /// The process that made the ring, if it is known.
    pub(crate) fn loader(&self) -> Option<Process> {
        self.region().loader().ok().flatten()
    }

    pub(crate) fn region(&self) -> Region {
        self.records.region()
    }
}

#[cfg(test)]
mod tests;
