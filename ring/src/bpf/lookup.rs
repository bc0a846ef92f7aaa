//! Reads and writes elements of a map by system calls, in place of a mapping.
//!
//! | call | used by |
//! |---|---|
//! | lookup, lookup batch | every handle that is not mapped; readers of many values, one by one where a kernel has no batches |
//! | update, update batch | `LatchesWriter`, where the map is not mapped for writing; a loader that writes the preamble |
//! | freeze | `Region::freeze_and_pin`; writers then get `ErrorKind::Sealed` |
//! | info | opening |
//! | `get_next_key` | nothing: indices are `0..len()` |
//! | delete | nothing: an array's elements always exist (EINVAL) |
//!
//! Programs can use `bpf_map_lookup_elem`, `bpf_map_update_elem` and `bpf_for_each_map_elem` on these maps. The last
//! one starts with the elements of the preamble (`MAPRING__FIRST`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::{bytes_of, cast_slice, cast_slice_mut};
use mapring_core::protocol::TripleRead;
use mapring_sys::bpf::Elements;
use mapring_sys::{ENOTSUPP, MapInfo};
use rustix::io::Errno;

use crate::abi::{Preamble, WORD};

/// The most elements that one system call reads.
const BATCH: usize = 64;

/// Reads elements of a map by system calls. Each call copies while programs write, so its result may be torn. The
/// reader's protocol detects this.
pub(crate) struct Lookup {
    map: Elements<OwnedFd>,
    /// The words that one lookup returns: for a per-CPU map, the copies of all CPUs.
    words: usize,
    entries: usize,
    batch: AtomicBool,
    /// Whether the kernel (7.0 and later) can return one CPU's copy.
    one_cpu: bool,
}

impl Lookup {
    /// For a per-CPU map, this makes system calls, to find out how many copies there are and what the kernel can do.
    pub(crate) fn new(map: OwnedFd, info: &MapInfo) -> io::Result<Self> {
        let value = info.value_size as usize;
        let map = Elements::of_array(map, info)?;
        // The kernel leaves no gaps between the values of a batch. So batches are used only if values are whole words,
        // as copies of per-CPU maps always are.
        let batch = AtomicBool::new(map.cpus().is_some() || value.is_multiple_of(WORD));
        let words = value.div_ceil(WORD) * map.copies();
        let mut all = Self { map, words, entries: info.max_entries as usize, batch, one_cpu: false };
        if let Some(first) = all.cpus().and_then(<[_]>::first) {
            all.one_cpu = all.copy(0, *first, &mut vec![0; value.div_ceil(WORD)]).is_ok();
        }
        Ok(all)
    }

    /// The CPUs whose copies each lookup returns, in this order: the possible CPUs. `None` if this is not a per-CPU
    /// map.
    pub(crate) fn cpus(&self) -> Option<&[usize]> {
        self.map.cpus()
    }

    /// Whether the kernel (7.0 and later) can return one CPU's copy.
    pub(crate) fn one_cpu(&self) -> bool {
        self.one_cpu
    }

    /// The first words of the region. The word that changes in each copy ([`Preamble::DROPPED`]) is the sum over all
    /// copies.
    pub(crate) fn preamble(&self) -> io::Result<[u64; Preamble::WORDS]> {
        let copies = self.map.copies();
        let words = self.words / copies;
        let elements = Preamble::WORDS.div_ceil(words);
        let mut image = TripleRead::new(elements * copies, words);
        image.fetch_by(elements * copies, |out| self.run(0, elements, out))?;
        Ok(std::array::from_fn(|at| {
            let count = if at == Preamble::DROPPED { copies } else { 1 };
            let of_copy = |copy| image.word(at / words * copies + copy, at % words);
            (0..count).map(of_copy).fold(0, u64::wrapping_add)
        }))
    }

    /// One CPU's copy of an element of a per-CPU map.
    pub(crate) fn copy(&self, index: usize, cpu: usize, out: &mut [u64]) -> io::Result<()> {
        self.map.lookup_of_cpu(bytes_of(&key(index)), cpu, cast_slice_mut(out))
    }

    /// Reads `count` elements from `first` on: one call, or one for each if the kernel has no batches (before 5.6; for
    /// per-CPU arrays before 5.13).
    pub(crate) fn run(&self, first: usize, count: usize, out: &mut [u64]) -> io::Result<()> {
        assert!(out.len() == count * self.words && count <= self.entries && first <= self.entries - count);
        if count > 1 && self.batch.load(Ordering::Relaxed) {
            let many = |(at, out): (usize, &mut [u64])| self.many(first + at * BATCH, out);
            match out.chunks_mut(BATCH * self.words).enumerate().try_for_each(many) {
                Err(e) if is_no_batch(&e) => self.batch.store(false, Ordering::Relaxed),
                done => return done,
            }
        }
        for (index, out) in (first..).zip(out.chunks_mut(self.words)) {
            self.map.lookup(bytes_of(&key(index)), cast_slice_mut(out))?;
        }
        Ok(())
    }

    /// Reads as many elements as fit into `out`, at most [`BATCH`].
    fn many(&self, first: usize, out: &mut [u64]) -> io::Result<()> {
        let count = out.len() / self.words;
        let before = first.checked_sub(1).map(key);
        let mut keys = [0; BATCH];
        let (got, done) = self.map.lookup_batch(before, &mut keys[..count], cast_slice_mut(out));
        match done {
            // The end of the map is not an error if the run ends there.
            Err(e) if Errno::from_io_error(&e) != Some(Errno::NOENT) => Err(e),
            _ if got == count => Ok(()),
            _ => Err(io::Error::other(format!("a batch of {count} elements from {first} gave {got}"))),
        }
    }
}

/// Writes an element of an array.
pub(crate) fn update<F: AsFd>(map: &Elements<F>, index: usize, value: &[u64]) -> io::Result<()> {
    map.update(bytes_of(&key(index)), cast_slice(value))
}

/// Writes elements of `words` words from `first` on, in this order: one call for [`BATCH`] of them, or one for each if
/// the kernel has no batches.
pub(crate) fn update_run<F: AsFd>(
    map: &Elements<F>,
    first: usize,
    words: usize,
    values: &[u64],
) -> io::Result<()> {
    for (first, values) in (first..).step_by(BATCH).zip(values.chunks(BATCH * words)) {
        let count = values.len() / words;
        if count > 1 {
            let keys: [u32; BATCH] = std::array::from_fn(|at| key(first.wrapping_add(at)));
            match map.update_batch(cast_slice(&keys[..count]), cast_slice(values)) {
                Err(e) if is_no_batch(&e) => {}
                done => {
                    done?;
                    continue;
                }
            }
        }
        (first..).zip(values.chunks(words)).try_for_each(|(index, value)| update(map, index, value))?;
    }
    Ok(())
}

/// The errors of kernels without batches.
pub(super) fn is_no_batch(e: &io::Error) -> bool {
    [Some(Errno::INVAL.raw_os_error()), Some(ENOTSUPP)].contains(&e.raw_os_error())
}

/// An index as the kernel's key. Maps have no more elements than fit.
#[allow(clippy::cast_possible_truncation)]
fn key(index: usize) -> u32 {
    index as u32
}
