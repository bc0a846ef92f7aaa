//! The parts of a check: its name, how `cargo xtask test` runs it, and how `cargo xtask prove` counts it.

use std::process::Command;

use anyhow::Result;

use super::{BUILD, runs};
use crate::cmd;
use crate::counts::{self, Counts};
use crate::need::{Machine, Need};
use crate::programs::Tests;
use crate::prove::Covers;
use crate::setup::Tools;
use crate::times;

#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// The step of `cargo xtask test`, if any: with `--all`, or if it is named.
    pub(crate) test: Option<Part>,
    /// What runs of it without `--all`.
    pub(crate) quick: Quick,
    /// The method of `cargo xtask prove`, if any.
    pub(crate) proof: Option<Proof>,
}

/// What the quick part has of a step.
#[derive(Clone, Copy)]
pub(crate) enum Quick {
    Whole,
    Less(Part),
    Nothing,
}

/// The work of a step, or its quick part.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) needs: &'static [Need],
    pub(crate) work: Work,
    pub(crate) takes: Takes,
    /// Its usual CPU seconds on the machine of reference (`test/speed.rs`). The longest steps start first.
    pub(crate) seconds: u16,
    /// The step whose build it uses.
    pub(crate) after: Option<&'static str>,
}

/// What a step takes of the machine while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One share of the CPUs.
    Share,
    /// The same. It changes the kernel's state, or looks at all regions of the machine: one such step at a time.
    Kernel,
    /// A share. cargo checks sources in a folder of its own, which it locks: one such step at a time.
    Check,
    /// All CPUs: other steps wait for what it builds.
    Cpus,
    /// One CPU, and next to nothing of the kernel: it runs beside a step that takes the machine.
    OneCpu,
    /// The machine: it records, counts or times what all processes do.
    Machine,
}

#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Commands, one after the other.
    Lines(&'static [&'static str]),
    /// Programs of the step `build`.
    Programs(Tests),
    /// A function, and its text in lists.
    Code(&'static str, fn(&Given<'_>) -> Result<()>),
}

/// A method of `cargo xtask prove`.
#[derive(Clone, Copy)]
pub(crate) struct Proof {
    /// Methods run in this order, cheap ones first.
    pub(crate) turn: u8,
    pub(crate) needs: &'static [Need],
    pub(crate) covers: Covers,
    count: Count,
}

#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// The output of the test programs of these commands, one after the other.
    Outputs(&'static [&'static str]),
    Code(fn(&Given<'_>) -> Result<Counts>),
}

/// The inputs of a step or a method.
pub(crate) struct Given<'a> {
    pub(crate) machine: &'a Machine,
    /// How long a method takes that can take any time.
    pub(crate) seconds: u32,
    /// How long each target of the method `fuzz` runs.
    pub(crate) fuzz_seconds: u32,
}

impl<'a> Given<'a> {
    /// The tools of a BPF build; this call finds them.
    pub(crate) fn tools(&self) -> Result<&'a Tools> {
        self.machine.tools()
    }

    /// The commands, with the tools if these are needed.
    fn commands(&self, lines: &[&'static str], needs: &[Need]) -> Result<Vec<(&'static str, Command)>> {
        let command = |&line| {
            let mut command = cmd::line(line);
            if needs.contains(&Need::Tools) {
                self.tools()?.export(&mut command);
            }
            Ok((line, command))
        };
        lines.iter().map(command).collect()
    }
}

/// A check that is neither a step nor a method yet.
pub(super) const fn check(name: &'static str, help: &'static str) -> Check {
    Check { name, help, test: None, quick: Quick::Whole, proof: None }
}

/// Work by a function; `shown` is its text in lists.
pub(super) const fn code(shown: &'static str, run: fn(&Given<'_>) -> Result<()>) -> Work {
    Work::Code(shown, run)
}

/// Work that takes a share of the CPUs for about `seconds`.
pub(super) const fn part(seconds: u16, needs: &'static [Need], work: Work) -> Part {
    Part { needs, work, takes: Takes::Share, seconds, after: None }
}

/// The same by programs of the step `build`.
pub(super) const fn programs(seconds: u16, needs: &'static [Need], tests: Tests) -> Part {
    part(seconds, needs, Work::Programs(tests)).built()
}

impl Check {
    pub(super) const fn test(self, whole: Part) -> Self {
        Self { test: Some(whole), ..self }
    }

    /// A step of `--all` alone.
    pub(super) const fn in_all(self, whole: Part) -> Self {
        Self { quick: Quick::Nothing, ..self.test(whole) }
    }

    pub(super) const fn quick(self, less: Part) -> Self {
        Self { quick: Quick::Less(less), ..self }
    }

    /// The part that runs without `--all`, if any.
    pub(crate) fn quick_part(&self) -> Option<&Part> {
        match &self.quick {
            Quick::Whole => self.test.as_ref(),
            Quick::Less(less) => Some(less),
            Quick::Nothing => None,
        }
    }

    pub(super) const fn prove(self, turn: u8, needs: &'static [Need], covers: Covers, count: Count) -> Self {
        Self { proof: Some(Proof { turn, needs, covers, count }), ..self }
    }
}

impl Part {
    pub(super) const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    /// It uses what the step `build` builds.
    pub(super) const fn built(self) -> Self {
        Self { after: Some(BUILD), ..self }
    }

    /// The text in the list of steps.
    pub(crate) fn shown(&self) -> String {
        match &self.work {
            Work::Lines(lines) => lines.join("; "),
            Work::Programs(tests) => format!("{tests} in the step `build`"),
            Work::Code(shown, _) => (*shown).to_owned(),
        }
    }

    pub(crate) fn run(&self, given: &Given<'_>) -> Result<()> {
        if self.takes == Takes::Check {
            runs::folder("check")?; // which its command lines name
        }
        match &self.work {
            Work::Code(_, run) => run(given),
            Work::Programs(tests) => tests.run(given.tools()?),
            Work::Lines(lines) => {
                let mut commands = given.commands(lines, self.needs)?.into_iter();
                commands.try_for_each(|(line, mut command)| times::of(line, || cmd::run(&mut command)))
            }
        }
    }
}

impl Proof {
    pub(crate) fn run(&self, given: &Given<'_>) -> Result<Counts> {
        match self.count {
            Count::Code(run) => run(given),
            Count::Outputs(lines) => {
                let mut all = Counts::default();
                for (_, mut command) in given.commands(lines, self.needs)? {
                    all += counts::of(&mut command)?;
                }
                Ok(all)
            }
        }
    }
}
