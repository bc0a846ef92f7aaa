//! Reads several rings, whose records are bytes, in the order of their stamps.

use mapring::Merged;
use mapring::any::AnyReader;
use mapring::time::Clock;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error;
use crate::reader::{LossParts, Reader, SLICE, UnendedParts, loss_parts, stats_of, unended_parts, wait};
use crate::records::{Rows, TAILS};
use crate::turns::Turns;

/// An event: ring, shard, ticket, record, tail.
type Parts<'py> = (usize, usize, u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// A reader of several rings. As for a [`Reader`], its lock is taken only without the interpreter's.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct MergedReader {
    /// `None` once it is closed.
    rings: Turns<Option<Merged<'static, Rows>>>,
    /// The bytes of each ring's records.
    sizes: Vec<usize>,
    /// The most records that are read at once: their tails are not too many bytes.
    part: usize,
}

impl MergedReader {
    /// Does something with the rings, without the interpreter's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Merged<'static, Rows>) -> T + Send,
    ) -> PyResult<T> {
        py.detach(|| self.rings.lock()?.as_mut().map(f).ok_or_else(closed))
    }

    /// Does something with a ring's reader.
    fn with_ring<T: Send>(
        &self,
        py: Python<'_>,
        ring: usize,
        f: impl FnOnce(&mut dyn AnyReader) -> T + Send,
    ) -> PyResult<T> {
        if ring >= self.sizes.len() {
            return Err(PyIndexError::new_err(format!("no ring {ring}: there are {}", self.sizes.len())));
        }
        self.with(py, |rings| f(rings.reader_mut(ring)))
    }
}

#[pymethods]
impl MergedReader {
    /// Takes the readers, which are closed then.
    #[new]
    fn new(py: Python<'_>, readers: Vec<Py<Reader>>) -> PyResult<Self> {
        let clocks: Vec<_> = readers.iter().filter_map(|reader| reader.get().clock).collect();
        let clock = clocks.first().copied().unwrap_or(Clock::Monotonic);
        if clocks.iter().any(|other| *other != clock) {
            return Err(PyValueError::new_err("the stamps of the rings are of different clocks"));
        }
        py.detach(|| {
            let (mut rings, mut sizes, mut part) = (Merged::new(clock), Vec::new(), usize::MAX);
            for (ring, reader) in readers.iter().enumerate() {
                rings = reader.get().take()?.join(rings, ring)?;
                sizes.push(reader.get().size);
                if let Some(tails) = rings.reader(ring).region().geometry().tails() {
                    part = part.min((TAILS / tails.longest()).max(1));
                }
            }
            Ok(Self { rings: Turns::new(Some(rings)), sizes, part })
        })
    }

    /// Up to `limit` events that are present.
    fn read<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Parts<'py>>> {
        let rows = self.with(py, |rings| {
            let mut rows = Rows::default();
            while rows.places.len() < limit && rows.bytes.len() < TAILS {
                let part = self.part.min(limit - rows.places.len());
                if rings.for_each(&mut rows, part) < part {
                    break;
                }
            }
            // As for one ring, the next read that finds nothing has the error.
            let rings_with_errors = if rows.places.is_empty() { self.sizes.len() } else { 0 };
            let error_of = (0..rings_with_errors).find_map(|ring| rings.reader_mut(ring).take_error());
            error_of.map_or(Ok(rows), |e| Err(error(e)))
        })??;
        let mut rest = &rows.bytes[..];
        let event = |(ring, shard, ticket, len): (usize, usize, u64, usize)| {
            let (record, others) = rest.split_at(self.sizes[ring]);
            let (tail, others) = others.split_at(len);
            rest = others;
            (ring, shard, ticket, PyBytes::new(py, record), PyBytes::new(py, tail))
        };
        Ok(rows.places.into_iter().map(event).collect())
    }

    /// Appends up to `limit` events that are present to a deque, as [`Reader`] does. Returns their number.
    fn read_ahead(&self, ahead: &Bound<'_, PyAny>, limit: usize) -> PyResult<usize> {
        let events = self.read(ahead.py(), limit)?;
        let count = events.len();
        ahead.call_method1("extend", (events,)).map(|_| count)
    }

    /// Waits until there are records, at most for `timeout` seconds. Signals interrupt it.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        wait(py, timeout, SLICE, |slice| {
            let wait = |rings: &mut Option<Merged<'static, Rows>>| {
                rings.as_mut().ok_or_else(closed)?.wait(slice).map_err(error)
            };
            py.detach(|| self.rings.then_others(wait)?)
        })
    }

    fn stats<'py>(&self, py: Python<'py>, ring: usize) -> PyResult<Bound<'py, PyDict>> {
        stats_of(py, &self.with_ring(py, ring, |reader| reader.stats())?)
    }

    fn losses(&self, py: Python<'_>, ring: usize) -> PyResult<Vec<LossParts>> {
        self.with_ring(py, ring, |reader| reader.take_losses().into_iter().map(loss_parts).collect())
    }

    fn unended(&self, py: Python<'_>, ring: usize) -> PyResult<Vec<UnendedParts>> {
        self.with_ring(py, ring, |reader| reader.unended().into_iter().map(unended_parts).collect())
    }

    /// Gives the rings back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.rings.lock().map(|mut rings| *rings = None))
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the rings are closed")
}
