//! The records of `bpf/flight.bpf.c` and `stacks.bpf.c`, and the events that they mean.

use mapring::Record;

use crate::event::{Event, Interface, What};
use crate::stack::Stack;

/// A record that has a time and an event.
pub(crate) trait FlightRecord: Record + Send {
    /// CLOCK_MONOTONIC, nanoseconds.
    fn ns(&self) -> u64;

    /// The running process and thread.
    fn task(&self) -> (u32, u32);

    /// What happened, by the record and its tail. `None` for a record that this version does not know.
    fn what(&self, tail: &[u8]) -> Option<What>;

    /// Whether it has a stack whose outer frames are missing.
    fn is_cut(&self) -> bool {
        false
    }

    /// The event, recorded on this CPU.
    fn event(&self, cpu: u16, tail: &[u8]) -> Option<Event> {
        let (pid, tid) = self.task();
        Some(Event { ns: self.ns(), cpu, pid, tid, what: self.what(tail)? })
    }
}

/// A record with the fields `ns`, `pid` and `tid`, and with a `stack` if `$stack` names it.
macro_rules! recorded {
    ($record:ident, $self:ident $(, $stack:ident)? => $what:expr) => {
        impl FlightRecord for $record {
            fn ns(&self) -> u64 {
                self.ns
            }

            fn task(&self) -> (u32, u32) {
                (self.pid, self.tid)
            }

            fn what(&$self, _tail: &[u8]) -> Option<What> {
                $(let $stack = Stack::of_tail(_tail, $self.stack.kernel, $self.is_cut(), $self.stack.began);)?
                $what
            }

            $(fn is_cut(&self) -> bool {
                self.$stack.is_cut != 0
            })?
        }
    };
}

/// Upper bits of words that also hold a smaller number.
const HIGH: u32 = 1 << 31;
const SOFTIRQ: u32 = 1 << 30;
const WAKING: u32 = 1 << 31;
const PREEMPTED: u32 = 1 << 30;
const NEW: u32 = 1 << 29;
const WAS_THROTTLED: u32 = 1 << 16;
const THROTTLED: u32 = WAKING | PREEMPTED;
const QUOTA_AT: u32 = 22;

/// A bit of states of tasks.
const WAKEKILL: u16 = 0x100;

/// The state of a task that could run: as in ftrace, beyond those of a task.
const PREEMPTED_STATE: u16 = 0x100;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Sched {
    ns: u64,
    pid: u32,
    tid: u32,
    task: u32,
    state: u16,
    prio: u8,
    other_prio: u8,
    comm: [u64; 2],
}

recorded!(Sched, self => {
    let (task, comm) = (self.task & ((1 << QUOTA_AT) - 1), bytemuck::cast(self.comm));
    let quota = (self.task >> QUOTA_AT & 0xff) as u8;
    Some(if self.task & THROTTLED == THROTTLED {
        What::Throttled { quota, ns: self.comm[0] }
    } else if self.task & WAKING != 0 {
        What::Waking { task, is_new: self.task & NEW != 0, prio: priority(self.prio), target: self.state, comm }
    } else {
        What::Switch {
            state: if self.task & PREEMPTED != 0 { PREEMPTED_STATE } else { shown_state(self.state) },
            is_killable: self.state & WAKEKILL != 0,
            prio: priority(self.prio),
            next: task,
            next_prio: priority(self.other_prio),
            next_comm: comm,
            quota,
        }
    })
});

/// The kernel's priorities end at 140. Those of SCHED_DEADLINE are negative.
fn priority(prio: u8) -> i16 {
    if prio > 140 { i16::from(prio) - 256 } else { prio.into() }
}

/// The state as ftrace shows it (`__trace_sched_switch_state`): the highest of the bits that are reported.
fn shown_state(state: u16) -> u16 {
    const REPORTED: u16 = 0x7f;
    const UNINTERRUPTIBLE: u16 = 0x2;
    const IDLE: u16 = 0x402; // TASK_UNINTERRUPTIBLE | TASK_NOLOAD
    const RTLOCK_WAIT: u16 = 0x1000;
    const FROZEN: u16 = 0x8000;
    match state {
        _ if state & (RTLOCK_WAIT | FROZEN) != 0 => UNINTERRUPTIBLE,
        _ if state & IDLE == IDLE => 0x80,
        _ => (state & REPORTED).checked_ilog2().map_or(0, |bit| 1 << bit),
    }
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Irq {
    ns: u64,
    pid: u32,
    tid: u32,
    value: u32,
    unused: u32,
}

recorded!(Irq, self => {
    let number = self.value & !(HIGH | SOFTIRQ);
    Some(match (self.value & SOFTIRQ != 0, self.value & HIGH != 0) {
        (false, false) => What::IrqEnter { irq: number },
        (false, true) => What::IrqExit { irq: number },
        (true, false) => What::SoftirqEnter { vec: number },
        (true, true) => What::SoftirqExit { vec: number },
    })
});

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Syscalls {
    ns: u64,
    pid: u32,
    tid: u32,
    nr: i32,
    kind: u32,
    args: [u64; 3],
}

recorded!(Syscalls, self => {
    const IS_32BIT: u32 = 1;
    const RETURN: u32 = 2;
    let (nr, is_32bit) = (self.nr, self.kind & IS_32BIT != 0);
    Some(if self.kind & RETURN == 0 {
        What::SyscallEnter { nr, is_32bit, args: self.args }
    } else {
        What::SyscallExit { nr, is_32bit, ret: self.args[0].cast_signed() }
    })
});

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Exec {
    ns: u64,
    pid: u32,
    tid: u32,
    kind: u32,
    other_pid: u32,
    other_tid: u32,
    code: i32,
    comm: [u64; 2],
    file: [u8; 96],
}

recorded!(Exec, self => {
    const LAST: u32 = 1;
    let (comm, text) = (bytemuck::cast(self.comm), self.file.split(|&byte| byte == 0).next());
    match self.kind {
        0 => Some(What::Exec {
            file: text.unwrap_or_default().to_vec(),
            is_cut: self.code != 0,
            old_tid: self.other_tid,
            comm,
        }),
        1 => Some(What::Fork { child_pid: self.other_pid, child_tid: self.other_tid, comm }),
        2 => Some(What::Exit {
            code: self.code,
            process: (self.other_tid == LAST).then_some(self.other_pid.cast_signed()),
        }),
        3 => Some(What::Crash { signal: self.code, comm }),
        _ => None,
    }
});

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Block {
    ns: u64,
    pid: u32,
    tid: u32,
    request: u64,
    sector: u64,
    dev: u32,
    bytes: u32,
    kind: u32,
    value: u32,
}

recorded!(Block, self => {
    let Self { request, dev, bytes, value, .. } = *self;
    // -1: a request without a place on the disk, such as a flush. ftrace shows it as 0.
    let sector = if self.sector == u64::MAX { 0 } else { self.sector };
    match self.kind {
        0 => Some(What::BlockIssue { request, dev, sector, bytes, op: letters(value) }),
        1 => Some(What::BlockComplete { request, dev, sector, bytes, error: -errno(value) }),
        _ => None,
    }
});

/// The operation in letters, as ftrace shows it (`blk_fill_rwbs`).
fn letters(flags: u32) -> [u8; 8] {
    let operation: &[u8] = match flags & 0xff {
        0 => b"R",
        1 => b"W",
        2 => b"F",
        3 => b"D",
        5 => b"DE",
        9 => b"WZ",
        _ => b"N",
    };
    let (sync, meta, fua, preflush, ahead) = (1 << 11, 1 << 12, 1 << 17, 1 << 18, 1 << 19);
    let flag = |bit: u32, letter| (flags & bit != 0).then_some(letter);
    let before = flag(preflush, b'F');
    let after = [flag(fua, b'F'), flag(ahead, b'A'), flag(sync, b'S'), flag(meta, b'M')];
    let mut text = before.into_iter().chain(operation.iter().copied()).chain(after.into_iter().flatten());
    std::array::from_fn(|_| text.next().unwrap_or(0))
}

/// The error of a status: kernels since 5.16 pass a blk_status_t, older ones a negative error number.
fn errno(status: u32) -> i32 {
    let status = status.cast_signed();
    if status <= 0 {
        return status.saturating_neg();
    }
    match status & 0xff {
        0 => 0,
        1 => libc::EOPNOTSUPP,
        2 => libc::ETIMEDOUT,
        3 => libc::ENOSPC,
        4 => libc::ENOLINK,
        5 => libc::EREMOTEIO,
        6 => libc::EBADE,
        7 => libc::ENODATA,
        8 => libc::EILSEQ,
        9 => libc::ENOMEM,
        12 => libc::EAGAIN,
        _ => libc::EIO,
    }
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Net {
    ns: u64,
    pid: u32,
    tid: u32,
    ifindex: u32,
    bytes: u32,
    net_ns: u64,
}

recorded!(Net, self => {
    let (interface, bytes) = (Interface { index: self.ifindex & !HIGH, net_ns: self.net_ns }, self.bytes);
    Some(if self.ifindex & HIGH == 0 {
        What::NetSend { interface, bytes }
    } else {
        What::NetReceive { interface, bytes }
    })
});

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Faults {
    ns: u64,
    pid: u32,
    tid: u32,
    address: u64,
    ip: u64,
}

recorded!(Faults, self => Some(What::Fault { address: self.address, ip: self.ip }));

/// What a record says of its tail.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct StackInTail {
    /// Bytes of the kernel's frames.
    kernel: u16,
    is_cut: u16,
    /// Of the process.
    began: u32,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Profile {
    ns: u64,
    pid: u32,
    tid: u32,
    stack: StackInTail,
}

recorded!(Profile, self, stack => Some(What::Sample { stack }));

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Waits {
    ns: u64,
    pid: u32,
    tid: u32,
    time: u64,
    waker: u32,
    state: u32,
    stack: StackInTail,
}

recorded!(Waits, self, stack => {
    let state = (self.state & 0xffff) as u16;
    Some(What::Wait {
        is_throttled: self.state & WAS_THROTTLED != 0,
        ns: self.time,
        state: if state == PREEMPTED_STATE { state } else { shown_state(state) },
        waker: (self.waker & HIGH != 0).then_some(self.waker & !HIGH),
        stack,
    })
});

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Locks {
    ns: u64,
    pid: u32,
    tid: u32,
    lock: u64,
    time: u64,
    flags: u32,
    unused: u32,
    stack: StackInTail,
}

recorded!(Locks, self, stack => {
    Some(What::Contention { lock: self.lock, flags: self.flags, ns: self.time, stack })
});

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Marks {
    ns: u64,
    pid: u32,
    tid: u32,
    kind: u32,
    condition: u32,
    value: u64,
    of_pid: u32,
    of_tid: u32,
    text: [u64; 11],
}

/// Kinds of marks that are not those of triggers: what `mapring flight` asks `marks_control` for.
pub(crate) const MARK: u32 = 32;
pub(crate) const HOLD: u32 = 33;
pub(crate) const RESUME: u32 = 34;
pub(crate) const OFFLINE: u32 = 35;

recorded!(Marks, self => {
    let text: [u8; 88] = bytemuck::cast(self.text);
    Some(match self.kind {
        MARK => What::Mark { text: text.split(|&byte| byte == 0).next().unwrap_or_default().to_vec() },
        HOLD => What::Hold,
        RESUME => What::Resume,
        OFFLINE => What::Offline { cpu: u32::try_from(self.value).ok()? },
        kind => What::Trigger {
            kind,
            value: self.value,
            pid: self.of_pid,
            tid: self.of_tid,
            comm: bytemuck::cast([self.text[0], self.text[1]]),
        },
    })
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_those_of_ftrace() {
        let shown = [0, 1, 2, 0x402, 0x80 | 0x20, 0x10 | 0x80, 0x1000, 0x2001, 0x8000].map(shown_state);
        assert_eq!(shown, [0, 1, 2, 0x80, 0x20, 0x10, 2, 1, 2]);
        assert_eq!([0, 120, 140, 255].map(priority), [0, 120, 140, -1]);
    }

    #[test]
    fn requests_are_those_of_ftrace() {
        let text = |flags| mapring::record::string(&letters(flags)).into_owned();
        let requests = [0, 1 | 1 << 11, 1 | 1 << 17 | 1 << 18 | 1 << 11, 2, 1 << 19, 34];
        assert_eq!(requests.map(text), ["R", "WS", "FWFS", "F", "RA", "N"]);
        assert_eq!([0, 10, (-5_i32).cast_unsigned()].map(errno), [0, libc::EIO, 5]);
        assert!(errno(1 << 31) > 0);
    }
}
