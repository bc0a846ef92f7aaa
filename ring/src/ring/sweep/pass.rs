//! One pass over all shards, each in turn and at most one lap of it: the loop of `drain` and `for_each`.

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{Cursor, NoRecord, Shard, SlotSource, Step};

use super::required::eighth;
use super::sources::Slots;
use super::{Part, SMALL, Search, Sweep};
use crate::ring::event::Event;
use crate::ring::in_slot::InSlot;

/// The rest of a pass over all shards, each in turn and at most one lap of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::ring) struct Pass {
    /// The shards that remain, including the current one.
    left: usize,
    /// Whether the pass has begun to read the current shard.
    begun: bool,
    /// The steps that remain in it until its turn ends, or until programs that wait for this reader are told…
    steps: usize,
    /// …and those after that.
    more: usize,
}

impl<T: AnyBitPattern> Sweep<T> {
    /// See [`Reader::for_each`](crate::Reader::for_each).
    #[inline]
    pub(in crate::ring) fn for_each<R: InSlot<T>>(
        &mut self,
        limit: usize,
        f: &mut impl FnMut(Event<&R>),
    ) -> usize {
        self.settle();
        let mut left = self.steps;
        let (mut count, mut shards, whole) = (0, self.shards.len(), self.steps);
        loop {
            shards -= self.pass_idle(&mut left, shards);
            if shards == 0 || left == 0 {
                break;
            }
            (shards, left) = (shards - 1, left - 1);
            let at = self.turn;
            let lap = self.step_limit(at);
            let (portion, _) = self.portion(lap);
            let (record, required) = (&mut self.record, &mut self.required);
            let Part { number, place, cursor, .. } = &mut self.shards[at];
            let mut f = |ticket, record: &R| f(Event { shard: *number, ticket, record, tail: () });
            let limits = Limits { records: limit - count, lap, portion, whole };
            let mut has_read = |next| {
                if let Some(required) = required {
                    required.has_read(at, next);
                }
            };
            let (run, empty) = match self.sources.of_mut(at) {
                (Slots::Mapped(shared), _) => {
                    let mut small = R::zeroed();
                    let record = if size_of::<R>() <= SMALL { &mut small } else { R::place(record) };
                    let mut shard = Shard::new(shared.words(), place);
                    drain_shard(cursor, &mut shard, record, limits, &mut left, &mut f, &mut has_read)
                }
                (Slots::Lookup(window), shard) => {
                    let mut shard = window.of(shard, place);
                    drain_shard(
                        cursor,
                        &mut shard,
                        R::place(record),
                        limits,
                        &mut left,
                        &mut f,
                        &mut has_read,
                    )
                }
            };
            count += run;
            self.came_to_the_end(at, empty);
            self.next_shard();
            if count >= limit {
                return count;
            }
        }
        self.stopped_early |= left == 0;
        count
    }

    /// The most steps that a pass may take in a shard: a lap, and some more for laps that are lost meanwhile.
    #[inline]
    fn step_limit(&self, at: usize) -> usize {
        self.sources.of(at).region().geometry().capacity() + 16
    }

    /// The first of these steps, and the rest of them: after an [eighth], programs that wait for this reader
    /// are told.
    #[inline]
    fn portion(&self, steps: usize) -> (usize, usize) {
        let first = if self.required.is_some() { steps.min(eighth(self.region.geometry())) } else { steps };
        (first, steps - first)
    }

    /// A pass over all shards that has not begun.
    pub(in crate::ring) fn begin_pass(&mut self) -> Pass {
        self.settle();
        Pass { left: self.shards.len(), begun: false, steps: 0, more: 0 }
    }

    /// Begins a run in the next shard of a pass that may have a record. `no` is why the run before has no record.
    /// Returns whether there is such a shard.
    pub(in crate::ring) fn find_in(&mut self, pass: &mut Pass, no: NoRecord, search: &mut Search) -> bool {
        let taken = self.settle();
        if taken > 0 {
            *search = Search::new(self);
        }
        let left = &mut search.left;
        pass.steps = pass.steps.saturating_sub(taken as usize);
        if let Some(step) = self.after_run(no) {
            pass.steps = pass.steps.saturating_sub(1);
            self.came_to(step, pass, left);
        }
        let found = pass.steps > 0 || self.begin(pass, left);
        if found {
            self.begin_run(u32::try_from(pass.steps).unwrap_or(u32::MAX).min(self.most));
        }
        found
    }

    /// Advances a pass to the next shard that may have a record. Returns whether there is one.
    fn begin(&mut self, pass: &mut Pass, left: &mut u32) -> bool {
        if pass.more > 0 {
            self.has_read(self.turn);
            (pass.steps, pass.more) = self.portion(pass.more);
            return true;
        }
        if pass.begun {
            self.end_shard(pass, false);
        }
        pass.left -= self.pass_idle(left, pass.left);
        if pass.left > 0 && *left > 0 {
            *left -= 1;
            pass.begun = true;
            (pass.steps, pass.more) = self.portion(self.step_limit(self.turn));
            return true;
        }
        if *left == 0 {
            (self.stopped_early, pass.left) = (true, 0);
        }
        false
    }

    /// After a step of a pass that gave no record.
    fn came_to(&mut self, step: Step, pass: &mut Pass, left: &mut u32) {
        if step != Step::Empty {
            *left = left.saturating_sub(self.shards[self.turn].cursor.cost());
        }
        if step == Step::Empty || *left == 0 {
            self.end_shard(pass, step == Step::Empty);
        }
    }

    fn end_shard(&mut self, pass: &mut Pass, empty: bool) {
        self.came_to_the_end(self.turn, empty);
        self.next_shard();
        *pass = Pass { left: pass.left - 1, begun: false, steps: 0, more: 0 };
    }
}

/// The limits of a pass over a shard.
#[derive(Clone, Copy)]
struct Limits {
    /// The most records.
    records: usize,
    /// The most steps and records.
    lap: usize,
    /// The most of these before `has_read` is called.
    portion: usize,
    /// The steps that remain after a record.
    whole: u32,
}

/// One pass over a shard, which takes at most `left` steps between two records. Calls `has_read` with the next ticket
/// from time to time. Returns the number of records, and whether there are no more.
#[inline(always)]
fn drain_shard<T: AnyBitPattern>(
    cursor: &mut Cursor,
    source: &mut impl SlotSource,
    record: &mut T,
    Limits { records, mut lap, portion, whole }: Limits,
    left: &mut u32,
    f: &mut impl FnMut(u64, &T),
    has_read: &mut impl FnMut(u64),
) -> (usize, bool) {
    let mut count = 0;
    while lap > 0 && count < records {
        let (run, step) = cursor.run(source, record, portion.min(lap).min(records - count), &mut *f);
        has_read(cursor.next());
        count += run;
        lap = lap.saturating_sub(run.max(1));
        if run > 0 {
            *left = whole;
        }
        if step == Step::Empty {
            return (count, true);
        }
        *left = left.saturating_sub(cursor.cost());
        if *left == 0 {
            break;
        }
    }
    (count, false)
}
