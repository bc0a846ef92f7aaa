//! Regions: memory with a preamble, mapped or read by system calls, in memfds and in BPF maps.

// Some of it is used only for maps.

pub(crate) mod fallback;
mod futex;
mod mapping;
pub(crate) mod maps;
mod memfd;
mod open;
mod options;
mod origin;
mod preamble;
mod process;
#[expect(clippy::module_inception)]
mod region;
mod scalar;
mod shared;
mod source;
mod users;
mod writers;

pub(crate) use futex::{sleep_while_set, wake};
pub(crate) use mapping::Mapping;
pub use options::OpenOptions;
pub(crate) use preamble::{generation, with_loader, write_preamble};
pub use process::is_alive;
pub(crate) use process::{owner_is_alive, this_owner, this_pid, this_process};
pub(crate) use region::Memory;
pub use region::Region;
pub(crate) use shared::{Shared, SharedMut, SharedRows};
pub use source::Source;
pub use users::MapUser;
pub(crate) use writers::{Identity, Writer};
