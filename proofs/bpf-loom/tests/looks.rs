//! Programs that read concurrently written values: their results in every order of the writes; and mutants with other
//! decisions, which must fail.
#![cfg(not(loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mapring_bpf_loom::looks::{Found, explore, mutants};
use mapring_bpf_loom::models::Code;
use mapring_bpf_loom::object::variants;

const PROGRAMS: [&str; 4] = ["use_percpu_cell", "use_percpu_counters", "read_latch", "read_global_latch"];

/// Each distinct code of each program.
fn everywhere(mut model: impl FnMut(&str, &'static str, &Code)) {
    for program in PROGRAMS {
        for variant in variants(&[program]) {
            let map = program.split_once('_').unwrap().1;
            let code = Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
            model(&format!("{program} of {}", variant.names.join(" ")), map, &code);
        }
    }
}

#[test]
fn what_is_read_was_there_meanwhile() {
    let mut executions = 0;
    everywhere(|name, map, code| {
        let Found { runs, busy, again, .. } = explore(map, code);
        println!("{name}: {runs} ways, {busy} of them busy, {again} looked again");
        assert!(map.ends_with("counters") || busy > 0 && again > 0, "nothing was in its way");
        executions += runs;
    });
    println!("explored {executions}");
}

#[test]
fn a_program_that_decides_otherwise_fails() {
    let (mut killed, mut survived) = (0, Vec::new());
    everywhere(|name, map, code| {
        for mutant in mutants(code, &explore(map, code)) {
            let code = Code { program: Arc::new(mutant.program), order: mutant.order };
            let outcome = catch_unwind(AssertUnwindSafe(|| explore(map, &code)));
            let of = format!("{name}: {}", mutant.name);
            println!("{of}: {}", if outcome.is_err() { "killed" } else { "SURVIVED" });
            match outcome {
                Err(_) => killed += 1,
                Ok(_) => survived.push(of),
            }
        }
    });
    assert!(survived.is_empty(), "{survived:#?}");
    println!("mutants {killed}, killed {killed}");
}
