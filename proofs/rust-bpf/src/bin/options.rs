//! A ring with each set of options, like `proofs/kernel/bpf/options.bpf.c`, and a map of each other kind. Tests run the programs by
//! hand.
#![no_std]
#![no_main]
#![allow(non_upper_case_globals, missing_docs)]

use mapring_ebpf::{Cells, Counters, Histograms, KeepOldest, PerCpuMaps, Ring, Tails, Wakeable, map};
use mapring_rust_bpf::{license, programs};

license!();

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Rec {
    n: u64,
    twice: u64,
}

#[repr(C)]
pub struct Args {
    n: u64,
    discard: u64,
}

const LONGEST: usize = 64;

/// Publishes (or discards) a record. Returns whether it reserved one.
macro_rules! push {
    ($ring:ident, $args:ident) => {{
        let Some(mut rec) = $ring.reserve() else { return 0 };
        rec.write(Rec { n: $args.n, twice: 2 * $args.n });
        if $args.discard == 0 {
            rec.commit();
        }
        1
    }};
}

/// The same; the tail of record `n` has n mod 65 bytes, all of them n.
macro_rules! push_with_tail {
    ($ring:ident, $args:ident) => {{
        let Some(mut rec) = $ring.reserve() else { return 0 };
        let n = $args.n;
        rec.write(Rec { n, twice: 2 * n });
        let tail: *mut u64 = rec.tail().cast();
        for word in 0..LONGEST / 8 {
            // SAFETY: the tail has LONGEST bytes.
            unsafe { tail.wrapping_add(word).write_volatile((n & 0xff) * 0x0101_0101_0101_0101) };
        }
        if $args.discard == 0 {
            rec.commit_tail((n % (LONGEST as u64 + 1)) as i64);
        }
        1
    }};
}

/// A ring with these options, and its program.
macro_rules! rings {
    ($($push:ident: $way:ident($name:ident, $options:ty);)*) => {$(
        #[map]
        static $name: Ring<Rec, 64, $options> = Ring::new();

        programs! {
            fn $push(args: &Args) { $way!($name, args) }
        }
    )*};
}

rings! {
    push_plain: push(plain, ());
    push_wakes: push(wakes, Wakeable);
    push_keeps: push(keeps, KeepOldest);
    push_tails: push_with_tail(tails, Tails<LONGEST, 16384>);
    push_wakes_tails: push_with_tail(wakes_tails, (Wakeable, Tails<LONGEST, 16384>));
    push_keeps_tails: push_with_tail(keeps_tails, (KeepOldest, Tails<LONGEST, 16384>));
    push_plain_of_cpu: push(plain_of_cpu, PerCpuMaps);
    push_wakes_of_cpu: push(wakes_of_cpu, (Wakeable, PerCpuMaps));
    push_keeps_of_cpu: push(keeps_of_cpu, (KeepOldest, PerCpuMaps));
    push_tails_of_cpu: push_with_tail(tails_of_cpu, (Tails<LONGEST, 16384>, PerCpuMaps));
    push_wakes_tails_of_cpu: push_with_tail(wakes_tails_of_cpu, (Wakeable, Tails<LONGEST, 16384>, PerCpuMaps));
    push_keeps_tails_of_cpu: push_with_tail(keeps_tails_of_cpu, (KeepOldest, Tails<LONGEST, 16384>, PerCpuMaps));
}

/// Publishes as many records as the longest loop of `proofs/kernel/bpf/loops`. Returns how many it reserved. libbpf loads it only if it
/// is asked to: verifiers before Linux 5.16 refuse it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "?syscall")]
extern "C" fn push_many(_ctx: *mut Args) -> i32 {
    let mut reserved = 0;
    for n in 0..1600 {
        reserved += i32::from(plain.output(Rec { n, twice: 2 * n }));
    }
    reserved
}

/// A record whose size is not a multiple of 8, with fields of several types.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mixed {
    ns: u64,
    ratio: f32,
    flags: u16,
    letters: [u8; 5],
    small: Small,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Small {
    a: i8,
    b: bool,
}

#[map]
pub static mixed: Ring<Mixed, 8> = Ring::new();
#[map]
pub static values: Cells<Rec, 3> = Cells::new();
#[map]
pub static calls: Counters<9> = Counters::new();
#[map]
pub static times: Histograms<2> = Histograms::new();

programs! {
    fn push_mixed(args: &Args) {
        let n = args.n;
        let letters = [n as u8, 1, 2, 3, 4];
        let small = Small { a: -1, b: true };
        i32::from(mixed.output(Mixed { ns: n, ratio: 0.5, flags: 7, letters, small }))
    }

    /// Too long, an error of a helper, and a record without a tail.
    fn push_too_long(args: &Args) {
        let Some(mut rec) = tails.reserve() else { return -1 };
        rec.write(Rec { n: args.n, twice: 2 * args.n });
        i32::from(rec.commit_tail(args.discard as i64))
    }

    /// Returns whether it wrote cell `discard`.
    fn set_value(args: &Args) { i32::from(values.set(args.discard as u32, Rec { n: args.n, twice: 2 * args.n })) }

    /// Adds to the cell.
    fn update_value(args: &Args) {
        let Some(mut value) = values.begin(args.discard as u32) else { return 0 };
        let value = value.as_mut_ptr();
        // SAFETY: this program owns the cell.
        let Rec { n, .. } = unsafe { value.read() };
        let n = n + args.n;
        // SAFETY: as above.
        unsafe { value.write(Rec { n, twice: 2 * n }) };
        1
    }

    fn count_calls(args: &Args) {
        calls.add(args.discard as u32, args.n);
        calls.inc(args.discard as u32);
        0
    }

    fn add_time(args: &Args) {
        times.add(args.discard as u32, args.n);
        0
    }
}
