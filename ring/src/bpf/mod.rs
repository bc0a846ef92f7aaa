//! BPF maps as regions need them: opened and described, compared with Rust types, read by lookups.

pub(crate) mod alike;
pub(crate) mod compare;
pub(crate) mod describe;
mod inner;
pub(crate) mod lookup;
mod map;

pub(crate) use inner::{MapLocator, MapOfMaps, is_gone};
pub(crate) use lookup::Lookup;
pub(crate) use map::{MapFd, map_info};
