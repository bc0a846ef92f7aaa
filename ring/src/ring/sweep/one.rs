//! Reads one shard at a time, for readers that choose the order of the shards.

use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring_core::clock::now;
use mapring_core::protocol::ring::{Found, Shard, newest_record, read};

use super::sources::Slots;
use super::{Part, Sweep};
use crate::abi::seq::after;
use crate::ring::event::Event;
use crate::ring::in_slot::InSlot;
use crate::ring::unended::Unended;
use crate::time::Clock;

impl<T: AnyBitPattern> Sweep<T> {
    /// The number of shards.
    pub(in crate::ring) fn count(&self) -> usize {
        self.shards.len()
    }

    /// Reads records of the shard at `at` into `room`. `held` is the earliest of its tickets that were read before and not
    /// delivered. Tails are read when their records are delivered, so programs must not overwrite those until then.
    #[inline]
    pub(in crate::ring) fn read_one<R: InSlot<T>>(
        &mut self,
        at: usize,
        held: Option<u64>,
        room: &mut [R],
        f: impl FnMut(u64, &[R]),
    ) -> Found {
        if R::HAS_TAIL {
            self.lease.has_read(at, held.unwrap_or(self.shards[at].cursor.next()));
        }
        // All shards together take no more steps than a call may.
        let steps = self.budget.steps.div_ceil(u32::try_from(self.shards.len()).unwrap_or(u32::MAX)).max(1);
        let Part { place, cursor, read_all, .. } = &mut self.shards[at];
        let next = cursor.next();
        let found = match self.sources.of_mut(at) {
            (Slots::Mapped(shared), _) => {
                read(cursor, &mut Shard::new(shared.words(), place), room, steps, f)
            }
            // After a failed call a slot only seems empty.
            (Slots::Lookup(window), shard) => window
                .without_error(|window| read(cursor, &mut window.of(shard, place), room, steps, f))
                .unwrap_or(Found::Blocked),
        };
        let passed = cursor.next() != next;
        // A lost tail is found when its record is delivered. So the last time but one is kept while records are held from
        // before the last one: it must not be later than the loss.
        if found == Found::End && !(R::HAS_TAIL && held.is_some_and(|held| after(read_all[0], held))) {
            cursor.read_all(self.rotation.recheck.time());
            *read_all = [cursor.next(), read_all[0]];
        }
        if passed {
            self.rotation.recheck.found();
            if !R::HAS_TAIL {
                self.has_read(at);
            }
        }
        found
    }

    /// Calls `f` with the newest record of each shard. Moves no cursor.
    pub(in crate::ring) fn for_each_newest<R: InSlot<T>>(&mut self, mut f: impl FnMut(Event<&R>)) {
        let Self { sources, shards, record, .. } = self;
        let record = R::place(record);
        for (at, Part { number, place, .. }) in shards.iter().enumerate() {
            let found = match sources.of_mut(at) {
                (Slots::Mapped(shared), _) => newest_record(&mut Shard::new(shared.words(), place), record),
                (Slots::Lookup(window), shard) => newest_record(&mut window.of(shard, place), record),
            };
            if let Some(ticket) = found {
                f(Event { shard: *number, ticket, record, tail: () });
            }
        }
    }

    /// See [`Reader::skip_before`](crate::Reader::skip_before).
    pub(in crate::ring) fn skip_before<R: InSlot<T>>(&mut self, mut is_before: impl FnMut(&R) -> bool) {
        self.settle();
        for at in 0..self.shards.len() {
            let Part { place, cursor, .. } = &mut self.shards[at];
            let record = R::place(&mut self.record);
            match self.sources.of_mut(at) {
                (Slots::Mapped(shared), _) => {
                    cursor.skip_before(&mut Shard::new(shared.words(), place), record, &mut is_before)
                }
                (Slots::Lookup(window), shard) => {
                    cursor.skip_before(&mut window.of(shard, place), record, &mut is_before)
                }
            }
            self.rotation.has_read(at, place, cursor.next());
            self.has_read(at);
        }
    }

    /// The records that this reader passed, or whose slots it passed, and that have not ended: at most one of each shard.
    pub(in crate::ring) fn unended(&mut self) -> Vec<Unended> {
        let Self { sources, shards, .. } = self;
        let now = now();
        let found = shards.iter().enumerate().filter_map(|(at, Part { number, place, cursor, .. })| {
            let (ticket, since) = match sources.of_mut(at) {
                (Slots::Mapped(shared), _) => cursor.unended(&mut Shard::new(shared.words(), place)),
                (Slots::Lookup(window), shard) => cursor.unended(&mut window.of(shard, place)),
            }?;
            Some(Unended { shard: *number, ticket, noticed: Duration::from_nanos(now.saturating_sub(since)) })
        });
        found.collect()
    }

    /// Stores the time, before a round of reads. Of another clock than `CLOCK_MONOTONIC` it is not stored.
    pub(in crate::ring) fn begin_round(&mut self, now: u64, clock: Clock) {
        if clock == Clock::Monotonic {
            self.rotation.recheck.set(now);
        }
    }
}
