//! Arrays of plain values, of any loader, without a protocol of mapring.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{Ordering, fence};

use crate::access::Access;
use crate::bpf::{Lookup, MapFd};
use crate::error::{ReadError, Result};
use crate::record::{Expected, LayoutCheck, Record};
use crate::region::maps::Plain;
use crate::region::{Memory, Source};

/// Any `ARRAY` or `PERCPU_ARRAY` of any loader: values of type `T` as programs store them, without a preamble or
/// sequences. It is opened for reading, by a descriptor, pin or id, and mapped if the kernel allows it.
///
/// Without a protocol, a reader can't detect that a value was being written. In a mapped or per-CPU array, a value of
/// at most 8 bytes that is aligned to its size is whole. A larger value consists of such parts, which may be of
/// different moments. If a shared array is read by system call, the kernel copies values with `memcpy`, which
/// guarantees nothing. If values must be whole, use [`Cells`](super::Cells) or [`PerCpuCells`](super::PerCpuCells).
pub struct Array<T> {
    plain: Plain,
    value: PhantomData<fn() -> T>,
}

impl<T: Record> Array<T> {
    /// Opens an array of any loader: libbpf, aya or another. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open); [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) if it is not
    /// an array; [`ErrorKind::Layout`](crate::ErrorKind::Layout) if the map's BTF describes other values, or if
    /// there is no BTF and the values have another size.
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        Self::new(source.into().map()?.0)
    }

    fn new(opened: MapFd) -> Result<Self> {
        Ok(Self { plain: Plain::new(opened, &Expected::of::<T>(None))?, value: PhantomData })
    }

    /// How many values the array has, on each CPU.
    pub fn len(&self) -> usize {
        self.plain.entries
    }

    /// Always false: an array has at least one value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it is read: mapped, or by system calls and why.
    pub fn access(&self) -> Access {
        self.plain.access()
    }

    /// How `T` was compared when this was opened.
    pub fn layout_check(&self) -> LayoutCheck {
        self.plain.compared
    }

    /// The CPUs that have their own values, in ascending order; `None` for an array that all CPUs share.
    pub fn cpus(&self) -> Option<&[usize]> {
        self.plain.cpus()
    }

    /// The value at `index`; of a per-CPU array, the first CPU's value. If mapped: loads, and no system call. Otherwise
    /// one system call.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    pub fn get(&self, index: usize) -> Result<T, ReadError> {
        self.check(index)?;
        match &self.plain.memory {
            Memory::Mapped(mapping) => {
                let mut value = T::zeroed();
                mapping.words().read(index * self.plain.stride, &mut value);
                fence(Ordering::Acquire);
                Ok(value)
            }
            Memory::Lookup(lookup, _) => Ok(self.value_at(&self.look_up(lookup, index)?, 0)),
        }
    }

    /// The values at `index` of all CPUs, in the order of [`cpus`](Self::cpus); of an array that all CPUs share, the
    /// one value. One system call, or none for a mapped array.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn each(&self, index: usize) -> Result<Vec<T>, ReadError> {
        let (Memory::Lookup(lookup, _), Some(cpus)) = (&self.plain.memory, self.cpus()) else {
            return self.get(index).map(|value| vec![value]);
        };
        self.check(index)?;
        let words = self.look_up(lookup, index)?;
        Ok((0..cpus.len()).map(|at| self.value_at(&words, at)).collect())
    }

    /// The words of one value, or of the copies of all CPUs.
    fn look_up(&self, lookup: &Lookup, index: usize) -> Result<Vec<u64>, ReadError> {
        let copies = lookup.cpus().map_or(1, <[_]>::len);
        let mut words = vec![0; self.plain.stride * copies];
        lookup.run(index, 1, &mut words)?;
        Ok(words)
    }

    fn value_at(&self, words: &[u64], at: usize) -> T {
        let bytes: &[u8] = bytemuck::cast_slice(&words[at * self.plain.stride..]);
        bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
    }

    fn check(&self, index: usize) -> Result<(), ReadError> {
        if index < self.len() {
            return Ok(());
        }
        Err(ReadError::Index { thing: "value", index, count: self.len() })
    }
}

impl Plain {
    fn cpus(&self) -> Option<&[usize]> {
        match &self.memory {
            Memory::Mapped(_) => None,
            Memory::Lookup(lookup, _) => lookup.cpus(),
        }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("what", &self.plain.what).field("access", &self.plain.access()).finish()
    }
}
