//! Latches: values handed down to programs, or written by processes that may be killed.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;
use parking_lot::Mutex;

use super::table::{Place, Table, TwoCopies};
use crate::error::{Error, Result};
use crate::protocol::latch;
use crate::region::SharedMut;

/// A table of latches of type `T`: two copies of each value, one of which is always whole.
///
/// Unlike a cell, a latch can be read while its writer is half-way, or dead half-way: readers get
/// the last value that was finished. In return there must be one writer at a time.
pub type Latches<T> = Table<T, TwoCopies>;

impl<T: NoUninit> Latches<T> {
    /// The writer. The region must be mapped for writing: a memfd that was made here or opened
    /// with [`Options::write`](crate::Options::write), or a BPF map opened so.
    ///
    /// There must be one at a time, in all processes: two that write one latch at once can publish
    /// a mixture. Threads can share one; it has a lock of its own.
    ///
    /// # Errors
    /// [`Error::NotWritable`] with the reason.
    pub fn writer(&self) -> Result<LatchesWriter<T>> {
        Ok(LatchesWriter { shared: Mutex::new(self.shared_mut()?), place: self.place, value: PhantomData })
    }
}

/// The writer of latches, in ordinary Rust.
pub struct LatchesWriter<T> {
    shared: Mutex<SharedMut>,
    place: Place,
    value: PhantomData<fn(T)>,
}

impl<T: NoUninit> LatchesWriter<T> {
    /// Publishes a value. No system call, and no waiting but for other threads in this method.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub fn set(&self, index: usize, value: &T) -> Result<()> {
        if index >= self.place.count {
            return Err(Error::Index { thing: "latch", index, count: self.place.count });
        }
        let shared = self.shared.lock();
        let (at, len) = self.place.words(index);
        latch::set(shared.words().slice(at, len), value);
        Ok(())
    }
}

impl<T> fmt::Debug for LatchesWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatchesWriter").field("place", &self.place).finish_non_exhaustive()
    }
}
