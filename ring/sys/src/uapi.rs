//! Commands of bpf(2), their attributes and results, as in `linux/bpf.h`.
//!
//! Attributes end after the last field that this crate needs. A kernel with longer attributes takes the rest as zeros.

use std::ffi::c_int;

use bytemuck::{Pod, Zeroable};

use crate::kinds::MapType;

pub(crate) const MAP_CREATE: c_int = 0;
pub(crate) const MAP_LOOKUP_ELEM: c_int = 1;
pub(crate) const MAP_UPDATE_ELEM: c_int = 2;
pub(crate) const MAP_DELETE_ELEM: c_int = 3;
pub(crate) const MAP_GET_NEXT_KEY: c_int = 4;
pub(crate) const PROG_LOAD: c_int = 5;
pub(crate) const OBJ_PIN: c_int = 6;
pub(crate) const OBJ_GET: c_int = 7;
pub(crate) const PROG_GET_NEXT_ID: c_int = 11;
pub(crate) const PROG_GET_FD_BY_ID: c_int = 13;
pub(crate) const MAP_GET_FD_BY_ID: c_int = 14;
pub(crate) const OBJ_GET_INFO_BY_FD: c_int = 15;
pub(crate) const BTF_GET_FD_BY_ID: c_int = 19;
pub(crate) const MAP_FREEZE: c_int = 22;
pub(crate) const MAP_LOOKUP_BATCH: c_int = 24;
pub(crate) const MAP_UPDATE_BATCH: c_int = 26;
pub(crate) const LINK_GET_FD_BY_ID: c_int = 30;
pub(crate) const LINK_GET_NEXT_ID: c_int = 31;

/// A map on one NUMA node.
pub const BPF_F_NUMA_NODE: u32 = 1 << 2;
/// A map that programs read and userspace writes.
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// A descriptor only for reading.
pub const BPF_F_RDONLY: u32 = 1 << 3;
/// A path that begins in a directory that is open (Linux 6.5).
pub(crate) const BPF_F_PATH_FD: u32 = 1 << 14;
/// A map that can be mapped.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
/// The lookup of one CPU's copy; the CPU is in the upper half of the flags.
pub const BPF_F_CPU: u64 = 8;

/// The kernel's internal "not supported", which no libc defines.
pub const ENOTSUPP: i32 = 524;

/// Bytes of the name of a map or program, including the terminating zero.
pub const NAME: usize = 16;

/// The kernel's information about a map: the start of `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's fields")]
pub struct MapInfo {
    pub ty: MapType,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub name: [u8; NAME],
    pub ifindex: u32,
    pub vmlinux_value_type: u32,
    pub network_namespace: [u64; 2],
    pub btf_id: u32,
    pub key_type: u32,
    pub value_type: u32,
    pub vmlinux_id: u32,
}

/// The kernel's information about a program: the start of `struct bpf_prog_info`. The kernel fills the buffer `maps`, if
/// it is given, and no other.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's fields")]
pub struct ProgramInfo {
    pub ty: u32,
    pub id: u32,
    pub unasked: [u64; 5],
    pub uid: u32,
    pub map_count: u32,
    /// The address of this number of ids.
    pub maps: u64,
    pub name: [u8; NAME],
}

/// The kernel's information about a link: the start of `struct bpf_link_info`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's fields")]
pub struct LinkInfo {
    pub ty: u32,
    pub id: u32,
    pub program: u32,
}

/// Attributes of calls that find the next object of a sort.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct NextId {
    pub(crate) last: u32,
    pub(crate) next: u32,
}

/// Attributes of calls on one element.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Element {
    pub(crate) map: u32,
    pub(crate) _pad: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// Attributes of calls on many elements.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Batch {
    pub(crate) after: u64,
    pub(crate) last: u64,
    pub(crate) keys: u64,
    pub(crate) values: u64,
    pub(crate) count: u32,
    pub(crate) map: u32,
    pub(crate) element_flags: u64,
    pub(crate) flags: u64,
}

/// Attributes for creating a map.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct CreateMap {
    pub(crate) ty: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) inner_map: u32,
    pub(crate) node: u32,
    pub(crate) name: [u8; NAME],
    pub(crate) ifindex: u32,
    pub(crate) btf: u32,
    pub(crate) key_type: u32,
    pub(crate) value_type: u32,
}

/// A path, and the object to be pinned there.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Pin {
    pub(crate) path: u64,
    pub(crate) object: u32,
    pub(crate) flags: u32,
    /// The directory in which the path begins, with `BPF_F_PATH_FD`.
    pub(crate) dir: u32,
    pub(crate) rest: u32,
}

/// Attributes for loading a program.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LoadProgram {
    pub(crate) ty: u32,
    pub(crate) count: u32,
    pub(crate) instructions: u64,
    pub(crate) license: u64,
}

/// A buffer for BTF, and the kernel's information about it: the start of `struct bpf_btf_info`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BtfInfo {
    pub(crate) bytes: u64,
    pub(crate) size: u32,
    pub(crate) id: u32,
}

/// The object of an information request, and where the kernel writes the information.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Query {
    pub(crate) object: u32,
    pub(crate) size: u32,
    pub(crate) info: u64,
}
