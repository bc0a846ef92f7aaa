//! Claims the bytes of tails by compare-and-swap. `tail_claim.bpf.h` is the same in C; `ring/core/src/protocol/ring/tails.rs` says why it
//! is correct.

use crate::claim::Shard;
use crate::keep::oldest;
use crate::layout::{
    FULL, LINE, Place, TAIL_ACTIVE, TAIL_BESIDE, TAIL_ENDED, TAIL_GRANTED, TAIL_HIGH, TAIL_MARK, TAIL_NEXT,
    TAIL_NO_SPACE, TAIL_READ, TAIL_STEPPED, TAIL_TOO_LONG, TAIL_WRITERS,
};
use crate::words::{MapPtr, Word, bytes_of, low_four, masked};

const ALIGN: u64 = 16;
/// Set in entry 0 while its program moves `next` by plain stores, in the guard.
const MOVING: u64 = 2;
/// Set in an entry whose position is about to change. Nobody steps over it then.
const ENTERS: u64 = 4;
/// The bits of a claim with the number of its entry; the others are its position.
const ENTRY: u64 = TAIL_WRITERS as u64 - 1;
/// No claim.
pub(crate) const NONE: u64 = !0;
/// How often a program tries to move a word that others move.
const TRIES: u32 = 4;

/// The tails of a shard.
#[derive(Clone, Copy)]
pub(crate) struct Tails {
    pub(crate) shard: Shard,
    /// The bytes that a claim takes.
    pub(crate) space: u64,
    /// The bytes of the area, a power of two.
    pub(crate) capacity: u64,
}

/// The place of a position in the area: from there, the longest tail is still in the area.
#[inline(always)]
pub(crate) fn place(at: u64, capacity: u64) -> u64 {
    masked(at, capacity - ALIGN)
}

/// Whether position `a` comes after position `b`.
#[inline(always)]
fn after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

/// The bytes of the area that a tail of `len` bytes takes.
#[inline(always)]
fn used(len: u64) -> u64 {
    len.wrapping_add(ALIGN - 1) & !(ALIGN - 1)
}

impl Tails {
    /// A word of the header for tails.
    #[inline(always)]
    fn word(&self, word: usize) -> Word {
        self.shard.header.plus(LINE / 8 + word)
    }

    /// The entry of a claim.
    #[inline(always)]
    fn entry(&self, claim: u64) -> Word {
        self.word(TAIL_ACTIVE).at_byte(bytes_of(low_four(claim)))
    }

    /// Ends a claim of which `len` bytes are in use. From now on other programs may overwrite them.
    #[inline(always)]
    pub(crate) fn end(&self, claim: u64, len: u64) {
        let at = claim & !ENTRY;
        // First this: `next` should not go back to a position that others have overtaken since the program left its entry.
        self.word(TAIL_NEXT).compare_exchange(at.wrapping_add(self.space), at.wrapping_add(used(len)));
        // SYNC give back: the record and its tail come before this; a program that then overwrites them comes after.
        self.entry(claim).publish(0);
    }

    /// Counts a record whose tail is too long.
    #[inline(always)]
    pub(crate) fn refuse(&self) {
        self.shard.drop_record(self.word(TAIL_TOO_LONG));
    }

    /// The place of a program's bytes that comes last before `high`.
    #[inline(always)]
    fn last(&self, at: u64) -> u64 {
        let high = self.word(TAIL_HIGH).load();
        if !after(high, at.wrapping_add(self.capacity)) {
            return at;
        }
        at.wrapping_add(high.wrapping_sub(at).wrapping_sub(1) & self.capacity.wrapping_neg())
    }

    /// Where readers will find the tail of a record that ends now. If others have stepped over its bytes, these have a later
    /// position, too, and nobody steps over them until the program has left its entry.
    #[inline(always)]
    pub(crate) fn ends_at(&self, claim: u64) -> u64 {
        let at = claim & !ENTRY;
        if !after(self.word(TAIL_HIGH).load(), at.wrapping_add(self.capacity)) {
            return at;
        }
        self.entry(claim).store(at.wrapping_add(1) | ENTERS);
        self.last(at)
    }

    /// Before a program leaves its entry, of a ring that keeps its oldest records: ticket `t` has ended.
    #[inline(always)]
    pub(crate) fn ended(&self, t: u64) {
        let ended = self.word(TAIL_ENDED);
        // It fails only if a program with an earlier ticket ends: so many can be in their tails.
        for _ in 0..TAIL_WRITERS {
            let seen = ended.load();
            if !after(t.wrapping_add(1), seen) || ended.compare_exchange(seen, t.wrapping_add(1)) == seen {
                return;
            }
        }
    }

    /// Claims a position, not before `entered`, which the program has entered. A program that interrupts another one which is
    /// moving `next` leaves it alone, and claims beyond what the other may claim: beside it.
    #[inline(always)]
    fn position(&self, entered: u64) -> Option<u64> {
        let (next, beside) = (self.word(TAIL_NEXT), self.word(TAIL_BESIDE));
        for _ in 0..TRIES {
            let (seen, from) = (beside.load(), next.load());
            if self.word(TAIL_ACTIVE).load() & MOVING != 0 {
                let at = from.wrapping_add(self.space);
                let at = if after(seen, at) { seen } else { at };
                if beside.compare_exchange(seen, at.wrapping_add(self.space)) == seen {
                    return Some(at);
                }
            } else {
                if after(seen, from) {
                    next.compare_exchange(from, seen);
                }
                let at = next.fetch_add(self.space);
                // `next` goes back where others give back.
                if !after(beside.load(), at) && !after(entered, at) {
                    return Some(at);
                }
            }
        }
        None
    }
}

/// Moves a word to `to`, unless it is there or beyond. A full barrier if it moves the word.
#[inline(always)]
fn raise(word: Word, to: u64) -> bool {
    for _ in 0..TRIES {
        let seen = word.load();
        if !after(to, seen) || word.compare_exchange(seen, to) == seen {
            return true;
        }
    }
    false
}

/// Looks for the bytes of programs between reserve and commit, around the claim at `at`. The high half of what it returns is how far
/// behind `at` others can be granted, or 0 if a program is in the way that is about to change its position. The low half is 0, or
/// how far behind the position one round before `at` those are that were claimed a round ago or more.
#[inline(always)]
pub(crate) fn way(tails: Tails, at: u64) -> u64 {
    let Tails { space, capacity, .. } = tails;
    let end = at.wrapping_add(space);
    let mut limit = end.wrapping_add(space + capacity / 8);
    let mut clear = at.wrapping_sub(capacity);
    for entry in 0..TAIL_WRITERS {
        let other = tails.word(TAIL_ACTIVE + entry).load();
        let mut last = other & !(ALIGN - 1);
        if other == 0 || !after(limit, last.wrapping_add(capacity)) {
            continue;
        }
        // Where its bytes come for the last time before the end of this claim.
        let rounds = end.wrapping_sub(last).wrapping_sub(1) & capacity.wrapping_neg();
        if rounds != 0 && other & (MOVING | ENTERS) != 0 {
            return 0;
        }
        last = last.wrapping_add(rounds);
        if rounds != 0 && after(last.wrapping_add(space), clear) {
            clear = last.wrapping_add(space);
        }
        if after(limit, last.wrapping_add(capacity)) {
            limit = last.wrapping_add(capacity);
        }
    }
    let behind = clear.wrapping_sub(at.wrapping_sub(capacity)) as u32;
    limit.wrapping_sub(at) << 32 | u64::from(behind)
}

/// Whether tails before `to` would overwrite what a required reader has not read. Advances READ. `tail_claim.bpf.h` says what MARK
/// has, and why this is right.
#[inline(always)]
pub(crate) fn unread(tails: Tails, readers: MapPtr, to: u64) -> bool {
    let (mut read, mark) = (tails.word(TAIL_READ).load(), tails.word(TAIL_MARK).load());
    let ahead = (mark >> 32).wrapping_sub(read >> 4) as i32;
    let marked = read.wrapping_add((i64::from(ahead) as u64).wrapping_mul(ALIGN));
    let mut first = to;
    for entry in 0..TAIL_WRITERS {
        let other = tails.word(TAIL_ACTIVE + entry).load();
        let mut at = other & !(ALIGN - 1);
        if other & (MOVING | ENTERS) == 0 {
            at = tails.last(at);
        }
        if other != 0 && after(first, at) {
            first = at;
        }
    }
    // After the programs above have left, and after the mark, which may be moved meanwhile: so it is not before that.
    let ended = tails.word(TAIL_ENDED).load();
    let since = u64::from(ended.wrapping_sub(mark) as u32); // or more
    // The tickets that may be unread: any, those since the mark, or none.
    let within = if !after(to, read.wrapping_add(tails.capacity)) {
        !0
    } else if !after(to, marked.wrapping_add(tails.capacity)) {
        since + 1
    } else {
        1
    };
    let behind = ended.wrapping_sub(oldest(readers, ended, within));
    if behind <= since {
        if after(marked, read) {
            read = marked;
        }
        if behind == 0 && after(first, read) {
            read = first;
        }
        tails.word(TAIL_READ).store(read);
        tails.word(TAIL_MARK).store(first >> 4 << 32 | u64::from(ended as u32));
    }
    // If all is read, a program is in the way.
    behind != 0 && after(to, read.wrapping_add(tails.capacity))
}

/// Claims a position and an entry. Returns both, or `NONE` after it counted the drop.
#[inline(always)]
pub(crate) fn search<P: Place>(tails: Tails) -> u64 {
    let Tails { space, capacity, .. } = tails;
    let step = capacity / 8;
    let from = tails.word(TAIL_NEXT).load();
    let mut entry = NONE;
    for i in 0..TAIL_WRITERS as u64 {
        let word = tails.word(TAIL_ACTIVE + i as usize);
        if word.load() == 0 && word.compare_exchange(0, from.wrapping_add(1) | ENTERS) == 0 {
            entry = i;
            break;
        }
    }
    let dropped = |count| {
        tails.shard.drop_record(count);
        NONE
    };
    let mut count = tails.word(TAIL_NO_SPACE);
    if entry == NONE {
        return dropped(count);
    }
    let mut kept = 0;
    let mut at = 0;
    for _ in 0..TRIES {
        let Some(position) = tails.position(from) else {
            tails.entry(entry).store(0);
            return dropped(count);
        };
        at = position;
        tails.entry(entry).store(at.wrapping_add(1));
        if after(tails.word(TAIL_HIGH).load(), at.wrapping_add(capacity)) {
            kept = space; // otherwise the next claim would be overtaken, too, and all after it
            break;
        }
        if after(at.wrapping_add(space), tails.word(TAIL_GRANTED).load()) {
            // No program may be in the bytes that will be overwritten. One that enters later is behind this one.
            let ways = P::way(at);
            if ways == 0 {
                break;
            }
            let clear = at.wrapping_sub(capacity).wrapping_add(u64::from(ways as u32));
            // Over bytes that this claim overlaps, or up to the next step.
            let steps = after(clear, at);
            let to = if steps { clear } else { at.wrapping_add(space + step - 1) & step.wrapping_neg() };
            let to = if to.wrapping_sub(at) > ways >> 32 { at.wrapping_add(ways >> 32) } else { to };
            if tails.shard.readers.is_some() && P::unread(to) != 0 {
                count = tails.shard.header.plus(FULL);
                break;
            }
            if (steps && !raise(tails.word(TAIL_BESIDE), to))
                || (ways as u32 != 0 && !raise(tails.word(TAIL_STEPPED), if steps { to } else { clear }))
                || !raise(tails.word(TAIL_HIGH), to)
                || !raise(tails.word(TAIL_GRANTED), to)
            {
                break;
            }
        }
        // After `granted`: what moved that moved this before.
        if !after(tails.word(TAIL_STEPPED).load(), at) {
            return at | entry;
        }
        tails.entry(entry).store(at.wrapping_add(1) | ENTERS);
        kept = space;
    }
    tails.end(at | entry, kept);
    dropped(count)
}
