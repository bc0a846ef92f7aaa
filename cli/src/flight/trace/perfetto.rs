//! A trace for Perfetto. Its trace processor computes the states of threads, the slices of CPUs and of system calls from
//! the same events that it gets from ftrace, so this writes those. Times are CLOCK_BOOTTIME, Perfetto's own clock.

mod stacks;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufWriter, Write};
use std::mem::take;

use anyhow::Result;
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::message;

use super::super::event::{Event, Gap, Interface, What};
use super::super::machine::Machine;
use super::super::names::{Names, Older, escape};
use super::super::symbols::Symbols;
use super::super::{procfs, stopped};
use super::{Abi, Sink, rows};
use crate::messages::perfetto::protos::BuiltinClock::{Boottime, Monotonic, Realtime};
use crate::messages::perfetto::protos::{
    BlockRqCompleteFtraceEvent, BlockRqIssueFtraceEvent, ClockSnapshot, FtraceEvent, FtraceEventBundle,
    GenericFtraceEvent, IrqHandlerEntryFtraceEvent, IrqHandlerExitFtraceEvent, NetDevXmitFtraceEvent,
    NetifReceiveSkbFtraceEvent, ProcessDescriptor, ProcessTree, SchedProcessExecFtraceEvent,
    SchedProcessExitFtraceEvent, SchedSwitchFtraceEvent, SchedWakingFtraceEvent, SoftirqEntryFtraceEvent,
    SoftirqExitFtraceEvent, SysEnterFtraceEvent, SysExitFtraceEvent, SystemInfo, TaskNewtaskFtraceEvent,
    TaskRenameFtraceEvent, Trace, TracePacket, TrackDescriptor, TrackEvent, Utsname, clock_snapshot,
    ftrace_event::Event as Ftrace, generic_ftrace_event, process_tree, trace_packet::Data, track_event,
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

    /// A thread that is not the first of its process executes a program: all other threads have ended, and it has taken the
    /// number of the first one. Perfetto ends this one's process with it, and the other number would never end.
    fn take_number(&mut self, event: &Event, old_tid: u32, names: &mut Names) -> Result<()> {
        let [tid, tgid, old] = [event.tid, event.pid, old_tid].map(|id| Some(id.cast_signed()));
        self.leave(event, event.tid)?;
        self.leave(event, old_tid)?;
        let What::Exec { comm, .. } = &event.what else { return Ok(()) };
        let comm = Some(names.seen(event.tid, event.cpu, comm));
        self.push(
            event,
            old_tid,
            Ftrace::TaskNewtask(TaskNewtaskFtraceEvent { pid: tid, comm, clone_flags: Some(0) }),
        )?;
        let comm = Some(names.comm(old_tid, event.cpu, event.ns));
        self.push(
            event,
            old_tid,
            Ftrace::SchedProcessExit(SchedProcessExitFtraceEvent { comm, pid: old, tgid }),
        )
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

    /// Ends the slice of the call that the thread is in, if there is one. Perfetto would show it up to the end of the trace.
    fn leave(&mut self, event: &Event, tid: u32) -> Result<()> {
        match self.calls.remove(&tid) {
            Some(id) => {
                self.push(event, tid, Ftrace::SysExit(SysExitFtraceEvent { id: Some(id), ret: None }))
            }
            None => Ok(()),
        }
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

/// Interfaces of different network namespaces may have the same index and name.
fn interface_name(interface: Interface, names: &mut Names) -> Bytes {
    let Interface { index, net_ns } = interface;
    let name = match names.interface(interface) {
        Some(name) => name.to_owned(),
        None if net_ns == 0 => format!("if{index}"),
        None => format!("if{index} in net namespace {net_ns}"),
    };
    name.into()
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

/// Up to the zero.
fn zeroed(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn text(name: &[u8]) -> Bytes {
    escape(zeroed(name)).into()
}

impl Sink for Perfetto {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        const CLONE_THREAD: u64 = 0x1_0000;
        let &Event { ns, cpu, pid, tid, .. } = event;
        self.stacks.symbols.learn(event);
        self.last = self.last.max(ns);
        let [me, my_pid] = [tid, pid].map(|id| Some(id.cast_signed()));
        let ftrace = match &event.what {
            What::Switch { state, prio, next, next_prio, next_comm } => {
                let next_comm = names.seen(*next, cpu, next_comm);
                Ftrace::SchedSwitch(SchedSwitchFtraceEvent {
                    prev_comm: Some(names.comm(tid, cpu, ns)),
                    prev_pid: me,
                    prev_prio: Some((*prio).into()),
                    prev_state: Some((*state).into()),
                    next_comm: Some(next_comm),
                    next_pid: Some(next.cast_signed()),
                    next_prio: Some((*next_prio).into()),
                })
            }
            // Perfetto counts a thread as runnable from sched_waking on, and ignores sched_wakeup.
            What::Waking { task, prio, target, comm, .. } => Ftrace::SchedWaking(SchedWakingFtraceEvent {
                comm: Some(names.seen(*task, cpu, comm)),
                pid: Some(task.cast_signed()),
                prio: Some((*prio).into()),
                target_cpu: Some((*target).into()),
            }),
            What::IrqEnter { irq } => Ftrace::IrqHandlerEntry(IrqHandlerEntryFtraceEvent {
                irq: Some(irq.cast_signed()),
                name: Some(format!("irq {irq}").into()),
            }),
            What::IrqExit { irq } => Ftrace::IrqHandlerExit(IrqHandlerExitFtraceEvent {
                irq: Some(irq.cast_signed()),
                ret: Some(1),
            }),
            // Perfetto knows the names of these only.
            What::SoftirqEnter { vec } | What::SoftirqExit { vec } if rows::softirq_name(*vec).is_none() => {
                return Ok(());
            }
            What::SoftirqEnter { vec } => Ftrace::SoftirqEntry(SoftirqEntryFtraceEvent { vec: Some(*vec) }),
            What::SoftirqExit { vec } => Ftrace::SoftirqExit(SoftirqExitFtraceEvent { vec: Some(*vec) }),
            What::SyscallEnter { nr, is_32bit, args } => {
                self.leave(event, tid)?; // its exit is missing
                let id = Abi::of(names.machine()).perfetto_id(*nr, *is_32bit);
                self.calls.insert(tid, id);
                Ftrace::SysEnter(SysEnterFtraceEvent { id: Some(id), args: args.to_vec() })
            }
            What::SyscallExit { nr, is_32bit, ret } => {
                // The kernel may show another number than at the entry. A thread is in one call at a time.
                let entered = self.calls.remove(&tid);
                let id = entered.unwrap_or_else(|| Abi::of(names.machine()).perfetto_id(*nr, *is_32bit));
                Ftrace::SysExit(SysExitFtraceEvent { id: Some(id), ret: Some(*ret) })
            }
            What::Exec { file, old_tid, .. } => {
                let (filename, old_pid) = (Some(escape(file).into()), Some(old_tid.cast_signed()));
                self.push(
                    event,
                    tid,
                    Ftrace::SchedProcessExec(SchedProcessExecFtraceEvent { filename, pid: me, old_pid }),
                )?;
                if *old_tid != tid {
                    self.take_number(event, *old_tid, names)?;
                }
                // The kernel renames the thread here. Perfetto names the process after it.
                let oldcomm = Some(names.comm(tid, cpu, ns));
                names.update(event);
                let newcomm = Some(names.comm(tid, cpu, ns));
                Ftrace::TaskRename(TaskRenameFtraceEvent { pid: me, oldcomm, newcomm })
            }
            What::Fork { child_pid, child_tid, comm } => {
                let clone_flags = if child_pid == child_tid { 0 } else { CLONE_THREAD };
                if clone_flags == 0 {
                    self.born.push(*child_pid);
                }
                let comm = names.seen(*child_tid, cpu, comm);
                let pid = Some(child_tid.cast_signed());
                Ftrace::TaskNewtask(TaskNewtaskFtraceEvent {
                    pid,
                    comm: Some(comm),
                    clone_flags: Some(clone_flags),
                })
            }
            What::Exit { .. } => {
                self.leave(event, tid)?;
                let comm = Some(names.comm(tid, cpu, ns));
                Ftrace::SchedProcessExit(SchedProcessExitFtraceEvent { comm, pid: me, tgid: my_pid })
            }
            What::BlockIssue { dev, sector, bytes, op } => Ftrace::BlockRqIssue(BlockRqIssueFtraceEvent {
                dev: Some((*dev).into()),
                sector: Some(*sector),
                nr_sector: Some(bytes / 512),
                bytes: Some(*bytes),
                rwbs: Some(text(op)),
            }),
            What::BlockComplete { dev, sector, bytes, error } => {
                Ftrace::BlockRqComplete(BlockRqCompleteFtraceEvent {
                    dev: Some((*dev).into()),
                    sector: Some(*sector),
                    nr_sector: Some(bytes / 512),
                    error: Some(*error),
                })
            }
            What::NetSend { interface, bytes } => Ftrace::NetDevXmit(NetDevXmitFtraceEvent {
                len: Some(*bytes),
                name: Some(interface_name(*interface, names)),
            }),
            What::NetReceive { interface, bytes } => Ftrace::NetifReceiveSkb(NetifReceiveSkbFtraceEvent {
                len: Some(*bytes),
                name: Some(interface_name(*interface, names)),
            }),
            What::Fault { address, ip } => {
                let field = |name: &'static str, value| generic_ftrace_event::Field {
                    name: Some(name.into()),
                    uint_value: Some(value),
                };
                let field = vec![field("address", *address), field("ip", *ip)];
                Ftrace::Generic(GenericFtraceEvent { event_name: Some("page_fault_user".into()), field })
            }
            What::Sample { stack } => return self.sample(event, stack, names),
            What::Wait { ns: time, state, waker, stack } => {
                let waker = waker.map(|waker| {
                    format!("{waker} ({})", String::from_utf8_lossy(&names.comm(waker, cpu, ns)))
                });
                let waker = waker.unwrap_or_default().into();
                let details = vec![("waker", waker), ("stack", self.text(event, stack, names))];
                return self.waited(event, "Off its CPU", *time, stacks::wait_name(*state), details);
            }
            What::Contention { lock, flags, ns: time, stack } => {
                let details = vec![("stack", self.text(event, stack, names))];
                return self.waited(
                    event,
                    "Waits for locks",
                    *time,
                    stacks::lock_name(*lock, *flags),
                    details,
                );
            }
            What::Trigger { kind, value, pid, comm, .. } => {
                return self.mark(ns, &stopped::said(*kind, *value, *pid, &escape(zeroed(comm))));
            }
            What::Mark { text } => return self.mark(ns, &escape(text)),
            What::Offline { cpu } => return self.mark(ns, &format!("CPU {cpu} goes offline")),
            What::Hold => return self.mark(ns, "hold"),
            What::Resume => return self.mark(ns, "resume"),
        };
        self.push(event, tid, ftrace)
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
