//! Cells: the latest value of something, whole.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{AnyBitPattern, NoUninit};
use crossbeam_utils::Backoff;
use parking_lot::Mutex;

use super::fallback::Looks;
use super::openers;
use crate::error::{Error, ReadError, Result};
use crate::layout::{Geometry, Kind, Preamble};
use crate::protocol::cell;
use crate::region::{Region, Shared, SharedMut, Source};

/// A table of cells of type `T`, each the latest value that was published.
///
/// A value is read whole: all of one write, nothing of another. Writers never wait; where two
/// meet in one cell, one of them gives its update up, and it is counted in [`Region::dropped`].
pub struct Cells<T> {
    region: Region,
    source: Values,
    first: usize,
    stride: usize,
    count: usize,
    value: PhantomData<fn() -> T>,
}

enum Values {
    Mapped(Shared),
    Lookup(Mutex<Looks>),
}

/// A value and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// How often the cell was written until then; 0: never, and the value is all zeros.
    pub version: u64,
    /// The value.
    pub value: T,
}

openers!([T: AnyBitPattern] Cells<T>);

impl<T: AnyBitPattern> Cells<T> {
    /// How often a cell with a writer in it is looked at before a read gives up as
    /// [`ReadError::Busy`].
    pub const LOOKS: u32 = 128;

    /// Cells over a region that is already open.
    ///
    /// # Errors
    /// [`Error::Kind`] and [`Error::RecordSize`], naming both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect_record::<T>(Kind::Cells)?;
        let geometry = region.geometry();
        let stride = geometry.element_words();
        let (first, count) = (geometry.first(), geometry.capacity());
        let source = match region.source() {
            Source::Mapped(shared) => Values::Mapped(shared),
            Source::Lookup(_) => Values::Lookup(Mutex::new(Looks::new(1, stride))),
        };
        Ok(Self { source, first, stride, count, region, value: PhantomData })
    }

    /// Makes a table of `count` cells between ordinary processes, in a memfd. See
    /// [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`Error::Geometry`] for numbers that can't be, [`Error::System`].
    pub fn create_memfd(count: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::Cells, size_of::<T>() as u64, count as u64, 1)?;
        Self::from_region(Region::create_memfd(geometry, std::any::type_name::<T>())?)
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none. There is always one.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The latest value of a cell, all zeros if it was never written. Mapped: no system call, no
    /// lock, at most [`LOOKS`](Self::LOOKS) looks with ever longer pauses (some microseconds in
    /// all). Otherwise three system calls a look, behind a lock of this handle's.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if a writer was there each time, [`ReadError::Index`],
    /// [`ReadError::Lookup`].
    #[inline]
    pub fn read(&self, index: usize) -> Result<T, ReadError> {
        self.snapshot(index).map(|snapshot| snapshot.value)
    }

    /// As [`read`](Self::read), with the value's number.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    #[inline]
    pub fn snapshot(&self, index: usize) -> Result<Snapshot<T>, ReadError> {
        match self.try_snapshot(index) {
            Ok(None) => self.insist(index),
            Ok(Some(snapshot)) => Ok(snapshot),
            Err(e) => Err(e),
        }
    }

    /// One look, no waiting: `None` if a writer was in the cell.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn try_snapshot(&self, index: usize) -> Result<Option<Snapshot<T>>, ReadError> {
        if index >= self.count {
            return Err(ReadError::Index { thing: "cell", index, count: self.count });
        }
        let mut value = T::zeroed();
        let seq = match &self.source {
            Values::Mapped(shared) => {
                let at = (self.first + index) * self.stride;
                cell::look(shared.words().slice(at, self.stride), &mut value)
            }
            Values::Lookup(looks) => {
                let mut looks = looks.lock();
                looks.fetch(&self.region, self.first + index, 1)?;
                let seq = looks.seq(0);
                (seq & 1 == 0 && looks.take(0, &mut value)).then_some(seq)
            }
        };
        Ok(seq.map(|seq| Snapshot { version: seq / 2, value }))
    }

    #[cold]
    fn insist(&self, index: usize) -> Result<Snapshot<T>, ReadError> {
        let backoff = Backoff::new();
        for _ in 1..Self::LOOKS {
            backoff.spin();
            if let Some(snapshot) = self.try_snapshot(index)? {
                return Ok(snapshot);
            }
        }
        Err(ReadError::Busy { looks: Self::LOOKS })
    }
}

impl<T: NoUninit> Cells<T> {
    /// A writer. The region must be mapped for writing: a memfd that was made here or opened with
    /// [`Options::write`](crate::Options::write).
    ///
    /// # Errors
    /// [`Error::NotWritable`] with the reason.
    pub fn writer(&self) -> Result<CellsWriter<T>> {
        let shared = self.region.shared_mut()?;
        let (first, stride, count) = (self.first, self.stride, self.count);
        Ok(CellsWriter { shared, first, stride, count, value: PhantomData })
    }
}

impl<T> fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cells").field(&self.region).finish()
    }
}

/// One cell: the first of a table, for tables of one.
#[derive(Debug)]
pub struct Cell<T> {
    cells: Cells<T>,
    region: Region,
}

openers!([T: AnyBitPattern] Cell<T>);

impl<T: AnyBitPattern> Cell<T> {
    /// The first cell of a region that is already open.
    ///
    /// # Errors
    /// [`Error::Kind`] and [`Error::RecordSize`], naming both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        Ok(Self { cells: Cells::from_region(region.clone())?, region })
    }

    /// Makes a cell between ordinary processes, in a memfd. See [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn create_memfd() -> Result<Self> {
        let cells = Cells::create_memfd(1)?;
        Ok(Self { region: cells.region.clone(), cells })
    }

    /// The latest value: [`Cells::read`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn read(&self) -> Result<T, ReadError> {
        self.cells.read(0)
    }

    /// The latest value and its number: [`Cells::snapshot`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn snapshot(&self) -> Result<Snapshot<T>, ReadError> {
        self.cells.snapshot(0)
    }
}

impl<T: NoUninit> Cell<T> {
    /// A writer: [`Cells::writer`]; the cell has index 0.
    ///
    /// # Errors
    /// As there.
    pub fn writer(&self) -> Result<CellsWriter<T>> {
        self.cells.writer()
    }
}

/// A writer of cells in ordinary Rust.
pub struct CellsWriter<T> {
    shared: SharedMut,
    first: usize,
    stride: usize,
    count: usize,
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
        if index >= self.count {
            return Err(Error::Index { thing: "cell", index, count: self.count });
        }
        let words = self.shared.words();
        let done = cell::set(words.slice((self.first + index) * self.stride, self.stride), value);
        if !done {
            words.add(Preamble::DROPPED, 1);
        }
        Ok(done)
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl<T> fmt::Debug for CellsWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellsWriter").field("count", &self.count).finish_non_exhaustive()
    }
}
