//! Puts the records that were read in the order of their stamps: two shards by comparing them, more by a tree.

use super::OPEN;
use super::tree::{NONE, Tree};

/// The records of a shard that were read and not taken yet, sorted by stamp.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// The place of the first one, and the place after the last.
    pub(super) first: usize,
    pub(super) end: usize,
    /// No record that was not read yet has an earlier stamp.
    pub(super) floor: u64,
    /// Whether there is nothing more to read in this round.
    pub(super) done: bool,
}

impl Run {
    /// Whether more must be read before a record of any shard can be taken.
    pub(super) fn must_fill(&self) -> bool {
        !self.done && self.end - self.first <= OPEN + 1
    }

    /// How many records can be taken before more must be read.
    fn ready(&self) -> usize {
        let len = self.end - self.first;
        if self.done { len } else { len.saturating_sub(OPEN + 1) }
    }

    /// All but [`OPEN`] of the records that were read have earlier stamps than those that were not read yet.
    pub(super) fn raise_floor(&mut self, stamps: &[u64]) {
        if self.end - self.first > OPEN {
            self.floor = self.floor.max(stamps[self.end - OPEN - 1]);
        }
    }

    /// The earliest stamp.
    #[inline(always)]
    pub(super) fn stamp(&self, stamps: &[u64]) -> u64 {
        if self.first == self.end { NONE } else { stamps[self.first] }
    }
}

/// The runs of all shards, of which no record must be read before the next one is taken.
pub(super) struct Order<'m> {
    pub(super) runs: &'m mut [Run],
    pub(super) stamps: &'m [u64],
    pub(super) tree: &'m mut Tree,
    /// Records with earlier stamps can be taken.
    pub(super) limit: u64,
    /// The latest stamp that was taken.
    pub(super) last: &'m mut u64,
}

impl Order<'_> {
    /// Calls `take` with the places of up to `most` records in order, and whether the record is late. Ends where more
    /// must be read. Returns how many.
    #[inline(always)]
    pub(super) fn take(self, most: usize, take: impl FnMut(usize, bool)) -> usize {
        match self.runs {
            [a, b] => two(
                Two { next: [a.first, b.first], runs: [a, b], latest: *self.last, last: self.last },
                self.stamps,
                self.limit,
                most,
                take,
            ),
            _ => self.many(most, take),
        }
    }

    #[inline(always)]
    fn many(self, most: usize, mut take: impl FnMut(usize, bool)) -> usize {
        for count in 0..most {
            let (stamp, at) = self.tree.winner();
            if stamp >= self.limit || self.runs[at].must_fill() {
                return count;
            }
            // First the state: nothing is taken twice if `take` panics.
            let run = &mut self.runs[at];
            let place = run.first;
            run.first += 1;
            self.tree.replace_winner(run.stamp(self.stamps));
            let late = stamp < *self.last;
            *self.last = stamp.max(*self.last);
            take(place, late);
        }
        most
    }
}

/// Two runs. Dropping this stores what was taken, also after a panic.
struct Two<'m> {
    runs: [&'m mut Run; 2],
    next: [usize; 2],
    latest: u64,
    last: &'m mut u64,
}

impl Drop for Two<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        (self.runs[0].first, self.runs[1].first, *self.last) = (self.next[0], self.next[1], self.latest);
    }
}

#[inline(always)]
fn two(
    mut two: Two<'_>,
    stamps: &[u64],
    limit: u64,
    most: usize,
    mut take: impl FnMut(usize, bool),
) -> usize {
    // Up to the first stamp that is not earlier than the limit, or to where more must be read.
    let [(a_stamps, a_more), (b_stamps, b_more)] = two.runs.each_ref().map(|run| {
        let ready = &stamps[run.first..run.first + run.ready()];
        match ready.last() {
            Some(last) if *last >= limit => (&ready[..ready.partition_point(|stamp| *stamp < limit)], false),
            _ => (ready, !run.done),
        }
    });
    let [a_first, b_first] = two.next;
    let (mut a, mut b, mut left) = (0, 0, most);
    while left > 0 && a < a_stamps.len() && b < b_stamps.len() {
        let (of_a, of_b) = (a_stamps[a], b_stamps[b]);
        // Without a branch, which the CPU could not predict.
        let second = of_b < of_a;
        let place = std::hint::select_unpredictable(second, b_first + b, a_first + a);
        (a, b, left) = (a + usize::from(!second), b + usize::from(second), left - 1);
        let stamp = of_a.min(of_b);
        let late = stamp < two.latest;
        two.latest = stamp.max(two.latest);
        two.next = [a_first + a, b_first + b];
        take(place, late);
    }
    let rest_of_a = b == b_stamps.len() && !b_more;
    let rest_of_b = a == a_stamps.len() && !a_more;
    for (at, rest, stamps) in [(0, rest_of_a, &a_stamps[a..]), (1, rest_of_b, &b_stamps[b..])] {
        for &stamp in stamps.iter().take(if rest { left } else { 0 }) {
            let place = two.next[at];
            let late = stamp < two.latest;
            two.latest = stamp.max(two.latest);
            (two.next[at], left) = (place + 1, left - 1);
            take(place, late);
        }
    }
    most - left
}
