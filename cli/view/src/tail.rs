//! `mapring tail`: the records of a ring as programs write them. Other readers still get them.

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
use crate::follow::{CHECK_INTERVAL, Ends, From, Pinned, Source};
use crate::line;
use crate::losses::Losses;
use crate::stamp::Stamp;
use crate::target::{Layout, Target};
use crate::untyped::Item;
use crate::value::Chars;

/// Print the records of a ring as they are written, decoded, merged by time and filtered. Other readers still get them
#[derive(clap::Args)]
pub struct Args {
    /// A pin, id:42, the name of a map, or a memory file (/proc/PID/fd/N)
    region: String,
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
    /// Stop at the last record that the ring holds now
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

/// What was printed and lost so far.
struct Tail<'a> {
    args: &'a Args,
    filter: Option<&'a Filter>,
    clock: WallClock,
    out: BufWriter<io::StdoutLock<'static>>,
    printed: u64,
    /// When losses were last reported.
    reported: Instant,
    losses: Losses,
    /// The tickets that were named because they were not ended.
    unended: HashSet<(usize, u64)>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let filter = args.r#where.as_ref();
    let from = args.from.unwrap_or(if args.no_follow { From::First } else { From::Now });
    let interrupted = Interrupted::new()?;
    let mut source = Source::open(find::find(&args.region)?, &args.stamp, from.start())?;
    check_fields(&source.target, filter)?;
    if let Err(why) = source.target.ty() {
        output::note(format_args!("mapring: records are shown as bytes: {why}"));
    }
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let clock = WallClock::new(Clock::Monotonic)?;
    let (reported, losses) = (Instant::now(), Losses::default());
    let mut tail = Tail { args, filter, clock, out, printed: 0, reported, losses, unended: HashSet::new() };
    let done = match args.no_follow {
        true => tail.present(&mut source, &interrupted),
        false => tail.follow(&mut source, &interrupted),
    };
    tail.report(&mut source);
    let flushed = tail.out.flush();
    tail.losses.conclude(tail.printed, "");
    done?;
    flushed?;
    Ok(())
}

/// Refuses a filter with a field that no record has.
fn check_fields(target: &Target, filter: Option<&Filter>) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    let geometry = target.region().map(|region| region.geometry());
    let (ty, tail) = (target.ty(), geometry.and_then(|geometry| geometry.tails()).map(|_| &[][..]));
    if let (Err(why), None) = (ty, tail) {
        bail!("--where: the fields are not known: {why}");
    }
    let record = geometry.map_or(0, |geometry| geometry.record());
    filter.check(Names { value: &target.decode(&vec![0; record]), tail, ty: ty.ok() })
}

impl Tail<'_> {
    fn is_over(&self) -> bool {
        self.args.count.is_some_and(|count| self.printed >= count)
    }

    /// Prints records until there are none; returns whether there was one.
    fn batch(&mut self, source: &mut Source, ends: Option<&Ends>) -> Result<bool> {
        let Source { target, records, stamp, .. } = source;
        let mut failed = None;
        let limit = self.args.count.map_or(BATCH as u64, |count| count.saturating_sub(self.printed));
        // A filter may need many records to find one.
        let limit =
            if self.filter.is_some() { BATCH } else { usize::try_from(limit).unwrap_or(BATCH).min(BATCH) };
        let count = records.each(limit, &mut |item| {
            let is_new = ends.is_some_and(|ends| ends.get(&item.shard).is_none_or(|end| item.ticket >= *end));
            if failed.is_none() && !is_new && !self.is_over() {
                failed = self.print(target, *stamp, item).err();
            }
        });
        if self.reported.elapsed() > CHECK_INTERVAL {
            self.report(source);
        }
        failed.map_or(Ok(count > 0), Err)
    }

    fn print(&mut self, target: &Target, stamp: Option<Stamp>, item: Item<'_>) -> Result<()> {
        let value = target.decode(item.bytes);
        let names = Names { value: &value, tail: item.tail, ty: target.ty().ok() };
        if self.filter.is_some_and(|filter| !filter.holds(names)) {
            return Ok(());
        }
        self.printed += 1;
        let time = stamp.and_then(|stamp| stamp.time(item.bytes, &self.clock)).map(line::time);
        if self.args.json {
            writeln!(self.out, "{}", line::json(&item, time.as_deref(), &value))?;
            return Ok(());
        }
        // The time of day, in UTC.
        let time = time.as_deref().and_then(|time| time.get(11..26)).unwrap_or("");
        let space = if time.is_empty() { "" } else { " " };
        write!(self.out, "{time}{space}[{}] {value}", item.shard)?;
        match item.tail.map(Chars::tail) {
            Some(tail) => writeln!(self.out, " {tail}")?,
            None if matches!(target.layout, Layout::Ringbuf) => {
                writeln!(self.out, "  {}", ascii(item.bytes))?
            }
            None => writeln!(self.out)?,
        }
        Ok(())
    }

    /// Says what was lost since the last time.
    fn report(&mut self, source: &mut Source) {
        self.reported = Instant::now();
        for loss in source.records.take_losses() {
            self.losses.add(loss.shard, loss.cause.as_str(), loss.count);
        }
        match source.records.take_lost_bytes() {
            0 => {}
            bytes => self.losses.add(None, "bytes of records overwritten", bytes),
        }
        self.losses.report(|line| eprintln!("{line}"));
        for unended in source.records.unended() {
            // A program may be interrupted for a moment.
            let lasts = unended.noticed >= CHECK_INTERVAL || self.args.no_follow;
            if lasts && self.unended.insert((unended.shard, unended.ticket)) {
                output::note(format_args!("mapring: {unended}"));
            }
        }
        if let Some(e) = source.records.take_error() {
            eprintln!("mapring: {e}");
        }
    }

    /// Prints what is there, and ends.
    fn present(&mut self, source: &mut Source, interrupted: &Interrupted) -> Result<()> {
        let ends = source.ends()?;
        source.present(&ends, |source| match interrupted.is_set() || self.is_over() {
            true => Ok(None),
            false => self.batch(source, Some(&ends)).map(Some),
        })
    }

    /// Prints records until it is interrupted or there were enough. Continues with the ring of a restarted loader.
    fn follow(&mut self, source: &mut Source, interrupted: &Interrupted) -> Result<()> {
        let mut checked = Instant::now();
        while !interrupted.is_set() && !self.is_over() {
            let some = self.batch(source, None)?;
            if checked.elapsed() > CHECK_INTERVAL {
                checked = Instant::now();
                self.clock.update();
                self.check_pin(source)?;
            }
            if !some && !self.is_over() {
                self.out.flush()?;
                source.records.wait(STEP)?;
            }
        }
        Ok(())
    }

    /// Continues with the ring that is now pinned in the place of this one, if it is another one.
    fn check_pin(&mut self, source: &mut Source) -> Result<()> {
        match source.check_pin(|next| check_fields(next, self.filter))? {
            Pinned::Same => {}
            Pinned::Other(next) => {
                source.rest(|source| match self.is_over() {
                    true => Ok(None),
                    false => self.batch(source, None).map(Some),
                })?;
                self.out.flush()?;
                let location = &source.target.location;
                eprintln!("mapring: {location}: another ring is pinned there now; continuing with it");
                *source = next;
            }
            Pinned::Gone(e) => {
                self.out.flush()?;
                eprintln!("mapring: {e}; waiting for another ring there");
            }
            Pinned::Unfit(e) => {
                self.out.flush()?;
                let location = &source.target.location;
                eprintln!("mapring: {location}: not continuing with the map that is pinned there now: {e:#}");
            }
        }
        Ok(())
    }
}
