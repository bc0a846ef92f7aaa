//! Chooses the cache line that a reader without records polls.
//!
//! The slot shows a record one transfer of a cache line earlier than `head` does. But a reader that loads the slot
//! while the record is being written takes the line away from the writer, which has to fetch it back to end the record.
//! If programs take long between claim and end, this costs more than it gains; otherwise it seldom happens. So a reader
//! polls the slot. Once it has found most records halfway, it polls `head`. Now and then it tries the slot again,
//! seldom enough not to show in the 99th percentile. Delivery does not depend on this choice: it only decides when a
//! slot is loaded.

use crate::protocol::ring::Place;

/// How many more records must be found halfway than whole before the reader polls `head`.
const MANY: u8 = 12;
/// One record found whole offsets this number of records found halfway.
const WHOLE: u8 = 2;
/// Records found by `head` before the reader tries the slot again.
const RETRY: u8 = 200;

/// What a reader has measured in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    by_head: bool,
    seen_half_way: bool,
    half_way: u8,
    records: u8,
    next: u64,
}

impl Watch {
    /// A watch without measurements, at ticket `next`.
    pub(super) fn new(next: u64) -> Self {
        Self { by_head: false, seen_half_way: false, half_way: 0, records: 0, next }
    }

    /// The ticket for which the reader waits.
    #[inline]
    pub(super) fn next(self) -> u64 {
        self.next
    }

    /// Whether to leave the slot alone until `head` shows that its ticket was claimed.
    #[inline]
    pub(super) fn by_head(self) -> bool {
        self.by_head
    }

    /// Notes that the record was found halfway.
    #[inline(always)]
    pub(super) fn saw_half_way(&mut self) {
        self.seen_half_way = true;
    }

    /// Notes that the reader waits for `next`. Returns whether this is another ticket than last time: then it found
    /// records meanwhile.
    #[inline]
    pub(super) fn waits_for(&mut self, next: u64) -> bool {
        if self.next == next {
            return false;
        }
        self.next = next;
        let half_way = core::mem::take(&mut self.seen_half_way);
        if self.by_head {
            self.records += 1;
            self.by_head = self.records < RETRY;
        } else if half_way {
            self.half_way = MANY.min(self.half_way + 1);
            (self.by_head, self.records) = (self.half_way == MANY, 0);
        } else {
            self.half_way = self.half_way.saturating_sub(WHOLE);
        }
        true
    }
}

/// The slot of a shard's next ticket, with its state while that ticket is not claimed; or `head`, which then is that
/// ticket. On a large machine most shards are in this state most of the time: a sweep over them loads only this, 16
/// bytes per shard, and the word.
///
/// States only grow, so a slot whose ticket was passed never looks quiet again; `head` may.
#[derive(Clone, Copy)]
pub(super) struct Quiet {
    pub(super) word: usize,
    pub(super) free: u64,
}

impl Quiet {
    #[inline]
    pub(super) fn new(place: &Place, watch: &Watch) -> Self {
        let next = watch.next();
        if watch.by_head() {
            return Self { word: place.head(), free: next };
        }
        Self { word: place.seq(next), free: place.slots().free(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for `count` records, each seen halfway or not while the slot is polled. Returns how many records were
    /// found there.
    fn slots(watch: &mut Watch, count: u32, half_way: impl Fn(u32) -> bool) -> usize {
        let record = |i: &u32| {
            let by_head = watch.by_head();
            if half_way(*i) {
                watch.saw_half_way();
            }
            watch.waits_for(watch.next);
            watch.waits_for(watch.next + 1);
            !by_head
        };
        (0..count).filter(record).count()
    }

    #[test]
    fn records_that_are_mostly_found_whole_are_looked_for_in_their_slots() {
        assert_eq!(slots(&mut Watch::new(0), 1000, |i| i % 2 == 0), 1000);
    }

    #[test]
    fn records_that_are_found_half_way_are_looked_for_by_head_and_seldom_in_their_slots() {
        let mut watch = Watch::new(0);
        assert_eq!(slots(&mut watch, 12, |_| true), 12);
        assert_eq!(slots(&mut watch, 201 * 10, |_| true), 10);
        // It changes back when the programs change.
        slots(&mut watch, 200, |_| false);
        assert_eq!(slots(&mut watch, 1000, |_| false), 1000);
    }
}
