//! Regions that every reader refuses, for the same reason.

use mapring::abi::{Kind, Preamble};

use super::make::{GATE, Image, OPTIONS, SIZE, TAILS};
use super::seen::Seen;

/// A word of the preamble, and its value.
type Edit = (usize, u64);

const KIND: usize = OPTIONS;
const RECORD: usize = 3;
const CAPACITY: usize = 4;
const SHARDS: usize = 5;

/// What is changed in the preamble of a ring of 8 × 16 bytes in 2 shards, and a part of the error's text.
const PREAMBLES: &[(&str, &[Edit], &str)] = &[
    (
        "no_preamble",
        &[(0, 0)],
        "no preamble: the first word is 0x0000000000000000, expected 0x00676e697270616d",
    ),
    (
        "other_magic",
        &[(0, 0x1122_3344_5566_7788)],
        "no preamble: the first word is 0x1122334455667788, expected 0x00676e697270616d",
    ),
    (
        "version_2",
        &[(1, 2)],
        "layout version 2, this library knows 3: build program, loader and reader with one version of mapring, and replace what an older one has pinned",
    ),
    (
        "version_4",
        &[(1, 4)],
        "layout version 4, this library knows 3: build program, loader and reader with one version of mapring",
    ),
    (
        "kind_0",
        &[(KIND, 0)],
        "a region of unknown kind 0, this library knows 1 (ring), 2 (cells), 3 (counters), 4 (latches), 5 (cells for each CPU), 6 (counters for each CPU), 7 (histograms), 8 (gauges), 9 (readers), 10 (commands) and 11 (top keys)",
    ),
    (
        "kind_12",
        &[(KIND, 12)],
        "a region of unknown kind 12, this library knows 1 (ring), 2 (cells), 3 (counters), 4 (latches), 5 (cells for each CPU), 6 (counters for each CPU), 7 (histograms), 8 (gauges), 9 (readers), 10 (commands) and 11 (top keys)",
    ),
    ("option_5", &[(KIND, 1 | 32 << 8)], "a ring with unknown options 0x20"),
    ("keep_oldest_alone", &[(KIND, 1 | 2 << 8)], "a ring with unknown options 0x2"),
    ("resizable_tails", &[(KIND, 1 | 20 << 8)], "a ring with unknown options 0x14"),
    ("bit_24", &[(KIND, 1 | 1 << 24)], "a ring with unknown options 0x10000"),
    (
        "options_of_cells",
        &[(KIND, 2 | 1 << 8), (SHARDS, 1)],
        "cells with the options WAKEABLE: only rings have options, and a RESIZABLE ring has no others except WAKEABLE",
    ),
    (
        "gate_1",
        &[(GATE, 1)],
        "a gate of state 1: a resizable ring has 1 (open) or 3 (retired), any other region 0",
    ),
    (
        "gate_2_resizable",
        &[(KIND, 1 | 16 << 8), (GATE, 2)],
        "a gate of state 2: a resizable ring has 1 (open) or 3 (retired), any other region 0",
    ),
    ("record_0", &[(RECORD, 0)], "records of 0 bytes: a record has 1 to 536870904 bytes"),
    ("record_2_29", &[(RECORD, 1 << 29)], "records of 536870912 bytes: a record has 1 to 536870904 bytes"),
    (
        "slots_6",
        &[(CAPACITY, 6)],
        "a ring needs a power of two of slots, and top keys of buckets (1, 2, 4, …), not 6",
    ),
    ("shards_0", &[(SHARDS, 0)], "ring with 8 entries in 0 shards: both must be at least 1"),
    ("shards_65537", &[(SHARDS, 65537)], "65537 shards: a region has at most 65536"),
    (
        "elements_2_32",
        &[(CAPACITY, 1 << 31), (SHARDS, 2)],
        "4294967320 elements: a map has at most 4294967295",
    ),
    ("size_32", &[(SIZE, 32)], "elements of 32 bytes where the records make them 24"),
    ("shards_of_cpu", &[(KIND, 1 | 8 << 8)], "2 shards in the map of one CPU: it has 1"),
    (
        "shards_of_latches",
        &[(KIND, 4)],
        "only rings, counters, histograms, gauges and top keys have shards, and not in per-CPU maps: 1 shard, not 2",
    ),
    (
        "tails_longer_than_half",
        &[(KIND, 1 | TAILS << 8 | 8 << 16 | 129 << 32), (RECORD, 32)],
        "tails of up to 129 bytes in 256 bytes: the area is a power of two from 128 to 2^28, and at least twice the longest tail",
    ),
    (
        "tails_without_record",
        &[(KIND, 1 | TAILS << 8 | 8 << 16 | 64 << 32)],
        "records with tails have more than 16 bytes, not 16",
    ),
    ("counters_of_16", &[(KIND, 3)], "counters of 16 bytes: a counter has 8 bytes"),
    ("histograms_of_16", &[(KIND, 7)], "histograms of 16 bytes: a histogram has 4096 bytes"),
    ("gauges_of_16", &[(KIND, 8)], "gauges of 16 bytes: a gauge has 16384 bytes"),
    ("keys_of_16", &[(KIND, 11)], "buckets of 16 bytes: a bucket of top keys has 248 bytes"),
    ("readers_of_8", &[(KIND, 9), (RECORD, 8)], "readers with 8 seats, this library knows 64"),
];

pub(crate) fn images() -> Vec<(String, Image, Seen)> {
    let whole = Image::new(Kind::Ring, 16, 8, 2);
    let spoilt = |(name, edits, text): &(&str, &[Edit], &str)| {
        let mut image = whole.clone();
        edits.iter().for_each(|(at, word)| image.words[*at] = *word);
        // The rest is not read.
        image.words.truncate(Preamble::WORDS);
        (format!("bad_{name}"), image, Seen::refused("Preamble", text))
    };
    let cut = |name: &str, words: usize, text: &str| {
        let mut image = whole.clone();
        image.words.truncate(words);
        (format!("bad_{name}"), image, Seen::refused("Contradiction", text))
    };
    let words = whole.words.len();
    let short = format!("has {} bytes, expected at least {}", 8 * words - 8, 8 * words);
    let cut = [
        cut("short", words - 1, &short),
        cut("without_preamble", Preamble::WORDS - 1, "has 120 bytes, expected at least 128"),
    ];
    PREAMBLES.iter().map(spoilt).chain(cut).collect()
}
