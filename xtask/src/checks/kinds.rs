//! The parts of a check: its name, how `cargo xtask test` runs it, and how `cargo xtask prove` counts it.

use anyhow::{Context, Result};

use crate::cmd;
use crate::counts::{self, Counts};
use crate::need::Need;
use crate::setup::Tools;

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
    /// Methods run in this order, cheap ones first. Steps have another order, by build profile.
    pub(crate) turn: u8,
    pub(crate) needs: &'static [Need],
    count: Count,
}

/// The source of a method's numbers.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// The output of this command's test programs.
    Line(&'static str),
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

impl Check {
    /// Makes it a step that is quick as a whole.
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
            Count::Line(line) => {
                let mut command = cmd::line(line);
                if self.needs.contains(&Need::Tools) {
                    given.needed_tools()?.export(&mut command);
                }
                counts::of(&mut command)
            }
        }
    }
}
