//! The counts of records: those that a reader passed, and those that programs dropped.

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::ReadStats;

use super::Sweep;
use super::sources::DROPS;
use crate::abi::Preamble;

impl<T: AnyBitPattern> Sweep<T> {
    /// The counts of the tickets that were passed, summed over all shards.
    pub(in crate::ring) fn passed(&self) -> ReadStats {
        let mut sum = ReadStats::default();
        (0..self.shards.len()).for_each(|at| sum += self.passed_of(at));
        sum
    }

    /// The lost ones of these.
    pub(in crate::ring) fn lost(&self) -> u64 {
        self.shards.iter().map(|shard| shard.cursor.stats().lost()).fold(0, u64::wrapping_add)
    }

    /// The counts of the tickets that were passed in the shard at `at`.
    fn passed_of(&self, at: usize) -> ReadStats {
        let shard = &self.shards[at];
        let mut stats = shard.cursor.stats();
        stats.delivered = stats.delivered.wrapping_add(self.taken(at));
        stats
    }

    /// The same, with the records that programs dropped.
    pub(in crate::ring) fn stats(&self) -> ReadStats {
        let no_shard = self.sources.iter().map(|of| self.or_zero(of.region().live(Preamble::DROPPED)));
        let mut stats = self.passed();
        stats.no_shard = no_shard.fold(0, u64::wrapping_add);
        (0..self.shards.len()).for_each(|at| self.add_dropped(at, &mut stats));
        stats
    }

    /// The counts of the records of the shard with this number.
    pub(in crate::ring) fn shard_stats(&self, number: usize) -> Option<ReadStats> {
        let at = self.shards.iter().position(|shard| shard.number == number)?;
        let mut stats = self.passed_of(at);
        self.add_dropped(at, &mut stats);
        Some(stats)
    }

    /// Adds the records that programs dropped in the shard at `at`.
    fn add_dropped(&self, at: usize, stats: &mut ReadStats) {
        let (source, shard) = (self.sources.of(at), self.sources.shard_of(at));
        for cause in DROPS {
            let dropped = self.or_zero(source.dropped(shard, &self.shards[at].place, cause));
            stats.add(cause, dropped);
        }
    }
}
