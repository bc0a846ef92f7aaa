//! Waits in sum: of each thread, by where it waited and who ended the wait; and the same of locks of the kernel.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::event::{Event, What};
use super::super::names::{Id, Names};
use super::super::stack::Stack;
use super::super::symbols::Symbols;
use super::super::trace::lock_kind;
use super::figures::{Figures, Total, WaitSum, Where};
use super::largest::Map;
use super::longest::LONGEST;
use super::tasks::{Tasks, task};
use super::waits::KTHREADD;

/// So many different waits are told apart. Those that come later are left out: a file can make up any number.
const DIFFERENT: usize = 1 << 14;
/// So many sums get the names of their functions, the largest first.
const NAMED: usize = 256;

/// The state that only the event ends, not a signal.
const UNINTERRUPTIBLE: u32 = 2;
/// In place of a state.
const THROTTLED: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Sums {
    waits: Map<Wait, Total>,
    locks: Map<Wait, Total>,
}

#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Wait {
    pid: Id,
    tid: Id,
    /// The state, or the kind of the lock.
    how: u32,
    waker: Option<Id>,
    stack: Stack,
}

impl Sums {
    pub(super) fn see(&mut self, event: &Event, names: &Names) {
        let (sums, ns, how, waker, stack) = match event.what {
            What::Wait { ns, state, is_throttled, waker, ref stack } => {
                let how = if is_throttled { THROTTLED } else { state.into() };
                (&mut self.waits, ns, how, waker, stack)
            }
            What::Contention { ns, flags, ref stack, .. } => (&mut self.locks, ns, flags, None, stack),
            _ => return,
        };
        let [pid, tid] = [event.pid, event.tid].map(|number| names.id(number));
        let waker = waker.map(|tid| names.id(tid));
        let wait = Wait { pid, tid, how, waker, stack: stack.clone() };
        if sums.len() < DIFFERENT || sums.contains_key(&wait) {
            sums.entry(wait).or_default().add(Total { count: 1, ns, max_ns: ns });
        }
    }

    pub(super) fn put(
        self,
        figures: &mut Figures,
        tasks: &Tasks,
        names: &mut Names,
        symbols: &mut Symbols,
        end: u64,
    ) {
        let is_idle = |wait: &Wait| wait.how != UNINTERRUPTIBLE;
        let (waits, sleeps) = listed(self.waits, state, is_idle, tasks, names, symbols, end);
        (figures.wait_sums, figures.sleeps) = (waits, sleeps);
        (figures.lock_sums, _) = listed(self.locks, lock_kind, |_| false, tasks, names, symbols, end);
    }
}

/// The state in which a thread waited, in words.
fn state(state: u32) -> String {
    let text = match state {
        0 | 0x100 => "for a CPU",
        THROTTLED => "for a CPU quota",
        1 => "interruptible",
        UNINTERRUPTIBLE => "uninterruptible",
        _ => "other",
    };
    text.to_owned()
}

/// The largest sums, and apart from them the sleeps that only their own time ends. Stacks that have the same innermost functions
/// are one.
fn listed(
    sums: Map<Wait, Total>,
    how: fn(u32) -> String,
    is_idle: fn(&Wait) -> bool,
    tasks: &Tasks,
    names: &mut Names,
    symbols: &mut Symbols,
    end: u64,
) -> (Vec<WaitSum>, Total) {
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_unstable_by(|(a, x), (b, y)| (Reverse(x.ns), a).cmp(&(Reverse(y.ns), b)));
    let (mut merged, mut sleeps) = (BTreeMap::new(), Total::default());
    for (wait, total) in all.into_iter().take(NAMED) {
        let of = task(wait.pid, wait.tid, names, end);
        let process = names.process_of(wait.pid, end);
        // Threads of the kernel wait until there is work for them.
        if is_idle(&wait) && process.is_some_and(|it| it.parent == KTHREADD) {
            continue;
        }
        let stack = Where::of(&symbols.frames_of_wait(&wait.stack, process));
        if stack.kernel.iter().any(|name| name.contains("nanosleep")) {
            sleeps.add(total);
            continue;
        }
        let key = (wait.pid, wait.tid, wait.how, wait.waker, stack.innermost());
        let waker = wait.waker.filter(|tid| tid.number != 0).map(|tid| tasks.task(tid, names, end));
        let new = WaitSum { task: of, how: how(wait.how), waker, total: Total::default(), stack };
        merged.entry(key).or_insert(new).total.add(total);
    }
    let mut listed: Vec<_> = merged.into_values().collect();
    listed.sort_by_key(|sum| Reverse(sum.total.ns));
    listed.truncate(2 * LONGEST);
    (listed, sleeps)
}

#[cfg(test)]
mod tests {
    use super::super::super::event::tests::event;
    use super::*;

    fn wait(tid: u32, ns: u64, waker: u32, user: u64) -> Event {
        let frame = super::super::super::stack::UserFrame::File { build_id: [1; 20], offset: user };
        let stack = Stack { kernel: vec![1 << 63], user: vec![frame], is_cut: false, began: 0 };
        event(1_000, tid, What::Wait { ns, state: 1, is_throttled: false, waker: Some(waker), stack })
    }

    fn figures(events: impl IntoIterator<Item = Event>) -> Figures {
        let (mut sums, mut figures) = (Sums::default(), Figures::default());
        let mut names = Names::of_events();
        events.into_iter().for_each(|event| sums.see(&event, &names));
        sums.put(&mut figures, &Tasks::default(), &mut names, &mut Symbols::new(&[]), 2_000);
        figures
    }

    #[test]
    fn many_short_waits_at_one_place_are_more_than_a_long_one() {
        let many = (0..100).map(|_| wait(8, 50, 9, 16));
        let found = figures(many.chain([wait(8, 900, 0, 32), wait(5, 60, 9, 16)]));
        let sums: Vec<_> = found
            .wait_sums
            .iter()
            .map(|it| (it.task.tid, it.total.count, it.total.ns, it.total.max_ns))
            .collect();
        assert_eq!(sums, [(8, 100, 5_000, 50), (8, 1, 900, 900), (5, 1, 60, 60)]);
        assert_eq!(found.wait_sums[0].waker.as_ref().map(|task| task.tid), Some(9));
        assert!(found.wait_sums[1].waker.is_none(), "an interrupt, while nothing ran");
        assert_eq!(found.wait_sums[0].how, "interruptible");
    }

    #[test]
    fn a_lock_of_the_kernel_has_a_kind_and_times_that_have_an_end() {
        let stack = Stack { kernel: vec![1 << 63], user: vec![], is_cut: false, began: 0 };
        let lock = |ns| event(1_000, 8, What::Contention { lock: 1, flags: 32, ns, stack: stack.clone() });
        let found = figures([lock(u64::MAX), lock(5)]);
        let [sum] = &found.lock_sums[..] else { panic!("{:?}", found.lock_sums) };
        assert_eq!((sum.total.count, sum.total.ns, &*sum.how), (2, u64::MAX, "mutex"));
    }

    #[test]
    fn a_file_can_not_fill_the_memory_with_different_waits() {
        let mut sums = Sums::default();
        (0..2 * DIFFERENT as u64).for_each(|at| sums.see(&wait(8, 1, 9, at), &Names::of_events()));
        assert_eq!(sums.waits.len(), DIFFERENT);
    }
}
