//! What the flight recorder records, in words of the kernel and apart from the layout of the records.

use crate::stack::Stack;

/// An event, as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub ns: u64,
    /// The CPU on which it happened.
    pub cpu: u16,
    /// The running process, as the initial pid namespace numbers it. 0 is the idle task.
    pub pid: u32,
    /// The running thread, in the same way.
    pub tid: u32,
    /// What happened.
    pub what: What,
}

/// A name of 16 bytes, as in `/proc/PID/comm`, filled up with zeros.
pub type Comm = [u8; 16];

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the kernel's events have the same names
pub enum What {
    /// `tid` of the event stopped running in `state` (bits of `prev_state` as ftrace shows them: 0 is runnable), and
    /// `next` runs.
    Switch {
        state: u16,
        /// Of an uninterruptible state: a signal that kills ends it (TASK_WAKEKILL).
        is_killable: bool,
        prio: i16,
        next: u32,
        next_prio: i16,
        next_comm: Comm,
        /// Which of the CPU quotas that have been used up on this CPU `next` is under. 0: none.
        quota: u8,
    },
    /// The CPU quota of the thread's cgroup was used up on this CPU (CFS bandwidth), for so long until now.
    Throttled {
        quota: u8,
        ns: u64,
    },
    /// The running thread wakes the task, unless an interrupt of this thread does. `target` is the CPU where the task ran
    /// last, or where a new one is to begin.
    Waking {
        task: u32,
        is_new: bool,
        prio: i16,
        target: u16,
        comm: Comm,
    },
    IrqEnter {
        irq: u32,
    },
    IrqExit {
        irq: u32,
    },
    SoftirqEnter {
        vec: u32,
    },
    SoftirqExit {
        vec: u32,
    },
    /// A system call by its number, with its first three arguments. A 32-bit call has a number of i386 or arm.
    SyscallEnter {
        nr: i32,
        is_32bit: bool,
        args: [u64; 3],
    },
    /// The number is that of another call after `execveat` (execve) and `rt_sigreturn` (-1).
    SyscallExit {
        nr: i32,
        is_32bit: bool,
        ret: i64,
    },
    /// The process executes another program. The thread was `old_tid` before: a thread that is not the first of its process
    /// takes the number of the first one.
    Exec {
        file: Vec<u8>,
        is_cut: bool,
        old_tid: u32,
        comm: Comm,
    },
    Fork {
        child_pid: u32,
        child_tid: u32,
        comm: Comm,
    },
    /// The thread ends.
    Exit {
        code: i32,
        /// If it is the last one of its process: how that ends, as `wait` shows it.
        process: Option<i32>,
    },
    /// A signal that dumps core ends the process. Its threads end when the core is written.
    Crash {
        signal: i32,
        /// The name of the thread.
        comm: Comm,
    },
    /// A request to a block device, again if it was put back; `dev` as the kernel's dev_t, `op` such as `R`, `W`, `WS`, `F`.
    BlockIssue {
        /// Its address, which tells it from others until it is over.
        request: u64,
        dev: u32,
        sector: u64,
        bytes: u32,
        op: [u8; 8],
    },
    /// So many bytes of it are over.
    BlockComplete {
        request: u64,
        dev: u32,
        sector: u64,
        bytes: u32,
        error: i32,
    },
    NetSend {
        interface: Interface,
        bytes: u32,
    },
    NetReceive {
        interface: Interface,
        bytes: u32,
    },
    /// A page fault of userspace.
    Fault {
        address: u64,
        ip: u64,
    },
    /// What the running thread did at a tick of the clock that takes samples.
    Sample {
        stack: Stack,
    },
    /// The thread came back after so long off its CPU. It had stopped in this state, as in [`Switch`](Self::Switch).
    Wait {
        ns: u64,
        state: u16,
        /// It could run for most of the time, and the CPU quota of its cgroup was used up.
        is_throttled: bool,
        /// The thread that woke it, or that ran when an interrupt did: 0 is the idle task. `None` if it could run all the time.
        waker: Option<u32>,
        stack: Stack,
    },
    /// The thread got the lock of the kernel at this address, or gave up, after so long.
    Contention {
        lock: u64,
        /// Bits of LCB_F_: 1 spins, 2 reads, 4 writes, 8 real time, 16 per CPU, 32 a mutex.
        flags: u32,
        ns: u64,
        stack: Stack,
    },
    /// The condition of a trigger of this kind was met: by this thread, for so many nanoseconds if it is about a time.
    Trigger {
        kind: u32,
        value: u64,
        pid: u32,
        tid: u32,
        comm: Comm,
    },
    /// What `mapring flight mark` wrote.
    Mark {
        text: Vec<u8>,
    },
    /// A CPU goes offline, and is not sampled any more.
    Offline {
        cpu: u32,
    },
    /// The recording was stopped by hand.
    Hold,
    /// It went on.
    Resume,
}

impl What {
    /// The stack that it has.
    pub(crate) fn stack(&self) -> Option<&Stack> {
        match self {
            Self::Sample { stack } | Self::Wait { stack, .. } | Self::Contention { stack, .. } => Some(stack),
            _ => None,
        }
    }

    /// The group that records it.
    pub(crate) fn group(&self) -> &'static str {
        match self {
            Self::Switch { .. } | Self::Waking { .. } | Self::Throttled { .. } => "sched",
            Self::IrqEnter { .. } | Self::IrqExit { .. } => "irq",
            Self::SoftirqEnter { .. } | Self::SoftirqExit { .. } => "irq",
            Self::SyscallEnter { .. } | Self::SyscallExit { .. } => "syscalls",
            Self::Exec { .. } | Self::Fork { .. } | Self::Exit { .. } | Self::Crash { .. } => "exec",
            Self::BlockIssue { .. } | Self::BlockComplete { .. } => "block",
            Self::NetSend { .. } | Self::NetReceive { .. } => "net",
            Self::Fault { .. } => "faults",
            Self::Sample { .. } => "profile",
            Self::Wait { .. } => "waits",
            Self::Contention { .. } => "locks",
            Self::Trigger { .. } | Self::Mark { .. } | Self::Offline { .. } | Self::Hold | Self::Resume => {
                "marks"
            }
        }
    }
}

/// A network interface, in the namespace with this inode. 0: the kernel has only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface {
    /// Its number there.
    pub index: u32,
    /// The inode.
    pub net_ns: u64,
}

/// Records that are missing in a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The group of events that lost records.
    pub group: &'static str,
    /// The CPU whose shard lost them.
    pub cpu: u16,
    /// How many.
    pub count: u64,
    /// In words: overwritten, no free slot, …
    pub cause: String,
    /// None was lost before, and none after, in nanoseconds of CLOCK_MONOTONIC.
    pub since: Option<u64>,
    /// The end of that time.
    pub until: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An event of the process with this only thread, on CPU 0.
    pub(crate) fn event(ns: u64, tid: u32, what: What) -> Event {
        Event { ns, cpu: 0, pid: tid, tid, what }
    }

    pub(crate) fn exec(file: impl AsRef<[u8]>, name: &str) -> What {
        What::Exec { file: file.as_ref().to_vec(), is_cut: false, old_tid: 7, comm: comm(name) }
    }

    pub(crate) fn comm(name: &str) -> Comm {
        let mut comm = Comm::default();
        comm[..name.len()].copy_from_slice(name.as_bytes());
        comm
    }
}
