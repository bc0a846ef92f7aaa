//! Reading a ring: from each shard in turn, at one's own pace.

use std::fmt;
use std::io;

use bytemuck::AnyBitPattern;

use super::Event;
use super::fallback::{ByCall, Window};
use super::watch::{Quiet, Watch};
#[cfg(feature = "bpf")]
use crate::layout::Gate;
use crate::layout::Preamble;
use crate::layout::seq::state;
#[cfg(feature = "bpf")]
use crate::protocol::ring::END;
use crate::protocol::ring::{Cursor, Look, Place, Shard, Start, Step, Tally};
use crate::region::{Region, Shared, Source};
use crate::sync::Ordering;

enum Slots {
    Mapped(Shared),
    Lookup(Box<Window>),
}

/// Bytes of a record up to which it is copied to the stack, where the compiler can keep it in
/// registers, and not to the reader.
const SMALL: usize = 256;

/// What a shard may be taken for quiet by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// What says for certain that the next ticket was not claimed.
    Slots,
    /// `head` as well, which may be stale: for who comes back at once.
    Head,
}

/// A place in each shard of a ring.
///
/// Reading a mapped ring makes no system call, allocates nothing, writes nothing to the ring and
/// never blocks. Shards are visited in turn, so that a busy one does not starve the others; between
/// shards there is no order.
///
/// No call goes on for long without a record, however many slots and shards there are and whatever they hold. A call
/// ends after [`STEPS`](Self::STEPS) tickets and shards in a row that give none
/// ([`STEPS_BY_CALL`](Self::STEPS_BY_CALL) where the ring is not mapped). It then returns as if there were nothing more,
/// [`stopped_early`](Self::stopped_early) says so, and the next call goes on from there. That takes thousands of tickets
/// in a row that were discarded or never ended, or memory that somebody scribbled over.
pub struct Reader<T> {
    source: Slots,
    shards: Box<[(Place, Cursor)]>,
    watches: Box<[Watch]>,
    quiet: Box<[Quiet]>,
    /// Times that all shards had their turn.
    sweep: u32,
    /// A quiet shard is stepped into when these bits of `sweep` and its number are zero.
    mask: u32,
    turn: usize,
    burst: u32,
    /// What a call may spend between two records: see [`Reader::STEPS`].
    steps: u32,
    stopped_early: bool,
    record: T,
}

impl<T: AnyBitPattern> Reader<T> {
    /// How many empty-handed steps a reader waits for a record whose writer has not ended it
    /// although later ones are there, before it counts it as skipped. See
    /// [`with_patience`](Self::with_patience).
    pub const PATIENCE: u32 = 1 << 14;

    /// What a call spends between two records, at most. A ticket that was discarded, skipped or torn costs 1. So does a
    /// shard that has nothing. A search for the oldest record, after tickets were overwritten, costs 6. For each of
    /// these there are 16 loads at most.
    pub const STEPS: u32 = 1 << 14;
    /// The same of a ring that is not mapped, where loads are system calls. A step that looks at several slots makes
    /// 4 calls, or 193 where the kernel has no batches (before 5.6).
    pub const STEPS_BY_CALL: u32 = 1 << 11;

    /// Records that [`poll`](Self::poll) takes from a shard before it is the next one's turn.
    const BURST: u32 = 64;

    /// A shard whose next ticket nobody has claimed is looked at without a step, but for one turn in
    /// so many (a power of two): then it is seen whether there are later tickets all the same. No
    /// producer leaves such a slot behind, only who scribbles over the region; and looking for them
    /// takes the line with `head` away from the next writer.
    const LOOK_EVERY: u32 = 1 << 16;
    /// The same where `head` is looked at, which may be stale.
    const HEAD_EVERY: u32 = 256;

    /// A reader that starts where `start` says, in each shard of `region`.
    pub(super) fn new(region: &Region, start: Start) -> Self {
        let mut source = match region.source() {
            Source::Mapped(shared) => Slots::Mapped(shared),
            Source::Lookup(by_call) => {
                Slots::Lookup(Box::new(Window::new(ByCall(by_call), region.geometry())))
            }
        };
        let geometry = region.geometry();
        let shards: Box<[_]> = (0..geometry.shards())
            .map(|shard| {
                let place = Place::new(geometry, shard);
                let cursor = match &mut source {
                    Slots::Mapped(shared) => {
                        Cursor::new(&mut Shard::new(shared.words(), &place), start, Self::PATIENCE)
                    }
                    Slots::Lookup(window) => {
                        Cursor::new(&mut window.of(shard, &place), start, Self::PATIENCE)
                    }
                };
                (place, cursor)
            })
            .collect();
        let watches: Box<[_]> = shards.iter().map(|(_, cursor)| Watch::new(cursor.next())).collect();
        let quiet = shards.iter().zip(&watches).map(|((place, _), watch)| Quiet::new(place, watch)).collect();
        let mask = Self::LOOK_EVERY - 1;
        let steps = match source {
            Slots::Mapped(_) => Self::STEPS,
            Slots::Lookup(_) => Self::STEPS_BY_CALL,
        };
        Self {
            source,
            shards,
            watches,
            quiet,
            sweep: 0,
            mask,
            turn: 0,
            burst: 0,
            steps,
            stopped_early: false,
            record: T::zeroed(),
        }
    }

    /// Waits for `polls` empty-handed steps, instead of [`PATIENCE`](Self::PATIENCE), for a
    /// record whose writer was interrupted, preempted or killed half-way while later records are
    /// there; then skips it and counts it as lost. A ring that is about to overwrite what is
    /// behind such a record is not waited for.
    #[must_use]
    pub fn with_patience(mut self, polls: u32) -> Self {
        for (_, cursor) in &mut self.shards {
            cursor.set_patience(polls);
        }
        self.mask = (1 << polls.clamp(1, Self::LOOK_EVERY).ilog2()) - 1;
        self
    }

    /// The next record, if there is one: up to 64 in a row from one shard, then from the next.
    ///
    /// It is made for being called again at once. A reader that has met programs at work between claim
    /// and end leaves their slots alone until `head` says that there is a record; where a nested program
    /// left that stale, the record is found with the next one, or 256 calls later. [`drain`](Self::drain)
    /// and [`for_each`](Self::for_each) always find everything. `None` says that there is none, or that this call
    /// [stopped early](Self::stopped_early).
    #[inline(always)] // so that the record need not go through memory
    pub fn poll(&mut self) -> Option<Event<T>> {
        let mut left = self.steps;
        self.poll_within(&mut left)
    }

    /// The same, spending no more than is `left`.
    #[inline(always)]
    pub(super) fn poll_within(&mut self, left: &mut u32) -> Option<Event<T>> {
        let mut empty = 0;
        while empty < self.shards.len() && *left > 0 {
            *left -= 1;
            if self.burst == 0 && self.is_quiet(self.turn, Trust::Head) {
                empty += 1;
                self.next_shard();
                continue;
            }
            if self.burst < Self::BURST {
                match self.step(self.turn) {
                    Ok(event) => {
                        self.burst += 1;
                        return Some(event);
                    }
                    Err(Step::Empty) => {
                        empty += 1;
                        self.came_to_the_end(self.turn);
                    }
                    Err(_) => {
                        *left = left.saturating_sub(self.shards[self.turn].1.cost() - 1);
                        if *left > 0 {
                            continue;
                        }
                    }
                }
            }
            self.next_shard();
        }
        self.stopped_early |= *left == 0;
        None
    }

    /// Everything that is there: each shard in turn, at most one lap of it. Ends; a writer that is
    /// faster than the reader does not keep it going. May [stop early](Self::stopped_early).
    pub fn drain(&mut self) -> Drain<'_, T> {
        let steps = self.step_limit();
        Drain { left: self.shards.len(), steps, reader: self }
    }

    /// Calls `f` with up to `limit` records, each shard in turn and at most one lap of it, without
    /// copying them more than once: the fastest way. Returns how many there were. May
    /// [stop early](Self::stopped_early).
    #[inline]
    pub fn for_each(&mut self, limit: usize, f: impl FnMut(Event<&T>)) -> usize {
        let mut left = self.steps;
        self.for_each_within(limit, &mut left, f)
    }

    /// The same, spending no more than is `left` before the first record.
    #[inline]
    pub(super) fn for_each_within(
        &mut self,
        limit: usize,
        left: &mut u32,
        mut f: impl FnMut(Event<&T>),
    ) -> usize {
        let (mut count, whole, lap) = (0, self.steps, self.step_limit());
        for _ in 0..self.shards.len() {
            if *left == 0 {
                break;
            }
            *left -= 1;
            let cpu = self.turn;
            if self.is_quiet(cpu, Trust::Slots) {
                self.next_shard();
                continue;
            }
            let record = &mut self.record;
            let (place, cursor) = &mut self.shards[cpu];
            let mut f = |ticket, record: &T| f(Event { cpu, ticket, record });
            let limits = Limits { records: limit - count, lap, whole };
            count += match &mut self.source {
                Slots::Mapped(shared) => {
                    let mut small = T::zeroed();
                    let record = if size_of::<T>() <= SMALL { &mut small } else { record };
                    pass(cursor, &mut Shard::new(shared.words(), place), record, limits, left, &mut f)
                }
                Slots::Lookup(window) => {
                    pass(cursor, &mut window.of(cpu, place), record, limits, left, &mut f)
                }
            };
            self.came_to_the_end(cpu);
            self.next_shard();
            if count >= limit {
                return count;
            }
        }
        self.stopped_early |= *left == 0;
        count
    }

    /// Whether a call ended [early](Self::STEPS) since this was last asked: there may be a record further on, and the
    /// next call goes on there. For loops that wait when there is nothing: they should not wait then.
    pub fn stopped_early(&mut self) -> bool {
        core::mem::take(&mut self.stopped_early)
    }

    /// What a call may spend from one record to the next.
    #[cfg(feature = "bpf")]
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// Records lost to this reader, all shards together: [`Tally::lost`].
    pub fn lost(&self) -> u64 {
        self.tally().lost()
    }

    /// What became of the tickets that this reader has passed, all shards together.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.shards.iter().for_each(|(_, cursor)| sum += cursor.tally());
        sum
    }

    /// What became of the tickets of one shard, or `None` if there is no such shard.
    pub fn shard_tally(&self, shard: usize) -> Option<Tally> {
        self.shards.get(shard).map(|(_, cursor)| cursor.tally())
    }

    /// The ticket that is read next in one shard, or `None` if there is no such shard.
    pub fn position(&self, shard: usize) -> Option<u64> {
        self.shards.get(shard).map(|(_, cursor)| cursor.next())
    }

    /// Records that producers themselves dropped, because no slot was free or a CPU had no
    /// shard: they have no ticket and are in no reader's tally. A system call for each shard on
    /// the fallback path, where a failed one counts as 0 and [`take_error`](Self::take_error) tells of it.
    pub fn dropped(&mut self) -> u64 {
        let sum = self.sum(|shard| shard.dropped(), 1);
        let of_region = self.region().live(Preamble::DROPPED).unwrap_or_else(|error| {
            self.failed(error);
            0
        });
        sum.wrapping_add(of_region)
    }

    /// The sum over all shards of what `word` of their headers says.
    fn sum(&mut self, mapped: impl Fn(&Shard<'_>) -> u64, word: usize) -> u64 {
        let per_shard = self.shards.iter().enumerate().map(|(shard, (place, _))| match &mut self.source {
            Slots::Mapped(shared) => mapped(&Shard::new(shared.words(), place)),
            Slots::Lookup(window) => window.header(shard, word),
        });
        per_shard.fold(0, u64::wrapping_add)
    }

    /// The last system call that failed on the fallback path since this was last asked. Reading
    /// finds nothing while they fail. Always `None` on a mapped ring.
    pub fn take_error(&mut self) -> Option<io::Error> {
        match &mut self.source {
            Slots::Mapped(_) => None,
            Slots::Lookup(window) => window.take_error(),
        }
    }

    /// A reader that goes on with the ring that takes the place of this one, if it is resizable.
    #[cfg(feature = "bpf")]
    pub fn following(self) -> super::Follower<T> {
        super::Follower::new(self)
    }

    /// The number of polls that it waits for a record: see [`with_patience`](Self::with_patience).
    #[cfg(feature = "bpf")]
    pub(super) fn patience(&self) -> u32 {
        self.shards.first().map_or(Self::PATIENCE, |(_, cursor)| cursor.patience())
    }

    /// The tickets that were given out in all shards, once the ring is retired. `None` if a system call fails on
    /// the fallback path: [`take_error`](Self::take_error).
    #[cfg(feature = "bpf")]
    pub(super) fn ends(&mut self) -> Option<u64> {
        let shards = 0..self.shards.len();
        match &mut self.source {
            Slots::Mapped(_) => Some(self.sum(|shard| shard.end(), END)),
            Slots::Lookup(window) => window.without_error(|window| {
                shards.map(|shard| window.header(shard, END)).fold(0, u64::wrapping_add)
            }),
        }
    }

    /// What the ring's gate says; [`Gate::None`] if a system call fails on the fallback path:
    /// [`take_error`](Self::take_error).
    #[cfg(feature = "bpf")]
    #[inline]
    pub(super) fn gate(&mut self) -> Gate {
        self.region().gate().unwrap_or_else(|error| {
            self.failed(error);
            Gate::None
        })
    }

    /// Keeps a system call's error for [`take_error`](Self::take_error).
    fn failed(&mut self, error: io::Error) {
        if let Slots::Lookup(window) = &mut self.source {
            window.failed(error);
        }
    }

    /// Whether everything was read of a ring that is not written any more, but for what was waited
    /// for, by `waited` calls of this.
    #[cfg(feature = "bpf")]
    pub(super) fn at_end(&mut self, waited: u64) -> bool {
        let mut shards = self.shards.iter_mut().enumerate();
        match &mut self.source {
            Slots::Mapped(shared) => shards
                .all(|(_, (place, cursor))| cursor.at_end(&mut Shard::new(shared.words(), place), waited)),
            // What a failed call makes look empty may not be.
            Slots::Lookup(window) => window
                .without_error(|window| {
                    shards.all(|(cpu, (place, cursor))| cursor.at_end(&mut window.of(cpu, place), waited))
                })
                .unwrap_or(false),
        }
    }

    /// The region that is read.
    pub fn region(&self) -> &Region {
        match &self.source {
            Slots::Mapped(shared) => shared.region(),
            Slots::Lookup(window) => &window.source().0,
        }
    }

    /// One step in a shard: a record, or what else it came to.
    #[inline(always)]
    fn step(&mut self, cpu: usize) -> Result<Event<T>, Step> {
        let (place, cursor) = &mut self.shards[cpu];
        let Slots::Mapped(shared) = &self.source else {
            let step = self.step_by_call(cpu);
            return event(cpu, step, &self.record);
        };
        let mut shard = Shard::new(shared.words(), place);
        if size_of::<T>() <= SMALL {
            let mut record = T::zeroed();
            let step = cursor.step(&mut shard, &mut record);
            event(cpu, step, &record)
        } else {
            let step = cursor.step(&mut shard, &mut self.record);
            event(cpu, step, &self.record)
        }
    }

    /// The same where the ring is not mapped; a record is in `self.record`.
    #[inline(never)]
    fn step_by_call(&mut self, cpu: usize) -> Step {
        let (place, cursor) = &mut self.shards[cpu];
        let Slots::Lookup(window) = &mut self.source else { return Step::Empty };
        cursor.step(&mut window.of(cpu, place), &mut self.record)
    }

    /// Whether a shard has nothing, as far as one load can tell, and it is not time to look closer.
    #[inline(always)]
    fn is_quiet(&mut self, cpu: usize, trust: Trust) -> bool {
        let (Slots::Mapped(shared), quiet) = (&self.source, self.quiet[cpu]) else { return false };
        // SYNC none: nothing is read because of it; whoever sees anything else, steps. What marks a
        // pending `head` is the bit that marks discarded slots.
        let seen = state(shared.words().load(quiet.word, Ordering::Relaxed));
        if seen != quiet.free {
            if seen == quiet.free.wrapping_add(1) {
                self.watches[cpu].saw_half_way();
            }
            return false;
        }
        if trust == Trust::Slots && self.watches[cpu].by_head() {
            return false;
        }
        #[allow(clippy::cast_possible_truncation)] // any bits will do: not all shards in one sweep
        let turn = self.sweep.wrapping_add(cpu as u32) & self.mask;
        if !turn.is_multiple_of(Self::HEAD_EVERY) || turn != 0 && !self.watches[cpu].by_head() {
            return true;
        }
        self.shards[cpu].1.look_past();
        false
    }

    /// A shard's next ticket is what it is quiet with.
    #[inline(always)]
    fn came_to_the_end(&mut self, cpu: usize) {
        let ((place, cursor), watch) = (&self.shards[cpu], &mut self.watches[cpu]);
        watch.waits_for(cursor.next());
        self.quiet[cpu] = Quiet::new(place, watch);
    }

    /// It is the next shard's turn.
    #[inline(always)]
    fn next_shard(&mut self) {
        self.burst = 0;
        self.turn += 1;
        if self.turn >= self.shards.len() {
            self.turn = 0;
            self.sweep = self.sweep.wrapping_add(1);
        }
    }

    /// Steps that a pass over a shard may take: a lap, and some more for laps lost meanwhile.
    fn step_limit(&self) -> usize {
        self.region().geometry().capacity() + 16
    }
}

/// A step's record, or the step if it gave none.
#[inline(always)]
fn event<T: Copy>(cpu: usize, step: Step, record: &T) -> Result<Event<T>, Step> {
    match step {
        Step::Record(ticket) => Ok(Event { cpu, ticket, record: *record }),
        other => Err(other),
    }
}

/// What ends a pass over a shard.
#[derive(Clone, Copy)]
struct Limits {
    /// Records, at most.
    records: usize,
    /// Steps and records, at most.
    lap: usize,
    /// What is left to spend after a record.
    whole: u32,
}

/// One pass over a shard, which spends no more than is `left` between two records. Returns how many there were.
#[inline(always)]
fn pass<T: AnyBitPattern>(
    cursor: &mut Cursor,
    look: &mut impl Look,
    record: &mut T,
    Limits { records, mut lap, whole }: Limits,
    left: &mut u32,
    f: &mut impl FnMut(u64, &T),
) -> usize {
    let mut count = 0;
    while lap > 0 && count < records {
        let (run, step) = cursor.run(look, record, lap.min(records - count), &mut *f);
        count += run;
        lap = lap.saturating_sub(run + 1);
        if run > 0 {
            *left = whole;
        }
        if step == Step::Empty {
            break;
        }
        *left = left.saturating_sub(cursor.cost());
        if *left == 0 {
            break;
        }
    }
    count
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// The records that [`Reader::drain`] finds.
#[derive(Debug)]
pub struct Drain<'r, T> {
    reader: &'r mut Reader<T>,
    /// Shards to go, this one included.
    left: usize,
    /// Steps to go in this shard.
    steps: usize,
}

impl<T: AnyBitPattern> Iterator for Drain<'_, T> {
    type Item = Event<T>;

    #[inline(always)] // as in `poll`
    fn next(&mut self) -> Option<Event<T>> {
        let mut left = self.reader.steps;
        self.next_within(&mut left)
    }
}

impl<T: AnyBitPattern> Drain<'_, T> {
    /// The next one, spending no more than is `left`.
    #[inline(always)]
    pub(super) fn next_within(&mut self, left: &mut u32) -> Option<Event<T>> {
        let reader = &mut *self.reader;
        while self.left > 0 && *left > 0 {
            *left -= 1;
            let whole = reader.step_limit();
            while self.steps > 0 && !(self.steps == whole && reader.is_quiet(reader.turn, Trust::Slots)) {
                self.steps -= 1;
                match reader.step(reader.turn) {
                    Ok(event) => return Some(event),
                    Err(Step::Empty) => break,
                    Err(_) => {
                        *left = left.saturating_sub(reader.shards[reader.turn].1.cost());
                        if *left == 0 {
                            break;
                        }
                    }
                }
            }
            reader.came_to_the_end(reader.turn);
            reader.next_shard();
            self.left -= 1;
            self.steps = whole;
        }
        if *left == 0 {
            (reader.stopped_early, self.left) = (true, 0);
        }
        None
    }
}
