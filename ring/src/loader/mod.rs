//! The steps of a loader for BPF objects that use mapring's headers.
//!
//! ```text
//! open ── prepare ── load ── initialize ── freeze_and_pin
//!         shards             preambles,    readers without privilege
//!         for all CPUs       maps of CPUs
//! ```
//!
//! The crate `mapring-loader` does all of it for objects of libbpf-rs. What is here serves any loader: one that uses aya
//! calls [`initialize_map`] for each map.
//!
//! 1. Between open and load, each map gets the shape that [`Declarations`] gives for this machine: a shard for each possible
//!    CPU. A loader that starts again takes over what is [pinned](Declarations::pinned).
//! 2. After load, [`initialize_map`] writes the preambles for readers in other processes, creates the per-CPU maps of NUMA
//!    rings, and lets programs write resizable rings; [`initialize_wakeable`] links a ring with its readers.
//! 3. [`Ring::freeze_and_pin`](crate::Ring::freeze_and_pin) makes the map available to other processes.

mod object;
mod reuse;

pub use self::object::LoadedObject;
pub use self::reuse::{Declarations, Pinned, Reused};
pub use crate::region::maps::{Declared, PinOptions, section_name};
/// What follows the name of a ring in those of the maps of its readers and bells.
pub use mapring_sys::stage::{BELLS, READERS};

/// What follows the name of a map of maps in the name of its first map (`detail/place.bpf.h`).
pub const FIRST: &str = "__first";

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::region::maps::link;
use crate::region::{OpenOptions, Source};

/// Prepares a loaded map for readers: writes its preamble, if it has none. For a resizable ring or a `PER_CPU_MAPS` ring, pass
/// the map of maps from which programs reserve records. For all maps of a skeleton see `mapring_loader::initialize`. Makes system
/// calls.
///
/// - Resizable ring: opens its gate. Until then programs drop (and count) records. Finishes a resize that another
///   process began and did not finish.
/// - `PER_CPU_MAPS` ring: creates the maps of all CPUs, each on the NUMA node of its CPU. Until then, CPUs other than the first
///   drop (and count) records. Waits for an RCU grace period: milliseconds. Needs CAP_BPF to create maps. Two processes must
///   not do this at once.
///
/// Needs CAP_SYS_ADMIN, because the kernel opens types, and maps in a map of maps, by their ids. `mapring_loader::initialize` uses the
/// descriptors of the loaded object instead. Another loader without CAP_SYS_ADMIN can describe an ordinary map with
/// [`OpenOptions::assume_layout`] and [`OpenOptions::write_preamble`].
///
/// # Errors
/// [`ErrorKind::NotFitted`](crate::ErrorKind::NotFitted) for an object that was not prepared (`mapring_loader::prepare`);
/// [`ErrorKind::Preamble`](crate::ErrorKind::Preamble); as for [`OpenOptions::open`].
pub fn initialize_map(source: impl Into<Source>) -> Result<()> {
    match source.into().array_of_maps()? {
        Ok(maps) => crate::ring::initialize(&maps),
        Err(source) => OpenOptions::new().write_preamble(true).open(source).map(drop),
    }
}

/// Links the maps of a wakeable ring that is declared as `events`, so that readers of the ring find the
/// others: `events`, `events__readers` and `events__bells`, after [`initialize_map`] of the first two. `mapring_loader::initialize`
/// does this for a skeleton. Until then readers of the ring can't sleep, and nap between two checks. Makes system
/// calls.
///
/// # Errors
/// As for [`OpenOptions::open`]; [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable).
pub fn initialize_wakeable(
    ring: impl Into<Source>,
    readers: impl Into<Source>,
    bells: impl Into<Source>,
) -> Result<()> {
    link(ring.into(), readers.into(), bells.into())
}
