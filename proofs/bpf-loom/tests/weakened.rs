//! Mutants of programs that write tails, set gauges and count top keys: each must fail the tests of one machine that
//! keeps the order of accesses (`tails.rs`, `preempted.rs`), except for those that change nothing.
#![cfg(not(loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mapring_bpf_loom::models::Code;
use mapring_bpf_loom::mutate::Mutant;
use mapring_bpf_loom::object::{Variant, variants};
use mapring_bpf_loom::{gauge, tails, top};

/// Each distinct code of a program, with the names of its objects.
fn codes(program: &str) -> Vec<(String, Code)> {
    let code =
        |variant: &Variant| Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
    variants(&[program]).iter().map(|variant| (variant.names.join(" "), code(variant))).collect()
}

/// Runs a program's tests, which return its mutants, on each distinct code of it, and then on each of the mutants.
fn expect_killed(program: &str, explore: impl Fn(&Code) -> Vec<Mutant>) {
    let (mut killed, mut equivalent, mut wrong) = (0, 0, Vec::new());
    for (names, code) in codes(program) {
        for mutant in explore(&code) {
            let code = Code { program: Arc::new(mutant.program), order: mutant.order };
            let fails = catch_unwind(AssertUnwindSafe(|| drop(explore(&code)))).is_err();
            let verdict = match (fails, mutant.equivalent) {
                (true, None) => "killed".into(),
                (false, Some(why)) => format!("equivalent: {why}"),
                (true, Some(_)) => "KILLED, though listed as equivalent".into(),
                (false, None) => "SURVIVED".to_owned(),
            };
            let line = format!("{program} of {}: {}: {verdict}", names, mutant.name);
            println!("{line}");
            killed += u64::from(fails);
            equivalent += u64::from(mutant.equivalent.is_some());
            if fails == mutant.equivalent.is_some() {
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(killed > 0);
    println!("mutants {killed}, killed {killed}, and {equivalent} equivalent");
}

/// Programs interrupt those of their own code, and those with the guard or without.
#[test]
fn a_program_that_writes_tails_otherwise_fails() {
    let programs = ["push_tails16", "guarded push_tails16"];
    let all: Vec<_> = programs.into_iter().flat_map(codes).map(|(_, code)| code).collect();
    for program in programs {
        expect_killed(program, |code| {
            let mut found = tails::Found::roomy();
            found.mutate_only(code);
            found.fast(code);
            found.refused(code);
            found.steps_over(code);
            found.crowded(code);
            found.steps_once(code);
            found.steps_up_to(code);
            found.stepped_over(code);
            found.overtaken(code);
            found.beside(code);
            found.given_back(code);
            found.alike(code);
            found.changes(code);
            found.entries(code);
            let before = found.dropped;
            found.with_others(code, &all, tails::Found::interrupts);
            assert_eq!(found.dropped, before, "there is room for all");
            found.mutants(code)
        });
    }
}

/// Programs of a ring that keeps its oldest records, with a required reader.
#[test]
fn a_program_that_keeps_tails_otherwise_fails() {
    for program in ["push_kept16", "guarded push_kept16"] {
        expect_killed(program, |code| {
            tails::Found::default().lags(code);
            tails::Found::default().keeps(code, code);
            tails::keep::mutants("kept16", code, false)
        });
    }
}

#[test]
fn a_program_that_sets_gauges_otherwise_fails() {
    expect_killed("set_gauge", |code| {
        let mut found = gauge::Found::default();
        found.explore(code);
        found.mutants(code)
    });
}

#[test]
fn a_program_that_counts_top_keys_otherwise_fails() {
    expect_killed("add_top", |code| {
        let mut found = top::Found::default();
        found.explore(code);
        found.mutants(code)
    });
}
