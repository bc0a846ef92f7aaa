//! `cargo xtask prove source-mutants`: cargo-mutants changes each function of the library, and a test must fail.
//!
//! A full run takes days of CPU time, so it stops after a while, and the next run continues. A mutant that one set of
//! tests misses goes to the next set.
//!
//! Five sets of tests run on each mutant until one set fails: `unit` (the library's quick tests), `hostile` (its longer
//! tests, and the hostile tests), `loom` (on the files that loom compiles, without `bpf_xchg`), `faults` and `kernel`.
//! A mutant that does not compile is not counted. One that exceeds the time limit counts as killed.
//!
//! `target/source-mutants` has the results: `unit.txt` and the other lists have the mutants that each set missed,
//! `out-unit/last/log` the output of the tests. If the text of a file changes, its results are discarded; changes in
//! its tests at the end of the file do not count.

mod known;
mod lab;
mod sets;

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::known::{Known, Verdict, file_of};
use self::lab::Lab;
use self::sets::TESTS;
use crate::cmd;
use crate::counts::Counts;
use crate::setup::Tools;

/// Limits the mutants to files whose names contain one of these comma-separated strings, for work on those files.
const ONLY: &str = "MAPRING_MUTANTS_OF";
/// Tests mutants for this long; prints the known survivors.
pub(super) fn run(tools: &Tools, time: Duration) -> Result<Counts> {
    let lab = Lab::new(tools)?;
    let mut mutants = lab.mutants()?;
    let mut known = Known::load(&lab.folder, &lab.tree, &mutants)?;
    let only = env::var(ONLY).unwrap_or_default();
    mutants.retain(|mutant| only.split(',').any(|part| file_of(mutant).contains(part)));
    ensure!(!mutants.is_empty(), "no mutants of files with {only:?}");
    let mut time = time;
    for tests in &TESTS {
        let due = mutants.iter().filter(|mutant| known.is_due(mutant, tests));
        let mut files: Vec<_> = due.map(|mutant| file_of(mutant)).collect();
        files.dedup();
        if files.is_empty() || time.is_zero() {
            continue;
        }
        // Tests that already fail would kill every mutant.
        let mut baseline = lab.command("cargo test", tests);
        cmd::run(baseline.args(tests.args.split(' ')).arg("--").args(tests.less))?;
        let start = Instant::now();
        let ended = lab.mutate(&files, tests, &known, time);
        known.collect(tests)?;
        ended?;
        time = time.saturating_sub(start.elapsed());
    }
    Ok(report(&mutants, &known))
}

/// Prints the results for each file's mutants.
fn report(mutants: &[String], known: &Known) -> Counts {
    let mut counts = Counts::default();
    for of_file in mutants.chunk_by(|a, b| file_of(a) == file_of(b)) {
        let with = |verdict| of_file.iter().filter(move |mutant| known.verdict(mutant) == verdict);
        with(Verdict::Survived).for_each(|mutant| println!("SURVIVED {mutant}"));
        let number = |verdict| with(verdict).count() as u64;
        let (killed, survived) = (number(Verdict::Killed), number(Verdict::Survived));
        let (unviable, left) = (number(Verdict::Unviable), number(Verdict::Left));
        let file = file_of(&of_file[0]);
        println!("{file}: {killed} killed, {survived} survived, {unviable} do not compile, {left} are left");
        let (mutants, whole) = (killed + survived, u64::from(left == 0));
        counts += Counts { cases: whole, mutants, killed, failures: survived, left, ..Counts::default() };
    }
    counts
}
