//! Death at every store: a writer in its own process is killed after each single change of shared memory. Readers and
//! the next writer then find the state that the guarantees promise.
#![allow(missing_docs)]

mod commands;
mod preamble;
mod ring;
mod tails;
mod values;
mod witness;

use std::os::fd::OwnedFd;
use std::process::Stdio;

use mapring::Region;
use mapring_hostile_tests::{Death, Memory, kill_after, run};

const VICTIM: &str = env!("CARGO_BIN_EXE_hostile-tests-victim");

/// Runs a victim that does `args` to `region`, and kills it after `stores` stores.
fn kill(region: &Region, stores: usize, args: &[&str]) -> Death {
    let memory = Memory::of(region);
    kill_after(stores, VICTIM, args, Stdio::from(memory.fd()), |_| memory.words())
}

/// Runs the next writer, which does `args` to `region`, in its own process.
fn next(region: &Region, args: &[&str]) -> String {
    let fd: OwnedFd = Memory::of(region).fd();
    run(VICTIM, args, fd)
}

/// Calls `scene` with 0, 1, 2, … stores until it reports that its victim finished before it was killed. The victim must
/// have had `expected` states to die in.
fn at_every_store(name: &str, expected: usize, mut scene: impl FnMut(usize) -> Death) {
    for stores in 0.. {
        let death = scene(stores);
        if death.finished {
            assert_eq!((death.stores, stores), (expected, expected + 1), "{name}");
            println!("{name}: killed after each of 0 to {expected} stores");
            return;
        }
        assert_eq!(death.stores, stores, "{name}");
    }
}
