//! The summary of a run: the records read, and the cost of a mapped read compared with a system call.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use mapring::{Cells, ReadStats};
use mapring_kit::text::{grouped, rate};
use mapring_view::target::of_kernel;
use serde::Serialize;

use super::Cpu;

/// The names are those of the JSON output.
#[derive(Serialize)]
pub(super) struct Summary {
    access: &'static str,
    pub(super) records: u64,
    lost: u64,
    dropped: u64,
    pub(super) reader_syscalls: u64,
    reader_syscalls_by: &'static str,
    read_ns: f64,
    lookup_ns: Option<f64>,
    seconds: f64,
    kernel: String,
}

impl Summary {
    /// Measures how long it takes to read the first of some cells without an active writer: by its mapping, and by
    /// `lookup`, which makes a system call. If nobody counted the reader's system calls, it made none, as its filter shows.
    pub(super) fn new(
        (stats, calls): (ReadStats, Option<u64>),
        seconds: f64,
        cells: &Cells<Cpu>,
        lookup: Option<impl FnMut()>,
    ) -> Result<Self> {
        Ok(Self {
            access: "mapped",
            records: stats.delivered,
            lost: stats.lost(),
            dropped: stats.dropped(),
            reader_syscalls: calls.unwrap_or(0),
            reader_syscalls_by: calls.map_or("seccomp filter", |_| "BPF program and seccomp filter"),
            read_ns: median(20_000, || drop(black_box(cells.read(black_box(0))))),
            lookup_ns: lookup.map(|lookup| median(500, lookup)),
            seconds,
            kernel: of_kernel("osrelease")?,
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:.1} s on Linux {}, read {}", self.seconds, self.kernel, self.access);
        let mut line = |name, value: String, note: &str| {
            text += format!("\n  {name:<30}{value:>12}  {note}").trim_end();
        };
        let per_second = rate(self.records as f64 / self.seconds);
        line("records read", grouped(self.records), &format!("{per_second} a second"));
        line("lost", grouped(self.lost), "");
        line("dropped by their producers", grouped(self.dropped), "");
        line("one read of 56 bytes, mapped", format!("{:.1} ns", self.read_ns), "");
        if let Some(ns) = self.lookup_ns {
            let times = format!("a system call, {:.0} times that", ns / self.read_ns);
            line("the same by lookup_elem", format!("{ns:.1} ns"), &times);
        }
        let evidence = format!("by {}", self.reader_syscalls_by);
        line("system calls by the reader", grouped(self.reader_syscalls), &evidence);
        text
    }
}

/// The nanoseconds of a call: the median of blocks of `count` calls.
fn median(count: u32, mut call: impl FnMut()) -> f64 {
    let mut blocks = [(); 61].map(|()| {
        let start = Instant::now();
        (0..count).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    });
    blocks.sort_by(f64::total_cmp);
    blocks[blocks.len() / 2]
}
