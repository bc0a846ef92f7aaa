//! Counters, histograms, gauges and top keys: numbers, whose meaning no type needs to tell.

use pyo3::prelude::*;

use crate::{index, read_error};

/// Counters that each CPU counts by itself. `counters[i]` is the sum of all CPUs.
#[pyclass(frozen, sequence, module = "mapring")]
pub(crate) struct Counters(pub(crate) mapring::Counters);

#[pymethods]
impl Counters {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__(&self, py: Python<'_>, at: isize) -> PyResult<u64> {
        let at = index(at, self.0.len())?;
        py.detach(|| self.0.sum(at)).map_err(read_error)
    }

    /// How many CPUs count.
    #[getter]
    fn shards(&self) -> usize {
        self.0.shards()
    }

    /// A counter of one CPU.
    fn get(&self, py: Python<'_>, cpu: usize, at: usize) -> PyResult<u64> {
        py.detach(|| self.0.get(cpu, at)).map_err(read_error)
    }

    /// All counters, each summed over all CPUs: `numpy.array(counters.sums(), "u8")`.
    fn sums(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let sums = py.detach(|| {
            let mut sums = vec![0; self.0.len()];
            self.0.sums(&mut sums).map(|()| sums)
        });
        sums.map_err(read_error)
    }
}

/// Histograms of 64-bit values, which each CPU counts by itself. `histograms[i]` is a copy of one, of all CPUs.
#[pyclass(frozen, sequence, module = "mapring")]
pub(crate) struct Histograms(pub(crate) mapring::Histograms);

#[pymethods]
impl Histograms {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__(&self, py: Python<'_>, at: isize) -> PyResult<Histogram> {
        let at = index(at, self.0.len())?;
        py.detach(|| self.0.snapshot(at)).map(Histogram).map_err(read_error)
    }

    /// How many CPUs count.
    #[getter]
    fn shards(&self) -> usize {
        self.0.shards()
    }

    /// A copy of the histogram of one CPU.
    fn get(&self, py: Python<'_>, cpu: usize, at: usize) -> PyResult<Histogram> {
        py.detach(|| self.0.snapshot_of(cpu, at)).map(Histogram).map_err(read_error)
    }
}

/// A copy of a histogram. Its buckets are at most 12.5 % wide. `str()` draws it.
#[pyclass(frozen, module = "mapring")]
pub(crate) struct Histogram(mapring::Histogram);

#[pymethods]
impl Histogram {
    /// How many values.
    #[getter]
    fn count(&self) -> u64 {
        self.0.count()
    }

    /// The mean, up to 6.25 % wrong, or None if there is no value.
    #[getter]
    fn mean(&self) -> Option<f64> {
        self.0.mean()
    }

    /// The smallest and the largest value of the bucket at or below which `percent` percent of all values are; None if there is
    /// no value.
    fn percentile(&self, percent: f64) -> Option<(u64, u64)> {
        self.0.percentile(percent).map(|range| (*range.start(), *range.end()))
    }

    /// The buckets that are not empty: the smallest value, the largest value, and how many.
    fn buckets(&self) -> Vec<(u64, u64, u64)> {
        self.0.buckets().map(|(range, count)| (*range.start(), *range.end(), count)).collect()
    }

    /// What was added after an earlier copy; None if that is no earlier copy of this histogram.
    fn since(&self, earlier: &Self) -> Option<Self> {
        self.0.since(&earlier.0).map(Self)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<Histogram of {} values>", self.0.count())
    }
}

/// Gauges: the smallest and largest value of each millisecond of the last second.
#[pyclass(frozen, sequence, module = "mapring")]
pub(crate) struct Gauges(pub(crate) mapring::Gauges);

#[pymethods]
impl Gauges {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// The windows of a gauge, in the order of time: when it began (ns of the monotonic clock), the smallest and the largest value.
    fn __getitem__(&self, py: Python<'_>, at: isize) -> PyResult<Vec<(u64, u64, u64)>> {
        let at = index(at, self.0.len())?;
        let windows = py.detach(|| self.0.windows(at)).map_err(read_error)?;
        Ok(windows.into_iter().map(|window| (window.ns, window.min, window.max)).collect())
    }
}

/// A key, its count, and by how much the count may be too large.
type Key = (u64, u64, u64);

/// The keys with the most events or bytes.
#[pyclass(frozen, module = "mapring")]
pub(crate) struct TopKeys(pub(crate) mapring::TopKeys);

#[pymethods]
impl TopKeys {
    /// Up to `k` keys with the largest counts: the key, its count, and by how much the count may be too large.
    fn largest(&self, py: Python<'_>, k: usize) -> PyResult<Vec<Key>> {
        Ok(self.ranking(py, k)?.0)
    }

    /// The same, with a count than which no other key has more, and everything that was added.
    fn ranking(&self, py: Python<'_>, k: usize) -> PyResult<(Vec<Key>, u64, u64)> {
        let found = py.detach(|| self.0.largest(k)).map_err(read_error)?;
        let keys = found.keys.into_iter().map(|key| (key.key, key.count, key.error)).collect();
        Ok((keys, found.unlisted, found.total))
    }
}
