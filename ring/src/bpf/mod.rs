//! BPF maps: every bpf(2) call, maps as regions, their types, and the ways to freeze and pin them.

// Some of it is used only by the loader for libbpf's objects.
#![cfg_attr(not(feature = "libbpf"), allow(dead_code, unused_imports))]

mod alike;
mod bell;
pub mod btf;
mod compare;
mod copies;
pub(crate) mod describe;
mod fdinfo;
mod fits;
mod freeze;
mod inner;
pub(crate) mod kinds;
mod lookup;
mod map;
mod memory;
mod open;
mod pins;
mod plain;
mod preamble;
mod programs;
mod readers;
mod region;
mod ringbuf;
mod section;
mod source;
mod stage;
pub(crate) mod sys;
pub(crate) mod uapi;

pub(crate) use bell::Ringbuf;
pub(crate) use compare::no_types;
pub(crate) use copies::{numbered, possible_count};
pub(crate) use fdinfo::{is_frozen, program_type};
pub(crate) use fits::{Declared, belong_together, mismatch};
pub use freeze::PinOptions;
pub(crate) use freeze::{not_pinned, pinning, publish, renew_pin};
pub(crate) use inner::{MapLocator, MapOfMaps, is_gone};
pub(crate) use lookup::Lookup;
pub(crate) use map::MapFd;
pub(crate) use memory::map_or_lookup;
pub use pins::{PinAccess, PinDir};
pub(crate) use plain::Plain;
pub use programs::MapUser;
pub(crate) use programs::users;
pub(crate) use readers::{BELLS, Linked, READERS, link, places_of, readers_of, with_suffix};
pub(crate) use region::{ByCall, Options, Origin, open_fd};
pub use ringbuf::{ObserverStats, RingbufObserver};
pub(crate) use section::{Section, section_name, three_lookups};
pub(crate) use source::MapSource;
pub use stage::{Stage, abandoned};
