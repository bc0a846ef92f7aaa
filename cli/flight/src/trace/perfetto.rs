//! A trace for Perfetto. Its trace processor computes the states of threads, the slices of CPUs and of system calls from
//! the same events that it gets from ftrace, so this writes those. Times are CLOCK_BOOTTIME, Perfetto's own clock.

mod ftrace;
mod stacks;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufWriter, Write};
use std::mem::take;

use anyhow::Result;
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::message;

use super::super::event::{Event, Gap};
use super::super::machine::Machine;
use super::super::names::{Names, Older};
use super::super::procfs;
use super::super::symbols::Symbols;
use super::super::text::escape;
use super::Sink;
use crate::messages::perfetto::protos::BuiltinClock::{Boottime, Monotonic, Realtime};
use crate::messages::perfetto::protos::{
    ClockSnapshot, FtraceEvent, FtraceEventBundle, ProcessDescriptor, ProcessTree, SystemInfo, Trace,
    TracePacket, TrackDescriptor, TrackEvent, Utsname, clock_snapshot, ftrace_event::Event as Ftrace,
    process_tree, trace_packet::Data, track_event,
};

/// Events in a packet.
const BUNDLE: usize = 1000;

/// Perfetto's trace processor refuses a trace with a larger number of a CPU.
const CPUS: u16 = 1024;

/// The number of the field `event` in [`FtraceEventBundle`].
const EVENT: u32 = 2;

/// The only sequence of packets.
const SEQUENCE: u32 = 1;

/// Events that are not written yet.
#[derive(Default)]
struct Bundle {
    count: usize,
    /// [`FtraceEventBundle`]s: encoded one after the other, they are one.
    encoded: Vec<u8>,
}

pub(super) struct Perfetto {
    out: BufWriter<Box<dyn Write + Send>>,
    buffer: Vec<u8>,
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC: the time that the machine was suspended.
    ahead: u64,
    /// For each CPU.
    cpus: Vec<Bundle>,
    /// The tracks of losses: their numbers, and the ends of their last slices.
    lost: HashMap<(&'static str, u16, String), (u64, u64)>,
    /// For each thread that is in a system call, the call's number.
    calls: HashMap<u32, i64, foldhash::fast::RandomState>,
    stacks: stacks::Written,
    /// The track of marks is there.
    has_marks: bool,
    /// Processes that a fork made in the trace. Their details follow at its end.
    born: Vec<u32>,
    last: u64,
}

impl Perfetto {
    pub(super) fn new(
        out: Box<dyn Write + Send>,
        names: &mut Names,
        older: &[Older],
        symbols: Symbols,
    ) -> Result<Self> {
        let mut perfetto = Self {
            out: BufWriter::with_capacity(1 << 18, out),
            buffer: Vec::new(),
            ahead: u64::try_from(names.machine().clocks.boot).unwrap_or(0),
            cpus: Vec::new(),
            lost: HashMap::new(),
            calls: HashMap::default(),
            stacks: stacks::Written::new(symbols),
            has_marks: false,
            born: Vec::new(),
            last: 0,
        };
        perfetto.machine(names.machine())?;
        perfetto.present(names, older)?;
        Ok(perfetto)
    }

    /// The clocks and the kernel. The kernel's machine tells the names of system calls, its version the bits of states.
    fn machine(&mut self, machine: &Machine) -> Result<()> {
        const SEQ_INCREMENTAL_STATE_CLEARED: u32 = 1;
        let monotonic = machine.now;
        let realtime = monotonic.wrapping_add_signed(machine.clocks.wall);
        let times = [(Boottime, self.time(monotonic)), (Monotonic, monotonic), (Realtime, realtime)];
        let clock = |(id, ns)| clock_snapshot::Clock { clock_id: Some(id as u32), timestamp: Some(ns) };
        let (clocks, primary) = (times.map(clock).into(), Some(Boottime.into()));
        let clocks = ClockSnapshot { clocks, primary_trace_clock: primary };
        self.packet(TracePacket {
            timestamp: Some(self.time(monotonic)),
            sequence_flags: Some(SEQ_INCREMENTAL_STATE_CLEARED),
            data: Some(Data::ClockSnapshot(clocks)),
            ..TracePacket::default()
        })?;
        let text = |text: &String| Some(text.clone().into());
        let utsname = Utsname {
            sysname: text(&machine.sysname),
            version: text(&machine.version),
            release: text(&machine.release),
            machine: text(&machine.machine),
        };
        self.packet(of(Data::SystemInfo(SystemInfo { utsname: Some(utsname) })))
    }

    /// The threads from before the first event, with the processes that they belong to.
    fn present(&mut self, names: &mut Names, older: &[Older]) -> Result<()> {
        let mut tree = ProcessTree::default();
        let mut seen = std::collections::HashSet::new();
        let mut descriptors = Vec::new();
        for &Older { tid, pid, ns } in older {
            let found = names.process(tid, ns);
            let pid = if pid == 0 { found.map_or(0, |found| found.pid) } else { pid };
            if pid == 0 {
                continue;
            }
            tree.threads.push(thread(tid, pid, names.comm(tid, 0, ns)));
            if !seen.insert(pid) {
                continue;
            }
            let name = names.comm(pid, 0, ns);
            let mut labels = Vec::new();
            if let Some(process) = names.process(pid, ns) {
                labels = self::labels(process);
                tree.processes.push(self::process(pid, process));
            }
            descriptors.push(ProcessDescriptor {
                pid: Some(pid.cast_signed()),
                process_name: Some(name),
                process_labels: labels,
            });
        }
        let first = older.iter().map(|thread| thread.ns).min().unwrap_or(0);
        for process in descriptors {
            let uuid = Some(1 << 32 | u64::from(process.pid.unwrap_or(0).cast_unsigned()));
            self.packet(of(Data::TrackDescriptor(TrackDescriptor {
                uuid,
                process: Some(process),
                ..TrackDescriptor::default()
            })))?;
        }
        let timestamp = Some(self.time(first));
        self.packet(TracePacket { timestamp, ..of(Data::ProcessTree(tree)) })
    }

    fn time(&self, ns: u64) -> u64 {
        // Perfetto's times are signed.
        ns.saturating_add(self.ahead).min(i64::MAX.cast_unsigned())
    }

    fn packet(&mut self, packet: TracePacket) -> Result<()> {
        self.buffer.clear();
        let packet = TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        Trace { packet: vec![packet] }.encode(&mut self.buffer)?;
        Ok(self.out.write_all(&self.buffer)?)
    }

    /// Writes the events of a CPU.
    fn bundle(&mut self, cpu: usize) -> Result<()> {
        let Some(bundle) = self.cpus.get_mut(cpu).filter(|bundle| bundle.count > 0) else {
            return Ok(());
        };
        let mut encoded = take(bundle).encoded;
        let cpu = Some(u32::try_from(cpu)?);
        FtraceEventBundle { cpu, ..FtraceEventBundle::default() }.encode(&mut encoded)?;
        self.packet(of(Data::FtraceEvents(encoded.into())))
    }

    fn cpu(&mut self, cpu: u16) -> (usize, &mut Bundle) {
        let cpu = usize::from(cpu.min(CPUS - 1));
        if self.cpus.len() <= cpu {
            self.cpus.resize_with(cpu + 1, Bundle::default);
        }
        (cpu, &mut self.cpus[cpu])
    }

    /// A moment on the track of marks and triggers.
    fn mark(&mut self, ns: u64, text: &str) -> Result<()> {
        const TRACK: u64 = 3 << 32;
        if !std::mem::replace(&mut self.has_marks, true) {
            let name = Some("Marks and triggers".into());
            self.packet(of(Data::TrackDescriptor(TrackDescriptor {
                uuid: Some(TRACK),
                name,
                ..TrackDescriptor::default()
            })))?;
        }
        self.packet(TracePacket {
            timestamp: Some(self.time(ns)),
            ..of(Data::TrackEvent(TrackEvent {
                r#type: Some(track_event::Type::Instant.into()),
                track_uuid: Some(TRACK),
                categories: vec!["mark".into()],
                name: Some(text.to_owned().into()),
                ..TrackEvent::default()
            }))
        })
    }

    /// Writes an event of this thread, with the time and the CPU of `event`.
    fn push(&mut self, event: &Event, tid: u32, ftrace: Ftrace) -> Result<()> {
        let timestamp = Some(self.time(event.ns));
        let (cpu, bundle) = self.cpu(event.cpu);
        message::encode(
            EVENT,
            &FtraceEvent { timestamp, pid: Some(tid), event: Some(ftrace) },
            &mut bundle.encoded,
        );
        bundle.count += 1;
        if bundle.count >= BUNDLE { self.bundle(cpu) } else { Ok(()) }
    }
}

fn of(data: Data) -> TracePacket {
    TracePacket { data: Some(data), ..TracePacket::default() }
}

fn thread(tid: u32, pid: u32, name: Bytes) -> process_tree::Thread {
    process_tree::Thread { tid: Some(tid.cast_signed()), tgid: Some(pid.cast_signed()), name: Some(name) }
}

fn process(pid: u32, process: &procfs::Process) -> process_tree::Process {
    let mut cmdline = process.cmdline.clone();
    if cmdline.is_empty() {
        cmdline.push(escape(&process.comm)); // kernel threads; Perfetto ignores a process without one
    }
    process_tree::Process {
        pid: Some(pid.cast_signed()),
        ppid: Some(process.parent.cast_signed()),
        cmdline: cmdline.into_iter().map(Bytes::from).collect(),
        uid: process.uid.map(u32::cast_signed),
        // The first one is the pid.
        nspid: process.nspids.iter().skip(1).map(|pid| pid.cast_signed()).collect(),
    }
}

/// What Perfetto has no field for.
fn labels(process: &procfs::Process) -> Vec<Bytes> {
    let cgroup = (!process.cgroup.is_empty()).then(|| format!("cgroup {}", process.cgroup));
    let namespace = process.pid_ns.map(|inode| match process.nspids.last() {
        Some(pid) if process.nspids.len() > 1 => format!("pid {pid} in pid namespace {inode}"),
        _ => format!("pid namespace {inode}"),
    });
    cgroup.into_iter().chain(namespace).map(Bytes::from).collect()
}

impl Sink for Perfetto {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        self.stacks.symbols.learn(event);
        self.last = self.last.max(event.ns);
        match self.ftrace(event, names)? {
            Some(ftrace) => self.push(event, event.tid, ftrace),
            None => Ok(()),
        }
    }

    /// A slice on a track of its own shows when records are missing, and how many.
    fn gap(&mut self, gap: &Gap) -> Result<()> {
        let &Gap { group, cpu, count, ref cause, since, until } = gap;
        let cause = escape(cause.as_bytes());
        let until = self.time(until);
        let next = (2 << 32) + self.lost.len() as u64;
        let (uuid, end, new) = match self.lost.entry((group, cpu, cause.clone())) {
            Entry::Occupied(track) => (track.get().0, track.get().1, false),
            Entry::Vacant(track) => {
                track.insert((next, 0));
                (next, 0, true)
            }
        };
        if new {
            let name = Some(format!("Lost: {group}, CPU {cpu}: {cause}").into());
            self.packet(of(Data::TrackDescriptor(TrackDescriptor {
                uuid: Some(uuid),
                name,
                ..TrackDescriptor::default()
            })))?;
        }
        let begin = since.map_or(until, |since| self.time(since)).clamp(end.min(until), until);
        self.lost.insert((group, cpu, cause.clone()), (uuid, until));
        let slice = |kind: track_event::Type, time, name| TracePacket {
            timestamp: Some(time),
            ..of(Data::TrackEvent(TrackEvent {
                r#type: Some(kind.into()),
                track_uuid: Some(uuid),
                categories: vec!["lost".into()],
                name,
                ..TrackEvent::default()
            }))
        };
        let name = format!("{count} records lost: {cause}");
        self.packet(slice(track_event::Type::SliceBegin, begin, Some(name.into())))?;
        self.packet(slice(track_event::Type::SliceEnd, until, None))?;
        let (cpu, _) = self.cpu(cpu);
        self.bundle(cpu)?;
        let lost = FtraceEventBundle { lost_events: Some(true), ..FtraceEventBundle::default() };
        Ok(lost.encode(&mut self.cpus[cpu].encoded)?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    fn finish(&mut self, names: &mut Names) -> Result<()> {
        for cpu in 0..self.cpus.len() {
            self.bundle(cpu)?;
        }
        let mut tree = ProcessTree::default();
        for pid in take(&mut self.born) {
            if let Some(found) = names.process(pid, self.last) {
                tree.processes.push(process(pid, found));
            }
        }
        let timestamp = Some(self.time(self.last));
        self.packet(TracePacket { timestamp, ..of(Data::ProcessTree(tree)) })?;
        self.flush()
    }
}

#[cfg(test)]
#[path = "../../../tests/perfetto/mod.rs"]
mod schema;

#[cfg(test)]
#[path = "perfetto_tests.rs"]
mod tests;
