//! Rings of 8 and 16 slots, more than a claim tries: stuck slots in a row, heads that are behind, programs that
//! interrupt each other there; and mutants that weaken this code, which must fail.
#![cfg(not(loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mapring_bpf_loom::models::Code;
use mapring_bpf_loom::object::variants;
use mapring_bpf_loom::stuck::{mutants, nest, walk};

const PROGRAMS: [&str; 4] =
    ["push_narrow8", "push_narrow16", "guarded push_narrow8", "guarded push_narrow16"];

/// Each distinct code of each program.
fn everywhere(mut model: impl FnMut(&str, &'static str, Code)) {
    for program in PROGRAMS {
        for variant in variants(&[program]) {
            let ring = program.split_once('_').unwrap().1;
            let code = Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
            model(&format!("{program} of {}", variant.names.join(" ")), ring, code);
        }
    }
}

#[test]
fn stuck_slots_in_a_row_are_stepped_over() {
    let mut executions = 0;
    everywhere(|name, ring, code| {
        walk(ring, &code);
        let (runs, drops) = nest(ring, &code);
        println!("{name}: {runs} ways to nest, {drops} drops");
        assert!(drops > 0, "never dropped anything");
        executions += runs;
    });
    println!("explored {executions}");
}

#[test]
fn a_program_that_is_stopped_by_them_fails() {
    let (mut killed, mut survived) = (0, Vec::new());
    everywhere(|name, ring, code| {
        for mutant in mutants(ring, &code) {
            let code = Code { program: Arc::new(mutant.program), order: mutant.order };
            let models = AssertUnwindSafe(|| {
                walk(ring, &code);
                nest(ring, &code)
            });
            let outcome = catch_unwind(models);
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
