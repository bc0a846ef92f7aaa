//! Stacks, added up, and the formats that are made of them.

mod folded;
mod pprof;
mod svg;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use mapring_kit::output;
use mapring_kit::table::Out;
use prost::bytes::Bytes;

use super::super::event::{Event, Gap, What};
use super::super::names::Names;
use super::super::stack::Stack;
use super::super::symbols::{Frame, Saved, Symbols};
use super::Sink;

pub(crate) use self::svg::svg;

/// Which stacks are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Kind {
    /// Samples of what ran: the group `profile`
    #[default]
    Running,
    /// Where threads waited, by the time: the group `waits`
    Waiting,
    /// Where they waited for locks of the kernel: the group `locks`
    Locks,
}

impl Kind {
    fn group(self) -> &'static str {
        match self {
            Self::Running => "profile",
            Self::Waiting => "waits",
            Self::Locks => "locks",
        }
    }

    /// What a line of folded stacks counts.
    fn unit(self) -> &'static str {
        if self == Self::Running { "samples" } else { "µs" }
    }
}

/// Options of the formats that are made of stacks.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// The stacks in folded, pprof and svg [default: running]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) stacks: Option<Kind>,
    /// Also look here for debug files and programs, by their build ids. Can be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) debug_dir: Vec<PathBuf>,
    /// Samples of a CPU in a second.
    #[arg(skip)]
    pub(crate) hz: Option<u32>,
    /// The names in a file of `save`.
    #[arg(skip)]
    pub(crate) saved: Option<Saved>,
}

impl Options {
    /// What finds the names.
    ///
    /// # Errors
    /// If a directory can't be read.
    pub(crate) fn symbols(&self) -> Result<Symbols> {
        for dir in &self.debug_dir {
            std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        }
        Ok(Symbols::new(&self.debug_dir).with_saved(self.saved.as_ref()))
    }
}

/// A format that is made of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Folded,
    Pprof,
    Svg,
}

/// Which thread, and where it was.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    pid: u32,
    tid: u32,
    comm: Bytes,
    stack: Stack,
}

#[derive(Clone, Copy, Default)]
struct Weight {
    count: u64,
    /// Of the waits.
    ns: u64,
    /// When it was last seen.
    last: u64,
}

/// Stacks that are equal, with the names of their frames.
struct Summed {
    pid: u32,
    tid: u32,
    comm: Bytes,
    /// The innermost one first.
    frames: Vec<Rc<Frame>>,
    is_cut: bool,
    weight: Weight,
}

/// Folded stacks, as flame graphs are made of them: each line is `comm;outer;…;inner count`.
#[derive(Debug, Default)]
pub(crate) struct Flames {
    /// A line counts samples.
    pub(crate) running: Vec<String>,
    /// A line counts microseconds.
    pub(crate) waiting: Vec<String>,
}

/// Adds up stacks. Their frames are numbers until the end.
pub(crate) struct Stacks {
    seen: HashMap<Key, Weight, foldhash::fast::RandomState>,
    first: u64,
    last: u64,
}

impl Stacks {
    pub(crate) fn new() -> Self {
        Self { seen: HashMap::default(), first: u64::MAX, last: 0 }
    }

    /// Adds the stack of an event, if it has one.
    pub(crate) fn event(&mut self, event: &Event, names: &mut Names) {
        if let Some((kind, ns, stack)) = of(&event.what) {
            self.add(event, kind, ns, stack, names);
        }
    }

    fn add(&mut self, event: &Event, kind: Kind, ns: u64, stack: &Stack, names: &mut Names) {
        let comm = names.comm(event.tid, event.cpu, event.ns);
        let key = Key { kind, pid: event.pid, tid: event.tid, comm, stack: stack.clone() };
        let weight = self.seen.entry(key).or_default();
        weight.count = weight.count.saturating_add(1);
        weight.ns = weight.ns.saturating_add(ns);
        weight.last = weight.last.max(event.ns);
        (self.first, self.last) = (self.first.min(event.ns), self.last.max(event.ns));
    }

    /// The folded stacks of the report, with names.
    pub(crate) fn flames(&self, symbols: &mut Symbols, names: &mut Names) -> Flames {
        let mut lines = |kind| folded::lines(kind, &self.summed(kind, symbols, names));
        Flames { running: lines(Kind::Running), waiting: lines(Kind::Waiting) }
    }

    /// The stacks of a kind with names, the most frequent ones first.
    fn summed(&self, kind: Kind, symbols: &mut Symbols, names: &mut Names) -> Vec<Summed> {
        let of_kind = || self.seen.iter().filter(|(key, _)| key.kind == kind);
        // Processes share files: those of one that is present can name the frames of one that has ended.
        for (key, weight) in of_kind() {
            names.process(key.pid, weight.last).into_iter().for_each(|process| symbols.see(process));
            symbols.note(&key.stack);
        }
        symbols.name_noted();
        let summed = |(key, &weight): (&Key, _)| {
            let Weight { last, .. } = weight;
            let process = names.process(key.pid, last);
            let named = match kind {
                Kind::Running => symbols.frames(&key.stack, process),
                Kind::Waiting | Kind::Locks => symbols.frames_of_wait(&key.stack, process),
            };
            let (is_cut, frames) = (named.is_cut, named.frames());
            Summed { pid: key.pid, tid: key.tid, comm: key.comm.clone(), frames, is_cut, weight }
        };
        let mut summed: Vec<_> = of_kind().map(summed).collect();
        summed.sort_by_key(|one| (Reverse((one.weight.count, one.weight.ns)), one.tid, one.weight.last));
        summed
    }
}

/// The stack of an event, and for how long the thread waited there.
fn of(what: &What) -> Option<(Kind, u64, &Stack)> {
    match what {
        What::Sample { stack } => Some((Kind::Running, 0, stack)),
        What::Wait { ns, stack, .. } => Some((Kind::Waiting, *ns, stack)),
        What::Contention { ns, stack, .. } => Some((Kind::Locks, *ns, stack)),
        _ => None,
    }
}

/// A file that is made of the stacks when all are known.
pub(super) struct Writer {
    format: Format,
    kind: Kind,
    hz: Option<u32>,
    stacks: Stacks,
    symbols: Symbols,
    out: Out,
}

impl Writer {
    pub(super) fn new(format: Format, options: &Options, out: Out) -> Result<Self> {
        let (kind, symbols) = (options.stacks.unwrap_or_default(), options.symbols()?);
        Ok(Self { format, kind, hz: options.hz, stacks: Stacks::new(), symbols, out })
    }
}

impl Sink for Writer {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        self.symbols.learn(event);
        self.stacks.event(event, names);
        Ok(())
    }

    fn gap(&mut self, _: &Gap) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    fn finish(&mut self, names: &mut Names) -> Result<()> {
        let kind = self.kind;
        let summed = self.stacks.summed(kind, &mut self.symbols, names);
        if summed.is_empty() {
            let group = kind.group();
            bail!(
                "no stacks of the group {group} are recorded at this time: `mapring flight start --events {group},…` records them"
            );
        }
        let cut: u64 = summed.iter().filter(|one| one.is_cut).map(|one| one.weight.count).sum();
        if cut > 0 {
            let all: u64 = summed.iter().map(|one| one.weight.count).sum();
            output::note(format_args!(
                "mapring: {cut} of {all} stacks are cut: their outer frames are missing ([cut])"
            ));
        }
        match self.format {
            Format::Pprof => self.out.write_all(&pprof::profile(
                kind,
                self.hz,
                &summed,
                self.stacks.first..self.stacks.last,
            )?)?,
            Format::Folded => {
                folded::lines(kind, &summed).iter().try_for_each(|line| writeln!(self.out, "{line}"))?
            }
            Format::Svg => {
                let title = match kind {
                    Kind::Running => "Samples of what ran",
                    Kind::Waiting => "Time that threads waited",
                    Kind::Locks => "Time that threads waited for locks of the kernel",
                };
                self.out.write_all(svg(title, kind.unit(), &folded::lines(kind, &summed))?.as_bytes())?;
            }
        }
        self.flush()
    }
}
