//! Events as those of ftrace that Perfetto knows.

use anyhow::Result;
use prost::bytes::Bytes;

use super::super::super::event::{Event, Interface, What};
use super::super::super::names::Names;
use super::super::super::stopped;
use super::super::super::text::escape;
use super::super::{Abi, rows};
use super::{Perfetto, stacks};
use crate::messages::perfetto::protos::{
    BlockRqCompleteFtraceEvent, BlockRqIssueFtraceEvent, GenericFtraceEvent, IrqHandlerEntryFtraceEvent,
    IrqHandlerExitFtraceEvent, NetDevXmitFtraceEvent, NetifReceiveSkbFtraceEvent,
    SchedProcessExecFtraceEvent, SchedProcessExitFtraceEvent, SchedSwitchFtraceEvent, SchedWakingFtraceEvent,
    SoftirqEntryFtraceEvent, SoftirqExitFtraceEvent, SysEnterFtraceEvent, SysExitFtraceEvent,
    TaskNewtaskFtraceEvent, TaskRenameFtraceEvent, ftrace_event::Event as Ftrace, generic_ftrace_event,
};

impl Perfetto {
    /// The event of ftrace. Writes what must be before it; `None` if that is all.
    pub(super) fn ftrace(&mut self, event: &Event, names: &mut Names) -> Result<Option<Ftrace>> {
        const CLONE_THREAD: u64 = 0x1_0000;
        let &Event { ns, cpu, pid, tid, .. } = event;
        let [me, my_pid] = [tid, pid].map(|id| Some(id.cast_signed()));
        let ftrace = match &event.what {
            What::Switch { state, prio, next, next_prio, next_comm, .. } => {
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
            What::Throttled { ns, .. } => generic("throttled", &[("ns", *ns)]),
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
                return Ok(None);
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
                let comm = stopped::name(comm).into();
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
            What::BlockIssue { dev, sector, bytes, op, .. } => {
                Ftrace::BlockRqIssue(BlockRqIssueFtraceEvent {
                    dev: Some((*dev).into()),
                    sector: Some(*sector),
                    nr_sector: Some(bytes / 512),
                    bytes: Some(*bytes),
                    rwbs: Some(text(op)),
                })
            }
            What::BlockComplete { dev, sector, bytes, error, .. } => {
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
            What::Crash { signal, .. } => {
                generic("signal_deliver", &[("sig", signal.cast_unsigned().into())])
            }
            What::Fault { address, ip } => generic("page_fault_user", &[("address", *address), ("ip", *ip)]),
            What::Sample { stack } => return self.sample(event, stack, names).map(|()| None),
            What::Wait { ns: time, state, waker, stack, .. } => {
                let waker = waker.map(|waker| {
                    format!("{waker} ({})", String::from_utf8_lossy(&names.comm(waker, cpu, ns)))
                });
                let waker = waker.unwrap_or_default().into();
                let details = vec![("waker", waker), ("stack", self.text(event, stack, names))];
                self.waited(event, "Off its CPU", *time, stacks::wait_name(*state), details)?;
                return Ok(None);
            }
            What::Contention { lock, flags, ns: time, stack } => {
                let details = vec![("stack", self.text(event, stack, names))];
                self.waited(event, "Waits for locks", *time, stacks::lock_name(*lock, *flags), details)?;
                return Ok(None);
            }
            What::Trigger { kind, value, pid, comm, .. } => {
                let text = stopped::cause_text(*kind, *value, *pid, &escape(zeroed(comm)));
                return self.mark(ns, &text).map(|()| None);
            }
            What::Mark { text } => return self.mark(ns, &escape(text)).map(|()| None),
            What::Offline { cpu } => {
                return self.mark(ns, &format!("CPU {cpu} goes offline")).map(|()| None);
            }
            What::Hold => return self.mark(ns, "hold").map(|()| None),
            What::Resume => return self.mark(ns, "resume").map(|()| None),
        };
        Ok(Some(ftrace))
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

    /// Ends the slice of the call that the thread is in, if there is one. Perfetto would show it up to the end of the trace.
    fn leave(&mut self, event: &Event, tid: u32) -> Result<()> {
        match self.calls.remove(&tid) {
            Some(id) => {
                self.push(event, tid, Ftrace::SysExit(SysExitFtraceEvent { id: Some(id), ret: None }))
            }
            None => Ok(()),
        }
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

/// An event that Perfetto does not know.
fn generic(name: &'static str, fields: &[(&'static str, u64)]) -> Ftrace {
    let field = |&(name, value): &(&'static str, u64)| generic_ftrace_event::Field {
        name: Some(name.into()),
        uint_value: Some(value),
    };
    let field = fields.iter().map(field).collect();
    Ftrace::Generic(GenericFtraceEvent { event_name: Some(name.into()), field })
}

/// Up to the zero.
fn zeroed(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn text(name: &[u8]) -> Bytes {
    escape(zeroed(name)).into()
}
