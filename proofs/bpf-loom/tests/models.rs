//! The compiled programs against the production readers, for every distinct code of the [objects](Object::all).
//! `MAPRING_PROGRAMS=keeping` runs only the models of programs whose names contain this.

use std::sync::{Arc, Mutex};
use std::time::Instant;

#[cfg(loom)]
use mapring_bpf_loom::models::Model;
use mapring_bpf_loom::models::{Code, MODELS};
use mapring_bpf_loom::object::{Object, variants};

#[test]
fn every_model_holds_for_every_object() {
    let only = std::env::var("MAPRING_PROGRAMS").unwrap_or_default();
    let objects: Vec<_> = Object::all().collect();
    let there = |program: &str| objects.iter().any(|object| object.has(program));
    let models = MODELS.iter().filter(|model| model.program.contains(&only) && there(model.program));
    let all = models.flat_map(|model| variants(&[model.program]).into_iter().map(move |v| (model, v)));
    let queue = Mutex::new(all);
    let (cases, executions) = (Mutex::new(0), Mutex::new(0));
    let work = || {
        while let Some((model, variant)) = { queue.lock().unwrap().next() } {
            let start = Instant::now();
            let program = Arc::new(variant.programs[0].clone());
            let runs = model.check(Code { program, order: variant.order });
            let (seconds, names) = (start.elapsed().as_secs_f32(), variant.names.join(" "));
            println!("{} ({}): {runs} executions, {seconds:.1} s, {names}", model.name, model.program);
            *cases.lock().unwrap() += 1;
            *executions.lock().unwrap() += runs;
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| _ = scope.spawn(work)));
    println!("models: cases {} explored {}", cases.into_inner().unwrap(), executions.into_inner().unwrap());
}

/// Without the guard: if this passed, the models above would prove nothing.
#[test]
#[cfg(loom)]
fn guarded_claims_fail_on_several_cpus() {
    let variant = variants(&["guarded push_narrow2"]).remove(0);
    let two_writers = |model: &&Model| model.name == "two writers" && model.program == "push_narrow2";
    let model = MODELS.iter().find(two_writers).unwrap();
    let code = Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
    let outcome = std::panic::catch_unwind(|| model.run(code));
    assert!(outcome.is_err(), "two writers of one slot, and nobody noticed");
}
