//! A pin that loaders replace again and again, and readers that open it meanwhile.

use mapring_kernel_tests::prelude::*;

use super::open;

const TIMES: u64 = 1_000;
/// Replacements without a pause: fewer than the 16 searches of an open. With PREEMPT_RT, a replacement can come in the middle of
/// each of these. An odd number, so that both rings are found.
const BURST: u64 = 7;

/// Without privilege a reader finds the other maps only by their pins, so each ring must be pinned whole at any moment.
#[test]
fn a_reader_finds_the_old_ring_whole_or_the_new_one() {
    require_bpf!();
    if kernel() < (5, 19) {
        return skipped("replaced", "only root opens pins before Linux 5.19");
    }
    let objects = [bpf::WAKEABLE.load(fitted), bpf::WAKEABLE.load(fitted)];
    let rings = objects.each_ref().map(open);
    let generation = |at: usize| rings[at].region().preamble().generation;
    let pins = PublicPins::new();
    let pin = pins.path("numbers");
    rings[0].pin(&pin, 0o666).unwrap();
    let (end, found) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            become_nobody().unwrap();
            while !end.load(Ordering::Relaxed) {
                let ring = mapring::Ring::<Rec>::open(pin.as_path()).unwrap();
                ring.readers().unwrap();
                let second = ring.region().preamble().generation == generation(1);
                found[usize::from(second)].fetch_add(1, Ordering::Relaxed);
            }
        });
        let found = || found.each_ref().map(|found| found.load(Ordering::Relaxed));
        let mut times = 0;
        while !reader.is_finished() && (times < TIMES || found().iter().any(|&found| found < TIMES / 2)) {
            for _ in 0..BURST {
                times += 1;
                rings[usize::from(times % 2 == 1)].pin(&pin, PinOptions::new(0o666).replace(true)).unwrap();
            }
            let before = found();
            while !reader.is_finished() && found() == before {
                thread::yield_now();
            }
        }
        end.store(true, Ordering::Relaxed);
    });
}
