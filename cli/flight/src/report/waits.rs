//! The longest waits of threads, and where in the code they waited.

use super::super::names::{Id, Names};
use super::super::stack::Stack;
use super::super::symbols::Symbols;
use super::figures::{Figures, Wait, Where};
use super::longest::{LONGEST, Longest};
use super::tasks::Tasks;

/// The process whose children are the threads of the kernel.
pub(super) const KTHREADD: u32 = 2;

/// What ends a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// Only the event, or perhaps a signal that kills.
    Event,
    /// Also a signal.
    Signal,
    /// The child of a vfork, when it executes a program or ends, or a signal that kills.
    Child,
}

/// The longest of each of [`Ends`].
#[derive(Default)]
pub(super) struct Waits([Longest<Waited>; 3]);

struct Waited {
    tid: Id,
    from: u64,
    waker: Option<Id>,
    stack: Option<Box<Stack>>,
}

impl Waits {
    /// A wait of this time; `waker` is `None` if it is not over.
    pub(super) fn see(&mut self, ends: Ends, ns: u64, tid: Id, from: u64, waker: Option<Id>) {
        self.0[ends as usize].see(ns, || Waited { tid, from, waker, stack: None });
    }

    /// The thread runs again, and was off its CPU since `from`: this is where it waited, if it was woken in that time.
    pub(super) fn came_back(&mut self, tid: Id, from: u64, now: u64, stack: &Stack) {
        for (ns, wait) in self.0.iter_mut().flat_map(Longest::iter_mut) {
            if wait.tid == tid && (from..=now).contains(&wait.from.saturating_add(*ns)) {
                wait.stack = Some(Box::new(stack.clone()));
            }
        }
    }

    pub(super) fn put(
        &mut self,
        figures: &mut Figures,
        tasks: &Tasks,
        names: &mut Names,
        symbols: &mut Symbols,
        end: u64,
    ) {
        let [stuck, waited, parents] = self.0.each_mut().map(Longest::take);
        // Threads of the kernel wait until there is work for them.
        let is_of_kernel =
            |tid, names: &mut Names| names.process_of(tid, end).is_some_and(|it| it.parent == KTHREADD);
        let waited = waited.into_iter().filter(|(_, it)| !is_of_kernel(it.tid, names)).collect();
        let lists: [(Vec<_>, _); 3] = [
            (stuck, &mut figures.waits_uninterruptible),
            (waited, &mut figures.waits_interruptible),
            (parents, &mut figures.waits_for_children),
        ];
        for (found, waits) in lists {
            for (ns, Waited { tid, from, waker, stack }) in found.into_iter().take(LONGEST) {
                let of = tasks.task(tid, names, end);
                let is_open = waker.is_none();
                let waker = waker.map(|tid| tasks.task(tid, names, end));
                let process = names.process_of(tasks.process(tid), from);
                let stack = stack.map(|stack| Where::of(&symbols.frames_of_wait(&stack, process)));
                waits.push(Wait { task: of, ns, from_ns: from, is_open, waker, stack });
            }
        }
    }
}

impl Where {
    /// Where a thread waited, in the kernel and in its program: the innermost functions, as lines of a table.
    pub(super) fn innermost(&self) -> Vec<String> {
        self.chains().map(|(of, names)| format!("{of:6}  {names}")).collect()
    }

    /// The same without a place for the first words of the lines.
    pub(super) fn chains(&self) -> impl Iterator<Item = (&'static str, String)> {
        const FUNCTIONS: usize = 5;
        // All waits begin there.
        let is_scheduler =
            |name: &&String| ["schedule", "__schedule", "preempt_"].iter().any(|it| name.starts_with(it));
        let kernel: Vec<_> = self.kernel.iter().skip_while(is_scheduler).collect();
        let chain = |(of, names): (_, Vec<&String>)| {
            let shown = names.iter().take(FUNCTIONS).map(|name| name.as_str());
            let more = (names.len() > FUNCTIONS || self.is_cut).then_some("…");
            (of, shown.chain(more).collect::<Vec<_>>().join(" ← "))
        };
        let parts = [("kernel", kernel), ("user", self.user.iter().collect())];
        parts.into_iter().filter(|(_, names)| !names.is_empty()).map(chain)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::event::What;
    use super::super::super::event::tests::{comm, event};
    use super::super::super::stack::UserFrame;
    use super::super::figures::Group;
    use super::super::sections;
    use super::super::tasks::Tasks;
    use super::*;

    #[test]
    fn a_wait_is_shown_with_its_functions_and_its_waker() {
        let user = (0..7).map(|at| UserFrame::File { build_id: [1; 20], offset: at }).collect();
        let stack = Stack { kernel: vec![1 << 63], user, is_cut: false, began: 0 };
        let next = comm("next");
        let switch = What::Switch {
            state: 2,
            is_killable: false,
            prio: 120,
            next: 0,
            next_prio: 120,
            next_comm: next,
            quota: 0,
        };
        let woken = comm("woken");
        let waking = What::Waking { task: 7, is_new: false, prio: 120, target: 0, comm: woken };
        let wait =
            |ns| What::Wait { ns, state: 2, is_throttled: false, waker: Some(8), stack: stack.clone() };
        let mut tasks = Tasks::default();
        for event in [
            event(1_000, 7, switch),
            event(900_000, 9, wait(850_000)), // another thread
            event(9_001_000, 8, waking),
            event(9_200_000, 7, wait(9_199_000)),
            event(9_900_000, 7, wait(600_000)), // a later one
        ] {
            tasks.see(&event, &Names::of_events());
        }
        let frame = |at: u64, name: &str| {
            let place = json!({ "File": [vec![1; 20], at] });
            json!([place, at > 0, { "names": [name], "module": "m", "build_id": null, "offset": at }])
        };
        let saved = json!([frame(0, "read\x1b[31m"), frame(1, "<b>main</b>")]);
        let saved = serde_json::from_value(saved).unwrap();
        let mut symbols = Symbols::new(&[]).with_saved(Some(&saved));
        let mut figures = Figures::default();
        for group in ["sched", "waits"] {
            let group = Group { group, is_recorded: true, events: 1, complete_from_ns: None };
            figures.completeness.groups.push(group);
        }
        tasks.put(&mut figures, &mut Names::of_events(), &mut symbols, 9_900_000);
        let text = sections::of(&figures).to_string();
        let (_, text) = text.split_once("Longest uninterruptible waits").unwrap();
        let lines: Vec<_> = text.lines().skip(2).take(3).map(str::trim).collect();
        assert!(lines[0].starts_with("9.00 ms"), "{text}");
        let id = format!("[build id {}]", "01".repeat(20));
        let user = format!("user    read\\u{{1b}}[31m ← <b>main</b> ← {id}+0x2 ← {id}+0x3 ← {id}+0x4 ← …");
        assert_eq!(lines[1..], ["kernel  0x8000000000000000", &user], "{text}");
    }
}
