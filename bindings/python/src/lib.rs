//! The native half of the Python package `mapring`: regions, readers and what they read, as bytes and numbers. The package's
//! Python half (`python/mapring`) gives them their types.
#![forbid(unsafe_code)]

mod banks;
mod commands;
mod globals;
mod merged;
mod open;
mod reader;
mod records;
mod tables;
mod turns;
mod types;

use mapring::{ErrorKind, ReadError};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyIndexError};
use pyo3::prelude::*;

create_exception!(
    mapring,
    Error,
    PyException,
    "Why a region can't be opened or read, in one sentence that names the remedy. `kind` is a word for programs, such as\n\
     \"Open\", \"WrongType\", \"Preamble\", \"Busy\" or \"LeaseEnded\"; `errno` is the kernel's number, or None."
);

/// An exception of this kind.
fn raised(kind: &str, errno: Option<i32>, text: String) -> PyErr {
    let error = Error::new_err(text);
    Python::attach(|py| {
        let value = error.value(py);
        value.setattr("kind", kind).and_then(|()| value.setattr("errno", errno)).err().unwrap_or(error)
    })
}

fn error(e: mapring::Error) -> PyErr {
    error_of(&e)
}

fn error_of(e: &mapring::Error) -> PyErr {
    let errno = e.io_error().and_then(std::io::Error::raw_os_error);
    raised(&format!("{:?}", e.kind()), errno, e.to_string())
}

fn read_error(e: ReadError) -> PyErr {
    match e {
        ReadError::Index { .. } => PyIndexError::new_err(e.to_string()),
        ReadError::Busy { .. } => raised("Busy", None, e.to_string()),
        ReadError::Lookup(ref io) => raised("System", io.raw_os_error(), e.to_string()),
        _ => raised("System", None, e.to_string()),
    }
}

fn wrong(kind: ErrorKind, text: String) -> PyErr {
    raised(&format!("{kind:?}"), None, text)
}

/// An index as Python counts: from the end if it is negative.
fn index(at: isize, len: usize) -> PyResult<usize> {
    let at = if at < 0 { at.checked_add_unsigned(len) } else { Some(at) };
    let found = at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len);
    found.ok_or_else(|| PyIndexError::new_err(format!("index out of range: there are {len}")))
}

#[pymodule]
mod _mapring {
    #[pymodule_export]
    use super::Error;
    #[pymodule_export]
    use super::banks::{Counters, Gauges, Histogram, Histograms, TopKeys};
    #[pymodule_export]
    use super::commands::CommandRing;
    #[pymodule_export]
    use super::globals::Section;
    #[pymodule_export]
    use super::merged::MergedReader;
    #[pymodule_export]
    use super::open::{Opened, open_place};
    #[pymodule_export]
    use super::reader::Reader;
    #[pymodule_export]
    use super::tables::Table;
    #[pymodule_export]
    use super::turns::forked;

    /// The version of the memory layout that this package reads.
    #[pymodule_export]
    const ABI: u64 = mapring::abi::VERSION;
}
