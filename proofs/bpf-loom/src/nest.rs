//! Programs of one CPU. They interrupt one another: the one that runs is stopped before an access
//! to the ring, another one runs to its end, and so on, in every way that there is. And tasks preempt one
//! another: either goes on at any access, but for those in the guard.
//!
//! Where in between accesses a program is stopped makes no difference to anyone.

use std::mem;
use std::sync::{Arc, Mutex};

use crate::alone;
use crate::history::{End, History};
use crate::machine::{Change, Machine};
use crate::object::Program;
use crate::order::Order;
use crate::ring::Ring;

/// Decisions, made in every possible way one after the other.
#[derive(Default)]
pub struct Choices {
    made: Vec<bool>,
    at: usize,
}

impl Choices {
    /// Runs `model` once for every sequence of decisions; how many there were.
    pub fn explore(mut model: impl FnMut(&mut Self)) -> u64 {
        let mut choices = Self::default();
        for runs in 1.. {
            choices.at = 0;
            model(&mut choices);
            // The next one in order: the last decision that was no becomes yes.
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

    /// The same with an execution of loom's for each sequence: it counts steps in 16 bits.
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

/// How many programs interrupt one, or each other, in the models: two to leave the hint far behind,
/// and one in the midst of what that leads to.
pub const INTERRUPTS: u64 = 3;

/// Programs of which each may interrupt all others.
pub struct Nest<'a> {
    /// Where they write.
    pub ring: &'a Ring,
    /// What they do: publish or discard a record of the value that they get. Which of these an interrupting one is
    /// gets decided, too.
    pub programs: &'a [&'a Program],
    /// Whether that is discarding.
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
    /// What the same run of the program had last written before, and which instruction that was.
    pub last: Option<(usize, Change)>,
}

impl<'a> Nest<'a> {
    /// Runs the program, with `interrupts` others in the middle of it or of one another.
    pub fn run(&mut self, choices: &mut Choices, interrupts: &mut u64, history: &mut History) {
        let which = self.programs.len() > 1 && choices.choose();
        let mut task = self.task(usize::from(which), 100 + *interrupts);
        while !self.step(&mut task, choices, interrupts, history) {}
    }

    /// Runs two tasks, the first of the programs and the last, each of which preempts the other up to so many times,
    /// with `interrupts` others in their midst.
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

    /// A step of a task, before which others may interrupt it: whether that was its last.
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
    /// What it had last written, and which instruction that was.
    last: Option<(usize, Change)>,
}
