//! The speed of this machine, to compare the times of steps with their usual ones.

use std::hint::black_box;
use std::time::Instant;

/// The loop's seconds on the machine of reference: an Intel Xeon (family 6, model 167) with two CPUs.
const REFERENCE: f32 = 0.3;
const ROUNDS: u32 = 40_000_000;

/// How many times as long as the machine of reference this machine takes: the best of three runs of a fixed loop.
pub(super) fn measure() -> f32 {
    let runs = (0..3).map(|_| {
        let start = Instant::now();
        black_box(work(black_box(1)));
        start.elapsed().as_secs_f32()
    });
    runs.fold(f32::INFINITY, f32::min) / REFERENCE
}

/// Each round needs the result of the one before.
fn work(seed: u64) -> u64 {
    (0..ROUNDS).fold(seed, |hash, round| (hash ^ u64::from(round)).wrapping_mul(0x0100_0000_01b3))
}
