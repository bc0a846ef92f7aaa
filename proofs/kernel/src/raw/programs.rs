//! Small programs on maps, by their instructions.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use libbpf_rs::libbpf_sys::{self, bpf_insn};

use super::{SysResult, descriptor};

/// Loads a program that reads the first word of the map's first element, or that writes it.
///
/// # Errors
/// Returns the kernel's errno: the verifier's answer.
pub fn program(map: BorrowedFd<'_>, writes: bool) -> SysResult<OwnedFd> {
    load(&on_first_word(map, if writes { insn(0x7a, 0, 0, 0, 0) } else { insn(0x79, 1, 0, 0, 0) }))
}

/// The number of `bpf_map_lookup_elem`.
const LOOKUP: i32 = 1;

/// A program that looks up the map's first element, and runs this instruction on it (in r0).
fn on_first_word(map: BorrowedFd<'_>, access: bpf_insn) -> [bpf_insn; 10] {
    let fd = map.as_raw_fd();
    [
        insn(0x18, 1, 1, 0, fd), // r1 = the map
        insn(0, 0, 0, 0, 0),
        insn(0x62, 10, 0, -4, 0), // index 0, on the stack
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, -4),
        insn(0x85, 0, 0, 0, LOOKUP),
        insn(0x15, 0, 0, 1, 0), // not found
        access,
        insn(0xb7, 0, 0, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ]
}

/// Loads a socket filter that writes `value` to the first word of the map's first element. Of all types that
/// [`program`] could use, this one needs the least privilege.
///
/// # Errors
/// Returns the kernel's errno: the verifier's answer, or EPERM.
pub fn overwriting(map: BorrowedFd<'_>, value: i32) -> SysResult<OwnedFd> {
    load_as(libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER, &on_first_word(map, insn(0x7a, 0, 0, 0, value)))
}

/// The same for the first element of the map at key 0 of `maps`.
///
/// # Errors
/// As for [`overwriting`].
pub fn overwriting_inner(maps: BorrowedFd<'_>, value: i32) -> SysResult<OwnedFd> {
    let [first @ .., _, _, _, _] = on_first_word(maps, insn(0, 0, 0, 0, 0));
    let mut insns = first.to_vec();
    insns.extend([
        insn(0x15, 0, 0, 6, 0), // no such map
        insn(0xbf, 1, 0, 0, 0),
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, -4),
        insn(0x85, 0, 0, 0, LOOKUP),
        insn(0x15, 0, 0, 1, 0), // not found
        insn(0x7a, 0, 0, 0, value),
        insn(0xb7, 0, 0, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ]);
    load_as(libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER, &insns)
}

/// Runs a socket filter once: attaches it to our own socket, and sends it a byte.
///
/// # Panics
/// Panics if that fails.
pub fn run_filter(program: impl AsFd) {
    let (from, to) = UnixDatagram::pair().unwrap();
    let fd = program.as_fd().as_raw_fd();
    // SAFETY: the option's value is a descriptor of the stated length.
    let ret = unsafe {
        libc::setsockopt(
            to.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const fd).cast(),
            u32::try_from(size_of_val(&fd)).unwrap(),
        )
    };
    assert_eq!(ret, 0, "SO_ATTACH_BPF: {}", io::Error::last_os_error());
    from.send(&[0]).unwrap();
}

/// Loads a program that does nothing.
///
/// # Errors
/// Returns the kernel's errno.
pub fn nothing() -> SysResult<OwnedFd> {
    load(&[insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)])
}

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
    let mut insn = bpf_insn { code, off, imm, ..Default::default() };
    insn.set_dst_reg(dst);
    insn.set_src_reg(src);
    insn
}

/// Loads a classifier, since tracing programs may not use maps with locks and timers.
fn load(insns: &[bpf_insn]) -> SysResult<OwnedFd> {
    load_as(libbpf_sys::BPF_PROG_TYPE_SCHED_CLS, insns)
}

fn load_as(ty: u32, insns: &[bpf_insn]) -> SysResult<OwnedFd> {
    // SAFETY: C strings, as many instructions as stated, no options.
    descriptor(unsafe {
        libbpf_sys::bpf_prog_load(
            ty,
            c"raw".as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as u64,
            std::ptr::null_mut(),
        )
    })
}
