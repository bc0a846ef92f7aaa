//! How long system calls and interrupts took.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use super::super::event::{Event, What};
use super::super::names::{Id, Names};
use super::super::sum;
use super::super::trace::{Abi, softirq_name};
use super::figures::{Call, Calls, Figures, InterruptTime, Interrupts, Task};
use super::largest::{Map, sorted};
use super::longest::{LONGEST, Longest, Took};
use super::tasks::{Tasks, task};

#[derive(Default)]
pub(super) struct Requests {
    /// Of the machine that recorded.
    pub(super) abi: Abi,
    open_calls: Map<Id, Entered>,
    /// Calls that a signal has interrupted, with the time. If no handler runs, the kernel goes on with them.
    put_back: Map<Id, (Entered, u64)>,
    calls: Map<(i32, bool), (Took, u64)>,
    slow_calls: Longest<Call>,
    /// Of each CPU: the interrupts that have begun, and the softirq.
    open_interrupts: Map<(u16, bool), Vec<(u32, u64)>>,
    interrupts: Map<(u32, bool), (Took, u16, u64)>,
    /// Of each CPU: its interrupts and softirqs, with their ends and times.
    interrupt_time: BTreeMap<u16, BTreeMap<(u32, bool), u64>>,
    /// Before this time, interrupts of some CPU are missing.
    interrupts_from: u64,
}

/// -ERESTARTSYS to -ERESTART_RESTARTBLOCK: what the kernel calls an interrupted call, and no program sees.
const PUT_BACK: RangeInclusive<i64> = -516..=-512;
const EINTR: i64 = libc::EINTR as i64;

struct Entered {
    nr: i32,
    is_32bit: bool,
    args: [u64; 3],
    ns: u64,
    pid: Id,
    /// The thread's interruptible waits before, if they are known.
    interruptible: Option<u64>,
}

impl Requests {
    pub(super) fn new(interrupts_from: u64) -> Self {
        Self { interrupts_from, ..Self::default() }
    }

    /// `tasks` has seen the event.
    pub(super) fn see(&mut self, event: &Event, tasks: &Tasks, names: &mut Names) {
        let &Event { ns, cpu, ref what, .. } = event;
        let [pid, tid] = [event.pid, event.tid].map(|number| names.id(number));
        match *what {
            What::SyscallEnter { nr, is_32bit, args } => {
                let before = self.put_back.remove(&tid);
                let is_same = |it: &Entered| (it.nr, it.is_32bit, it.args) == (nr, is_32bit, args);
                let entered = match before {
                    Some((it, _)) if is_same(&it) || self.abi.shown(nr, is_32bit) == "restart_syscall" => it,
                    before => {
                        if let Some((it, end)) = before {
                            let of = || task(pid, tid, names, end);
                            self.call(&it, Some(-EINTR), end, tasks.interruptible(tid, end), of);
                        }
                        let interruptible = (ns >= tasks.from).then(|| tasks.interruptible(tid, ns));
                        Entered { nr, is_32bit, args, ns, pid, interruptible }
                    }
                };
                self.open_calls.insert(tid, entered);
            }
            What::SyscallExit { ret, .. } => {
                if let Some(entered) = self.open_calls.remove(&tid) {
                    if PUT_BACK.contains(&ret) {
                        self.put_back.insert(tid, (entered, ns));
                        return;
                    }
                    let of = || task(pid, tid, names, ns);
                    self.call(&entered, Some(ret), ns, tasks.interruptible(tid, ns), of);
                }
            }
            What::IrqEnter { irq } => self.interrupt_begins(ns, cpu, irq, false),
            What::SoftirqEnter { vec } => self.interrupt_begins(ns, cpu, vec, true),
            What::IrqExit { irq } => self.interrupt_ends(ns, cpu, irq, false),
            What::SoftirqExit { vec } => self.interrupt_ends(ns, cpu, vec, true),
            What::Exit { .. } => {
                self.open_calls.remove(&tid);
                self.put_back.remove(&tid);
            }
            _ => {}
        }
    }

    fn call(
        &mut self,
        entered: &Entered,
        ret: Option<i64>,
        ns: u64,
        interruptible: u64,
        of: impl FnOnce() -> Task,
    ) {
        let &Entered { nr, is_32bit, args, ns: from_ns, interruptible: before, .. } = entered;
        let ns = ns.saturating_sub(from_ns);
        let errno = ret.and_then(i64::checked_neg).filter(|errno| (1..4096).contains(errno));
        if ret.is_some() {
            let (took, errors) = self.calls.entry((nr, is_32bit)).or_default();
            took.see(ns);
            *errors += u64::from(errno.is_some());
        }
        let Some(before) = before else { return };
        let busy_ns = ns.saturating_sub(interruptible.saturating_sub(before));
        let error = errno.and_then(|errno| syscalls::Errno::new(i32::try_from(errno).ok()?).name());
        let abi = self.abi;
        let call = || abi.shown(nr, is_32bit);
        self.slow_calls.see(busy_ns, || Call {
            task: of(),
            call: call(),
            args,
            ret,
            error,
            from_ns,
            ns,
            busy_ns,
        });
    }

    fn interrupt_begins(&mut self, ns: u64, cpu: u16, number: u32, is_soft: bool) {
        /// Interrupts nest less deep. More have no end, as it was lost.
        const NESTED: usize = 16;
        let open = self.open_interrupts.entry((cpu, is_soft)).or_default();
        if open.len() == NESTED {
            open.clear();
        }
        open.push((number, ns));
    }

    fn interrupt_ends(&mut self, ns: u64, cpu: u16, number: u32, is_soft: bool) {
        let Some(open) = self.open_interrupts.get_mut(&(cpu, is_soft)) else { return };
        let Some(at) = open.iter().rposition(|(open, _)| *open == number) else { return };
        let from = open[at].1;
        open.truncate(at);
        let (took, longest_cpu, longest_from) = self.interrupts.entry((number, is_soft)).or_default();
        let time = ns.saturating_sub(from);
        if from >= self.interrupts_from {
            let sum = self.interrupt_time.entry(cpu).or_default().entry((number, is_soft)).or_default();
            *sum = sum.saturating_add(time);
        }
        if took.see(time) {
            (*longest_cpu, *longest_from) = (cpu, from);
        }
    }

    /// Events of this group are missing up to now: what has begun may have ended.
    pub(super) fn forget(&mut self, group: &str) {
        match group {
            "syscalls" => {
                self.open_calls.clear();
                self.put_back.clear();
            }
            "irq" => self.open_interrupts.clear(),
            _ => {}
        }
    }

    /// The report ends here: calls that have not returned are not over.
    pub(super) fn finish(&mut self, end: u64, tasks: &Tasks, names: &mut Names) {
        let put_back =
            std::mem::take(&mut self.put_back).into_iter().map(|(tid, (entered, _))| (tid, entered));
        let mut open: Vec<_> = std::mem::take(&mut self.open_calls).into_iter().chain(put_back).collect();
        open.sort_unstable_by_key(|(tid, _)| *tid);
        for (tid, entered) in open {
            let of = || task(entered.pid, tid, names, end);
            self.call(&entered, None, end, tasks.interruptible(tid, end), of);
        }
    }

    /// How long each CPU was in interrupts.
    fn interrupt_time(&self, times: Range<u64>) -> Vec<InterruptTime> {
        let all = times.end.saturating_sub(times.start).max(1);
        let of = |(&cpu, sums): (&u16, &BTreeMap<(u32, bool), u64>)| {
            let [irq_ns, softirq_ns] = [false, true].map(|wanted| {
                sum(sums.iter().filter(|((_, is_soft), _)| *is_soft == wanted).map(|(_, ns)| *ns))
            });
            let most = sums.iter().filter(|((_, is_soft), _)| *is_soft).max_by_key(|(_, ns)| **ns);
            let softirq = most.map_or(String::new(), |((number, _), _)| softirq(*number));
            #[allow(clippy::cast_precision_loss)] // for people
            let softirq_percent = 100.0 * softirq_ns as f64 / all as f64;
            InterruptTime { cpu, irq_ns, softirq_ns, softirq_percent, softirq }
        };
        self.interrupt_time.iter().map(of).collect()
    }

    pub(super) fn put(mut self, figures: &mut Figures, names: &mut Names) {
        let period = &figures.completeness;
        figures.interrupt_time =
            self.interrupt_time(period.from_ns.max(self.interrupts_from)..period.until_ns);
        let slow = self.slow_calls.take().into_iter().take(LONGEST);
        figures.slow_calls = slow.map(|(_, call)| call).collect();
        let calls = sorted(self.calls, |(took, _)| took.total);
        let call = |((nr, is_32bit), (took, errors)): (_, (Took, _))| {
            let call = self.abi.shown(nr, is_32bit);
            Calls { call, errors, total_ns: took.total, took: took.distribution() }
        };
        figures.calls = calls.map(call).collect();
        let interrupts = sorted(self.interrupts, |(took, ..)| took.max);
        let interrupt = |((number, is_soft), (took, longest_cpu, longest_from_ns)): (_, (Took, _, _))| {
            let by = names.irq(number).map_or(String::new(), |name| format!(" ({name})"));
            let interrupt = if is_soft { softirq(number) } else { format!("irq {number}{by}") };
            let (total_ns, took) = (took.total, took.distribution());
            Interrupts { interrupt, total_ns, took, longest_cpu, longest_from_ns }
        };
        figures.interrupts = interrupts.map(interrupt).collect();
    }
}

fn softirq(number: u32) -> String {
    softirq_name(number).map_or_else(|| format!("softirq {number}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::super::event::tests::{comm, event};
    use super::*;

    fn figures(events: &[Event]) -> Figures {
        let (mut tasks, mut requests) = (Tasks::default(), Requests::default());
        let mut names = Names::of_events();
        for event in events {
            tasks.see(event, &names);
            requests.see(event, &tasks, &mut names);
        }
        requests.finish(1000, &tasks, &mut names);
        let mut figures = Figures::default();
        requests.put(&mut figures, &mut names);
        figures
    }

    fn enter(ns: u64, tid: u32, nr: i64) -> Event {
        let nr = i32::try_from(nr).unwrap();
        event(ns, tid, What::SyscallEnter { nr, is_32bit: false, args: [3, 0, 0] })
    }

    fn exit(ns: u64, tid: u32, ret: i64) -> Event {
        event(ns, tid, What::SyscallExit { nr: 0, is_32bit: false, ret })
    }

    fn switch(ns: u64, tid: u32, state: u16, next: u32) -> Event {
        event(
            ns,
            tid,
            What::Switch {
                state,
                is_killable: false,
                prio: 120,
                next,
                next_prio: 120,
                next_comm: comm("next"),
                quota: 0,
            },
        )
    }

    #[test]
    fn a_call_that_waits_for_the_disk_is_slow_and_one_that_waits_for_input_is_not() {
        let waking = |ns, task| {
            event(ns, 0, What::Waking { task, is_new: false, prio: 120, target: 0, comm: comm("woken") })
        };
        let events = [
            enter(10, 7, libc::SYS_read),
            switch(20, 7, 1, 8),
            enter(25, 8, libc::SYS_fsync),
            switch(30, 8, 2, 0),
            waking(400, 8),
            switch(401, 0, 0, 8),
            exit(410, 8, -5),
            waking(900, 7),
            switch(901, 8, 1, 7),
            exit(905, 7, 1),
        ];
        let found = figures(&events);
        let slow: Vec<_> =
            found.slow_calls.iter().map(|it| (&*it.call, it.task.tid, it.ns, it.busy_ns)).collect();
        assert_eq!(slow, [("fsync", 8, 385, 385), ("read", 7, 895, 15)]);
        assert_eq!((found.slow_calls[0].ret, found.slow_calls[0].error), (Some(-5), Some("EIO")));
        assert_eq!(
            (&*found.calls[0].call, found.calls[0].took.max_ns, found.calls[1].errors),
            ("read", 895, 1)
        );
    }

    #[test]
    fn a_call_that_has_not_returned_lasts_until_the_end() {
        let found = figures(&[enter(100, 7, libc::SYS_fsync)]);
        assert_eq!((found.slow_calls[0].ns, found.slow_calls[0].ret), (900, None));
        assert!(found.calls.is_empty());
    }

    #[test]
    fn a_call_that_a_signal_interrupts_goes_on_if_no_handler_runs() {
        let found = figures(&[
            enter(100, 7, libc::SYS_clock_nanosleep),
            exit(200, 7, -516), // stopped
            enter(300, 7, libc::SYS_restart_syscall),
            exit(600, 7, 0),
            enter(100, 8, libc::SYS_read),
            exit(150, 8, -512),
            enter(151, 8, libc::SYS_read),
            exit(400, 8, 1),
            enter(100, 9, libc::SYS_poll),
            exit(140, 9, -514),
            enter(141, 9, libc::SYS_getpid), // in a handler
            exit(142, 9, 9),
            enter(900, 5, libc::SYS_pause),
            exit(950, 5, -514),
        ]);
        let calls: Vec<_> =
            found.calls.iter().map(|it| (&*it.call, it.took.count, it.total_ns, it.errors)).collect();
        assert_eq!(
            calls,
            [("clock_nanosleep", 1, 500, 0), ("read", 1, 300, 0), ("poll", 1, 40, 1), ("getpid", 1, 1, 0)]
        );
        let open = found.slow_calls.iter().find(|it| it.call == "pause").unwrap();
        assert_eq!((open.ret, open.ns), (None, 100));
        assert_eq!(found.slow_calls.iter().find(|it| it.call == "poll").unwrap().error, Some("EINTR"));
    }

    #[test]
    fn interrupts_nest() {
        let irq = |ns, what| event(ns, 0, what);
        let found = figures(&[
            irq(1, What::IrqExit { irq: 9 }),
            irq(10, What::SoftirqEnter { vec: 3 }),
            irq(20, What::IrqEnter { irq: 9 }),
            irq(25, What::IrqExit { irq: 9 }),
            irq(60, What::SoftirqExit { vec: 3 }),
        ]);
        let took: Vec<_> =
            found.interrupts.iter().map(|it| (&*it.interrupt, it.took.max_ns, it.longest_from_ns)).collect();
        assert_eq!(took, [("NET_RX", 50, 10), ("irq 9", 5, 20)]);
        let [cpu] = &found.interrupt_time[..] else { panic!("{:?}", found.interrupt_time) };
        assert_eq!((cpu.irq_ns, cpu.softirq_ns, &*cpu.softirq), (5, 50, "NET_RX"));
    }
}
