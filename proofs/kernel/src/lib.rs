//! Shared code of the real-kernel tests: privilege, loading and running programs, pins, processes.
//!
//! Nothing here is mocked. The tests load the programs under `bpf/` into this machine's own kernel. Without the
//! privilege for that, a test reports this on stderr and passes, or fails if `MAPRING_REQUIRE_BPF=1` is set.
#![deny(unsafe_code)]

mod cpu;
mod errors;
mod image;
mod jumps;
mod load;
mod no_syscalls;
mod numbered;
mod perf;
mod pins;
mod privilege;
mod process;
pub mod raw;
mod records;
mod slow_pages;
mod sysctl;
pub mod tails;
mod traced;
mod turns;

pub use cpu::{cpus, everywhere, has_guard, kernel, on_cpu, on_one_cpu, preempts_nobody, real_time};
pub use errors::{assert_error, says};
pub use image::{Function, image};
pub use jumps::jumps;
pub use load::{
    Compiled, Runner, by_hand, did, failing_commands, fd_of, fitted, fitted_alone, map, one_shard, program,
    raw_map, read_only, send, unfitted, update, without_batches, without_bpf, without_commands,
    without_programs, word_at,
};
pub use no_syscalls::{end, no_syscalls, only_exit};
pub use numbered::{EMPTY, Numbered, Seen, Stop, push, watching_us, written_by_all};
pub use perf::{sample_clock, sample_switches, stress_seconds, ticks};
pub use pins::{PinDir, PublicPins};
pub use privilege::{may_disturb, may_use_bpf, skipped};
pub use process::{NOBODY, become_nobody, become_nobody_with, child, try_child, written_for};
pub use records::{Filled, Order, Rec, Sample, words_of};
pub use slow_pages::SlowPages;
pub use sysctl::UnprivilegedBpf;
pub use traced::run_and_die;
pub use turns::Turns;

/// Ends the test early, with a visible message, if programs can't be loaded. With the name of an object of [`bpf`], loads it,
/// prepared as users do.
#[macro_export]
macro_rules! require_bpf {
    () => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here).trim_end_matches("::here");
        if !$crate::may_use_bpf(test) {
            return;
        }
    }};
    ($object:ident) => {{
        $crate::require_bpf!();
        $crate::bpf::$object.load($crate::fitted)
    }};
}

/// The objects of `bpf/`: `NAME` is of `bpf/name.bpf.c`, or of one of the variants in `build.rs`.
#[allow(missing_docs)]
pub mod bpf {
    use crate::Compiled;

    include!(concat!(env!("OUT_DIR"), "/objects.rs"));
}

/// What nearly every test uses.
pub mod prelude {
    pub use std::collections::{BTreeMap, BTreeSet};
    pub use std::fs;
    pub use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
    pub use std::os::unix::fs::PermissionsExt;
    pub use std::path::{Path, PathBuf};
    pub use std::process::{Child, Command, Stdio};
    pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub use std::thread;
    pub use std::time::{Duration, Instant};

    pub use bytemuck::{Pod, Zeroable};
    pub use libbpf_rs::libbpf_sys::BPF_F_MMAPABLE;
    pub use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, MapType, Object, OpenObject, ProgramMut};
    pub use mapring::abi::{Geometry, Kind, Preamble};
    pub use mapring::cpus::{online_nodes, possible_cpus};
    pub use mapring::globals::Globals;
    pub use mapring::loader::PinOptions;
    pub use mapring::record::LayoutCheck;
    pub use mapring::table::Snapshot;
    pub use mapring::{
        Access, Cells, Counters, Error, ErrorKind, Event, Latches, OpenOptions, PerCpuCells, ReadError,
        ReadStats, Reader, Record, Refusal, Region, Ring, Source, Start,
    };
    pub use mapring_loader::{initialize_object, section};

    pub use crate::*;
}

/// Skeletons: records in Rust come from them, and one test loads its object so.
pub mod skel {
    macro_rules! skeletons {
        ($($name:ident)*) => {
            $(
                #[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_code)]
                #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
                #[allow(clippy::cast_possible_truncation, unsafe_op_in_unsafe_fn)]
                mod $name {
                    include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
                }
            )*
        };
    }
    skeletons!(globals layouts);

    pub use globals::types as globals_types;
    pub use layouts::{LayoutsSkelBuilder, types as layouts_types};
}
