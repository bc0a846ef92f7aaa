//! Direct system calls on maps, without the library, with the kernel's errno.
#![allow(unsafe_code)]

mod programs;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::MapType;
use libbpf_rs::libbpf_sys::{self, bpf_get_fd_by_id_opts, bpf_map_create_opts, bpf_map_info};
use mapring::abi::{Geometry, Preamble};
use memmap2::MmapOptions;
use rustix::mm::{MapFlags, ProtFlags};

pub use self::programs::{nothing, overwriting, overwriting_inner, program, run_filter};

/// The kernel's result: an errno if it refused.
pub type SysResult<T = ()> = Result<T, i32>;

/// A map to create.
#[derive(Clone, Copy, Debug)]
pub struct RawMap {
    /// Its type.
    pub ty: MapType,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// The number of elements.
    pub entries: u32,
    /// `BPF_F_…`
    pub flags: u32,
    /// The NUMA node, if the flags contain `BPF_F_NUMA_NODE`.
    pub node: u32,
    /// An object's BTF, and its types for key and value; or zeros.
    pub btf: (i32, u32, u32),
}

impl RawMap {
    /// An array of values of this many bytes, with these flags.
    pub fn array(value: u32, entries: u32, flags: u32) -> Self {
        Self { ty: MapType::Array, key: 4, value, entries, flags, node: 0, btf: (0, 0, 0) }
    }

    /// Creates the map.
    ///
    /// # Errors
    /// Returns the kernel's errno.
    pub fn make(self) -> SysResult<OwnedFd> {
        self.create(&[], 0)
    }

    /// Creates the map for one program only, whose instructions have this SHA-256 (Linux 6.18).
    ///
    /// # Errors
    /// Returns the kernel's errno; E2BIG before 6.18.
    pub fn make_exclusive(self, program: &[u8; 32]) -> SysResult<OwnedFd> {
        self.create(program, 0)
    }

    /// Creates a map of maps like `inner`.
    ///
    /// # Errors
    /// Returns the kernel's errno.
    pub fn make_of(self, inner: BorrowedFd<'_>) -> SysResult<OwnedFd> {
        self.create(&[], inner.as_raw_fd())
    }

    fn create(self, program: &[u8], inner: i32) -> SysResult<OwnedFd> {
        let opts = bpf_map_create_opts {
            sz: size_of::<bpf_map_create_opts>() as u64,
            map_flags: self.flags,
            inner_map_fd: u32::try_from(inner).unwrap(),
            numa_node: self.node,
            btf_fd: u32::try_from(self.btf.0).unwrap(),
            btf_key_type_id: self.btf.1,
            btf_value_type_id: self.btf.2,
            excl_prog_hash: if program.is_empty() { std::ptr::null() } else { program.as_ptr().cast() },
            excl_prog_hash_size: u32::try_from(program.len()).unwrap(),
            ..Default::default()
        };
        let (ty, Self { key, value, entries, .. }) = (u32::from(self.ty), self);
        // SAFETY: a C string, and options that contain their own size and the hash's.
        descriptor(unsafe {
            libbpf_sys::bpf_map_create(ty, c"raw".as_ptr(), key, value, entries, &raw const opts)
        })
    }
}

/// The kernel's information about a map.
///
/// # Panics
/// Panics if `fd` is not a map.
pub fn info(fd: impl AsFd) -> bpf_map_info {
    let mut info = bpf_map_info::default();
    let mut size = u32::try_from(size_of_val(&info)).unwrap();
    // SAFETY: `info` has the stated size.
    let ret =
        unsafe { libbpf_sys::bpf_map_get_info_by_fd(fd.as_fd().as_raw_fd(), &raw mut info, &raw mut size) };
    assert_eq!(ret, 0, "map info");
    info
}

/// The map with this id; `flags` may be `BPF_F_RDONLY` or `BPF_F_WRONLY`.
///
/// # Errors
/// Returns the kernel's errno.
pub fn by_id(id: u32, flags: u32) -> SysResult<OwnedFd> {
    let opts = bpf_get_fd_by_id_opts {
        sz: size_of::<bpf_get_fd_by_id_opts>() as u64,
        open_flags: flags,
        ..Default::default()
    };
    // SAFETY: the options contain their own size.
    descriptor(unsafe { libbpf_sys::bpf_map_get_fd_by_id_opts(id, &raw const opts) })
}

/// The BTF with this id.
///
/// # Errors
/// Returns the kernel's errno.
pub fn btf_by_id(id: u32) -> SysResult<OwnedFd> {
    // SAFETY: any id is valid.
    descriptor(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(id) })
}

/// Maps `bytes` of it, shared, and unmaps them again.
///
/// # Errors
/// Returns the kernel's errno.
pub fn map(fd: impl AsFd, bytes: usize, write: bool) -> SysResult {
    let (mut options, fd) = (MmapOptions::new(), fd.as_fd().as_raw_fd());
    options.len(bytes);
    let done = if write { options.map_raw(fd) } else { options.map_raw_read_only(fd) };
    done.map(drop).map_err(|e| e.raw_os_error().unwrap())
}

/// Maps a page of it at `offset`, with this protection and these flags.
///
/// # Errors
/// Returns the kernel's errno.
pub fn map_as(fd: impl AsFd, offset: u64, protection: ProtFlags, flags: MapFlags) -> SysResult {
    const PAGE: usize = 4096;
    // SAFETY: a new mapping at an address that the kernel chooses, and nothing accesses it.
    let made = unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGE, protection, flags, fd, offset) };
    // SAFETY: made above.
    made.and_then(|at| unsafe { rustix::mm::munmap(at, PAGE) }).map_err(rustix::io::Errno::raw_os_error)
}

/// Looks up one element; for per-CPU maps `value` has room for all CPUs' copies.
///
/// # Errors
/// Returns the kernel's errno.
pub fn lookup(fd: impl AsFd, index: u32, value: &mut [u64]) -> SysResult {
    check(&fd, value.len(), 1);
    let to = value.as_mut_ptr().cast();
    // SAFETY: the key has 4 bytes, and the length of the value was checked.
    sys_result(unsafe {
        libbpf_sys::bpf_map_lookup_elem(fd.as_fd().as_raw_fd(), (&raw const index).cast(), to)
    })
}

/// Looks up `count` elements, from the first on.
///
/// # Errors
/// Returns the kernel's errno.
pub fn lookup_batch(fd: impl AsFd, mut count: u32, values: &mut [u64]) -> SysResult {
    check(&fd, values.len(), count as usize);
    let (mut last, mut keys) = (0_u32, vec![0_u32; count as usize]);
    // SAFETY: keys and values have room for `count` elements.
    sys_result(unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            fd.as_fd().as_raw_fd(),
            std::ptr::null_mut(),
            (&raw mut last).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    })
}

/// Writes an element.
///
/// # Errors
/// Returns the kernel's errno.
pub fn update(fd: impl AsFd, index: u32, value: &[u64]) -> SysResult {
    check(&fd, value.len(), 1);
    let from = value.as_ptr().cast();
    // SAFETY: the key has 4 bytes, and the length of the value was checked.
    sys_result(unsafe {
        libbpf_sys::bpf_map_update_elem(fd.as_fd().as_raw_fd(), (&raw const index).cast(), from, 0)
    })
}

/// An array with these flags that contains an empty region of `record`s, as a loader in any language would create it.
pub fn region(geometry: Geometry, record: &str, flags: u32) -> OwnedFd {
    let [value, entries] = [geometry.element(), geometry.entries()].map(|n| u32::try_from(n).unwrap());
    let map = RawMap::array(value, entries, flags).make().unwrap();
    let mut words = vec![0; geometry.element_words() * geometry.first()];
    let preamble = Preamble { geometry, generation: 1, name: record.into() };
    words[..Preamble::WORDS].copy_from_slice(&preamble.encode());
    for (index, element) in (0..).zip(words.chunks(geometry.element_words())) {
        update(&map, index, element).unwrap();
    }
    map
}

/// Writes these elements.
///
/// # Errors
/// Returns the kernel's errno.
pub fn update_batch(fd: impl AsFd, indices: &[u32], values: &[u64]) -> SysResult {
    check(&fd, values.len(), indices.len());
    let mut count = u32::try_from(indices.len()).unwrap();
    // SAFETY: `count` keys, and values for all of them.
    sys_result(unsafe {
        libbpf_sys::bpf_map_update_batch(
            fd.as_fd().as_raw_fd(),
            indices.as_ptr().cast(),
            values.as_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    })
}

/// Deletes an element.
///
/// # Errors
/// Returns the kernel's errno.
pub fn delete(fd: impl AsFd, index: u32) -> SysResult {
    // SAFETY: the key has 4 bytes.
    sys_result(unsafe { libbpf_sys::bpf_map_delete_elem(fd.as_fd().as_raw_fd(), (&raw const index).cast()) })
}

/// The index after this one.
///
/// # Errors
/// Returns the kernel's errno.
pub fn next_key(fd: impl AsFd, index: Option<u32>) -> SysResult<u32> {
    let mut next = 0_u32;
    let before = index.as_ref().map_or(std::ptr::null(), |index| &raw const *index);
    // SAFETY: the keys have 4 bytes.
    sys_result(unsafe {
        libbpf_sys::bpf_map_get_next_key(fd.as_fd().as_raw_fd(), before.cast(), (&raw mut next).cast())
    })
    .map(|()| next)
}

/// Freezes it.
///
/// # Errors
/// Returns the kernel's errno.
pub fn freeze(fd: impl AsFd) -> SysResult {
    // SAFETY: any descriptor is valid.
    sys_result(unsafe { libbpf_sys::bpf_map_freeze(fd.as_fd().as_raw_fd()) })
}

/// Checks that the buffer is as long as the kernel's access to `count` elements.
fn check(fd: &impl AsFd, words: usize, count: usize) {
    let info = info(fd);
    let copies = match MapType::from(info.type_) {
        MapType::PercpuArray => libbpf_rs::num_possible_cpus().unwrap(),
        _ => 1,
    };
    assert!(words >= (info.value_size as usize).div_ceil(8) * copies * count, "{words} words");
}

fn descriptor(ret: i32) -> SysResult<OwnedFd> {
    sys_result(ret)?;
    // SAFETY: libbpf returns a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(ret) })
}

fn sys_result(ret: i32) -> SysResult {
    if ret < 0 { Err(-ret) } else { Ok(()) }
}

/// The name of an errno in the kernel's sources.
pub fn errno(errno: i32) -> String {
    const NAMES: [(i32, &str); 11] = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::E2BIG, "E2BIG"),
        (libc::EBADF, "EBADF"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EINVAL, "EINVAL"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (524, "ENOTSUPP"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == errno);
    known.map_or_else(|| io::Error::from_raw_os_error(errno).to_string(), |(_, name)| (*name).to_owned())
}
