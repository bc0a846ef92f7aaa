//! The types of a map as the kernel has them: the bytes of its BTF. The library parses BTF, but does not give the bytes.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const GET_FD_BY_ID: libc::c_long = 19;
const GET_INFO: libc::c_long = 15;
/// The most bytes of BTF that are recorded.
const MAX: usize = 32 << 20;

/// The BTF of a map, and the id of its values' type there.
pub(super) fn of_map(map: BorrowedFd<'_>) -> io::Result<(Vec<u8>, u32)> {
    // struct bpf_map_info: btf_id, btf_key_type_id and btf_value_type_id are at 64, 68 and 72.
    let mut info = [0_u32; 20];
    // SAFETY: the kernel writes nothing but the words of `info` itself, for a map.
    unsafe { get_info(map, &mut info) }?;
    let (btf_id, value) = (info[16], info[18]);
    let mut attr = [0_u32; 32];
    attr[0] = btf_id;
    // SAFETY: this command reads the number in `attr` and writes nothing.
    let fd = unsafe { bpf(GET_FD_BY_ID, &mut attr) }?;
    // SAFETY: the kernel just opened this descriptor for this process, and nothing else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // struct bpf_btf_info: the address of the bytes is at 0, and their number at 8.
    let mut info = [0_u32; 8];
    // SAFETY: the number of bytes at the address is 0, so the kernel writes nothing there.
    unsafe { get_info(fd.as_fd(), &mut info) }?;
    let size = info[2] as usize;
    if size > MAX {
        return Err(io::Error::other(format!("BTF of {size} bytes")));
    }
    let mut bytes = vec![0_u8; size];
    let address = (bytes.as_mut_ptr().expose_provenance() as u64).to_ne_bytes();
    info = [0; 8];
    bytemuck::bytes_of_mut(&mut info)[..8].copy_from_slice(&address);
    info[2] = u32::try_from(size).unwrap_or_default();
    // SAFETY: `bytes` is live, and has as many bytes as the kernel may write at its address.
    unsafe { get_info(fd.as_fd(), &mut info) }?;
    Ok((bytes, value))
}

/// # Safety
/// The addresses in `info` that this kind of object has must be valid for as many bytes as `info` says.
unsafe fn get_info(fd: BorrowedFd<'_>, info: &mut [u32]) -> io::Result<()> {
    let mut attr = [0_u32; 32];
    attr[0] = fd.as_raw_fd().cast_unsigned();
    attr[1] = u32::try_from(size_of_val(info)).unwrap_or_default();
    let address = (info.as_mut_ptr().expose_provenance() as u64).to_ne_bytes();
    bytemuck::bytes_of_mut(&mut attr)[8..16].copy_from_slice(&address);
    // SAFETY: the kernel writes at most as many bytes to `info` as it has; the caller vouches for the addresses in it.
    unsafe { bpf(GET_INFO, &mut attr) }?;
    Ok(())
}

/// # Safety
/// The addresses in `attr` must be valid for what the command writes.
unsafe fn bpf(command: libc::c_long, attr: &mut [u32; 32]) -> io::Result<i32> {
    // SAFETY: `attr` is live and as long as stated; the caller vouches for the addresses in it.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    i32::try_from(done).ok().filter(|done| *done >= 0).ok_or_else(io::Error::last_os_error)
}
