//! The readers of a ring in a memfd, as its writers know them: which to wake after a ticket has ended, and which tickets may
//! not be claimed because a required reader has not read what is in their slots. By the same steps as programs
//! (`readers.bpf.h`, `keep.bpf.h`). [`readers`](crate::protocol::readers) is the readers' side, and says why this is correct.
//!
//! Unlike the programs of a CPU, writers run in parallel. A limit that one of them stores late is older than the others',
//! and no less safe: it was right for the readers that were required when it was computed, and protects from a later reader's
//! first ticket on.

use super::{LIMIT, ShardMut};
use crate::abi::readers::{
    ASLEEP, IDLE, IDLE_SINCE, LOOK, NEVER, REQUIRED, SEATS, held, lease, position, wake_at,
};
use crate::abi::seq::{PENDING, TRIES, after, state};
use crate::clock::now;
use crate::protocol::WordsMut;
use crate::sync::{At, Ordering, fence, in_program_order, order};

/// The readers that the writers of a shard know.
#[derive(Clone, Copy, Debug)]
pub struct MemfdReaders<'a> {
    words: WordsMut<'a>,
    shard: usize,
    /// By how much this process's clock is ahead of the machine's.
    ahead: u64,
}

/// Who is told that a ticket of a [`Slot`](super::Slot) has ended.
pub trait Ended: Sync {
    /// Wakes the readers that sleep until this ticket.
    fn ended(&self, ticket: u64);
}

impl<'a> MemfdReaders<'a> {
    /// The readers of this shard. `words` has the words of [`abi::readers`](crate::abi::readers).
    #[inline]
    pub fn new(words: WordsMut<'a>, shard: usize, ahead: u64) -> Self {
        Self { words, shard, ahead }
    }

    /// The readers to wake after ticket `t` has ended, one bit for each. No other writer wakes them for this sleep.
    #[inline]
    pub fn to_wake(&self, shard: &ShardMut<'_>, t: u64) -> u64 {
        // SYNC look: the load comes after the end of the ticket in the program, and no barrier is between the two. A reader
        // that makes writers look more often waits until each CPU has issued one (membarrier(2)).
        in_program_order();
        let slots = shard.place.slots;
        if !(slots.of(t) as u64) & self.words.load(LOOK, Ordering::Relaxed) & NEVER != 0 {
            return 0;
        }
        fence(order!(At::TicketEnded)); // SYNC asleep: pairs with the fence in `Seat::asleep`
        let is_last = slots.rest_of_lap(t) == 1;
        if self.words.load(ASLEEP, Ordering::Relaxed) == 0 && !is_last {
            return 0;
        }
        self.take_sleepers(shard, is_last)
    }

    #[cold]
    fn take_sleepers(&self, shard: &ShardMut<'_>, is_last: bool) -> u64 {
        let all = is_last && self.stops_looking();
        let asleep = self.words.load(ASLEEP, Ordering::Relaxed);
        let is_due = |seat| match self.words.load(wake_at(self.shard, seat), Ordering::Relaxed) {
            0 => true,
            until => all || shard.has_reached(until.wrapping_sub(1)),
        };
        let due = (0..SEATS).filter(|&seat| asleep & 1 << seat != 0 && is_due(seat));
        // If the bit is gone, another writer wakes the reader.
        due.fold(0, |due, seat| due | self.words.clear(ASLEEP, 1 << seat) & 1 << seat)
    }

    /// Whether writers stop looking for sleepers from now on. The caller then wakes all that sleep.
    fn stops_looking(&self) -> bool {
        let look = self.words.load(LOOK, Ordering::Relaxed);
        let stops = self.lease_ended(IDLE_SINCE, IDLE)
            && self.words.swap_if(LOOK, look, look | NEVER, Ordering::Relaxed);
        fence(order!(At::StopsLooking)); // SYNC idle: pairs with the fence in `Seat::asleep`
        stops
    }

    /// Whether a lease has ended since the time in `word`. If that is 0, the lease begins now.
    fn lease_ended(&self, word: usize, lease: u64) -> bool {
        let since = self.words.load(word, Ordering::Relaxed);
        let now = now().wrapping_sub(self.ahead).max(1); // 0 is no time
        if since == 0 {
            self.words.store(word, now, Ordering::Relaxed);
        }
        since != 0 && now.saturating_sub(since) > lease
    }

    /// The limit: no ticket from this one on may be claimed. `t` is the next ticket to be claimed.
    pub(super) fn limit(&self, shard: &ShardMut<'_>, t: u64) -> u64 {
        let slots = shard.place.slots.count();
        let limit = self.oldest(t, slots).wrapping_add(slots);
        shard.header.store(LIMIT, limit, order!(At::LimitStore)); // SYNC read: pairs with the load in `is_beyond`
        limit
    }

    /// The oldest ticket that a required reader has not read, or `t`. A reader that has not read `within` tickets before `t`
    /// holds writers back. When its lease has ended, it is no longer required.
    fn oldest(&self, t: u64, within: u64) -> u64 {
        fence(order!(At::Claimed)); // SYNC keep: pairs with the fence in `Seat::require`
        let required = self.words.load(REQUIRED, Ordering::Relaxed);
        let mut most = 0;
        for seat in (0..SEATS).filter(|seat| required & 1 << seat != 0) {
            let at = position(self.shard, seat);
            // SYNC read: pairs with the store in `Seat::has_read`.
            let next = self.words.load(at, order!(At::Positions));
            let behind = t.wrapping_sub(next);
            if after(next, t) {
                continue; // no reader is there: forged, or read since by other writers' tickets
            }
            if behind < within {
                self.words.store(held(self.shard, seat), 0, Ordering::Relaxed);
            } else if self
                .lease_ended(held(self.shard, seat), self.words.load(lease(seat), Ordering::Relaxed))
                && self.words.load(at, Ordering::Relaxed) == next
            {
                self.words.clear(REQUIRED, 1 << seat);
                continue;
            }
            most = most.max(behind);
        }
        t.wrapping_sub(most)
    }
}

impl ShardMut<'_> {
    /// Whether ticket `t` has ended, or is far behind: it may be one that no writer can claim, because its slot is stuck.
    fn has_reached(&self, t: u64) -> bool {
        let ended = state(self.seq(t)).wrapping_sub(self.place.slots.published(t)).cast_signed() >= 0;
        let head = self.header.load(super::HEAD, Ordering::Relaxed) & !PENDING;
        ended || head.wrapping_sub(t).cast_signed() > i64::from(TRIES)
    }

    /// Whether ticket `t` is beyond the limit, as far as known: only a check of the readers may allow it.
    #[inline]
    pub(super) fn is_beyond(&self, t: u64) -> bool {
        // SYNC read: the reader had read what this ticket overwrites when the limit was stored.
        !after(self.header.load(LIMIT, order!(At::LimitLoad)), t)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::super::{Dropped, Shard, ShardPlace};
    use super::*;
    use crate::abi::readers::words;
    use crate::abi::{Geometry, Kind};
    use crate::protocol::readers::Seat;
    use crate::sync::AtomicU64;

    /// A ring of eight slots, and the words of its readers, of whom none sleeps.
    struct Region {
        memory: Vec<AtomicU64>,
        readers: Vec<AtomicU64>,
        place: ShardPlace,
    }

    impl Region {
        fn new() -> Self {
            let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
            let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
            let region = Self {
                memory: zeros(geometry.bytes() / 8),
                readers: zeros(words(1)),
                place: ShardPlace::new(&geometry, 0),
            };
            region.words().store(LOOK, NEVER, Ordering::Relaxed);
            region
        }

        fn words(&self) -> WordsMut<'_> {
            WordsMut::new(&self.readers)
        }

        fn word(&self, at: usize) -> u64 {
            self.words().load(at, Ordering::Relaxed)
        }

        fn shard(&self) -> ShardMut<'_> {
            ShardMut::new(WordsMut::new(&self.memory), &self.place)
        }

        fn known(&self) -> MemfdReaders<'_> {
            MemfdReaders::new(self.words(), 0, 0)
        }

        /// Writes the next record and returns who is to be woken.
        fn push(&self) -> u64 {
            let ticket = self.shard().push(&7_u64).unwrap();
            self.known().to_wake(&self.shard(), ticket)
        }

        /// Writes the next record, unless a required reader has not read the one before it.
        fn keep(&self) -> Result<(), Dropped> {
            let slot = self.shard().reserve_before::<u64>(Some(&self.known()));
            slot.map(|mut slot| {
                slot.write(&7);
                assert!(slot.commit().is_some());
            })
        }

        fn reader(&self, me: u64) -> Seat<'_> {
            Seat::take(self.words(), me, |_, _| true).unwrap()
        }
    }

    #[test]
    fn readers_are_woken_at_their_ticket_where_writers_look() {
        let region = Region::new();
        let [a, b] = [1, 2].map(|me| region.reader(me));
        a.will_sleep(1);
        [a, b].iter().for_each(Seat::asleep);
        a.sleeps_until(0, Some(3));
        b.sleeps_until(0, None);
        assert_eq!([(); 4].map(|()| region.push()), [0, 2, 0, 1], "at odd tickets");
        assert!(!a.is_asleep() && !b.is_asleep());
        a.asleep();
        a.sleeps_until(0, Some(4));
        assert_eq!([(); 2].map(|()| region.push()), [0, 1], "which has ended by now");
        a.asleep();
        assert_eq!([region.push(), region.push()], [0, 1], "a ticket that is long past");
        a.asleep();
        region.words().store(LOOK, NEVER, Ordering::Relaxed);
        assert_eq!([(); 8].map(|()| region.push()), [0; 8], "they look at none");
    }

    #[test]
    fn a_ticket_that_never_ends_is_reached_when_the_ring_is_far_behind_it() {
        let region = Region::new();
        let reader = region.reader(1);
        reader.will_sleep(0);
        reader.asleep();
        reader.sleeps_until(0, Some(0));
        core::mem::forget(region.shard().reserve::<u64>());
        // After ticket 6, a claim would have given up.
        assert_eq!([(); 8].map(|()| region.push()), [0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn writers_stop_looking_after_a_long_time_without_sleepers() {
        let region = Region::new();
        let reader = region.reader(1);
        reader.will_sleep(0);
        assert_eq!([(); 7].map(|()| region.push()), [0; 7]);
        assert_eq!(region.word(IDLE_SINCE), 0, "only at the end of a lap");
        region.push();
        let since = region.word(IDLE_SINCE);
        assert!(since != 0 && since <= now());
        let next_lap = |since| {
            region.words().store(IDLE_SINCE, since, Ordering::Relaxed);
            (0..8).fold(0, |woken, _| woken | region.push())
        };
        assert_eq!((next_lap(now() - IDLE / 2), reader.look()), (0, 0));
        // This process's clock is ahead by twice that time.
        let ahead = MemfdReaders::new(region.words(), 0, 2 * IDLE);
        region.words().store(IDLE_SINCE, now() - IDLE - 1, Ordering::Relaxed);
        assert!(!ahead.stops_looking() && reader.look() == 0);
        reader.asleep();
        reader.sleeps_until(0, Some(1 << 40));
        let count = region.word(LOOK) >> 32;
        assert_eq!((next_lap(now() - IDLE - 1), reader.look()), (1, NEVER), "those that sleep are told");
        assert_eq!(region.word(LOOK) >> 32, count);
    }

    #[test]
    fn writers_keep_what_a_required_reader_has_not_read() {
        let region = Region::new();
        let reader = region.reader(1);
        reader.has_read(0, 0);
        reader.require(3_600_000_000_000);
        assert_eq!(
            [(); 9].map(|()| region.keep()).map(|it| it.is_ok()),
            [[true; 8].as_slice(), &[false]].concat()[..]
        );
        assert_eq!(region.keep(), Err(Dropped::Full));
        let held = held(0, 0);
        let shard = Shard::new(*WordsMut::new(&region.memory), &region.place);
        assert_eq!((shard.full(), shard.dropped()), (2, 0));
        assert!(region.word(held) != 0, "since when it holds writers back");
        reader.has_read(0, 2);
        assert_eq!([(); 3].map(|()| region.keep()), [Ok(()), Ok(()), Err(Dropped::Full)]);
        let second = region.reader(2);
        second.has_read(0, 9);
        second.require(1);
        reader.has_read(0, 8);
        assert_eq!([(); 7].map(|()| region.keep().is_ok()), [true, true, true, true, true, true, false]);
        reader.has_read(0, 16);
        assert!(region.keep().is_ok() && region.word(held) == 0);
        assert!(second.is_required());
    }

    #[test]
    fn a_reader_whose_lease_has_ended_is_required_no_more() {
        for seat in 0..3 {
            let region = Region::new();
            let _others: Vec<_> = (10..).take(seat).map(|me| region.reader(me)).collect();
            let reader = region.reader(1);
            reader.has_read(0, 0);
            reader.require(1_000_000_000);
            (0..8).for_each(|_| assert_eq!(region.keep(), Ok(())));
            assert_eq!((region.keep(), reader.is_required()), (Err(Dropped::Full), true), "seat {seat}");
            let at = held(0, seat);
            let long_ago = |nanoseconds| region.words().store(at, now() - nanoseconds, Ordering::Relaxed);
            long_ago(500_000_000);
            assert_eq!((region.keep(), reader.is_required()), (Err(Dropped::Full), true));
            long_ago(1_500_000_000);
            assert_eq!((region.keep(), reader.is_required()), (Ok(()), false));
        }
    }

    #[test]
    fn positions_that_no_reader_can_have_hold_nobody_back() {
        let region = Region::new();
        let reader = region.reader(1);
        reader.has_read(0, 1 << 40);
        reader.require(3_600_000_000_000);
        assert!((0..20).all(|_| region.keep().is_ok()));
    }
}
