//! The types of maps and programs, as the kernel numbers them and libbpf names them.

use std::fmt;

use bytemuck::{Pod, Zeroable};

/// A type of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct MapType(
    /// The kernel's number.
    pub u32,
);

impl MapType {
    /// `BPF_MAP_TYPE_ARRAY`.
    pub const ARRAY: Self = Self(2);
    /// A table of programs for tail calls.
    pub const PROG_ARRAY: Self = Self(3);
    /// An array with a copy of each value for each possible CPU.
    pub const PERCPU_ARRAY: Self = Self(6);
    /// An array whose values are maps.
    pub const ARRAY_OF_MAPS: Self = Self(12);
    /// A hash table whose values are maps.
    pub const HASH_OF_MAPS: Self = Self(13);
    /// `BPF_MAP_TYPE_RINGBUF`.
    pub const RINGBUF: Self = Self(27);
}

#[rustfmt::skip]
const MAPS: [&str; 35] = [
    "unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash", "percpu_array", "stack_trace",
    "cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps", "hash_of_maps", "devmap", "sockmap",
    "cpumap", "xskmap", "sockhash", "cgroup_storage", "reuseport_sockarray", "percpu_cgroup_storage", "queue", "stack",
    "sk_storage", "devmap_hash", "struct_ops", "ringbuf", "inode_storage", "task_storage", "bloom_filter",
    "user_ringbuf", "cgrp_storage", "arena", "insn_array",
];

#[rustfmt::skip]
const PROGRAMS: [&str; 33] = [
    "unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp", "perf_event", "cgroup_skb",
    "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb", "cgroup_device", "sk_msg", "raw_tracepoint",
    "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2", "sk_reuseport", "flow_dissector", "cgroup_sysctl",
    "raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm", "sk_lookup", "syscall",
    "netfilter",
];

fn name(names: &[&'static str], number: u32) -> Option<&'static str> {
    names.get(usize::try_from(number).ok()?).copied()
}

impl MapType {
    /// Its name, or its number if it is newer than this crate.
    pub fn name(self) -> String {
        name(&MAPS, self.0).map_or_else(|| self.0.to_string(), str::to_owned)
    }
}

impl fmt::Display for MapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(&MAPS, self.0) {
            Some(name) => write!(f, "a map of type {name}"),
            None => write!(f, "a map of unknown type {}", self.0),
        }
    }
}

/// The name of a program type, or its number if it is newer than this crate.
pub fn program_type_name(ty: u32) -> String {
    name(&PROGRAMS, ty).map_or_else(|| ty.to_string(), str::to_owned)
}
