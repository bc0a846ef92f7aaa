//! One pass over all shards, each in turn and at most one lap of it: the loop of `drain` and `for_each`.

use bytemuck::AnyBitPattern;

use super::quiet::Trust;
use super::sources::Slots;
use super::{Event, Part, SMALL, Sweep};
use crate::protocol::ring::{Cursor, Shard, SlotSource, Step};

/// The rest of a pass over all shards, each in turn and at most one lap of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::ring) struct Pass {
    /// The shards that remain, including the current one.
    left: usize,
    /// Whether the pass has begun to read the current shard.
    begun: bool,
    /// The steps that remain in it.
    steps: usize,
}

impl<T: AnyBitPattern> Sweep<T> {
    /// See [`Reader::for_each`](crate::Reader::for_each).
    #[inline]
    pub(in crate::ring) fn for_each(&mut self, limit: usize, f: &mut impl FnMut(Event<&T>)) -> usize {
        let mut left = self.steps;
        let (mut count, whole) = (0, self.steps);
        for _ in 0..self.shards.len() {
            if left == 0 {
                break;
            }
            left -= 1;
            let at = self.turn;
            if self.is_quiet(at, Trust::Slots) {
                self.next_shard();
                continue;
            }
            let lap = self.step_limit(at);
            let record = &mut self.record;
            let Part { number, place, cursor, .. } = &mut self.shards[at];
            let mut f = |ticket, record: &T| f(Event { shard: *number, ticket, record });
            let limits = Limits { records: limit - count, lap, whole };
            let (run, empty) = match self.sources.of_mut(at) {
                (Slots::Mapped(shared), _) => {
                    let mut small = T::zeroed();
                    let record = if size_of::<T>() <= SMALL { &mut small } else { record };
                    pass(cursor, &mut Shard::new(shared.words(), place), record, limits, &mut left, &mut f)
                }
                (Slots::Lookup(window), shard) => {
                    pass(cursor, &mut window.of(shard, place), record, limits, &mut left, &mut f)
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

    /// A pass over all shards that has not begun.
    pub(in crate::ring) fn pass(&self) -> Pass {
        Pass { left: self.shards.len(), begun: false, steps: 0 }
    }

    /// The next record of a pass, or the result of `end`, as in [`poll`](Self::poll); then a new pass begins.
    #[inline(always)] // as in `poll`
    pub(in crate::ring) fn next_of(
        &mut self,
        pass: &mut Pass,
        end: impl FnOnce(&mut Self) -> Option<(usize, u64)>,
    ) -> Option<Event<T>> {
        let mut left = self.steps;
        while pass.steps > 0 || self.begin(pass, &mut left) {
            pass.steps -= 1;
            match self.step(self.turn) {
                Ok(event) => return Some(event),
                Err(step) => self.came_to(step, pass, &mut left),
            }
        }
        let (shard, ticket) = end(self)?;
        *pass = self.pass();
        Some(Event { shard, ticket, record: self.record })
    }

    /// Advances a pass to the next shard that may have a record. Returns whether there is one.
    #[inline(never)]
    fn begin(&mut self, pass: &mut Pass, left: &mut u32) -> bool {
        if pass.begun {
            self.end_shard(pass, false);
        }
        while pass.left > 0 && *left > 0 {
            *left -= 1;
            if !self.is_quiet(self.turn, Trust::Slots) {
                (pass.begun, pass.steps) = (true, self.step_limit(self.turn));
                return true;
            }
            self.end_shard(pass, false);
        }
        if *left == 0 {
            (self.stopped_early, pass.left) = (true, 0);
        }
        false
    }

    /// After a step of a pass that gave no record.
    #[inline(never)]
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
        *pass = Pass { left: pass.left - 1, begun: false, steps: 0 };
    }
}

/// The limits of a pass over a shard.
#[derive(Clone, Copy)]
struct Limits {
    /// The most records.
    records: usize,
    /// The most steps and records.
    lap: usize,
    /// The steps that remain after a record.
    whole: u32,
}

/// One pass over a shard, which takes at most `left` steps between two records. Returns the number of records, and
/// whether there are no more.
#[inline(always)]
fn pass<T: AnyBitPattern>(
    cursor: &mut Cursor,
    look: &mut impl SlotSource,
    record: &mut T,
    Limits { records, mut lap, whole }: Limits,
    left: &mut u32,
    f: &mut impl FnMut(u64, &T),
) -> (usize, bool) {
    let mut count = 0;
    while lap > 0 && count < records {
        let (run, step) = cursor.run(look, record, lap.min(records - count), &mut *f);
        count += run;
        lap = lap.saturating_sub(run + 1);
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
