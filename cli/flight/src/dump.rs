//! Writes what was recorded to a file, or follows it. Reading disturbs neither the recording nor other readers.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use mapring::time::Clock;
use mapring_kit::exit::WrongUsage;
use mapring_kit::outfile::{Destination, OutFile};
use mapring_kit::output;
use mapring_kit::table::{Format as Tables, Out, format_of};

use crate::input::{From, Input};
use crate::names::Names;
use crate::pins;
use crate::replay::{Losses, Period, Written, before, learn, write};
use crate::rings::{self, GroupRings, InOrder};
use crate::trace::{self, Format, Sink};

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
    let format = args.format()?;
    format.table().map_or(Ok(()), Tables::check)?;
    let input = Input::open(pins, args.from.from.as_deref())?;
    input.report_clocks();
    if args.follow {
        let (file, out) = args.open(format)?;
        let (at, now) = (shown(file.as_ref()), Clock::Monotonic.now());
        follow(pins, &input.rings, before(now, args.last.unwrap_or_default()), &at, |names| {
            trace::sink(format, out, names, &[], None, &args.stacks)
        })?;
        return file.map_or(Ok(()), OutFile::finish);
    }
    let (file, out) = args.open(format)?;
    let written = write_all(input, args.last, format, &args.stacks, out);
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

/// Writes the events of a recording, or the latest of them.
///
/// # Errors
/// If the output can't be written.
pub(crate) fn write_all(
    input: Input,
    last: Option<Duration>,
    format: Format,
    stacks: &trace::stacks::Options,
    out: Out,
) -> Result<Written> {
    let mut input = input.copied();
    let Period { times, zero, cause } = Period::of(&input, last);
    if let Some(cause) = cause {
        output::note(format_args!("mapring: stopped by {cause}"));
    }
    let stacks = trace::stacks::Options { hz: input.hz(), saved: input.symbols.take(), ..stacks.clone() };
    let Input { rings, mut names, .. } = input;
    let older = learn(&mut names, &rings, times.clone());
    let mut sink = trace::sink(format, out, &mut names, &older, zero, &stacks)?;
    write(sink.as_mut(), &mut names, &rings, times)
}

fn shown(file: Option<&OutFile>) -> String {
    file.map_or_else(|| "stdout".to_owned(), OutFile::shown)
}

impl Args {
    /// The format that is asked for, or what is wrong with the options.
    fn format(&self) -> Result<Format, WrongUsage> {
        let file = self.out.as_deref().filter(|file| *file != Path::new("-"));
        let format = match (self.format, file) {
            (Some(format), _) => format,
            (None, Some(file)) => format_of(file)?,
            (None, None) if self.follow => Format::Ndjson,
            (None, None) => Format::Perfetto,
        };
        if self.follow && !format.is_stream() {
            return Err(WrongUsage("--follow writes --format ndjson or csv only".into()));
        }
        if self.stacks.stacks.is_some() && format.stacks().is_none() {
            return Err(WrongUsage("--stacks is for --format folded, pprof and svg".into()));
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
            Format::Ndjson | Format::Csv | Format::Spreadsheet | Format::Folded => "",
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
            true => OutFile::growing(Destination::of(&path)?, self.force)?,
            false => OutFile::create(&path, self.force)?,
        };
        let out = Box::new(file.writer()?);
        Ok((Some(file), out))
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
    mapring_kit::signals::set_at_end(&over)?;
    let mut names = Names::new();
    let mut sink = sink(&mut names).with_context(file)?;
    let mut losses = Losses::default();
    let recording = identity(pins);
    let mut events = InOrder::since(rings, from);
    loop {
        let last = over.load(Ordering::Relaxed) || recording != identity(pins);
        // Later events are for the next round: what this one writes makes events, too. At the end, the rings hold all records
        // that were reserved before, also those of idle CPUs.
        let until = if last { rings::present() } else { Clock::Monotonic.now() };
        events.retry();
        while let Some(event) = events.next(until) {
            names.at(&event);
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
