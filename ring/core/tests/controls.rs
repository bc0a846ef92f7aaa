//! Deliberate mistakes, one for each tool. A tool that does not find its mistake proves nothing elsewhere. Only
//! `cargo xtask prove` runs them, each under its tool.
#![allow(clippy::disallowed_types, missing_docs)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mapring_core::protocol::Words;

struct Anyone(*mut u64);

// SAFETY: none: that this is wrong is the test.
unsafe impl Sync for Anyone {}

#[test]
#[ignore = "a data race: for Miri and ThreadSanitizer to find"]
fn a_data_race() {
    let mut word = 0;
    let shared = &Anyone(&raw mut word);
    // Both are there: ThreadSanitizer takes a thread for the one whose place it got.
    let both = &Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                both.wait();
                for n in 0..100 {
                    // SAFETY: none: two threads write without order.
                    unsafe { shared.0.write(n) };
                }
            });
        }
    });
    assert_eq!(word, 99);
}

#[test]
#[ignore = "a load behind the end of its memory: for Miri and AddressSanitizer to find"]
fn a_load_out_of_bounds() {
    let layout = Layout::new::<[u64; 4]>();
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    // SAFETY: none: there are four words.
    let words = unsafe { Words::from_raw(memory.cast::<AtomicU64>(), 5) };
    let sum: u64 = (0..5).map(|at| words.load(at, Ordering::Relaxed)).fold(0, u64::wrapping_add);
    println!("read {sum}");
    // SAFETY: allocated above, with this layout.
    unsafe { dealloc(memory, layout) };
}
