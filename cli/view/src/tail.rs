//! `mapring tail`: the records of rings as programs write them. Other readers still get them.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mapring::time::{Clock, WallClock};
use mapring_kit::output;
use mapring_kit::signals::Interrupted;
use mapring_kit::text::ascii;

use crate::filter::{Filter, Names};
use crate::find;
use crate::find_stamp;
use crate::follow::{CHECK_INTERVAL, From, Pinned, Rings, Sink, Source};
use crate::line;
use crate::losses::Losses;
use crate::target::{Layout, Target};
use crate::untyped::Item;
use crate::value::Chars;

/// Print the records of rings as they are written, decoded, merged by time and filtered. Other readers still get them
#[derive(clap::Args)]
pub struct Args {
    /// Pins, id:42, names of maps, or memory files (/proc/PID/fd/N). Several rings are read in the order of their time stamps
    #[arg(required = true)]
    region: Vec<String>,
    /// Where to start [default: now; with --no-follow: first]
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Only records for which this is true: pid == 12 && (comm ~ "ba.*" || !ok). The pattern after ~ must match the whole text
    #[arg(long, value_name = "EXPR", value_parser = Filter::parse)]
    r#where: Option<Filter>,
    /// Stop after this number of records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    stamp: find_stamp::Wanted,
    /// Stop at the last record that the rings hold now
    #[arg(long)]
    no_follow: bool,
    /// Print one JSON object for each record, in a line
    #[arg(long)]
    json: bool,
}

/// The longest wait before the pin, the signals and the losses are looked at again.
const STEP: Duration = Duration::from_millis(100);
/// The most records between two checks of anything else.
const BATCH: usize = 4096;

/// What was lost and named so far.
struct Tail<'a> {
    args: &'a Args,
    /// When losses were last reported.
    reported: Instant,
    losses: Losses,
    /// The rings, shards and tickets that were named because they were not ended.
    unended: HashSet<(usize, usize, u64)>,
}

/// Prints records.
struct Printer<'a> {
    args: &'a Args,
    clock: WallClock,
    out: BufWriter<io::StdoutLock<'static>>,
    printed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let from = args.from.unwrap_or(if args.no_follow { From::First } else { From::Now });
    let interrupted = Interrupted::new()?;
    let locations = args.region.iter().map(|region| find::find(region)).collect::<Result<_>>()?;
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let printer = Printer { args, clock: WallClock::new(Clock::Monotonic)?, out, printed: 0 };
    let mut rings = Rings::open(locations, &args.stamp, from.start(), |sources| {
        let targets: Vec<_> = sources.iter().map(|source| &source.target).collect();
        check_fields(&targets, args.r#where.as_ref())?;
        for why in targets.iter().filter_map(|target| target.ty().err()) {
            output::note(format_args!("mapring: records are shown as bytes: {why}"));
        }
        Ok(printer)
    })?;
    let mut tail =
        Tail { args, reported: Instant::now(), losses: Losses::default(), unended: HashSet::new() };
    let done = match args.no_follow {
        true => tail.present(&mut rings, &interrupted),
        false => tail.follow(&mut rings, &interrupted),
    };
    tail.report(&mut rings);
    let flushed = rings.sink().out.flush();
    tail.losses.conclude(rings.sink().printed, "");
    for (ring, source) in rings.sources().iter().enumerate().filter(|(_, source)| !source.label.is_empty()) {
        match rings.late(ring) {
            0 => {}
            late => {
                eprintln!("mapring: {}: {late} records came after one with a later time stamp", source.label)
            }
        }
    }
    done?;
    flushed?;
    Ok(())
}

/// Refuses a filter with a field that no record of these rings has.
fn check_fields(targets: &[&Target], filter: Option<&Filter>) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    let mut empty = Vec::new();
    for target in targets {
        let geometry = target.region().map(|region| region.geometry());
        let (ty, tail) = (target.ty(), geometry.and_then(|geometry| geometry.tails()).map(|_| &[][..]));
        if let (Err(why), None) = (ty, tail) {
            bail!("--where: the fields are not known: {why}");
        }
        let record = geometry.map_or(0, |geometry| geometry.record());
        empty.push((target.decode(&vec![0; record]), tail, ty.ok()));
    }
    filter.check(
        &empty.iter().map(|(value, tail, ty)| Names { value, tail: *tail, ty: *ty }).collect::<Vec<_>>(),
    )
}

impl Printer<'_> {
    fn is_over(&self) -> bool {
        self.args.count.is_some_and(|count| self.printed >= count)
    }
}

impl Sink for Printer<'_> {
    fn take(&mut self, of: &Source, item: Item<'_>) -> Result<()> {
        let Source { target, stamp, label, .. } = of;
        let value = target.decode(item.bytes);
        let names = Names { value: &value, tail: item.tail, ty: target.ty().ok() };
        let is_wanted = self.args.r#where.as_ref().is_none_or(|filter| filter.holds(names));
        if self.is_over() || !is_wanted {
            return Ok(());
        }
        self.printed += 1;
        let time = stamp.and_then(|stamp| stamp.time(item.bytes, &self.clock)).map(line::time);
        if self.args.json {
            writeln!(self.out, "{}", line::json(label, &item, time.as_deref(), &value))?;
            return Ok(());
        }
        // The time of day, in UTC.
        let time = time.as_deref().and_then(|time| time.get(11..26)).unwrap_or("");
        for word in [time, label].into_iter().filter(|word| !word.is_empty()) {
            write!(self.out, "{word} ")?;
        }
        write!(self.out, "[{}] {value}", item.shard)?;
        match item.tail.map(Chars::tail) {
            Some(tail) => writeln!(self.out, " {tail}")?,
            None if matches!(target.layout, Layout::Ringbuf) => {
                writeln!(self.out, "  {}", ascii(item.bytes))?
            }
            None => writeln!(self.out)?,
        }
        Ok(())
    }
}

impl Tail<'_> {
    /// Prints records until there are none; returns whether there was one.
    fn batch(&mut self, rings: &mut Rings<Printer<'_>>) -> Result<bool> {
        // A filter may need many records to find one.
        let count = self.args.count.filter(|_| self.args.r#where.is_none());
        let left = count.map_or(BATCH as u64, |count| count.saturating_sub(rings.sink().printed));
        let count = rings.read(usize::try_from(left).unwrap_or(BATCH).min(BATCH))?;
        if self.reported.elapsed() > CHECK_INTERVAL {
            self.report(rings);
        }
        Ok(count > 0)
    }

    /// Says what was lost since the last time.
    fn report(&mut self, rings: &mut Rings<Printer<'_>>) {
        self.reported = Instant::now();
        let labels: Vec<_> = rings.sources().iter().map(|source| source.label.clone()).collect();
        for (ring, label) in labels.iter().enumerate() {
            for loss in rings.take_losses(ring) {
                self.losses.add(label, loss.shard, loss.cause.as_str(), loss.count);
            }
            if let bytes @ 1.. = rings.take_lost_bytes() {
                self.losses.add(label, None, "bytes of records overwritten", bytes);
            }
            let of = if label.is_empty() { String::new() } else { format!("{label}: ") };
            for unended in rings.unended(ring) {
                // A program may be interrupted for a moment.
                let lasts = unended.noticed >= CHECK_INTERVAL || self.args.no_follow;
                if lasts && self.unended.insert((ring, unended.shard, unended.ticket)) {
                    output::note(format_args!("mapring: {of}{unended}"));
                }
            }
            if let Some(e) = rings.take_error(ring) {
                eprintln!("mapring: {of}{e}");
            }
        }
        self.losses.report(|line| eprintln!("{line}"));
    }

    /// Prints what is there, and ends.
    fn present(&mut self, rings: &mut Rings<Printer<'_>>, interrupted: &Interrupted) -> Result<()> {
        rings.present(|rings| match interrupted.is_set() || rings.sink().is_over() {
            true => Ok(None),
            false => self.batch(rings).map(Some),
        })
    }

    /// Prints records until it is interrupted or there were enough. Continues with the rings of restarted loaders.
    fn follow(&mut self, rings: &mut Rings<Printer<'_>>, interrupted: &Interrupted) -> Result<()> {
        let mut checked = Instant::now();
        while !interrupted.is_set() && !rings.sink().is_over() {
            let some = self.batch(rings)?;
            if checked.elapsed() > CHECK_INTERVAL {
                checked = Instant::now();
                rings.sink().clock.update();
                (0..rings.sources().len()).try_for_each(|ring| self.check_pin(rings, ring))?;
            }
            if !some && !rings.sink().is_over() {
                rings.sink().out.flush()?;
                rings.wait(STEP)?;
            }
        }
        Ok(())
    }

    /// Continues with the ring that is now pinned in the place of this one, if it is another one.
    fn check_pin(&mut self, rings: &mut Rings<Printer<'_>>, ring: usize) -> Result<()> {
        let pinned = rings.check_pin(ring, |targets| check_fields(targets, self.args.r#where.as_ref()))?;
        if !matches!(pinned, Pinned::Same) {
            rings.sink().out.flush()?;
        }
        let location = rings.sources()[ring].target.location.clone();
        match pinned {
            Pinned::Same => {}
            Pinned::Other(next) => {
                rings.rest(|rings| match rings.sink().is_over() {
                    true => Ok(None),
                    false => self.batch(rings).map(Some),
                })?;
                rings.sink().out.flush()?;
                self.report(rings);
                rings.replace(ring, next);
                eprintln!("mapring: {location}: another ring is pinned there now; continuing with it");
            }
            Pinned::Gone(e) => eprintln!("mapring: {e}; waiting for another ring there"),
            Pinned::Unfit(e) => {
                eprintln!("mapring: {location}: not continuing with the map that is pinned there now: {e:#}");
            }
        }
        Ok(())
    }
}
