//! Whether the kernel has the fetching atomics that programs claim by (Linux 5.12, aarch64 5.18): where it has not, a program's
//! user is told so, and not left with the verifier's "BPF_STX uses reserved fields".
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use libbpf_rs::libbpf_sys::{self, bpf_insn};
use libbpf_rs::{OpenObject, OpenProgram};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::text::printable;

/// `BPF_STX | BPF_ATOMIC` with words of 8 and 4 bytes.
const ATOMIC: [u8; 2] = [0xdb, 0xc3];
/// Set in the immediate of those that return what was there.
const FETCH: i32 = 1;

/// The first release whose JIT has them.
const SINCE: [u32; 2] = if cfg!(target_arch = "aarch64") { [5, 18] } else { [5, 12] };

/// Refuses programs that are to be loaded and can't be, for that reason.
pub(super) fn check(object: &OpenObject) -> Result<()> {
    let Some(program) = object.progs().filter(OpenProgram::autoload).find(|program| fetches(program.insns()))
    else {
        return Ok(());
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if has_atomics(&release) {
        return Ok(());
    }
    let [major, minor] = SINCE;
    let program = printable(&program.name().to_string_lossy());
    Err(Error::NoFetchingAtomics { program, since: format!("{major}.{minor}"), release })
}

fn fetches(insns: &[bpf_insn]) -> bool {
    // The second half of a wide load has a code of 0.
    insns.iter().any(|insn| ATOMIC.contains(&insn.code) && insn.imm & FETCH != 0)
}

/// By its release; an older one is asked, as its distributor may have added them. Whoever may not ask may not
/// load either, and is told so by that.
fn has_atomics(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: [u32; 2] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    version >= SINCE || try_one().is_none_or(|error| error == Errno::PERM.raw_os_error())
}

/// Loads a program that adds to a word of its stack, and fetches: the kernel's error, if it refuses.
fn try_one() -> Option<i32> {
    let insn = |code, registers: [u8; 2], off, imm| {
        let mut insn = bpf_insn { code, off, imm, ..Default::default() };
        insn.set_dst_reg(registers[0]);
        insn.set_src_reg(registers[1]);
        insn
    };
    let program = [
        insn(0xb7, [0, 0], 0, 0),       // r0 = 0
        insn(0x7b, [10, 0], -8, 0),     // *(u64 *)(r10 - 8) = r0
        insn(0xdb, [10, 0], -8, FETCH), // r0 = fetch_add(r10 - 8, r0)
        insn(0xb7, [0, 0], 0, 0),
        insn(0x95, [0, 0], 0, 0),
    ];
    // SAFETY: a whole program, and no name, options or log.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
            ptr::null(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            ptr::null_mut(),
        )
    };
    if fd < 0 {
        return Some(-fd);
    }
    // SAFETY: a new descriptor, and ours alone.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_ones_are_told_apart() {
        let insn = |code, imm| bpf_insn { code, imm, ..Default::default() };
        for fetching in [insn(0xdb, 0xf1), insn(0xdb, 0xe1), insn(0xdb, 1), insn(0xc3, 1)] {
            assert!(fetches(&[insn(0x95, 0), fetching]));
        }
        // A plain `lock +=`, and a store of such a number.
        assert!(!fetches(&[insn(0xdb, 0), insn(0x7a, 0xf1)]));
    }

    #[test]
    fn newer_kernels_are_not_asked() {
        assert!(["5.18.0", "5.19.0-50-generic", "6.1", "7.2-rc1"].into_iter().all(has_atomics));
    }
}
