//! Latches: values handed down to programs, or written by processes that may be killed.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;

use super::table::{Place, Table, TwoCopies};
use crate::bpf::ByCall;
use crate::error::{Cause, Error, Result};
use crate::protocol::latch;
use crate::region::{SharedMut, Writer};

/// A table of latches of type `T`: two copies of each value, one of which is always whole.
///
/// Unlike a cell, a latch can be read while its writer is half-way, or dead half-way: readers get
/// the last value that was finished. In return there must be one writer at a time.
pub type Latches<T> = Table<T, TwoCopies>;

impl<T: NoUninit> Latches<T> {
    /// A writer. The region must be mapped for writing: a memfd that was made here or opened
    /// with [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened so. A map that programs
    /// may only read (`BPF_F_RDONLY_PROG`), or that is not mmapable, is written by system call.
    ///
    /// Any number of writers in one process take turns by a lock that they share, whichever handle, clone
    /// or mapping of the region they come from. Only one *process* may write at a time: two that write one
    /// latch at once can publish a mixture. That includes a child of `fork`: it must not write while its
    /// parent does.
    ///
    /// # Errors
    /// [`Error::NotWritable`] with the reason, [`Error::Sealed`].
    pub fn writer(&self) -> Result<LatchesWriter<T>> {
        let way = match ByCall::new(&self.region)? {
            Some(by_call) => Way::Call(by_call),
            None => Way::Mapped(self.shared_mut()?),
        };
        Ok(LatchesWriter { way, writer: self.region.count_writer(0), place: self.place, value: PhantomData })
    }
}

/// A writer of latches, in ordinary Rust.
pub struct LatchesWriter<T> {
    way: Way,
    writer: Writer,
    place: Place,
    value: PhantomData<fn(T)>,
}

/// Values that system calls write together.
const AT_ONCE: usize = 64;

enum Way {
    Mapped(SharedMut),
    Call(ByCall),
}

impl<T: NoUninit> LatchesWriter<T> {
    /// Publishes a value. No waiting but for other writers of this process; no system call, or two
    /// (three, if it is not mapped for reading either) where the region is not [mapped for writing](crate::Region::writable).
    ///
    /// # Errors
    /// [`Error::Index`]; where it takes system calls also [`Error::Sealed`], if the map was frozen meanwhile,
    /// and [`Error::System`]. What was published before stays.
    pub fn set(&self, index: usize, value: &T) -> Result<()> {
        if index >= self.place.count {
            return Err(Error::from(Cause::Index { thing: "latch", index, count: self.place.count }));
        }
        self.set_all(index, std::slice::from_ref(value))
    }

    /// Publishes values of the latches from `first` on: each whole, and one after the other. As
    /// [`set`](Self::set), but that system calls, where it takes them, are of many values each.
    ///
    /// # Errors
    /// [`Error::Index`], and then nothing is written; else as for [`set`](Self::set).
    pub fn set_many(&self, first: usize, values: &[T]) -> Result<()> {
        if first > self.place.count || values.len() > self.place.count - first {
            let index = first.saturating_add(values.len().max(1)) - 1;
            return Err(Error::from(Cause::Index { thing: "latch", index, count: self.place.count }));
        }
        self.set_all(first, values)
    }

    fn set_all(&self, first: usize, values: &[T]) -> Result<()> {
        let _turn = self.writer.turn();
        match &self.way {
            Way::Mapped(shared) => {
                for (index, value) in (first..).zip(values) {
                    let (at, len) = self.place.words(index);
                    latch::set(shared.words().slice(at, len), value);
                }
            }
            Way::Call(region) => {
                let (at, len) = self.place.words(first);
                let mut elements = Vec::new();
                for (first, values) in (at / len..).step_by(AT_ONCE).zip(values.chunks(AT_ONCE)) {
                    // The order of `latch::set`: first the copies that nobody uses (the rest is written over
                    // with what it is), and when those are there, the sequences. A system call is a full
                    // barrier, and there is no other writer.
                    elements.resize(values.len() * len, 0);
                    region.elements(first, &mut elements)?;
                    for (element, value) in elements.chunks_mut(len).zip(values) {
                        let seq = element[0].wrapping_add(1);
                        let copy: &mut [u8] =
                            bytemuck::cast_slice_mut(&mut element[latch::copy_at::<T>(seq)..]);
                        copy[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(value));
                    }
                    region.update(first, &elements)?;
                    elements.chunks_mut(len).for_each(|element| element[0] = element[0].wrapping_add(1));
                    region.update(first, &elements)?;
                }
            }
        }
        Ok(())
    }
}

impl<T> fmt::Debug for LatchesWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatchesWriter").field("place", &self.place).finish_non_exhaustive()
    }
}
