//! The memory layout: pure functions that touch no memory. `docs/abi.md` specifies it byte by byte;
//! `include/mapring/detail/abi.bpf.h` is the same in C.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("mapring needs a 64-bit machine: shared words are u64, read and written whole");

pub mod commands;
mod gate;
pub mod gauge;
mod geometry;
pub mod histogram;
mod options;
mod preamble;
mod process;
pub mod readers;
pub mod seq;
mod tails;
pub mod top;

pub use gate::{Epoch, Gate};
pub use geometry::{Geometry, GeometryError};
pub use options::RingOptions;
pub use preamble::{Preamble, PreambleError};
pub use process::Process;
pub use tails::Tails;

/// Bytes in a word. All shared memory consists of naturally aligned, native-endian `u64` words.
pub const WORD: usize = 8;
/// Bytes in a cache line. The preamble and every shard start on their own line.
pub const LINE: usize = 64;
/// The layout's version, in the preamble's second word.
pub const VERSION: u64 = 3;

/// The kind of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A ring of records for each shard. Writers overwrite the oldest record.
    Ring = 1,
    /// A table of cells, each with the latest value.
    Cells = 2,
    /// A bank of counters for each shard.
    Counters = 3,
    /// A table of latches, each with two copies of a value.
    Latches = 4,
    /// A table of cells for each CPU, in a `PERCPU_ARRAY`.
    PerCpuCells = 5,
    /// A bank of counters for each CPU, in a `PERCPU_ARRAY`.
    PerCpuCounters = 6,
    /// A bank of histograms for each shard.
    Histograms = 7,
    /// A bank of gauges for each shard.
    Gauges = 8,
    /// The readers of a ring that sleep, and the tickets until which they do.
    Readers = 9,
    /// A ring of commands, which userspace writes and programs carry out.
    Commands = 10,
    /// A table of counts for each shard, of the keys that have most.
    TopKeys = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Ring,
        Self::Cells,
        Self::Counters,
        Self::Latches,
        Self::PerCpuCells,
        Self::PerCpuCounters,
        Self::Histograms,
        Self::Gauges,
        Self::Readers,
        Self::Commands,
        Self::TopKeys,
    ];

    /// The kind with the number `raw` in the preamble, if there is one.
    pub fn from_raw(raw: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u64 == raw)
    }

    /// Whether such a region has a shard for each CPU that writes it.
    pub fn is_sharded(self) -> bool {
        matches!(
            self,
            Self::Ring | Self::Counters | Self::Histograms | Self::Gauges | Self::Readers | Self::TopKeys
        )
    }

    /// Whether each CPU has a copy of the whole region, preamble included. Such kinds are only in a `PERCPU_ARRAY`.
    pub fn is_per_cpu(self) -> bool {
        matches!(self, Self::PerCpuCells | Self::PerCpuCounters)
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::Cells => "cells",
            Self::Counters => "counters",
            Self::Latches => "latches",
            Self::PerCpuCells => "cells for each CPU",
            Self::PerCpuCounters => "counters for each CPU",
            Self::Histograms => "histograms",
            Self::Gauges => "gauges",
            Self::Readers => "readers",
            Self::Commands => "commands",
            Self::TopKeys => "top keys",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_numbers() {
        for (raw, kind) in (1..).zip(Kind::ALL) {
            assert_eq!(Kind::from_raw(raw), Some(kind));
        }
        assert_eq!([0, 12, u64::MAX].map(Kind::from_raw), [None; 3]);
    }

    #[test]
    fn kinds_are_told_apart_in_words() {
        let kinds = Kind::ALL.map(|kind| kind.to_string());
        assert_eq!(kinds[..4], ["ring", "cells", "counters", "latches"]);
        assert_eq!(
            kinds[4..],
            [
                "cells for each CPU",
                "counters for each CPU",
                "histograms",
                "gauges",
                "readers",
                "commands",
                "top keys"
            ]
        );
        assert_eq!(
            Kind::ALL.map(Kind::is_per_cpu),
            [false, false, false, false, true, true, false, false, false, false, false],
            "only in maps that each CPU has for itself"
        );
    }
}
