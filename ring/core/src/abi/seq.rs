//! The sequence word of a ring's slot, and the slot and lap of a ticket.
//!
//! With `n = 2^k` slots, ticket `t` has slot `t mod n`, in lap `L = t >> k`. The slot's `seq`, without [`DISCARDED`],
//! is `2L + 1` while `t` is being written and `2L + 2` once it has ended. The slot is free for `t` while `seq` is even
//! and at most `2L`. Values only grow and are never used twice. So if two loads return the same value, nothing changed
//! in between.

/// Set together with the ended state: the ticket ended without a record.
pub const DISCARDED: u64 = 1 << 63;

/// Set in `head` while a program makes a guarded claim (`detail/claim.bpf.h` explains it).
pub const PENDING: u64 = 1 << 63;

/// How many tickets a claim tries before it gives up and counts the record as dropped.
pub const TRIES: u32 = 6;
/// How many of these tickets it tries one by one, before it searches for the end of the ring by bisection.
pub const WALK: u32 = 2;

/// The state in a sequence word: all bits except [`DISCARDED`].
#[inline]
pub fn state(seq: u64) -> u64 {
    seq & !DISCARDED
}

/// The number of slots in a ring's shard: a power of two. All slot indices come from copies of this, so they are always
/// in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    bits: u32,
}

impl Slots {
    /// `count` slots, or `None` if it is not a power of two.
    pub fn new(count: u32) -> Option<Self> {
        count.is_power_of_two().then(|| Self { bits: count.trailing_zeros() })
    }

    /// The number of slots.
    #[inline]
    pub fn count(self) -> u64 {
        1 << self.bits
    }

    /// The slot of ticket `t`; always less than [`count`](Self::count).
    #[inline]
    pub fn of(self, t: u64) -> usize {
        // At most 31 bits remain.
        #[allow(clippy::cast_possible_truncation)]
        let slot = (t & (self.count() - 1)) as usize;
        slot
    }

    /// The number of tickets from `t` to the end of its lap, `t` included: at least 1.
    #[inline]
    pub fn rest_of_lap(self, t: u64) -> usize {
        // At most 2^31.
        #[allow(clippy::cast_possible_truncation)]
        let rest = (self.count() - self.of(t) as u64) as usize;
        rest
    }

    /// The highest state for which the slot of `t` is free for it: `2L`.
    #[inline]
    pub fn free(self, t: u64) -> u64 {
        (t >> self.bits) << 1
    }

    /// The state while `t` is being written: `2L + 1`.
    #[inline]
    pub fn writing(self, t: u64) -> u64 {
        self.free(t) + 1
    }

    /// The state once `t` has ended: `2L + 2`.
    #[inline]
    pub fn published(self, t: u64) -> u64 {
        self.free(t).wrapping_add(2)
    }

    /// The latest ticket that took the slot of `t`: the ticket with this slot in the lap of `state` (not 0).
    #[inline]
    pub fn taken(self, state: u64, t: u64) -> u64 {
        (state.wrapping_sub(1) >> 1) << self.bits | self.of(t) as u64
    }

    /// The last taken ticket before the first free one, found by bisection. `t` must be taken, like all tickets from
    /// `t` to the end of the ring, which is less than a lap away. `seq_of` loads the sequence of a ticket's slot; it is
    /// called `k` times.
    #[inline]
    pub fn last_taken(self, mut t: u64, mut seq_of: impl FnMut(u64) -> u64) -> u64 {
        for bit in (0..self.bits).rev() {
            let mid = t.wrapping_add(1 << bit);
            if state(seq_of(mid)) > self.free(mid) {
                t = mid;
            }
        }
        t
    }
}

/// Whether ticket `a` comes after ticket `b`. The difference wraps, so any content of shared memory is a valid input.
#[inline]
pub fn after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_a_power_of_two() {
        assert_eq!(Slots::new(0), None);
        assert_eq!(Slots::new(3), None);
        assert_eq!(Slots::new(1).unwrap().count(), 1);
        assert_eq!(Slots::new(1 << 31).unwrap().count(), 1 << 31);
    }

    #[test]
    fn a_lap_ends_after_its_last_slot() {
        let slots = Slots::new(4).unwrap();
        assert_eq!([0, 1, 3, 4, 7].map(|t| slots.rest_of_lap(t)), [4, 3, 1, 4, 1]);
    }

    #[test]
    fn states_of_consecutive_laps_do_not_overlap() {
        let slots = Slots::new(4).unwrap();
        for t in 0..64 {
            assert_eq!(slots.writing(t), slots.free(t) + 1);
            assert_eq!(slots.published(t), slots.free(t + 4));
            assert_eq!(slots.taken(slots.writing(t), t), t);
            assert_eq!(slots.taken(slots.published(t), t), t);
        }
    }

    #[test]
    fn bisection_finds_the_end_from_any_ticket() {
        for bits in 0..6 {
            let slots = Slots::new(1 << bits).unwrap();
            let n = slots.count();
            for end in 1..(4 * n) {
                // Tickets 0..end were published: each slot holds the last of its tickets.
                let seq_of = |t: u64| {
                    let slot = slots.of(t) as u64;
                    let last = (0..end).rev().find(|&u| slots.of(u) as u64 == slot);
                    last.map_or(0, |u| slots.published(u))
                };
                for t in end.saturating_sub(n)..end {
                    assert_eq!(slots.last_taken(t, seq_of), end - 1, "n {n}, end {end}, from {t}");
                }
            }
        }
    }

    #[test]
    fn the_highest_numbers_do_not_overflow() {
        let slots = Slots::new(1).unwrap();
        for t in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let _ =
                (slots.free(t), slots.writing(t), slots.published(t), slots.taken(t, t), slots.taken(0, t));
        }
        assert!(after(0, u64::MAX));
    }
}
