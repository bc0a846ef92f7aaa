//! What a call reads: the shards in turn, and how much of each. `poll`, `drain` and `for_each` go from shard to shard here.

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{Follow, NoRecord, Shard, Step};

use super::sources::Slots;
use super::{Part, SMALL, Sweep};
use crate::error::Error;
use crate::ring::event::Event;
use crate::ring::in_slot::InSlot;

/// The most records in a row that `poll` takes from one shard.
const FEW: usize = 64;

/// What remains of a call of `poll` or `for_each`, or of a `drain`.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The shards that remain, including the current one.
    shards: usize,
    /// The steps that remain until the next record.
    left: u32,
    /// How many times the call continued with another ring.
    rings: u16,
    /// Whether each shard has one turn, of a lap. Otherwise shards have turns of [`FEW`] until none has a record.
    once: bool,
}

impl Pass {
    /// See [`of_few`](Self::of_few).
    pub(super) fn of(shards: usize, left: u32) -> Self {
        Self { shards, left, rings: 0, once: false }
    }

    /// Until no shard has a record, with a few records of each in turn: a call of `poll`.
    #[inline]
    pub(in crate::ring) fn of_few<T>(sweep: &Sweep<T>) -> Self {
        Self::of(sweep.shards.len(), sweep.budget.steps)
    }

    /// At most one lap of each shard: a `drain`, or a call of `for_each`.
    pub(in crate::ring) fn of_laps<T: AnyBitPattern>(sweep: &mut Sweep<T>) -> Self {
        sweep.settle();
        sweep.rotation.burst = 0;
        Self { once: true, ..Self::of_few(sweep) }
    }

    /// Begins again in another ring. Returns whether the call may do so.
    pub(in crate::ring) fn go_on<T: AnyBitPattern>(&mut self, sweep: &Sweep<T>) -> bool {
        *self = Self { rings: self.rings + 1, once: self.once, ..Self::of_few(sweep) };
        usize::from(self.rings) <= Follow::<Error>::RINGS
    }
}

impl<T: AnyBitPattern> Sweep<T> {
    /// Whether a call of `poll` that begins finds no record, by one load for each shard.
    #[inline(always)]
    pub(in crate::ring) fn has_only_idle_shards(&mut self) -> bool {
        self.rotation.burst == 0 && !self.ahead.has_begun() && self.pass_all_idle()
    }

    #[inline(never)]
    fn pass_all_idle(&mut self) -> bool {
        let Self { rotation, sources, shards, few, .. } = self;
        few.shards -= rotation.pass_idle(sources, shards, &mut few.left, few.shards);
        let is_over = few.shards == 0 && few.left > 0;
        if is_over {
            self.few = Pass::of_few(self);
        }
        is_over
    }

    /// Begins a run in the next shard that may have a record. `no` is why the run before has no record. Returns whether
    /// there is such a shard.
    #[inline]
    pub(in crate::ring) fn find(&mut self, pass: &mut Pass, no: NoRecord) -> bool {
        if self.settle() > 0 {
            *pass = if pass.once { Pass { left: self.budget.steps, ..*pass } } else { Pass::of_few(self) };
            self.rotation.recheck.found();
            self.has_read(self.rotation.turn);
        }
        // The run may have ended because all its records were taken.
        let step = (no != NoRecord::End).then(|| self.step_after(no));
        let limit = self.next_run(pass, step);
        if let Some(limit) = limit {
            self.begin_run(limit.min(FEW)); // `poll` may take the rest of an iterator's run
        }
        limit.is_some()
    }

    /// Advances to the next shard that may have a record. `step` is what came after the last record. Returns the most records
    /// that may be read there in a row, or `None` if the pass has ended.
    #[inline]
    fn next_run(&mut self, pass: &mut Pass, step: Option<Step>) -> Option<usize> {
        match step {
            Some(Step::Empty) => self.end_turn(pass, true),
            Some(_) => {
                self.rotation.burst += usize::from(pass.once); // its turns bound steps, too
                pass.left = pass.left.saturating_sub(self.shards[self.rotation.turn].cursor.cost() - 1);
                if pass.left == 0 {
                    self.end_turn(pass, false); // the next call begins with another shard
                }
            }
            None => {}
        }
        loop {
            if self.rotation.burst == 0 {
                let Self { rotation, sources, shards, .. } = self;
                pass.shards -= rotation.pass_idle(sources, shards, &mut pass.left, pass.shards);
            }
            if pass.left == 0 {
                (pass.shards, self.budget.stopped_early) = (0, true);
            }
            if pass.shards == 0 {
                return None;
            }
            // Some more steps are for laps that are lost meanwhile.
            let turn = if pass.once { self.region.geometry().capacity() + 16 } else { FEW };
            if self.rotation.burst < turn {
                pass.left -= 1;
                return Some((turn - self.rotation.burst).min(self.lease.portion));
            }
            self.end_turn(pass, false);
        }
    }

    /// Advances to the next shard. `empty` says whether this one has no more records.
    #[inline]
    fn end_turn(&mut self, pass: &mut Pass, empty: bool) {
        if empty {
            self.came_to_the_end();
        }
        self.rotation.advance();
        pass.shards = pass.shards.saturating_sub(usize::from(empty || pass.once));
    }

    /// After a step found no more records: nothing was lost before the clock was last read.
    #[inline]
    fn came_to_the_end(&mut self) {
        let at = self.rotation.turn;
        let Part { place, cursor, .. } = &mut self.shards[at];
        if !self.sources.of(at).failed() {
            cursor.caught_up(self.rotation.recheck.time());
        }
        self.rotation.has_read(at, place, cursor.next());
        self.has_read(at);
    }

    /// See [`Reader::for_each`](crate::Reader::for_each).
    #[inline]
    pub(in crate::ring) fn for_each<R: InSlot<T>>(
        &mut self,
        limit: usize,
        f: &mut impl FnMut(Event<&R>),
    ) -> usize {
        let mut pass = Pass::of_laps(self);
        let (mut count, mut step) = (0, None);
        while count < limit {
            let Some(most) = self.next_run(&mut pass, step) else { return count };
            let most = most.min(limit - count);
            let Part { number, place, cursor, .. } = &mut self.shards[self.rotation.turn];
            let f = |ticket, record: &R| f(Event { shard: *number, ticket, record, tail: () });
            let (run, next) = match self.sources.of_mut(self.rotation.turn) {
                (Slots::Mapped(shared), _) => {
                    let mut small = R::zeroed();
                    let record =
                        if size_of::<R>() <= SMALL { &mut small } else { R::place(&mut self.record) };
                    cursor.run(&mut Shard::new(shared.words(), place), record, most, f)
                }
                (Slots::Lookup(window), shard) => {
                    cursor.run(&mut window.of(shard, place), R::place(&mut self.record), most, f)
                }
            };
            if run > 0 {
                pass.left = self.budget.steps;
                self.rotation.recheck.found();
                self.has_read(self.rotation.turn);
            }
            (count, step) = (count + run, (run < most).then_some(next));
            self.rotation.burst += run;
        }
        self.end_turn(&mut pass, false);
        count
    }
}
