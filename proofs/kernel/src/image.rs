//! The machine code of a program from the kernel's JIT.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::libbpf_sys::{self, bpf_prog_info};

/// A function of a program: its address in the kernel, and its instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The address of the first instruction.
    pub address: u64,
    /// All instructions.
    pub code: Vec<u8>,
}

/// The functions of a loaded program, the program itself first. `None` if the kernel interprets it, or hides its
/// addresses.
///
/// # Panics
/// Panics with the kernel's error.
pub fn image(program: BorrowedFd<'_>) -> Option<Vec<Function>> {
    // SAFETY: no arrays are requested.
    let sizes = unsafe { info(program, bpf_prog_info::default()) };
    let mut code = vec![0; sizes.jited_prog_len as usize];
    let mut lengths = vec![0_u32; sizes.nr_jited_func_lens as usize];
    let mut addresses = vec![0_u64; sizes.nr_jited_ksyms as usize];
    let wanted = bpf_prog_info {
        jited_prog_len: sizes.jited_prog_len,
        jited_prog_insns: code.as_mut_ptr().expose_provenance() as u64,
        nr_jited_func_lens: sizes.nr_jited_func_lens,
        jited_func_lens: lengths.as_mut_ptr().expose_provenance() as u64,
        nr_jited_ksyms: sizes.nr_jited_ksyms,
        jited_ksyms: addresses.as_mut_ptr().expose_provenance() as u64,
        ..Default::default()
    };
    // SAFETY: the arrays have the stated lengths, and outlive the call.
    let given = unsafe { info(program, wanted) };
    if given.jited_prog_insns == 0 || given.jited_ksyms == 0 || code.is_empty() {
        return None;
    }
    let mut rest = &code[..];
    let mut function = |(address, length): (u64, u32)| {
        let (code, behind) = rest.split_at(length as usize);
        rest = behind;
        Function { address, code: code.to_vec() }
    };
    Some(addresses.into_iter().zip(lengths).map(&mut function).collect())
}

/// Gets a program's information.
///
/// # Safety
/// The arrays that `info` points to must have the lengths that it states.
unsafe fn info(program: BorrowedFd<'_>, mut info: bpf_prog_info) -> bpf_prog_info {
    let mut size = u32::try_from(size_of_val(&info)).expect("some hundred bytes");
    // SAFETY: `info` has the stated size, and the caller guarantees its arrays.
    let ret =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size) };
    assert_eq!(ret, 0, "program info: {}", io::Error::last_os_error());
    info
}
