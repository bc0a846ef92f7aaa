//! Latches: values that userspace writes for programs, or that processes write which may be killed.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::NoUninit;
use mapring_core::protocol::latch;

use super::table::{Span, Table, TwoCopies};
use crate::error::{Cause, Error, Result};
use crate::region::maps::ByCall;
use crate::region::{SharedMut, Writer};

/// A table of latches of type `T`: two copies of each value, one of which is always whole.
///
/// Unlike a cell, a latch can be read while its writer is writing, or after it died halfway: readers get the last value
/// that was finished. In return, a latch must have one writer at a time.
pub type Latches<T> = Table<T, TwoCopies>;

impl<T: NoUninit> Latches<T> {
    /// A writer. The region must be mapped for writing: a memfd that this process created or opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened with it. A map that is read-only for
    /// programs (`BPF_F_RDONLY_PROG`) or not mmapable is written by system call.
    ///
    /// Any number of writers in one process take turns by a lock that they share, whichever handle, clone or mapping of
    /// the region they come from. Only one *process* may write at a time: two that write one latch at once can publish
    /// a mixture. A child of `fork` is another process: it must not write while its parent does.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed).
    pub fn writer(&self) -> Result<LatchesWriter<T>> {
        let way = match ByCall::new(&self.region)? {
            Some(by_call) => Way::Call(by_call),
            None => Way::Mapped(self.shared_mut()?),
        };
        Ok(LatchesWriter { way, writer: self.region.count_writer(0), span: self.span, value: PhantomData })
    }
}

/// A writer of latches, in Rust.
pub struct LatchesWriter<T> {
    way: Way,
    writer: Writer,
    span: Span,
    value: PhantomData<fn(T)>,
}

/// How many values one system call writes.
const AT_ONCE: usize = 64;

enum Way {
    Mapped(SharedMut),
    Call(ByCall),
}

impl<T: NoUninit> LatchesWriter<T> {
    /// Publishes a value. Waits only for other writers of this process. Makes no system call if the region is [mapped
    /// for writing](crate::Region::writable); otherwise two, or three if it is not mapped for reading either.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange); if it makes system calls, also
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed) if the map was frozen meanwhile, and
    /// [`ErrorKind::System`](crate::ErrorKind::System). Values that were published before stay.
    pub fn set(&self, index: usize, value: &T) -> Result<()> {
        if index >= self.span.count {
            return Err(Error::from(Cause::Index { thing: "latch", index, count: self.span.count }));
        }
        self.set_all(index, std::slice::from_ref(value))
    }

    /// Publishes values of the latches from `first` on: each is whole, one after the other. Works like
    /// [`set`](Self::set), but one system call writes many values.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange), and then nothing is written; otherwise as for
    /// [`set`](Self::set).
    pub fn set_many(&self, first: usize, values: &[T]) -> Result<()> {
        if first > self.span.count || values.len() > self.span.count - first {
            let index = first.saturating_add(values.len().max(1)) - 1;
            return Err(Error::from(Cause::Index { thing: "latch", index, count: self.span.count }));
        }
        self.set_all(first, values)
    }

    fn set_all(&self, first: usize, values: &[T]) -> Result<()> {
        let _turn = self.writer.turn();
        match &self.way {
            Way::Mapped(shared) => {
                for (index, value) in (first..).zip(values) {
                    let (at, len) = self.span.words(index);
                    latch::set(shared.words().slice(at, len), value);
                }
            }
            Way::Call(region) => {
                let (at, len) = self.span.words(first);
                let mut elements = Vec::new();
                for (first, values) in (at / len..).step_by(AT_ONCE).zip(values.chunks(AT_ONCE)) {
                    // The same order as in `latch::set`: first the copies that are not in use (the rest is overwritten
                    // with the same content), then the sequences. A system call is a full barrier, and there is no
                    // other writer.
                    elements.resize(values.len() * len, 0);
                    region.elements(first, &mut elements)?;
                    for (element, value) in elements.chunks_mut(len).zip(values) {
                        let seq = element[0].wrapping_add(1);
                        let (at, len) = latch::copy_at::<T>(seq, len);
                        let copy: &mut [u8] = bytemuck::cast_slice_mut(&mut element[at..at + len]);
                        let value = bytemuck::bytes_of(value);
                        let len = value.len().min(copy.len());
                        copy[..len].copy_from_slice(&value[..len]);
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
        f.debug_struct("LatchesWriter").field("span", &self.span).finish_non_exhaustive()
    }
}
