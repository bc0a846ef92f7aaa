//! A lock-free shared-memory channel between BPF programs and userspace.
//!
//! BPF programs write records into mmapable `ARRAY` maps; readers map the array and read it with **no system call, no
//! lock, no wakeup, and no effect on the writer**. Where the kernel refuses the mapping, the same typed reader uses
//! `lookup` system calls and [reports why](Region::access). Ordinary processes can share a
//! [memfd](Region::create_memfd) in the same way.
//!
//! # Guarantees
//!
//! 1. A delivered record is exactly one that was published: never torn, never twice, in order within its shard.
//! 2. For every reader, `delivered + lost + discarded + stepped_over` is the number of tickets it has passed. Every lost
//!    record is counted.
//! 3. A producer never waits: its steps are bounded in any context, NMI included. It counts the records that it can't
//!    write.
//! 4. A reader never waits longer than its caller allows. A writer that died, or never finishes, gives a typed outcome.
//! 5. A reader of a mapped region makes no system call and writes nothing.
//! 6. No content of shared memory can cause a panic, an access out of bounds, an endless loop or undefined behaviour.
//!
//! # Non-guarantees
//!
//! - Rings lose records when readers are slower than writers: writers overwrite the oldest, or drop the newest while a
//!   reader is [required](Reader::require). The reader counts both; [`Reader::take_losses`] lists which and when.
//! - Records of different shards (CPUs) have no order, except by timestamps in the records: [`Reader::merged`].
//! - Any process or program that can write a region can forge records. Readers stay safe, but can't detect this.
//! - Programs wake readers only of rings with the option `WAKEABLE` or `KEEP_OLDEST`. Other readers nap between two checks
//!   ([`Reader::wait`]).
//!
//! `docs/guarantees.md` in the repository lists the guarantees and where they end.
//!
//! # Example
//!
//! ```c
//! #include <mapring/ring.bpf.h>
//!
//! struct switch_event { __u64 ns; __u32 pid, cpu; char comm[16]; };
//! MAPRING_RING(switches, struct switch_event, 4096);      /* slots a CPU */
//!
//! SEC("tp_btf/sched_switch")
//! int on_switch(void *ctx)
//! {
//!         mapring_record(switches, e) {                   /* skipped if no slot is free: counted */
//!                 e->ns = bpf_ktime_get_ns();
//!                 e->pid = bpf_get_current_pid_tgid() >> 32;
//!                 e->cpu = bpf_get_smp_processor_id();
//!                 bpf_get_current_comm(e->comm, sizeof(e->comm));
//!         }                                               /* commits; return or break discard */
//!         return 0;
//! }
//! ```
//!
#![cfg_attr(feature = "derive", doc = "```no_run")]
#![cfg_attr(not(feature = "derive"), doc = "```ignore")]
//! use mapring::{Record, Ring};
//!
//! #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, Record)]
//! #[repr(C)]
//! struct SwitchEvent { ns: u64, pid: u32, cpu: u32, comm: [u8; 16] }
//!
//! // In the loader: `mapring_loader::prepare(&mut open)?` between the skeleton's open and load,
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
//! // Another process inherits the descriptor, or receives it through a Unix socket, and opens it like this.
//! # use std::os::fd::AsFd;
//! let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
//! let mut reader = Ring::<[u64; 2]>::open(fd)?.reader();
//! let records: Vec<_> = reader.drain().map(|event| event.record).collect();
//! assert_eq!(records, [[1, 10], [2, 20]]);
//! assert_eq!(reader.lost(), 0);
//! # Ok::<(), mapring::Error>(())
//! ```
//!
//! # Architecture
//!
//! The crate `mapring-core` has the layout ([`abi`]: the place of everything in a region) and the algorithms, on any words of
//! memory; `mapring-sys` has bpf(2), BTF and pins. On top of them, this crate has regions (a mapped BPF map, a BPF map read by
//! system calls, a memfd) and the handles [`Ring`], [`Cells`], [`Counters`], [`Histograms`], [`Gauges`], [`TopKeys`],
//! [`Latches`], [`Commands`], [`PerCpuCells`], [`Array`], [`globals::Globals`] and [`dispatch::Dispatch`]. [`Merged`] reads
//! several rings.
//!
//! The root has the handles and what most programs name. The rest is in [`writers`], [`reading`], [`liveness`],
//! [`record`](mod@record), [`table`], [`tagged`], [`time`], [`loader`] and [`any`].
//!
//! # Cargo features
//!
//! No feature needs a C compiler. Programs that load BPF objects with libbpf-rs also use the crate `mapring-loader`, which
//! does.
//!
//! - `derive` (default): `#[derive(Record)]`, for types that are compared with C's. ([`record!`] does the same without
//!   this feature.) `#[derive(Tagged)]`, for [several types of records](type@Tagged) in one ring.
//! - `tokio`: `Reader::into_stream`, a stream for async programs.
//! - `hdrhistogram`: [`Histogram::record_into`] copies a histogram into one of the crate `hdrhistogram`.
//!
//! The BPF headers are in this crate's `include` folder. The build script of a dependent crate finds them in
//! `DEP_MAPRING_INCLUDE`.
// docs.rs sets `docsrs`: each item then names the features that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod access;
mod any_record;
mod bpf;
pub mod cpus;
mod error;
mod histogram;
pub mod loader;
pub mod record;
mod region;
mod ring;
pub mod tagged;
pub mod time;
mod values;

pub use access::{Access, Refusal};
pub use error::{Error, ErrorKind, ReadError, Result};
pub use histogram::Histogram;
pub use mapring_core::abi;
pub use mapring_core::protocol::ring::{Loss, ReadStats, Start};
/// Implements [`Record`](trait@Record) for a struct: see [`LayoutCheck`](record::LayoutCheck).
///
/// ```
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
/// #[repr(C)]
/// struct SwitchEvent { ns: u64, prev: u32, next: u32, comm: [u8; 16] }
///
/// use mapring::{Record, record::TypeLayout};
/// assert!(matches!(SwitchEvent::LAYOUT, TypeLayout::Struct(32, [_, prev, ..]) if prev.offset == 8));
/// ```
#[cfg(feature = "derive")]
pub use mapring_derive::Record;
/// Implements [`tagged::Variants`] for an enum whose variants refer to records: see [`Tagged`](type@Tagged). Each
/// variant has the tag that `MAPRING_VARIANT` gives it in C, and its name.
///
/// ```
/// #[derive(mapring::Tagged)]
/// enum Event<'r> {
///     #[tag(1)]
///     Opened(&'r u64),
///     #[tag(2)]
///     Closed(&'r [u32; 2]),
/// }
/// assert_eq!(size_of::<mapring::Tagged<Event<'_>>>(), 16);
/// ```
///
/// A tag that two variants have, or none, does not compile:
///
/// ```compile_fail
/// #[derive(mapring::Tagged)]
/// enum Event<'r> {
///     #[tag(1)]
///     Opened(&'r u64),
///     #[tag(1)]
///     Closed(&'r u64),
/// }
/// ```
///
/// A variant that is not a reference to a record does not compile either:
///
/// ```compile_fail
/// #[derive(mapring::Tagged)]
/// enum Event<'r> {
///     #[tag(1)]
///     Opened(&'r bool),
/// }
/// ```
#[cfg(feature = "derive")]
pub use mapring_derive::Tagged;
/// Implements [`Record`](trait@Record) for structs and enums that libbpf-cargo generated from C. It applies
/// [`plain_record!`] to each, with the fields found in the skeleton's file. It looks for this file in `OUT_DIR`, then
/// next to `Cargo.toml`. A type that is not plain data in all its parts (a `_Bool`, a pointer, a union, padding that
/// the skeleton does not declare) does not compile.
///
/// ```ignore
/// mod skel {
///     include!(concat!(env!("OUT_DIR"), "/switches.skel.rs"));
/// }
/// mapring::skeleton_records!("switches.skel.rs": skel::types::{switch_event});
///
/// let ring = Ring::<skel::types::switch_event>::open(&skel.maps.switches)?;
/// ```
#[cfg(feature = "derive")]
pub use mapring_derive::skeleton_records;
pub use record::Record;
pub use region::{OpenOptions, Region, Source};
pub use ring::{Event, Merged, Reader, Ring, Writer};
pub use tagged::Tagged;
pub use values::{
    Array, Cells, Commands, Counters, Gauges, Histograms, Latches, PerCpuCells, TopKeys, dispatch, globals,
    table,
};

/// Writers of each kind in userspace, which their handles make, and what they give out.
pub mod writers {
    pub use crate::ring::MemfdOptions;
    pub use crate::values::{
        CellsWriter, CommandsWriter, CountersWriter, Full, GaugesWriter, HistogramsWriter, LatchesWriter,
        TopKeysWriter,
    };
    pub use mapring_core::protocol::ring::{Dropped, Slot};
}

/// What readers and handles return: iterators, counts, and values of gauges and top keys.
pub mod reading {
    #[cfg(feature = "tokio")]
    pub use crate::ring::Events;
    pub use crate::ring::{ByShard, ByTime, Drain, Order};
    pub use crate::values::{GaugeReader, GaugeWindow, Ranking, SinceLastRead, TopKey};
    pub use mapring_core::protocol::ring::LossCause;
}

/// The writers and readers of a region, and whether they are still there.
pub mod liveness {
    pub use crate::abi::Process;
    pub use crate::region::{MapUser, is_alive};
    pub use crate::ring::{Behind, Liveness, RingReader, Unended};
}

/// Maps and records of any type, for tools that show what they do not know.
pub mod any {
    pub use crate::any_record::AnyRecord;
    pub use crate::region::maps::{ObserverStats, RingbufObserver};
    pub use crate::ring::AnyReader;
    pub use crate::values::{AnyMap, MapFacts};
}

/// Used by the code that this crate's macros generate.
#[doc(hidden)]
pub mod __private {
    pub use bytemuck::{Pod, Zeroable};

    pub use crate::record::{layout_of, name_of, plain_size};
    pub use crate::tagged::{payload_words, record_in};
}
