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
mod numbered;
mod perf;
mod pins;
mod privilege;
mod process;
mod quiet;
pub mod raw;
mod records;
mod slow_pages;
mod sysctl;
pub mod tails;
mod traced;
mod turns;

pub use cpu::{cpus, everywhere, has_guard, kernel, on_cpu, on_one_cpu, preempts_nobody, real_time};
pub use errors::assert_error;
pub use image::{Function, image};
pub use jumps::jumps;
pub use load::{
    Loaded, Runner, failing_commands, fitted, load, load_only, map, one_shard, read_only, send, unfitted,
    update, without_batches, without_bpf, without_commands, word_at,
};
pub use numbered::{EMPTY, Numbered, Seen, Stop, push, watching_us, written_by_all};
pub use perf::{sample_clock, sample_switches};
pub use pins::{PinDir, PublicPins};
pub use privilege::{may_disturb, may_use_bpf, skipped};
pub use process::{NOBODY, become_nobody, become_nobody_with, child, try_child, written_for};
pub use quiet::{end, only_exit, quiet};
pub use records::{Filled, Order, Sample, words_of};
pub use slow_pages::SlowPages;
pub use sysctl::UnprivilegedBpf;
pub use traced::run_and_die;
pub use turns::Turns;

/// Ends the test early, with a visible message, if programs can't be loaded.
#[macro_export]
macro_rules! require_bpf {
    () => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here).trim_end_matches("::here");
        if !$crate::may_use_bpf(test) {
            return;
        }
    }};
}

/// The programs under `bpf/`, each compiled for this machine; the `…_portable` ones for any machine.
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
    skeletons!(
        alone
        basic
        basic_portable
        claims
        claims_linger
        claims_linger_no_guard
        claims_linger_unguarded
        claims_unguarded
        clocks
        commands
        commands_portable
        conformance
        contexts
        contexts_no_guard
        copies
        dispatch
        flags
        foreign
        gauge
        gauge_portable
        globals
        hidden
        histogram
        histogram_portable
        hostile
        hostile_portable
        jit
        jit_portable
        jit_release
        keep
        keep_portable
        latches
        latches_portable
        layouts
        liveness
        loops
        loops_no_guard
        loops_portable
        loops_short
        loops_short_no_guard
        loops_short_portable
        merged
        nested
        numa
        numa_portable
        options
        percpu
        quiet
        refusals
        resizable
        resizable_portable
        reuse
        reuse_other
        ringbuf
        runqlat
        sealed
        sleeping
        stress
        stress_portable
        stress_slow
        tagged
        tagged_portable
        tails
        tails_portable
        top
        top_portable
        tso
        wakeable
        wakeable_portable
    );

    pub use alone::AloneSkelBuilder;
    pub use basic::BasicSkelBuilder;
    pub use basic_portable::BasicPortableSkelBuilder;
    pub use claims::ClaimsSkelBuilder;
    pub use claims_linger::ClaimsLingerSkelBuilder;
    pub use claims_linger_no_guard::ClaimsLingerNoGuardSkelBuilder;
    pub use claims_linger_unguarded::ClaimsLingerUnguardedSkelBuilder;
    pub use claims_unguarded::ClaimsUnguardedSkelBuilder;
    pub use clocks::ClocksSkelBuilder;
    pub use commands::CommandsSkelBuilder;
    pub use commands_portable::CommandsPortableSkelBuilder;
    pub use conformance::ConformanceSkelBuilder;
    pub use contexts::ContextsSkelBuilder;
    pub use contexts_no_guard::ContextsNoGuardSkelBuilder;
    pub use copies::CopiesSkelBuilder;
    pub use dispatch::DispatchSkelBuilder;
    pub use flags::FlagsSkelBuilder;
    pub use foreign::{ForeignSkelBuilder, types as foreign_types};
    pub use gauge::GaugeSkelBuilder;
    pub use gauge_portable::GaugePortableSkelBuilder;
    pub use globals::{GlobalsSkelBuilder, types as globals_types};
    pub use hidden::HiddenSkelBuilder;
    pub use histogram::HistogramSkelBuilder;
    pub use histogram_portable::HistogramPortableSkelBuilder;
    pub use hostile::HostileSkelBuilder;
    pub use hostile_portable::HostilePortableSkelBuilder;
    pub use jit::JitSkelBuilder;
    pub use jit_portable::JitPortableSkelBuilder;
    pub use jit_release::JitReleaseSkelBuilder;
    pub use keep::KeepSkelBuilder;
    pub use keep_portable::KeepPortableSkelBuilder;
    pub use latches::LatchesSkelBuilder;
    pub use latches_portable::LatchesPortableSkelBuilder;
    pub use layouts::{LayoutsSkelBuilder, types as layouts_types};
    pub use liveness::LivenessSkelBuilder;
    pub use loops::LoopsSkelBuilder;
    pub use loops_no_guard::LoopsNoGuardSkelBuilder;
    pub use loops_portable::LoopsPortableSkelBuilder;
    pub use loops_short::LoopsShortSkelBuilder;
    pub use loops_short_no_guard::LoopsShortNoGuardSkelBuilder;
    pub use loops_short_portable::LoopsShortPortableSkelBuilder;
    pub use merged::MergedSkelBuilder;
    pub use nested::NestedSkelBuilder;
    pub use numa::NumaSkelBuilder;
    pub use numa_portable::NumaPortableSkelBuilder;
    pub use options::OptionsSkelBuilder;
    pub use percpu::PercpuSkelBuilder;
    pub use quiet::QuietSkelBuilder;
    pub use refusals::RefusalsSkelBuilder;
    pub use resizable::ResizableSkelBuilder;
    pub use resizable_portable::ResizablePortableSkelBuilder;
    pub use reuse::ReuseSkelBuilder;
    pub use reuse_other::ReuseOtherSkelBuilder;
    pub use ringbuf::RingbufSkelBuilder;
    pub use runqlat::RunqlatSkelBuilder;
    pub use sealed::SealedSkelBuilder;
    pub use sleeping::SleepingSkelBuilder;
    pub use stress::StressSkelBuilder;
    pub use stress_portable::StressPortableSkelBuilder;
    pub use stress_slow::StressSlowSkelBuilder;
    pub use tagged::TaggedSkelBuilder;
    pub use tagged_portable::TaggedPortableSkelBuilder;
    pub use tails::TailsSkelBuilder;
    pub use tails_portable::TailsPortableSkelBuilder;
    pub use top::TopSkelBuilder;
    pub use top_portable::TopPortableSkelBuilder;
    pub use tso::TsoSkelBuilder;
    pub use wakeable::WakeableSkelBuilder;
    pub use wakeable_portable::WakeablePortableSkelBuilder;
}
