//! Events as rows of one table, for the formats that are tables: a column for each argument of any event.

use std::time::Duration;

use mapring_kit::output;
use mapring_kit::table::{Cell, Kind};

use super::super::event::{Event, Gap, Interface, What};
use super::super::machine::Wall;
use super::super::names::Names;
use super::super::stack::Stack;
use super::super::text::escape;
use super::super::triggers;
use super::{Abi, frames};

macro_rules! columns {
    ($($name:ident: $kind:ident,)*) => {
        /// The number of a column.
        #[allow(non_camel_case_types)] // the names that users see
        #[derive(Clone, Copy)]
        enum Column { $($name),* }

        /// All columns: their names and kinds, in order.
        pub(super) const COLUMNS: &[(&str, Kind)] = &[$((stringify!($name), Kind::$kind)),*];
    };
}

columns! {
    time: Time,
    ns: Unsigned,
    cpu: Unsigned,
    pid: Unsigned,
    tid: Unsigned,
    process: Text,
    thread: Text,
    ns_pid: Unsigned,
    pid_ns: Unsigned,
    cgroup: Text,
    event: Text,
    state: Text,
    prio: Signed,
    next_tid: Unsigned,
    next_thread: Text,
    next_prio: Signed,
    woken_tid: Unsigned,
    woken_thread: Text,
    woken_prio: Signed,
    woken_cpu: Unsigned,
    irq: Unsigned,
    vector: Unsigned,
    softirq: Text,
    nr: Signed,
    syscall: Text,
    abi: Text,
    arg0: Hex,
    arg1: Hex,
    arg2: Hex,
    ret: Signed,
    error: Text,
    file: Text,
    file_is_cut: Bool,
    old_tid: Unsigned,
    child_pid: Unsigned,
    child_tid: Unsigned,
    child_thread: Text,
    exit_status: Unsigned,
    exit_signal: Unsigned,
    device: Text,
    sector: Unsigned,
    bytes: Unsigned,
    op: Text,
    interface: Unsigned,
    interface_name: Text,
    net_ns: Unsigned,
    address: Hex,
    ip: Hex,
    wait_ns: Unsigned,
    waker_tid: Unsigned,
    waker_thread: Text,
    lock: Hex,
    lock_kind: Text,
    stack: Text,
    stack_is_cut: Bool,
    trigger: Text,
    trigger_ns: Unsigned,
    trigger_pid: Unsigned,
    trigger_tid: Unsigned,
    trigger_thread: Text,
    mark: Text,
    offline_cpu: Unsigned,
    after_trigger: Signed,
    group: Text,
    lost: Unsigned,
    cause: Text,
    since: Unsigned,
}

/// One event or gap: a value for each column.
pub(super) type Row = [Cell; COLUMNS.len()];

/// Makes rows.
pub(super) struct Rows {
    wall: Wall,
    /// When a trigger stopped the recording.
    zero: Option<u64>,
    row: Row,
}

impl Rows {
    pub(super) fn new(zero: Option<u64>, wall: Wall) -> Self {
        let row = [const { Cell::Absent }; COLUMNS.len()];
        Self { wall, zero, row }
    }

    /// Compares the clocks again.
    pub(super) fn update(&mut self) {
        if let Some(change) = self.wall.update() {
            let (set, by) =
                (if change.stepped < 0 { "back" } else { "forward" }, change.stepped.unsigned_abs());
            let [suspended, by] =
                [change.suspended, Duration::from_nanos(by)].map(humantime::format_duration);
            eprintln!(
                "mapring: the machine was suspended for {suspended}, and the wall clock was set {set} by {by}"
            );
        }
    }

    pub(super) fn event(&mut self, event: &Event, names: &mut Names) -> &Row {
        let &Event { ns, cpu, pid, tid, .. } = event;
        self.begin(ns, cpu);
        self.set(Column::pid, pid.into());
        self.set(Column::tid, tid.into());
        self.text(Column::process, &names.comm(pid, cpu, ns));
        self.text(Column::thread, &names.comm(tid, cpu, ns));
        if let Some(process) = names.process(pid, ns) {
            self.row[Column::cgroup as usize] = Cell::Text(process.cgroup.clone());
            if let Some(inside) = process.nspids.last() {
                self.set(Column::ns_pid, (*inside).into());
            }
            if let Some(namespace) = process.pid_ns {
                self.set(Column::pid_ns, namespace);
            }
        }
        self.what(&event.what, names);
        if let What::Wait { waker: Some(waker), .. } = event.what {
            self.text(Column::waker_thread, &names.comm(waker, cpu, ns));
        }
        &self.row
    }

    pub(super) fn gap(&mut self, gap: &Gap) -> &Row {
        self.begin(gap.until, gap.cpu);
        self.text(Column::event, b"lost");
        self.text(Column::group, gap.group.as_bytes());
        self.set(Column::lost, gap.count);
        self.row[Column::cause as usize] = Cell::Text(escape(gap.cause.as_bytes()));
        if let Some(since) = gap.since {
            self.set(Column::since, since);
        }
        &self.row
    }

    fn begin(&mut self, ns: u64, cpu: u16) {
        self.row.fill(Cell::Absent);
        // A time that no calendar has stays empty.
        let time = self.wall.at(ns).and_then(|wall| output::wall(wall, humantime::format_rfc3339_nanos));
        if let Some(time) = time {
            self.row[Column::time as usize] = Cell::Text(time);
        }
        self.set(Column::ns, ns);
        self.set(Column::cpu, cpu.into());
        if let Some(zero) = self.zero {
            self.signed(Column::after_trigger, ns.wrapping_sub(zero).cast_signed());
        }
    }

    fn what(&mut self, what: &What, names: &mut Names) {
        let with = self;
        match what {
            What::Switch { state, prio, next, next_prio, next_comm, .. } => {
                with.text(Column::event, b"sched_switch");
                with.text(Column::state, state_letters(*state).as_bytes());
                with.signed(Column::prio, *prio);
                with.set(Column::next_tid, (*next).into());
                with.name(Column::next_thread, next_comm);
                with.signed(Column::next_prio, *next_prio);
            }
            What::Throttled { ns, .. } => {
                with.text(Column::event, b"throttled");
                with.set(Column::wait_ns, *ns);
            }
            What::Waking { task, is_new, prio, target, comm } => {
                with.text(Column::event, if *is_new { b"sched_wakeup_new" } else { b"sched_waking" });
                with.set(Column::woken_tid, (*task).into());
                with.name(Column::woken_thread, comm);
                with.signed(Column::woken_prio, *prio);
                with.set(Column::woken_cpu, (*target).into());
            }
            What::IrqEnter { irq } => with.number(b"irq_handler_entry", Column::irq, *irq),
            What::IrqExit { irq } => with.number(b"irq_handler_exit", Column::irq, *irq),
            What::SoftirqEnter { vec } => with.softirq(b"softirq_entry", *vec),
            What::SoftirqExit { vec } => with.softirq(b"softirq_exit", *vec),
            What::SyscallEnter { nr, is_32bit, args } => {
                with.syscall(b"sys_enter", *nr, *is_32bit, names);
                for (column, arg) in [Column::arg0, Column::arg1, Column::arg2].into_iter().zip(args) {
                    with.row[column as usize] = Cell::Hex(*arg);
                }
            }
            What::SyscallExit { nr, is_32bit, ret } => {
                with.syscall(b"sys_exit", *nr, *is_32bit, names);
                with.row[Column::ret as usize] = Cell::Signed(*ret);
                with.error(*ret);
            }
            What::Exec { file, is_cut, old_tid, .. } => {
                with.number(b"sched_process_exec", Column::old_tid, *old_tid);
                with.row[Column::file as usize] = Cell::Text(escape(file));
                with.row[Column::file_is_cut as usize] = Cell::Bool(*is_cut);
            }
            What::Fork { child_pid, child_tid, comm } => {
                with.number(b"sched_process_fork", Column::child_pid, *child_pid);
                with.set(Column::child_tid, (*child_tid).into());
                with.name(Column::child_thread, comm);
            }
            What::Exit { code, .. } => {
                // As wait(2) returns it.
                let code = code.cast_unsigned();
                with.number(b"sched_process_exit", Column::exit_status, code >> 8 & 0xff);
                if code & 0x7f != 0 {
                    with.set(Column::exit_signal, (code & 0x7f).into());
                }
            }
            What::Crash { signal, .. } => {
                with.text(Column::event, b"signal_deliver");
                with.set(Column::exit_signal, signal.cast_unsigned().into());
            }
            What::BlockIssue { dev, sector, bytes, op, .. } => {
                with.block(b"block_rq_issue", *dev, *sector, *bytes);
                with.name(Column::op, op);
            }
            What::BlockComplete { dev, sector, bytes, error, .. } => {
                with.block(b"block_rq_complete", *dev, *sector, *bytes);
                with.error((*error).into());
            }
            What::NetSend { interface, bytes } => with.packet(b"net_dev_queue", *interface, *bytes, names),
            What::NetReceive { interface, bytes } => {
                with.packet(b"netif_receive_skb", *interface, *bytes, names)
            }
            What::Fault { address, ip } => {
                with.text(Column::event, b"page_fault_user");
                with.row[Column::address as usize] = Cell::Hex(*address);
                with.row[Column::ip as usize] = Cell::Hex(*ip);
            }
            What::Sample { stack } => {
                with.text(Column::event, b"sample");
                with.stack(stack);
            }
            What::Wait { ns, state, waker, stack, .. } => {
                with.text(Column::event, b"wait");
                with.set(Column::wait_ns, *ns);
                with.text(Column::state, state_letters(*state).as_bytes());
                if let Some(waker) = waker {
                    with.set(Column::waker_tid, (*waker).into());
                }
                with.stack(stack);
            }
            What::Contention { lock, flags, ns, stack } => {
                with.text(Column::event, b"contention");
                with.set(Column::wait_ns, *ns);
                with.row[Column::lock as usize] = Cell::Hex(*lock);
                with.text(Column::lock_kind, lock_kind(*flags).as_bytes());
                with.stack(stack);
            }
            What::Trigger { kind, value, pid, tid, comm } => {
                with.number(b"trigger", Column::trigger_pid, *pid);
                with.set(Column::trigger_tid, (*tid).into());
                with.name(Column::trigger_thread, comm);
                if let Some(kind) = triggers::kind(*kind) {
                    with.text(Column::trigger, kind.name.as_bytes());
                    if kind.is_time {
                        with.set(Column::trigger_ns, *value);
                    } else if *value != 0 {
                        with.set(Column::exit_signal, *value);
                    }
                }
            }
            What::Mark { text } => {
                with.text(Column::event, b"mark");
                with.text(Column::mark, escape(text).as_bytes());
            }
            What::Offline { cpu } => with.number(b"cpu_offline", Column::offline_cpu, *cpu),
            What::Hold => with.text(Column::event, b"hold"),
            What::Resume => with.text(Column::event, b"resume"),
        }
    }

    fn number(&mut self, event: &[u8], column: Column, number: u32) {
        self.text(Column::event, event);
        self.set(column, number.into());
    }

    fn softirq(&mut self, event: &[u8], vec: u32) {
        self.number(event, Column::vector, vec);
        if let Some(name) = softirq_name(vec) {
            self.text(Column::softirq, name.as_bytes());
        }
    }

    fn syscall(&mut self, event: &[u8], nr: i32, is_32bit: bool, names: &Names) {
        let abi = Abi::of(names.machine());
        self.text(Column::event, event);
        self.signed(Column::nr, nr);
        if let Some(name) = abi.name(nr, is_32bit) {
            self.text(Column::syscall, name.as_bytes());
        }
        if is_32bit {
            self.text(Column::abi, abi.of_32_bits().as_bytes());
        }
    }

    /// The name of an error number, as system calls return it.
    fn error(&mut self, ret: i64) {
        let errno = ret.checked_neg().filter(|errno| (1..4096).contains(errno));
        let errno = errno.and_then(|errno| i32::try_from(errno).ok());
        if let Some(name) = errno.and_then(|errno| syscalls::Errno::new(errno).name()) {
            self.text(Column::error, name.as_bytes());
        }
    }

    fn block(&mut self, event: &[u8], dev: u32, sector: u64, bytes: u32) {
        self.text(Column::event, event);
        self.row[Column::device as usize] = Cell::Text(format!("{}:{}", dev >> 20, dev & 0xf_ffff));
        self.set(Column::sector, sector);
        self.set(Column::bytes, bytes.into());
    }

    fn packet(&mut self, event: &[u8], interface: Interface, bytes: u32, names: &mut Names) {
        self.number(event, Column::interface, interface.index);
        if let Some(name) = names.interface(interface) {
            self.row[Column::interface_name as usize] = Cell::Text(name.to_owned());
        }
        if interface.net_ns != 0 {
            self.set(Column::net_ns, interface.net_ns);
        }
        self.set(Column::bytes, bytes.into());
    }

    /// Its frames, the innermost one first, with `;` between them. Absent if it has none.
    fn stack(&mut self, stack: &Stack) {
        self.text(Column::stack, frames::of(stack).collect::<Vec<_>>().join(";").as_bytes());
        if stack.is_cut {
            self.row[Column::stack_is_cut as usize] = Cell::Bool(true);
        }
    }

    fn signed(&mut self, column: Column, value: impl Into<i64>) {
        self.row[column as usize] = Cell::Signed(value.into());
    }

    fn set(&mut self, column: Column, value: u64) {
        self.row[column as usize] = Cell::Unsigned(value);
    }

    /// A text that is known to be one, or was escaped.
    fn text(&mut self, column: Column, text: &[u8]) {
        if !text.is_empty() {
            self.row[column as usize] = Cell::Text(String::from_utf8_lossy(text).into_owned());
        }
    }

    /// A text from the kernel that zeros end.
    fn name(&mut self, column: Column, name: &[u8]) {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        self.text(column, escape(&name[..end]).as_bytes());
    }
}

/// As ftrace shows `prev_state`.
pub(super) fn state_letters(state: u16) -> String {
    const LETTERS: [char; 9] = ['S', 'D', 'T', 't', 'X', 'Z', 'P', 'I', '+'];
    let letters = LETTERS.iter().enumerate().filter(|(bit, _)| state & 1 << bit != 0);
    let text: String = letters.map(|(_, letter)| letter).collect();
    if ["", "+"].contains(&&*text) { format!("R{text}") } else { text }
}

/// The kind of a contended lock: the kernel's bits LCB_F_, such as `mutex` or `spin,write`. A semaphore has none.
pub(crate) fn lock_kind(flags: u32) -> String {
    const NAMES: [&str; 6] = ["spin", "read", "write", "rt", "percpu", "mutex"];
    let names = NAMES.iter().enumerate().filter(|(bit, _)| flags & 1 << bit != 0);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

pub(crate) fn softirq_name(vec: u32) -> Option<&'static str> {
    const NAMES: [&str; 10] =
        ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];
    NAMES.get(usize::try_from(vec).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_names() {
        assert_eq!([0, 1, 2, 0x80, 0x100, 3].map(state_letters), ["R", "S", "D", "I", "R+", "SD"]);
        assert_eq!([softirq_name(3), softirq_name(10), softirq_name(u32::MAX)], [Some("NET_RX"), None, None]);
    }
}
