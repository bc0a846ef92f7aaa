//! Writes what was recorded to a file, or follows it. Reading disturbs neither the recording nor other readers.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use mapring::time::Clock;

use super::event::{Event, Gap};
use super::names::Names;
use super::pins;
use super::rings::{self, GroupRings};
use super::trace::{self, Format, Sink};
use crate::outfile::OutFile;
use crate::output;
use crate::table::{Format as Tables, Out, format_of};

/// Options of `mapring flight dump`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the latest events, of this time: 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", value_parser = output::span)]
    last: Option<Duration>,
    /// The file to write, `-` for stdout. Without it, a trace gets a new file in this directory, and texts go to stdout
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The format [default: by the extension of --out: .pftrace, .ndjson, .csv, .parquet]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Replace an existing file
    #[arg(long, requires = "out")]
    force: bool,
    /// Follow new events until Ctrl-C, as NDJSON or CSV. With --last, begin with older ones
    #[arg(long, short)]
    follow: bool,
}

/// Writes the events.
///
/// # Errors
/// If nothing is recorded, or this user may not read it; if the file can't be written.
pub(crate) fn run(pins: &Path, args: &Args) -> Result<()> {
    let format = args.format().unwrap_or_else(|wrong| crate::wrong_usage(wrong));
    format.table().map_or(Ok(()), Tables::check)?;
    let mut rings = rings::open(pins)?;
    if rings.is_empty() {
        bail!("{}: nothing is recorded: `mapring flight start` starts a recording", pins.display());
    }
    let now = Clock::Monotonic.now();
    let ago = args.last.map(|last| now.saturating_sub(u64::try_from(last.as_nanos()).unwrap_or(u64::MAX)));
    if args.follow {
        let (file, out) = args.open(format)?;
        let at = file.as_ref().map_or(Path::new("stdout"), OutFile::path);
        follow(pins, &mut rings, ago.unwrap_or(now), at, |names| trace::sink(format, out, names, &[]))?;
        return file.map_or(Ok(()), OutFile::finish);
    }
    let Recording { events, gaps } = Recording::read(&mut rings, ago.unwrap_or(0));
    drop(rings);
    let (file, out) = args.open(format)?;
    let mut names = Names::new();
    let older = names.learn(&events);
    if !names.has_proc() {
        output::note("mapring: /proc belongs to a container: names come only from the events");
    }
    let from = ago.unwrap_or(0);
    let written = trace::sink(format, out, &mut names, &older)
        .and_then(|mut sink| write(sink.as_mut(), &mut names, &events, &gaps, from));
    let count = written
        .with_context(|| file.as_ref().map_or(Path::new("stdout"), OutFile::path).display().to_string())?;
    let path = file.as_ref().map(|file| file.path().to_owned());
    file.map_or(Ok(()), OutFile::finish)?;
    let mut losses = Losses::default();
    losses.add(&gaps);
    losses.report();
    if let Some(path) = path.filter(|_| args.out.is_none()) {
        writeln!(io::stdout(), "{}", path.display()).context("stdout")?;
    }
    let spans =
        events.first().zip(events.last()).map(|(first, last)| last.ns.saturating_sub(first.ns.max(from)));
    let seconds = Duration::from_nanos(spans.unwrap_or(0)).as_secs_f64();
    output::note(format_args!("{count} events of {seconds:.3} s"));
    if format == Format::Perfetto {
        output::note("open the trace at https://ui.perfetto.dev (it stays in the browser)");
    }
    Ok(())
}

impl Args {
    /// The format that is asked for, or what is wrong with the options.
    fn format(&self) -> Result<Format, &'static str> {
        let file = self.out.as_deref().filter(|file| *file != Path::new("-"));
        let format = match (self.format, file) {
            (Some(format), _) => format,
            (None, Some(file)) => format_of(file)?,
            (None, None) if self.follow => Format::Ndjson,
            (None, None) => Format::Perfetto,
        };
        if self.follow && !format.is_stream() {
            return Err("--follow writes --format ndjson or csv only");
        }
        Ok(format)
    }

    /// Opens the output, and returns its file unless it is stdout.
    fn open(&self, format: Format) -> Result<(Option<OutFile>, Out)> {
        let end = match format {
            Format::Perfetto => "pftrace",
            Format::Parquet => "parquet",
            Format::Ndjson | Format::Csv => "",
        };
        let path = match &self.out {
            Some(path) if path == Path::new("-") => return Ok((None, Box::new(io::stdout()))),
            None if end.is_empty() => return Ok((None, Box::new(io::stdout()))),
            Some(path) => path.clone(),
            None => {
                let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string().replace(':', "");
                format!("flight-{now}.{end}").into()
            }
        };
        let create = if self.follow { OutFile::growing } else { OutFile::create };
        let file = create(&path, self.force)?;
        let out = Box::new(file.writer()?);
        Ok((Some(file), out))
    }
}

/// A copy of what the rings held.
struct Recording {
    /// In order of their stamps; equal stamps in order of their rings.
    events: Vec<Event>,
    gaps: Vec<Gap>,
}

impl Recording {
    /// Reads all events: also those before `from` show names. Gaps before it are left out.
    fn read(rings: &mut [GroupRings], from: u64) -> Self {
        let mut events = Vec::new();
        let mut gaps = Vec::new();
        for ring in rings {
            ring.read(&mut |event| events.push(event));
            gaps.extend(ring.gaps());
        }
        gaps.retain(|gap| gap.until >= from);
        sort(&mut events, &mut gaps);
        Self { events, gaps }
    }
}

fn sort(events: &mut [Event], gaps: &mut [Gap]) {
    events.sort_by_key(|event| event.ns);
    gaps.sort_by_key(|gap| gap.until);
}

/// Writes the events since `from`, and returns how many. Earlier ones show names only.
fn write(sink: &mut dyn Sink, names: &mut Names, events: &[Event], gaps: &[Gap], from: u64) -> Result<usize> {
    let mut progress = output::Progress::new();
    let mut gaps = gaps.iter().peekable();
    let mut count = 0;
    for (at, event) in events.iter().enumerate() {
        while let Some(gap) = gaps.next_if(|gap| gap.until <= event.ns) {
            sink.gap(gap)?;
        }
        if event.ns >= from {
            sink.event(event, names)?;
            count += 1;
        }
        names.update(event);
        if at % 0x10000 == 0 {
            progress.show(|| format!("{} % written", at * 100 / events.len()));
        }
    }
    gaps.try_for_each(|gap| sink.gap(gap))?;
    sink.finish(names)?;
    Ok(count)
}

/// The number of lost records, by group and cause.
#[derive(Default)]
struct Losses(BTreeMap<(&'static str, String), u64>);

impl Losses {
    fn add(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            let total = self.0.entry((gap.group, gap.cause.clone())).or_default();
            *total = total.saturating_add(gap.count);
        }
    }

    fn report(&self) {
        for ((group, cause), count) in &self.0 {
            eprintln!("mapring: {count} records of {group} are lost: {}", cause.escape_debug());
        }
    }
}

/// What tells a recording from another one at the same place.
fn identity(pins: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(pins::recording(pins)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The time between two rounds of reading.
const ROUND: Duration = Duration::from_millis(50);

/// How long a record may take to be written until it comes too late for its place in the order.
const DELAY: u64 = 10_000_000;

/// Writes events as they happen, in order, until Ctrl-C.
fn follow(
    pins: &Path,
    rings: &mut [GroupRings],
    from: u64,
    at: &Path,
    sink: impl FnOnce(&mut Names) -> Result<Box<dyn Sink>>,
) -> Result<()> {
    let file = || at.display().to_string();
    let over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, over.clone())?;
    }
    let mut names = Names::new();
    let mut sink = sink(&mut names).with_context(file)?;
    let (mut held, mut losses) = (Vec::new(), Losses::default());
    let recording = identity(pins);
    loop {
        let last = over.load(Ordering::Relaxed) || recording != identity(pins);
        // The rings then hold all records that were reserved before this, also those of idle CPUs.
        let now = Clock::Monotonic.now();
        let mut gaps = Vec::new();
        for ring in rings.iter_mut() {
            ring.read(&mut |event| held.extend((event.ns >= from).then_some(event)));
            gaps.extend(ring.gaps().into_iter().filter(|gap| gap.until >= from));
        }
        sort(&mut held, &mut gaps);
        let until = if last { u64::MAX } else { now.saturating_sub(DELAY) };
        for gap in &gaps {
            sink.gap(gap).with_context(file)?;
        }
        losses.add(&gaps);
        let ready = held.partition_point(|event| event.ns < until);
        for event in held.drain(..ready) {
            sink.event(&event, &mut names).with_context(file)?;
            names.update(&event);
        }
        if last {
            sink.finish(&mut names).with_context(file)?;
            losses.report();
            if recording != identity(pins) {
                output::note("mapring: the recording has ended");
            }
            return Ok(());
        }
        sink.flush().with_context(file)?;
        std::thread::sleep(ROUND);
    }
}
