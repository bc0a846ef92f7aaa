//! The hot read paths with names of their own, so that `cargo xtask assembly` can find what the
//! compiler made of them. Records of 56 bytes: with their sequence they fill a cache line.
#![allow(unsafe_code)] // symbols that are not mangled: no other crate of this build has their names

use mapring_core::protocol::ring::{Cursor, Shard, Step};
use mapring_core::protocol::{Words, cell, counters, latch};

/// A record that fills a cache line with its sequence.
pub type Record = [u64; 7];

/// One look at a cell.
#[unsafe(no_mangle)]
pub fn cell_try_read(cell: Words<'_>, out: &mut Record) -> Option<u64> {
    cell::try_read(cell, out)
}

/// One look at a latch.
#[unsafe(no_mangle)]
pub fn latch_try_read(latch: Words<'_>, out: &mut Record) -> Option<u64> {
    latch::try_read(latch, out)
}

/// The sum of a counter over its banks, `stride` words from one to the next.
#[unsafe(no_mangle)]
pub fn counters_sum(words: Words<'_>, stride: usize, shards: usize) -> u64 {
    (0..shards).map(|shard| counters::get(words, shard * stride)).fold(0, u64::wrapping_add)
}

/// One step of a ring's reader: `poll`.
#[unsafe(no_mangle)]
pub fn ring_step(cursor: &mut Cursor, shard: &mut Shard<'_>, out: &mut Record) -> Step {
    cursor.step(shard, out)
}

/// A run of a ring's reader: `for_each`.
#[unsafe(no_mangle)]
pub fn ring_run(cursor: &mut Cursor, shard: &mut Shard<'_>, limit: usize, sum: &mut u64) -> (usize, Step) {
    let mut record = [0; 7];
    cursor.run(shard, &mut record, limit, |_, record: &Record| {
        *sum = record.iter().fold(*sum, |sum, word| sum.wrapping_add(*word));
    })
}
