//! The rings that are recorded, as found by their pins. Reading them takes no privilege but to open the pins.

use std::io;
use std::mem;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use mapring::liveness::Process;
use mapring::reading::LossCause;
use mapring::{Reader, Region, Ring, Start};

use super::event::{Event, Gap};
use super::pins;
use super::record::{Block, Exec, Faults, Irq, Net, Recorded, Sched, Syscalls};
use crate::exit::Refused;

/// A group of events: they have a ring of their own, so that a flood of one group does not overwrite another.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// The bytes of a record.
    #[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "only the loader chooses sizes"))]
    pub(crate) record: usize,
    /// Its part of the memory, next to the others.
    #[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "only the loader chooses sizes"))]
    pub(crate) weight: u64,
    open: fn(&Path) -> mapring::Result<Box<dyn Records>>,
}

impl Group {
    const fn of<T: Recorded>(name: &'static str, weight: u64) -> Self {
        Self { name, record: size_of::<T>(), weight, open: |pin| Ok(Box::new(Typed::<T>::open(pin)?)) }
    }
}

/// All groups that there are.
pub(crate) static GROUPS: [Group; 7] = [
    Group::of::<Sched>("sched", 8),
    Group::of::<Irq>("irq", 4),
    Group::of::<Syscalls>("syscalls", 8),
    Group::of::<Exec>("exec", 1),
    Group::of::<Block>("block", 1),
    Group::of::<Net>("net", 2),
    Group::of::<Faults>("faults", 4),
];

/// The rings in the pins' directory, one for each group that is recorded. Empty if nothing is recorded.
///
/// # Errors
/// A pin that this process may not open, or that is not such a ring.
pub(crate) fn open(dir: &Path) -> Result<Vec<GroupRings>> {
    let maps = pins::maps(dir);
    if let Err(error) = std::fs::read_dir(&maps) {
        return match error.kind() {
            io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(pins::unreadable(error, &maps)),
        };
    }
    let mut rings = Vec::new();
    for group in &GROUPS {
        let pin = maps.join(group.name);
        if pin.symlink_metadata().is_ok() {
            let records = (group.open)(&pin).map_err(|error| refused_or(error, group.name))?;
            rings.push(GroupRings { group, records });
        }
    }
    Ok(rings)
}

/// The error for a pin that can't be opened.
fn refused_or(error: mapring::Error, group: &str) -> anyhow::Error {
    match error.io_error() {
        Some(io) if io.kind() == io::ErrorKind::PermissionDenied => {
            Refused(format!("group {group}: {error}")).into()
        }
        _ => anyhow::Error::from(error).context(format!("group {group}")),
    }
}

/// The ring of a group, with a reader.
pub(crate) struct GroupRings {
    group: &'static Group,
    records: Box<dyn Records>,
}

/// What a ring holds at a time. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) records: u64,
    /// The oldest and the newest record of any CPU.
    pub(crate) span: Option<Range<u64>>,
    /// From here on, no CPU has overwritten a record. `None` if none ever did.
    pub(crate) complete: Option<u64>,
    /// Records that are in no ring, by cause in words.
    pub(crate) lost: Vec<(String, u64)>,
}

impl GroupRings {
    pub(crate) fn name(&self) -> &'static str {
        self.group.name
    }

    /// Calls `f` with each event that is present and was not read yet, each CPU from its oldest: there is no order between
    /// CPUs. Ends even if events come faster than it reads.
    pub(crate) fn read(&mut self, f: &mut dyn FnMut(Event)) {
        self.records.read(f);
    }

    /// The records that were lost since the last call: overwritten before `read` came to them, or dropped.
    pub(crate) fn gaps(&mut self) -> Vec<Gap> {
        let name = self.name();
        self.records.gaps(name)
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

    /// The process that made the ring, if it is known.
    pub(crate) fn loader(&self) -> Option<Process> {
        self.region().loader().ok().flatten()
    }

    pub(crate) fn region(&self) -> Region {
        self.records.region()
    }
}

/// A ring of any record.
trait Records {
    fn read(&mut self, f: &mut dyn FnMut(Event));
    fn gaps(&mut self, group: &'static str) -> Vec<Gap>;
    fn written(&self) -> Vec<u64>;
    fn held(&self) -> Held;
    fn region(&self) -> Region;
}

struct Typed<T> {
    ring: Ring<T>,
    reader: Reader<T>,
    /// Records that this version does not know.
    unknown: u64,
    /// For each CPU, the ticket and time of its last record that was read.
    last: Vec<Option<(u64, u64)>>,
    /// Tickets that are missing between two records of a CPU, and the times of these two.
    jumps: Vec<(usize, Range<u64>, Range<u64>)>,
}

impl<T: Recorded> Typed<T> {
    fn open(pin: &Path) -> mapring::Result<Self> {
        let ring = Ring::<T>::open(pin)?;
        let reader = ring.reader();
        let last = vec![None; ring.shards()];
        Ok(Self { ring, reader, unknown: 0, last, jumps: Vec::new() })
    }
}

/// Calls `f` with all that is present, at most one lap of each CPU.
fn each<T: Recorded>(reader: &mut Reader<T>, mut f: impl FnMut(mapring::Event<&T>)) {
    let geometry = reader.region().geometry();
    // A call stops early after many tickets in a row without a record. A ring has no more of these than slots.
    let stops = geometry.shards() * (geometry.capacity() / Reader::<T>::STEPS_BY_CALL as usize + 1);
    for _ in 0..=stops {
        reader.for_each(usize::MAX, &mut f);
        if !reader.stopped_early() {
            break;
        }
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// No machine has as many.
fn cpu(shard: usize) -> u16 {
    u16::try_from(shard).unwrap_or(u16::MAX)
}

impl<T: Recorded> Records for Typed<T> {
    fn read(&mut self, f: &mut dyn FnMut(Event)) {
        let Self { reader, unknown, last, jumps, .. } = self;
        each(reader, |event| {
            let now = (event.ticket, event.record.ns());
            if let Some(last) = last.get_mut(event.shard)
                && let Some((ticket, ns)) = last.replace(now)
                && ticket.saturating_add(1) < event.ticket
            {
                jumps.push((event.shard, ticket.saturating_add(1)..event.ticket, ns..now.1));
            }
            match event.record.event(cpu(event.shard)) {
                Some(event) => f(event),
                None => *unknown += 1,
            }
        });
    }

    /// Records that were overwritten before the first one that was read are no gap: the history is shorter. Later ones are
    /// missing between two records. Those that programs dropped have no place among the tickets.
    fn gaps(&mut self, group: &'static str) -> Vec<Gap> {
        let losses = self.reader.take_losses();
        let cause = |shard, tickets: &Range<u64>| {
            let is_here = |loss: &&mapring::Loss| {
                loss.shard == Some(shard) && loss.tickets.as_ref().is_some_and(|t| t.contains(&tickets.start))
            };
            losses.iter().find(is_here).map_or(LossCause::Lapped, |loss| loss.cause).to_string()
        };
        let jumps = self.jumps.iter().map(|(shard, tickets, times)| Gap {
            group,
            cpu: cpu(*shard),
            count: tickets.end - tickets.start,
            cause: cause(*shard, tickets),
            since: Some(times.start),
            until: times.end,
        });
        let drops = losses.iter().filter(|loss| loss.cause.is_drop()).map(|loss| Gap {
            group,
            cpu: cpu(loss.shard.unwrap_or(0)),
            count: loss.count,
            cause: loss.cause.to_string(),
            since: loss.since,
            until: loss.until,
        });
        let unknown = mem::take(&mut self.unknown);
        let unknown = (unknown > 0).then(|| Gap {
            group,
            cpu: 0,
            count: unknown,
            cause: "of a newer version of mapring".to_owned(),
            since: None,
            until: now(),
        });
        let gaps = jumps.chain(drops).chain(unknown).collect();
        self.jumps.clear();
        gaps
    }

    fn written(&self) -> Vec<u64> {
        let now = self.ring.reader_from(Start::Now);
        (0..self.ring.shards()).map(|shard| now.position(shard).unwrap_or(0)).collect()
    }

    fn held(&self) -> Held {
        let mut held = Held::default();
        let mut seen = vec![false; self.ring.shards()];
        let mut reader = self.ring.reader();
        each(&mut reader, |event| {
            let ns = event.record.ns();
            held.records += 1;
            let span = held.span.get_or_insert(ns..ns);
            *span = span.start.min(ns)..span.end.max(ns);
            if !mem::replace(&mut seen[event.shard], true) && event.ticket > 0 {
                held.complete = held.complete.max(Some(ns));
            }
        });
        // Overwritten while this reader looked: history moved on, as always.
        for loss in reader.take_losses().into_iter().filter(|loss| loss.cause != LossCause::Lapped) {
            held.lost.push((loss.cause.to_string(), loss.count));
        }
        held
    }

    fn region(&self) -> Region {
        self.ring.region()
    }
}
