//! Who ran, who could not run, and who waited: from switches and wakeups.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::super::event::{Event, What};
use super::super::names::{Id, Names};
use super::super::sum;
use super::super::symbols::Symbols;
use super::figures::{CpuTime, Delay, Figures, NameTime, Sum, Task, ThreadTime};
use super::largest::{Map, SHOWN, sorted};
use super::longest::{LONGEST, Longest, Took};
use super::quotas::Quotas;
use super::waits::{Ends, Waits};

/// So many of the latest turns on a CPU are kept, to see who ran while another could not.
const TURNS: usize = 1024;

#[derive(Default)]
pub(super) struct Tasks {
    /// Before this time, switches and wakeups of some CPU are missing: nothing is said of it.
    pub(super) from: u64,
    cpus: BTreeMap<u16, Running>,
    threads: Map<Id, Thread>,
    /// Of each process whose start was recorded.
    parents: Map<Id, Id>,
    runqueue: Took,
    worst: Longest<Delayed>,
    waits: Waits,
    quotas: Quotas,
}

struct Running {
    tid: Id,
    pid: Id,
    since: u64,
    /// The turns before: which thread, from when to when.
    turns: VecDeque<(Id, Range<u64>)>,
}

impl Running {
    fn new(tid: Id, pid: Id, since: u64) -> Self {
        Self { tid, pid, since, turns: VecDeque::new() }
    }

    /// Another thread runs from now on.
    fn switch(&mut self, ns: u64, tid: Id, pid: Id) {
        if self.turns.len() == TURNS {
            self.turns.pop_front();
        }
        self.turns.push_back((self.tid, self.since..ns));
        (self.tid, self.pid, self.since) = (tid, pid, ns);
    }

    /// The thread that ran longest since that time, up to the last switch.
    fn longest_since(&self, since: u64) -> Option<Id> {
        let mut ran: Map<Id, u64> = Map::default();
        for (tid, turn) in self.turns.iter().rev().take_while(|(_, turn)| turn.end > since) {
            let ns = ran.entry(*tid).or_default();
            *ns = ns.saturating_add(turn.end - turn.start.max(since));
        }
        ran.into_iter().max_by_key(|(tid, ns)| (*ns, *tid)).map(|(tid, _)| tid)
    }
}

/// A thread's time on a CPU, from one switch to the next.
pub(super) struct Turn {
    pub(super) cpu: u16,
    pub(super) tid: Id,
    pub(super) times: Range<u64>,
}

#[derive(Default)]
struct Thread {
    pid: Id,
    busy: u64,
    /// The time of interruptible waits that are over.
    interruptible: u64,
    state: State,
    /// The process that it made in this turn on a CPU.
    child: Option<Id>,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Unknown,
    Runnable(u64),
    Waiting {
        since: u64,
        ends: Ends,
        /// If it waits for this child, it does so in vfork.
        child: Option<Id>,
    },
}

struct Delayed {
    tid: Id,
    cpu: u16,
    at: u64,
    instead: Id,
}

impl Tasks {
    pub(super) fn new(from: u64) -> Self {
        Self { from, ..Self::default() }
    }

    pub(super) fn see(&mut self, event: &Event, names: &Names) {
        let &Event { ns, cpu, ref what, .. } = event;
        if ns < self.from {
            return;
        }
        let [pid, tid] = [event.pid, event.tid].map(|number| names.id(number));
        match *what {
            What::Throttled { quota, ns: time } => return self.quotas.throttled(cpu, quota, ns, time),
            What::Switch { state, is_killable, next, quota, .. } => {
                self.ran(event, tid, pid);
                if tid.number != 0 {
                    self.leaves(tid, ns, state, is_killable);
                }
                let next = names.id(next);
                let pid = self.threads.get(&next).map(|thread| thread.pid).unwrap_or_default();
                self.cpus.entry(cpu).or_insert_with(|| Running::new(tid, pid, ns)).switch(ns, next, pid);
                self.enters(next, event, tid, quota);
                return;
            }
            What::Waking { task, .. } => self.wakes(names.id(task), ns, tid),
            What::Fork { child_pid, .. } if child_pid != event.pid => {
                self.parents.insert(names.id(child_pid), pid);
                self.threads.entry(tid).or_default().child = Some(names.id(child_pid));
            }
            What::Wait { ns: away, ref stack, .. } => {
                self.waits.came_back(tid, ns.saturating_sub(away), ns, stack);
            }
            // The last thing that it does, but for a switch.
            What::Exit { .. } => self.threads.entry(tid).or_default().state = State::Unknown,
            _ => {}
        }
        match self.cpus.entry(cpu) {
            Entry::Vacant(new) => {
                new.insert(Running::new(tid, pid, ns));
            }
            Entry::Occupied(mut running) if running.get().tid == tid => running.get_mut().pid = pid,
            Entry::Occupied(_) => {}
        }
    }

    /// Events of switches and wakeups are missing up to now: who waits or can run is not known.
    pub(super) fn forget(&mut self) {
        self.threads.values_mut().for_each(|thread| thread.state = State::Unknown);
        self.cpus.clear();
    }

    /// The thread of a switch has run until now.
    fn ran(&mut self, &Event { ns, cpu, .. }: &Event, tid: Id, pid: Id) {
        let since =
            self.cpus.get(&cpu).filter(|running| running.tid == tid).map_or(ns, |running| running.since);
        let thread = self.threads.entry(tid).or_default();
        thread.pid = pid;
        thread.busy = thread.busy.saturating_add(ns.saturating_sub(since));
    }

    fn leaves(&mut self, tid: Id, ns: u64, state: u16, is_killable: bool) {
        /// It can run, and did not leave by itself.
        const PREEMPTED: u16 = 0x100;
        const INTERRUPTIBLE: u16 = 1;
        const UNINTERRUPTIBLE: u16 = 2;
        let thread = self.threads.entry(tid).or_default();
        // The parent waits in vfork with nothing in between but that it may be preempted.
        let child = if matches!(state, 0 | PREEMPTED) { None } else { thread.child.take() };
        thread.state = match state {
            0 | PREEMPTED => State::Runnable(ns),
            INTERRUPTIBLE => State::Waiting { since: ns, ends: Ends::Signal, child: None },
            UNINTERRUPTIBLE => {
                State::Waiting { since: ns, ends: Ends::Event, child: child.filter(|_| is_killable) }
            }
            _ => State::Unknown, // stopped, dead, or an idle thread of the kernel
        };
    }

    fn enters(&mut self, tid: Id, &Event { ns, cpu, .. }: &Event, last: Id, quota: u8) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        if let State::Runnable(since) = std::mem::take(&mut thread.state)
            && tid.number != 0
        {
            let throttled = self.quotas.waited(cpu, quota, tid, since..ns);
            let delay = ns.saturating_sub(since).saturating_sub(throttled);
            self.runqueue.see(delay);
            let running = self.cpus.get(&cpu);
            let instead = || running.and_then(|running| running.longest_since(since)).unwrap_or(last);
            self.worst.see(delay, || Delayed { tid, cpu, at: ns, instead: instead() });
        }
    }

    fn wakes(&mut self, tid: Id, now: u64, waker: Id) {
        let thread = self.threads.entry(tid).or_default();
        if let State::Waiting { since, ends, child } = thread.state {
            let ns = now.saturating_sub(since);
            if ends == Ends::Signal {
                thread.interruptible = thread.interruptible.saturating_add(ns);
            }
            let ends = if child == Some(waker) { Ends::Child } else { ends };
            self.waits.see(ends, ns, tid, since, Some(waker));
        }
        // If it runs now, its next switch says what becomes of it.
        if !matches!(thread.state, State::Runnable(_)) {
            thread.state = State::Runnable(now);
        }
    }

    /// How long a thread has waited interruptibly, up to this time.
    pub(super) fn interruptible(&self, tid: Id, ns: u64) -> u64 {
        let Some(thread) = self.threads.get(&tid) else { return 0 };
        let now = match thread.state {
            State::Waiting { since, ends: Ends::Signal, .. } => ns.saturating_sub(since),
            _ => 0,
        };
        thread.interruptible + now
    }

    /// The turn on a CPU that this switch ends: the thread, from when to when. `None` if its begin is not known, or the CPU was idle.
    pub(super) fn turn(&self, &Event { ns, cpu, tid, .. }: &Event, names: &Names) -> Option<Turn> {
        let tid = names.id(tid);
        let running = self.cpus.get(&cpu).filter(|running| running.tid == tid && tid.number != 0)?;
        Some(Turn { cpu, tid, times: running.since..ns })
    }

    /// The turns that are not over at the end of the report.
    pub(super) fn last_turns(&self, end: u64) -> impl Iterator<Item = Turn> {
        let busy = self.cpus.iter().filter(|(_, running)| running.tid.number != 0);
        busy.map(move |(&cpu, running)| Turn { cpu, tid: running.tid, times: running.since..end })
    }

    /// The report ends here.
    pub(super) fn finish(&mut self, end: u64) {
        for running in self.cpus.values() {
            let thread = self.threads.entry(running.tid).or_default();
            thread.busy = thread.busy.saturating_add(end.saturating_sub(running.since));
            if thread.pid.number == 0 {
                thread.pid = running.pid;
            }
        }
        let mut threads: Vec<_> = self.threads.iter().collect();
        threads.sort_unstable_by_key(|(tid, _)| **tid);
        for (&tid, thread) in threads {
            // Threads that sleep until they have work are not listed, only those that may be stuck.
            if let State::Waiting { since, ends: Ends::Event, child } = thread.state {
                let ends = if child.is_some() { Ends::Child } else { Ends::Event };
                self.waits.see(ends, end.saturating_sub(since), tid, since, None);
            }
        }
    }

    pub(super) fn task(&self, tid: Id, names: &mut Names, end: u64) -> Task {
        task(self.process(tid), tid, names, end)
    }

    pub(super) fn process(&self, tid: Id) -> Id {
        self.threads.get(&tid).map(|thread| thread.pid).unwrap_or_default()
    }

    pub(super) fn put(mut self, figures: &mut Figures, names: &mut Names, symbols: &mut Symbols, end: u64) {
        figures.runqueue = self.runqueue.distribution();
        for (ns, Delayed { tid, cpu, at, instead }) in self.worst.take().into_iter().take(LONGEST) {
            let (task, instead) = (self.task(tid, names, end), self.task(instead, names, end));
            figures.runqueue_worst.push(Delay { task, ns, cpu, at_ns: at, instead });
        }
        let mut waits = std::mem::take(&mut self.waits);
        waits.put(figures, &self, names, symbols, end);
        std::mem::take(&mut self.quotas).put(figures, &self, names, end);
        let from = self.from.max(figures.completeness.from_ns);
        self.cpu_time(figures, names, from..end);
    }

    /// The CPU time of the processes that used most, of those with one name, and of the rest.
    fn cpu_time(&self, figures: &mut Figures, names: &mut Names, times: Range<u64>) {
        let end = times.end;
        let mut processes: Map<Id, Vec<(u64, Id)>> = Map::default();
        let all = self.threads.iter();
        for (&tid, thread) in all.filter(|(tid, thread)| tid.number != 0 && thread.busy > 0) {
            let pid = if thread.pid.number == 0 { tid } else { thread.pid };
            processes.entry(pid).or_default().push((thread.busy, tid));
        }
        let busy_of = |threads: &Vec<(u64, Id)>| sum(threads.iter().map(|(busy, _)| *busy));
        let all = times.end.saturating_sub(times.start).max(1);
        #[allow(clippy::cast_precision_loss)] // shown with a digit after the point
        let percent = |busy_ns: u64| 100.0 * busy_ns as f64 / all as f64;

        let mut by_name: BTreeMap<String, (Sum, Map<Id, u64>)> = BTreeMap::new();
        let mut all_of_them = Sum::default();
        for (&pid, threads) in &processes {
            let busy_ns = busy_of(threads);
            let (sum, parents) = by_name.entry(task(pid, pid, names, end).name).or_default();
            for sum in [sum, &mut all_of_them] {
                *sum = Sum { processes: sum.processes + 1, busy_ns: sum.busy_ns.saturating_add(busy_ns) };
            }
            if let Some(parent) = self.parents.get(&pid) {
                *parents.entry(*parent).or_default() += 1;
            }
        }
        let several = by_name.into_iter().filter(|(name, (sum, _))| sum.processes > 1 && !name.is_empty());
        let several = several.map(|(name, (sum, parents))| {
            let most = parents.into_iter().max_by_key(|(pid, count)| (*count, *pid));
            let parent = most.map(|(pid, _)| task(pid, pid, names, end));
            let by_parent = most.map_or(0, |(_, count)| count);
            NameTime { name, sum, percent: percent(sum.busy_ns), parent, by_parent }
        });
        figures.cpu_time_by_name = several.collect();
        figures.cpu_time_by_name.sort_by_key(|it| std::cmp::Reverse(it.sum.busy_ns));
        figures.cpu_time_by_name.truncate(SHOWN);

        let of = |(pid, mut threads): (Id, Vec<(u64, Id)>)| {
            let busy_ns = busy_of(&threads);
            threads.sort_unstable_by_key(|(busy, tid)| (std::cmp::Reverse(*busy), *tid));
            threads.truncate(SHOWN);
            let process = task(pid, pid, names, end);
            let threads = threads.into_iter();
            let threads =
                threads.map(|(busy_ns, tid)| ThreadTime { thread: task(pid, tid, names, end), busy_ns });
            CpuTime { process, busy_ns, percent: percent(busy_ns), threads: threads.collect() }
        };
        figures.cpu_time = sorted(processes, busy_of).map(of).collect();
        figures.cpu_time_all = all_of_them;
    }
}

/// A task with its name.
pub(super) fn task(pid: Id, tid: Id, names: &mut Names, ns: u64) -> Task {
    let name = String::from_utf8_lossy(&names.comm_of(tid, ns)).into_owned();
    let cgroup = names.process_of(pid, ns).map(|it| it.cgroup.clone()).filter(|it| !it.is_empty());
    Task { pid: pid.number, tid: tid.number, name, cgroup }
}

#[cfg(test)]
mod tests {
    use super::super::super::event::tests::{comm, event, exec};
    use super::super::figures::Wait;
    use super::*;

    fn switch(ns: u64, cpu: u16, tid: u32, state: u16, next: u32) -> Event {
        let what = What::Switch {
            state,
            is_killable: false,
            prio: 120,
            next,
            next_prio: 120,
            next_comm: comm("next"),
            quota: 0,
        };
        Event { cpu, ..event(ns, tid, what) }
    }

    fn waking(ns: u64, tid: u32, task: u32) -> Event {
        event(ns, tid, What::Waking { task, is_new: false, prio: 120, target: 0, comm: comm("woken") })
    }

    fn figures(events: &[Event], end: u64) -> Figures {
        let (mut tasks, mut names) = (Tasks::default(), Names::of_events());
        for event in events {
            names.at(event);
            tasks.see(event, &names);
            names.update(event);
        }
        tasks.finish(end);
        let mut figures = Figures::default();
        tasks.put(&mut figures, &mut names, &mut Symbols::new(&[]), end);
        figures
    }

    #[test]
    fn time_on_a_cpu_begins_with_its_first_event_and_ends_with_the_report() {
        let events = [
            event(100, 7, What::Fault { address: 0, ip: 0 }),
            switch(150, 0, 7, 0x100, 8),
            switch(170, 0, 8, 1, 7),
        ];
        let found = figures(&events, 200);
        let busy: Vec<_> = found.cpu_time.iter().map(|it| (it.process.pid, it.busy_ns)).collect();
        assert_eq!(busy, [(7, 50 + 30), (8, 20)]);
        assert_eq!((found.runqueue.count, found.runqueue.max_ns), (1, 20), "7 could run from 150 to 170");
        let worst = &found.runqueue_worst[0];
        assert_eq!((worst.task.tid, worst.instead.tid, worst.ns, worst.at_ns), (7, 8, 20, 170));
    }

    #[test]
    fn short_processes_of_one_name_are_summed_and_the_rest_is_said() {
        let fork = |ns, parent, child| {
            event(ns, parent, What::Fork { child_pid: child, child_tid: child, comm: comm("sh") })
        };
        let mut events = Vec::new();
        for n in 0..50 {
            let (ns, child) = (u64::from(n) * 100, 1000 + n);
            events.extend([fork(ns, 7, child), switch(ns + 10, 0, 7, 0, child)]);
            events
                .extend([event(ns + 20, child, exec("/bin/true", "true")), switch(ns + 40, 0, child, 0, 7)]);
        }
        let (mut tasks, mut names) = (Tasks::default(), Names::of_events());
        for event in &events {
            names.at(event);
            tasks.see(event, &names);
            names.update(event);
        }
        let mut found = Figures::default();
        tasks.put(&mut found, &mut names, &mut Symbols::new(&[]), 5000);
        let [next] = &found.cpu_time_by_name[..] else { panic!("{:?}", found.cpu_time_by_name) };
        assert_eq!(
            (&*next.name, next.sum.processes, next.sum.busy_ns, next.by_parent),
            ("true", 50, 50 * 30, 50)
        );
        assert_eq!(next.parent.as_ref().unwrap().pid, 7);
        // Of 51 processes, 20 are listed.
        let all = found.cpu_time_all;
        assert_eq!((found.cpu_time.len(), all.processes, all.busy_ns), (20, 51, 4940));
    }

    #[test]
    fn a_wait_ends_when_the_task_is_woken_and_the_delay_begins_there() {
        let events = [
            switch(10, 0, 7, 2, 0),
            waking(50, 3, 7),
            waking(55, 4, 7),
            switch(60, 0, 0, 0, 7),
            switch(70, 0, 7, 1, 0),
        ];
        let found = figures(&events, 100);
        let [wait] = &found.waits_uninterruptible[..] else { panic!("{:?}", found.waits_uninterruptible) };
        assert_eq!(
            (wait.task.tid, wait.ns, wait.is_open, wait.waker.as_ref().unwrap().tid),
            (7, 40, false, 3)
        );
        assert_eq!((found.runqueue.count, found.runqueue.max_ns), (1, 10));
        assert!(found.waits_interruptible.is_empty(), "nothing has woken it");
    }

    #[test]
    fn a_parent_in_vfork_waits_for_its_child() {
        let fork =
            |ns, child| event(ns, 7, What::Fork { child_pid: child, child_tid: child, comm: comm("child") });
        let killable = |ns, next| {
            let mut event = switch(ns, 0, 7, 2, next);
            if let What::Switch { is_killable, .. } = &mut event.what {
                *is_killable = true;
            }
            event
        };
        let events = [
            fork(10, 8),
            switch(12, 0, 7, 0x100, 9),
            switch(14, 0, 9, 1, 7),
            killable(20, 8),
            waking(50, 8, 7),
            switch(52, 0, 8, 1, 7),
            killable(60, 0), // a page, for example
            waking(70, 0, 7),
            switch(71, 0, 0, 0, 7),
            fork(80, 8),
            killable(82, 8),
            waking(90, 9, 7), // killed
            switch(91, 0, 8, 1, 7),
            fork(92, 8),
            killable(93, 8),
        ];
        let found = figures(&events, 100);
        let times = |waits: &[Wait]| waits.iter().map(|it| it.ns).collect::<Vec<_>>();
        assert_eq!(
            (times(&found.waits_for_children), times(&found.waits_uninterruptible)),
            (vec![30, 7], vec![10, 8])
        );
    }

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let fork = |ns| event(ns, 3, What::Fork { child_pid: 7, child_tid: 7, comm: comm("second") });
        let events = [
            switch(0, 0, 3, 1, 7),
            switch(20, 0, 7, 2, 3), // blocked, and nothing says that it ended
            waking(25, 3, 7),
            fork(30),
            switch(40, 0, 3, 1, 7),
            switch(45, 0, 7, 2, 3),
        ];
        let found = figures(&events, 100);
        let busy = found.cpu_time.iter().map(|it| (it.process.pid, &*it.process.name, it.busy_ns));
        assert_eq!(busy.collect::<Vec<_>>(), [(3, "next", 20 + 55), (7, "woken", 20), (7, "next", 5)]);
        let waits: Vec<_> = found.waits_uninterruptible.iter().map(|it| (&*it.task.name, it.ns)).collect();
        assert_eq!(waits, [("next", 55), ("woken", 5)]);
        assert_eq!(found.runqueue.count, 0, "the first one did not run again");
    }

    #[test]
    fn a_task_that_nothing_wakes_waits_until_the_end() {
        let found = figures(&[switch(10, 0, 7, 2, 0)], 100);
        assert_eq!((found.waits_uninterruptible[0].ns, found.waits_uninterruptible[0].is_open), (90, true));
    }

    #[test]
    fn a_quota_is_not_a_busy_cpu() {
        let mut events = Vec::new();
        for period in 0..2 {
            let at = period * 100;
            let mut runs = switch(at + 90, 0, 8, 1, 7);
            if let What::Switch { quota, .. } = &mut runs.what {
                *quota = 3;
            }
            let throttled = event(at + 90, 7, What::Throttled { quota: 3, ns: 60 });
            events.extend([switch(at + 20, 0, 7, 0, 8), throttled, runs]);
        }
        let found = figures(&events, 200);
        let worst = &found.runqueue_worst[0];
        assert_eq!((found.runqueue.count, worst.ns, worst.instead.tid), (2, 10, 8));
        let quota = &found.quota_waits[0];
        assert_eq!((quota.task.tid, quota.total.count, quota.total.ns, quota.total.max_ns), (7, 2, 120, 60));
    }

    #[test]
    fn the_one_that_ran_longest_ran_instead_and_not_the_last_one() {
        let events = [
            switch(10, 0, 7, 0x100, 8),
            switch(90, 0, 8, 1, 9),
            switch(95, 0, 9, 1, 7),
            switch(99, 0, 7, 1, 0),
        ];
        let found = figures(&events, 100);
        assert_eq!((found.runqueue_worst[0].ns, found.runqueue_worst[0].instead.tid), (85, 8));
    }

    #[test]
    fn nothing_is_said_of_times_before_all_cpus_have_events() {
        let mut tasks = Tasks::new(1000);
        let names = Names::of_events();
        tasks.see(&event(10, 7, What::IrqEnter { irq: 1 }), &names);
        [switch(1050, 0, 7, 1, 8), switch(1100, 0, 8, 1, 7)]
            .iter()
            .for_each(|event| tasks.see(event, &names));
        tasks.finish(1200);
        let mut figures = Figures::default();
        tasks.put(&mut figures, &mut Names::of_events(), &mut Symbols::new(&[]), 1200);
        let busy: Vec<_> =
            figures.cpu_time.iter().map(|it| (it.process.pid, it.busy_ns, it.percent)).collect();
        assert_eq!(busy, [(7, 100, 50.0), (8, 50, 25.0)]);
    }

    #[test]
    fn nothing_is_said_of_times_in_which_events_are_missing() {
        let mut tasks = Tasks::default();
        let names = Names::of_events();
        tasks.see(&switch(10, 0, 7, 2, 8), &names);
        tasks.forget();
        tasks.see(&switch(1000, 0, 9, 1, 7), &names);
        tasks.finish(1100);
        let mut figures = Figures::default();
        tasks.put(&mut figures, &mut Names::of_events(), &mut Symbols::new(&[]), 1100);
        assert_eq!((figures.runqueue.count, figures.waits_uninterruptible.len()), (0, 0));
        let busy: Vec<_> = figures.cpu_time.iter().map(|it| (it.process.pid, it.busy_ns)).collect();
        assert_eq!(busy, [(7, 100)]);
    }
}
