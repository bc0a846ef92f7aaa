//! The layout arithmetic: the examples of docs/abi.md, the C reader and the library agree.

use std::fmt::Write;

use mapring::abi::{Geometry, GeometryError, Kind};

use super::reader::Reader;

/// A region's shape, as passed to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: u64,
    record: u64,
    capacity: u64,
    shards: u64,
    resizable: bool,
    one_cpu: bool,
}

impl Shape {
    fn line(self) -> String {
        let Self { kind, record, capacity, shards, resizable, one_cpu } = self;
        let flags = [resizable, one_cpu].map(u8::from);
        format!("{kind} {record} {capacity} {shards} {} {}\n", flags[0], flags[1])
    }

    fn geometry(self) -> Result<Geometry, GeometryError> {
        let kind = Kind::from_raw(self.kind).expect("kinds are 1 to 11");
        let mut geometry = Geometry::new(kind, self.record, self.capacity, self.shards)?;
        if self.resizable {
            geometry = geometry.resizable()?;
        }
        if self.one_cpu {
            geometry = geometry.of_cpu()?;
        }
        Ok(geometry)
    }

    /// The library's results: size, elements and bytes, and for a ring the position of the last shard.
    fn sizes(self) -> Option<Vec<u64>> {
        let geometry = self.geometry().ok()?;
        let mut sizes = vec![geometry.element(), geometry.first(), geometry.entries(), geometry.bytes()];
        if geometry.kind() == Kind::Ring {
            let last = geometry.shards() - 1;
            sizes.extend([geometry.shard(last), geometry.slots(last)]);
        }
        Some(sizes.into_iter().map(|size| size as u64).collect())
    }
}

/// The reader's results for each shape; `None` for shapes that it refuses.
fn computed(shapes: &[Shape]) -> Vec<Option<Vec<u64>>> {
    let mut lines = String::new();
    shapes.iter().for_each(|shape| lines.write_str(&shape.line()).unwrap());
    let said = Reader::layouts(&lines);
    assert_eq!(said.len(), shapes.len());
    let numbers = |line: &String| line.split(' ').map(|word| word.parse().ok()).collect();
    said.iter().map(numbers).collect()
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
        let (resizable, one_cpu) = (flags.contains("resizable"), flags.contains("one CPU"));
        Shape { kind: kind.unwrap() as u64 + 1, record, capacity, shards, resizable, one_cpu }
    };
    let shapes: Vec<_> = rows.iter().map(shape).collect();
    for ((row, shape), computed) in rows.iter().zip(&shapes).zip(computed(&shapes)) {
        let computed = computed.unwrap();
        let said: Vec<_> = row[4..].iter().map(|word| number(word)).collect();
        assert_eq!(said, computed[..6], "{row:?}");
        assert_eq!(shape.sizes().unwrap(), without_private(&computed), "{row:?}");
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
                    for flags in if kind == 1 { 0..4 } else { 0..2 } {
                        let [resizable, one_cpu] = [1, 2].map(|bit| flags & bit != 0);
                        shapes.push(Shape { kind, record, capacity, shards, resizable, one_cpu });
                    }
                }
            }
        }
    }
    for (shape, computed) in shapes.iter().zip(computed(&shapes)) {
        assert_eq!(computed.as_deref().map(without_private), shape.sizes(), "{shape:?}");
    }
}
