//! The system calls that stand in for a mapping.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::libbpf_sys;
use rustix::io::Errno;

use crate::layout::{Preamble, WORD};
use crate::protocol::TripleRead;

/// Elements that one system call reads, at most.
const BATCH: usize = 64;

/// Reads elements of a map by system calls. Each call copies while programs write: what it
/// returns may be torn, and it is the reader's protocol that finds out.
pub(crate) struct Lookup {
    fd: OwnedFd,
    /// Words of what one element comes as: for a per-CPU map, the copies of all CPUs.
    words: usize,
    entries: usize,
    batch: AtomicBool,
    per_cpu: Option<PerCpu>,
}

/// What is known of a map of which each CPU has a copy.
pub(crate) struct PerCpu {
    /// The CPUs whose copies come with each element, in that order: the possible ones.
    pub(crate) cpus: Vec<usize>,
    /// Whether the kernel (7.0 and later) can be asked for one CPU's copy.
    pub(crate) one: bool,
}

impl Lookup {
    /// Of a map with `value` bytes a value. One lookup copies those; a batch has no gap between them, so that it
    /// is made only where they are whole words.
    pub(super) fn new(fd: OwnedFd, value: usize, entries: usize) -> Self {
        let batch = AtomicBool::new(value.is_multiple_of(WORD));
        Self { fd, words: value.div_ceil(WORD), entries, batch, per_cpu: None }
    }

    /// The same for a per-CPU map. Makes system calls, to find out what the kernel can.
    pub(super) fn per_cpu(fd: OwnedFd, value: usize, entries: usize, cpus: Vec<usize>) -> Self {
        // The copies come one after the other, each in whole words.
        let value = value.next_multiple_of(WORD);
        let mut all = Self::new(fd, value * cpus.len(), entries);
        let mut value = vec![0; value / WORD];
        let one = all.copy(0, cpus[0], &mut value).is_ok();
        all.per_cpu = Some(PerCpu { cpus, one });
        all
    }

    /// The CPUs that have a copy each, if this is such a map.
    pub(crate) fn copies(&self) -> Option<&PerCpu> {
        self.per_cpu.as_ref()
    }

    /// The first words of the region. Of what lives on in it ([`Preamble::DROPPED`]), the sum
    /// over all copies.
    pub(crate) fn preamble(&self) -> io::Result<[u64; Preamble::WORDS]> {
        let copies = self.per_cpu.as_ref().map_or(1, |per_cpu| per_cpu.cpus.len());
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
        const BPF_F_CPU: u64 = 8;
        let key = key(index);
        // SAFETY: the key has 4 bytes, and `out` is as long as one copy, which is all that the
        // kernel writes with this flag (it refuses it where it knows it not: EINVAL).
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_elem_flags(
                self.fd.as_raw_fd(),
                (&raw const key).cast(),
                out.as_mut_ptr().cast(),
                BPF_F_CPU | (cpu as u64) << 32,
            )
        };
        result(ret)
    }

    /// Reads `count` elements from `first` on: one call, or one for each where the kernel has
    /// no batches (before 5.6; of per-CPU arrays before 5.13).
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
            self.one(index, out)?;
        }
        Ok(())
    }

    fn one(&self, index: usize, out: &mut [u64]) -> io::Result<()> {
        let key = key(index);
        // SAFETY: the key has the map's key size, which was checked to be 4 by opening an array,
        // and `out` is as long as the map's value, rounded up to words (`run` checked it).
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                (&raw const key).cast(),
                out.as_mut_ptr().cast(),
            )
        };
        result(ret)
    }

    /// Reads as many elements as `out` has room for, [`BATCH`] at most.
    fn many(&self, first: usize, out: &mut [u64]) -> io::Result<()> {
        let count = out.len() / self.words;
        assert!(count <= BATCH);
        let before = key(first.wrapping_sub(1));
        let mut last = 0_u32;
        let mut keys = [0_u32; BATCH];
        let mut got = key(count);
        let before = if first == 0 { std::ptr::null() } else { &raw const before };
        // SAFETY: `keys` and `out` have room for `count` keys and values, the
        // others are words on the stack; the kernel reads `before` and writes the rest.
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                self.fd.as_raw_fd(),
                before.cast_mut().cast(),
                (&raw mut last).cast(),
                keys.as_mut_ptr().cast(),
                out.as_mut_ptr().cast(),
                &raw mut got,
                std::ptr::null(),
            )
        };
        match result(ret) {
            // The end of the map is no error, if it is where the run ends.
            Err(e) if e.raw_os_error() != Some(Errno::NOENT.raw_os_error()) => Err(e),
            _ if got as usize == count => Ok(()),
            _ => Err(io::Error::other(format!("a batch of {count} elements from {first} gave {got}"))),
        }
    }
}

/// Opens what is pinned at `path`. Not by libbpf-rs, whose errors keep the errno to themselves.
pub(super) fn open_pin(path: &Path, file_flags: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let size = size_of::<libbpf_sys::bpf_obj_get_opts>() as libbpf_sys::size_t;
    let opts = libbpf_sys::bpf_obj_get_opts { sz: size, file_flags, ..Default::default() };
    // SAFETY: a C string, and options that say how long they are.
    descriptor(unsafe { libbpf_sys::bpf_obj_get_opts(path.as_ptr(), &raw const opts) })
}

/// Opens the map with this id.
pub(super) fn open_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: any id is fine.
    descriptor(unsafe { libbpf_sys::bpf_map_get_fd_by_id(id) })
}

pub(super) fn descriptor(ret: i32) -> io::Result<OwnedFd> {
    result(ret)?;
    // SAFETY: what libbpf returns is a new descriptor, and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(ret) })
}

/// Whether `fd` is a BPF map, and not a program, a link or a file.
pub(super) fn is_map(fd: BorrowedFd<'_>) -> bool {
    // What procfs calls it; without procfs, what it answers to a question.
    let name = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
    name.map_or_else(|_| has_keys(fd), |name| name.as_bytes() == b"anon_inode:bpf-map")
}

/// Whether `fd` is asked for its keys like a map: all are, but for queues and stacks.
fn has_keys(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no key asks for the first one, and the kernel refuses to write it to null (EFAULT);
    // it looks at the descriptor before (EINVAL for what is no map).
    let ret =
        unsafe { libbpf_sys::bpf_map_get_next_key(fd.as_raw_fd(), std::ptr::null(), std::ptr::null_mut()) };
    let refused = result(ret).err().and_then(|e| e.raw_os_error());
    ![Errno::INVAL, Errno::BADF].iter().any(|e| refused == Some(e.raw_os_error()))
}

/// What the kernel calls a type of maps.
pub(super) fn type_name(ty: u32) -> String {
    // SAFETY: any number is fine.
    let name = unsafe { libbpf_sys::libbpf_bpf_map_type_str(ty) };
    if name.is_null() {
        return format!("a map of unknown type {ty}");
    }
    // SAFETY: not null, so one of libbpf's own C strings, which stay.
    let name = unsafe { CStr::from_ptr(name) };
    format!("a map of type {}", name.to_string_lossy())
}

/// Keeps user space from writing the map, for good.
pub(super) fn freeze(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: any descriptor is fine.
    result(unsafe { libbpf_sys::bpf_map_freeze(fd.as_raw_fd()) })
}

/// Pins the map.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a C string.
    result(unsafe { libbpf_sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) })
}

/// Writes an element by system call.
pub(crate) fn update(fd: BorrowedFd<'_>, index: usize, value: &[u64]) -> io::Result<()> {
    let key = key(index);
    // SAFETY: the key has 4 bytes, the value is as long as the map's, rounded up to words.
    let ret = unsafe {
        libbpf_sys::bpf_map_update_elem(
            fd.as_fd().as_raw_fd(),
            (&raw const key).cast(),
            value.as_ptr().cast(),
            0,
        )
    };
    result(ret)
}

/// Writes elements of `words` words from `first` on, in this order: one call for [`BATCH`] of them, or
/// one for each where the kernel has no batches.
pub(crate) fn update_run(fd: BorrowedFd<'_>, first: usize, words: usize, values: &[u64]) -> io::Result<()> {
    for (first, values) in (first..).step_by(BATCH).zip(values.chunks(BATCH * words)) {
        let count = values.len() / words;
        if count > 1 {
            match update_many(fd, first, count, values) {
                Err(e) if is_no_batch(&e) => {}
                done => {
                    done?;
                    continue;
                }
            }
        }
        (first..).zip(values.chunks(words)).try_for_each(|(index, value)| update(fd, index, value))?;
    }
    Ok(())
}

fn update_many(fd: BorrowedFd<'_>, first: usize, count: usize, values: &[u64]) -> io::Result<()> {
    assert!(count <= BATCH);
    let keys: [u32; BATCH] = std::array::from_fn(|at| key(first.wrapping_add(at)));
    let mut done = key(count);
    // SAFETY: there are as many keys and values as said, of 4 bytes and as long as the map's, rounded up to
    // words (the only caller, a region's handle, has them from its geometry).
    result(unsafe {
        libbpf_sys::bpf_map_update_batch(
            fd.as_raw_fd(),
            keys.as_ptr().cast(),
            values.as_ptr().cast(),
            &raw mut done,
            std::ptr::null(),
        )
    })
}

/// How kernels without batches refuse them.
pub(super) fn is_no_batch(e: &io::Error) -> bool {
    [Some(Errno::INVAL.raw_os_error()), Some(super::ENOTSUPP)].contains(&e.raw_os_error())
}

/// An index as the kernel takes it. Maps have no more elements than fit.
#[allow(clippy::cast_possible_truncation)]
fn key(index: usize) -> u32 {
    index as u32
}

pub(super) fn result(ret: i32) -> io::Result<()> {
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(()) }
}
