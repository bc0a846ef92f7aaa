//! The guard works in programs of every type: each program that loads without it also loads with it.
#![allow(missing_docs)]

use std::mem::MaybeUninit;

use libbpf_rs::OpenObject;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mapring_kernel_tests::skel::{ContextsNoGuardSkelBuilder, ContextsSkelBuilder};
use mapring_kernel_tests::{fitted, require_bpf};

/// Program types that every tested kernel loads.
const EVERYWHERE: [&str; 4] = ["on_xdp", "on_tc", "on_perf_event", "on_raw_tp"];

fn names<'o, B: SkelBuilder<'o> + Default>(storage: &'o mut MaybeUninit<OpenObject>) -> Vec<String> {
    let mut open = B::default().open(storage).unwrap();
    open.open_object_mut().progs().map(|program| program.name().to_str().unwrap().to_owned()).collect()
}

/// Whether this program of the object loads alone.
fn loads<'o, B: SkelBuilder<'o> + Default>(storage: &'o mut MaybeUninit<OpenObject>, name: &str) -> bool {
    let mut open = B::default().open(storage).unwrap();
    let object = open.open_object_mut();
    fitted(object);
    object.progs_mut().for_each(|mut program| {
        let is_one = program.name() == name;
        program.set_autoload(is_one);
    });
    open.load().is_ok()
}

#[test]
fn the_guard_is_for_every_type_of_program() {
    require_bpf!();
    let all = names::<ContextsSkelBuilder>(&mut MaybeUninit::uninit());
    assert!(all.len() > 25, "{all:?}");
    let mut loaded = Vec::new();
    for name in &all {
        let without = loads::<ContextsNoGuardSkelBuilder>(&mut MaybeUninit::uninit(), name);
        let with = loads::<ContextsSkelBuilder>(&mut MaybeUninit::uninit(), name);
        assert_eq!(with, without, "{name}: whether it loads with the guard, and without");
        loaded.extend(with.then_some(name.as_str()));
    }
    println!("{} of {}: {loaded:?}", loaded.len(), all.len());
    assert!(EVERYWHERE.iter().all(|name| loaded.contains(name)), "{loaded:?}");
}
