//! BPF maps as the kernel has them: every bpf(2) call, BTF, descriptors, and directories of pins.

// Some of it is used only by the loader for libbpf's objects.
#![cfg_attr(not(feature = "libbpf"), allow(dead_code, unused_imports))]

pub(crate) mod alike;
pub mod btf;
pub(crate) mod compare;
mod copies;
pub(crate) mod describe;
pub(crate) mod fdinfo;
mod inner;
pub(crate) mod kinds;
pub(crate) mod lookup;
mod map;
pub(crate) mod pins;
pub(crate) mod stage;
pub(crate) mod sys;
pub(crate) mod uapi;

pub(crate) use copies::{numbered, possible_count};
pub(crate) use inner::{MapLocator, MapOfMaps, is_gone};
pub(crate) use lookup::Lookup;
pub(crate) use map::MapFd;
pub use pins::{PinAccess, PinDir};
pub use stage::{Stage, abandoned};
