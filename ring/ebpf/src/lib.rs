//! mapring's rings, cells, counters and histograms for BPF programs in Rust, with aya-ebpf or without.
//!
//! ```ignore
//! use mapring_ebpf::{Ring, map};
//!
//! #[repr(C)]
//! struct SwitchEvent { ns: u64, pid: u32, cpu: u32 }
//!
//! #[map]
//! static SWITCHES: Ring<SwitchEvent, 4096> = Ring::new();         // slots per CPU: a power of two
//!
//! if let Some(mut event) = SWITCHES.reserve() {                   // None: counted as dropped
//!     event.write(SwitchEvent { ns, pid, cpu });
//!     event.commit();                                             // a drop discards
//! }
//! ```
//!
//! The memory layout and the guarantees are those of the C headers, so readers need not know which programs write. The types are in
//! BTF, which loaders and readers check: records are `#[repr(C)]` structs of integers, floats, arrays and such structs. An enum with
//! fields has no types in BTF.
//!
//! Slots are claimed by compare-and-swap (Linux 5.12, aarch64 5.18). Programs need a nightly compiler, `-Zbuild-std=core` and
//! `bpf-linker --btf`; docs/rust-bpf.md has a whole project. With `--cfg bpf_target_arch="x86_64"`, which aya-build sets, records are
//! published by a plain store; otherwise by an exchange, which is right on any machine.
#![no_std]
#![feature(asm_experimental_arch)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless
)]

mod claim;
mod keep;
mod layout;
mod numbers;
mod readers;
mod ring;
mod tails;
mod values;
mod words;

pub use layout::{Declare, Map};
pub use mapring_ebpf_macros::map;
pub use ring::{KeepOldest, Options, PerCpuMaps, Reserved, Ring, Tails, Wakeable};
pub use values::{Cells, Counters, Histograms, Update};

#[doc(hidden)]
pub mod detail {
    //! For what `#[map]` expands to.
    use crate::Declare;
    pub use crate::layout::{Array, Bells, Describe, OfCpu, Place, values::mapring_readers__};
    pub use crate::words::MapPtr;

    /// The readers of a ring.
    pub enum Readers {}

    impl Declare for Readers {
        type Value = mapring_readers__;
        type Described<P: Place> = Array<Self, P>;
        const ENTRIES: usize = crate::layout::WAKE_AT + crate::layout::OF_SHARD;
    }

    // SAFETY: for a map without functions.
    unsafe impl Place for Readers {
        type Entries = [i32; Readers::ENTRIES];
        fn map() -> MapPtr {
            unreachable!()
        }
    }

    /// The map of readers.
    pub type ReadersMap = Array<Readers, Readers>;
}

/// What `#[map]` expands to: `[before] NAME [type] parts…`.
#[doc(hidden)]
#[macro_export]
macro_rules! __map {
    ([$($before:tt)*] $name:ident [$ty:ty] $($part:ident)*) => {
        $($before)* static $name: $crate::Map<$ty, $name> = $crate::Map::NEW;

        // The type of the same name says which map it is.
        #[doc(hidden)]
        #[allow(non_camel_case_types)]
        pub enum $name {}

        // SAFETY: this is `#[map]`.
        unsafe impl $crate::detail::Place for $name {
            type Entries = [i32; <$ty as $crate::Declare>::ENTRIES];

            #[inline(always)]
            fn map() -> $crate::detail::MapPtr {
                use $crate::detail::Describe;

                #[unsafe(link_section = ".maps")]
                #[unsafe(export_name = stringify!($name))]
                static MAP: <$ty as $crate::Declare>::Described<$name> = Describe::NEW;
                $crate::detail::MapPtr::of(&MAP)
            }
            $($crate::__part! { $part $name [$ty] })*
        }
    };
}

/// A part of a ring. Functions of their own: the verifier checks each once, and the fast path stays short.
#[doc(hidden)]
#[macro_export]
macro_rules! __part {
    (claim $name:ident [$ty:ty]) => {
        #[inline(always)]
        fn claim(at: u32) -> i64 {
            #[unsafe(export_name = concat!("mapring__claim__", stringify!($name)))]
            #[inline(never)]
            extern "C" fn claim(at: u32) -> i64 {
                <$ty>::claim::<$name>(at)
            }
            claim(at)
        }
    };
    (wake $name:ident [$ty:ty]) => {
        const WAKES: bool = true;

        #[inline(always)]
        fn readers() -> $crate::detail::MapPtr {
            #[unsafe(link_section = ".maps")]
            #[unsafe(export_name = concat!(stringify!($name), "__readers"))]
            static READERS: $crate::detail::ReadersMap = $crate::detail::Describe::NEW;
            $crate::detail::MapPtr::of(&READERS)
        }

        #[inline(always)]
        fn wake(at: u32, number: u32) -> i32 {
            #[unsafe(link_section = ".maps")]
            #[unsafe(export_name = concat!(stringify!($name), "__bells"))]
            static BELLS: $crate::detail::Bells = $crate::detail::Describe::NEW;

            #[unsafe(export_name = concat!("mapring__wake__", stringify!($name)))]
            #[inline(never)]
            extern "C" fn wake(at: u32, number: u32) -> i32 {
                <$ty>::wake::<$name>($crate::detail::MapPtr::of(&BELLS), at, number)
            }
            wake(at, number)
        }
    };
    (tail $name:ident [$ty:ty]) => {
        const HAS_TAILS: bool = true;

        #[inline(always)]
        fn tail(at: u32) -> u64 {
            #[unsafe(export_name = concat!("mapring__tail__", stringify!($name)))]
            #[inline(never)]
            extern "C" fn tail(at: u32) -> u64 {
                <$ty>::tail::<$name>(at)
            }
            tail(at)
        }

        #[inline(always)]
        fn way(at: u64) -> u64 {
            #[unsafe(export_name = concat!("mapring__way__", stringify!($name)))]
            #[inline(never)]
            extern "C" fn way(at: u64) -> u64 {
                <$ty>::way::<$name>(at)
            }
            way(at)
        }
    };
    (first $name:ident [$ty:ty]) => {
        fn first() {
            #[unsafe(link_section = ".maps")]
            #[unsafe(export_name = concat!(stringify!($name), "__first"))]
            static FIRST: $crate::detail::OfCpu<$ty, $name> = $crate::detail::Describe::NEW;
        }
    };
    (unread $name:ident [$ty:ty]) => {
        #[inline(always)]
        fn unread(to: u64) -> i32 {
            #[unsafe(export_name = concat!("mapring__unread__", stringify!($name)))]
            #[inline(never)]
            extern "C" fn unread(to: u64) -> i32 {
                <$ty>::unread::<$name>(to)
            }
            unread(to)
        }
    };
}
