//! What happened, in figures: who used the CPUs, who waited for what and how long, and what failed.

mod diff;
mod figures;
mod lists;
mod longest;
mod requests;
mod tasks;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use self::figures::{Completeness, Cpu, Figures, Group, Lost, Stopped};
use self::lists::Lists;
use self::requests::Requests;
use self::tasks::Tasks;
use super::dump;
use super::dump::Period;
use super::event::{Event, Gap, What};
use super::names::Names;
use super::recorded::{From, Recorded};
use super::rings::{self, GROUPS};
use super::trace::{Abi, Sink};
use crate::output;

type Map<K, T> = HashMap<K, T, foldhash::fast::RandomState>;

/// So many lines of a list are kept.
const SHOWN: usize = 20;

/// Options of `mapring flight report`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the latest events, of this time: 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", value_parser = output::span)]
    last: Option<Duration>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Compare with another recording, in a file of `flight save`: the largest changes first
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    #[command(flatten)]
    from: From,
}

/// Prints the report.
///
/// # Errors
/// If nothing is recorded, or this user may not read it.
pub(crate) fn run(pins: &Path, args: &Args) -> Result<()> {
    let recorded = Recorded::open(pins, args.from.from.as_deref())?;
    recorded.report_clocks(pins);
    let figures = figures(recorded, args.last)?;
    let text = match &args.diff {
        Some(before) => {
            let before = self::figures(Recorded::open(pins, Some(before))?, args.last)?;
            let diff = diff::Diff::of(&figures, &before);
            if args.json { serde_json::to_string(&diff)? } else { diff.text() }
        }
        None if args.json => serde_json::to_string(&figures)?,
        None => text::of(&figures),
    };
    writeln!(io::stdout(), "{text}").context("stdout")
}

/// The figures of a recording.
fn figures(recorded: Recorded, last: Option<Duration>) -> Result<Figures> {
    let Period { times, zero, cause } = Period::of(&recorded, last);
    let Recorded { mut rings, mut names, .. } = recorded;
    dump::learn(&mut names, &rings, times.clone());
    let mut report = Report::new(times.end);
    report.requests.abi = Abi::of(names.machine());
    let written = dump::write(&mut report, &mut names, &mut rings, times)?;
    written.losses.report();
    let recorded = rings.iter().map(rings::GroupRings::name);
    let mut figures = report.figures(recorded.collect(), &mut names);
    figures.stopped = zero.zip(cause).map(|(at_ns, cause)| Stopped { cause, at_ns });
    Ok(figures)
}

/// What is known so far.
struct Report {
    /// The end of the time of the report.
    end: u64,
    groups: BTreeMap<&'static str, u64>,
    cpus: BTreeMap<u16, Cpu>,
    lost: Vec<Lost>,
    tasks: Tasks,
    requests: Requests,
    lists: Lists,
}

impl Report {
    fn new(end: u64) -> Self {
        let (groups, cpus, lost) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (tasks, requests, lists) = (Tasks::default(), Requests::default(), Lists::default());
        Self { end, groups, cpus, lost, tasks, requests, lists }
    }

    /// The figures; `recorded` are the groups that were recorded.
    fn figures(mut self, recorded: Vec<&'static str>, names: &mut Names) -> Figures {
        let first = self.cpus.values().map(|cpu| cpu.from_ns).min().unwrap_or(self.end);
        let groups = GROUPS.iter().map(|group| Group {
            group: group.name,
            is_recorded: recorded.contains(&group.name),
            events: self.groups.get(group.name).copied().unwrap_or(0),
        });
        let groups = groups.collect();
        self.requests.finish(self.end, &self.tasks);
        self.tasks.finish(self.end);
        let completeness = Completeness {
            from_ns: first,
            until_ns: self.end,
            groups,
            cpus: self.cpus.into_values().collect(),
            lost: self.lost,
        };
        let mut figures = Figures { completeness, ..Figures::default() };
        self.tasks.put(&mut figures, names, self.end);
        self.requests.put(&mut figures, names, self.end);
        self.lists.put(&mut figures, names, self.end);
        figures
    }
}

impl Sink for Report {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        let cpu = self.cpus.entry(event.cpu).or_insert(Cpu {
            cpu: event.cpu,
            from_ns: event.ns,
            until_ns: event.ns,
            events: 0,
        });
        (cpu.from_ns, cpu.until_ns) = (cpu.from_ns.min(event.ns), cpu.until_ns.max(event.ns));
        cpu.events += 1;
        *self.groups.entry(event.what.group()).or_default() += 1;
        if event.what == What::Resume {
            self.tasks.forget();
            GROUPS.iter().for_each(|group| self.requests.forget(group.name));
        }
        self.tasks.see(event);
        self.requests.see(event, &self.tasks, names);
        self.lists.see(event, names);
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<()> {
        if gap.group == "sched" {
            self.tasks.forget();
        }
        self.requests.forget(gap.group);
        let is_same = |lost: &&mut Lost| lost.group == gap.group && lost.cause == gap.cause;
        match self.lost.iter_mut().find(is_same) {
            Some(lost) => lost.count = lost.count.saturating_add(gap.count),
            None => self.lost.push(Lost { group: gap.group, cause: gap.cause.clone(), count: gap.count }),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The largest first, and not too many of them.
fn sorted<T>(all: impl Iterator<Item = (u64, T)>) -> Vec<T> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
    all.into_iter().take(SHOWN).map(|(_, it)| it).collect()
}
