//! Gauges and top keys as compiled from the headers: programs that preempt each other at every access, in every order,
//! and production readers. No value is lost or counted twice.
#![cfg(not(loom))]

use std::sync::Arc;

use mapring_bpf_loom::models::Code;
use mapring_bpf_loom::object::variants;
use mapring_bpf_loom::{gauge, top};

/// Each distinct code of a program.
fn everywhere(program: &'static str, mut model: impl FnMut(&str, &Code)) {
    for variant in variants(&[program]) {
        let code = Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
        model(&format!("{program} of {}", variant.names.join(" ")), &code);
    }
}

#[test]
fn gauges_have_all_extremes() {
    everywhere("set_gauge", |name, code| {
        let mut found = gauge::Found::default();
        found.explore(code);
        println!("{name}: explored {} ways, {} values were late", found.runs, found.late);
        assert!(found.late > 0, "none was late");
    });
}

#[test]
fn top_keys_have_all_amounts() {
    everywhere("add_top", |name, code| {
        let mut found = top::Found::default();
        found.explore(code);
        println!("{name}: explored {} ways, {} amounts to no key", found.runs, found.other);
        assert!(found.other > 0, "none found another in the bucket");
    });
}
