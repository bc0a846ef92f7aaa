//! Puts the records that were read in the order of their stamps: two shards by comparing them, more by a tree.

use std::hint::select_unpredictable;

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
    /// The latest stamp that was read, if records stay in the order of their tickets.
    pub(super) latest: u64,
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

/// Set in a place of the order if its record is late.
pub(super) const LATE: usize = 1 << (usize::BITS - 1);

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
    /// Takes records, and stores their places in order, with [`LATE`], until `out` is full or more must be read. `out` has
    /// room for all records of two shards. Returns how many.
    pub(super) fn take(self, out: &mut [usize]) -> usize {
        match self.runs {
            [a, b] => two([a, b], self.stamps, self.limit, self.last, out),
            _ => self.many(out),
        }
    }

    fn many(self, out: &mut [usize]) -> usize {
        let most = out.len();
        for (count, place) in out.iter_mut().enumerate() {
            let (stamp, at) = self.tree.winner();
            if stamp >= self.limit || self.runs[at].must_fill() {
                return count;
            }
            let run = &mut self.runs[at];
            *place = if stamp < *self.last { run.first | LATE } else { run.first };
            run.first += 1;
            self.tree.replace_winner(run.stamp(self.stamps));
            *self.last = stamp.max(*self.last);
        }
        most
    }
}

fn two(runs: [&mut Run; 2], stamps: &[u64], limit: u64, last: &mut u64, out: &mut [usize]) -> usize {
    // Up to the first stamp that is not earlier than the limit, or to where more must be read.
    let [(a, a_more), (b, b_more)] = runs.each_ref().map(|run| {
        let ready = &stamps[run.first..run.first + run.ready()];
        match ready.last() {
            Some(last) if *last >= limit => (&ready[..ready.partition_point(|stamp| *stamp < limit)], false),
            _ => (ready, !run.done),
        }
    });
    // Where more must be read, the other run can be taken up to there.
    let of_a =
        if b_more { a.partition_point(|stamp| b.last().is_some_and(|last| stamp <= last)) } else { a.len() };
    let of_b =
        if a_more { b.partition_point(|stamp| a.last().is_some_and(|last| stamp < last)) } else { b.len() };
    let (a, b) = (&a[..of_a], &b[..of_b]);
    let out = &mut out[..of_a + of_b];
    merge(a, b, runs[0].first, runs[1].first, out);
    let late = [a, b].map(|stamps| stamps.iter().take_while(|stamp| **stamp < *last).count());
    out[..late[0] + late[1]].iter_mut().for_each(|place| *place |= LATE);
    *last = [a, b].iter().filter_map(|stamps| stamps.last()).fold(*last, |last, stamp| last.max(*stamp));
    runs[0].first += of_a;
    runs[1].first += of_b;
    out.len()
}

/// Stores the places of all stamps of `a` and `b` in order; those of `a` first, if stamps are equal. Begins at both ends:
/// each comparison waits for the one before it, so two chains of them take half the time of one. (As
/// `bidirectional_merge` of Rust's `slice::sort` does.)
fn merge(a: &[u64], b: &[u64], a_first: usize, b_first: usize, out: &mut [usize]) {
    let (mut next, mut ends) = ([0, 0], [a.len(), b.len()]);
    let (both, len) = (a.len().min(b.len()), out.len());
    for at in 0..both {
        // Without a branch, which the CPU could not predict.
        let second = b[next[1]] < a[next[0]];
        out[at] = select_unpredictable(second, b_first + next[1], a_first + next[0]);
        next = [next[0] + usize::from(!second), next[1] + usize::from(second)];
        let [a_last, b_last] = ends.map(|end| end - 1);
        let second = b[b_last] >= a[a_last];
        out[len - 1 - at] = select_unpredictable(second, b_first + b_last, a_first + a_last);
        ends = [ends[0] - usize::from(!second), ends[1] - usize::from(second)];
    }
    for place in &mut out[both..len - both] {
        let second = next[0] == ends[0] || (next[1] < ends[1] && b[next[1]] < a[next[0]]);
        *place = if second { b_first + next[1] } else { a_first + next[0] };
        next = [next[0] + usize::from(!second), next[1] + usize::from(second)];
    }
}
