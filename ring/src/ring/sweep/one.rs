//! Reads one shard at a time, for readers that choose the order of the shards.

use bytemuck::AnyBitPattern;

use super::sources::Slots;
use super::{Part, SMALL, Sweep};
use crate::protocol::ring::{Found, Shard, read};

impl<T: AnyBitPattern> Sweep<T> {
    /// The number of shards.
    pub(in crate::ring) fn count(&self) -> usize {
        self.shards.len()
    }

    /// The number of the shard at `at`, for [`Event::shard`](crate::Event::shard).
    pub(in crate::ring) fn number(&self, at: usize) -> usize {
        self.shards.get(at).map_or(at, |shard| shard.number)
    }

    /// Reads at most `limit` records of the shard at `at`.
    #[inline]
    pub(in crate::ring) fn read_one(&mut self, at: usize, limit: usize, f: impl FnMut(u64, &T)) -> Found {
        // All shards together take no more steps than a call may.
        let steps = self.steps.div_ceil(u32::try_from(self.shards.len()).unwrap_or(u32::MAX)).max(1);
        let Part { place, cursor, .. } = &mut self.shards[at];
        let record = &mut self.record;
        match self.sources.of_mut(at) {
            (Slots::Mapped(shared), _) => {
                let mut small = T::zeroed();
                let record = if size_of::<T>() <= SMALL { &mut small } else { record };
                read(cursor, &mut Shard::new(shared.words(), place), record, limit, steps, f)
            }
            // After a failed call a slot only seems empty.
            (Slots::Lookup(window), shard) => {
                let found = window.without_error(|window| {
                    read(cursor, &mut window.of(shard, place), record, limit, steps, f)
                });
                found.unwrap_or(Found::Blocked)
            }
        }
    }
}
