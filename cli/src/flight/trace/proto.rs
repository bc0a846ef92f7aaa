//! The messages of Perfetto's trace format that a dump uses, with the field numbers of its public schema
//! (`protos/perfetto/trace/perfetto_trace.proto` in Perfetto's repository). `perfetto.rs` writes them.
//!
//! Texts are fields of type `bytes`: the encoding of `string` is the same, and a name is then copied without an
//! allocation. The texts that are put here are valid UTF-8.

use prost::bytes::Bytes;
use prost::{Message, Oneof};

/// A file is a sequence of these, encoded one after the other: repeated fields of several messages are one list.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Trace {
    #[prost(message, repeated, tag = "1")]
    pub(crate) packet: Vec<TracePacket>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TracePacket {
    #[prost(uint64, optional, tag = "8")]
    pub(crate) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    pub(crate) trusted_packet_sequence_id: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub(crate) sequence_flags: Option<u32>,
    #[prost(oneof = "Data", tags = "1, 2, 6, 11, 45, 60")]
    pub(crate) data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Data {
    /// A bundle, encoded.
    #[prost(bytes = "bytes", tag = "1")]
    FtraceEvents(Bytes),
    #[prost(message, tag = "2")]
    ProcessTree(ProcessTree),
    #[prost(message, tag = "6")]
    ClockSnapshot(ClockSnapshot),
    #[prost(message, tag = "11")]
    TrackEvent(TrackEvent),
    #[prost(message, tag = "45")]
    SystemInfo(SystemInfo),
    #[prost(message, tag = "60")]
    TrackDescriptor(TrackDescriptor),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub(crate) clocks: Vec<Clock>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) primary_trace_clock: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Clock {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) clock_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) timestamp: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SystemInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) utsname: Option<Utsname>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Utsname {
    #[prost(string, optional, tag = "1")]
    pub(crate) sysname: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) version: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) release: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) machine: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProcessTree {
    #[prost(message, repeated, tag = "1")]
    pub(crate) processes: Vec<Process>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) threads: Vec<Thread>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Process {
    #[prost(int32, optional, tag = "1")]
    pub(crate) pid: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) ppid: Option<i32>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) cmdline: Vec<String>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) uid: Option<i32>,
    #[prost(int32, repeated, packed = "false", tag = "6")]
    pub(crate) nspid: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Thread {
    #[prost(int32, optional, tag = "1")]
    pub(crate) tid: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) name: Option<Bytes>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) tgid: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) process: Option<ProcessDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pub(crate) pid: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) process_name: Option<Bytes>,
    #[prost(string, repeated, tag = "8")]
    pub(crate) process_labels: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TrackEvent {
    #[prost(int32, optional, tag = "9")]
    pub(crate) r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    pub(crate) track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    pub(crate) categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    pub(crate) name: Option<String>,
}

/// A bundle is a sequence of these, encoded one after the other, as a file is of [`Trace`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FtraceEventBundle {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) cpu: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub(crate) event: Option<FtraceEvent>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) lost_events: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FtraceEvent {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) timestamp: Option<u64>,
    /// The thread, in spite of its name.
    #[prost(uint32, optional, tag = "2")]
    pub(crate) pid: Option<u32>,
    #[prost(
        oneof = "Ftrace",
        tags = "4, 20, 24, 25, 36, 37, 45, 125, 235, 236, 237, 238, 327, 329, 330, 360, 361"
    )]
    pub(crate) event: Option<Ftrace>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Ftrace {
    #[prost(message, tag = "4")]
    SchedSwitch(SchedSwitch),
    #[prost(message, tag = "20")]
    SchedWaking(SchedWaking),
    #[prost(message, tag = "24")]
    SoftirqEntry(Softirq),
    #[prost(message, tag = "25")]
    SoftirqExit(Softirq),
    #[prost(message, tag = "36")]
    IrqHandlerEntry(IrqHandlerEntry),
    #[prost(message, tag = "37")]
    IrqHandlerExit(IrqHandlerExit),
    #[prost(message, tag = "45")]
    BlockRqIssue(BlockRqIssue),
    #[prost(message, tag = "125")]
    BlockRqComplete(BlockRqComplete),
    #[prost(message, tag = "235")]
    TaskNewtask(TaskNewtask),
    #[prost(message, tag = "236")]
    TaskRename(TaskRename),
    #[prost(message, tag = "237")]
    SchedProcessExec(SchedProcessExec),
    #[prost(message, tag = "238")]
    SchedProcessExit(SchedProcessExit),
    #[prost(message, tag = "327")]
    Generic(Generic),
    #[prost(message, tag = "329")]
    SysEnter(SysEnter),
    #[prost(message, tag = "330")]
    SysExit(SysExit),
    #[prost(message, tag = "360")]
    NetifReceiveSkb(NetPacket),
    #[prost(message, tag = "361")]
    NetDevXmit(NetPacket),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchedSwitch {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) prev_comm: Option<Bytes>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) prev_pid: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) prev_prio: Option<i32>,
    #[prost(int64, optional, tag = "4")]
    pub(crate) prev_state: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) next_comm: Option<Bytes>,
    #[prost(int32, optional, tag = "6")]
    pub(crate) next_pid: Option<i32>,
    #[prost(int32, optional, tag = "7")]
    pub(crate) next_prio: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchedWaking {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) comm: Option<Bytes>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) prio: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) target_cpu: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Softirq {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) vec: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IrqHandlerEntry {
    #[prost(int32, optional, tag = "1")]
    pub(crate) irq: Option<i32>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IrqHandlerExit {
    #[prost(int32, optional, tag = "1")]
    pub(crate) irq: Option<i32>,
    /// 1: the interrupt was for this handler. Perfetto shows another value as an interrupt that nobody handled.
    #[prost(int32, optional, tag = "2")]
    pub(crate) ret: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlockRqIssue {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) dev: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) sector: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) nr_sector: Option<u32>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) bytes: Option<u32>,
    #[prost(string, optional, tag = "5")]
    pub(crate) rwbs: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlockRqComplete {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) dev: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) sector: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) nr_sector: Option<u32>,
    #[prost(int32, optional, tag = "7")]
    pub(crate) error: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskNewtask {
    #[prost(int32, optional, tag = "1")]
    pub(crate) pid: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) comm: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) clone_flags: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskRename {
    #[prost(int32, optional, tag = "1")]
    pub(crate) pid: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) oldcomm: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) newcomm: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchedProcessExec {
    #[prost(string, optional, tag = "1")]
    pub(crate) filename: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) old_pid: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchedProcessExit {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) comm: Option<Bytes>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) tgid: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Generic {
    #[prost(string, optional, tag = "1")]
    pub(crate) event_name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) field: Vec<GenericField>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GenericField {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) uint_value: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SysEnter {
    #[prost(int64, optional, tag = "1")]
    pub(crate) id: Option<i64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub(crate) args: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SysExit {
    #[prost(int64, optional, tag = "1")]
    pub(crate) id: Option<i64>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) ret: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NetPacket {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) len: Option<u32>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}
