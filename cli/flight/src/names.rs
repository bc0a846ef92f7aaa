//! The names of processes and threads, and where they run: from the events themselves, and from /proc for those that
//! are still present, or were when the recording was saved.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use prost::bytes::Bytes;
use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::event::{Comm, Event, Interface, What};
use crate::machine::Machine;
use crate::procfs::{self, Process, Ticks};
use crate::text::escape;

type Map<T> = HashMap<u32, T, foldhash::fast::RandomState>;

/// A thread, or the process of which it is the first one: the kernel uses a number again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) number: u32,
    /// How many had the number before, as far as events tell.
    life: u32,
}

/// The names as they are at an event. [`at`](Self::at) begins with an event, and [`update`](Self::update) ends with it.
pub(crate) struct Names {
    comms: Map<Name>,
    /// How many had a number before.
    lives: Map<u32>,
    /// Of each number that a fork gave to a new thread, which has not been woken for the first time.
    forked: HashSet<u32, foldhash::fast::RandomState>,
    /// When the process with this number began, as its stacks say.
    began: Map<u32>,
    /// The last names of those whose number another one has.
    former: HashMap<Id, Bytes, foldhash::fast::RandomState>,
    idle: Vec<Bytes>,
    processes: Map<Option<Process>>,
    /// Those that were present when the recording started.
    ended: Map<Process>,
    /// `None` if /proc can't be used: it numbers processes in another way than the records, or they come from another machine.
    ticks: Option<Ticks>,
    /// Escaped. `None`: it is in another network namespace, or not present any more.
    interfaces: HashMap<Interface, Option<String>, foldhash::fast::RandomState>,
    /// Of interrupts, escaped. `None`: nobody has it now.
    irqs: Map<Option<String>>,
    machine: Machine,
}

struct Name {
    raw: Comm,
    text: Bytes,
    /// It is that of the parent: the thread may have given itself another one, which no event shows.
    is_inherited: bool,
}

/// A thread that was present before its first event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Older {
    pub(crate) tid: u32,
    /// 0 if no event names it.
    pub(crate) pid: u32,
    /// The time of the first event that names it.
    pub(crate) ns: u64,
}

/// What events say of threads before the first of these events, in whatever order they are read. A name is known from the
/// last event before that shows it. Or from the first one after it, unless a fork made another thread of that number or an
/// exec gave it another name in between.
pub(crate) struct Threads {
    since: u64,
    seen: Map<Thread>,
}

/// Of each kind of event that tells something of a thread, the first one since that time, and its stamp.
struct Thread {
    first: Option<(u64, ())>,
    pid: Option<(u64, u32)>,
    comm: Option<(u64, Comm)>,
    born: u64,
    over: u64,
    /// The last name before that time.
    before: Option<(u64, Comm)>,
}

impl Threads {
    pub(crate) fn since(ns: u64) -> Self {
        Self { since: ns, seen: Map::default() }
    }

    pub(crate) fn see(&mut self, event: &Event) {
        let ns = event.ns;
        if ns >= self.since {
            let pid = (event.pid != 0).then_some(event.pid);
            earlier(&mut self.thread(event.tid).pid, ns, pid);
            earlier(&mut self.thread(event.tid).first, ns, Some(()));
        }
        match event.what {
            What::Switch { next, next_comm, .. } => self.shows(next, ns, next_comm),
            What::Waking { task, comm, .. } => self.shows(task, ns, comm),
            What::Crash { comm, .. } => self.shows(event.tid, ns, comm),
            What::Fork { child_tid, comm, .. } if ns < self.since => self.shows(child_tid, ns, comm),
            What::Exec { comm, .. } if ns < self.since => self.shows(event.tid, ns, comm),
            What::Fork { child_tid, child_pid, .. } => {
                let child = self.thread(child_tid);
                (child.born, child.over) = (child.born.min(ns), child.over.min(ns));
                earlier(&mut child.pid, ns, Some(child_pid));
            }
            What::Exec { .. } => {
                let thread = self.thread(event.tid);
                thread.over = thread.over.min(ns);
            }
            _ => {}
        }
    }

    fn shows(&mut self, tid: u32, ns: u64, comm: Comm) {
        let is_before = ns < self.since;
        let thread = self.thread(tid);
        if !is_before {
            earlier(&mut thread.first, ns, Some(()));
            earlier(&mut thread.comm, ns, Some(comm));
        } else if thread.before.is_none_or(|(last, _)| last < ns) {
            thread.before = Some((ns, comm));
        }
    }

    fn thread(&mut self, tid: u32) -> &mut Thread {
        const NONE: Thread =
            Thread { first: None, pid: None, comm: None, born: u64::MAX, over: u64::MAX, before: None };
        self.seen.entry(tid).or_insert(NONE)
    }
}

/// Keeps what the earliest event says.
fn earlier<T>(kept: &mut Option<(u64, T)>, ns: u64, new: Option<T>) {
    if let Some(new) = new
        && kept.as_ref().is_none_or(|(first, _)| ns < *first)
    {
        *kept = Some((ns, new));
    }
}

impl Names {
    pub(crate) fn new() -> Self {
        Self::with_ticks(procfs::is_initial_namespace().then(Ticks::new))
    }

    fn with_ticks(ticks: Option<Ticks>) -> Self {
        Self {
            comms: Map::default(),
            lives: Map::default(),
            forked: HashSet::default(),
            began: Map::default(),
            former: HashMap::default(),
            idle: Vec::new(),
            processes: Map::default(),
            ended: Map::default(),
            ticks,
            interfaces: HashMap::default(),
            irqs: Map::default(),
            machine: Machine::here(),
        }
    }

    /// Those that were saved on this machine.
    pub(crate) fn saved(
        machine: Machine,
        processes: impl Iterator<Item = (u32, Process)>,
        interfaces: impl Iterator<Item = (Interface, String)>,
        irqs: Vec<(u32, String)>,
    ) -> Self {
        Self {
            processes: processes.map(|(tid, process)| (tid, Some(process))).collect(),
            interfaces: interfaces.map(|(interface, name)| (interface, Some(name))).collect(),
            irqs: irqs.into_iter().map(|(irq, name)| (irq, Some(name))).collect(),
            machine,
            ..Self::with_ticks(None)
        }
    }

    /// And those that were present when the recording started, who may have ended since.
    pub(crate) fn with_ended(self, ended: Vec<(u32, Process)>) -> Self {
        Self { ended: ended.into_iter().collect(), ..self }
    }

    /// The machine that recorded.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Without /proc: the tests' processes must not be those of the machine.
    #[cfg(test)]
    pub(crate) fn of_events() -> Self {
        Self::with_ticks(None)
    }

    /// Whether processes can be found in /proc.
    pub(crate) fn has_proc(&self) -> bool {
        self.ticks.is_some() || !self.processes.is_empty() || !self.ended.is_empty()
    }

    /// Begins with the names of these threads. Returns those that are not made by one of the events, in order of their
    /// numbers.
    pub(crate) fn learn(&mut self, threads: Threads) -> Vec<Older> {
        let mut older = Vec::new();
        for (tid, seen) in threads.seen {
            let Some((ns, _)) = seen.first.filter(|(ns, _)| tid != 0 && *ns < seen.born) else { continue };
            let after = seen.comm.filter(|(ns, _)| *ns < seen.over);
            if let Some((_, comm)) = seen.before.or(after) {
                self.set(tid, &comm, false);
            }
            let pid = seen.pid.map_or(0, |(_, pid)| pid);
            older.push(Older { tid, pid, ns });
        }
        older.sort_by_key(|thread| thread.tid);
        older
    }

    /// Begins with an event: it may be the first one of another process or thread with this number.
    pub(crate) fn at(&mut self, event: &Event) {
        match event.what {
            What::Fork { child_pid, child_tid, comm, .. } => {
                self.begins(child_tid);
                self.forked.insert(child_tid);
                self.forget(child_pid); // it may have been looked for before it was there
                self.set(child_tid, &comm, true);
            }
            What::Waking { task, is_new: true, .. } if !self.forked.remove(&task) => self.begins(task),
            _ => {}
        }
        let began = event.what.stack().map_or(0, |stack| stack.began);
        if began != 0 && self.began.get(&event.pid) != Some(&began) {
            if self.began.contains_key(&event.pid) {
                self.begins(event.pid);
                self.forget(event.pid);
            }
            self.began.insert(event.pid, began);
        }
    }

    /// Another one has the number from now on.
    fn begins(&mut self, number: u32) {
        let former = self.id(number);
        if let Some(name) = self.comms.remove(&number) {
            self.former.insert(former, name.text);
        }
        self.lives.insert(number, former.life.saturating_add(1));
        self.began.remove(&number);
    }

    /// Who has this number at the event.
    pub(crate) fn id(&self, number: u32) -> Id {
        Id { number, life: self.lives.get(&number).copied().unwrap_or(0) }
    }

    /// The name of a thread, as [`comm`](Self::comm) has it, also if another one has its number now.
    pub(crate) fn comm_of(&mut self, id: Id, ns: u64) -> Bytes {
        if self.id(id.number) == id {
            return self.comm(id.number, 0, ns);
        }
        self.former.get(&id).cloned().unwrap_or_default()
    }

    /// As [`process`](Self::process), if no other one has its number now.
    pub(crate) fn process_of(&mut self, id: Id, ns: u64) -> Option<&Process> {
        if self.id(id.number) == id { self.process(id.number, ns) } else { None }
    }

    /// Goes on to the state after the event.
    pub(crate) fn update(&mut self, event: &Event) {
        match &event.what {
            What::Switch { next, next_comm, .. } => self.set(*next, next_comm, false),
            What::Waking { task, comm, .. } => self.set(*task, comm, false),
            What::Crash { comm, .. } => self.set(event.tid, comm, false),
            What::Exec { comm, .. } => {
                self.set(event.tid, comm, false);
                self.forget(event.pid); // the command line is another one
                if let Some(before) = self.ended.get_mut(&event.pid) {
                    before.cmdline.clear();
                }
            }
            _ => {}
        }
    }

    /// The name of a thread on a CPU at a time, escaped. Empty if it is not known.
    pub(crate) fn comm(&mut self, tid: u32, cpu: u16, ns: u64) -> Bytes {
        if tid == 0 {
            return self.idle(cpu);
        }
        if let Some(name) = self.comms.get(&tid).filter(|name| !name.is_inherited) {
            return name.text.clone();
        }
        if let Some(process) = self.process(tid, ns) {
            let mut raw = Comm::default();
            raw.iter_mut().zip(&process.comm).for_each(|(to, from)| *to = *from);
            self.set(tid, &raw, false);
        }
        self.comms.get(&tid).map(|name| name.text.clone()).unwrap_or_default()
    }

    /// The name that an event shows for a thread, escaped. It holds from here on.
    pub(crate) fn seen(&mut self, tid: u32, cpu: u16, raw: &Comm) -> Bytes {
        self.set(tid, raw, false);
        self.comm(tid, cpu, 0)
    }

    /// The process, or the thread, that had this number at this time, if it is still present, or was at the start.
    pub(crate) fn process(&mut self, pid: u32, ns: u64) -> Option<&Process> {
        let read = || procfs::process(pid, self.ticks.as_ref()?);
        let found = self.processes.entry(pid).or_insert_with(read);
        // Later than the event: another process has the number now.
        let is_then = |process: &&Process| process.start <= ns;
        let is_first = !self.lives.contains_key(&pid);
        found.as_ref().filter(is_then).or_else(|| self.ended.get(&pid).filter(|it| is_first && is_then(it)))
    }

    fn forget(&mut self, pid: u32) {
        if self.ticks.is_some() {
            self.processes.remove(&pid);
        }
    }

    /// The name of an interface in the network namespace of this process, or of `save`, escaped, if it was still present there.
    pub(crate) fn interface(&mut self, interface: Interface) -> Option<&str> {
        let name = || {
            let is_here = self.machine.is_here && procfs::namespace("self", "net") == Some(interface.net_ns);
            let socket = is_here.then(|| socket(AddressFamily::UNIX, SocketType::DGRAM, None))?.ok()?;
            Some(escape(index_to_name(&socket, interface.index).ok()?.as_bytes()))
        };
        self.interfaces.entry(interface).or_insert_with(name).as_deref()
    }

    /// Who handles an interrupt, escaped, if that is known.
    pub(crate) fn irq(&mut self, irq: u32) -> Option<&str> {
        let is_here = self.machine.is_here;
        self.irqs.entry(irq).or_insert_with(|| procfs::irq(irq).filter(|_| is_here)).as_deref()
    }

    fn set(&mut self, tid: u32, raw: &Comm, is_inherited: bool) {
        if tid == 0 {
            return;
        }
        let text = |raw: &Comm| {
            let end = raw.iter().position(|&byte| byte == 0).unwrap_or(raw.len());
            Bytes::from(escape(&raw[..end]))
        };
        match self.comms.entry(tid) {
            Entry::Occupied(mut name) if name.get().raw == *raw => name.get_mut().is_inherited = is_inherited,
            Entry::Occupied(mut name) => *name.get_mut() = Name { raw: *raw, text: text(raw), is_inherited },
            Entry::Vacant(new) => {
                new.insert(Name { raw: *raw, text: text(raw), is_inherited });
            }
        }
    }

    /// Each CPU has an idle task. They share the number 0.
    fn idle(&mut self, cpu: u16) -> Bytes {
        while self.idle.len() <= cpu.into() {
            self.idle.push(Bytes::from(format!("swapper/{}", self.idle.len())));
        }
        self.idle[usize::from(cpu)].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{comm, event, exec};
    use super::*;

    fn switch(ns: u64, tid: u32, next: u32, name: &str) -> Event {
        let what = What::Switch {
            state: 0,
            is_killable: false,
            prio: 120,
            next,
            next_prio: 120,
            next_comm: comm(name),
            quota: 0,
        };
        event(ns, tid, what)
    }

    /// In another order than they happened.
    fn threads(events: &[Event]) -> Threads {
        let mut threads = Threads::since(0);
        events.iter().rev().for_each(|event| threads.see(event));
        threads
    }

    #[test]
    fn earlier_events_show_names_only() {
        let mut seen = Threads::since(10);
        let irq = |ns, tid| event(ns, tid, What::IrqEnter { irq: 1 });
        for event in [switch(12, 7, 8, "new"), switch(7, 1, 7, "older"), irq(11, 7), switch(6, 1, 7, "x")] {
            seen.see(&event);
        }
        let mut names = Names::of_events();
        assert_eq!(names.learn(seen).iter().map(|thread| thread.tid).collect::<Vec<_>>(), [7, 8]);
        assert_eq!([names.comm(7, 0, 10), names.comm(8, 0, 10)], ["older", "new"]);
    }

    #[test]
    fn a_name_is_known_before_the_event_that_shows_it() {
        let events =
            [event(1, 7, What::IrqEnter { irq: 1 }), switch(2, 7, 8, "next"), switch(3, 8, 7, "seven")];
        let mut names = Names::of_events();
        let older = names.learn(threads(&events));
        assert_eq!(older.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [7, 8]);
        assert_eq!([names.comm(7, 0, 1), names.comm(8, 0, 1), names.comm(9, 0, 1)], ["seven", "next", ""]);
        assert_eq!(names.comm(0, 2, 1), "swapper/2");
    }

    #[test]
    fn a_reused_number_has_another_name() {
        let fork = |ns, name| event(ns, 1, What::Fork { child_pid: 7, child_tid: 7, comm: comm(name) });
        let events = [
            event(1, 7, What::Exit { code: 0, process: None }),
            fork(2, "second"),
            switch(3, 1, 7, "second"),
            fork(4, "third"),
        ];
        let mut names = Names::of_events();
        assert_eq!(names.learn(threads(&events)).len(), 2);
        let seen: Vec<_> = events
            .iter()
            .map(|event| {
                names.at(event);
                let (id, name) = (names.id(7), names.comm(7, 0, event.ns));
                names.update(event);
                (id, name)
            })
            .collect();
        assert_eq!(seen.iter().map(|(_, name)| name).collect::<Vec<_>>(), ["", "second", "second", "third"]);
        assert_eq!(names.comm(7, 0, 5), "third");
        let [first, second, _, third] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!([first, second, third].map(|(id, _)| names.comm_of(*id, 5)), ["", "second", "third"]);
        // Born in the events: not one of the older threads.
        assert!(Names::of_events().learn(threads(&events[1..])).iter().all(|thread| thread.tid != 7));
    }

    #[test]
    fn a_number_has_another_life_if_a_new_thread_is_woken_or_a_stack_began_later() {
        let new = |ns| {
            let what = What::Waking { task: 7, is_new: true, prio: 120, target: 0, comm: comm("new") };
            event(ns, 1, what)
        };
        let fork = |ns| event(ns, 1, What::Fork { child_pid: 7, child_tid: 7, comm: comm("forked") });
        let sample = |ns, began| {
            event(ns, 7, What::Sample { stack: crate::stack::Stack { began, ..Default::default() } })
        };
        let mut names = Names::of_events();
        let mut life = |event: Event| {
            names.at(&event);
            names.update(&event);
            names.id(7).life
        };
        let events = [
            new(1),        // the fork is not recorded
            fork(2),       // another one,
            new(3),        // woken for the first time
            sample(4, 70), // as is this one
            sample(5, 70),
            sample(6, 71), // another one, of which only stacks are recorded
            sample(7, 0),  // of an older kernel
            fork(8),
            sample(9, 72),
        ];
        assert_eq!(events.map(&mut life), [1, 2, 2, 2, 2, 3, 3, 4, 4]);
        let of = |life| Id { number: 7, life };
        assert_eq!([1, 2, 3, 4].map(|life| names.comm_of(of(life), 9)), ["new", "new", "", "forked"]);
    }

    #[test]
    fn an_exec_renames() {
        let exec = Event { tid: 7, ..event(2, 7, exec("/dev/fd/4", "true")) };
        let mut names = Names::of_events();
        names.learn(threads(&[
            event(1, 7, What::IrqEnter { irq: 1 }),
            exec.clone(),
            switch(3, 1, 7, "true"),
        ]));
        assert_eq!(names.comm(7, 0, 1), "", "the later name is that of the program");
        names.update(&exec);
        assert_eq!(names.comm(7, 0, 2), "true");
    }

    #[test]
    fn who_was_present_at_the_start_has_a_name_until_another_one_has_the_number() {
        let process = |comm: &str, start| Process { comm: comm.into(), start, ..Process::default() };
        let mut names = Names::of_events().with_ended(vec![(7, process("first", 5)), (8, process("", 50))]);
        assert_eq!([names.comm(7, 0, 9), names.comm(8, 0, 9)], ["first", ""]);
        let fork = event(10, 1, What::Fork { child_pid: 7, child_tid: 7, comm: comm("second") });
        names.at(&fork);
        assert_eq!(names.comm(7, 0, 11), "second");
        assert!(names.process(7, 11).is_none());
    }

    #[test]
    fn a_process_of_proc_is_only_that_of_the_time() {
        let mut names = Names::new();
        if !names.has_proc() {
            return assert!(!procfs::is_initial_namespace());
        }
        let pid = std::process::id();
        let start = names.process(pid, u64::MAX).unwrap().start;
        assert!(names.process(pid, start).is_some() && names.process(pid, start - 1).is_none());
        assert_eq!(names.comm(pid, 0, start - 1), "");
    }
}
