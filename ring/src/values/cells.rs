//! Cells: the latest value, from any number of writers that never wait.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;
use mapring_core::protocol::{WordsMut, cell};

use super::table::{Seqlock, Span, Table};
use crate::abi::Preamble;
use crate::error::{Cause, Error, Result};
use crate::region::{Region, SharedMut, Writer};

/// A table of cells of type `T`, each the latest value that was published.
///
/// A value is read whole: all words are of one write. Writers never wait. If two meet in one cell, one drops its
/// update, which is counted in [`Region::dropped`]. A cell whose writer died halfway stays
/// [`ReadError::Busy`](crate::ReadError::Busy) until [`CellsWriter::recover`] is called.
pub type Cells<T> = Table<T, Seqlock>;

impl<T: NoUninit> Cells<T> {
    /// A writer. The region must be mapped for writing: a memfd that this process created or opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed).
    pub fn writer(&self) -> Result<CellsWriter<T>> {
        let shared = self.shared_mut()?;
        Ok(CellsWriter { shared, writer: self.region.count_writer(0), span: self.span, value: PhantomData })
    }
}

/// A writer of cells, in Rust.
pub struct CellsWriter<T> {
    shared: SharedMut,
    writer: Writer,
    span: Span,
    value: PhantomData<fn(T)>,
}

impl<T: NoUninit> CellsWriter<T> {
    /// Publishes a value. Returns `false` if another writer is in the cell; this update is then dropped and counted.
    /// Makes no system call and never waits.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    #[inline]
    pub fn set(&self, index: usize, value: &T) -> Result<bool> {
        let done = cell::set(self.cell(index)?, value);
        if !done {
            self.shared.words().add(Preamble::DROPPED, 1);
        }
        Ok(done)
    }

    /// Ends the write that a writer of this cell began but never ended because it died, by publishing `value`. Returns
    /// `false`, and writes nothing, if there is no such write. Readers find the cell busy until the new value is whole.
    /// Makes no system call. Writers of the table that this process creates meanwhile wait until it returns.
    ///
    /// Call it only while **no writer of this cell is alive** or in the middle of a write in any other process, and
    /// while no other `recover` runs: after all of them have been seen to end, before new ones start. Two that write at
    /// once can publish a mixture. If the process dies in this call, the cell stays busy until the next call.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange);
    /// [`ErrorKind::OtherWriters`](crate::ErrorKind::OtherWriters) if this process has other writers of this table, and
    /// then nothing is done.
    pub fn recover(&mut self, index: usize, value: &T) -> Result<bool> {
        let cell = self.cell(index)?;
        let _alone = self.region().expect_alone(&self.writer, "table")?;
        Ok(cell::recover(cell, value))
    }

    #[inline]
    fn cell(&self, index: usize) -> Result<WordsMut<'_>> {
        if index >= self.span.count {
            return Err(Error::from(Cause::Index { thing: "cell", index, count: self.span.count }));
        }
        let (at, len) = self.span.words(index);
        Ok(self.shared.words().slice(at, len))
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl<T> fmt::Debug for CellsWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellsWriter").field("span", &self.span).finish_non_exhaustive()
    }
}
