//! Shows what is recorded, what it costs, and how much history the rings hold.

mod saved;
mod text;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use mapring::liveness::{Unended, is_alive};
use mapring::time::Clock;
use mapring_kit::text::{one_line, printable, printable_path};
use mapring_kit::{exit, output};
use serde::Serialize;

use crate::input::{From, Input};
use crate::machine::{Machine, Wall};
use crate::programs::{Cost, Programs};
use crate::recording::Recording as Pins;
use crate::rings::{self, GroupRings};
use crate::stopped::{self, Stop};
use crate::{pins, programs, sampling};

/// Options of `mapring flight status`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: From,
}

/// How long events are counted.
const SAMPLE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Status {
    running: bool,
    /// A command changes pins, or was killed meanwhile.
    unfinished: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<Recording>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Recording {
    /// RFC 3339, UTC. `None` if no calendar has it.
    since: Option<String>,
    seconds: f64,
    loader: Option<Loader>,
    memory: u64,
    /// Of one CPU, as the kernel measured. `None` without privilege.
    cpu_percent: Option<f64>,
    /// What an event cost when the recording started, as measured. `None` if it was not measurable.
    measured_ns_per_event: Option<f64>,
    groups: Vec<Group>,
    /// CPUs that are online and not sampled. `None` if none is, or this user may not see it.
    not_sampled: Option<Vec<usize>>,
    /// What stops the recording.
    triggers: Vec<Trigger>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
    /// Why the costs are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    costs_unknown: Option<String>,
    /// It is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<saved::Saved>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Loader {
    pid: u32,
    alive: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Trigger {
    trigger: String,
    /// How often it was met since the start, or the last `resume`.
    met: u64,
    /// Of the programs that find it, by the kernel's statistics: with their records, if they record. `None` if there was no event.
    ns_per_event: Option<f64>,
}

/// A record that was reserved and not ended.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NotEnded {
    shard: usize,
    ticket: u64,
    noticed_seconds_ago: f64,
}

/// The end of the recording.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stopped {
    /// In words.
    by: String,
    /// As it was written at the start. `None`: by hand.
    trigger: Option<String>,
    ns: u64,
    cpu: u32,
    pid: u32,
    tid: u32,
    thread: String,
    /// What is recorded after that.
    after_seconds: f64,
    /// Still recording: the time after the trigger is not over.
    recording: bool,
    /// How far back from the end all records of this group are present: of the trigger's, or of the one that kept least.
    history_of: Option<&'static str>,
    history_seconds: f64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Group {
    group: &'static str,
    events: u64,
    events_per_second: f64,
    /// By the kernel's statistics, programs and records together. `None` if there was no event.
    ns_per_event: Option<f64>,
    memory: u64,
    slots_per_cpu: usize,
    records: u64,
    /// How far back from now all records of all CPUs are present.
    history_seconds: f64,
    /// Nothing was overwritten yet.
    since_start: bool,
    oldest_ns: Option<u64>,
    newest_ns: Option<u64>,
    lost: BTreeMap<String, u64>,
    /// Of the records, those with stacks whose outer frames are missing.
    cut_stacks: u64,
    /// Tickets without a record, which programs stepped over: not lost.
    stepped_over: u64,
    /// Records that were reserved and not ended.
    unended: Vec<NotEnded>,
    /// The same in words.
    #[serde(skip)]
    not_ended: Vec<String>,
    /// The attached programs. `None` without privilege.
    programs: Option<Vec<String>>,
}

/// Shows the state of the recorder. The exit code says whether it runs.
///
/// # Errors
/// Pins that this process may not read.
pub(crate) fn run(dir: &Path, args: &Args) -> Result<ExitCode> {
    if let Some(file) = &args.from.from {
        let recording = saved::recording(Input::open(dir, Some(file))?)?;
        let text = if args.json { serde_json::to_string(&recording)? } else { recording.text() };
        writeln!(io::stdout(), "{text}").context("stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    let pins = Pins::find(dir)?;
    let mut rings = pins.as_ref().map_or(Ok(Vec::new()), rings::open)?;
    let marks: Vec<_> = rings.extract_if(.., |ring| !ring.is_of_events()).collect();
    let pins = pins.filter(|_| !rings.is_empty());
    let recording = pins.map(|pins| self::recording(&pins, &rings, &marks)).transpose()?;
    let code = if recording.is_some() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) };
    let unfinished = pins::lock(dir).exists();
    let at = printable_path(dir);
    let status = Status { running: recording.is_some(), unfinished, recording };
    let text = match &status.recording {
        _ if args.json => serde_json::to_string(&status)?,
        Some(recording) => recording.text(),
        None if unfinished => match pins::is_at_work(dir) {
            Some(true) => format!("A `start` or `stop` is at work at {at}."),
            Some(false) => format!(
                "A `start` or `stop` at {at} was killed. Programs may still run: `mapring flight stop` removes them."
            ),
            None => format!(
                "A `start` or `stop` is at work at {at}, or was killed: then `mapring flight stop` removes its pins."
            ),
        },
        None => format!("Nothing is recorded at {at}."),
    };
    writeln!(io::stdout(), "{text}").context("stdout")?;
    Ok(code)
}

fn recording(pins: &Pins, rings: &[GroupRings], marks: &[GroupRings]) -> Result<Recording> {
    let since = pins.since()?;
    let programs = Programs::attached(pins);
    let statistics = match &programs {
        Ok(_) => programs::enable_statistics(),
        Err(error) if error.is::<exit::Refused>() => Err("only root can read them".to_owned()),
        Err(error) => Err(one_line(error)),
    };
    let costs = || programs.as_ref().map(Programs::costs).unwrap_or_default();
    let (written, before, start) = (written(rings), costs(), Instant::now());
    let is_over = |stop: Stop| stop.end().is_some_and(|end| end <= Clock::Monotonic.now());
    let has_stopped = stopped::read(pins)?.is_some_and(is_over);
    if !has_stopped {
        thread::sleep(SAMPLE);
    }
    let (now, after, sampled) = (self::written(rings), costs(), start.elapsed());

    let stop = stopped::read(pins)?;
    // What is kept ends there.
    let now_ns = Clock::Monotonic.now();
    let end = stop.and_then(|stop| stop.end()).map_or(now_ns, |end| end.min(now_ns));
    let ended = Duration::from_nanos(now_ns - end).as_secs_f64();
    let seconds = SystemTime::now().duration_since(since).unwrap_or_default().as_secs_f64();
    let mut groups = Vec::new();
    for (at, ring) in rings.iter().enumerate() {
        let [before, after] =
            [&before, &after].map(|costs| costs.get(ring.name()).copied().unwrap_or_default());
        let names = programs.as_ref().ok().map(|programs| programs.names(ring.name()));
        let rate = per_second(now[at].wrapping_sub(written[at]), sampled);
        let mut group = group(ring, now[at], rate, after - before, names, end);
        if group.since_start {
            group.history_seconds = (seconds - ended).max(0.0);
        }
        groups.push(group);
    }
    let (kept, wall) = (pins.triggers(), Machine::here().wall());
    let (triggers, stopped) = triggers(kept, stop, &groups, &(&before, &after), now_ns, &wall);
    let busy = after.values().map(|cost| cost.time).sum::<Duration>();
    let busy = busy.saturating_sub(before.values().map(|cost| cost.time).sum());
    Ok(Recording {
        since: output::wall(since, humantime::format_rfc3339_seconds),
        seconds,
        loader: rings[0].loader().map(|loader| Loader { pid: loader.pid, alive: is_alive(loader) }),
        memory: marks.iter().chain(rings).map(GroupRings::bytes).sum(),
        cpu_percent: (statistics.is_ok() && !has_stopped)
            .then(|| 100.0 * busy.as_secs_f64() / sampled.as_secs_f64()),
        measured_ns_per_event: pins.cost(),
        groups,
        not_sampled: marks.first().and_then(|marks| sampling::missing(pins, marks)),
        triggers,
        stopped,
        costs_unknown: statistics
            .err()
            .or_else(|| has_stopped.then(|| "it has stopped, and is not measured".to_owned())),
        saved: None,
    })
}

type Costs<'p> = BTreeMap<&'p str, Cost>;

/// The triggers, and which of them has stopped the recording.
fn triggers(
    kept: Option<String>,
    stop: Option<Stop>,
    groups: &[Group],
    (before, after): &(&Costs<'_>, &Costs<'_>),
    now: u64,
    wall: &Wall,
) -> (Vec<Trigger>, Option<Stopped>) {
    let kept = kept.unwrap_or_default();
    let kept: Vec<_> = kept.lines().skip(1).map(|line| printable(line).into_owned()).collect();
    let cost = |trigger: &str| {
        let parsed = super::triggers::parse(trigger).ok()?;
        let group = parsed.kind.programs.first()?.split('_').next()?;
        let [before, after] = [before, after].map(|costs| costs.get(group).copied().unwrap_or_default());
        (after - before).ns_per_run()
    };
    let met = |at: usize| stop.and_then(|stop| stop.met.get(at).copied()).unwrap_or(0);
    let all = kept.iter().enumerate();
    let all = all.map(|(at, trigger)| Trigger {
        trigger: trigger.clone(),
        met: met(at),
        ns_per_event: cost(trigger),
    });
    let stopped = || {
        let (stop, by) = (stop?, stop?.cause(wall)?);
        let condition =
            usize::try_from(stop.condition).ok().filter(|_| super::triggers::kind(stop.kind).is_some());
        // The programs that find a trigger have the name of their group.
        let finders = super::triggers::kind(stop.kind).map_or(&[][..], |kind| kind.programs);
        let finds = |group: &&Group| finders.iter().any(|name| name.split('_').next() == Some(group.group));
        let least = || groups.iter().min_by(|a, b| a.history_seconds.total_cmp(&b.history_seconds));
        let of = groups.iter().find(finds).or_else(least);
        Some(Stopped {
            by,
            trigger: condition.and_then(|at| kept.get(at).cloned()),
            ns: stop.zero()?,
            cpu: stop.cpu,
            pid: stop.pid,
            tid: stop.tid,
            thread: stop.thread(),
            after_seconds: stop.after().as_secs_f64(),
            recording: stop.end()? > now,
            history_of: of.map(|group| group.group),
            history_seconds: of.map_or(0.0, |group| group.history_seconds),
        })
    };
    (all.collect(), stopped())
}

fn group(
    ring: &GroupRings,
    events: u64,
    events_per_second: f64,
    cost: Cost,
    programs: Option<Vec<String>>,
    end: u64,
) -> Group {
    let held = ring.held();
    let [oldest_ns, newest_ns] = [held.span.as_ref().map(|s| s.start), held.span.as_ref().map(|s| s.end)];
    let complete = held.complete.map_or(0, |ns| end.saturating_sub(ns));
    let mut lost: BTreeMap<_, _> = held.lost.into_iter().collect();
    if cost.missed > 0 {
        lost.insert("its program was running already (preempted or interrupted)".to_owned(), cost.missed);
    }
    Group {
        group: ring.name(),
        events,
        events_per_second,
        ns_per_event: cost.ns_per_run(),
        memory: ring.bytes(),
        slots_per_cpu: ring.slots(),
        records: held.records,
        history_seconds: Duration::from_nanos(complete).as_secs_f64(),
        since_start: held.complete.is_none(),
        oldest_ns,
        newest_ns,
        lost,
        cut_stacks: held.cut,
        stepped_over: held.unended.stepped_over,
        unended: held.unended.records.iter().map(NotEnded::from).collect(),
        not_ended: held.unended.lines(ring.name()).collect(),
        programs,
    }
}

impl std::convert::From<&Unended> for NotEnded {
    fn from(unended: &Unended) -> Self {
        let &Unended { shard, ticket, noticed, .. } = unended;
        Self { shard, ticket, noticed_seconds_ago: noticed.as_secs_f64() }
    }
}

fn written(rings: &[GroupRings]) -> Vec<u64> {
    rings.iter().map(|ring| ring.written().into_iter().fold(0, u64::wrapping_add)).collect() // forged ones wrap
}

#[allow(clippy::cast_precision_loss)] // a rate is shown with a few digits
fn per_second(count: u64, time: Duration) -> f64 {
    if count == 0 { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_has_a_schema() {
        crate::schema::check::<Status>("mapring flight status --json", "flight-status.schema.json");
    }
}
