//! The programs of `proofs/bpf-loom/bpf/programs.bpf.c`, in Rust: tiny maps, values from the context. And one with a record of seven
//! words, whose instructions `cargo xtask prove rust-bpf` checks.
#![no_std]
#![no_main]
#![allow(non_upper_case_globals, missing_docs)]

use mapring_ebpf::{Cells, Counters, Histograms, KeepOldest, PerCpuMaps, Ring, Tails, Wakeable, map};
use mapring_rust_bpf::{license, programs};

license!();

#[repr(C)]
pub struct Narrow {
    a: u64,
}

#[repr(C)]
pub struct Wide {
    a: u64,
    b: u64,
}

#[repr(C)]
pub struct Record {
    pub words: [u64; 7],
}

/// 0, or -1: dropped.
macro_rules! rings {
    ($($name:ident: $ty:ty, $push:ident, $discard:ident, $output:ident, |$value:ident| $record:expr;)*) => {$(
        #[map]
        static $name: $ty = Ring::new();

        programs! {
            fn $push(ctx: &[u64; 2]) {
                let Some(mut record) = $name.reserve() else { return -1 };
                let $value = ctx[0];
                record.write($record);
                record.commit();
                0
            }
            fn $discard(ctx: &[u64; 2]) {
                let Some(mut record) = $name.reserve() else { return -1 };
                let $value = ctx[0];
                record.write($record);
                drop(record);
                0
            }
            fn $output(ctx: &[u64; 2]) {
                let $value = ctx[0];
                if $name.output($record) { 0 } else { -1 }
            }
        }
    )*};
}

rings! {
    narrow1: Ring<Narrow, 1>, push_narrow1, discard_narrow1, output_narrow1, |a| Narrow { a };
    narrow2: Ring<Narrow, 2>, push_narrow2, discard_narrow2, output_narrow2, |a| Narrow { a };
    narrow4: Ring<Narrow, 4>, push_narrow4, discard_narrow4, output_narrow4, |a| Narrow { a };
    narrow8: Ring<Narrow, 8>, push_narrow8, discard_narrow8, output_narrow8, |a| Narrow { a };
    narrow16: Ring<Narrow, 16>, push_narrow16, discard_narrow16, output_narrow16, |a| Narrow { a };
    wide1: Ring<Wide, 1>, push_wide1, discard_wide1, output_wide1, |a| Wide { a, b: a };
    wide2: Ring<Wide, 2>, push_wide2, discard_wide2, output_wide2, |a| Wide { a, b: a };
    waking4: Ring<Narrow, 4, Wakeable>, push_waking4, discard_waking4, output_waking4, |a| Narrow { a };
    keeping2: Ring<Narrow, 2, KeepOldest>, push_keeping2, discard_keeping2, output_keeping2, |a| Narrow { a };
    placed2: Ring<Narrow, 2, PerCpuMaps>, push_placed2, discard_placed2, output_placed2, |a| Narrow { a };
    placed4: Ring<Narrow, 4, PerCpuMaps>, push_placed4, discard_placed4, output_placed4, |a| Narrow { a };
}

/// A tail of ctx[1] bytes. Writes both ends of its space, as a helper may that fails.
macro_rules! rings_with_tails {
    ($($name:ident: $ty:ty, $push:ident;)*) => {$(
        #[map]
        static $name: $ty = Ring::new();

        programs! {
            fn $push(ctx: &[u64; 2]) {
                let Some(mut record) = $name.reserve() else { return -1 };
                record.write(Narrow { a: ctx[0] });
                let tail: *mut u64 = record.tail().cast();
                // SAFETY: the tail has 64 bytes.
                unsafe { tail.write_volatile(ctx[0]) };
                // SAFETY: as above.
                unsafe { tail.wrapping_add(7).write_volatile(ctx[0]) };
                if record.commit_tail(ctx[1] as i64) { 0 } else { -1 }
            }
        }
    )*};
}

rings_with_tails! {
    tails4: Ring<Narrow, 4, Tails<64, 128>>, push_tails4;
    tails16: Ring<Narrow, 16, Tails<64, 1024>>, push_tails16;
    tailed4: Ring<Narrow, 4, (Wakeable, Tails<64, 128>)>, push_tailed4;
    kept4: Ring<Narrow, 4, (KeepOldest, Tails<64, 128>)>, push_kept4;
    kept16: Ring<Narrow, 16, (KeepOldest, Tails<64, 512>)>, push_kept16;
}

#[map]
static cell: Cells<Wide, 1> = Cells::new();
#[map]
static counters: Counters<2> = Counters::new();
#[map]
static histogram: Histograms<2> = Histograms::new();
#[map]
static ring: Ring<Record, 4096> = Ring::new();
#[map]
static large_cell: Cells<Record, 1> = Cells::new();

/// Copies the seven words.
fn fill(record: *mut Record, ctx: &[u64; 7]) {
    for (at, word) in ctx.iter().enumerate() {
        // SAFETY: the record has as many words.
        unsafe { record.cast::<u64>().wrapping_add(at).write(*word) };
    }
}

programs! {
    fn ring_push(ctx: &[u64; 7]) {
        let Some(mut record) = ring.reserve() else { return -1 };
        fill(record.as_mut_ptr(), ctx);
        record.commit();
        0
    }

    fn cell_set(ctx: &[u64; 7]) {
        let Some(mut value) = large_cell.begin(0) else { return -1 };
        fill(value.as_mut_ptr(), ctx);
        0
    }

    /// ctx[1] is the index.
    fn set_cell(ctx: &[u64; 2]) {
        if cell.set(ctx[1] as u32, Wide { a: ctx[0], b: ctx[0] }) { 0 } else { -1 }
    }

    /// Adds ctx[0] to the old value.
    fn update_cell(ctx: &[u64; 2]) {
        let Some(mut value) = cell.begin(ctx[1] as u32) else { return -1 };
        let at = value.as_mut_ptr();
        // SAFETY: this program owns the cell.
        let Wide { a, b } = unsafe { at.read() };
        value.write(Wide { a: a + ctx[0], b: b + ctx[0] });
        0
    }

    fn add_counters(ctx: &[u64; 2]) {
        counters.add(ctx[1] as u32, ctx[0]);
        0
    }

    fn add_histogram(ctx: &[u64; 2]) {
        histogram.add(ctx[1] as u32, ctx[0]);
        0
    }
}
