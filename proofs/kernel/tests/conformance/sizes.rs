//! The layout arithmetic: the examples of docs/abi.md, the C reader and the library agree.

use std::fmt::Write;

use mapring::abi::{Geometry, GeometryError, Kind, Tails};
use mapring_core::protocol::ring::ShardPlace;

use super::reader::Reader;

/// A region's shape, as passed to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Word 2 of the preamble: the kind, the options of a ring and its tails.
    kind: u64,
    record: u64,
    capacity: u64,
    shards: u64,
}

/// The options of a ring, as bits.
const WAKEABLE: u64 = 1;
const KEEP_OLDEST: u64 = 3;
const TAILS: u64 = 4;
const PER_CPU_MAPS: u64 = 8;
const RESIZABLE: u64 = 16;

/// Word 2 of a ring with tails.
fn with_tails(longest: u64, log2_of_bytes: u64) -> u64 {
    1 | TAILS << 8 | longest << 32 | log2_of_bytes << 16
}

impl Shape {
    fn line(self) -> String {
        let Self { kind, record, capacity, shards } = self;
        format!("{kind} {record} {capacity} {shards}\n")
    }

    fn geometry(self) -> Result<Geometry, GeometryError> {
        let kind = Kind::from_raw(self.kind & 0xff).expect("kinds are 1 to 11");
        let mut geometry = Geometry::new(kind, self.record, self.capacity, self.shards)?;
        let has = |option| self.kind >> 8 & option == option;
        if has(PER_CPU_MAPS) {
            geometry = geometry.of_cpu()?;
        }
        if has(WAKEABLE) {
            geometry = geometry.wakeable()?;
        }
        if has(KEEP_OLDEST) {
            geometry = geometry.keep_oldest()?;
        }
        if has(TAILS) {
            let bytes = 1_u64.checked_shl((self.kind >> 16 & 0xff).try_into().unwrap()).unwrap_or(0);
            geometry = geometry.with_tails(Tails::new(self.kind >> 32, bytes)?)?;
        }
        if has(RESIZABLE) { geometry.resizable() } else { Ok(geometry) }
    }

    /// The library's results: size, elements and bytes, and for a ring the bytes to the last shard's header and slots.
    fn sizes(self) -> Option<Vec<u64>> {
        let geometry = self.geometry().ok()?;
        let mut sizes = vec![geometry.element(), geometry.first(), geometry.entries(), geometry.bytes()];
        if geometry.kind() == Kind::Ring {
            let last = ShardPlace::new(&geometry, geometry.shards() - 1);
            sizes.extend([last.head(), last.seq(0)].map(|word| 8 * word));
        }
        Some(sizes.into_iter().map(|size| size as u64).collect())
    }
}

/// The reader's results for each shape; `None` for shapes that it refuses.
fn computed(shapes: &[Shape]) -> Vec<Option<Vec<u64>>> {
    let mut lines = String::new();
    shapes.iter().for_each(|shape| lines.write_str(&shape.line()).unwrap());
    let report = Reader::layouts(&lines);
    assert_eq!(report.len(), shapes.len());
    let numbers = |line: &String| line.split(' ').map(|word| word.parse().ok()).collect();
    report.iter().map(numbers).collect()
}

/// The reader's results that the library also has: all except `per_lines` and `header`.
fn without_private(computed: &[u64]) -> Vec<u64> {
    let private = |at: &usize| ![1, 3].contains(at);
    (0..computed.len()).filter(private).map(|at| computed[at]).collect()
}

#[test]
fn the_examples_of_the_document_are_right() {
    let page = include_str!("../../../../docs/abi.md");
    let table = page.split("### Examples").nth(1).unwrap().split("\n\n").nth(2).unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert!(rows.len() >= 10, "{table}");
    let number = |word: &str| if word == "–" { 0 } else { word.parse::<u64>().unwrap() };
    let shape = |row: &Vec<&str>| {
        let (kind, flags) = row[0].split_once(',').unwrap_or((row[0], ""));
        let kind = [
            "ring",
            "cells",
            "counters",
            "latches",
            "per-CPU cells",
            "per-CPU counters",
            "histograms",
            "gauges",
            "readers",
            "commands",
            "top keys",
        ]
        .iter()
        .position(|name| *name == kind);
        let [record, capacity, shards] = [1, 2, 3].map(|at| number(row[at]));
        let options = [("resizable", RESIZABLE), ("one CPU", PER_CPU_MAPS)];
        let options: u64 =
            options.iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, bits)| bits << 8).sum();
        Shape { kind: (kind.unwrap() as u64 + 1) | options, record, capacity, shards }
    };
    let shapes: Vec<_> = rows.iter().map(shape).collect();
    for ((row, shape), computed) in rows.iter().zip(&shapes).zip(computed(&shapes)) {
        let computed = computed.unwrap();
        let report: Vec<_> = row[4..].iter().map(|word| number(word)).collect();
        assert_eq!(report, computed[..6], "{row:?}");
        assert_eq!(shape.sizes().unwrap(), without_private(&computed), "{row:?}");
    }
}

/// The example in the section *Rings with tails*.
#[test]
fn the_example_with_tails_is_right() {
    let page = include_str!("../../../../docs/abi.md");
    let shape = Shape { kind: with_tails(100, 10), record: 24, capacity: 16, shards: 2 };
    let computed = computed(&[shape])[0].clone().unwrap();
    assert_eq!(without_private(&computed), [2112, 0, 2, 4224, 2240, 2560]);
    assert_eq!(shape.sizes().unwrap(), without_private(&computed));
    for text in ["= 2112", "2 elements, 4224 bytes", "starts at byte 2240", "at byte 2560"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn the_library_lays_out_regions_as_the_document_says() {
    let mut shapes = Vec::new();
    let capacities =
        [0, 1, 2, 3, 4, 7, 8, 64, 4096, (1 << 26) - 1, 1 << 26, 1 << 31, u64::from(u32::MAX), 1 << 32];
    let mut records: Vec<u64> = (0..260).collect();
    records.extend([4095, 4096, 16_384, (1 << 29) - 9, (1 << 29) - 8, (1 << 29) - 7, 1 << 32, u64::MAX]);
    for kind in 1..=11 {
        for &record in records.iter().filter(|&&record| ![3, 6].contains(&kind) || record < 16) {
            for capacity in capacities {
                for shards in [0, 1, 2, 1 << 16, (1 << 16) + 1] {
                    for options in
                        [0, WAKEABLE, KEEP_OLDEST, PER_CPU_MAPS, PER_CPU_MAPS | KEEP_OLDEST, RESIZABLE]
                    {
                        shapes.push(Shape { kind: kind | options << 8, record, capacity, shards });
                    }
                }
            }
        }
    }
    for record in [1, 16, 17, 20, 24, 40, 4096, 1 << 20, (1 << 29) - 8] {
        for capacity in [0, 1, 2, 3, 8, 64, 1 << 15, 1 << 22, 1 << 24, 1 << 31, 1 << 32] {
            for shards in [0, 1, 2, 1 << 16, (1 << 16) + 1] {
                for longest in
                    [0, 1, 63, 64, 65, 100, 512, 1 << 20, 1 << 27, (1 << 27) + 1, u64::from(u32::MAX)]
                {
                    for log2_of_bytes in [0, 6, 7, 10, 27, 28, 29, 63, 64] {
                        for options in [0, KEEP_OLDEST, PER_CPU_MAPS | WAKEABLE, RESIZABLE] {
                            let kind = with_tails(longest, log2_of_bytes) | options << 8;
                            shapes.push(Shape { kind, record, capacity, shards });
                        }
                    }
                }
            }
        }
    }
    for (shape, computed) in shapes.iter().zip(computed(&shapes)) {
        assert_eq!(computed.as_deref().map(without_private), shape.sizes(), "{shape:?}");
    }
}
