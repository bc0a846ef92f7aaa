//! The events of several groups in the order of their stamps, and what is missing between them.

use std::collections::VecDeque;
use std::mem;

use mapring::any::AnyReader;
use mapring::time::Clock;
use mapring::{Loss, Merged};

use super::super::event::{Event, Gap};
use super::super::holes::Holes;
use super::{GroupRings, NotEnded, cpu};

/// Reads the events of several groups in the order of their stamps. Holds a few of each.
pub(crate) struct InOrder {
    merged: Merged<'static, Ahead>,
    ahead: Ahead,
    gaps: Vec<Gap>,
    /// No ring has more calls' worth of slots without an event. A forged one could let its reader move on for good.
    calls: usize,
    /// The reader found nothing more.
    is_dry: bool,
}

/// What was read and not taken yet.
pub(super) struct Ahead {
    pub(super) events: VecDeque<Event>,
    pub(super) groups: Vec<Read>,
}

/// What was read of a group.
pub(super) struct Read {
    name: &'static str,
    pub(super) holes: Holes,
    /// Records that this version does not know.
    pub(super) unknown: u64,
    /// Losses of tickets that the reader has not come to yet: it holds some records.
    losses: Vec<Loss>,
    /// When the ring was copied, if it is a copy.
    copied: Option<u64>,
}

impl InOrder {
    /// So many events are read at once.
    const BATCH: usize = 256;

    /// Begins at this time, and leaves out earlier events.
    pub(crate) fn since(rings: &[GroupRings], ns: u64) -> Self {
        let mut merged = Merged::new(Clock::Monotonic);
        for (at, ring) in rings.iter().enumerate() {
            merged = ring.records.join(merged, at, ns);
        }
        let group = |ring: &GroupRings| Read {
            name: ring.name(),
            holes: Holes::new(ring.region().geometry().shards()),
            unknown: 0,
            losses: Vec::new(),
            copied: ring.records.copied(),
        };
        let calls =
            rings.iter().map(|ring| ring.region().geometry().shards() * (ring.slots() / 64 + 1)).sum();
        let ahead = Ahead { events: VecDeque::new(), groups: rings.iter().map(group).collect() };
        Self { merged, ahead, gaps: Vec::new(), calls, is_dry: false }
    }

    /// The next event, if it is earlier than `until`. `None`: there is none up to now; after [`retry`](Self::retry)
    /// there may be one.
    pub(crate) fn next(&mut self, until: u64) -> Option<Event> {
        let mut calls = self.calls;
        while self.ahead.events.is_empty() && !self.is_dry {
            let found = self.merged.for_each(&mut self.ahead, Self::BATCH);
            // A reader may also stop where many records are missing, and go on in the next call.
            calls = calls.saturating_sub(1);
            self.is_dry = found == 0 && !self.merged.stopped_early() || calls == 0;
            self.find_gaps(false);
        }
        let is_due = self.ahead.events.front().is_some_and(|event| event.ns < until);
        if is_due { self.ahead.events.pop_front() } else { None }
    }

    /// Lets [`next`](Self::next) look for events that came after it found none.
    pub(crate) fn retry(&mut self) {
        self.is_dry = false;
    }

    /// The records that were lost, up to the events that [`next`](Self::next) has looked at: overwritten before it came to them, or
    /// dropped.
    pub(crate) fn take_gaps(&mut self) -> Vec<Gap> {
        mem::take(&mut self.gaps)
    }

    /// The same, after the last event.
    pub(crate) fn take_last_gaps(&mut self) -> Vec<Gap> {
        self.find_gaps(true);
        self.take_gaps()
    }

    /// What the events that [`next`](Self::next) has looked at show of records that are not ended: lines for people.
    pub(crate) fn not_ended(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, group) in self.ahead.groups.iter().enumerate() {
            let stepped_over = self.merged.reader(at).stats().stepped_over;
            let records = self.merged.reader_mut(at).unended();
            lines.extend(NotEnded { stepped_over, records }.lines(group.name));
        }
        lines
    }

    fn find_gaps(&mut self, is_last: bool) {
        for (at, group) in self.ahead.groups.iter_mut().enumerate() {
            group.find_gaps(self.merged.reader_mut(at), is_last, &mut self.gaps);
        }
    }

    /// The counts of a group's reader.
    #[cfg(test)]
    pub(super) fn stats(&self, at: usize) -> mapring::ReadStats {
        self.merged.reader(at).stats()
    }
}

impl Read {
    /// Records that were overwritten before the first one that was read are no gap: the history is shorter. Later ones are
    /// missing between two records, without those that are not lost: stepped over, or discarded. Those that programs dropped have
    /// no place among the tickets.
    fn find_gaps(&mut self, reader: &mut dyn AnyReader, is_last: bool, gaps: &mut Vec<Gap>) {
        let Self { name: group, losses, holes, copied, .. } = self;
        losses.extend(reader.take_losses());
        for loss in losses.iter().filter(|loss| loss.cause.is_drop()) {
            gaps.push(Gap {
                group,
                cpu: cpu(loss.shard.unwrap_or(0)),
                count: loss.count,
                cause: loss.cause.to_string(),
                // The clock of this machine says nothing of a copy.
                since: loss.since.filter(|_| copied.is_none()),
                until: copied.unwrap_or(loss.until),
            });
        }
        for hole in holes.take(is_last) {
            for (cause, count) in hole.lost(losses) {
                gaps.push(Gap {
                    group,
                    cpu: cpu(hole.shard),
                    count,
                    cause: cause.to_string(),
                    since: Some(hole.times.start),
                    until: hole.times.end,
                });
            }
        }
        losses.retain(|loss| holes.is_ahead(loss));
        let unknown = mem::take(&mut self.unknown);
        if unknown > 0 {
            let until = self.copied.unwrap_or_else(|| Clock::Monotonic.now());
            let cause = "of a newer version of mapring".to_owned();
            gaps.push(Gap { group, cpu: 0, count: unknown, cause, since: None, until });
        }
    }
}
