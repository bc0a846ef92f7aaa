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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers below `range` (SplitMix64).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, range: u64) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed >> 32) % range).unwrap()
        }
    }

    /// Runs of some shards, each with stamps in order, and stamps that none of them has in between.
    fn runs(numbers: &mut Numbers, shards: usize, longest: u64) -> (Vec<Run>, Vec<u64>) {
        let (mut runs, mut stamps) = (vec![], vec![]);
        for _ in 0..shards {
            stamps.extend([0, 99, 7]);
            let first = stamps.len();
            let mut own: Vec<_> =
                (0..numbers.below(longest)).map(|_| numbers.below(40) as u64 + 10).collect();
            own.sort_unstable();
            stamps.extend(own);
            let done = numbers.below(2) == 0;
            runs.push(Run { first, end: stamps.len(), done, ..Run::default() });
        }
        stamps.push(1);
        (runs, stamps)
    }

    /// Takes the earliest record again and again. Two shards stop as soon as one of them must read more.
    fn slowly(runs: &mut [Run], stamps: &[u64], limit: u64, last: &mut u64, most: usize) -> Vec<usize> {
        let (mut places, late) = (vec![], *last);
        while places.len() < most {
            let (stamp, at) = (0..runs.len()).map(|at| (runs[at].stamp(stamps), at)).min().unwrap();
            let must_fill = runs[at].must_fill() || runs.len() == 2 && runs.iter().any(Run::must_fill);
            if must_fill || stamp >= limit {
                break;
            }
            places.push(if stamp < late { runs[at].first | LATE } else { runs[at].first });
            runs[at].first += 1;
            *last = stamp.max(*last);
        }
        places
    }

    #[test]
    fn records_are_taken_in_order_up_to_where_more_must_be_read() {
        let numbers = &mut Numbers(7);
        for round in 0..6000 {
            let shards = [1, 2, 2, 2, 3, 5][round % 6];
            let longest = [3, 12, 2 * OPEN as u64 + 30][round % 3];
            let (mut runs, stamps) = runs(numbers, shards, longest);
            let limit = [NONE, 30, 10 + numbers.below(45) as u64][numbers.below(3)];
            let mut last = numbers.below(60) as u64;
            let (mut others, mut others_last) = (runs.clone(), last);
            let most = if shards == 2 { stamps.len() } else { 1 + numbers.below(30) };
            let expected = slowly(&mut others, &stamps, limit, &mut others_last, most);

            let mut tree = Tree::new(shards);
            tree.build(|at| runs[at].stamp(&stamps));
            let mut out = vec![0; most];
            let order = Order { runs: &mut runs, stamps: &stamps, tree: &mut tree, limit, last: &mut last };
            let count = order.take(&mut out);
            assert_eq!(out[..count], expected, "round {round}: {stamps:?}");
            let left = |runs: &[Run]| runs.iter().map(|run| (run.first, run.end)).collect::<Vec<_>>();
            assert_eq!((left(&runs), last), (left(&others), others_last), "round {round}");
        }
    }

    #[test]
    fn the_floor_is_below_what_may_still_come_out_of_order() {
        let stamps: Vec<_> = (0..OPEN as u64 + 5).map(|at| 10 * at).collect();
        let run = |end, floor| {
            let mut run = Run { first: 2, end, floor, ..Run::default() };
            run.raise_floor(&stamps);
            run.floor
        };
        assert_eq!((run(2 + OPEN, 3), run(3 + OPEN, 3), run(4 + OPEN, 3)), (3, 20, 30));
        assert_eq!(run(4 + OPEN, 77), 77);
        let run = |end, done| Run { first: 2, end, done, ..Run::default() };
        assert_eq!((run(2, true).stamp(&stamps), run(3, true).stamp(&stamps)), (NONE, 20));
        assert!(
            run(3 + OPEN, false).must_fill()
                && !run(4 + OPEN, false).must_fill()
                && !run(2, true).must_fill()
        );
    }
}
