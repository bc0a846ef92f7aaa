//! Reading and writing the elements of a map by bpf(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bytemuck::Zeroable;
use mapring_core::abi::WORD;
use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, mprotect};

use super::{address, address_mut, bpf, raw, u32_of};
use crate::copies::Copies;
use crate::kinds::MapType;
use crate::uapi::*;

/// The elements of a map. Calls check that keys and values have the sizes that the kernel reported for this map.
pub struct Elements<F> {
    map: F,
    key: usize,
    /// Bytes of a value; of a per-CPU map, bytes of each copy, which are whole words.
    value: usize,
    copies: Option<Copies>,
}

impl<F: AsFd> Elements<F> {
    /// For a map that is not per-CPU. `info` must be about this map.
    pub fn new(map: F, info: &MapInfo) -> Self {
        assert_ne!(info.ty, MapType::PERCPU_ARRAY);
        Self { map, key: info.key_size as usize, value: info.value_size as usize, copies: None }
    }

    /// For an array. If it is per-CPU, this makes system calls to count the copies.
    pub fn of_array(map: F, info: &MapInfo) -> io::Result<Self> {
        if info.ty != MapType::PERCPU_ARRAY {
            return Ok(Self::new(map, info));
        }
        let copies = Some(Copies::of(map.as_fd(), info)?);
        Ok(Self { map, key: info.key_size as usize, value: copy_size(info), copies })
    }

    /// How many copies of a value there are: one, or one for each possible CPU.
    pub fn copies(&self) -> usize {
        self.cpus().map_or(1, <[_]>::len)
    }

    /// The CPUs that have copies; `None` if the map is not per-CPU.
    pub fn cpus(&self) -> Option<&[usize]> {
        self.copies.as_ref().map(Copies::cpus)
    }

    /// The descriptor of the map.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Reads the value under `key`; for a per-CPU map, all copies.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        assert!(value.len() >= self.value * self.copies());
        self.lookup_flags(key, value, 0)
    }

    /// Reads the copy of one CPU. EINVAL if the kernel does not support this (before 7.0).
    pub fn lookup_of_cpu(&self, key: &[u8], cpu: usize, value: &mut [u8]) -> io::Result<()> {
        assert!(value.len() >= self.value);
        self.lookup_flags(key, value, BPF_F_CPU | (cpu as u64) << 32)
    }

    fn lookup_flags(&self, key: &[u8], value: &mut [u8], flags: u64) -> io::Result<()> {
        let mut element = Element { value: address_mut(value), flags, ..self.element(key) };
        // SAFETY: the key is as long as the map's keys, and `value` is large enough for what the kernel writes with
        // these flags: both callers checked it.
        unsafe { bpf(MAP_LOOKUP_ELEM, &mut element) }.map(drop)
    }

    /// Writes the value under `key`.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(value.len() >= self.value * self.copies());
        let mut element = Element { value: address(value), ..self.element(key) };
        // SAFETY: the key is as long as the map's keys, and the value as its values; the kernel only reads them.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut element) }.map(drop)
    }

    /// Removes the element under `key`.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        // SAFETY: the key is as long as the map's keys.
        unsafe { bpf(MAP_DELETE_ELEM, &mut self.element(key)) }.map(drop)
    }

    /// Reads the elements of an array after the one with the key `after`, or the first ones: as many as `keys` has
    /// entries. Returns how many there were; ENOENT at the end of the map.
    pub fn lookup_batch(
        &self,
        after: Option<u32>,
        keys: &mut [u32],
        values: &mut [u8],
    ) -> (usize, io::Result<()>) {
        assert_eq!(self.key, size_of::<u32>());
        let mut last = [0_u32];
        let mut batch = Batch {
            after: after.as_ref().map_or(0, |key| address(std::slice::from_ref(key))),
            last: address_mut(&mut last),
            values: address_mut(values),
            ..self.batch(size_of_val(keys), values.len())
        };
        batch.keys = address_mut(keys);
        // SAFETY: `keys` and `values` have space for this number of elements (`batch` checked it), `last` has space for
        // a key, and `after` is a key or null.
        let done = unsafe { bpf(MAP_LOOKUP_BATCH, &mut batch) };
        (batch.count as usize, done.map(drop))
    }

    /// Writes the elements under these keys, in this order.
    pub fn update_batch(&self, keys: &[u8], values: &[u8]) -> io::Result<()> {
        let mut batch =
            Batch { keys: address(keys), values: address(values), ..self.batch(keys.len(), values.len()) };
        // SAFETY: there are this many keys and values (`batch` checked it), which the kernel only reads.
        unsafe { bpf(MAP_UPDATE_BATCH, &mut batch) }.map(drop)
    }

    fn element(&self, key: &[u8]) -> Element {
        assert_eq!(key.len(), self.key);
        Element { map: raw(&self.map), key: address(key), ..Element::zeroed() }
    }

    /// Attributes for the number of elements whose keys take `keys` bytes.
    fn batch(&self, keys: usize, values: usize) -> Batch {
        let count = keys / self.key;
        assert!(values >= count * self.value * self.copies());
        Batch { count: u32_of(count), map: raw(&self.map), ..Batch::zeroed() }
    }
}

/// Bytes of each copy in a per-CPU map.
fn copy_size(info: &MapInfo) -> usize {
    (info.value_size as usize).next_multiple_of(WORD)
}

/// Whether a lookup in this per-CPU map returns at most `copies` copies. The kernel writes them into memory of this
/// length, and a page that can't be written follows.
pub fn lookup_fits(map: BorrowedFd<'_>, info: &MapInfo, copies: usize) -> io::Result<bool> {
    assert_eq!((info.ty, info.key_size), (MapType::PERCPU_ARRAY, 4));
    let (bytes, page) = (copies * copy_size(info), rustix::param::page_size());
    let before = bytes.next_multiple_of(page);
    let memory = MmapRaw::from(MmapOptions::new().len(before + page).no_reserve_swap().map_anon()?);
    let guard = memory.as_mut_ptr().wrapping_add(before);
    // SAFETY: `guard` is the last page of the mapping, which no reference points into.
    unsafe { mprotect(guard.cast(), page, MprotectFlags::empty()) }?;
    let value = guard.wrapping_sub(bytes).expose_provenance() as u64;
    let mut element = Element { map: raw(&map), key: address(&[0_u32]), value, ..Element::zeroed() };
    // SAFETY: the key is a u32. The kernel writes to the mapping, and fails with EFAULT where it meets the last page.
    match unsafe { bpf(MAP_LOOKUP_ELEM, &mut element) } {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::FAULT) => Ok(false),
        done => done.map(|_| true),
    }
}
