//! `mapring replay`: writes the records of a recording into a ring in a memory file, at the recorded speed or another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mapring::Region;
use mapring_kit::output;
use mapring_kit::signals::Interrupted;
use mapring_kit::text::{one_line, printable_path};

use super::format::{Lost, Sample, Source, StoredSource};
use super::inspect::{check, open};
use super::reader::{Visit, read};
use super::source_kind::SourceKind;
use super::write_ring::{self, Push};
use crate::untyped::Item;

/// Write the records of a recording into a ring in a memory file, for tail, top and show
#[derive(clap::Args)]
pub struct Args {
    /// The recording, or - for stdin
    file: PathBuf,
    /// How fast: 1 as recorded, 10 ten times as fast, or max
    #[arg(long, value_name = "N|max", default_value = "1", value_parser = speed)]
    speed: Speed,
    /// The slots of each shard, a power of two [default: as recorded]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    /// Wait before the first record, so that readers can start
    #[arg(long, value_name = "TIME", value_parser = output::span, default_value = "0s")]
    delay: Duration,
    /// Exit after the last record, and remove the ring
    #[arg(long)]
    exit: bool,
}

/// The largest ring that `replay` creates without `--slots`.
const RING_MAX: usize = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times: Option<f64> = text.parse().ok().filter(|times: &f64| times.is_finite() && *times >= 1e-6);
    times.map(Speed::Times).ok_or_else(|| "a number of at least 0.000001, or max".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = printable_path(&args.file);
    let mut replay = Replay {
        args,
        interrupted: Interrupted::new()?,
        ring: None,
        start: None,
        written: 0,
        dropped: 0,
        tickets: BTreeMap::new(),
    };
    let end = read(open(&args.file)?, &mut replay).map(|(end, _)| end);
    for (shard, (first, last)) in &replay.tickets {
        output::note(format_args!("mapring: shard {shard}: recorded as tickets {first} to {last}"));
    }
    if replay.dropped > 0 {
        eprintln!("mapring: {} records were dropped: readers of the ring do not see them", replay.dropped);
    }
    if replay.ring.is_some() {
        output::note(format_args!("mapring: {} records were written", replay.written));
    }
    let done = match end {
        Err(e) if e.is::<Ended>() => Ok(()),
        Err(e) => Err(e),
        Ok(end) => check(&end),
    };
    if replay.ring.is_some() && !args.exit && !replay.interrupted.is_set() {
        if let Err(e) = &done {
            eprintln!("mapring: {name}: {}", one_line(e));
        }
        output::note("mapring: the ring stays until Ctrl-C");
        while !replay.interrupted.sleep(Duration::from_secs(3600)) {}
    }
    done.context(name)
}

/// The user ended the replay.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Ended {}

struct Replay<'a> {
    args: &'a Args,
    interrupted: Interrupted,
    /// The ring, and what it was made for.
    ring: Option<(Region, Box<dyn Push>, Source)>,
    /// When the first record was written, and its recorded time.
    start: Option<(Instant, u64)>,
    written: u64,
    dropped: u64,
    /// The first and the last recorded ticket of each shard.
    tickets: BTreeMap<usize, (u64, u64)>,
}

impl Replay<'_> {
    /// Waits until the record with this recorded time is due.
    fn wait(&mut self, time: u64) -> Result<()> {
        let (began, first) = *self.start.get_or_insert_with(|| (Instant::now(), time));
        if let Speed::Times(speed) = self.args.speed {
            let since = Duration::from_nanos(time.saturating_sub(first)).as_secs_f64() / speed;
            let due = Duration::try_from_secs_f64(since).ok().and_then(|since| began.checked_add(since));
            let Some(due) = due else {
                bail!("the next record is due in thousands of years: use --speed max")
            };
            let rest = due.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                self.interrupted.sleep(rest);
            }
        }
        ensure!(!self.interrupted.is_set(), Ended);
        Ok(())
    }
}

impl Visit for Replay<'_> {
    fn source(&mut self, of: &StoredSource) -> Result<()> {
        let source = &of.source;
        ensure!(
            source.kind == SourceKind::Ring,
            "only rings can be replayed; `mapring inspect` prints samples"
        );
        let shape = |source: &Source| (source.record, source.shards, source.tails);
        if let Some((.., before)) = &self.ring {
            ensure!(
                shape(before) == shape(source),
                "from here on the records come from a ring of another shape: the replay ends"
            );
            return Ok(());
        }
        let slots = self.args.slots.unwrap_or(source.entries);
        // The size in a file may be forged; --slots is the user's own.
        let most = if self.args.slots.is_some() { usize::MAX } else { RING_MAX };
        let (region, push) = write_ring::create(most, source.record, slots, source.shards, source.tails()?)?;
        let mut out = io::stdout().lock();
        writeln!(out, "/proc/{}/fd/{}", std::process::id(), region.as_fd().as_raw_fd())?;
        out.flush()?;
        self.ring = Some((region, push, source.clone()));
        ensure!(!self.interrupted.sleep(self.args.delay), Ended);
        Ok(())
    }

    fn record(&mut self, of: &StoredSource, item: Item<'_>, arrived: u64) -> Result<()> {
        self.wait(of.monotonic(&item, arrived))?;
        let Some((_, ring, _)) = &self.ring else { return Ok(()) };
        if ring.push(&item) {
            self.written += 1;
        } else {
            self.dropped += 1;
        }
        let (_, last) = self.tickets.entry(item.shard).or_insert((item.ticket, item.ticket));
        *last = item.ticket;
        Ok(())
    }

    fn sample(&mut self, _: &StoredSource, _: Sample<'_>) -> Result<()> {
        Ok(())
    }

    fn lost(&mut self, lost: Lost) -> Result<()> {
        eprintln!("mapring: lost while it was recorded: {lost}");
        Ok(())
    }
}
