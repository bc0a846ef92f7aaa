//! BPF maps as the kernel has them: every bpf(2) call of [mapring](https://docs.rs/mapring) as a safe function, BTF,
//! directories of pins, and the numbers of CPUs.
//!
//! This crate knows nothing of regions or rings. Its errors are those of the kernel ([`std::io::Error`]), with the path or
//! the reason where it adds one. Programs use the crate `mapring`; this one promises no stability: `mapring` depends on
//! exactly one version of it.
//!
//! - [`bpf`]: the calls, and the [elements](bpf::Elements) of a map. All functions make system calls.
//! - [`btf`]: the types of an object, parsed from bytes that can have any content.
//! - [`PinDir`], [`stage`]: directories of pins, and the replacement of a pin at one moment, safe from other users.
//! - [`cpus`]: possible and online CPUs, and NUMA nodes; [`fdinfo`]: what procfs says of a map; [`kinds`]: names of types.
#![deny(unsafe_code)]

#[cfg(test)]
mod agree;
pub mod bpf;
pub mod btf;
mod copies;
pub mod cpus;
pub mod fdinfo;
pub mod kinds;
mod pins;
pub mod stage;
mod uapi;

pub use pins::{PinAccess, PinDir};

pub use uapi::{
    BPF_F_CPU, BPF_F_MMAPABLE, BPF_F_NUMA_NODE, BPF_F_RDONLY, BPF_F_RDONLY_PROG, ENOTSUPP, LinkInfo, MapInfo,
    NAME, ProgramInfo,
};
