//! Writes what was recorded to a file, or follows it. Reading disturbs neither the recording nor other readers.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use mapring::time::Clock;

use super::event::Gap;
use super::names::{Names, Older, Threads};
use super::pins;
use super::recorded::{From, Recorded};
use super::rings::{self, GroupRings, InOrder};
use super::trace::{self, Format, Sink};
use crate::outfile::{OutFile, Place};
use crate::output;
use crate::table::{Format as Tables, Out, format_of};

/// Options of `mapring flight dump`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the latest events, of this time: 500ms, 10s, 5m. Of a recording that a trigger stopped: those before the trigger, and
    /// all after it
    #[arg(long, value_name = "TIME", value_parser = output::span)]
    last: Option<Duration>,
    /// The file to write, `-` for stdout. Without it, a trace gets a new file in this directory, and texts go to stdout
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The format [default: by the extension of --out: .pftrace, .ndjson, .csv, .parquet, .folded, .pb.gz, .svg]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Replace an existing file
    #[arg(long, requires = "out")]
    force: bool,
    /// Follow new events until Ctrl-C, as NDJSON or CSV. With --last, begin with older ones
    #[arg(long, short, conflicts_with = "from")]
    follow: bool,
    #[command(flatten)]
    stacks: trace::stacks::Options,
    #[command(flatten)]
    from: From,
}

/// Writes the events.
///
/// # Errors
/// If nothing is recorded, or this user may not read it; if the file can't be written.
pub(crate) fn run(pins: &Path, args: &Args) -> Result<()> {
    let format = args.format().unwrap_or_else(|wrong| crate::wrong_usage(wrong));
    format.table().map_or(Ok(()), Tables::check)?;
    let mut recorded = Recorded::open(pins, args.from.from.as_deref())?;
    recorded.report_clocks();
    if args.follow {
        let (file, out) = args.open(format)?;
        let (at, now) = (shown(file.as_ref()), Clock::Monotonic.now());
        follow(pins, &recorded.rings, before(now, args.last.unwrap_or_default()), &at, |names| {
            trace::sink(format, out, names, &[], None, &args.stacks)
        })?;
        return file.map_or(Ok(()), OutFile::finish);
    }
    let Period { times, zero, cause } = Period::of(&recorded, args.last);
    if let Some(cause) = cause {
        output::note(format_args!("mapring: stopped by {cause}"));
    }
    let stacks =
        trace::stacks::Options { hz: recorded.hz(), saved: recorded.symbols.take(), ..args.stacks.clone() };
    let Recorded { rings, mut names, .. } = recorded;
    let older = learn(&mut names, &rings, times.clone());
    let (file, out) = args.open(format)?;
    let written = trace::sink(format, out, &mut names, &older, zero, &stacks)
        .and_then(|mut sink| write(sink.as_mut(), &mut names, &rings, times));
    let Written { count, span, losses } = written.with_context(|| shown(file.as_ref()))?;
    let path = file.as_ref().map(|file| file.path().to_owned());
    file.map_or(Ok(()), OutFile::finish)?;
    losses.report();
    if let Some(path) = path.filter(|_| args.out.is_none()) {
        writeln!(io::stdout(), "{}", path.display()).context("stdout")?;
    }
    let seconds = Duration::from_nanos(span).as_secs_f64();
    output::note(format_args!("{count} events of {seconds:.3} s"));
    if format == Format::Perfetto {
        output::note("open the trace at https://ui.perfetto.dev (it stays in the browser)");
    }
    Ok(())
}

fn shown(file: Option<&OutFile>) -> String {
    file.map_or_else(|| "stdout".to_owned(), OutFile::shown)
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
        if self.stacks.stacks.is_some() && format.stacks().is_none() {
            return Err("--stacks is for --format folded, pprof and svg");
        }
        Ok(format)
    }

    /// Opens the output, and returns its file unless it is stdout.
    fn open(&self, format: Format) -> Result<(Option<OutFile>, Out)> {
        let end = match format {
            Format::Perfetto => "pftrace",
            Format::Parquet => "parquet",
            Format::Pprof => "pb.gz",
            Format::Svg => "svg",
            Format::Ndjson | Format::Csv | Format::Folded => "",
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
        let file = match self.follow {
            true => OutFile::growing(Place::of(&path)?, self.force)?,
            false => OutFile::create(&path, self.force)?,
        };
        let out = Box::new(file.writer()?);
        Ok((Some(file), out))
    }
}

/// Up to when, and since when, events are of interest.
pub(super) struct Period {
    pub(super) times: Range<u64>,
    /// When something stopped the recording, and what, if it has.
    pub(super) zero: Option<u64>,
    pub(super) cause: Option<String>,
}

impl Period {
    /// The time up to now, or up to the end of the recording; `last` before now, or before what stopped it.
    pub(super) fn of(recorded: &Recorded, last: Option<Duration>) -> Self {
        let stop = recorded.stop.filter(|stop| stop.end().is_some());
        let (zero, end) = (stop.and_then(|stop| stop.zero()), stop.and_then(|stop| stop.end()));
        let now = recorded.present();
        let now = end.map_or(now, |end| now.min(end.saturating_add(1)));
        let since = last.map_or(0, |last| before(zero.unwrap_or(now), last));
        let cause = || stop?.cause(&recorded.names.machine().wall());
        Self { times: since..now, zero, cause: cause() }
    }
}

fn before(ns: u64, time: Duration) -> u64 {
    ns.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Events of this time before the first one still show names: of the threads that ran already, mostly. What runs for longer
/// without a switch, and has ended since, has no name.
const NAMES: Duration = Duration::from_secs(1);

/// Learns the names of the threads between these times, also from the events a little earlier.
pub(super) fn learn(names: &mut Names, rings: &[GroupRings], times: Range<u64>) -> Vec<Older> {
    if !names.has_proc() {
        output::note("mapring: /proc belongs to a container: names come only from the events");
    }
    let mut threads = Threads::since(times.start);
    for ring in rings {
        let earliest = before(times.start, if ring.shows_names() { NAMES } else { Duration::ZERO });
        ring.scan(earliest..times.end, &mut |event| threads.see(event));
    }
    names.learn(threads)
}

/// What was written.
#[derive(Default)]
pub(super) struct Written {
    count: usize,
    /// From the first event to the last, in nanoseconds.
    span: u64,
    pub(super) losses: Losses,
}

/// Writes the events between these times. Holds only a few of them.
pub(super) fn write(
    sink: &mut dyn Sink,
    names: &mut Names,
    rings: &[GroupRings],
    times: Range<u64>,
) -> Result<Written> {
    let mut progress = output::Progress::new();
    let mut written = Written::default();
    let mut events = InOrder::since(rings, times.start);
    let mut first = None;
    while let Some(event) = events.next(times.end) {
        written.losses.write(events.take_gaps(), times.start, sink)?;
        sink.event(&event, names)?;
        names.update(&event);
        let first = *first.get_or_insert(event.ns);
        written.span = written.span.max(event.ns.saturating_sub(first));
        if written.count % 0x10000 == 0 {
            let all = times.end.saturating_sub(first).max(1);
            progress.show(|| format!("{} % written", u128::from(written.span) * 100 / u128::from(all)));
        }
        written.count += 1;
    }
    written.losses.write(events.take_last_gaps(), times.start, sink)?;
    written.losses.not_ended = events.not_ended();
    sink.finish(names)?;
    Ok(written)
}

/// Records that are missing.
#[derive(Default)]
pub(super) struct Losses {
    /// How many are lost, by group and cause.
    lost: BTreeMap<(&'static str, String), u64>,
    /// Those that are not ended, in words.
    not_ended: Vec<String>,
}

impl Losses {
    /// Writes gaps that ended at this time or later, and counts them.
    fn write(&mut self, gaps: Vec<Gap>, since: u64, sink: &mut dyn Sink) -> Result<()> {
        for gap in gaps.into_iter().filter(|gap| gap.until >= since) {
            sink.gap(&gap)?;
            let total = self.lost.entry((gap.group, gap.cause)).or_default();
            *total = total.saturating_add(gap.count);
        }
        Ok(())
    }

    pub(super) fn report(&self) {
        for ((group, cause), count) in &self.lost {
            eprintln!("mapring: {count} records of {group} are lost: {}", cause.escape_debug());
        }
        self.not_ended.iter().for_each(|line| output::note(format_args!("mapring: {line}")));
    }
}

/// What tells a recording from another one at the same place.
fn identity(pins: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(pins::recording(pins)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The time between two rounds of reading.
const ROUND: Duration = Duration::from_millis(50);

/// Writes events as they happen, in order, until Ctrl-C.
fn follow(
    pins: &Path,
    rings: &[GroupRings],
    from: u64,
    at: &str,
    sink: impl FnOnce(&mut Names) -> Result<Box<dyn Sink>>,
) -> Result<()> {
    let file = || at.to_owned();
    let over = Arc::new(AtomicBool::new(false));
    crate::signals::set_at_end(&over)?;
    let mut names = Names::new();
    let mut sink = sink(&mut names).with_context(file)?;
    let mut losses = Losses::default();
    let recording = identity(pins);
    let mut events = InOrder::since(rings, from);
    loop {
        let last = over.load(Ordering::Relaxed) || recording != identity(pins);
        // The rings then hold all records that were reserved before, also those of idle CPUs.
        let until = if last { rings::present() } else { u64::MAX };
        events.look_again();
        while let Some(event) = events.next(until) {
            sink.event(&event, &mut names).with_context(file)?;
            names.update(&event);
        }
        let gaps = if last { events.take_last_gaps() } else { events.take_gaps() };
        losses.write(gaps, from, sink.as_mut()).with_context(file)?;
        if last {
            losses.not_ended = events.not_ended();
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
