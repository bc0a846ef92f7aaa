//! What is listed or counted: programs that started and ended, page faults, packets, marks.

use std::collections::{HashSet, VecDeque};

use nix::sys::signal::Signal;

use super::super::event::{Event, Interface, What};
use super::super::names::{Id, Names};
use super::super::stopped;
use super::super::text::escape;
use super::figures::{Ended, Faults, Figures, Mark, Started, Task, Traffic};
use super::largest::{Map, SHOWN, sorted};
use super::tasks::task;

#[derive(Default)]
pub(super) struct Lists {
    faults: Map<Id, u64>,
    started: VecDeque<Started>,
    started_count: u64,
    /// By a signal, with an exit code, and well.
    ended: [VecDeque<Ended>; 3],
    ended_count: u64,
    /// Processes that have crashed, and whose end is not recorded yet.
    crashed: HashSet<Id>,
    traffic: Map<Interface, Traffic>,
    marks: VecDeque<Mark>,
}

impl Lists {
    pub(super) fn see(&mut self, event: &Event, names: &mut Names) {
        let &Event { ns, pid, tid, ref what, .. } = event;
        let id = names.id(pid);
        match *what {
            What::Fault { .. } => *self.faults.entry(id).or_default() += 1,
            What::Exec { ref file, comm, .. } => {
                self.started_count += 1;
                let process = Task { name: stopped::name(&comm), ..task(id, id, names, ns) };
                push(&mut self.started, Started { process, file: escape(file), at_ns: ns });
            }
            What::Crash { signal, comm } => {
                self.crashed.insert(id);
                let thread = (tid != pid)
                    .then(|| Task { name: stopped::name(&comm), ..task(id, names.id(tid), names, ns) });
                self.ends(task(id, id, names, ns), thread, ns, signal);
            }
            What::Exit { process: Some(code), .. } if !self.crashed.remove(&id) => {
                self.ends(task(id, id, names, ns), None, ns, code);
            }
            What::NetSend { interface, bytes } => {
                let traffic = self.traffic(interface);
                (traffic.sent, traffic.sent_bytes) =
                    (traffic.sent + 1, traffic.sent_bytes + u64::from(bytes));
            }
            What::NetReceive { interface, bytes } => {
                let traffic = self.traffic(interface);
                (traffic.received, traffic.received_bytes) =
                    (traffic.received + 1, traffic.received_bytes + u64::from(bytes));
            }
            What::Trigger { kind, value, pid, ref comm, .. } => {
                self.mark(ns, stopped::cause_text(kind, value, pid, &stopped::name(comm)));
            }
            What::Mark { ref text } => self.mark(ns, escape(text)),
            What::Hold => self.mark(ns, "held".to_owned()),
            What::Resume => self.mark(ns, "resumed".to_owned()),
            _ => {}
        }
    }

    fn mark(&mut self, at_ns: u64, text: String) {
        push(&mut self.marks, Mark { at_ns, text });
    }

    /// The process ends, or has crashed in this thread.
    fn ends(&mut self, process: Task, thread: Option<Task>, at_ns: u64, code: i32) {
        let (signal, status) = (code & 0x7f, (code >> 8 & 0xff) as u8);
        let name = |number: i32| {
            let named = Signal::try_from(number).map(|signal| signal.as_str().to_owned());
            named.unwrap_or_else(|_| format!("signal {number}"))
        };
        let signal = (signal != 0).then(|| name(signal));
        self.ended_count += 1;
        let at = if signal.is_some() { 0 } else { usize::from(status == 0) + 1 };
        push(&mut self.ended[at], Ended { process, thread, at_ns, status, signal });
    }

    fn traffic(&mut self, interface: Interface) -> &mut Traffic {
        let Interface { index, net_ns } = interface;
        self.traffic.entry(interface).or_insert(Traffic {
            interface: index,
            name: None,
            net_ns,
            sent: 0,
            sent_bytes: 0,
            received: 0,
            received_bytes: 0,
        })
    }

    pub(super) fn put(self, figures: &mut Figures, names: &mut Names, end: u64) {
        let faults = sorted(self.faults, |count| *count);
        figures.faults =
            faults.map(|(pid, count)| Faults { process: task(pid, pid, names, end), count }).collect();
        let traffic = sorted(self.traffic, |it| it.sent_bytes + it.received_bytes);
        figures.interfaces = traffic.map(|(_, it)| it).collect();
        for it in &mut figures.interfaces {
            it.name =
                names.interface(Interface { index: it.interface, net_ns: it.net_ns }).map(str::to_owned);
        }
        figures.marks = self.marks.into();
        (figures.started, figures.started_count) = (self.started.into(), self.started_count);
        figures.ended = self.ended.into_iter().flatten().collect();
        figures.ended_count = self.ended_count;
    }
}

/// Keeps the latest.
fn push<T>(list: &mut VecDeque<T>, new: T) {
    if list.len() == SHOWN {
        list.pop_front();
    }
    list.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::super::super::event::tests::{comm, event, exec};
    use super::*;

    #[test]
    fn of_equal_ones_the_first_are_named() {
        let (mut lists, mut names) = (Lists::default(), Names::of_events());
        for pid in (1..=100).rev() {
            lists.see(&event(1, pid, What::Fault { address: 0, ip: 0 }), &mut names);
        }
        let mut found = Figures::default();
        lists.put(&mut found, &mut names, 1000);
        assert!(found.faults.iter().map(|it| it.process.pid).eq(1..=20));
    }

    #[test]
    fn those_that_failed_are_named_first() {
        let end = |ns, pid, code| event(ns, pid, What::Exit { code, process: Some(code) });
        let crash = Event { tid: 10, ..event(5, 9, What::Crash { signal: 11, comm: comm("w") }) };
        let events = [
            event(1, 7, exec("/bin/a\x1b", "a")),
            end(2, 8, 0),
            end(3, 7, 11),
            end(4, 6, 3 << 8),
            Event { tid: 11, ..event(4, 9, What::Exit { code: 0, process: None }) },
            crash,
            end(6, 9, 11), // when its core is written
        ];
        let (mut lists, mut names) = (Lists::default(), Names::of_events());
        events.iter().for_each(|event| lists.see(event, &mut names));
        let mut found = Figures::default();
        lists.put(&mut found, &mut names, 1000);
        let ended: Vec<_> =
            found.ended.iter().map(|it| (it.process.pid, it.signal.as_deref(), it.status)).collect();
        assert_eq!(ended, [(7, Some("SIGSEGV"), 0), (9, Some("SIGSEGV"), 0), (6, None, 3), (8, None, 0)]);
        let crash = &found.ended[1];
        assert_eq!((crash.at_ns, crash.thread.as_ref().map(|it| it.tid)), (5, Some(10)));
        assert_eq!(
            (found.ended_count, found.started_count, &*found.started[0].file),
            (4, 1, "/bin/a\\u{1b}")
        );
    }
}
