//! All bpf(2) calls of this crate, as safe functions.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use bytemuck::{Pod, Zeroable};
use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, mprotect};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::copies::Copies;
use super::kinds::MapType;
use super::uapi::*;
use crate::abi::WORD;

/// The elements of a map. Calls check that keys and values have the sizes that the kernel reported for this map.
pub(crate) struct Elements<F> {
    map: F,
    key: usize,
    /// Bytes of a value; of a per-CPU map, bytes of each copy, which are whole words.
    value: usize,
    copies: Option<Copies>,
}

impl<F: AsFd> Elements<F> {
    /// For a map that is not per-CPU. `info` must be about this map.
    pub(crate) fn new(map: F, info: &MapInfo) -> Self {
        assert_ne!(info.ty, MapType::PERCPU_ARRAY);
        Self { map, key: info.key_size as usize, value: info.value_size as usize, copies: None }
    }

    /// For an array. If it is per-CPU, this makes system calls to count the copies.
    pub(crate) fn of_array(map: F, info: &MapInfo) -> io::Result<Self> {
        if info.ty != MapType::PERCPU_ARRAY {
            return Ok(Self::new(map, info));
        }
        let copies = Some(Copies::of(map.as_fd(), info)?);
        Ok(Self { map, key: info.key_size as usize, value: copy_size(info), copies })
    }

    /// How many copies of a value there are: one, or one for each possible CPU.
    pub(crate) fn copies(&self) -> usize {
        self.cpus().map_or(1, <[_]>::len)
    }

    /// The CPUs that have copies; `None` if the map is not per-CPU.
    pub(crate) fn cpus(&self) -> Option<&[usize]> {
        self.copies.as_ref().map(Copies::cpus)
    }

    /// The descriptor of the map.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Reads the value under `key`; for a per-CPU map, all copies.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        assert!(value.len() >= self.value * self.copies());
        self.lookup_flags(key, value, 0)
    }

    /// Reads the copy of one CPU. EINVAL if the kernel does not support this (before 7.0).
    pub(crate) fn lookup_of_cpu(&self, key: &[u8], cpu: usize, value: &mut [u8]) -> io::Result<()> {
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
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(value.len() >= self.value * self.copies());
        let mut element = Element { value: address(value), ..self.element(key) };
        // SAFETY: the key is as long as the map's keys, and the value as its values; the kernel only reads them.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut element) }.map(drop)
    }

    /// Removes the element under `key`.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        // SAFETY: the key is as long as the map's keys.
        unsafe { bpf(MAP_DELETE_ELEM, &mut self.element(key)) }.map(drop)
    }

    /// Reads the elements of an array after the one with the key `after`, or the first ones: as many as `keys` has
    /// entries. Returns how many there were; ENOENT at the end of the map.
    pub(crate) fn lookup_batch(
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
    pub(crate) fn update_batch(&self, keys: &[u8], values: &[u8]) -> io::Result<()> {
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
pub(crate) fn lookup_fits(map: BorrowedFd<'_>, info: &MapInfo, copies: usize) -> io::Result<bool> {
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

/// The attributes of an array to be created.
#[derive(Default)]
pub(crate) struct NewArray<'a> {
    pub(crate) name: [u8; NAME],
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    /// Only used with `BPF_F_NUMA_NODE`.
    pub(crate) node: u32,
    /// BTF, and the types of keys and values in it.
    pub(crate) types: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// Creates an array.
pub(crate) fn create_array(new: &NewArray<'_>) -> io::Result<OwnedFd> {
    let (btf, key_type, value_type) =
        new.types.map_or((0, 0, 0), |(btf, key, value)| (raw(&btf), key, value));
    let mut attributes = CreateMap {
        ty: MapType::ARRAY,
        key_size: 4,
        value_size: new.value_size,
        max_entries: new.max_entries,
        flags: new.flags,
        inner_map: 0,
        node: new.node,
        name: new.name,
        ifindex: 0,
        btf,
        key_type,
        value_type,
    };
    charged(|| {
        // SAFETY: there are no addresses.
        descriptor(unsafe { bpf(MAP_CREATE, &mut attributes) })
    })
}

/// Creates a per-CPU array of one word.
pub(crate) fn create_per_cpu_array() -> io::Result<OwnedFd> {
    let mut attributes = CreateMap {
        ty: MapType::PERCPU_ARRAY,
        key_size: 4,
        value_size: u32_of(WORD),
        max_entries: 1,
        ..CreateMap::zeroed()
    };
    charged(|| {
        // SAFETY: there are no addresses.
        descriptor(unsafe { bpf(MAP_CREATE, &mut attributes) })
    })
}

/// Creates a ringbuf of `bytes` bytes: a power of two of pages.
pub(crate) fn create_ringbuf(bytes: usize) -> io::Result<OwnedFd> {
    let mut attributes =
        CreateMap { ty: MapType::RINGBUF, max_entries: u32_of(bytes), ..CreateMap::zeroed() };
    charged(|| {
        // SAFETY: there are no addresses.
        descriptor(unsafe { bpf(MAP_CREATE, &mut attributes) })
    })
}

/// Loads a socket filter with these instructions. Repeats the call after EAGAIN (a signal came during the verification)
/// as often as libbpf does.
pub(crate) fn load_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    const SOCKET_FILTER: u32 = 1;
    const TRIES: usize = 5;
    let mut attributes = LoadProgram {
        ty: SOCKET_FILTER,
        count: u32_of(instructions.len()),
        instructions: address(instructions),
        license: address(c"GPL".to_bytes_with_nul()),
    };
    let mut load = || {
        // SAFETY: `count` is the number of instructions, and the license is a C string.
        descriptor(unsafe { bpf(PROG_LOAD, &mut attributes) })
    };
    charged(|| {
        (1..TRIES).fold(load(), |loaded, _| match loaded {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::AGAIN) => load(),
            loaded => loaded,
        })
    })
}

/// Calls `make`, which creates an object that takes memory. Before Linux 5.11 the memory counts against RLIMIT_MEMLOCK,
/// and EPERM may mean that the limit is too low. Then this lifts the limit and tries again. (libbpf lifts it
/// beforehand.)
fn charged(mut make: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let unlimited = Rlimit { current: None, maximum: None };
    match make() {
        Err(e)
            if Errno::from_io_error(&e) == Some(Errno::PERM)
                && setrlimit(Resource::Memlock, unlimited).is_ok() =>
        {
            make()
        }
        made => made,
    }
}

/// Opens the object pinned at `path`.
pub(crate) fn open_pin(path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: address(path.as_bytes_with_nul()), flags, ..Pin::zeroed() };
    // SAFETY: the path is a C string.
    descriptor(unsafe { bpf(OBJ_GET, &mut pin) })
}

/// Opens by calling `open` with flags: for reading only, if the pin's mode allows no more.
pub(crate) fn open_writable_or_not(open: impl Fn(u32) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    open(0).or_else(|e| {
        let denied = e.kind() == io::ErrorKind::PermissionDenied;
        if denied { open(BPF_F_RDONLY).map_err(|_| e) } else { Err(e) }
    })
}

/// Opens the object pinned as `name` in a directory.
pub(crate) fn open_pin_in(dir: BorrowedFd<'_>, name: &OsStr, flags: u32) -> io::Result<OwnedFd> {
    descriptor(pin_in(OBJ_GET, dir, name, Pin { flags, ..Pin::zeroed() }))
}

/// Pins an object as `name` in a directory.
pub(crate) fn pin(object: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    pin_in(OBJ_PIN, dir, name, Pin { object: raw(&object), ..Pin::zeroed() }).map(drop)
}

/// Calls bpf(2) for a pin in a directory: before Linux 6.5 by the directory's name in procfs.
fn pin_in(command: c_int, dir: BorrowedFd<'_>, name: &OsStr, pin: Pin) -> io::Result<c_int> {
    let path = CString::new(name.as_bytes())?;
    let (path, flags) = (address(path.as_bytes_with_nul()), pin.flags | BPF_F_PATH_FD);
    // SAFETY: the path is a C string.
    let done = unsafe { bpf(command, &mut Pin { path, flags, dir: raw(&dir), ..pin }) };
    if !done.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::InvalidInput) {
        return done;
    }
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name.as_bytes()].concat();
    let path = CString::new(path)?;
    // SAFETY: the path is a C string.
    unsafe { bpf(command, &mut Pin { path: address(path.as_bytes_with_nul()), ..pin }) }
}

/// Opens the map with this id.
pub(crate) fn map_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(MAP_GET_FD_BY_ID, &mut id) })
}

/// Opens the program with this id.
pub(crate) fn program_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(PROG_GET_FD_BY_ID, &mut id) })
}

/// Opens the link with this id.
pub(crate) fn link_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(LINK_GET_FD_BY_ID, &mut id) })
}

/// The sorts of objects with ids.
#[derive(Clone, Copy)]
pub(crate) enum Object {
    Program,
    Link,
}

/// The id of the first object of a sort after the one with the id `last`. ENOENT if there is none; EPERM without
/// CAP_SYS_ADMIN.
pub(crate) fn next_id(sort: Object, last: u32) -> io::Result<u32> {
    let command = match sort {
        Object::Program => PROG_GET_NEXT_ID,
        Object::Link => LINK_GET_NEXT_ID,
    };
    let mut ids = NextId { last, next: 0 };
    // SAFETY: there are no addresses.
    unsafe { bpf(command, &mut ids) }?;
    Ok(ids.next)
}

/// Opens the BTF with this id.
pub(crate) fn btf_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(BTF_GET_FD_BY_ID, &mut id) })
}

/// The kernel's information about a map. For another object the kernel writes other information.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // SAFETY: there are no addresses in it.
    unsafe { info(map, MapInfo::zeroed()) }
}

/// The kernel's information about a program. For another object the kernel writes other information.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // SAFETY: all addresses in it are null, with lengths of 0.
    unsafe { info(program, ProgramInfo::zeroed()) }
}

/// The same, and the ids of the maps that the program uses.
pub(crate) fn program_maps(program: BorrowedFd<'_>) -> io::Result<(ProgramInfo, Vec<u32>)> {
    // As many as a program can use; if not, the kernel returns the number.
    let mut ids = vec![0_u32; 64];
    for _ in 0..2 {
        let asked = ProgramInfo {
            map_count: u32_of(ids.len()),
            maps: address_mut(&mut ids),
            ..ProgramInfo::zeroed()
        };
        // SAFETY: the buffer has `map_count` ids, and the other addresses are null, with lengths of 0.
        let info = unsafe { info(program, asked) }?;
        let count = info.map_count as usize;
        let is_all = count <= ids.len();
        ids.resize(count, 0);
        if is_all {
            return Ok((info, ids));
        }
    }
    Err(Errno::TOOBIG.into())
}

/// The kernel's information about a link. For another object the kernel writes other information.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: there are no addresses in it.
    unsafe { info(link, LinkInfo::zeroed()) }
}

/// The id of BTF, and its bytes.
pub(crate) fn btf_bytes(btf: BorrowedFd<'_>) -> io::Result<(u32, Vec<u8>)> {
    // Enough for most objects; if not, the kernel returns the size.
    let mut bytes = vec![0_u8; 4096];
    for _ in 0..2 {
        let asked = BtfInfo { bytes: address_mut(&mut bytes), size: u32_of(bytes.len()), id: 0 };
        // SAFETY: the buffer has `size` bytes.
        let info = unsafe { info(btf, asked) }?;
        let size = info.size as usize;
        let is_all = size <= bytes.len();
        bytes.resize(size, 0);
        if is_all {
            return Ok((info.id, bytes));
        }
    }
    Err(Errno::TOOBIG.into())
}

/// Forbids userspace to write the map, for good.
pub(crate) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: there are no addresses.
    unsafe { bpf(MAP_FREEZE, &mut raw(&map)) }.map(drop)
}

/// Requests a map's first key, without a buffer for it: EFAULT. All maps have keys, except queues and stacks. If it is
/// not a map, the kernel refuses earlier (EINVAL).
pub(crate) fn ask_for_keys(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut element = Element { map: raw(&map), ..Element::zeroed() };
    // SAFETY: a null key requests the first one, and the kernel refuses to write it to null.
    unsafe { bpf(MAP_GET_NEXT_KEY, &mut element) }.map(drop)
}

/// Fills `asked` with the kernel's information.
///
/// # Safety
/// As for [`bpf`], for the addresses in `asked`.
unsafe fn info<I: Pod>(object: BorrowedFd<'_>, mut asked: I) -> io::Result<I> {
    let info = address_mut(std::slice::from_mut(&mut asked));
    let mut query = Query { object: raw(&object), size: u32_of(size_of::<I>()), info };
    // SAFETY: `asked` has this size, and any bytes are a valid value; the caller guarantees the addresses in it.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut query) }?;
    Ok(asked)
}

/// Calls bpf(2). Some commands return a descriptor.
///
/// # Safety
/// Each address in `attributes` points to as many bytes as the command reads or writes there.
unsafe fn bpf<A: Pod>(command: c_int, attributes: &mut A) -> io::Result<c_int> {
    // SAFETY: the attributes have this size, the kernel may write to them, and any bytes are valid attributes; the
    // caller guarantees the memory behind their addresses.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(c_int::try_from(result).expect("bpf(2) returns an int"))
}

/// The descriptor that a call returned. It is never below 3, as Rust's runtime keeps those taken. (libbpf moves such
/// descriptors.)
fn descriptor(result: io::Result<c_int>) -> io::Result<OwnedFd> {
    // SAFETY: these commands return a new descriptor, which nothing else owns.
    result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn address<T>(bytes: &[T]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

fn address_mut<T>(bytes: &mut [T]) -> u64 {
    bytes.as_mut_ptr().expose_provenance() as u64
}

fn u32_of(number: usize) -> u32 {
    u32::try_from(number).expect("the kernel counts by u32")
}
