//! What a check is: its name, how `cargo xtask test` runs it, and what `cargo xtask prove` counts of it.

use anyhow::{Context, Result};

use crate::cmd;
use crate::counts::{self, Counts};
use crate::need::Need;
use crate::setup::Tools;

/// One entry of the table.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) help: &'static str,
    /// The step of `cargo xtask test`, if it is one.
    pub(crate) test: Option<Test>,
    /// The method of `cargo xtask prove`, if it is one.
    pub(crate) proof: Option<Proof>,
}

/// A step of `cargo xtask test`.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// What is run with `--all`, or where the step is named.
    pub(crate) whole: Part,
    quick: Quick,
}

/// What a step does, or the quick part of one.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) needs: &'static [Need],
    pub(crate) work: Work,
}

/// What of a step is run without `--all`.
#[derive(Clone, Copy)]
enum Quick {
    Whole,
    Less(Part),
    Nothing,
}

/// How a step is done.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Commands, one after the other.
    Lines(&'static [&'static str]),
    /// More than that; the tools are there if the step needs them.
    Code { shown: &'static str, run: fn(Option<&Tools>) -> Result<()> },
}

/// A method of `cargo xtask prove`.
#[derive(Clone, Copy)]
pub(crate) struct Proof {
    /// Methods run in the order of their turns: cheap ones first. Steps have another order, that of build profiles.
    pub(crate) turn: u8,
    pub(crate) needs: &'static [Need],
    count: Count,
}

/// Where a method's numbers are from.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// What the test programs of this command print.
    Tests(&'static str),
    /// More than that.
    Code(fn(&Given<'_>) -> Result<Counts>),
}

/// What a method may use.
pub(crate) struct Given<'a> {
    find_tools: &'a dyn Fn() -> Option<&'a Tools>,
    pub(crate) seconds: u32,
}

impl<'a> Given<'a> {
    pub(crate) fn new(find_tools: &'a dyn Fn() -> Option<&'a Tools>, seconds: u32) -> Self {
        Self { find_tools, seconds }
    }

    /// The tools of a BPF build, which are looked for now.
    pub(crate) fn tools(&self) -> Option<&'a Tools> {
        (self.find_tools)()
    }

    /// The same for a method that needs them.
    pub(crate) fn needed_tools(&self) -> Result<&'a Tools> {
        self.tools().context("no tools")
    }
}

/// A check that is neither a step nor a method yet.
pub(super) const fn check(name: &'static str, help: &'static str) -> Check {
    Check { name, help, test: None, proof: None }
}

/// Work that is more than a command line; `shown` stands for it in lists.
pub(super) const fn code(shown: &'static str, run: fn(Option<&Tools>) -> Result<()>) -> Work {
    Work::Code { shown, run }
}

impl Check {
    /// Makes it a step, the whole of which is quick.
    pub(super) const fn test(self, needs: &'static [Need], work: Work) -> Self {
        Self { test: Some(Test { whole: Part { needs, work }, quick: Quick::Whole }), ..self }
    }

    /// Gives the step another quick part.
    pub(super) const fn quick(self, needs: &'static [Need], work: Work) -> Self {
        self.with_quick(Quick::Less(Part { needs, work }))
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
    pub(super) const fn prove(self, turn: u8, needs: &'static [Need], count: Count) -> Self {
        Self { proof: Some(Proof { turn, needs, count }), ..self }
    }
}

impl Test {
    /// What is run without `--all`, if anything.
    pub(crate) fn quick(&self) -> Option<&Part> {
        match &self.quick {
            Quick::Whole => Some(&self.whole),
            Quick::Less(part) => Some(part),
            Quick::Nothing => None,
        }
    }

    /// Whether all of it is quick.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(self.quick, Quick::Whole)
    }
}

impl Part {
    /// Whether this is needed.
    pub(crate) fn needs(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }

    /// Does it.
    pub(crate) fn run(&self, tools: Option<&Tools>) -> Result<()> {
        match &self.work {
            Work::Code { run, .. } => run(tools),
            Work::Lines(lines) => lines.iter().try_for_each(|line| {
                let mut command = cmd::line(line);
                if let Some(tools) = tools {
                    tools.export(&mut command);
                }
                cmd::run(&mut command)
            }),
        }
    }
}

impl Proof {
    /// Runs the method.
    pub(crate) fn run(&self, given: &Given<'_>) -> Result<Counts> {
        match self.count {
            Count::Code(run) => run(given),
            Count::Tests(line) => {
                let mut command = cmd::line(line);
                if self.needs.contains(&Need::Tools) {
                    given.needed_tools()?.export(&mut command);
                }
                counts::of(&mut command)
            }
        }
    }
}
