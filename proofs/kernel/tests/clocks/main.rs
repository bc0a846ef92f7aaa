//! The clocks of programs: their stamps become wall time and back within the stated error, also in a time namespace;
//! merged readers go on when their clock jumps.

mod changes;

use std::time::SystemTime;

use mapring::time::{Basis, Clock, WallClock};
use mapring_kernel_tests::prelude::*;

const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");
const CLOCKS: [(Clock, usize); 2] = [(Clock::Monotonic, 0), (Clock::Boottime, 1)];

#[test]
fn stamps_become_wall_time_and_back() {
    require_bpf!();
    const ROUNDS: usize = 2000;
    let object = &bpf::CLOCKS.load_only(unfitted);
    let stamp = Runner::new(object, "stamp");
    let mut rounds = 0;
    for (clock, at) in CLOCKS {
        let mut wall = WallClock::new(clock).unwrap();
        for _ in 0..ROUNDS {
            let (mut stamps, before) = ([0; 2], SystemTime::now());
            stamp.run(&mut stamps);
            let after = SystemTime::now();
            let ahead = wall.to_wall(stamps[at]);
            if wall.update().is_some() {
                continue; // somebody set the wall clock: then nothing is known about `before` and `after`
            }
            rounds += 1;
            let time = wall.to_wall(stamps[at]);
            // Before the update nothing is known about times after the last one.
            assert_eq!((ahead.basis, time.basis), (Basis::After, Basis::Compared));
            let (value, error) = (time.value, time.error);
            assert!(value + error >= before && value - error <= after, "{before:?} {time:?} {after:?}");

            let (from, to) = (wall.to_clock(before), wall.to_clock(after));
            let [low, high] = [from, to].map(|at| u64::try_from(at.error.as_nanos()).unwrap());
            assert!((from.value - low..=to.value + high).contains(&stamps[at]), "{from:?} {stamps:?} {to:?}");
        }
        println!("{clock:?}: {:?}", wall.to_wall(clock.now()).error);
    }
    assert!(rounds > ROUNDS, "the wall clock was set all the time");
    println!("explored {rounds} stamps");
}

/// The offset of each clock, and the clock before, in and after a program.
fn parsed(output: &str) -> Vec<[i64; 4]> {
    let number = |word: &str| word.parse::<i64>().unwrap();
    output.lines().map(|line| line.split(' ').map(number).collect::<Vec<_>>().try_into().unwrap()).collect()
}

fn has_namespaces(test: &str) -> bool {
    let has = Path::new("/proc/self/ns/time").exists();
    if !has {
        skipped(test, "this kernel has no time namespaces");
    }
    has
}

/// A merged reader of another clock than the usual one, which jumps: `src/jumps.rs`.
#[test]
fn merged_readers_of_a_clock_that_jumps() {
    require_bpf!();
    if has_namespaces("merged_readers_of_a_clock_that_jumps") {
        child(CHILD, &["jumps"]);
    }
}

#[test]
fn programs_do_not_know_time_namespaces() {
    require_bpf!();
    if !has_namespaces("programs_do_not_know_time_namespaces") {
        return;
    }
    let offsets = "monotonic 86400 7\nboottime 172800 999999999\n";
    let outside = parsed(&child(CHILD, &["clocks"]));
    let inside = parsed(&child(CHILD, &["unshared", offsets, "clocks"]));
    assert_eq!(
        inside.iter().map(|line| line[0]).collect::<Vec<_>>(),
        [86_400_000_000_007, 172_800_999_999_999]
    );
    for line in outside.iter().chain(&inside) {
        let [_, before, stamp, after] = *line;
        assert!((before..=after).contains(&stamp), "{outside:?} {inside:?}");
    }
    // A process that is not in the namespace of its children can't find out how far its clocks are ahead.
    let output = child(CHILD, &["unshared", offsets]);
    assert!(output.starts_with(&format!("Err(({:?}, ", ErrorKind::System)), "{output}");
    assert!(
        output.contains("/proc/self: this process is not in the time namespace of its children"),
        "{output}"
    );
}
