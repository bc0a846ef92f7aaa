//! `mapring stat`: how fast regions are written, once in each interval.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mapring::liveness::Unended;
use mapring_kit::exit::WrongUsage;
use mapring_kit::output;
use mapring_kit::signals::Interrupted;
use mapring_kit::text::{cut, grouped, json_line, one_line, printable, rate};
use serde_json::json;

use crate::find::{self, All, Location};
use crate::follow::{CHECK_INTERVAL, PinChecks, Pinned};
use crate::rates::{Meter, Reading, per_second};
use crate::shortage;
use crate::target::{self, Layout, Target};
use crate::unended::{self, Earlier};

/// Show how fast regions are written: records of each shard, counters, updates, and what programs dropped
#[derive(clap::Args)]
pub struct Args {
    /// Pins, id:42, names of maps, or memory files. Without any: all that this user can open
    pub region: Vec<String>,
    /// The time between two reports
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = output::span)]
    pub interval: Duration,
    /// Stop after this number of reports
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// Print one JSON object for each region and report, in a line
    #[arg(long)]
    pub json: bool,
}

/// The most parts of a region that are listed for people: those that change most.
const PARTS: usize = 10;

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.interval < Duration::from_millis(1) {
        bail!(WrongUsage("--interval: at least 1ms".into()));
    }
    let interrupted = Interrupted::new()?;
    let meters = meters(&args.region)?;
    ensure!(!meters.is_empty(), "no region with a rate: `mapring ls` lists all regions");
    report(args, meters, &interrupted, || Ok(()))
}

/// Reports until there are enough reports, somebody ends it, or `check` before a report fails.
pub fn report(
    args: &Args,
    meters: Vec<Meter>,
    interrupted: &Interrupted,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let metered = meters.into_iter().map(Metered::new);
    let mut metered = metered.collect::<Result<Vec<_>>>()?;
    let mut checked = Instant::now();
    let mut out = io::stdout().lock();
    let mut next = Instant::now();
    let mut reports = 0;
    while args.count.is_none_or(|count| reports < count) {
        next += args.interval;
        if interrupted.sleep(next.saturating_duration_since(Instant::now())) {
            break;
        }
        check()?;
        if !args.json {
            writeln!(
                out,
                "{:<20} {:<16} {:>10} {:>10} {:>10} {:>9}",
                "NAME", "PART", "PER SECOND", "TOTAL", "LAST", "HISTORY"
            )?;
        }
        let is_due = checked.elapsed() >= CHECK_INTERVAL;
        for Metered { meter, earlier, before, pin } in &mut metered {
            let mut now = Reading::new();
            if let Err(e) = meter.read(&mut now) {
                eprintln!("mapring: {}: {}", meter.target.location, one_line(&e));
                continue;
            }
            let mut unended = earlier.as_mut().map(|all| all.unended(meter.unended())).unwrap_or_default();
            // A program may be interrupted for a moment.
            unended.retain(|unended| unended.noticed >= CHECK_INTERVAL || args.count == Some(reports + 1));
            match args.json {
                true => writeln!(out, "{}", json_line(&json_of(meter, &now, before, &unended)))?,
                false => lines(&mut out, meter, &now, before, &unended)?,
            }
            *before = now;
            if !is_due {
                continue;
            }
            match meter.check_pin(pin)? {
                Pinned::Same => {}
                Pinned::Other(other) => {
                    let location = &other.target.location;
                    eprintln!("mapring: {location}: another region is pinned there now; continuing with it");
                    let new = Metered::new(other)?;
                    (*meter, *earlier, *before) = (new.meter, new.earlier, new.before);
                }
                Pinned::Gone(e) => eprintln!("mapring: {e}; waiting for another region there"),
                Pinned::Unfit(e) => {
                    let location = &meter.target.location;
                    eprintln!(
                        "mapring: {location}: not continuing with the map that is pinned there now: {e:#}"
                    );
                }
            }
        }
        checked = if is_due { Instant::now() } else { checked };
        out.flush()?;
        reports += 1;
    }
    Ok(())
}

/// A region, and what its meter showed in the last report.
struct Metered {
    meter: Meter,
    /// Of a ring.
    earlier: Option<Earlier>,
    before: Reading,
    /// Whether nothing was pinned in its place at the last check.
    pin: PinChecks,
}

impl Metered {
    fn new(mut meter: Meter) -> Result<Self> {
        let mut before = Reading::new();
        let location = || meter.target.location.to_string();
        let earlier = Earlier::new(&meter.target).with_context(location)?;
        meter.read(&mut before).with_context(|| meter.target.location.to_string())?;
        Ok(Self { meter, earlier, before, pin: PinChecks::default() })
    }
}

/// Meters of the regions with these names; without names, of all.
pub(crate) fn meters(names: &[String]) -> Result<Vec<Meter>> {
    let mut meters = Vec::new();
    for name in names {
        let target = Target::open(find::find(name)?)?;
        let location = target.location.to_string();
        let meter = Meter::new(target).with_context(|| location.clone())?;
        meters.push(
            meter.with_context(|| format!("{location}: it has no rate: `mapring show` shows its content"))?,
        );
    }
    if names.is_empty() {
        let all = All::find();
        for why in &all.hidden {
            output::note(format_args!("mapring: {}", printable(why)));
        }
        for (id, pins) in all.maps {
            let location = pins.into_iter().next().map_or(Location::Id(id), Location::Pin);
            // What ends meanwhile, and what this command can't read, is not in the report.
            let name = location.clone();
            // Ring buffers are not regions: as `ls` does, the report has those that were named.
            let meter = Target::open(location).and_then(|target| match target.layout {
                Layout::Ringbuf => Ok(None),
                _ => Meter::new(target),
            });
            match meter {
                Ok(meter) => meters.extend(meter),
                Err(e) if shortage::of_chain(&e) => eprintln!("mapring: {}", shortage::left_out(&name, &e)),
                Err(_) => {}
            }
        }
    }
    let labels = target::labels(meters.iter().map(|meter| &meter.target));
    meters.iter_mut().zip(labels).for_each(|(meter, label)| meter.label = label);
    Ok(meters)
}

/// How long a ring's shard remembers at this rate.
#[allow(clippy::cast_precision_loss)] // for people
fn history(meter: &Meter, rate: f64) -> Option<f64> {
    let slots = meter.target.region()?.geometry().capacity();
    (meter.part() == "shard" && rate > 0.0).then(|| slots as f64 / rate)
}

fn lines(
    out: &mut impl Write,
    meter: &Meter,
    now: &Reading,
    before: &Reading,
    unended: &[Unended],
) -> io::Result<()> {
    let seconds = now.seconds_since(before);
    let mut growth = now.growth(before);
    let sum: u64 = growth.iter().map(|(_, n)| *n).sum();
    writeln!(
        out,
        "{:<20} {:<16} {:>10} {:>10}",
        cut(&meter.label, 20),
        meter.unit(),
        rate(per_second(sum, seconds)),
        cut(&grouped(now.total()), 10)
    )?;
    if meter.part() != "shard" {
        growth.retain(|(_, n)| *n > 0);
        growth.sort_by_key(|(part, n)| (std::cmp::Reverse(*n), *part));
    }
    let shown = if meter.part() == "shard" { usize::MAX } else { PARTS };
    for (part, n) in growth.iter().take(shown).filter(|_| now.counts.len() > 1 || meter.part() == "shard") {
        let per_second = per_second(*n, seconds);
        let total = now.counts.iter().find(|(other, _)| other == part).map_or(0, |(_, count)| *count);
        let last = meter.age(*part).map_or(String::new(), |age| format!("{age:.1?}"));
        let history = history(meter, per_second).map_or(String::new(), |s| format!("{s:.1}s"));
        writeln!(
            out,
            "{:<20} {:<16} {:>10} {:>10} {last:>10} {history:>9}",
            "",
            format!("  {}", meter.name_of(*part)),
            rate(per_second),
            cut(&grouped(total), 10),
        )?;
    }
    if growth.len() > shown {
        writeln!(out, "{:<20} ({} more)", "", growth.len() - shown)?;
    }
    for (cause, n) in now.new_losses(before) {
        writeln!(out, "{:<20} {:<16} {:>10} lost: {cause}", "", "  dropped", rate(per_second(n, seconds)))?;
    }
    for unended in unended {
        writeln!(out, "{:<20} {unended}", "")?;
    }
    if now.stepped_over > 0 {
        let count = grouped(now.stepped_over);
        writeln!(out, "{:<20} programs stepped over {count} of the tickets, which had no record", "")?;
    }
    Ok(())
}

fn json_of(meter: &Meter, now: &Reading, before: &Reading, unended: &[Unended]) -> serde_json::Value {
    let seconds = now.seconds_since(before);
    let growth = now.growth(before);
    let sum: u64 = growth.iter().map(|(_, n)| *n).sum();
    let is_ring = meter.part() == "shard";
    let parts: Vec<_> = growth
        .iter()
        .filter(|(_, n)| is_ring || *n > 0)
        .map(|(part, n)| {
            let age = meter.age(*part).map(|age| age.as_secs_f64());
            let rate = per_second(*n, seconds);
            json!({ meter.part(): part, "per_second": rate, "last_seconds_ago": age,
                "history_seconds": history(meter, rate) })
        })
        .collect();
    let losses = |of: &[(&'static str, u64)]| -> serde_json::Map<_, _> {
        of.iter().map(|(cause, n)| ((*cause).to_owned(), json!(n))).collect()
    };
    json!({
        "region": meter.target.location.to_string(), "name": meter.name, "kind": meter.kind,
        "seconds": seconds, "unit": meter.unit(), "per_second": per_second(sum, seconds), "total": now.total(),
        "parts": parts, "lost": losses(&now.new_losses(before)), "lost_total": losses(&now.losses),
        "stepped_over": now.stepped_over, "unended": unended.iter().map(unended::json_of).collect::<Vec<_>>(),
    })
}
