//! The summary of a run: the records read, and the cost of a mapped read compared with a system call.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use mapring::Cells;
use serde_json::json;

use super::reader::Outcome;
use super::record::Cpu;
use super::view::{grouped, rounded};

/// Blocks of each kind. They alternate, so that a slow phase of the machine affects both.
const BLOCKS: usize = 61;
const READS: u32 = 20_000;
#[cfg(feature = "bpf")]
const LOOKUPS: u32 = 500;

pub(crate) struct Summary {
    pub(crate) access: String,
    pub(crate) kernel: String,
    pub(crate) seconds: f64,
    pub(crate) outcome: Outcome,
    pub(crate) cost: Cost,
}

/// Medians of all blocks, in nanoseconds.
pub(crate) struct Cost {
    read: f64,
    /// `None` for memfds, which have no lookups.
    lookup: Option<f64>,
}

/// Reads the first cell of a table repeatedly, by its mapping and, for a BPF map, by `lookup_elem`. The cells should
/// have no active writer.
pub(crate) fn measure(cells: &Cells<Cpu>, lookups: bool) -> Result<Cost> {
    cells.read(0)?;
    let (mut reads, mut looked_up) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        reads.push(time(READS, || {
            let _ = black_box(cells.read(black_box(0)));
        }));
        #[cfg(feature = "bpf")]
        if lookups {
            looked_up.push(lookup::time_block(cells, LOOKUPS)?);
        }
    }
    #[cfg(not(feature = "bpf"))]
    let _ = lookups;
    Ok(Cost { read: median(&mut reads).unwrap_or(f64::NAN), lookup: median(&mut looked_up) })
}

fn time(count: u32, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..count).for_each(|_| f());
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The kernel's lookup of a map, without this library.
#[cfg(feature = "bpf")]
mod lookup {
    #![allow(unsafe_code)]

    use std::io;
    use std::os::fd::{AsFd, AsRawFd};

    use anyhow::{Context, Result, ensure};
    use libbpf_rs::libbpf_sys;
    use mapring::Cells;

    use crate::demo::record::Cpu;

    const WORDS: usize = 1 + size_of::<Cpu>() / 8;

    pub(super) fn time_block(cells: &Cells<Cpu>, count: u32) -> Result<f64> {
        let geometry = cells.region().geometry();
        ensure!(geometry.element_words() == WORDS, "a cell of another size");
        let key = u32::try_from(geometry.first())?;
        let fd = cells.region().as_fd().as_raw_fd();
        let mut value = [0_u64; WORDS];
        let mut failed = None;
        let ns = super::time(count, || {
            // SAFETY: the key has the 4 bytes of an array's key, and `value` is as long as the map's values, which was
            // checked above.
            let error = unsafe {
                libbpf_sys::bpf_map_lookup_elem(fd, (&raw const key).cast(), (&raw mut value).cast())
            };
            if error < 0 {
                failed = Some(io::Error::last_os_error());
            }
        });
        failed.map_or(Ok(ns), |error| Err(error).context("lookup_elem"))
    }
}

impl Summary {
    pub(crate) fn json(&self) -> serde_json::Value {
        let Outcome { stats, sandboxed, .. } = self.outcome;
        json!({
            "access": self.access,
            "records": stats.delivered,
            "lost": stats.lost(),
            "dropped": stats.dropped(),
            "reader_syscalls": self.outcome.syscalls(),
            "reader_syscalls_by": self.outcome.evidence(),
            "sandboxed": sandboxed,
            "read_ns": round(self.cost.read),
            "lookup_ns": self.cost.lookup.map(round),
            "seconds": round(self.seconds),
            "kernel": self.kernel,
        })
    }

    /// Text to display.
    pub(crate) fn text(&self) -> String {
        let Outcome { stats, .. } = self.outcome;
        let line = |name: &str, value: String, note: String| format!("  {name:<30}{value:>12}  {note}\n");
        let ns = |ns: f64| format!("{ns:.1} ns");
        let rate = format!("{} a second", rounded(stats.delivered as f64 / self.seconds));
        let lost = match (stats.lapped, stats.skipped) {
            (0, 0) => String::new(),
            (_, 0) => "overwritten before they were read".into(),
            (0, _) => "not ended by their writers in time".into(),
            (lapped, skipped) => {
                format!("{} overwritten, {} not ended", grouped(lapped), grouped(skipped))
            }
        };
        let mut text = format!("{:.1} s on Linux {}, read {}\n", self.seconds, self.kernel, self.access);
        text += &line("records read", grouped(stats.delivered), rate);
        text += &line("lost", grouped(stats.lost()), lost);
        text += &line("dropped by their producers", grouped(stats.dropped()), String::new());
        text += &line("one read of 56 bytes, mapped", ns(self.cost.read), String::new());
        if let Some(lookup) = self.cost.lookup {
            let times = format!("a system call, {:.0} times that", lookup / self.cost.read);
            text += &line("the same by lookup_elem", ns(lookup), times);
        }
        let count = self.outcome.syscalls().map_or("?".into(), grouped);
        let evidence = self
            .outcome
            .evidence()
            .map_or("not shown: no seccomp filters here".into(), |by| format!("by {by}"));
        text += &line("system calls by the reader", count, evidence);
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

impl Outcome {
    /// System calls of the reader while it read, if known. A reader that ended normally under the filter made only
    /// its exit calls.
    pub(crate) fn syscalls(&self) -> Option<u64> {
        self.seen_calls.or(self.sandboxed.then_some(0))
    }

    /// How the number was determined.
    fn evidence(&self) -> Option<&'static str> {
        match (self.seen_calls, self.sandboxed) {
            (Some(_), true) => Some("BPF program and seccomp filter"),
            (Some(_), false) => Some("BPF program"),
            (None, true) => Some("seccomp filter"),
            (None, false) => None,
        }
    }
}

/// Rounds to a tenth.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
