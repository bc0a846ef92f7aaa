//! All bpf(2) calls of this crate, as safe functions.
#![allow(unsafe_code)]

mod elements;

use std::ffi::{CString, OsStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use bytemuck::{Pod, Zeroable};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

pub use self::elements::{Elements, lookup_fits};
use crate::kinds::MapType;
use crate::uapi::*;
use mapring_core::abi::WORD;

/// The attributes of an array to be created.
#[derive(Default)]
pub struct NewArray<'a> {
    /// Its name, with zeros behind it.
    pub name: [u8; NAME],
    /// Bytes of a value.
    pub value_size: u32,
    /// The number of elements.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
    /// Only used with `BPF_F_NUMA_NODE`.
    pub node: u32,
    /// BTF, and the types of keys and values in it.
    pub types: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// Creates an array.
pub fn create_array(new: &NewArray<'_>) -> io::Result<OwnedFd> {
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
pub fn create_per_cpu_array() -> io::Result<OwnedFd> {
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

/// Creates an array of maps like `inner`.
pub fn create_array_of_maps(name: &str, entries: u32, inner: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut short = [0; NAME];
    let length = name.len().min(NAME - 1);
    short[..length].copy_from_slice(&name.as_bytes()[..length]);
    let mut attributes = CreateMap {
        ty: MapType::ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: entries,
        inner_map: raw(&inner),
        name: short,
        ..CreateMap::zeroed()
    };
    charged(|| {
        // SAFETY: there are no addresses.
        descriptor(unsafe { bpf(MAP_CREATE, &mut attributes) })
    })
}

/// Creates a ringbuf of `bytes` bytes: a power of two of pages.
pub fn create_ringbuf(bytes: usize) -> io::Result<OwnedFd> {
    let mut attributes =
        CreateMap { ty: MapType::RINGBUF, max_entries: u32_of(bytes), ..CreateMap::zeroed() };
    charged(|| {
        // SAFETY: there are no addresses.
        descriptor(unsafe { bpf(MAP_CREATE, &mut attributes) })
    })
}

/// Loads a socket filter with these instructions. Repeats the call after EAGAIN (a signal came during the verification)
/// as often as libbpf does.
pub fn load_program(instructions: &[u64]) -> io::Result<OwnedFd> {
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
pub fn open_pin(path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: address(path.as_bytes_with_nul()), flags, ..Pin::zeroed() };
    // SAFETY: the path is a C string.
    descriptor(unsafe { bpf(OBJ_GET, &mut pin) })
}

/// Opens by calling `open` with flags: for reading only, if the pin's mode allows no more.
pub fn open_writable_or_not(open: impl Fn(u32) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    open(0).or_else(|e| {
        let denied = e.kind() == io::ErrorKind::PermissionDenied;
        if denied { open(BPF_F_RDONLY).map_err(|_| e) } else { Err(e) }
    })
}

/// Opens the object pinned as `name` in a directory.
pub fn open_pin_in(dir: BorrowedFd<'_>, name: &OsStr, flags: u32) -> io::Result<OwnedFd> {
    descriptor(pin_in(OBJ_GET, dir, name, Pin { flags, ..Pin::zeroed() }))
}

/// Pins an object as `name` in a directory.
pub fn pin(object: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
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
pub fn map_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(MAP_GET_FD_BY_ID, &mut id) })
}

/// Opens the program with this id.
pub fn program_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(PROG_GET_FD_BY_ID, &mut id) })
}

/// Opens the link with this id.
pub fn link_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(LINK_GET_FD_BY_ID, &mut id) })
}

/// Objects that have ids, beside maps.
#[derive(Clone, Copy)]
pub enum Object {
    /// A program.
    Program,
    /// A link.
    Link,
}

/// The id of the first object of this kind after the one with the id `last`. ENOENT if there is none; EPERM without
/// CAP_SYS_ADMIN.
pub fn next_id(of: Object, last: u32) -> io::Result<u32> {
    let command = match of {
        Object::Program => PROG_GET_NEXT_ID,
        Object::Link => LINK_GET_NEXT_ID,
    };
    let mut ids = NextId { last, next: 0 };
    // SAFETY: there are no addresses.
    unsafe { bpf(command, &mut ids) }?;
    Ok(ids.next)
}

/// Opens the BTF with this id.
pub fn btf_by_id(mut id: u32) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses.
    descriptor(unsafe { bpf(BTF_GET_FD_BY_ID, &mut id) })
}

/// The kernel's information about a map. For another object the kernel writes other information.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // SAFETY: there are no addresses in it.
    unsafe { info(map, MapInfo::zeroed()) }
}

/// The kernel's information about a program. For another object the kernel writes other information.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // SAFETY: all addresses in it are null, with lengths of 0.
    unsafe { info(program, ProgramInfo::zeroed()) }
}

/// The same, and the ids of the maps that the program uses.
pub fn program_maps(program: BorrowedFd<'_>) -> io::Result<(ProgramInfo, Vec<u32>)> {
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
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: there are no addresses in it.
    unsafe { info(link, LinkInfo::zeroed()) }
}

/// The id of BTF, and its bytes.
pub fn btf_bytes(btf: BorrowedFd<'_>) -> io::Result<(u32, Vec<u8>)> {
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
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: there are no addresses.
    unsafe { bpf(MAP_FREEZE, &mut raw(&map)) }.map(drop)
}

/// Requests a map's first key, without a buffer for it: EFAULT. All maps have keys, except queues and stacks. If it is
/// not a map, the kernel refuses earlier (EINVAL).
pub fn ask_for_keys(map: BorrowedFd<'_>) -> io::Result<()> {
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
