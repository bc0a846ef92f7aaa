//! Programs of one CPU that interrupt each other: the running program is stopped before an access to the ring, another
//! one runs to its end, and so on, in every way. And tasks that preempt each other: either continues at any access,
//! except inside the guard.
//!
//! The exact stopping point between two accesses makes no difference.

use std::mem;
use std::sync::{Arc, Mutex};

use crate::alone;
use crate::history::{End, History};
use crate::machine::Machine;
use crate::map::Change;
use crate::object::Program;
use crate::order::Order;
use crate::ring::Ring;

/// A sequence of decisions; all sequences are tried in turn.
#[derive(Default)]
pub struct Choices {
    made: Vec<bool>,
    at: usize,
}

impl Choices {
    /// Runs `model` once for every sequence of decisions. Returns the number of runs.
    pub fn explore(mut model: impl FnMut(&mut Self)) -> u64 {
        let mut choices = Self::default();
        for runs in 1.. {
            choices.at = 0;
            model(&mut choices);
            // The next sequence in order: the last `false` becomes `true`.
            while choices.made.last() == Some(&true) {
                choices.made.pop();
            }
            match choices.made.last_mut() {
                Some(last) => *last = true,
                None => return runs,
            }
        }
        unreachable!("the loop has no end")
    }

    /// The same with one loom execution per sequence, since loom counts steps in 16 bits.
    pub fn explore_alone(model: impl Fn(&mut Self) + Send + Sync + 'static) -> u64 {
        let model = Arc::new(model);
        Self::explore(|choices| {
            let way = Arc::new(Mutex::new(mem::take(choices)));
            let (model, this_way) = (Arc::clone(&model), Arc::clone(&way));
            alone(move || model(&mut this_way.lock().unwrap()));
            *choices = mem::take(&mut way.lock().unwrap());
        })
    }

    pub(crate) fn choose(&mut self) -> bool {
        if self.at == self.made.len() {
            self.made.push(false);
        }
        self.at += 1;
        self.made[self.at - 1]
    }
}

/// The number of programs that interrupt one, or each other, in the models: two that leave the hint far behind, and one
/// that interrupts the program that reads such a hint.
pub const INTERRUPTS: u64 = 3;

/// Programs, each of which may interrupt all others.
pub struct Nest<'a> {
    /// The ring that they write.
    pub ring: &'a Ring,
    /// The programs: each publishes or discards a record of its value. Which program interrupts is also a decision.
    pub programs: &'a [&'a Program],
    /// Whether they discard.
    pub discards: bool,
    /// The machine's memory.
    pub order: Order,
    /// Called with each access to the ring.
    pub seen: &'a mut dyn FnMut(Access),
}

/// An access to the ring.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The instruction's number.
    pub at: usize,
    /// The word.
    pub word: usize,
    /// Whether it wrote.
    pub wrote: bool,
    /// The last write of the same run of the program before this, and its instruction.
    pub last: Option<(usize, Change)>,
}

impl<'a> Nest<'a> {
    /// Runs the program, with `interrupts` other programs that interrupt it or each other.
    pub fn run(&mut self, choices: &mut Choices, interrupts: &mut u64, history: &mut History) {
        let which = self.programs.len() > 1 && choices.choose();
        let mut task = self.task(usize::from(which), 100 + *interrupts);
        history.note_begun(task.value);
        while !self.step(&mut task, choices, interrupts, history) {}
    }

    /// Runs two tasks, the first program and the last. Each preempts the other up to this many times, and `interrupts`
    /// other programs interrupt them.
    pub fn run_tasks(
        &mut self,
        choices: &mut Choices,
        mut preemptions: u64,
        interrupts: &mut u64,
        history: &mut History,
    ) {
        let mut running = self.task(0, 1001);
        let mut waiting = Some(self.task(self.programs.len() - 1, 1002));
        loop {
            if preemptions > 0
                && let Some(other) = &mut waiting
                && running.machine.shares_next().is_some()
                && !running.machine.is_guarded()
                && choices.choose()
            {
                preemptions -= 1;
                mem::swap(&mut running, other);
            }
            if self.step(&mut running, choices, interrupts, history) {
                let Some(other) = waiting.take() else { return };
                running = other;
            }
        }
    }

    fn task(&self, program: usize, value: u64) -> Task<'a> {
        Task { machine: self.ring.machine(self.programs[program], self.order, value), value, last: None }
    }

    /// One step of a task, before which others may interrupt it. Returns whether it was the last.
    fn step(
        &mut self,
        task: &mut Task<'_>,
        choices: &mut Choices,
        interrupts: &mut u64,
        history: &mut History,
    ) -> bool {
        let (at, shares) = (task.machine.pc(), task.machine.shares_next());
        if shares.is_some() {
            while *interrupts > 0 && choices.choose() {
                *interrupts -= 1;
                self.run(choices, interrupts, history);
            }
        }
        let before = task.machine.changes().len();
        let returned = task.machine.step();
        if let Some(word) = shares {
            let written = task.machine.changes().get(before).map(|change| (at, *change));
            (self.seen)(Access { at, word, wrote: written.is_some(), last: task.last });
            task.last = written.or(task.last);
        }
        if returned.is_some() {
            let end = if self.discards { End::Discarded } else { End::Published(task.value) };
            self.ring.account(history, task.machine.changes(), returned, end);
        }
        returned.is_some()
    }
}

struct Task<'a> {
    machine: Machine<'a>,
    value: u64,
    /// Its last write, and the instruction of that write.
    last: Option<(usize, Change)>,
}
