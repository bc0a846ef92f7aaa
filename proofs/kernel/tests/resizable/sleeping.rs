//! Programs sleep in the middle of a claim while their ring is replaced, on each CPU: each record is read once, from
//! the old ring or from the next.

use mapring_kernel_tests::prelude::*;

use crate::{all, open};

#[test]
fn a_program_that_sleeps_anywhere_in_its_claim() {
    let object = &require_bpf!(SLEEPING);
    let ring = open(object);
    let mut follower = ring.reader();
    let program = Runner::new(object, "push_sleeping");
    let globals =
        Globals::open_with(section(object, ".bss").unwrap(), OpenOptions::new().write(true)).unwrap();
    let pages_of = ["page_before", "page_after"].map(|name| globals.variable::<u64>(name).unwrap());
    let cases = cpus().iter().flat_map(|&cpu| [(cpu, false), (cpu, true)]);
    for (number, (cpu, has_claimed)) in (0..).zip(cases) {
        let (pages, done) = (SlowPages::new(1), AtomicBool::new(false));
        for (page, sleeps) in pages_of.iter().zip([!has_claimed, has_claimed]) {
            page.set(if sleeps { pages.address(0) } else { 0 }).unwrap();
        }
        let rings = follower.rings();
        std::thread::scope(|scope| {
            let program = &program;
            let done = &done;
            scope.spawn(move || {
                let _at_end = Stop(done);
                on_cpu(cpu);
                let mut args = [2, number, 0, 0];
                program.run(&mut args);
                assert_eq!(args[3], 0);
            });
            while !pages.is_touched() && !done.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            assert!(!done.load(Ordering::Acquire), "CPU {cpu}: it did not sleep");
            ring.resize(if number % 2 == 0 { 16 } else { 128 }).unwrap();
            assert_eq!(all(&mut follower), []);
            // The follower waits for a claimed ticket; without a claim it moves on.
            assert_eq!(follower.rings() - rings, u64::from(!has_claimed), "CPU {cpu}");
            pages.serve(|| (!done.load(Ordering::Acquire)).then_some(Duration::ZERO));
        });
        assert_eq!(all(&mut follower), [(2, number)], "CPU {cpu}, claimed {has_claimed}");
        assert_eq!((follower.rings() - rings, follower.lost()), (1, 0), "CPU {cpu}");
    }
}
