//! Writes all that a command needs later, also on another machine: the rings, and what only this machine knows of them.

mod file;
#[cfg(test)]
mod seeds;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, BufWriter, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub(super) use self::file::{input, read};

use mapring_kit::outfile::OutFile;
use mapring_kit::output;
use mapring_kit::text::printable;

use super::machine::Machine;
use super::made_by;
use super::names::Names;
use super::present;
use super::procfs::{self, Present, Process};
use super::recording::Recording;
use super::rings::{self, GroupRings};
use super::stopped;
use super::symbols::{Saved, Symbols};
use super::text::escape;

/// Options of `mapring flight save`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// What the file says of the recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) machine: Machine,
    /// Events up to here are complete, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) until: u64,
    /// Nanoseconds since 1970.
    pub(crate) since: u64,
    /// What [`Recording`] keeps.
    pub(crate) clocks: Option<String>,
    pub(crate) triggers: Option<String>,
    pub(crate) hz: Option<u32>,
    pub(crate) cost: Option<f64>,
    /// The words of what stops the recording.
    pub(crate) stop: Option<Vec<u64>>,
    /// As [`made_by::layouts`] has them: other ones are not read.
    pub(crate) layouts: BTreeMap<String, String>,
}

/// What the machine still knows of those that the records name.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    processes: Vec<(u32, Process)>,
    /// Those of the start that are not present any more.
    ended: Vec<(u32, Process)>,
    /// The interfaces in this network namespace: their numbers and names.
    net_ns: u64,
    interfaces: Vec<(u32, String)>,
    /// Who handles interrupts.
    irqs: Vec<(u32, String)>,
}

impl About {
    /// When the recording was started.
    pub(crate) fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.since)
    }

    fn of(recording: &Recording, until: u64) -> Result<Self> {
        let since = recording.since()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            machine: Machine::here(),
            until,
            since: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            clocks: recording.clocks(),
            triggers: recording.triggers(),
            hz: recording.hz(),
            cost: recording.cost(),
            stop: stopped::read(recording)?.map(|stop| stop.words()),
            layouts: made_by::layouts(),
        })
    }
}

impl Known {
    /// Also whether something is left out.
    fn now(recording: &Recording) -> (Self, bool) {
        let interface = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.ok()?;
            let number = std::fs::read_to_string(entry.path().join("ifindex")).ok()?.trim().parse().ok()?;
            Some((number, escape(entry.file_name().as_encoded_bytes())))
        };
        let interfaces = std::fs::read_dir("/sys/class/net").into_iter().flatten().filter_map(interface);
        let Present { all, is_cut } = procfs::all(file::TEXT - (24 << 20)); // also those of the start, and interfaces, which are few
        let net_ns = procfs::namespace("self", "net").unwrap_or(0);
        let starts: HashMap<u32, u64> = all.iter().map(|(tid, process)| (*tid, process.start)).collect();
        let mut ended = present::read(recording);
        ended.retain(|(tid, process)| starts.get(tid) != Some(&process.start));
        (
            Self { processes: all, ended, net_ns, interfaces: interfaces.collect(), irqs: procfs::irqs() },
            is_cut,
        )
    }

    /// Texts of a file can be anything.
    fn escape(&mut self) {
        let texts = self
            .processes
            .iter_mut()
            .chain(&mut self.ended)
            .flat_map(|(_, it)| it.cmdline.iter_mut().chain([&mut it.cgroup]));
        let names = self.interfaces.iter_mut().chain(&mut self.irqs).map(|(_, name)| name);
        texts.chain(names).for_each(|text| *text = printable(text).into_owned());
    }
}

/// Writes the file. Copies each ring while programs go on, and stops nothing.
///
/// # Errors
/// If nothing is recorded, or this user may not read it; if the file can't be written.
pub(crate) fn run(dir: &Path, args: &Args) -> Result<()> {
    let recording = Recording::open(dir)?;
    let rings = rings::open_all(&recording)?;
    let out = OutFile::create(&args.file, args.force)?;
    let order = rings::shortest_first(&rings);
    let until = rings::present();
    let about = About::of(&recording, until)?;
    let shown = || out.shown();
    let mut to = file::Writer::new(BufWriter::new(out.writer()?)).with_context(shown)?;
    to.json(file::ABOUT, about, |_| false).with_context(shown)?;
    for at in order {
        let ring = &rings[at];
        let copy = ring.region().copy_ring();
        let copy =
            copy.with_context(|| format!("group {}: this kernel does not map its ring", ring.name()))?;
        to.part(ring.name(), bytemuck::cast_slice(&copy)).with_context(shown)?;
    }
    if let Some(symbols) = symbols(&rings, until)
        && to.json(file::SYMBOLS, symbols, Saved::shorten).with_context(shown)?
    {
        eprintln!(
            "mapring: names of frames are left out: all of them take more than {}",
            output::bytes(file::TEXT as u64)
        );
    }
    let (known, is_cut) = Known::now(&recording);
    to.json(file::NAMES, known, |_| false).with_context(shown)?;
    if is_cut {
        eprintln!(
            "mapring: command lines are left out: all names of processes take more than {}",
            output::bytes(file::TEXT as u64)
        );
    }
    let bytes = to.finish().with_context(shown)?;
    if out.is_regular() {
        let mut written = out.writer()?;
        written.rewind().with_context(shown)?;
        input(BufReader::new(written)).context("what was written can't be read").with_context(shown)?;
    }
    out.finish()?;
    output::note(format_args!(
        "{} saved: `mapring flight report --from FILE` reads them anywhere",
        output::bytes(bytes)
    ));
    Ok(())
}

/// The names of the frames in the rings' stacks, if they have any.
fn symbols(rings: &[GroupRings], until: u64) -> Option<Saved> {
    let (mut symbols, mut names) = (Symbols::new(&[]), Names::new());
    let stacks: Vec<_> = rings.iter().filter(|ring| ring.group().has_stacks).collect();
    for ring in rings.iter().filter(|ring| ring.shows_names()) {
        ring.scan(0..until, &mut |event| symbols.learn(event));
    }
    for ring in &stacks {
        ring.scan(0..until, &mut |event| {
            if let Some(stack) = event.what.stack() {
                names.process(event.pid, event.ns).into_iter().for_each(|process| symbols.see(process));
                symbols.note(stack);
            }
        });
    }
    symbols.name_noted();
    for ring in &stacks {
        ring.scan(0..until, &mut |event| {
            if let Some(stack) = event.what.stack() {
                symbols.frames(stack, names.process(event.pid, event.ns));
            }
        });
    }
    (!stacks.is_empty()).then(|| symbols.to_save())
}
