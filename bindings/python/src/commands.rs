//! Commands, from userspace to programs, as bytes.

use std::sync::{Mutex, PoisonError};

use mapring::any::AnyRecord;
use mapring::writers::CommandsWriter;
use mapring::{OpenOptions, ReadError, Region};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::records::with_size;
use crate::{error, raised, read_error};

/// How many were pushed, carried out, and skipped, and the pid of the process that writes them.
type Counts = (u64, u64, u64, Option<u32>);

trait Commands: Send + Sync {
    fn push(&self, command: &[u8]) -> PyResult<u64>;
    fn counts(&self) -> Result<Counts, ReadError>;
    fn close(&self);
}

struct Typed<const N: usize> {
    commands: mapring::Commands<AnyRecord<N>>,
    /// None before the first push, and after a close.
    writer: Mutex<Option<CommandsWriter<AnyRecord<N>>>>,
}

impl<const N: usize> Commands for Typed<N> {
    fn push(&self, command: &[u8]) -> PyResult<u64> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match &mut *writer {
            Some(writer) => writer,
            none => none.insert(self.commands.writer().map_err(error)?),
        };
        let command =
            AnyRecord::new(command).ok_or_else(|| PyValueError::new_err("the command is too long"))?;
        writer.push(&command).map_err(|full| raised("Full", None, full.to_string()))
    }

    fn counts(&self) -> Result<Counts, ReadError> {
        let commands = &self.commands;
        Ok((commands.pushed()?, commands.acknowledged()?, commands.skipped()?, commands.owner()?))
    }

    fn close(&self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A ring of commands.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct CommandRing(Box<dyn Commands>);

impl CommandRing {
    /// Opens it again, for writing if the kernel allows it.
    pub(crate) fn new(region: &Region) -> PyResult<Self> {
        use std::os::fd::AsFd;

        let region = OpenOptions::new().write(true).any_record().open(region.as_fd()).map_err(error)?;
        with_size!(region.geometry().record(), N => {
            let commands = mapring::Commands::<AnyRecord<N>>::from_region(region).map_err(error)?;
            Ok(Self(Box::new(Typed { commands, writer: Mutex::new(None) })))
        })
    }
}

#[pymethods]
impl CommandRing {
    /// Pushes a command of all its bytes. Returns its number.
    fn push(&self, py: Python<'_>, command: &[u8]) -> PyResult<u64> {
        py.detach(|| self.0.push(command))
    }

    /// How many were pushed, carried out, and skipped, and the pid of the process that writes them.
    fn counts(&self, py: Python<'_>) -> PyResult<Counts> {
        py.detach(|| self.0.counts()).map_err(read_error)
    }

    /// Lets another process push.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}
