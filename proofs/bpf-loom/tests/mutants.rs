//! Every mutant of the compiled ring, cell and counters must fail a model, except those listed as equivalent.
//! `MAPRING_PROGRAMS=keeping` runs only the mutants of programs whose names contain this.
#![cfg(loom)]

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mapring_bpf_loom::models::{Code, MODELS};
use mapring_bpf_loom::mutate::{Mutant, mutants, of_mark, ring_sites, ring_writes};
use mapring_bpf_loom::object::{Variant, variants};
use mapring_bpf_loom::{check, commands, keeping, region, resizable, tails, waking};

/// The child's environment variable with the name of the mutant.
const VARIABLE: &str = "MAPRING_MUTANT";

const PROGRAMS: &[&str] = &[
    "push_narrow2",
    "push_wide1",
    "guarded push_narrow2",
    "guarded push_wide1",
    "x86 push_narrow2",
    "x86 push_wide1",
    "set_cell",
    "update_cell",
    ALONE,
    "add_counters",
    "add_histogram",
    "read_latch",
    "read_global_latch",
    "set_global_cell",
    "update_global_cell",
    "use_percpu_cell",
    "use_percpu_counters",
    MOVING,
    DRAIN,
    WAKING,
    WAKING_TAILED,
    GUARDED_WAKING_TAILED,
    KEEPING,
    GUARDED_KEEPING,
    KEPT,
    GUARDED_KEPT,
];
/// The model whose writer always finds its cell free, and so never counts.
const ALONE: &str = "alone_cell";
/// The programs with their own mutants.
const MOVING: &str = "push_moving";
const DRAIN: &str = "drain_commands";
const WAKING: &str = "push_waking4";
const WAKING_TAILED: &str = "push_tailed4";
const GUARDED_WAKING_TAILED: &str = "guarded push_tailed4";
const KEEPING: &str = "push_keeping2";
const GUARDED_KEEPING: &str = "guarded push_keeping2";
const KEPT: &str = "push_kept4";
const GUARDED_KEPT: &str = "guarded push_kept4";

fn mutants_of(program: &'static str, variant: &Variant) -> Vec<Mutant> {
    let map = program.split_once('_').unwrap().1;
    let found = Arc::new(Mutex::new(Vec::new()));
    let found_here = Arc::clone(&found);
    let code = Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
    // loom's memory exists only in a model.
    check(None, move || {
        let own = match program {
            MOVING => Some(resizable::mutants(map, &code)),
            DRAIN => Some(commands::mutants(map, &code)),
            WAKING | WAKING_TAILED => Some(waking::mutants(map, &code)),
            GUARDED_WAKING_TAILED => Some(waking::of_barrier(map, &code)),
            KEEPING | GUARDED_KEEPING => Some(keeping::mutants(map, &code)),
            KEPT | GUARDED_KEPT => Some(tails::keep::mutants("kept4", &code, true)),
            _ => None,
        };
        if let Some(own) = own {
            *found_here.lock().unwrap() = own;
            return;
        }
        let sites = if program.contains("push") { ring_sites(map, &code) } else { region::sites(map, &code) };
        let beside_guarded = program.starts_with("x86");
        let mut mutants = if beside_guarded { of_mark(map, &code, &sites) } else { mutants(&code, &sites) };
        mutants.retain(|mutant| program != ALONE || !mutant.name.contains(": addition "));
        *found_here.lock().unwrap() = mutants;
    });
    Arc::into_inner(found).unwrap().into_inner().unwrap()
}

/// Runs the models with one mutant. The other test starts this in its own process: after a failed model, no state can
/// be reused.
#[test]
#[ignore = "one mutant, for the other test"]
fn one_mutant() {
    let which = std::env::var(VARIABLE).expect("the other test says which");
    let mut which = which.split('/');
    let program = which.next().unwrap();
    let program = PROGRAMS.iter().copied().find(|known| *known == program).unwrap();
    let [variant, mutant] = [(); 2].map(|()| which.next().unwrap().parse::<usize>().unwrap());
    let mutant = &mutants_of(program, &variants(&[program])[variant])[mutant];
    println!("mutant: {}", mutant.name);
    for model in MODELS.iter().filter(|model| model.program == program) {
        println!("model: {}", model.name);
        model.run(Code { program: Arc::new(mutant.program.clone()), order: mutant.order });
    }
}

#[test]
fn every_mutant_fails_a_model() {
    let mut all = Vec::new();
    let only = std::env::var("MAPRING_PROGRAMS").unwrap_or_default();
    for program in PROGRAMS.iter().copied().filter(|program| program.contains(&only)) {
        let variants = variants(&[program]);
        // The oldest compiler and the newest one.
        let major = |name: &str| name.split('-').nth(1).unwrap().to_owned();
        let ends = [variants.first(), variants.last()].map(|variant| major(variant.unwrap().names[0]));
        for (v, variant) in variants.iter().enumerate() {
            if !variant.names.iter().any(|name| ends.contains(&major(name))) {
                continue;
            }
            let code = Code { program: Arc::new(variant.programs[0].clone()), order: variant.order };
            let own = [
                MOVING,
                WAKING,
                WAKING_TAILED,
                GUARDED_WAKING_TAILED,
                KEEPING,
                GUARDED_KEEPING,
                KEPT,
                GUARDED_KEPT,
            ];
            let of_ring = program.contains("push") && !own.contains(&program);
            let writes = of_ring.then(|| ring_writes(program.split_once('_').unwrap().1, &code));
            for (m, mut mutant) in mutants_of(program, variant).into_iter().enumerate() {
                let never = |at| writes.as_ref().is_some_and(|writes| !writes.contains(&at));
                if mutant.of_write.is_some_and(never) {
                    mutant.equivalent = Some("its slot is never free, with so few interrupts");
                }
                // Harmless changes take longest to check, and are the same with all compilers.
                if mutant.equivalent.is_some() && v > 1 {
                    continue;
                }
                all.push((
                    format!("{program}/{v}/{m}"),
                    format!("{program} of {}", variant.names.join(" ")),
                    mutant,
                ));
            }
        }
    }
    let queue = Mutex::new(all.into_iter());
    let wrong = Mutex::new(Vec::new());
    let counts = Mutex::new((0, 0));
    std::thread::scope(|scope| {
        let work = || {
            while let Some((which, of, mutant)) = { queue.lock().unwrap().next() } {
                let start = Instant::now();
                let mut child = Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", "one_mutant", "--ignored", "--nocapture"]).env(VARIABLE, &which);
                let output = child.env("RUST_BACKTRACE", "0").output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains("running 1 test"), "{output:?}");
                let model = text.lines().filter_map(|line| line.strip_prefix("model: ")).next_back();
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                let why = errors
                    .lines()
                    .skip_while(|line| !line.contains("panicked at"))
                    .nth(1)
                    .unwrap_or_default();
                let killed = !output.status.success();
                let verdict = match (killed, mutant.equivalent) {
                    (true, None) => format!("killed by {}: {why:.60}", model.unwrap_or_default()),
                    (false, Some(why)) => format!("equivalent: {why}"),
                    (true, Some(_)) => "KILLED, though listed as equivalent".into(),
                    (false, None) => "SURVIVED".into(),
                };
                println!("{of}: {}: {verdict} ({:.1} s)", mutant.name, start.elapsed().as_secs_f32());
                let mut counts = counts.lock().unwrap();
                if killed == mutant.equivalent.is_some() {
                    wrong.lock().unwrap().push(format!("{of}: {}: {verdict}", mutant.name));
                } else if killed {
                    counts.0 += 1;
                } else {
                    counts.1 += 1;
                }
            }
        };
        (0..2).for_each(|_| _ = scope.spawn(work));
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (killed, equivalent) = counts.into_inner().unwrap();
    println!("mutants {killed}, killed {killed}, and {equivalent} equivalent");
    assert!(killed > 0);
}
