//! BPF maps as regions: opened and checked, pinned and frozen, with the other maps of a ring.

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
pub use fits::Declared;
pub(crate) use fits::belong_together;
pub use freeze::PinOptions;
pub(crate) use freeze::{not_pinned, pinning, publish, renew_pin};
pub(crate) use memory::map_or_lookup;
pub(crate) use plain::Plain;
pub(crate) use programs::users;
pub(crate) use readers::{Linked, link, places_of, readers_of};
pub use ringbuf::{ObserverStats, RingbufObserver};
pub use section::section_name;
pub(crate) use section::{Section, three_lookups};
