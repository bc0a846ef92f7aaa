//! System calls that show whether the running kernel has a feature. If not, the kernel's message is the answer.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::{fs, io, thread};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::protocol::Answer;

pub(crate) const ARRAY: u32 = 2;
pub(crate) const PERCPU_ARRAY: u32 = 6;
pub(crate) const MMAPABLE: u32 = 1 << 10;
pub(crate) const INNER_MAP: u32 = 1 << 12;
pub(crate) const RAW_TRACEPOINT: u32 = 17;
const SYSCALL: u32 = 31;
const SLEEPABLE: u32 = 1 << 4;

/// Commands of bpf(2).
const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
const PROG_LOAD: i32 = 5;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const PROG_TEST_RUN: i32 = 10;
const MAP_LOOKUP_BATCH: i32 = 24;

/// `Ok` if the kernel accepted it; otherwise an answer that is not a yes.
pub(crate) type Found<T = ()> = Result<T, Answer>;

/// The largest number of per-CPU values that a lookup here can return.
const CPUS: usize = 1024;

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct Load {
    kind: u32,
    insn_count: u32,
    insns: *const u64,
    license: *const u8,
    log_level: u32,
    log_size: u32,
    log: *mut u8,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Lookup {
    map: RawFd,
    key: *const u32,
    value: *mut u64,
    flags: u64,
}

#[repr(C)]
struct Batch {
    from: *const u32,
    to: *mut u32,
    keys: *mut u32,
    values: *mut u64,
    count: u32,
    map: RawFd,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Pin {
    path: *const c_char,
    object: RawFd,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: RawFd,
    result: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    context: [u64; 2],
}

/// bpf(2).
///
/// # Safety
/// `attr` is the command's own attribute type, and the memory that it points to is as long as it states.
unsafe fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller guarantees it; the kernel reads and writes no more than this size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<T>()) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

/// A refusal for a missing privilege shows nothing about the kernel.
fn answer(error: &io::Error, words: &str) -> Answer {
    let words = if words.is_empty() { error.to_string() } else { words.to_owned() };
    if error.raw_os_error() == Some(libc::EPERM) {
        Answer::CouldNotTell(words)
    } else {
        Answer::Unsupported(words)
    }
}

/// Makes an array of two elements.
pub(crate) fn map(kind: u32, value_size: u32, flags: u32) -> Found<OwnedFd> {
    let mut attr = Create { kind, key_size: 4, value_size, max_entries: 2, flags };
    // SAFETY: the attributes of `MAP_CREATE` up to the flags; no pointers.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }.map_err(|error| answer(&error, ""))?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a map while no memory may be locked.
pub(crate) fn map_without_memlock() -> Found {
    let before = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..before })
        .map_err(|error| Answer::CouldNotTell(error.to_string()))?;
    let made = map(ARRAY, 4096, 0);
    let _ = setrlimit(Resource::Memlock, before);
    match made {
        // As root, no other reason exists.
        Err(Answer::CouldNotTell(words)) if rustix::process::geteuid().is_root() => {
            Err(Answer::Unsupported(words))
        }
        other => other.map(drop),
    }
}

/// Pins a map and opens the pin without any capability, while unprivileged BPF is disabled.
pub(crate) fn open_pin_without_privilege() -> Found {
    const PIN: &std::ffi::CStr = c"/sys/fs/bpf/probe";
    const DISABLED: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
    if rustix::process::getpid().is_init() {
        // This machine is a guest. The write fails if the value is already permanent.
        let _ = fs::write(DISABLED, "2");
    } else if fs::read_to_string(DISABLED).is_ok_and(|it| it.trim() == "0") {
        let why = "kernel.unprivileged_bpf_disabled is 0, so that nobody needs privilege here";
        return Err(Answer::CouldNotTell(why.to_owned()));
    }
    let map = map(ARRAY, 8, 0)?;
    let mut attr = Pin { path: PIN.as_ptr(), object: map.as_raw_fd(), flags: 0 };
    // SAFETY: the attributes of `OBJ_PIN`; the path ends with a NUL.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map_err(|error| Answer::CouldNotTell(error.to_string()))?;
    let opened = thread::spawn(|| {
        let mut sets = capabilities(None)?;
        sets.effective = CapabilitySet::empty();
        set_capabilities(None, sets)?;
        let mut attr = Pin { path: PIN.as_ptr(), object: 0, flags: 0 };
        // SAFETY: the attributes of `OBJ_GET`; the path ends with a NUL.
        let fd = unsafe { bpf(OBJ_GET, &mut attr) }?;
        // SAFETY: a new descriptor that nothing else owns.
        let _closed = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(())
    });
    let opened: io::Result<()> = opened.join().expect("nothing in it panics");
    let _ = fs::remove_file("/sys/fs/bpf/probe");
    opened.map_err(|error| Answer::Unsupported(error.to_string()))
}

/// Maps an array's first page for reading.
pub(crate) fn can_be_mapped(map: &OwnedFd) -> Found {
    const PAGE: usize = 4096;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { mmap(ptr::null_mut(), PAGE, ProtFlags::READ, MapFlags::SHARED, map.as_fd(), 0) };
    let address = address.map_err(|error| answer(&error.into(), ""))?;
    // SAFETY: the mapping made above; nothing points into it.
    unsafe { munmap(address, PAGE) }.map_err(|error| Answer::CouldNotTell(error.to_string()))
}

/// Reads both elements at once.
pub(crate) fn batch(map: &OwnedFd) -> Found {
    let (mut to, mut keys, mut values) = (0, [0; 2], vec![0; 2 * CPUS]);
    let mut attr = Batch {
        from: ptr::null(),
        to: &raw mut to,
        keys: keys.as_mut_ptr(),
        values: values.as_mut_ptr(),
        count: 2,
        map: map.as_raw_fd(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attributes of `MAP_LOOKUP_BATCH`; the pointers have room for two elements of 8 bytes per CPU.
    unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) }.map(drop).map_err(|error| answer(&error, ""))
}

/// Reads only the value of CPU 0.
pub(crate) fn lookup_of_one_cpu(map: &OwnedFd) -> Found {
    const OF_CPU: u64 = 1 << 3;
    let (key, mut values) = (0, vec![0; CPUS]);
    let mut attr =
        Lookup { map: map.as_raw_fd(), key: &raw const key, value: values.as_mut_ptr(), flags: OF_CPU };
    // SAFETY: the attributes of `MAP_LOOKUP_ELEM`; the pointers have room for 8 bytes per CPU.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }.map(drop).map_err(|error| answer(&error, ""))
}

/// One instruction, from its fields.
pub(crate) const fn insn(code: u8, to: u32, from: u32, offset: i16, immediate: i32) -> u64 {
    let registers = (to | from << 4) as u64;
    code as u64
        | registers << 8
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

/// Loads a program.
pub(crate) fn load(kind: u32, insns: &[u64]) -> Found<OwnedFd> {
    let mut log = vec![0; 1 << 16];
    let mut attr = Load {
        kind,
        insn_count: u32::try_from(insns.len()).expect("programs here are short"),
        insns: insns.as_ptr(),
        license: c"GPL".as_ptr().cast(),
        log_level: 1,
        log_size: u32::try_from(log.len()).expect("64 KiB"),
        log: log.as_mut_ptr(),
        kernel_version: 0,
        flags: if kind == SYSCALL { SLEEPABLE } else { 0 },
    };
    // SAFETY: the attributes of `PROG_LOAD` up to the flags; program and log are as long as stated.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }
        .map_err(|error| answer(&error, verdict(&String::from_utf8_lossy(&log))))?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The verifier's reason: its last line that is not statistics.
fn verdict(log: &str) -> &str {
    let mut lines = log.trim_end_matches('\0').lines().map(str::trim);
    lines.rfind(|line| !line.is_empty() && !line.starts_with("processed ")).unwrap_or_default()
}

/// Loads an empty `syscall` program and runs it.
pub(crate) fn run_by_hand() -> Found {
    let program = load(SYSCALL, &[insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)])?;
    let mut attr = TestRun { program: program.as_raw_fd(), ..TestRun::default() };
    // SAFETY: the attributes of `PROG_TEST_RUN` up to the context; no pointers.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }.map(drop).map_err(|error| answer(&error, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        // lock fetch_add of r1 to *(u64 *)(r10 - 8)
        assert_eq!(insn(0xdb, 10, 1, -8, 1), u64::from_le_bytes([0xdb, 0x1a, 0xf8, 0xff, 1, 0, 0, 0]));
    }

    #[test]
    fn the_verdict_is_the_last_word_before_the_statistics() {
        assert_eq!(
            verdict("0: (db) x\nBPF_STX uses reserved fields\nprocessed 0 insns (limit 1)\n\0\0"),
            "BPF_STX uses reserved fields"
        );
        assert_eq!(verdict("\0\0"), "");
    }

    #[test]
    fn privilege_is_no_feature() {
        let error = |number| io::Error::from_raw_os_error(number);
        assert!(matches!(answer(&error(libc::EPERM), ""), Answer::CouldNotTell(_)));
        assert_eq!(answer(&error(libc::EINVAL), "why"), Answer::Unsupported("why".into()));
    }
}
