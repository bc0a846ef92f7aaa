//! Which line a reader that has nothing to read looks at.
//!
//! The slot shows a record one transfer of a cache line earlier than `head` does. But who looks at
//! it while the record is being written takes the line away from the writer, who has to fetch it
//! back to end the record. If programs work between claim and end that costs more than it gains; if
//! they don't, it seldom happens. So a reader looks at the slot, and at `head` once it has found
//! most records half-way; now and then it tries again, seldom enough not to show in the 99th
//! percentile. Delivery does not depend on it: it only decides when a slot is looked at.

use crate::protocol::ring::Place;

/// How many more records were found half-way than whole before `head` is looked at.
const MANY: u8 = 12;
/// How many of those one outweighs that was found whole.
const WHOLE: u8 = 2;
/// Records found by `head` before the slot is tried again.
const RETRY: u8 = 200;

/// What a reader has found out of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    by_head: bool,
    seen_half_way: bool,
    half_way: u8,
    records: u8,
    next: u64,
}

impl Watch {
    /// Nothing yet, of ticket `next`.
    pub(super) fn new(next: u64) -> Self {
        Self { by_head: false, seen_half_way: false, half_way: 0, records: 0, next }
    }

    /// The ticket that is waited for.
    #[inline]
    pub(super) fn next(self) -> u64 {
        self.next
    }

    /// Whether to leave the slot alone until `head` says that its ticket has begun.
    #[inline]
    pub(super) fn by_head(self) -> bool {
        self.by_head
    }

    /// Notes that the record was seen half-way.
    #[inline(always)]
    pub(super) fn saw_half_way(&mut self) {
        self.seen_half_way = true;
    }

    /// Notes that `next` is waited for: a later ticket than last time if there were records meanwhile.
    #[inline]
    pub(super) fn waits_for(&mut self, next: u64) {
        if self.next == next {
            return;
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
    }
}

/// The slot of a shard's next ticket, and its state while nobody has claimed that ticket; or `head`,
/// which is that ticket then. Most shards of a large machine are like this most of the time: a sweep
/// over them looks at this alone, 16 bytes a shard, and at the word.
///
/// States only grow, so that one of a ticket already passed never looks quiet again; `head` may.
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

    /// Waits for `count` records, seen half-way or not where the slot is looked at. How many were
    /// looked for there.
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
        // It changes back when the programs do.
        slots(&mut watch, 200, |_| false);
        assert_eq!(slots(&mut watch, 1000, |_| false), 1000);
    }
}
