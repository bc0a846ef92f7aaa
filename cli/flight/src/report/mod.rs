//! What happened, in figures: who used the CPUs, who waited for what and how long, and what failed.

mod diff;
mod disks;
mod figures;
mod html;
mod largest;
mod lists;
mod longest;
mod quotas;
mod requests;
mod sections;
mod sums;
mod tasks;
mod text;
mod waits;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mapring_kit::exit::WrongUsage;
use mapring_kit::outfile::OutFile;
use mapring_kit::output;
use rustix::termios::tcgetwinsize;

use self::disks::Disks;
use self::figures::{Completeness, Cpu, Figures, Group, Lost, Stopped};
use self::html::{Extra, Lanes};
use self::lists::Lists;
use self::requests::Requests;
use self::sums::Sums;
use self::tasks::Tasks;
use super::event::{Event, Gap, What};
use super::input::{From, Input};
use super::names::Names;
use super::replay::Period;
use super::rings::{self, GROUPS};
use super::symbols::Symbols;
use super::trace::stacks::Flames;
use super::trace::{Abi, Sink};
use super::{replay, stopped};

/// Options of `mapring flight report`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the latest events, of this time: 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", value_parser = output::span)]
    last: Option<Duration>,
    /// Print a JSON object
    #[arg(long, conflicts_with = "out")]
    json: bool,
    /// Write a file: a page for browsers (.html), which needs no network, or what --json prints (.json)
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "out")]
    force: bool,
    /// Compare with another recording, in a file of `flight save`: the largest changes first
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    #[command(flatten)]
    from: From,
}

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables for people.
    Text,
    /// A JSON object.
    Json,
    /// A page for browsers, which needs no network.
    Html,
}

impl Args {
    fn format(&self) -> Result<Format, WrongUsage> {
        let extension = self.out.as_ref().map(|file| file.extension().and_then(OsStr::to_str));
        Ok(match extension {
            None if self.json => Format::Json,
            None => Format::Text,
            Some(Some("json")) => Format::Json,
            Some(Some("html" | "htm")) => Format::Html,
            Some(_) => return Err(WrongUsage("--out names a file that ends with .html or .json".into())),
        })
    }
}

/// Prints the report.
///
/// # Errors
/// If nothing is recorded, or this user may not read it; if the file can't be written.
pub(crate) fn run(pins: &Path, args: &Args) -> Result<()> {
    let format = args.format()?;
    if args.diff.is_some() && format == Format::Html {
        let why = "--diff prints text, or with --json or --out FILE.json an object";
        bail!(WrongUsage(why.into()));
    }
    let input = Input::open(pins, args.from.from.as_deref())?;
    input.report_clocks();
    // Before the work: the file may exist already.
    let file = args.out.as_deref().map(|path| OutFile::create(path, args.force)).transpose()?;
    let text = match &args.diff {
        Some(before) => {
            let (figures, _) = figures(input, args.last, format)?;
            let (before, _) = self::figures(Input::open(pins, Some(before))?, args.last, format)?;
            let diff = diff::Diff::of(&figures, &before);
            if format == Format::Json { serde_json::to_string(&diff)? } else { diff.text() }
        }
        None => of(input, args.last, format)?,
    };
    let Some(file) = file else { return writeln!(io::stdout(), "{}", text.trim_end()).context("stdout") };
    writeln!(file.writer()?, "{}", text.trim_end()).with_context(|| file.shown())?;
    file.finish()
}

/// The report of a recording, or of its latest events.
///
/// # Errors
/// If its names can't be written as JSON.
pub(crate) fn of(input: Input, last: Option<Duration>, format: Format) -> Result<String> {
    Ok(match figures(input, last, format)? {
        (figures, Some((lanes, flames))) => html::of(&figures, &lanes, &flames)?,
        (figures, None) if format == Format::Json => serde_json::to_string(&figures)?,
        (figures, None) => {
            let terminal = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col >= 40);
            let width = terminal.map_or(usize::MAX, |size| size.ws_col.into());
            text::Wide(&sections::of(&figures), width).to_string()
        }
    })
}

/// The lanes and flame graphs of a page.
type Drawings = (Lanes, Flames);

/// The figures of a recording, and what a page has besides.
fn figures(input: Input, last: Option<Duration>, format: Format) -> Result<(Figures, Option<Drawings>)> {
    let input = input.copied();
    let Period { times, zero, cause } = Period::of(&input, last);
    let Input { rings, mut names, symbols, .. } = input;
    replay::learn(&mut names, &rings, times.clone());
    let complete = rings.iter().filter_map(|ring| Some((ring.name(), ring.held().complete?)));
    let mut report = Report::new(times.end, complete.collect());
    report.requests.abi = Abi::of(names.machine());
    report.symbols = report.symbols.with_saved(symbols.as_ref());
    report.extra = (format == Format::Html).then(|| Extra::new(zero));
    let written = replay::write(&mut report, &mut names, &rings, times)?;
    written.losses.report();
    let recorded = rings.iter().map(rings::GroupRings::name);
    let (mut figures, extra) = report.figures(recorded.collect(), &mut names);
    figures.stopped = zero.zip(cause).map(|(at_ns, cause)| Stopped { cause, at_ns });
    let until = names.machine().wall().at(figures.completeness.until_ns);
    figures.until = until.map(stopped::date).unwrap_or_default();
    Ok((figures, extra))
}

/// What is known so far.
struct Report {
    /// The end of the time of the report.
    end: u64,
    groups: BTreeMap<&'static str, u64>,
    /// From when on no event of a group is overwritten, if some are.
    complete: BTreeMap<&'static str, u64>,
    cpus: BTreeMap<u16, Cpu>,
    lost: Vec<Lost>,
    tasks: Tasks,
    requests: Requests,
    disks: Disks,
    lists: Lists,
    sums: Sums,
    symbols: Symbols,
    /// For a page.
    extra: Option<Extra>,
}

impl Report {
    fn new(end: u64, complete: BTreeMap<&'static str, u64>) -> Self {
        let (groups, cpus, lost) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let tasks = Tasks::new(complete.get("sched").copied().unwrap_or(0));
        let requests = Requests::new(complete.get("irq").copied().unwrap_or(0));
        let disks = Disks::default();
        let (lists, sums) = (Lists::default(), Sums::default());
        let symbols = Symbols::new(&[]);
        Self { end, groups, complete, cpus, lost, tasks, requests, disks, lists, sums, symbols, extra: None }
    }

    /// The figures, and the lanes and flame graphs of a page; `recorded` are the groups that were recorded.
    fn figures(mut self, recorded: Vec<&'static str>, names: &mut Names) -> (Figures, Option<Drawings>) {
        let first = self.cpus.values().map(|cpu| cpu.from_ns).min().unwrap_or(self.end);
        let groups = GROUPS.iter().map(|group| Group {
            group: group.name,
            is_recorded: recorded.contains(&group.name),
            events: self.groups.get(group.name).copied().unwrap_or(0),
            complete_from_ns: self.complete.get(group.name).copied(),
        });
        let groups = groups.collect();
        self.requests.finish(self.end, &self.tasks, names);
        self.tasks.finish(self.end);
        let symbols = &mut self.symbols;
        let extra = self.extra.map(|extra| extra.finish(first..self.end, &self.tasks, names, symbols));
        let completeness = Completeness {
            from_ns: first,
            until_ns: self.end,
            groups,
            cpus: self.cpus.into_values().collect(),
            lost: self.lost,
        };
        let mut figures = Figures { completeness, ..Figures::default() };
        self.sums.put(&mut figures, &self.tasks, names, symbols, self.end);
        self.tasks.put(&mut figures, names, symbols, self.end);
        self.requests.put(&mut figures, names);
        self.disks.put(&mut figures, names, self.end);
        self.lists.put(&mut figures, names, self.end);
        (figures, extra)
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
            self.disks.forget();
        }
        self.symbols.learn(event);
        if let Some(extra) = &mut self.extra {
            extra.see(event, &self.tasks, names);
        }
        self.tasks.see(event, names);
        self.requests.see(event, &self.tasks, names);
        self.disks.see(event, names);
        self.lists.see(event, names);
        self.sums.see(event, names);
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<()> {
        if gap.group == "sched" {
            self.tasks.forget();
        }
        self.requests.forget(gap.group);
        if gap.group == "block" {
            self.disks.forget();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_has_a_schema() {
        crate::schema::check::<Figures>("mapring flight report --json", "flight-report.schema.json");
        crate::schema::check::<diff::Diff>("mapring flight report --diff --json", "flight-diff.schema.json");
    }
}
