//! Which step may start beside those that run. Starts nothing itself.

use std::cmp::Reverse;

use crate::checks::{Part, Takes};

pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) part: &'static Part,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has looked whether this machine has what it needs.
    Unknown,
    /// It can start.
    Ready,
    Running,
    Passed,
    /// Failed or skipped: what it builds can't be used.
    Ended,
}

/// The steps of a run, the longest first.
pub(super) struct Schedule {
    steps: Vec<Step>,
    cpus: usize,
}

impl Schedule {
    pub(super) fn new(mut steps: Vec<Step>, cpus: usize) -> Self {
        steps.sort_by_key(|step| Reverse(step.part.seconds));
        Self { steps, cpus }
    }

    pub(super) fn steps(&mut self) -> &mut [Step] {
        &mut self.steps
    }

    /// The step of this name, which is one of them.
    pub(super) fn find(&mut self, name: &str) -> &mut Step {
        self.steps.iter_mut().find(|step| step.name == name).expect("events name steps of this run")
    }

    fn running(&self) -> impl Iterator<Item = Takes> {
        self.steps.iter().filter(|step| step.state == State::Running).map(|step| step.part.takes)
    }

    /// Whether this can run beside the steps that run now.
    fn fits(&self, takes: Takes) -> bool {
        let has_cpu = self.running().count() < self.cpus && self.running().all(|other| other != Takes::Cpus);
        let free = has_cpu && self.running().all(|other| other != Takes::Machine);
        match takes {
            Takes::OneCpu => has_cpu,
            // What runs already goes on beside a build; nothing else starts until it ends.
            Takes::Share | Takes::Cpus => free,
            Takes::Kernel | Takes::Check => free && self.running().all(|other| other != takes),
            Takes::Machine => has_cpu && self.running().all(|other| other == Takes::OneCpu),
        }
    }

    /// The state of the step's build, unless it is not part of this run.
    fn build(&self, of: &Step) -> Option<State> {
        let build = of.part.after?;
        self.steps.iter().find(|step| step.name == build).map(|build| build.state)
    }

    /// The seconds of the steps that can only run one after the other with this one, itself included. The run can't end
    /// earlier.
    fn chain(&self, of: &Step) -> u32 {
        match of.part.takes {
            takes @ (Takes::Kernel | Takes::Check) => {
                let waits = |step: &&Step| {
                    step.part.takes == takes && matches!(step.state, State::Unknown | State::Ready)
                };
                self.steps.iter().filter(waits).map(|step| u32::from(step.part.seconds)).sum()
            }
            Takes::Share | Takes::Cpus | Takes::OneCpu | Takes::Machine => of.part.seconds.into(),
        }
    }

    /// A step that can start now: of the longest chain the longest one. A build that others wait for comes first. A step
    /// that takes the machine comes last: until then, the others have it. Those that can run beside it wait for it.
    pub(super) fn next(&self) -> Option<usize> {
        let can_start = |step: &Step| {
            let is_built = self.build(step).is_none_or(|build| build == State::Passed);
            step.state == State::Ready && is_built && self.fits(step.part.takes)
        };
        let rank = |step: &Step| match step.part.takes {
            Takes::Cpus => 0,
            Takes::Share | Takes::Kernel | Takes::Check => 1,
            Takes::OneCpu | Takes::Machine => 2,
        };
        let ready = self.steps.iter().enumerate().filter(|(_, step)| can_start(step));
        ready.min_by_key(|(_, step)| (rank(step), Reverse(self.chain(step)))).map(|(at, _)| at)
    }

    /// The steps whose build failed or was skipped; they can never start.
    pub(super) fn orphans(&self) -> Vec<usize> {
        let lost = |step: &Step| step.state == State::Ready && self.build(step) == Some(State::Ended);
        self.steps.iter().enumerate().filter(|(_, step)| lost(step)).map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Work;

    const fn part(seconds: u16, takes: Takes, after: Option<&'static str>) -> Part {
        Part { needs: &[], work: Work::Lines(&[]), takes, seconds, after }
    }
    static BUILD: Part = part(100, Takes::Cpus, None);
    static KERNEL: Part = part(300, Takes::Kernel, Some("build"));
    static UNIT: Part = part(20, Takes::Kernel, Some("build"));
    static LOOM: Part = part(200, Takes::Share, None);
    static FLIGHT: Part = part(900, Takes::Machine, Some("build"));

    fn schedule() -> Schedule {
        let steps =
            [("fmt", &LOOM), ("unit", &UNIT), ("kernel", &KERNEL), ("flight", &FLIGHT), ("build", &BUILD)];
        let steps = steps.map(|(name, part)| Step { name, part, state: State::Ready });
        Schedule::new(steps.into(), 2)
    }

    fn start(schedule: &mut Schedule) -> Option<&'static str> {
        let at = schedule.next()?;
        let step = &mut schedule.steps()[at];
        step.state = State::Running;
        Some(step.name)
    }

    fn end(schedule: &mut Schedule, name: &str, state: State) {
        schedule.find(name).state = state;
    }

    #[test]
    fn builds_come_first_and_the_whole_machine_last() {
        let mut s = schedule();
        assert_eq!(start(&mut s), Some("build"));
        assert_eq!(start(&mut s), None, "a build takes all CPUs");
        end(&mut s, "build", State::Passed);
        assert_eq!((start(&mut s), start(&mut s)), (Some("kernel"), Some("fmt")));
        assert_eq!(start(&mut s), None, "two CPUs");
        end(&mut s, "fmt", State::Passed);
        assert_eq!(start(&mut s), None, "one step at a time has the kernel");
        end(&mut s, "kernel", State::Ended);
        assert_eq!(start(&mut s), Some("unit"));
        assert_eq!(start(&mut s), None, "the recorder waits for the machine");
        end(&mut s, "unit", State::Passed);
        assert_eq!((start(&mut s), start(&mut s)), (Some("flight"), None));
    }

    #[test]
    fn many_short_steps_of_the_kernel_start_before_a_longer_one_that_can_run_beside_them() {
        static ALONE: Part = part(120, Takes::Kernel, None);
        static FREE: Part = part(200, Takes::Share, None);
        let steps = [("free", &FREE), ("one", &ALONE), ("two", &ALONE), ("three", &ALONE)];
        let steps = steps.map(|(name, part)| Step { name, part, state: State::Ready });
        let mut s = Schedule::new(steps.into(), 1);
        assert_eq!(start(&mut s), Some("one"), "360 seconds");
        end(&mut s, "one", State::Passed);
        assert_eq!(start(&mut s), Some("two"), "240 seconds");
        end(&mut s, "two", State::Passed);
        assert_eq!(start(&mut s), Some("free"), "120 seconds are left");
    }

    #[test]
    fn what_needs_one_cpu_alone_runs_beside_the_recorder_in_any_order() {
        static ALONE: Part = part(100, Takes::Machine, None);
        static CPU: Part = part(200, Takes::OneCpu, None);
        static SHARE: Part = part(20, Takes::Share, None);
        let steps = [("flight", &ALONE), ("litmus", &CPU), ("unit", &SHARE)];
        let steps = steps.map(|(name, part)| Step { name, part, state: State::Ready });
        let mut s = Schedule::new(steps.into(), 2);
        assert_eq!((start(&mut s), start(&mut s)), (Some("unit"), Some("litmus")));
        end(&mut s, "unit", State::Passed);
        assert_eq!(start(&mut s), Some("flight"));
        end(&mut s, "litmus", State::Ready);
        assert_eq!(start(&mut s), Some("litmus"));
    }

    #[test]
    fn a_failed_build_takes_its_steps_with_it() {
        let mut s = schedule();
        end(&mut s, "build", State::Ended);
        let orphans: Vec<_> = s.orphans().into_iter().map(|at| s.steps()[at].name).collect();
        assert_eq!(orphans, ["flight", "kernel", "unit"]);
        assert_eq!(start(&mut s), Some("fmt"));
    }

    #[test]
    fn a_step_whose_needs_are_unknown_waits() {
        let mut s = schedule();
        end(&mut s, "build", State::Unknown);
        assert_eq!(start(&mut s), Some("fmt"));
        assert_eq!(start(&mut s), None);
        assert!(s.orphans().is_empty());
    }
}
