//! `mapring record`: a ring at full rate, or values at a rate of samples, into a file.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mapring::abi::Kind;
use mapring_kit::exit::WrongUsage;
use mapring_kit::output;

use super::format::Source as Description;
use super::output::Output;
use super::sample::{self, Sampling};
use super::source;
use super::stop::Stop;
use crate::find;
use crate::find_stamp;
use crate::follow::{CHECK_INTERVAL, From, Pinned, Rings, Sink, Source};
use crate::losses::Losses;
use crate::target::{Layout, Target};
use crate::untyped::Item;

/// Write the records of a ring, or samples of other regions and arrays, into a file with their types
#[derive(clap::Args)]
pub struct Args {
    /// A pin, id:42, the name of a map, or a memory file (/proc/PID/fd/N)
    region: String,
    #[command(flatten)]
    files: super::output::Files,
    /// Stop after this time: 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", value_parser = output::span)]
    r#for: Option<Duration>,
    /// Where to start in a ring [default: now; with --no-follow: first]
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Stop at the last record that the ring holds now, or after one sample of values
    #[arg(long)]
    no_follow: bool,
    /// The time between two samples; a value is recorded if it changed
    #[arg(long, value_name = "TIME", value_parser = output::span, default_value = "100ms")]
    every: Duration,
    #[command(flatten)]
    stamp: find_stamp::Wanted,
}

/// The longest wait before the pin, the signals and the losses are looked at again.
const STEP: Duration = Duration::from_millis(50);
/// The time between two entries of losses in the file: the shorter, the more exact is their place.
const LOSSES: Duration = Duration::from_millis(10);
/// The most records between two checks of anything else.
const BATCH: usize = 4096;

pub(crate) fn run(args: &Args) -> Result<()> {
    args.files.check()?;
    if args.every.is_zero() {
        bail!(WrongUsage("--every: more than 0".into()));
    }
    let stop = Stop::new(args.r#for)?;
    let location = find::find(&args.region)?;
    let target = Target::open(location.clone())?;
    let is_ring = target.kind() == Some(Kind::Ring) || matches!(target.layout, Layout::RingInMaps(_));
    if !is_ring {
        let sampling = Sampling { every: args.every, once: args.no_follow, stop: &stop };
        return sample::run(target, &sampling, &args.files);
    }
    drop(target);
    let from = args.from.unwrap_or(if args.no_follow { From::First } else { From::Now });
    let mut ring = Rings::open(vec![location], &args.stamp, from.start(), |sources| {
        let (description, btf) = described(&sources[0])?;
        let mut out = Output::new(&args.files)?;
        if let Some(why) = &description.no_types {
            output::note(format_args!("mapring: records are written without types: {why}"));
        }
        out.source(description, btf)?;
        Ok(out)
    })?;
    let mut recorder =
        Recorder { losses: Losses::default(), taken: Instant::now(), reported: Instant::now() };
    if !args.no_follow {
        recorder.follow(&mut ring, &stop)?;
    }
    // What is there now is recorded in any case.
    ring.present(|ring| match stop.is_interrupted() && args.no_follow {
        true => Ok(None),
        false => recorder.batch(ring).map(Some),
    })?;
    recorder.report(&mut ring)?;
    let bytes = output::bytes(ring.sink().finish()?);
    recorder.losses.conclude(ring.sink().count, &format!(", {bytes}"));
    Ok(())
}

/// What the recording says of a ring, and its BTF.
fn described(ring: &Source) -> Result<(Description, Vec<u8>)> {
    source::of(&ring.target, ring.stamp, None)
}

impl Sink for Output<'_> {
    fn take(&mut self, _: &Source, item: Item<'_>) -> Result<()> {
        self.record(&item)
    }
}

/// A recording has one ring.
type Ring<'a> = Rings<Output<'a>>;

struct Recorder {
    losses: Losses,
    /// When losses were last recorded.
    taken: Instant,
    /// When losses were last printed.
    reported: Instant,
}

impl Recorder {
    /// Records until there are no more for now; returns whether there was one.
    fn batch(&mut self, ring: &mut Ring<'_>) -> Result<bool> {
        let count = ring.read(BATCH)?;
        if self.taken.elapsed() > LOSSES {
            self.take_losses(ring)?;
        }
        if self.reported.elapsed() > CHECK_INTERVAL {
            self.report(ring)?;
        }
        ring.sink().tick()?;
        Ok(count > 0)
    }

    /// Records until it is time to stop. Continues with the ring of a restarted loader.
    fn follow(&mut self, ring: &mut Ring<'_>, stop: &Stop) -> Result<()> {
        let mut checked = Instant::now();
        while !stop.is_due() {
            let some = self.batch(ring)?;
            if checked.elapsed() > CHECK_INTERVAL {
                checked = Instant::now();
                ring.sink().update_clock()?;
                self.check_pin(ring)?;
            }
            if !some && !stop.is_due() {
                ring.wait(STEP)?;
            }
        }
        Ok(())
    }

    fn check_pin(&mut self, ring: &mut Ring<'_>) -> Result<()> {
        let pinned = ring.check_pin(0, |targets| source::of(targets[0], None, None).map(drop))?;
        let location = ring.sources()[0].target.location.clone();
        match pinned {
            Pinned::Same => {}
            Pinned::Other(next) => {
                ring.rest(|ring| self.batch(ring).map(Some))?;
                self.report(ring)?;
                ring.replace(0, next);
                ring.sink().print(format_args!(
                    "mapring: {location}: another ring is pinned there now; continuing with it"
                ));
                let (description, btf) = described(&ring.sources()[0])?;
                ring.sink().source(description, btf)?;
            }
            Pinned::Gone(e) => {
                ring.sink().print(format_args!("mapring: {e}; waiting for another ring there"))
            }
            Pinned::Unfit(e) => ring.sink().print(format_args!(
                "mapring: {location}: not continuing with the map that is pinned there now: {e:#}"
            )),
        }
        Ok(())
    }

    /// Records what was lost since the last time.
    fn take_losses(&mut self, ring: &mut Ring<'_>) -> Result<()> {
        self.taken = Instant::now();
        for loss in ring.take_losses(0) {
            ring.sink().loss(&loss)?;
            self.losses.add("", loss.shard, loss.cause.as_str(), loss.count);
        }
        Ok(())
    }

    /// Says what was lost since the last time.
    fn report(&mut self, ring: &mut Ring<'_>) -> Result<()> {
        self.take_losses(ring)?;
        self.reported = Instant::now();
        self.losses.report(|line| ring.sink().print(line));
        if let Some(e) = ring.take_error(0) {
            ring.sink().print(format_args!("mapring: {e}"));
        }
        Ok(())
    }
}
