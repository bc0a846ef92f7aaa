//! Histograms: a bank for each CPU, summed when they are read.

use std::ops::Range;

use mapring_core::protocol::histogram;

use super::per_cpu_elements::{PerCpuElements, per_cpu_elements};
use crate::abi::Kind;
use crate::abi::histogram::{BUCKETS, HISTOGRAM, STRIDE};
use crate::error::{ReadError, Result};
use crate::histogram::Histogram;

/// Histograms of `u64` values that programs count on each CPU (`MAPRING_HISTOGRAMS` of `histogram.bpf.h`).
///
/// Each bucket is exact: no value is lost or counted twice. A copy does not show one moment: it may contain a value and
/// not another one that was added before it. The next copy contains both.
///
/// Each read by system call makes three lookups of each CPU's bank, because the kernel may copy one part of a number
/// before it changes and the rest after.
///
/// ```
/// use mapring::Histograms;
///
/// let latencies = Histograms::create_memfd(1, 2)?; // histograms, shards
/// latencies.writer(0)?.add(0, 130)?;
/// let before = latencies.snapshot(0)?;
/// latencies.writer(1)?.add(0, 700)?;
/// let new = latencies.snapshot(0)?.since(&before).unwrap();
/// assert_eq!((new.count(), new.percentile(99.0)), (1, Some(640..=703)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Histograms {
    elements: PerCpuElements,
}

per_cpu_elements!(Histograms, HistogramsWriter, "histogram", Kind::Histograms, HISTOGRAM);

impl Histograms {
    /// A copy of a histogram, summed over all CPUs. If mapped: 496 loads for each CPU, no system call.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    pub fn snapshot(&self, index: usize) -> Result<Histogram, ReadError> {
        let mut histogram = Histogram::new();
        self.snapshot_into(index, &mut histogram)?;
        Ok(histogram)
    }

    /// The same into a histogram that exists, which loses its content. If mapped, it allocates nothing.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot). The histogram can then contain anything.
    pub fn snapshot_into(&self, index: usize, histogram: &mut Histogram) -> Result<(), ReadError> {
        self.collect(0..self.shards(), index, histogram)
    }

    /// A copy of the histogram of one CPU.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub fn snapshot_of(&self, cpu: usize, index: usize) -> Result<Histogram, ReadError> {
        self.elements.check(cpu, index)?;
        let mut histogram = Histogram::new();
        self.collect(cpu..cpu + 1, index, &mut histogram)?;
        Ok(histogram)
    }

    fn collect(&self, cpus: Range<usize>, index: usize, out: &mut Histogram) -> Result<(), ReadError> {
        self.elements.check(0, index)?;
        let (at, sums) = (index * STRIDE, out.counts_mut());
        let Some(words) = self.elements.words() else {
            sums.fill(0);
            return self.elements.fetch(cpus, |bank| {
                sums.iter_mut().zip(at..).for_each(|(sum, word)| *sum = sum.wrapping_add(bank(word)));
            });
        };
        histogram::sum(cpus.map(|cpu| words.slice(self.elements.bank(cpu) + at, BUCKETS)), sums);
        Ok(())
    }
}

impl HistogramsWriter {
    /// Counts a value in a histogram, atomically and relaxed. Makes no system call.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    #[inline]
    pub fn add(&self, index: usize, value: u64) -> Result<()> {
        let first = self.0.word(index, STRIDE)?;
        histogram::add(self.0.shared.words().slice(first, BUCKETS), value);
        Ok(())
    }
}
