//! Reads a map's information from procfs: for processes that may not use bpf(2), and for fields that bpf(2) does not
//! return.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use bytemuck::Zeroable;
use rustix::io::Errno;

use crate::bpf;
use crate::kinds::MapType;
use crate::uapi::MapInfo;

/// An id that no BTF has. Opening it shows whether this process may read types at all.
const UNKNOWN_BTF: u32 = u32::MAX;

/// Whether `fd` is a BPF map, not a program, a link or a file. Makes a system call.
pub fn is_map(fd: BorrowedFd<'_>) -> bool {
    // By its name in procfs; without procfs, by a system call that only maps accept.
    let name = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
    name.map_or_else(|_| has_keys(fd), |name| name.as_bytes() == b"anon_inode:bpf-map")
}

/// Whether `fd` accepts the call for a map's keys. All maps accept it, except queues and stacks.
fn has_keys(fd: BorrowedFd<'_>) -> bool {
    let refused = bpf::ask_for_keys(fd).err().and_then(|e| Errno::from_io_error(&e));
    ![Some(Errno::INVAL), Some(Errno::BADF)].contains(&refused)
}

/// The kernel's information about the map. Before Linux 5.19 bpf(2) refuses processes without privilege (EPERM); then
/// procfs gives everything but the types.
pub fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    bpf::map_info(fd).or_else(|error| {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let told = if denied { from_procfs(fd) } else { None };
        told.ok_or(error)
    })
}

/// Whether the map is frozen; `None` if procfs does not show it.
pub fn is_frozen(fd: BorrowedFd<'_>) -> Option<bool> {
    let text = read(fd).ok()?;
    Some(field(&text, "frozen")? != 0)
}

fn from_procfs(fd: BorrowedFd<'_>) -> Option<MapInfo> {
    let text = read(fd).ok()?;
    let field = |name| field(&text, name);
    Some(MapInfo {
        ty: MapType(field("map_type")?),
        id: field("map_id")?,
        key_size: field("key_size")?,
        value_size: field("value_size")?,
        max_entries: field("max_entries")?,
        flags: field("map_flags")?,
        btf_id: UNKNOWN_BTF,
        ..MapInfo::zeroed()
    })
}

/// The type of the programs that a table accepts, if it is fixed.
pub fn program_type(fd: BorrowedFd<'_>) -> Option<u32> {
    field(&read(fd).ok()?, "owner_prog_type")
}

fn read(fd: BorrowedFd<'_>) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
}

/// The number after a name, decimal or hexadecimal.
fn field(text: &str, name: &str) -> Option<u32> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
    match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "pos:\t0\nmap_type:\t2\nmap_flags:\t0x400\nmax_entries:\t12\nmap_id:\t7\nfrozen:\t1\n";
        let names = ["map_type", "map_flags", "max_entries", "map_id", "frozen", "map", "value_size"];
        let found = names.map(|name| field(text, name));
        assert_eq!(found, [Some(2), Some(0x400), Some(12), Some(7), Some(1), None, None]);
    }
}
