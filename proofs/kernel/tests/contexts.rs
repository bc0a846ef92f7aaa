//! The guard works in programs of every type: each program that loads without it also loads with it.

use mapring_kernel_tests::prelude::*;

/// Program types that every tested kernel loads.
const EVERYWHERE: [&str; 4] = ["on_xdp", "on_tc", "on_perf_event", "on_raw_tp"];

/// Whether this program of the object loads alone.
fn loads(object: &Compiled, name: &str) -> bool {
    let mut open = object.open();
    fitted(&mut open);
    open.progs_mut().for_each(|mut program| {
        let is_one = program.name() == name;
        program.set_autoload(is_one);
    });
    open.load().is_ok()
}

#[test]
fn the_guard_is_for_every_type_of_program() {
    require_bpf!();
    let open = bpf::CONTEXTS.open();
    let all: Vec<_> = open.progs().map(|program| program.name().to_str().unwrap().to_owned()).collect();
    assert!(all.len() > 25, "{all:?}");
    let mut loaded = Vec::new();
    for name in &all {
        let without = loads(&bpf::CONTEXTS_NO_GUARD, name);
        let with = loads(&bpf::CONTEXTS, name);
        assert_eq!(with, without, "{name}: whether it loads with the guard, and without");
        loaded.extend(with.then_some(name.as_str()));
    }
    println!("{} of {}: {loaded:?}", loaded.len(), all.len());
    assert!(EVERYWHERE.iter().all(|name| loaded.contains(name)), "{loaded:?}");
}
