//! What a file of `save` says of its recording.

use std::fmt;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use mapring_kit::output;
use mapring_kit::text::printable;
use serde::Serialize;

use super::super::input::Input;
use super::super::machine::Machine;
use super::super::programs::Cost;
use super::super::rings::GroupRings;
use super::super::save::About;
use super::{Costs, Recording, group, per_second, triggers, written};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Saved {
    /// RFC 3339, UTC. `None` if no calendar has it.
    at: Option<String>,
    host: String,
    kernel: String,
    machine: String,
    cpus: usize,
    mapring: String,
}

impl Saved {
    fn of(about: About, at: SystemTime) -> Self {
        let Machine { host, release, machine, cpus, mapring, .. } = about.machine;
        let [host, kernel, machine, mapring] =
            [host, release, machine, mapring].map(|text| printable(&text).into_owned());
        Self { at: output::wall(at, humantime::format_rfc3339_seconds), host, kernel, machine, cpus, mapring }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, host, kernel, machine, cpus, mapring } = self;
        let at = at.as_deref().unwrap_or("an unknown time");
        write!(f, "Saved at {at} on {host} (Linux {kernel}, {machine}, {cpus} CPUs) by mapring {mapring}")
    }
}

/// What a file says: the events per second are those since the start, and nothing is known of costs.
pub(super) fn recording(input: Input) -> Result<Recording> {
    let Input { mut rings, names, stop, saved, .. } = input;
    let about = saved.context("not a file")?;
    let marks: u64 = rings.extract_if(.., |ring| !ring.is_of_events()).map(|ring| ring.bytes()).sum();
    let wall = names.machine().wall();
    let at = wall.at(about.until).unwrap_or(SystemTime::UNIX_EPOCH);
    let whole = at.duration_since(about.since()).unwrap_or_default();
    let end = stop.and_then(|stop| stop.end()).map_or(about.until, |end| end.min(about.until));
    let ended = Duration::from_nanos(about.until - end);
    let mut groups = Vec::new();
    for (ring, events) in rings.iter().zip(written(&rings)) {
        let rate = per_second(events, whole.max(Duration::from_nanos(1)));
        let mut group = group(ring, events, rate, Cost::default(), None, end);
        if group.since_start {
            group.history_seconds = whole.saturating_sub(ended).as_secs_f64();
        }
        groups.push(group);
    }
    let none = Costs::new();
    let (triggers, stopped) =
        triggers(about.triggers.clone(), stop, &groups, &(&none, &none), about.until, &wall);
    Ok(Recording {
        since: output::wall(about.since(), humantime::format_rfc3339_seconds),
        seconds: whole.as_secs_f64(),
        loader: None,
        not_sampled: None,
        memory: marks + rings.iter().map(GroupRings::bytes).sum::<u64>(),
        cpu_percent: None,
        measured_ns_per_event: about.cost,
        groups,
        triggers,
        stopped,
        costs_unknown: Some("a file does not have them".to_owned()),
        saved: Some(Saved::of(about, at)),
    })
}
