//! A lock-free shared-memory channel between BPF programs and userspace.
//!
//! BPF programs write records into mmapable `ARRAY` maps; readers map the array and read it with
//! **no system call, no lock, no wakeup, and no effect on the writer**. Where the kernel refuses
//! the mapping, the same typed reader goes on by `lookup` system calls and
//! [says why](Region::access). Ordinary processes can share a [memfd](Region::create_memfd) in the
//! same way.
//!
//! # What is guaranteed
//!
//! 1. A delivered record is exactly one that was published: never torn, never twice, in order
//!    within its shard.
//! 2. For every reader, `delivered + lost + discarded` is how far it came. Nothing disappears
//!    uncounted.
//! 3. A producer never waits: its steps are bounded in any context, NMI included. What it can't
//!    write it counts.
//! 4. A reader never waits longer than it asked to. A writer that died, or never finishes, gives
//!    a typed outcome.
//! 5. A reader of a mapped region makes no system call and writes nothing.
//! 6. Contents of shared memory can't cause a panic, an access out of bounds, an endless loop or
//!    undefined behaviour, whatever bytes another process puts there.
//!
//! # What is not
//!
//! - Rings lose records when readers are slower than writers: they overwrite the oldest. A reader
//!   knows how many it lost, not which.
//! - There is no order between shards (CPUs) but what timestamps in the records tell.
//! - Whoever may write a region may write nonsense, with the right sequences around it. Readers
//!   survive that; they can't detect it.
//! - Readers poll. Nothing wakes them up.
//!
//! `docs/guarantees.md` in the repository has each of these with its proof.
//!
//! # Both sides
//!
//! ```c
//! #include <mapring/ring.bpf.h>
//!
//! struct switch_event { __u64 ns; __u32 prev, next; char comm[16]; };
//! MAPRING_RING(switches, struct switch_event, 4096);      /* slots a CPU */
//!
//! SEC("tp_btf/sched_switch")
//! int on_switch(void *ctx)
//! {
//!         struct switch_event *e = mapring_reserve(&switches);
//!         if (!e)
//!                 return 0;                               /* already counted */
//!         e->ns = bpf_ktime_get_ns();
//!         bpf_get_current_comm(e->comm, sizeof(e->comm));
//!         mapring_commit(e);
//!         return 0;
//! }
//! ```
//!
#![cfg_attr(all(feature = "bpf", feature = "derive"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "bpf", feature = "derive")), doc = "```ignore")]
//! use mapring::{Record, Ring};
//!
//! #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, Record)]
//! #[repr(C)]
//! struct SwitchEvent { ns: u64, prev: u32, next: u32, comm: [u8; 16] }
//!
//! // In the loader: `mapring::loader::prepare(&mut open)?` between the skeleton's open and load,
//! // then `Ring::<SwitchEvent>::open(&skel.maps.switches)?`. Anywhere else:
//! let ring = Ring::<SwitchEvent>::open("/sys/fs/bpf/switches")?; // compares the fields with C's
//! let mut reader = ring.reader();
//! for event in reader.drain() {
//!     println!("{} {:?}", event.shard, event.record);
//! }
//! println!("lost {}, read {}", reader.lost(), ring.access());
//! # Ok::<(), mapring::Error>(())
//! ```
//!
//! Between ordinary processes:
//!
//! ```
//! use mapring::{Cells, Ring};
//!
//! let ring = Ring::<[u64; 2]>::create_memfd(1024, 1)?; // slots, shards
//! let writer = ring.writer(0)?;
//! writer.push(&[1, 10]);
//! writer.push(&[2, 20]);
//!
//! // Anyone who gets the descriptor (inherited, or over a Unix socket) opens it like this.
//! # use std::os::fd::AsFd;
//! let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
//! let mut reader = Ring::<[u64; 2]>::open(fd)?.reader();
//! let records: Vec<_> = reader.drain().map(|event| event.record).collect();
//! assert_eq!(records, [[1, 10], [2, 20]]);
//! assert_eq!(reader.lost(), 0);
//! # Ok::<(), mapring::Error>(())
//! ```
//!
//! # How it is built
//!
//! [`layout`] (pure: where things are) → `protocol` (the algorithms, over any words) → regions
//! (a BPF map mapped, a BPF map behind system calls, a memfd) → the handles [`Ring`], [`Cells`],
//! [`Counters`], [`Latches`], and for BPF alone `PerCpuCells`, `Globals` and `Dispatch`. Each layer
//! knows only those to its left.
//!
//! # Cargo features
//!
//! - `bpf` (default): BPF maps of any loader, by bpf(2). It needs no C toolchain. Without it there are memfd regions only.
//! - `libbpf` (default): objects, skeletons and maps of libbpf-rs, for loaders: `loader::prepare` and the like. libbpf takes
//!   a C compiler, libelf and zlib to build. Readers and loaders with aya leave it out:
//!   `mapring = { …, default-features = false, features = ["bpf", "derive"] }`.
//! - `derive` (default): `#[derive(Record)]`, for types that are compared with C's
//!   ([`record!`] does it without).
//!
//! The BPF headers are in this crate's `include` folder; a dependent's build script finds them in
//! `DEP_MAPRING_INCLUDE`.
#![deny(unsafe_code)]
// The text speaks of what the features have, without them, too.
#![cfg_attr(not(feature = "libbpf"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(all(not(loom), feature = "bpf"))]
mod bpf;
#[cfg(all(not(loom), not(feature = "bpf")))]
#[path = "no_bpf.rs"]
mod bpf;
#[cfg(not(loom))]
pub mod cpus;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod handle;
pub mod layout;
#[cfg(all(not(loom), feature = "bpf"))]
pub mod loader;
// No part of the API: the models and proofs of the repository run it.
#[doc(hidden)]
pub mod protocol;
#[cfg(not(loom))]
pub mod record;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod ring;
mod sync;
mod text;

#[cfg(not(loom))]
pub use error::{Error, ErrorKind, ReadError, Result};
#[cfg(all(not(loom), feature = "bpf"))]
pub use handle::{Array, PerCpuCells, dispatch, globals};
#[cfg(not(loom))]
pub use handle::{Cells, CellsWriter, Counters, CountersWriter, Latches, LatchesWriter, Snapshot, table};
/// The libbpf-rs that this crate's functions take maps and objects of. Use it as `mapring::libbpf_rs`, or depend on the
/// same version: types of another version are other types, and rustc then says that `MapCore` or `OpenObject` do not fit.
#[cfg(all(not(loom), feature = "libbpf"))]
pub use libbpf_rs;
/// Makes a [`Record`](trait@Record) of a struct: see [`LayoutCheck`](record::LayoutCheck).
///
/// ```
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
/// #[repr(C)]
/// struct SwitchEvent { ns: u64, prev: u32, next: u32, comm: [u8; 16] }
///
/// use mapring::{Record, record::TypeLayout};
/// assert!(matches!(SwitchEvent::LAYOUT, TypeLayout::Struct(32, [_, prev, ..]) if prev.offset == 8));
/// ```
#[cfg(all(not(loom), feature = "derive"))]
pub use mapring_derive::Record;
/// Makes [`Record`](trait@Record)s of structs and enums that libbpf-cargo wrote down from C, so that nobody
/// does it again: [`plain_record!`] for each, with its fields found in the skeleton's file. That is
/// looked for in `OUT_DIR`, then beside `Cargo.toml`. What is not plain data through and through (a
/// `_Bool`, a pointer, a union, padding that the skeleton does not spell out) does not compile.
///
/// ```ignore
/// mod skel {
///     include!(concat!(env!("OUT_DIR"), "/switches.skel.rs"));
/// }
/// mapring::skeleton_records!("switches.skel.rs": skel::types::{switch_event});
///
/// let ring = Ring::<skel::types::switch_event>::open(&skel.maps.switches)?;
/// ```
#[cfg(all(not(loom), feature = "derive"))]
pub use mapring_derive::skeleton_records;
pub use protocol::ring::{ReadStats, Slot, Start};
#[cfg(not(loom))]
pub use record::Record;
#[cfg(not(loom))]
pub use region::{Access, OpenOptions, Refusal, Region, Source};
#[cfg(not(loom))]
pub use ring::{Drain, Event, Reader, Ring, Writer};

/// What macros of this crate make code of.
#[cfg(not(loom))]
#[doc(hidden)]
pub mod __private {
    pub use bytemuck::{Pod, Zeroable};

    pub use crate::record::{layout_of, name_of, plain_size};
}
