//! Histograms: a bank for each CPU, summed when they are read.

use std::fmt;
use std::ops::Range;

use super::fallback::fetch_banks;
use super::openers;
use crate::abi::histogram::{BUCKETS, HISTOGRAM, STRIDE};
use crate::abi::{Geometry, Kind};
use crate::error::{Cause, Error, ReadError, Result};
use crate::histogram::Histogram;
use crate::protocol::histogram;
use crate::region::{Region, Shared, SharedMut, View};

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
    region: Region,
    /// `None` if the region is not mapped.
    shared: Option<Shared>,
}

openers!(Histograms);

impl Histograms {
    /// Histograms over a region that is already open.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType).
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect(Kind::Histograms)?;
        let shared = match region.view() {
            View::Mapped(shared) => Some(shared),
            View::Lookup(_) => None,
        };
        Ok(Self { shared, region })
    }

    /// Creates `shards` banks of `count` histograms between ordinary processes, in a memfd. See
    /// [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that can't be histograms or shards,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(count: usize, shards: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::Histograms, HISTOGRAM as u64, count as u64, shards as u64)?;
        Self::from_region(Region::create_memfd(geometry, "u64")?)
    }

    /// How many histograms there are.
    pub fn len(&self) -> usize {
        self.region.geometry().capacity()
    }

    /// Always false: there is at least one histogram.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of banks: the possible CPUs, if BPF programs count.
    pub fn shards(&self) -> usize {
        self.region.geometry().shards()
    }

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
        if cpu >= self.shards() {
            return Err(ReadError::Index { thing: "shard", index: cpu, count: self.shards() });
        }
        let mut histogram = Histogram::new();
        self.collect(cpu..cpu + 1, index, &mut histogram)?;
        Ok(histogram)
    }

    /// A writer into one bank. The region must be mapped for writing: a memfd that this process created or opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    pub fn writer(&self, shard: usize) -> Result<HistogramsWriter> {
        if shard >= self.shards() {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count: self.shards() }));
        }
        let geometry = self.region.geometry();
        let first = geometry.shard(shard) * geometry.element_words();
        Ok(HistogramsWriter { shared: self.region.shared_mut()?, first, count: self.len() })
    }

    fn collect(&self, cpus: Range<usize>, index: usize, out: &mut Histogram) -> Result<(), ReadError> {
        if index >= self.len() {
            return Err(ReadError::Index { thing: "histogram", index, count: self.len() });
        }
        let (geometry, at) = (self.region.geometry(), index * STRIDE);
        let sums = out.counts_mut();
        let Some(shared) = &self.shared else {
            sums.fill(0);
            return fetch_banks(&self.region, cpus, |bank| {
                sums.iter_mut().zip(at..).for_each(|(sum, word)| *sum = sum.wrapping_add(bank(word)));
            });
        };
        let first = |cpu| geometry.shard(cpu) * geometry.element_words() + at;
        histogram::sum(cpus.map(|cpu| shared.words().slice(first(cpu), BUCKETS)), sums);
        Ok(())
    }
}

impl fmt::Debug for Histograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histograms").field(&self.region).finish()
    }
}

/// A writer into one bank of histograms, in Rust.
pub struct HistogramsWriter {
    shared: SharedMut,
    first: usize,
    count: usize,
}

impl HistogramsWriter {
    /// Counts a value in a histogram, atomically and relaxed. Makes no system call.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    #[inline]
    pub fn add(&self, index: usize, value: u64) -> Result<()> {
        if index >= self.count {
            return Err(Error::from(Cause::Index { thing: "histogram", index, count: self.count }));
        }
        histogram::add(self.shared.words().slice(self.first + index * STRIDE, BUCKETS), value);
        Ok(())
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl fmt::Debug for HistogramsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramsWriter").field("count", &self.count).finish_non_exhaustive()
    }
}
