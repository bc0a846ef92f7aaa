//! Gauges: the smallest and the largest value of each millisecond, for each CPU, merged when they are read.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use mapring_core::protocol::gauge::{self, Extremes};

use super::per_cpu_elements::{PerCpuElements, per_cpu_elements};
use crate::abi::Kind;
use crate::abi::gauge::{GAUGE, STRIDE, WINDOW_BITS, WINDOWS, window};
use crate::error::{ReadError, Result};
use crate::time::Clock;

/// Gauges that programs set on each CPU (`MAPRING_GAUGES` of `gauge.bpf.h`).
///
/// A gauge keeps the smallest and the largest value of each window of 2^20 ns (1.05 ms), for the last 1024 windows
/// (1.07 s) in which its CPU set it. Values have 36 bits; larger ones count as `2^36 - 1`. Windows are numbered by
/// `CLOCK_MONOTONIC`, for nine years after the boot.
///
/// ```
/// use mapring::Gauges;
///
/// let depth = Gauges::create_memfd(1, 1)?; // gauges, shards
/// let (writer, mut reader) = (depth.writer(0)?, depth.reader(0)?);
/// let ns = 5_000_000_000; // CLOCK_MONOTONIC
/// for value in [7, 3, 9] {
///     writer.set_at(0, value, ns)?;
/// }
/// writer.set_at(0, 80, ns + 2_000_000)?; // two windows later
/// let since = reader.read()?;
/// assert_eq!((since.min(), since.max(), since.windows.len()), (Some(3), Some(80), 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Gauges {
    elements: PerCpuElements,
}

per_cpu_elements!(Gauges, GaugesWriter, "gauge", Kind::Gauges, GAUGE);

/// The values of about a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaugeWindow {
    /// When the window began: nanoseconds of `CLOCK_MONOTONIC`. It lasted 2^20 ns.
    pub ns: u64,
    /// The smallest value.
    pub min: u64,
    /// The largest value.
    pub max: u64,
}

impl Gauges {
    /// All windows of a gauge that are still in memory, of all CPUs, in the order of time. If mapped: 2048 loads for
    /// each CPU, no system call.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    pub fn windows(&self, index: usize) -> Result<Vec<GaugeWindow>, ReadError> {
        let mut merged = BTreeMap::new();
        self.each(index, |_, extremes| merge(&mut merged, extremes))?;
        Ok(shown(merged))
    }

    /// A reader of the values since its last read, or at first since this call.
    ///
    /// # Errors
    /// As for [`windows`](Self::windows).
    pub fn reader(&self, index: usize) -> Result<GaugeReader, ReadError> {
        let mut newest = vec![0; self.shards()];
        self.each(index, |cpu, extremes| newest[cpu] = extremes.window.max(newest[cpu]))?;
        let began = window(Clock::Monotonic.now());
        Ok(GaugeReader { gauges: self.clone(), index, newest, began })
    }

    /// Calls `f` for each CPU and window in memory.
    fn each(&self, index: usize, mut f: impl FnMut(usize, Extremes)) -> Result<(), ReadError> {
        self.elements.check(0, index)?;
        let (first, cpus) = (index * STRIDE, 0..self.shards());
        let Some(words) = self.elements.words() else {
            let mut cpu = 0;
            return self.elements.fetch(cpus, |bank| {
                let found = |place| gauge::try_read(|at| bank(first + at), place);
                (0..WINDOWS).filter_map(found).for_each(|extremes| f(cpu, extremes));
                cpu += 1;
            });
        };
        for cpu in cpus {
            let words = words.slice(self.elements.bank(cpu) + first, STRIDE);
            let found = |place| gauge::try_read(|at| words.load(at, Ordering::Relaxed), place);
            (0..WINDOWS).filter_map(found).for_each(|extremes| f(cpu, extremes));
        }
        Ok(())
    }
}

fn merge(merged: &mut BTreeMap<u64, Extremes>, new: Extremes) {
    let old = merged.entry(new.window).or_insert(new);
    (old.min, old.max) = (old.min.min(new.min), old.max.max(new.max));
}

fn shown(merged: BTreeMap<u64, Extremes>) -> Vec<GaugeWindow> {
    let shown = |e: Extremes| GaugeWindow { ns: e.window << WINDOW_BITS, min: e.min, max: e.max };
    merged.into_values().map(shown).collect()
}

/// The values of a gauge since the previous read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinceLastRead {
    /// The windows in which the gauge was set, in the order of time. The window of the previous read is among them
    /// again if it is still in memory, because it may have got more values.
    pub windows: Vec<GaugeWindow>,
    /// How many windows other windows may have overwritten before this read, summed over all CPUs. Then the values
    /// here may not be the extremes. It stays 0 if reads are at most a second apart.
    pub missed: u64,
}

impl SinceLastRead {
    /// The smallest value. `None` if the gauge was not set.
    pub fn min(&self) -> Option<u64> {
        self.windows.iter().map(|window| window.min).min()
    }

    /// The largest value. `None` if the gauge was not set.
    pub fn max(&self) -> Option<u64> {
        self.windows.iter().map(|window| window.max).max()
    }
}

/// A reader of one gauge. Any number of readers can read a gauge: none changes it.
#[derive(Clone, Debug)]
pub struct GaugeReader {
    gauges: Gauges,
    index: usize,
    /// The newest window of each CPU at the previous read, or 0.
    newest: Vec<u64>,
    /// The window in which this reader was made.
    began: u64,
}

impl GaugeReader {
    /// The values since the previous read. If mapped: 2048 loads for each CPU, no system call.
    ///
    /// # Errors
    /// [`ReadError::Lookup`]. The next read then continues from the previous one.
    pub fn read(&mut self) -> Result<SinceLastRead, ReadError> {
        let mut newest = self.newest.clone();
        let mut merged = BTreeMap::new();
        self.gauges.each(self.index, |cpu, extremes| {
            newest[cpu] = extremes.window.max(newest[cpu]);
            if extremes.window >= self.newest[cpu] {
                merge(&mut merged, extremes);
            }
        })?;
        let missed = |(before, now): (&u64, &u64)| {
            let from = if *before == 0 { self.began } else { *before };
            (now + 1).saturating_sub(WINDOWS as u64).saturating_sub(from)
        };
        let missed = self.newest.iter().zip(&newest).map(missed).fold(0, u64::saturating_add);
        self.newest = newest;
        Ok(SinceLastRead { windows: shown(merged), missed })
    }
}

impl GaugesWriter {
    /// Notes the value that a gauge had at a time of `CLOCK_MONOTONIC`. Makes no system call. Returns whether it is
    /// recorded: not if another window already has the place of this one, which is a second older, nor if four others
    /// changed it at this moment.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    #[inline]
    pub fn set_at(&self, index: usize, value: u64, ns: u64) -> Result<bool> {
        let first = self.0.word(index, STRIDE)?;
        Ok(gauge::set(self.0.shared.words().slice(first, STRIDE), window(ns), value))
    }
}
