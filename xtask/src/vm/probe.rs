//! System calls that show whether the running kernel has a feature. If not, the kernel's message is the answer.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
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

/// Two fields of an attribute, in the order of this machine's bytes.
const fn pair(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}

/// A descriptor as a field.
fn fd(of: &OwnedFd) -> u32 {
    of.as_raw_fd().cast_unsigned()
}

/// bpf(2).
///
/// # Safety
/// `attr` begins as the command's attributes, and the memory that it points to is as long as it states.
unsafe fn bpf<const N: usize>(command: i32, mut attr: [u64; N]) -> io::Result<i32> {
    // SAFETY: the caller guarantees it; the kernel reads and writes no more than this size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
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
    // SAFETY: type, sizes of key and value, entries, flags; no pointers.
    let fd = unsafe { bpf(MAP_CREATE, [pair(kind, 4), pair(value_size, 2), pair(flags, 0)]) }
        .map_err(|error| answer(&error, ""))?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Looks for a tracepoint in the kernel's types.
pub(crate) fn tracepoint(name: &str) -> Found {
    let types =
        fs::read("/sys/kernel/btf/vmlinux").map_err(|error| Answer::CouldNotTell(error.to_string()))?;
    let name = format!("btf_trace_{name}");
    let is_there = types.split(|byte| *byte == 0).any(|text| text == name.as_bytes());
    if is_there { Ok(()) } else { Err(Answer::Unsupported(format!("no {name}"))) }
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
    // SAFETY: path and object; the path ends with a NUL.
    unsafe { bpf(OBJ_PIN, [PIN.as_ptr() as u64, pair(fd(&map), 0)]) }
        .map_err(|error| Answer::CouldNotTell(error.to_string()))?;
    let opened = thread::spawn(|| {
        let mut sets = capabilities(None)?;
        sets.effective = CapabilitySet::empty();
        set_capabilities(None, sets)?;
        // SAFETY: path and flags; the path ends with a NUL.
        let fd = unsafe { bpf(OBJ_GET, [PIN.as_ptr() as u64, 0]) }?;
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
    let (mut to, mut keys, mut values) = (0_u32, [0_u32; 2], vec![0_u64; 2 * CPUS]);
    let [to, keys, values] = [(&raw mut to) as u64, keys.as_mut_ptr() as u64, values.as_mut_ptr() as u64];
    // SAFETY: first and next position, keys, values, their count, map, flags; there is room for two elements of 8 bytes per CPU.
    unsafe { bpf(MAP_LOOKUP_BATCH, [0, to, keys, values, pair(2, fd(map)), 0, 0]) }
        .map(drop)
        .map_err(|error| answer(&error, ""))
}

/// Reads only the value of CPU 0.
pub(crate) fn lookup_of_one_cpu(map: &OwnedFd) -> Found {
    const OF_CPU: u64 = 1 << 3;
    let (key, mut values) = (0_u32, vec![0_u64; CPUS]);
    let (key, values) = ((&raw const key) as u64, values.as_mut_ptr() as u64);
    // SAFETY: map, key, values, flags; there is room for 8 bytes per CPU.
    unsafe { bpf(MAP_LOOKUP_ELEM, [pair(fd(map), 0), key, values, OF_CPU]) }
        .map(drop)
        .map_err(|error| answer(&error, ""))
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
    const LOG: u32 = 1 << 16;
    let mut log = vec![0_u8; LOG as usize];
    let count = u32::try_from(insns.len()).expect("programs here are short");
    let flags = if kind == SYSCALL { SLEEPABLE } else { 0 };
    let [insns, license, log_at] = [insns.as_ptr() as u64, c"GPL".as_ptr() as u64, log.as_mut_ptr() as u64];
    let attr = [pair(kind, count), insns, license, pair(1, LOG), log_at, pair(0, flags)];
    // SAFETY: type, instructions, licence, log, kernel version, flags; program and log are as long as stated.
    let fd = unsafe { bpf(PROG_LOAD, attr) }
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
    // SAFETY: the program, and zeros up to the context; no pointers.
    let ran = unsafe { bpf(PROG_TEST_RUN, [pair(fd(&program), 0), 0, 0, 0, 0, 0, 0, 0]) };
    ran.map(drop).map_err(|error| answer(&error, ""))
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
