//! Reads a shard with a private cursor, without any effect on writers or other readers.

mod ahead;
mod lost;
mod run;
mod search;

use bytemuck::AnyBitPattern;

pub use self::ahead::Unread;
pub use self::run::{NoRecord, Room, Run};
pub(super) use self::search::last_taken;
pub use self::search::newest_record;

use self::search::{later, oldest};
use super::copy::{begin_copy, end_copy};
use super::loss::{LossCause, Losses};
use super::{ReadStats, Shard};
use crate::abi::seq::{DISCARDED, PENDING, Slots, TRIES, WALK, after, state};
use crate::clock::now;
use crate::protocol::words::used;
use crate::sync::{At, Ordering, fence, order};

/// How a reader loads slots: from a mapping, or by system calls.
pub trait SlotSource {
    /// The shard's slots.
    fn slots(&self) -> Slots;
    /// The hint of the next ticket. May have any value.
    fn head(&mut self) -> u64;
    /// The sequence of the slot of `t`, whose record will not be copied.
    fn peek(&mut self, t: u64) -> u64;
    /// The place of the slot of `t`.
    fn slot(&self, t: u64) -> usize;
    /// The distance between the places of two slots.
    fn stride(&self) -> usize;
    /// Copies the record of the slot at `slot` to `out`, if the slot's sequence is `published` during the whole copy: then
    /// the copy is whole, and the record is of that ticket. Loads the sequence twice at most. `TO_MEMORY` says that the
    /// compiler need not keep the record in registers.
    fn take<T: AnyBitPattern, const TO_MEMORY: bool>(
        &mut self,
        slot: usize,
        published: u64,
        out: &mut T,
    ) -> Result<(), NoRecord>;
    /// Tells the machine that slots will be read soon: that of ticket `t`, and those after it.
    fn prefetch(&self, _t: u64) {}
    /// Calls `f` with this or a copy of it, if that lets the compiler keep the original in registers.
    fn apart<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        f(self)
    }
}

impl SlotSource for Shard<'_> {
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
    fn stride(&self) -> usize {
        self.place.stride
    }

    #[inline]
    fn take<T: AnyBitPattern, const TO_MEMORY: bool>(
        &mut self,
        slot: usize,
        published: u64,
        out: &mut T,
    ) -> Result<(), NoRecord> {
        let slot = self.words.slice(slot, used::<T>(self.place.stride, 1)); // one check for all that follows
        let seen = slot.load(0, Ordering::Relaxed);
        if seen != published {
            return Err(NoRecord::Not(seen));
        }
        begin_copy();
        if TO_MEMORY {
            slot.copy(1, out)
        } else {
            slot.read(1, out)
        }
        end_copy();
        if slot.load(0, Ordering::Relaxed) == published { Ok(()) } else { Err(NoRecord::Torn) }
    }

    #[inline]
    fn prefetch(&self, t: u64) {
        self.words.prefetch(self.place.seq(t), PREFETCHED);
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
#[repr(C)] // begins with a line that has all that a step needs which finds no record
pub struct Cursor {
    next: u64,
    /// Nanoseconds.
    patience: u64,
    /// A time at which nothing was lost yet of the tickets from `next` on, and one before it: see
    /// [`Cursor::caught_up`].
    whole: [Option<u64>; 2],
    /// Steps without a record at this ticket.
    waits: u32,
    /// See [`Cursor::cost`].
    cost: u32,
    /// Whether the last step found that no writer had claimed the ticket.
    unclaimed: bool,
    wait: Option<Wait>,
    /// A ticket that a writer has not ended, and when this was first noticed: see [`Cursor::unended`].
    unended: Option<(u64, u64)>,
    losses: Losses,
    stats: ReadStats,
}

/// A wait for tickets that were claimed and have not ended, up to a later one that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// When it began.
    since: u64,
    upto: u64,
}

/// Lines. The machine itself fetches ahead once it sees that lines follow each other; 8 and 16 lines were slower.
const PREFETCHED: usize = 32;
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
            unended: None,
        }
    }

    /// A cursor at `start`. Takes a few dozen loads at most.
    pub fn new(source: &mut impl SlotSource, start: Start, patience: u64) -> Self {
        if start == Start::First {
            return Self::at(0, patience);
        }
        let whole = [Some(now()); 2];
        let next = last_taken(source, 0).map_or(0, |last| last.wrapping_add(1));
        let next = if start == Start::Now { next } else { next.saturating_sub(source.slots().count()) };
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
    pub fn at_end(&mut self, source: &mut impl SlotSource) -> bool {
        let (slots, t) = (source.slots(), self.next);
        let seen = source.peek(t);
        if !after(slots.published(t), state(seen)) {
            return false; // it has ended: the next step passes it
        }
        let last = last_taken(source, t).filter(|&last| !after(t, last));
        if state(seen) != slots.writing(t) && last.is_none() {
            return true;
        }
        fence(order!(At::RingAtEnd)); // SYNC order: as in `pass`
        if self.has_waited(last.unwrap_or(t)) && source.peek(t) == seen {
            self.give_up(source, seen, state(seen) == slots.writing(t));
        }
        false
    }

    /// The step after a run that gave no record.
    #[inline(always)]
    pub fn without(&mut self, source: &mut impl SlotSource, no: NoRecord) -> Step {
        let NoRecord::Not(seen) = no else {
            self.stats.torn += u64::from(no == NoRecord::Torn);
            return Step::Moved;
        };
        let published = source.slots().published(self.next);
        if self.must_wait(seen, published) {
            return Step::Empty;
        }
        source.apart(|source| self.skip_ticket(source, seen, published))
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
    #[inline(never)]
    fn skip_ticket(&mut self, source: &mut impl SlotSource, seen: u64, published: u64) -> Step {
        self.cost = 1;
        if seen == published | DISCARDED {
            self.stats.discarded += 1;
            self.move_to(self.next.wrapping_add(1));
            return Step::Moved;
        }
        if after(state(seen), published) {
            self.cost = SEARCH;
            let oldest = oldest(source, self.next, state(seen));
            self.lose(LossCause::Lapped, oldest);
            return Step::Moved;
        }
        // Being written, or not begun: has a later ticket ended?
        let Some(gap) = later(source, self.next) else { return Step::Empty };
        // It may have ended between the two loads.
        fence(order!(At::RingPass)); // SYNC order: pairs with the store that ended it
        let may_end = may_end(source, seen, published);
        if source.peek(self.next) != seen {
            return Step::Moved;
        }
        let crowded = gap >= source.slots().count() - source.slots().count() / 4;
        if may_end && !crowded && !self.has_waited(self.next.wrapping_add(gap)) {
            return Step::Empty;
        }
        self.give_up(source, seen, may_end);
        self.look_past(); // there may be more that it has waited for
        Step::Moved
    }

    /// Passes the next ticket, whose slot has the sequence `seen`, and which has not ended. It is lost only if a writer has it.
    #[cold]
    fn give_up(&mut self, source: &mut impl SlotSource, seen: u64, has_writer: bool) {
        let next = self.next.wrapping_add(1);
        if seen & 1 == 1 {
            let ticket = source.slots().taken(state(seen), self.next);
            self.unended = self.unended(source).or_else(|| Some((ticket, now())));
        }
        if has_writer {
            self.lose(LossCause::Skipped, next);
        } else {
            self.stats.stepped_over = self.stats.stepped_over.wrapping_add(1);
            self.move_to(next);
        }
    }

    /// The first ticket that this cursor passed, or whose slot it passed, and that its writer still has not ended, and when
    /// the cursor noticed it.
    pub fn unended(&self, source: &mut impl SlotSource) -> Option<(u64, u64)> {
        let slots = source.slots();
        self.unended.filter(|(ticket, _)| state(source.peek(*ticket)) == slots.writing(*ticket))
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
fn may_end(source: &mut impl SlotSource, seen: u64, published: u64) -> bool {
    let may =
        if seen & 1 == 0 { source.head() & PENDING != 0 } else { state(seen) == published.wrapping_sub(1) };
    fence(order!(At::RingMayEnd)); // SYNC order: a guarded claim that has ended has claimed its slot before
    may
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests;
