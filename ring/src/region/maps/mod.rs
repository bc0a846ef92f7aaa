//! BPF maps as regions: opened and checked, pinned and frozen, with the other maps of a ring. `no_maps.rs` replaces this
//! module in builds without the feature `bpf`.

// Some of it is used only by the loader for libbpf's objects.
#![cfg_attr(not(feature = "libbpf"), allow(dead_code, unused_imports))]

mod adopt;
mod bell;
mod by_call;
mod fits;
mod freeze;
mod memory;
mod open;
mod plain;
mod preamble;
mod programs;
mod readers;
mod ringbuf;
mod section;
mod source;

pub(crate) use adopt::{open_fd, open_source};
pub(crate) use bell::Ringbuf;
pub(crate) use by_call::ByCall;
pub(crate) use fits::{Declared, belong_together};
pub use freeze::PinOptions;
pub(crate) use freeze::{not_pinned, pinning, publish, renew_pin};
pub(crate) use memory::map_or_lookup;
pub(crate) use plain::Plain;
pub(crate) use programs::users;
pub(crate) use readers::{Linked, link, places_of, readers_of};
pub use ringbuf::{ObserverStats, RingbufObserver};
pub(crate) use section::{Section, section_name, three_lookups};
