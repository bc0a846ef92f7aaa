//! Cells: the latest value of something, from any number of writers that never wait.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;

use super::table::{Place, Seqlock, Table};
use crate::error::{Cause, Error, Result};
use crate::layout::Preamble;
use crate::protocol::{WordsMut, cell};
use crate::region::{Region, SharedMut, Writer};

/// A table of cells of type `T`, each the latest value that was published.
///
/// A value is read whole: all of one write, nothing of another. Writers never wait; where two
/// meet in one cell, one of them gives its update up, and it is counted in [`Region::dropped`].
/// A cell whose writer died half-way stays [`ReadError::Busy`](crate::ReadError::Busy) until [`CellsWriter::recover`].
pub type Cells<T> = Table<T, Seqlock>;

impl<T: NoUninit> Cells<T> {
    /// A writer. The region must be mapped for writing: a memfd that was made here or opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write).
    ///
    /// # Errors
    /// [`Error::NotWritable`] with the reason, [`Error::Sealed`].
    pub fn writer(&self) -> Result<CellsWriter<T>> {
        let shared = self.shared_mut()?;
        Ok(CellsWriter { shared, writer: self.region.count_writer(0), place: self.place, value: PhantomData })
    }
}

/// A writer of cells in ordinary Rust.
pub struct CellsWriter<T> {
    shared: SharedMut,
    writer: Writer,
    place: Place,
    value: PhantomData<fn(T)>,
}

impl<T: NoUninit> CellsWriter<T> {
    /// Publishes a value: `false` if another writer is in the cell, in which case this update is
    /// given up, and counted. No system call, no waiting.
    ///
    /// # Errors
    /// [`Error::Index`].
    #[inline]
    pub fn set(&self, index: usize, value: &T) -> Result<bool> {
        let done = cell::set(self.cell(index)?, value);
        if !done {
            self.shared.words().add(Preamble::DROPPED, 1);
        }
        Ok(done)
    }

    /// Ends the write that a writer of this cell began and, because it died, never ended: by
    /// publishing `value`. `false` if there is no such write, and then nothing is written. Readers
    /// find the cell busy until the new value is whole. No system call. Other writers of the table that this
    /// process makes meanwhile wait for it.
    ///
    /// To be called only while **no writer of this cell is alive** or in the middle of a write, in
    /// any other process, nor another `recover`: after all of them were seen to have ended, before new
    /// ones start. Two that write at once would publish a mixture. Whoever dies in here leaves the
    /// cell busy, for the next call.
    ///
    /// # Errors
    /// [`Error::Index`]; [`Error::OtherWriters`], if this process has any of this table, and then nothing
    /// is done.
    pub fn recover(&mut self, index: usize, value: &T) -> Result<bool> {
        let cell = self.cell(index)?;
        let _alone = self.region().expect_alone(&self.writer, "table")?;
        Ok(cell::recover(cell, value))
    }

    #[inline]
    fn cell(&self, index: usize) -> Result<WordsMut<'_>> {
        if index >= self.place.count {
            return Err(Error::from(Cause::Index { thing: "cell", index, count: self.place.count }));
        }
        let (at, len) = self.place.words(index);
        Ok(self.shared.words().slice(at, len))
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl<T> fmt::Debug for CellsWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellsWriter").field("place", &self.place).finish_non_exhaustive()
    }
}
