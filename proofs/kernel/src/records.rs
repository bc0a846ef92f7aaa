//! The records of the tests' programs, for readers that check them.

use bytemuck::{Pod, Zeroable};
use mapring::Record;

/// A record of `N` 32-bit words.
pub type Filled<const N: usize> = [u32; N];

/// The content of record `n`: `WORD` in `bpf/basic.bpf.c`.
pub fn words_of<const N: usize>(n: u64) -> Filled<N> {
    std::array::from_fn(|i| {
        #[allow(clippy::cast_possible_truncation)] // as in the program
        let (n, i) = (n as u32, i as u32);
        n.wrapping_mul(2_654_435_761).wrapping_add(i)
    })
}

/// `struct rec` of `bpf/{options,wakeable,keep}.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, Record)]
#[repr(C)]
pub struct Rec {
    /// Its number.
    pub n: u64,
    /// Twice its number.
    pub twice: u64,
}

/// `struct sample` of `bpf/foreign.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, Record)]
#[repr(C)]
pub struct Sample {
    /// The packet's number.
    pub number: u64,
    /// Twice the number.
    pub twice: u32,
    /// The CPU that processed the packet.
    pub cpu: u32,
}

/// A command, as in `bpf/commands.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, Record)]
#[repr(C)]
pub struct Order {
    thread: u64,
    number: u64,
    words: [u64; 5],
}

impl Order {
    /// Command `number` of thread `thread`.
    pub fn new(thread: u64, number: u64) -> Self {
        Self { thread, number, words: [number; 5] }
    }
}

// The type that libbpf-cargo generated from C: no second definition is needed.
mapring::skeleton_records!("globals.skel.rs": crate::skel::globals_types::{large, mode, pair});
mapring::skeleton_records!("layouts.skel.rs": crate::skel::layouts_types::{mode, packed, padded, pair});
