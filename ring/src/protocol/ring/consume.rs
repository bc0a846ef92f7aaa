//! Reads a shard with a private cursor, without any effect on writers or other readers.

mod ahead;

use bytemuck::AnyBitPattern;

pub use self::ahead::Unread;

use super::{ReadStats, Shard};
use crate::abi::seq::{DISCARDED, PENDING, Slots, TRIES, WALK, after, state};
use crate::protocol::words::words_of;
use crate::sync::{Ordering, fence, now};

/// How a reader loads slots: from a mapping, or by system calls.
pub trait SlotSource {
    /// The shard's slots.
    fn slots(&self) -> Slots;
    /// The hint of the next ticket. May have any value.
    fn head(&mut self) -> u64;
    /// The sequence of the slot of `t`, whose record may be copied next.
    fn seq(&mut self, t: u64) -> u64;
    /// The sequence of the slot of `t`, whose record will not be copied.
    fn peek(&mut self, t: u64) -> u64 {
        self.seq(t)
    }
    /// Copies the record of `t` to `out`. Returns `true` if the slot's sequence was `published` during the whole copy:
    /// then the copy is whole, and the record is of ticket `t`.
    fn take<T: AnyBitPattern>(&mut self, t: u64, published: u64, out: &mut T) -> bool;
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
    fn seq(&mut self, t: u64) -> u64 {
        self.words.load(self.place.seq(t), Ordering::Relaxed)
    }

    #[inline]
    fn take<T: AnyBitPattern>(&mut self, t: u64, published: u64, out: &mut T) -> bool {
        let slot = self.words.slice(self.place.seq(t), 1 + words_of::<T>()); // one check for all that follows
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Self { next, waits: 0, patience, wait: None, cost: 1, stats: ReadStats::default() }
    }

    /// A cursor at `start`. Takes a few dozen loads at most.
    pub fn new(look: &mut impl SlotSource, start: Start, patience: u64) -> Self {
        if start == Start::First {
            return Self::at(0, patience);
        }
        let next = last_taken(look, 0).map_or(0, |last| last.wrapping_add(1));
        let next = if start == Start::Now { next } else { next.saturating_sub(look.slots().count()) };
        Self::at(next, patience)
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
            self.stats.skipped += 1;
            self.move_to(t.wrapping_add(1));
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
        let (seen, published) = loop {
            if count == limit {
                return (count, Step::Moved);
            }
            let t = run.next;
            let published = slots.published(t);
            let seen = look.seq(t);
            if seen != published {
                break (seen, published);
            }
            let out = room.place(count);
            if !look.take(t, published, out) {
                run.cursor.stats.torn += 1;
                return (count, Step::Moved);
            }
            run.next = t.wrapping_add(1);
            count += 1;
            f(t, out);
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
            self.stats.lapped = self.stats.lapped.wrapping_add(oldest.wrapping_sub(self.next));
            self.move_to(oldest);
            return Step::Moved;
        }
        // Being written, or not begun: has a later ticket ended?
        let Some(gap) = later(look, self.next) else { return Step::Empty };
        // It may have ended between the two loads.
        fence(Ordering::Acquire); // SYNC order: pairs with the store that ended it
        if look.peek(self.next) != seen {
            return Step::Moved;
        }
        let being_written = state(seen) == published.wrapping_sub(1);
        let crowded = gap >= look.slots().count() - look.slots().count() / 4;
        if being_written && !crowded && !self.has_waited(self.next.wrapping_add(gap)) {
            return Step::Empty;
        }
        self.stats.skipped += 1;
        self.move_to(self.next.wrapping_add(1));
        self.look_past(); // there may be more that it has waited for
        Step::Moved
    }

    #[inline]
    fn move_to(&mut self, next: u64) {
        self.next = next;
        self.waits = 0;
    }
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

/// Where to continue after the slot of `t` was found with the `state` of a later lap: the oldest ticket that is not
/// about to be overwritten, and in any case one after `t`.
#[cold]
fn oldest(look: &mut impl SlotSource, t: u64, state: u64) -> u64 {
    let slots = look.slots();
    let last = last_taken(look, slots.taken(state, t)).unwrap_or(t);
    // A few tickets later, or the writer would overwrite the slot before the first copy is done.
    let margin = slots.count() / 8;
    let oldest = last.wrapping_add(1).wrapping_sub(slots.count() - margin);
    if after(oldest, t) { oldest } else { t.wrapping_add(1) }
}

/// The last claimed ticket according to `head`.
fn newest(head: u64) -> u64 {
    (head & !PENDING).wrapping_sub(1)
}

/// The last taken ticket, if there is one. The search starts from `head` if the slot of its ticket confirms it, else
/// from the slot of `t`.
pub(super) fn last_taken(look: &mut impl SlotSource, t: u64) -> Option<u64> {
    let slots = look.slots();
    let hint = newest(look.head());
    fence(Ordering::Acquire); // SYNC order: a guarded claim that stored this `head` has claimed its slot before
    let seen = state(look.peek(hint));
    let mut from = if seen == slots.writing(hint) || seen == slots.published(hint) {
        hint
    } else {
        match state(look.peek(t)) {
            0 => return None,
            seen => slots.taken(seen, t),
        }
    };
    // A stuck writer's slot can confirm a `head` that is laps old, and stop the bisection: check the slots after it.
    for _ in 0..WALK {
        from = slots.last_taken(from, |t| look.peek(t));
        let gaps = 1..=u64::from(TRIES).min(slots.count());
        let Some(later) = gaps.map(|gap| from.wrapping_add(gap)).find_map(|t| {
            let seen = state(look.peek(t));
            (seen > slots.free(t)).then(|| slots.taken(seen, t))
        }) else {
            break;
        };
        from = later;
    }
    Some(from)
}

/// How far after `t` a ticket has ended, if one has. Checks the ticket of `head`, and the tickets to which producers
/// step.
#[cold]
fn later(look: &mut impl SlotSource, t: u64) -> Option<u64> {
    let slots = look.slots();
    let hint = newest(look.head());
    let near = (1..=u64::from(TRIES).min(slots.count() - 1)).map(|gap| t.wrapping_add(gap));
    [hint].into_iter().filter(|&hint| after(hint, t)).chain(near).find_map(|later| {
        let seen = state(look.peek(later));
        (!after(slots.published(later), seen)).then(|| slots.taken(seen, later).wrapping_sub(t))
    })
}
