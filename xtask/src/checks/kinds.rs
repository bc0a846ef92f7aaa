//! The parts of a check: its name, how `cargo xtask test` runs it, and how `cargo xtask prove` counts it.

use anyhow::{Context, Result};

use crate::cmd;
use crate::counts::{self, Counts};
use crate::need::Need;
use crate::setup::Tools;
use crate::times;

/// One entry of the table.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// One line of text.
    pub(crate) help: &'static str,
    /// The step of `cargo xtask test`, if any.
    pub(crate) test: Option<Test>,
    /// The method of `cargo xtask prove`, if any.
    pub(crate) proof: Option<Proof>,
}

/// A step of `cargo xtask test`.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// The part that runs with `--all`, or if the step is named.
    pub(crate) whole: Part,
    quick: Quick,
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
    /// The machine: it records, counts or times what all processes do.
    Machine,
}

/// The part of a step that runs without `--all`.
#[derive(Clone, Copy)]
enum Quick {
    Whole,
    Less(Part),
    Nothing,
}

/// How to run a step.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Commands, one after the other.
    Lines(&'static [&'static str]),
    /// A function; it gets the tools if the step needs them.
    Code { shown: &'static str, run: fn(Option<&Tools>) -> Result<()> },
}

/// A method of `cargo xtask prove`.
#[derive(Clone, Copy)]
pub(crate) struct Proof {
    /// Methods run in this order, cheap ones first.
    pub(crate) turn: u8,
    pub(crate) needs: &'static [Need],
    /// The files on which its result depends, as arguments of `git diff`.
    pub(crate) covers: &'static [&'static str],
    count: Count,
}

/// The source of a method's numbers.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// The output of the test programs of these commands, one after the other.
    Outputs(&'static [&'static str]),
    /// A function.
    Code(fn(&Given<'_>) -> Result<Counts>),
}

/// The inputs of a method.
pub(crate) struct Given<'a> {
    find_tools: &'a dyn Fn() -> Option<&'a Tools>,
    pub(crate) seconds: u32,
}

impl<'a> Given<'a> {
    pub(crate) fn new(find_tools: &'a dyn Fn() -> Option<&'a Tools>, seconds: u32) -> Self {
        Self { find_tools, seconds }
    }

    /// The tools of a BPF build; this call finds them.
    pub(crate) fn tools(&self) -> Option<&'a Tools> {
        (self.find_tools)()
    }

    /// The same, for a method that needs them.
    pub(crate) fn needed_tools(&self) -> Result<&'a Tools> {
        self.tools().context("no tools")
    }
}

/// A check that is neither a step nor a method yet.
pub(super) const fn check(name: &'static str, help: &'static str) -> Check {
    Check { name, help, test: None, proof: None }
}

/// Work by a function; `shown` is its text in lists.
pub(super) const fn code(shown: &'static str, run: fn(Option<&Tools>) -> Result<()>) -> Work {
    Work::Code { shown, run }
}

/// Work that takes a share of the CPUs for about `seconds`.
pub(super) const fn part(seconds: u16, needs: &'static [Need], work: Work) -> Part {
    Part { needs, work, takes: Takes::Share, seconds, after: None }
}

impl Check {
    /// Makes it a step that is quick as a whole.
    pub(super) const fn test(self, whole: Part) -> Self {
        Self { test: Some(Test { whole, quick: Quick::Whole }), ..self }
    }

    /// Gives the step another quick part.
    pub(super) const fn quick(self, part: Part) -> Self {
        self.with_quick(Quick::Less(part))
    }

    /// Leaves the step out of the quick part.
    pub(super) const fn only_in_all(self) -> Self {
        self.with_quick(Quick::Nothing)
    }

    const fn with_quick(self, quick: Quick) -> Self {
        let Some(test) = self.test else { panic!("only a step has a quick part") };
        Self { test: Some(Test { quick, ..test }), ..self }
    }

    /// Makes it a method.
    pub(super) const fn prove(
        self,
        turn: u8,
        needs: &'static [Need],
        covers: &'static [&'static str],
        count: Count,
    ) -> Self {
        Self { proof: Some(Proof { turn, needs, covers, count }), ..self }
    }
}

impl Test {
    /// The part that runs without `--all`, if any.
    pub(crate) fn quick(&self) -> Option<&Part> {
        match &self.quick {
            Quick::Whole => Some(&self.whole),
            Quick::Less(part) => Some(part),
            Quick::Nothing => None,
        }
    }

    /// Whether the quick part is the whole.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(self.quick, Quick::Whole)
    }
}

impl Part {
    pub(super) const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    pub(super) const fn after(self, step: &'static str) -> Self {
        Self { after: Some(step), ..self }
    }

    /// Whether this is needed.
    pub(crate) fn needs(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }

    /// Runs it.
    pub(crate) fn run(&self, tools: Option<&Tools>) -> Result<()> {
        match &self.work {
            Work::Code { run, .. } => run(tools),
            Work::Lines(lines) => lines.iter().try_for_each(|line| {
                let mut command = cmd::line(line);
                if let Some(tools) = tools {
                    tools.export(&mut command);
                }
                times::of(line, || cmd::run(&mut command))
            }),
        }
    }
}

impl Proof {
    /// Runs the method.
    pub(crate) fn run(&self, given: &Given<'_>) -> Result<Counts> {
        match self.count {
            Count::Code(run) => run(given),
            Count::Outputs(lines) => {
                let mut all = Counts::default();
                for line in lines {
                    let mut command = cmd::line(line);
                    if self.needs.contains(&Need::Tools) {
                        given.needed_tools()?.export(&mut command);
                    }
                    all += counts::of(&mut command)?;
                }
                Ok(all)
            }
        }
    }
}
