//! `mapring tail`: the records of a ring as programs write them, without taking them from anyone.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use mapring::time::{Clock, WallClock};
use mapring::{AnyMap, Start, record};
use mapring_untyped::{Item, Records};
use serde_json::json;

use super::Interrupted;
use super::filter::Expr;
use super::find::{self, Place};
use super::target::Target;
use super::text::{json_line, printable};
use super::value::{self, Value};
use crate::output;

/// Prints the records of a ring as they are written, decoded, merged by time and filtered. Other readers still get them
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pin, id:42, the name of a map, or a memory file (/proc/PID/fd/N)
    region: String,
    /// Where to start [default: now; with --no-follow: first]
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Only records for which this is true: pid == 12 && (comm ~ "ba.*" || !ok)
    #[arg(long, value_name = "EXPR")]
    r#where: Option<String>,
    /// Stop after this number of records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// The field with the time in nanoseconds, by which CPUs are merged [default: ns, ts, time or similar]
    #[arg(long, value_name = "FIELD")]
    stamp: Option<String>,
    /// Stop at the last record that is there now
    #[arg(long)]
    no_follow: bool,
    /// Print one JSON object for each record, in a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// With the oldest record that is still there
    First,
    /// With the next record
    Now,
}

/// The longest wait before the pin, the signals and the losses are looked at again.
const STEP: Duration = Duration::from_millis(100);
/// The time between two looks at the pin, and between two reports of losses.
const LOOK: Duration = Duration::from_millis(500);
/// By now a merged reader has delivered all records that it held.
const HELD: Duration = Duration::from_millis(25);
/// The most records between two looks at anything else.
const BATCH: usize = 4096;

/// What was printed and lost so far.
struct Tail<'a> {
    args: &'a Args,
    filter: Option<Expr>,
    clock: WallClock,
    out: BufWriter<io::StdoutLock<'static>>,
    printed: u64,
    /// When losses were last reported.
    reported: Instant,
    lost: BTreeMap<&'static str, u64>,
}

/// The ring that is read now.
struct Source {
    target: Target,
    records: Box<dyn Records>,
    stamp: Option<usize>,
}

impl Source {
    fn open(place: Place, args: &Args, start: Start) -> Result<Self> {
        let target = Target::open(place)?;
        let stamp = match (target.ty(), &args.stamp) {
            (Ok(ty), wanted) => {
                let found = value::stamp(ty, wanted.as_deref());
                let known = found.is_some() || wanted.is_none();
                ensure!(known, "--stamp: {} has no field of 8 bytes with this name", value::type_name(ty));
                found.map(|(_, at)| at)
            }
            (Err(why), Some(_)) => bail!("--stamp: the fields are not known: {why}"),
            (Err(_), None) => None,
        };
        let records = target.records(start, stamp)?;
        Ok(Self { target, records, stamp })
    }

    /// The id of its map, if it was found by a pin, which can be replaced.
    fn pinned(&self) -> Option<u32> {
        matches!(self.target.place, Place::Pin(_))
            .then(|| self.target.map.as_ref().map(|map| map.facts().id))?
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let filter = args.r#where.as_deref().map(Expr::parse).transpose().context("--where")?;
    let from = args.from.unwrap_or(if args.no_follow { From::First } else { From::Now });
    let start = if from == From::Now { Start::Now } else { Start::Oldest };
    let interrupted = Interrupted::new()?;
    let mut source = Source::open(find::find(&args.region)?, args, start)?;
    check_fields(&source.target, filter.as_ref())?;
    if let Err(why) = source.target.ty() {
        output::note(format_args!("mapring: records are shown as bytes: {why}"));
    }
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let clock = WallClock::new(Clock::Monotonic)?;
    let mut tail =
        Tail { args, filter, clock, out, printed: 0, reported: Instant::now(), lost: BTreeMap::new() };
    let done = match args.no_follow {
        true => tail.present(&mut source, &interrupted),
        false => tail.follow(&mut source, &interrupted),
    };
    tail.report(&mut source);
    let flushed = tail.out.flush();
    if tail.lost.is_empty() {
        output::note(format_args!("mapring: {} records, none lost", tail.printed));
    } else {
        let lost: Vec<_> = tail.lost.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        eprintln!("mapring: {} records; lost: {}", tail.printed, lost.join(", "));
    }
    done?;
    flushed?;
    Ok(())
}

/// Refuses a filter with a field that no record has.
fn check_fields(target: &Target, filter: Option<&Expr>) -> Result<()> {
    let (Some(filter), Some(region)) = (filter, target.region()) else { return Ok(()) };
    if let Err(why) = target.ty() {
        bail!("--where: the fields are not known: {why}");
    }
    let empty = target.decode(&vec![0; region.geometry().record()]);
    let Value::Struct(fields) = &empty else { return Ok(()) };
    if fields.iter().any(|(name, _)| name.starts_with('(')) {
        return Ok(()); // Records of several types: their fields depend on the tag.
    }
    match filter.unknown(&|path| empty.at(path).is_some()) {
        None => Ok(()),
        Some(field) => {
            let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            bail!("--where: no field {field}; there are {}", names.join(", "))
        }
    }
}

/// A record as `--json` prints it.
pub(crate) fn json_of(
    target: &Target,
    clock: &WallClock,
    stamp: Option<usize>,
    item: Item<'_>,
) -> serde_json::Value {
    object(&target.decode(item.bytes), clock, stamp, item)
}

fn object(value: &Value, clock: &WallClock, stamp: Option<usize>, item: Item<'_>) -> serde_json::Value {
    json!({ "shard": item.shard, "ticket": item.ticket, "time": time(clock, stamp, item),
        "record": value.json(), "tail": item.tail.map(record::string) })
}

/// When a record was made, if it says so.
fn time(clock: &WallClock, stamp: Option<usize>, item: Item<'_>) -> Option<String> {
    let ns = u64::from_ne_bytes(*item.bytes.get(stamp?..)?.first_chunk()?);
    Some(humantime::format_rfc3339_micros(clock.to_wall(ns).value).to_string())
}

impl Tail<'_> {
    fn is_over(&self) -> bool {
        self.args.count.is_some_and(|count| self.printed >= count)
    }

    /// Prints records until there are none; returns whether there was one.
    fn batch(&mut self, source: &mut Source, ends: Option<&BTreeMap<usize, u64>>) -> Result<bool> {
        let Source { target, records, stamp } = source;
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
        if self.reported.elapsed() > LOOK {
            self.report(source);
        }
        failed.map_or(Ok(count > 0), Err)
    }

    fn print(&mut self, target: &Target, stamp: Option<usize>, item: Item<'_>) -> Result<()> {
        let value = target.decode(item.bytes);
        if self.filter.as_ref().is_some_and(|filter| !filter.holds(&value)) {
            return Ok(());
        }
        self.printed += 1;
        if self.args.json {
            writeln!(self.out, "{}", json_line(&object(&value, &self.clock, stamp, item)))?;
            return Ok(());
        }
        let time = time(&self.clock, stamp, item);
        let tail = item.tail.map(record::string);
        // The time of day, in UTC.
        let time = time.as_deref().and_then(|time| time.get(11..26)).unwrap_or("");
        let space = if time.is_empty() { "" } else { " " };
        write!(self.out, "{time}{space}[{}] {value}", item.shard)?;
        match tail {
            Some(tail) => writeln!(self.out, " \"{}\"", printable(&tail))?,
            None => writeln!(self.out)?,
        }
        Ok(())
    }

    /// Says what was lost since the last time.
    fn report(&mut self, source: &mut Source) {
        self.reported = Instant::now();
        let mut found = BTreeMap::<_, u64>::new();
        for loss in source.records.take_losses() {
            let count = found.entry((loss.shard, loss.cause.as_str())).or_default();
            *count = count.saturating_add(loss.count);
        }
        for ((shard, cause), new) in found {
            let shard = shard.map_or(String::new(), |shard| format!("shard {shard}: "));
            eprintln!("mapring: lost: {shard}{new} {cause}");
            let count = self.lost.entry(cause).or_default();
            *count = count.saturating_add(new);
        }
        if let Some(e) = source.records.take_error() {
            eprintln!("mapring: {e}");
        }
    }

    /// Prints what is there, and ends.
    fn present(&mut self, source: &mut Source, interrupted: &Interrupted) -> Result<()> {
        let ends: BTreeMap<_, _> = source.target.records(Start::Now, None)?.positions().into_iter().collect();
        let is_read = |source: &Source| {
            source
                .records
                .positions()
                .iter()
                .all(|(shard, next)| ends.get(shard).is_none_or(|end| next >= end))
        };
        let mut since: Option<Instant> = None;
        while !interrupted.is_set() && !self.is_over() {
            let some = self.batch(source, Some(&ends))?;
            // The merged reader may still hold records, or wait for one that is being written.
            let is_done = is_read(source) || !some;
            since = if is_done { since.or(Some(Instant::now())) } else { None };
            if since.is_some_and(|since| since.elapsed() > HELD) {
                self.batch(source, Some(&ends))?;
                break;
            }
            if !some {
                source.records.wait(STEP.min(HELD))?;
            }
        }
        Ok(())
    }

    /// Prints records until it is interrupted or there were enough. Continues with the ring of a restarted loader.
    fn follow(&mut self, source: &mut Source, interrupted: &Interrupted) -> Result<()> {
        let (mut looked, mut gone) = (Instant::now(), false);
        while !interrupted.is_set() && !self.is_over() {
            let some = self.batch(source, None)?;
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                self.clock.update();
                self.look_at_pin(source, &mut gone)?;
            }
            if !some && !self.is_over() {
                self.out.flush()?;
                source.records.wait(STEP)?;
            }
        }
        Ok(())
    }

    /// Continues with the ring that is now pinned in the place of this one, if it is another one.
    fn look_at_pin(&mut self, source: &mut Source, gone: &mut bool) -> Result<()> {
        let Some(id) = source.pinned() else { return Ok(()) };
        let now = AnyMap::open(source.target.place.source()?).map(|map| map.facts().id);
        match now {
            Ok(now) if now == id => *gone = false,
            Ok(_) => {
                // Another loader may still be initializing it.
                let Ok(next) = Source::open(source.target.place.clone(), self.args, Start::First) else {
                    return Ok(());
                };
                let end = Instant::now() + HELD;
                while (self.batch(source, None)? || Instant::now() < end) && !self.is_over() {
                    source.records.wait(Duration::from_millis(1))?;
                    if Instant::now() > end + LOOK {
                        break; // Its programs still write it.
                    }
                }
                self.out.flush()?;
                eprintln!(
                    "mapring: {}: another ring is pinned there now; continuing with it",
                    source.target.place
                );
                (*source, *gone) = (next, false);
            }
            Err(e) if !*gone => {
                *gone = true;
                self.out.flush()?;
                eprintln!("mapring: {e}; waiting for another ring there");
            }
            Err(_) => {}
        }
        Ok(())
    }
}
