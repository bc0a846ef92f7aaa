//! A ring of one type of records.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use mapring::reading::LossCause;
use mapring::{Merged, Reader, Region, Ring, Start};

use super::super::event::Event;
use super::super::record::FlightRecord;
use super::in_order::Ahead;
use super::{DELAY, Held, NotEnded, cpu};

/// A ring of any record.
pub(super) trait Records {
    /// Adds a reader that begins at this time, as the ring with this number.
    fn join(&self, merged: Merged<'static, Ahead>, at: usize, since: u64) -> Merged<'static, Ahead>;
    /// When the ring was copied, if it is a copy.
    fn copied(&self) -> Option<u64>;
    fn scan(&self, times: Range<u64>, f: &mut dyn FnMut(&Event));
    fn written(&self) -> Vec<u64>;
    fn held(&self) -> Held;
    fn region(&self) -> Region;
}

pub(super) struct Typed<T> {
    ring: Ring<T>,
    copied: Option<u64>,
}

impl<T: FlightRecord> Typed<T> {
    pub(super) fn new(ring: Ring<T>, copied: Option<u64>) -> Self {
        Self { ring, copied }
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

impl<T: FlightRecord> Records for Typed<T> {
    fn join(&self, merged: Merged<'static, Ahead>, at: usize, since: u64) -> Merged<'static, Ahead> {
        let reader = self.reader_since(since).merged(T::ns as fn(&T) -> u64);
        let reader = if self.copied.is_some() { reader.of_the_past() } else { reader };
        merged.with(reader, move |ahead: &mut Ahead, event| {
            let (ns, group) = (event.record.ns(), &mut ahead.groups[at]);
            group.holes.see(event.shard, event.ticket, ns);
            if ns >= since {
                match event.record.event(cpu(event.shard), event.tail) {
                    Some(event) => ahead.events.push_back(event),
                    None => group.unknown += 1,
                }
            }
        })
    }

    fn copied(&self) -> Option<u64> {
        self.copied
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
