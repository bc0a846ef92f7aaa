//! A ring of one type of records: its events in order, and what is missing between them.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use mapring::reading::{ByTime, LossCause};
use mapring::time::Clock;
use mapring::{Loss, Reader, Region, Ring, Start};

use super::super::event::{Event, Gap};
use super::super::holes::Holes;
use super::super::record::FlightRecord;
use super::{DELAY, Held, NotEnded};

/// A ring of any record.
pub(super) trait Records {
    /// Calls `f` with up to `limit` events, in order.
    fn read(&mut self, limit: usize, f: &mut dyn FnMut(Event));
    fn since(&mut self, ns: u64);
    /// Changes if it has read something.
    fn position(&self) -> u64;
    fn scan(&self, times: Range<u64>, f: &mut dyn FnMut(&Event));
    /// `is_last`: no more events are read.
    fn gaps(&mut self, group: &'static str, is_last: bool, gaps: &mut Vec<Gap>);
    fn unended(&mut self) -> NotEnded;
    fn written(&self) -> Vec<u64>;
    fn held(&self) -> Held;
    fn region(&self) -> Region;
}

pub(super) type Stamp<T> = fn(&T) -> u64;

pub(super) struct Typed<T> {
    ring: Ring<T>,
    reader: Reader<T, ByTime<T, Stamp<T>>>,
    /// Earlier events are left out.
    since: u64,
    /// Records that this version does not know.
    unknown: u64,
    holes: Holes,
    /// Losses of tickets that the reader has not come to yet: it holds some records.
    losses: Vec<Loss>,
    /// When the ring was copied, if it is a copy.
    copied: Option<u64>,
}

impl<T: FlightRecord> Typed<T> {
    pub(super) fn new(ring: Ring<T>, copied: Option<u64>) -> Self {
        let reader = Self::in_order(ring.reader(), copied);
        let holes = Holes::new(ring.shards());
        Self { ring, reader, since: 0, unknown: 0, holes, losses: Vec::new(), copied }
    }

    fn in_order(reader: Reader<T>, copied: Option<u64>) -> Reader<T, ByTime<T, Stamp<T>>> {
        let reader = reader.merged(T::ns as Stamp<T>);
        if copied.is_some() { reader.of_the_past() } else { reader }
    }

    fn unordered(&self) -> Reader<T> {
        let reader = self.ring.reader();
        // Nothing ends in a copy.
        if self.copied.is_some() { reader.with_patience(Duration::ZERO) } else { reader }
    }

    /// A reader that begins with the events of this time. A program may be interrupted between a record and its stamp, so it
    /// begins a bit earlier.
    fn reader_since(&self, ns: u64) -> Reader<T> {
        let mut reader = self.unordered();
        let reserved = ns.saturating_sub(u64::try_from(DELAY.as_nanos()).unwrap_or(u64::MAX));
        if reserved > 0 {
            reader.skip_before(reserved, T::ns);
        }
        reader
    }

    /// Calls `f` with all that is present. Waits for records that are being written.
    fn each(&self, reader: &mut Reader<T>, mut f: impl FnMut(mapring::Event<&T, &[u8]>)) {
        let end = self.ring.reader_from(Start::Now);
        let has_passed =
            |reader: &Reader<T>| end.shards().all(|shard| reader.position(shard) >= end.position(shard));
        let geometry = reader.region().geometry();
        // A call stops early after many tickets in a row without a record. A ring has no more of these than slots.
        let mut calls = geometry.shards() * (geometry.capacity() / Reader::<T>::STEPS_BY_CALL as usize + 1);
        // A record that is not ended holds others back for the reader's patience. In a copy, nothing ends any more.
        let mut waits = if self.copied.is_some() { 1 } else { 1000 };
        while calls > 0 {
            reader.for_each(usize::MAX, &mut f);
            if has_passed(reader) {
                break;
            }
            if reader.stopped_early() {
                calls -= 1;
            } else {
                waits -= 1;
                if waits == 0 {
                    break;
                }
                let _ = reader.wait(Duration::from_millis(1)); // naps, as it has no bell
            }
        }
    }
}

/// No machine has as many.
fn cpu(shard: usize) -> u16 {
    u16::try_from(shard).unwrap_or(u16::MAX)
}

impl<T: FlightRecord> Records for Typed<T> {
    fn read(&mut self, limit: usize, f: &mut dyn FnMut(Event)) {
        let Self { reader, since, unknown, holes, .. } = self;
        reader.for_each(limit, |event| {
            let ns = event.record.ns();
            holes.see(event.shard, event.ticket, ns);
            if ns >= *since {
                match event.record.event(cpu(event.shard), event.tail) {
                    Some(event) => f(event),
                    None => *unknown += 1,
                }
            }
        });
    }

    fn since(&mut self, ns: u64) {
        self.since = ns;
        self.reader = Self::in_order(self.reader_since(ns), self.copied);
    }

    fn position(&self) -> u64 {
        let reader = &self.reader;
        reader.shards().filter_map(|shard| reader.position(shard)).fold(0, u64::wrapping_add)
    }

    fn scan(&self, times: Range<u64>, f: &mut dyn FnMut(&Event)) {
        self.each(&mut self.reader_since(times.start), |event| {
            if times.contains(&event.record.ns())
                && let Some(event) = event.record.event(cpu(event.shard), event.tail)
            {
                f(&event);
            }
        });
    }

    /// Records that were overwritten before the first one that was read are no gap: the history is shorter. Later ones are
    /// missing between two records, without those that are not lost: stepped over, or discarded. Those that programs dropped have
    /// no place among the tickets.
    fn gaps(&mut self, group: &'static str, is_last: bool, gaps: &mut Vec<Gap>) {
        let Self { reader, losses, holes, copied, .. } = self;
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

    fn unended(&mut self) -> NotEnded {
        NotEnded { stepped_over: self.reader.stats().stepped_over, records: self.reader.unended() }
    }

    fn written(&self) -> Vec<u64> {
        let now = self.ring.reader_from(Start::Now);
        (0..self.ring.shards()).map(|shard| now.position(shard).unwrap_or(0)).collect()
    }

    fn held(&self) -> Held {
        let mut held = Held::default();
        let mut seen = vec![false; self.ring.shards()];
        let mut reader = self.unordered();
        self.each(&mut reader, |event| {
            let ns = event.record.ns();
            held.records += 1;
            held.cut += u64::from(event.record.is_cut());
            let span = held.span.get_or_insert(ns..ns);
            *span = span.start.min(ns)..span.end.max(ns);
            if !mem::replace(&mut seen[event.shard], true) && event.ticket > 0 {
                held.complete = held.complete.max(Some(ns));
            }
        });
        // Overwritten, perhaps while this reader looked: history moved on, as always.
        let is_older = |cause| matches!(cause, LossCause::Lapped | LossCause::TailLost);
        for loss in reader.take_losses().into_iter().filter(|loss| !is_older(loss.cause)) {
            held.lost.push((loss.cause.to_string(), loss.count));
        }
        held.unended = NotEnded { stepped_over: reader.stats().stepped_over, records: reader.unended() };
        held
    }

    fn region(&self) -> Region {
        self.ring.region()
    }
}
