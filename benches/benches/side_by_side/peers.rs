//! The peers, at their fastest: libbpf's own functions, without anything on top.

use std::ffi::{c_int, c_ulong, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, libbpf_sys};

use crate::programs::{Record, Seen};

/// `bpf_map_lookup_elem`.
pub(crate) struct Lookup {
    map: i32,
    words: usize,
}

impl Lookup {
    /// `map` must outlive this.
    pub(crate) fn new(map: &impl MapCore) -> Result<Self> {
        Ok(Self { map: map.as_fd().as_raw_fd(), words: words(map)? })
    }

    /// Looks at `key`; `value` is as long as the map's.
    #[inline]
    pub(crate) fn look(&self, key: u32, value: &mut [u64]) -> Result<()> {
        assert_eq!(value.len(), self.words);
        // SAFETY: the key has 4 bytes, and the value is as long as what the kernel writes.
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_elem(self.map, (&raw const key).cast(), value.as_mut_ptr().cast())
        };
        ensure!(ret == 0, "bpf_map_lookup_elem: {}", io::Error::from_raw_os_error(-ret));
        Ok(())
    }
}

/// All of a map by `bpf_map_lookup_batch`, in one call.
pub(crate) struct Batch<'m, M> {
    map: &'m M,
    keys: Vec<u32>,
    pub(crate) values: Vec<u64>,
}

impl<'m, M: MapCore> Batch<'m, M> {
    pub(crate) fn new(map: &'m M) -> Result<Self> {
        let count = map.max_entries() as usize;
        Ok(Self { map, keys: vec![0; count], values: vec![0; count * words(map)?] })
    }

    #[inline]
    pub(crate) fn look(&mut self) -> Result<()> {
        let (mut last, mut count) = (0_u32, u32::try_from(self.keys.len())?);
        // SAFETY: `keys` and `values` have room for all of the map, which is what `count` asks for;
        // no first key means from the start.
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                self.map.as_fd().as_raw_fd(),
                null_mut(),
                (&raw mut last).cast(),
                self.keys.as_mut_ptr().cast(),
                self.values.as_mut_ptr().cast(),
                &raw mut count,
                null(),
            )
        };
        // The end of the map is reached in the same call, which the kernel may tell or not.
        ensure!(
            ret == 0 || ret == -libc::ENOENT,
            "bpf_map_lookup_batch: {}",
            io::Error::from_raw_os_error(-ret)
        );
        ensure!(count as usize == self.keys.len(), "a batch of {} gave {count}", self.keys.len());
        Ok(())
    }
}

/// Words that a lookup gives: those of a value, or of a value for each CPU.
fn words(map: &impl MapCore) -> Result<usize> {
    let values = if map.map_type().is_percpu() { libbpf_rs::num_possible_cpus()? } else { 1 };
    Ok(values * (map.value_size() as usize).div_ceil(8))
}

/// A ring buffer's consumer: `ring_buffer__consume` with a callback in C's manner.
pub(crate) struct RawRingBuffer {
    manager: *mut libbpf_sys::ring_buffer,
    seen: Box<Seen>,
}

impl RawRingBuffer {
    pub(crate) fn new(map: &impl MapCore) -> Result<Self> {
        let mut seen = Box::<Seen>::default();
        let context = (&raw mut *seen).cast();
        // SAFETY: the callback gets `context`, which lives as long as the consumer does.
        let manager = unsafe {
            libbpf_sys::ring_buffer__new(map.as_fd().as_raw_fd(), Some(on_record), context, null())
        };
        ensure!(!manager.is_null(), "ring_buffer__new: {}", io::Error::last_os_error());
        Ok(Self { manager, seen })
    }

    /// Consumes everything that is there.
    #[inline]
    pub(crate) fn consume(&mut self) -> Result<()> {
        // SAFETY: `new` made the manager; it is used by this thread alone.
        let ret = unsafe { libbpf_sys::ring_buffer__consume(self.manager) };
        ensure!(ret >= 0, "ring_buffer__consume: {}", io::Error::from_raw_os_error(-ret));
        Ok(())
    }

    /// What was consumed since this was last asked.
    pub(crate) fn take_seen(&mut self) -> Seen {
        let seen = &raw mut *self.seen;
        // SAFETY: the callback, which writes there too, runs inside `consume` alone.
        unsafe { seen.replace(Seen::default()) }
    }
}

impl Drop for RawRingBuffer {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nobody uses it after this.
        unsafe { libbpf_sys::ring_buffer__free(self.manager) };
    }
}

/// Adds a record to the [`Seen`] at `context`.
unsafe extern "C" fn on_record(context: *mut c_void, data: *mut c_void, size: c_ulong) -> c_int {
    if size != size_of::<Record>() as c_ulong {
        return -libc::EINVAL;
    }
    // SAFETY: libbpf hands on what `new` gave it, and nobody else uses that meanwhile.
    let seen = unsafe { &mut *context.cast::<Seen>() };
    // SAFETY: a record's size was checked, records are aligned to 8, and no program writes this one
    // until it is consumed.
    let record = unsafe { &*data.cast::<Record>() };
    seen.add(record);
    0
}
