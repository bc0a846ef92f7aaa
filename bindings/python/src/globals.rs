//! Global variables of BPF programs, by name: numbers, and the cells and latches that the macros of `global.bpf.h` declare.

use bytemuck::NoUninit;
use mapring::{ErrorKind, ReadError, Record, globals};
use mapring_sys::btf::{Btf, Kind, Type};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::records::with_size;
use crate::{error, read_error, types, wrong};

/// The variables of a section, such as `.bss`.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct Section {
    pub(crate) section: globals::Globals,
    pub(crate) btf: Btf,
    /// The type of the section.
    pub(crate) id: u32,
}

/// How a variable is read whole, and the type of its value.
enum Way<'btf> {
    Number(Type<'btf>),
    Cell(Type<'btf>),
    Latch(Type<'btf>),
}

impl Section {
    fn way(&self, name: &str) -> Option<Way<'_>> {
        let found = self.btf.get(self.id)?.variables().find(|variable| variable.name == name.as_bytes())?;
        let ty = found.ty.resolved();
        // The crate refuses one without a record.
        let value = ty.field("record").map_or(ty, |record| record.ty);
        Some(if ty.name().starts_with(b"mapring_global_cell__") {
            Way::Cell(value)
        } else if ty.name().starts_with(b"mapring_global_latch__") {
            Way::Latch(value)
        } else {
            Way::Number(ty)
        })
    }

    fn number<T: Record + NoUninit>(&self, name: &str) -> PyResult<Vec<u8>> {
        let value = self.section.variable::<T>(name).map_err(error)?.get().map_err(read_error)?;
        Ok(bytemuck::bytes_of(&value).to_vec())
    }
}

#[pymethods]
impl Section {
    #[getter]
    fn name(&self) -> &str {
        self.section.section()
    }

    #[getter]
    fn access(&self) -> String {
        self.section.access().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.section.names()
    }

    /// The type of a variable's value, as a tree, and its bytes. KeyError if there is no such variable.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyBytes>)> {
        let way = self.way(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
        let no_types = || wrong(ErrorKind::Layout, format!("the BTF does not describe {name}"));
        let (Way::Number(ty) | Way::Cell(ty) | Way::Latch(ty)) = way;
        let size = types::bytes(ty).ok_or_else(no_types)?;
        let whole = |read: Result<Vec<u8>, ReadError>| read.map_err(read_error);
        let bytes = match way {
            Way::Cell(_) => with_size!(size, N => {
                let cell = self.section.any_cell::<N>(name).map_err(error)?;
                whole(cell.read().map(|value| value.bytes(size).to_vec()))
            })?,
            Way::Latch(_) => with_size!(size, N => {
                let latch = self.section.any_latch::<N>(name).map_err(error)?;
                whole(latch.read().map(|value| value.bytes(size).to_vec()))
            })?,
            Way::Number(ty) => match (ty.kind(), size) {
                (Kind::Float, 4) => self.number::<f32>(name),
                (Kind::Float, 8) => self.number::<f64>(name),
                (Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr, 1) => self.number::<u8>(name),
                (Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr, 2) => self.number::<u16>(name),
                (Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr, 4) => self.number::<u32>(name),
                (Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr, 8) => self.number::<u64>(name),
                _ => Err(wrong(
                    ErrorKind::Layout,
                    format!(
                        "{name} can't be read whole: it is no number of 1, 2, 4 or 8 bytes, and MAPRING_GLOBAL_CELL or \
                         MAPRING_GLOBAL_LATCH did not declare it"
                    ),
                )),
            }?,
        };
        let tree = types::tree(ty, size).ok_or_else(no_types)?;
        Ok((tree.to_python(py)?, PyBytes::new(py, &bytes)))
    }
}
