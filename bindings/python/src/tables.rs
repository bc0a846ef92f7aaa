//! Cells and latches: the latest values, as bytes.

use mapring::abi::Kind;
use mapring::any::AnyRecord;
use mapring::table::Snapshot;
use mapring::{Cells, Latches, PerCpuCells, ReadError, Region};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::reader::cut;
use crate::records::with_size;
use crate::{error, read_error};

/// A value: its CPU, if each CPU has its own; how often it was written; its bytes.
type Value = (Option<usize>, u64, Vec<u8>);
/// The same for Python.
type Given<'py> = (Option<usize>, u64, Bound<'py, PyBytes>);

trait Values: Send + Sync {
    fn read(&self, index: usize) -> Result<Vec<Value>, ReadError>;
}

struct Typed<T> {
    table: T,
    size: usize,
}

fn value<const N: usize>(cpu: Option<usize>, one: &Snapshot<AnyRecord<N>>, size: usize) -> Value {
    (cpu, one.version, one.value.bytes(size).to_vec())
}

macro_rules! values {
    ($($table:ident)*) => {
        $(impl<const N: usize> Values for Typed<$table<AnyRecord<N>>> {
            fn read(&self, index: usize) -> Result<Vec<Value>, ReadError> {
                Ok(vec![value(None, &self.table.snapshot(index)?, self.size)])
            }
        })*
    };
}
values!(Cells Latches);

impl<const N: usize> Values for Typed<PerCpuCells<AnyRecord<N>>> {
    fn read(&self, index: usize) -> Result<Vec<Value>, ReadError> {
        let copies = self.table.snapshots(index)?;
        Ok(self
            .table
            .cpus()
            .iter()
            .zip(&copies)
            .map(|(cpu, one)| value(Some(*cpu), one, self.size))
            .collect())
    }
}

/// A table of cells or latches.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct Table {
    values: Box<dyn Values>,
    len: usize,
}

impl Table {
    pub(crate) fn new(region: &Region) -> PyResult<Self> {
        let (region, len, size) = (region.clone(), region.geometry().capacity(), region.geometry().record());
        let kind = region.geometry().kind();
        let values: mapring::Result<Box<dyn Values>> = with_size!(size, N => Ok(match kind {
            Kind::Latches => Latches::<AnyRecord<N>>::from_region(region).map(|table| Box::new(Typed { table, size }) as _),
            Kind::PerCpuCells => {
                PerCpuCells::<AnyRecord<N>>::from_region(region).map(|table| Box::new(Typed { table, size }) as _)
            }
            _ => Cells::<AnyRecord<N>>::from_region(region).map(|table| Box::new(Typed { table, size }) as _),
        }))?;
        Ok(Self { values: values.map_err(error)?, len })
    }
}

#[pymethods]
impl Table {
    fn __len__(&self) -> usize {
        self.len
    }

    /// The value at an index, or those of all CPUs.
    fn read<'py>(&self, py: Python<'py>, at: isize) -> PyResult<Vec<Given<'py>>> {
        let at = crate::index(at, self.len)?;
        let found = py.detach(|| self.values.read(at)).map_err(read_error)?;
        Ok(found.into_iter().map(|(cpu, version, bytes)| (cpu, version, PyBytes::new(py, &bytes))).collect())
    }

    /// All values, one after the other.
    fn read_bytes<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<(usize, usize)>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let bytes = py.detach(|| {
            let mut all = Vec::new();
            for index in 0..self.len {
                for (_, _, mut bytes) in self.values.read(index)? {
                    let size = bytes.len();
                    cut(&mut bytes, size, &texts);
                    all.extend_from_slice(&bytes);
                }
            }
            Ok(all)
        });
        Ok(PyByteArray::new(py, &bytes.map_err(read_error)?))
    }
}
