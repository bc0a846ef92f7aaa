//! The counts of records: those that a reader passed, and those that programs dropped.

use bytemuck::AnyBitPattern;

use super::Sweep;
use crate::abi::Preamble;
use crate::protocol::ring::{DROPPED, FULL, ReadStats};

impl<T: AnyBitPattern> Sweep<T> {
    /// The counts of the tickets that were passed, summed over all shards.
    pub(in crate::ring) fn passed(&self) -> ReadStats {
        let mut sum = ReadStats::default();
        (0..self.shards.len()).for_each(|at| sum += self.passed_of(at));
        sum
    }

    /// The same for the shard at `at`.
    fn passed_of(&self, at: usize) -> ReadStats {
        let shard = &self.shards[at];
        let stats = shard.cursor.stats();
        let delivered = stats.delivered.wrapping_add(self.taken(at));
        ReadStats { delivered, unknown: shard.unknown, ..stats }
    }

    /// The same, with the records that programs dropped.
    pub(in crate::ring) fn stats(&self) -> ReadStats {
        let dropped = (0..self.shards.len()).map(|at| self.dropped(at));
        let no_shard = self.sources.iter().map(|of| self.or_zero(of.region().live(Preamble::DROPPED)));
        let sum = |a: u64, b| a.wrapping_add(b);
        let full = (0..self.shards.len()).map(|at| self.full(at)).fold(0, sum);
        ReadStats { no_slot: dropped.fold(0, sum), full, no_shard: no_shard.fold(0, sum), ..self.passed() }
    }

    /// The counts of the records of the shard with this number.
    pub(in crate::ring) fn shard_stats(&self, number: usize) -> Option<ReadStats> {
        let at = self.shards.iter().position(|shard| shard.number == number)?;
        Some(ReadStats { no_slot: self.dropped(at), full: self.full(at), ..self.passed_of(at) })
    }

    /// Records that programs dropped in the shard at `at`.
    fn dropped(&self, at: usize) -> u64 {
        self.or_zero(self.header(at, |shard| shard.dropped(), DROPPED))
    }

    /// Records that programs dropped in the shard at `at` because of a required reader.
    fn full(&self, at: usize) -> u64 {
        if !self.region.geometry().keeps_oldest() {
            return 0;
        }
        self.or_zero(self.header(at, |shard| shard.full(), FULL))
    }
}
