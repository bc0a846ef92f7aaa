//! What the programs of `bpf/basic.bpf.c` write, for readers that check it.

/// A record of `N` 32-bit words.
pub type Filled<const N: usize> = [u32; N];

/// What record `n` holds: `WORD` in `bpf/basic.bpf.c`.
pub fn words_of<const N: usize>(n: u64) -> Filled<N> {
    std::array::from_fn(|i| {
        #[allow(clippy::cast_possible_truncation)] // as in the program
        let (n, i) = (n as u32, i as u32);
        n.wrapping_mul(2_654_435_761).wrapping_add(i)
    })
}

// As libbpf-cargo made it from C: nobody wrote it down again.
mapring::skeleton_records!("globals.skel.rs": crate::skel::globals_types::{large, mode, pair});
mapring::skeleton_records!("layouts.skel.rs": crate::skel::layouts_types::{mode, packed, padded, pair});
