//! Reads a shard with a private cursor, without any effect on writers or other readers.

mod ahead;
mod lost;
mod search;

use bytemuck::AnyBitPattern;

pub use self::ahead::Unread;
pub(super) use self::search::last_taken;

use self::search::{later, oldest};
use super::loss::{LossCause, Losses};
use super::{ReadStats, Shard};
use crate::abi::seq::{DISCARDED, PENDING, Slots, TRIES, WALK, after, state};
use crate::protocol::words::used;
use crate::sync::{Ordering, fence, now};

/// How a reader loads slots: from a mapping, or by system calls.
pub trait SlotSource {
    /// A slot whose record may be copied.
    type Slot: Copy;
    /// The shard's slots.
    fn slots(&self) -> Slots;
    /// The hint of the next ticket. May have any value.
    fn head(&mut self) -> u64;
    /// The sequence of the slot of `t`, whose record will not be copied.
    fn peek(&mut self, t: u64) -> u64;
    /// The slot of `t`.
    fn slot(&self, t: u64) -> Self::Slot;
    /// The slot of the next ticket, which is in the same lap: cheaper than [`slot`](Self::slot).
    fn next_slot(&self, slot: Self::Slot) -> Self::Slot;
    /// The slot's sequence.
    fn seq(&mut self, slot: Self::Slot) -> u64;
    /// Copies the slot's record to `out`. Returns `true` if its sequence was `published` during the whole copy: then the
    /// copy is whole, and the record is of that ticket.
    fn take<T: AnyBitPattern>(&mut self, slot: Self::Slot, published: u64, out: &mut T) -> bool;
    /// Calls `f` with this or a copy of it, if that lets the compiler keep the original in registers.
    fn apart<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        f(self)
    }
}

impl SlotSource for Shard<'_> {
    /// Its first word.
    type Slot = usize;

    #[inline]
    fn slots(&self) -> Slots {
        self.place.slots
    }

    #[inline]
    fn head(&mut self) -> u64 {
        self.words.load(self.place.head(), Ordering::Relaxed)
    }

    #[inline]
    fn peek(&mut self, t: u64) -> u64 {
        self.words.load(self.place.seq(t), Ordering::Relaxed)
    }

    #[inline]
    fn slot(&self, t: u64) -> usize {
        self.place.seq(t)
    }

    #[inline]
    fn next_slot(&self, slot: usize) -> usize {
        slot + self.place.stride
    }

    #[inline]
    fn seq(&mut self, slot: usize) -> u64 {
        self.words.load(slot, Ordering::Relaxed)
    }

    #[inline]
    fn take<T: AnyBitPattern>(&mut self, slot: usize, published: u64, out: &mut T) -> bool {
        let slot = self.words.slice(slot, used::<T>(self.place.stride, 1)); // one check for all that follows
        fence(Ordering::Acquire); // SYNC publish: pairs with the store that ends the ticket
        slot.read(1, out);
        fence(Ordering::Acquire); // SYNC claim: pairs with the fence in `claim`
        slot.load(0, Ordering::Relaxed) == published
    }

    #[inline(always)]
    fn apart<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        f(&mut { *self })
    }
}

/// The position at which a reader starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that is still present.
    #[default]
    Oldest,
    /// The first record that is published from now on.
    Now,
    /// The first record of the ring: records that are already overwritten count as lost.
    First,
}

/// The result of one step of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The record of this ticket is in `out`.
    Record(u64),
    /// No record, but the cursor moved or saw a change: there may be a record further on.
    Moved,
    /// No record to read yet.
    Empty,
}

/// A reader's position in a shard, with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
    /// Steps without a record at this ticket.
    waits: u32,
    /// Nanoseconds.
    patience: u64,
    wait: Option<Wait>,
    /// See [`Cursor::cost`].
    cost: u32,
    stats: ReadStats,
    /// A time at which nothing was lost yet of the tickets from `next` on, and one before it: see
    /// [`Cursor::caught_up`].
    whole: [Option<u64>; 2],
    /// Whether the last step found that no writer had claimed the ticket.
    unclaimed: bool,
    losses: Losses,
}

/// A wait for tickets that were claimed and have not ended, up to a later one that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// When it began.
    since: u64,
    upto: u64,
}

/// A cursor without a record checks later tickets once in this number of steps.
const CHECK_EVERY: u32 = 16;
/// The most loads for each unit of [`Cursor::cost`].
const LOADS: u32 = 16;
/// The cost of a step that searches for the end of the ring: `WALK` times a bisection and `TRIES` loads, and a few
/// more.
const SEARCH: u32 = (WALK * (31 + TRIES)).div_ceil(LOADS) + 1;

impl Cursor {
    /// A cursor at ticket `next`. It skips a ticket that has not ended, `patience` nanoseconds after it saw that a
    /// later one had ended.
    pub fn at(next: u64, patience: u64) -> Self {
        let (stats, losses) = (ReadStats::default(), Losses::new(Losses::OF_CURSOR));
        Self {
            next,
            waits: 0,
            patience,
            wait: None,
            cost: 1,
            stats,
            whole: [None; 2],
            unclaimed: false,
            losses,
        }
    }

    /// A cursor at `start`. Takes a few dozen loads at most.
    pub fn new(look: &mut impl SlotSource, start: Start, patience: u64) -> Self {
        if start == Start::First {
            return Self::at(0, patience);
        }
        let whole = [Some(now()); 2];
        let next = last_taken(look, 0).map_or(0, |last| last.wrapping_add(1));
        let next = if start == Start::Now { next } else { next.saturating_sub(look.slots().count()) };
        Self { whole, ..Self::at(next, patience) }
    }

    /// The next ticket to be read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sets how long it waits, in nanoseconds.
    pub fn set_patience(&mut self, patience: u64) {
        self.patience = patience;
    }

    /// How long it waits, in nanoseconds.
    pub fn patience(&self) -> u64 {
        self.patience
    }

    /// Makes the next step without a record check later tickets: for callers that loaded the slot many times, or long
    /// ago.
    pub fn look_past(&mut self) {
        self.waits = CHECK_EVERY - 1;
    }

    /// An upper bound of the cost of the last step that gave no record, in units of 16 loads. For callers that bound
    /// the cost of a call that finds no record for long.
    #[inline]
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// The counts of the tickets that it passed.
    pub fn stats(&self) -> ReadStats {
        self.stats
    }

    /// Whether this is the end of a ring in which no slot is claimed any more. Skips a ticket that is being written, or
    /// that was stepped over, after it has waited for it.
    pub fn at_end(&mut self, look: &mut impl SlotSource) -> bool {
        let (slots, t) = (look.slots(), self.next);
        let seen = look.peek(t);
        if !after(slots.published(t), state(seen)) {
            return false; // it has ended: the next step passes it
        }
        let last = last_taken(look, t).filter(|&last| !after(t, last));
        if state(seen) != slots.writing(t) && last.is_none() {
            return true;
        }
        fence(Ordering::Acquire); // SYNC order: as in `pass`
        if self.has_waited(last.unwrap_or(t)) && look.peek(t) == seen {
            self.lose(LossCause::Skipped, t.wrapping_add(1));
        }
        false
    }

    /// One bounded step: loads the sequence of the next ticket's slot, and delivers the record, passes the ticket, or
    /// finds the slot empty. Takes a few dozen loads at most, whatever the memory contains.
    #[inline(always)] // so that the copy need not go through memory
    pub fn step<T: AnyBitPattern>(&mut self, look: &mut impl SlotSource, out: &mut T) -> Step {
        let mut ticket = None;
        let (_, step) = self.run(look, out, 1, |t, _| ticket = Some(t));
        ticket.map_or(step, Step::Record)
    }

    /// Steps until a step gives no record, at most `limit` times, and calls `f` for each record. Returns the number of
    /// records, and the result of the last step if it gave none.
    #[inline(always)]
    pub fn run<T: AnyBitPattern, R: Room<T> + ?Sized>(
        &mut self,
        look: &mut impl SlotSource,
        room: &mut R,
        limit: usize,
        mut f: impl FnMut(u64, &T),
    ) -> (usize, Step) {
        let slots = look.slots();
        let mut run = Run { start: self.next, next: self.next, cursor: self };
        let mut count = 0;
        let (seen, published) = 'run: loop {
            if count == limit {
                return (count, Step::Moved);
            }
            // To the end of the lap, states are the same and slots follow each other.
            let (published, mut slot) = (slots.published(run.next), look.slot(run.next));
            let left = limit - count;
            // The first case is for the compiler: `step` needs no loop.
            let end = if left == 1 { limit } else { count + slots.rest_of_lap(run.next).min(left) };
            while count < end {
                let seen = look.seq(slot);
                if seen != published {
                    break 'run (seen, published);
                }
                let out = room.place(count);
                if !look.take(slot, published, out) {
                    run.cursor.stats.torn += 1;
                    return (count, Step::Moved);
                }
                let t = run.next;
                run.next = t.wrapping_add(1);
                (count, slot) = (count + 1, look.next_slot(slot));
                f(t, out);
            }
        };
        drop(run);
        if self.must_wait(seen, published) {
            return (count, Step::Empty);
        }
        (count, look.apart(|look| self.pass(look, seen, published)))
    }

    /// Whether the cursor can only wait for the next ticket: the ticket has not ended, and it is not time to check
    /// later ones.
    #[inline]
    fn must_wait(&mut self, seen: u64, published: u64) -> bool {
        if state(seen) == published || after(state(seen), published) {
            return false;
        }
        self.unclaimed = state(seen) != published.wrapping_sub(1);
        self.waits = self.waits.wrapping_add(1);
        self.patience != 0 && !self.waits.is_multiple_of(CHECK_EVERY)
    }

    /// Whether the wait for this ticket is over. It began with the first call for this ticket, or for an earlier ticket
    /// if this one was already claimed then. `upto` is the latest ticket known to be claimed.
    #[cold]
    fn has_waited(&mut self, upto: u64) -> bool {
        let now = now();
        let wait = self.wait.filter(|wait| !after(self.next, wait.upto)).unwrap_or(Wait { since: now, upto });
        self.wait = Some(wait);
        now.saturating_sub(wait.since) >= self.patience
    }

    /// Handles a next ticket that is not readable, when the cursor can't only wait.
    fn pass(&mut self, look: &mut impl SlotSource, seen: u64, published: u64) -> Step {
        self.cost = 1;
        if seen == published | DISCARDED {
            self.stats.discarded += 1;
            self.move_to(self.next.wrapping_add(1));
            return Step::Moved;
        }
        if after(state(seen), published) {
            self.cost = SEARCH;
            let oldest = oldest(look, self.next, state(seen));
            self.lose(LossCause::Lapped, oldest);
            return Step::Moved;
        }
        // Being written, or not begun: has a later ticket ended?
        let Some(gap) = later(look, self.next) else { return Step::Empty };
        // It may have ended between the two loads.
        fence(Ordering::Acquire); // SYNC order: pairs with the store that ended it
        let may_end = may_end(look, seen, published);
        if look.peek(self.next) != seen {
            return Step::Moved;
        }
        let crowded = gap >= look.slots().count() - look.slots().count() / 4;
        if may_end && !crowded && !self.has_waited(self.next.wrapping_add(gap)) {
            return Step::Empty;
        }
        self.lose(LossCause::Skipped, self.next.wrapping_add(1));
        self.look_past(); // there may be more that it has waited for
        Step::Moved
    }

    #[inline]
    fn move_to(&mut self, next: u64) {
        self.next = next;
        self.waits = 0;
    }
}

/// Whether a writer may still end a ticket that has not ended, whose slot has the sequence `seen`: it is being written, or
/// the slot is free and a guarded claim is under way. A program that is interrupted in the middle of such a claim leaves
/// its slot free before later tickets. Only if the slot is still the same after this call, `false` is certain.
fn may_end(look: &mut impl SlotSource, seen: u64, published: u64) -> bool {
    let may =
        if seen & 1 == 0 { look.head() & PENDING != 0 } else { state(seen) == published.wrapping_sub(1) };
    fence(Ordering::Acquire); // SYNC order: a guarded claim that has ended has claimed its slot before
    may
}

/// Where a run of records is copied to.
pub trait Room<T> {
    /// The place of the record after `count` others.
    fn place(&mut self, count: usize) -> &mut T;
}

/// Each record replaces the one before.
impl<T> Room<T> for T {
    #[inline(always)]
    fn place(&mut self, _count: usize) -> &mut T {
        self
    }
}

/// A place for each.
impl<T> Room<T> for [T] {
    #[inline(always)]
    fn place(&mut self, count: usize) -> &mut T {
        &mut self[count]
    }
}

/// Keeps a cursor's position in registers while it delivers records. Dropping it stores the position in the cursor,
/// also after a panic: no record is delivered twice.
struct Run<'c> {
    cursor: &'c mut Cursor,
    start: u64,
    next: u64,
}

impl Drop for Run<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let count = self.next.wrapping_sub(self.start);
        if count != 0 {
            self.cursor.stats.delivered = self.cursor.stats.delivered.wrapping_add(count);
            self.cursor.move_to(self.next);
        }
    }
}
