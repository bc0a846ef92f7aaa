//! Claims slots by compare-and-swap, for every ring: `claim.bpf.h` says why this is correct. There are no guarded claims here, but
//! programs in C may make some in the same ring.

use crate::keep;
use crate::layout::{DROPS_SINCE, DROPS_UNTIL, FULL, LIMIT, TAIL_SLOTS, header, header_word};
use crate::words::{MapPtr, Word, lookup, now, sign};

/// Set in `seq` beside the published state: the ticket ended without a record.
pub(crate) const DISCARDED: u64 = 1 << 63;
/// Set in `head` during a guarded claim.
pub(crate) const PENDING: u64 = 1 << 63;
/// The number of slots that a claim tries before it gives up and counts the record as dropped.
pub(crate) const TRIES: u64 = 6;
/// The number of these that it tries before it may bisect to find the end of the ring.
const WALK: u64 = 2;
/// Nanoseconds without a drop after which the next drop begins a new spell.
const SPELL: i64 = 1_000_000_000;

/// A CPU's shard. Everything but the header is a constant for the compiler.
#[derive(Clone, Copy)]
pub(crate) struct Shard {
    pub(crate) map: MapPtr,
    /// The first word of its header.
    pub(crate) header: Word,
    /// The element of the header; 0 in a ring with tails.
    pub(crate) base: u32,
    /// Words from one slot to the next.
    pub(crate) words: usize,
    /// log2 of its slots.
    pub(crate) shift: u32,
    /// Whether it is one element, as in a ring with tails.
    pub(crate) is_element: bool,
    /// The map of its readers, if it keeps its oldest records.
    pub(crate) readers: Option<MapPtr>,
}

impl Shard {
    /// The number of ticket `t`'s slot.
    #[inline(always)]
    pub(crate) fn number(&self, t: u64) -> u32 {
        t as u32 & ((1_u64 << self.shift) - 1) as u32
    }

    /// The `seq` of ticket `t`. `None` if it is outside of the map.
    #[inline(always)]
    pub(crate) fn slot(&self, t: u64) -> Option<Word> {
        let slot = self.number(t);
        if self.is_element {
            return Some(self.header.plus(TAIL_SLOTS).plus(slot as usize * self.words));
        }
        lookup(self.map, self.base.wrapping_add(header(self.words * 8) as u32).wrapping_add(slot))
    }

    /// With n = 2^k slots, ticket t has slot t mod n, in lap L = t >> k. The slot is free for t while `seq` is even and at most
    /// 2L. `seq` is 2L+1 while t is being written, and 2L+2 when t is published. This is 2L.
    #[inline(always)]
    pub(crate) fn lap(&self, t: u64) -> u64 {
        (t >> self.shift) * 2
    }

    /// A word of its header.
    #[inline(always)]
    fn header_word(&self, word: usize) -> Option<Word> {
        if self.is_element {
            return Some(self.header.plus(word));
        }
        header_word(self.map, self.words * 8, self.header, self.base, word)
    }

    /// Whether ticket `t` is beyond the limit, as far as known: then only the slow path may claim it.
    #[inline(always)]
    fn is_beyond(&self, t: u64) -> bool {
        self.readers.is_some()
            && self.header_word(LIMIT).is_none_or(|limit| t.wrapping_sub(limit.load()) as i64 >= 0)
    }

    /// Stores the time of a drop, before it is counted. If programs interrupt each other here, it is the time of one of them.
    #[inline(always)]
    fn time_drop(&self) {
        let (since, until) = (self.header_word(DROPS_SINCE), self.header_word(DROPS_UNTIL));
        let now = now();
        let (Some(since), Some(until)) = (since, until) else { return };
        if now.wrapping_sub(until.load()) as i64 > SPELL {
            since.store(now);
        }
        until.store(now);
    }

    /// Counts a drop in this word.
    #[inline(always)]
    pub(crate) fn drop_record(&self, count: Word) {
        self.time_drop();
        count.count(1);
    }
}

/// Claims the slot of a ticket whose lap is `lap`, if the slot is free. Returns 0, else the state of the slot. `pending` is the mark
/// of a guarded claim as this claim found it: if it is set, this program interrupts one that may be about to store to a slot that
/// it found free. That slot is behind for every later ticket, so this claim takes only slots that are exactly free.
///
/// SYNC claim, order, follow, clock: a compare-and-swap is a full barrier.
#[inline(always)]
fn take(seq: Word, lap: u64, pending: u64) -> u64 {
    // The compare-and-swap fails for an odd `seq` (being written): it expects `even`, and `seq` never goes back.
    let mut found = seq.load();
    let even = found & !1;
    let state = even & !DISCARDED;
    if state == lap || (pending == 0 && state < lap) {
        found = seq.compare_exchange(even, lap + 1);
        if found == even {
            return 0;
        }
    }
    match found & !DISCARDED {
        0 => 1, // behind, and can't be claimed
        state => state,
    }
}

/// The slow path: `head` was not the next free ticket. Returns the ticket that it claimed, or -1 after it counted the drop.
#[inline(always)]
pub(crate) fn search(shard: Shard) -> i64 {
    let head = shard.header;
    let start = head.load();
    let pending = start & PENDING;
    let mut t = start ^ pending;
    let mut is_full = false;
    let claimed = 'search: {
        // A nested program took the slot, or it is still being written one lap behind: try the next.
        for _ in 0..WALK {
            if shard.is_beyond(t) {
                break;
            }
            let Some(seq) = shard.slot(t) else { break 'search false };
            let lap = shard.lap(t);
            let state = take(seq, lap, pending);
            if state == 0 {
                break 'search true;
            }
            if state > lap + 2 {
                break;
            }
            t += 1;
        }
        let Some(seq) = shard.slot(t) else { break 'search false };
        let state = seq.load() & !DISCARDED;
        if state > shard.lap(t) {
            // `head` is far behind. The last ticket of this slot is taken, and so are all up to the end, which is less than a lap
            // further: bisect.
            t = (((state - 1) >> 1) << shard.shift) | (t & ((1 << shard.shift) - 1));
            let mut bit = (1_u64 << shard.shift) >> 1;
            while bit != 0 {
                let mid = t.wrapping_add(bit);
                let Some(seq) = shard.slot(mid) else { break 'search false };
                let is_taken = sign(shard.lap(mid).wrapping_sub(seq.load() & !DISCARDED));
                t = t.wrapping_add(bit.wrapping_mul(is_taken));
                bit >>= 1;
            }
            t = t.wrapping_add(1);
        }
        let limit =
            shard.readers.map(|readers| keep::limit(readers, shard.header_word(LIMIT), t, 1 << shard.shift));
        for _ in WALK..TRIES {
            if limit.is_some_and(|limit| t.wrapping_sub(limit) as i64 >= 0) {
                is_full = true;
                break;
            }
            let Some(seq) = shard.slot(t) else { break 'search false };
            if take(seq, shard.lap(t), pending) == 0 {
                break 'search true;
            }
            t = t.wrapping_add(1);
        }
        false
    };
    if claimed {
        head.store(t.wrapping_add(1) | pending);
        return t as i64;
    }
    // Stuck slots in a row, or these and a stale `head` hide the end: the next claim continues from here. In a smaller ring this
    // claim tried every slot.
    if is_full || (1 << shard.shift) > TRIES {
        head.store(t | pending);
    }
    if let Some(count) = if is_full { shard.header_word(FULL) } else { Some(head.plus(1)) } {
        shard.drop_record(count);
    }
    -1
}

/// The fast path: returns the ticket and its slot if `head` was the next free ticket. In a ring of four slots or more, no slot's
/// state equals the lap of a marked head, so the mark needs no check.
#[inline(always)]
pub(crate) fn fast(shard: &Shard) -> Option<(u64, Word)> {
    let mark = if shard.shift < 2 { PENDING } else { 0 };
    let t = shard.header.load();
    let lap = shard.lap(t);
    let seq = shard.slot(t)?;
    if t & mark != 0 || shard.is_beyond(t) || seq.compare_exchange(lap, lap + 1) != lap {
        return None;
    }
    shard.header.store(t + 1);
    Some((t, seq))
}
