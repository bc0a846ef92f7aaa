//! Reads recorded events once, in the order of time, and hands them to a sink: a trace, or a report.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use mapring_kit::output;

use crate::event::Gap;
use crate::input::Input;
use crate::names::{Names, Older, Threads};
use crate::rings::{GroupRings, InOrder};
use crate::trace::Sink;

/// Up to when, and since when, events are of interest.
pub(crate) struct Period {
    pub(crate) times: Range<u64>,
    /// When something stopped the recording, and what, if it has.
    pub(crate) zero: Option<u64>,
    pub(crate) cause: Option<String>,
}

impl Period {
    /// The time up to now, or up to the end of the recording; `last` before now, or before what stopped it.
    pub(crate) fn of(input: &Input, last: Option<Duration>) -> Self {
        let stop = input.stop.filter(|stop| stop.end().is_some());
        let (zero, end) = (stop.and_then(|stop| stop.zero()), stop.and_then(|stop| stop.end()));
        let now = input.present();
        let now = end.map_or(now, |end| now.min(end.saturating_add(1)));
        let since = last.map_or(0, |last| before(zero.unwrap_or(now), last));
        let cause = || stop?.cause(&input.names.machine().wall());
        Self { times: since..now, zero, cause: cause() }
    }
}

/// This long before `ns`.
pub(crate) fn before(ns: u64, time: Duration) -> u64 {
    ns.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Events of this time before the first one still show names: of the threads that ran already, mostly. What runs for longer
/// without a switch, and has ended since, has no name.
const NAMES: Duration = Duration::from_secs(1);

/// Learns the names of the threads between these times, also from the events a little earlier.
pub(crate) fn learn(names: &mut Names, rings: &[GroupRings], times: Range<u64>) -> Vec<Older> {
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
pub(crate) struct Written {
    pub(crate) count: usize,
    /// From the first event to the last, in nanoseconds.
    pub(crate) span: u64,
    pub(crate) losses: Losses,
}

/// Writes the events between these times. Holds only a few of them.
pub(crate) fn write(
    sink: &mut dyn Sink,
    names: &mut Names,
    rings: &[GroupRings],
    times: Range<u64>,
) -> Result<Written> {
    let mut progress = output::Progress::default();
    let mut written = Written::default();
    let mut events = InOrder::since(rings, times.start);
    let mut first = None;
    while let Some(event) = events.next(times.end) {
        written.losses.write(events.take_gaps(), times.start, sink)?;
        names.at(&event);
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
pub(crate) struct Losses {
    /// How many are lost, by group and cause.
    lost: BTreeMap<(&'static str, String), u64>,
    /// Those that are not ended, in words.
    pub(crate) not_ended: Vec<String>,
}

impl Losses {
    /// Writes gaps that ended at this time or later, and counts them.
    pub(crate) fn write(&mut self, gaps: Vec<Gap>, since: u64, sink: &mut dyn Sink) -> Result<()> {
        for gap in gaps.into_iter().filter(|gap| gap.until >= since) {
            sink.gap(&gap)?;
            let total = self.lost.entry((gap.group, gap.cause)).or_default();
            *total = total.saturating_add(gap.count);
        }
        Ok(())
    }

    pub(crate) fn report(&self) {
        for ((group, cause), count) in &self.lost {
            eprintln!("mapring: {count} records of {group} are lost: {}", cause.escape_debug());
        }
        self.not_ended.iter().for_each(|line| output::note(format_args!("mapring: {line}")));
    }
}
