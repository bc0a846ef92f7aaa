//! `cargo xtask prove`: runs every method of proof that is due, and prints one table of their counts. It can be stopped
//! at any time: the next run goes on with the methods that have not passed.

mod record;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::checks::{self, Check, Given, Proof};
use crate::counts::Counts;
use crate::need::{Machine, Need, reasons};
use crate::skip::{Skip, banner};
use crate::{privilege, setup};

use record::Pass;
pub(crate) use record::{Since, age, since};

/// Which methods to run, and for how long.
#[derive(clap::Args)]
#[command(after_help = checks::help("Methods", checks::proofs().into_iter().map(|(check, _)| check)))]
pub(crate) struct Args {
    /// The methods to run. Default: those that are due, as proofs/last-proved.md says
    methods: Vec<String>,
    /// Run all methods, due or not
    #[arg(long, conflicts_with = "methods")]
    all: bool,
    /// Show the methods and what each one does
    #[arg(long)]
    list: bool,
    /// Print one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
    /// How long the stress runs on each of its rings' sets, and for how long `source-mutants` tests mutants
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u32,
}

/// The result of a method.
enum Outcome {
    Ran(Counts),
    /// It passed before, and what it covers has not changed.
    Kept(String),
    Skipped(String),
    Failed(String),
}

/// Runs the methods named, or all.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        checks::proofs().iter().for_each(|(check, _)| println!("{:14} {}", check.name, check.help));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args.methods)?;
    if chosen.iter().any(|(_, proof)| proof.needs.contains(&Need::Tools)) {
        setup::add_newest_clang();
    }
    let machine = Machine::default();
    let mut passes = record::load();
    let mut results = Vec::new();
    for (check, proof) in chosen {
        let pass = passes.get(check.name).filter(|pass| pass.is_current(proof));
        if let Some(pass) = pass.filter(|_| args.methods.is_empty() && !args.all) {
            results.push((check.name, Outcome::Kept(pass.commit.clone()), 0.0));
            continue;
        }
        eprintln!("\n=== {}: {} ===", check.name, check.help);
        let start = Instant::now();
        let outcome = run_one(proof, &machine, args.seconds);
        match &outcome {
            Outcome::Ran(counts) if counts.failures > 0 || counts.left > 0 => {}
            Outcome::Ran(_) if !record::is_committed(proof) => {
                eprintln!("not recorded: it covers changes that are not committed");
            }
            Outcome::Ran(counts) => {
                passes.insert(check.name.into(), Pass::now(counts, start.elapsed().as_secs_f32())?);
                record::save(&passes)?;
            }
            Outcome::Kept(_) => {}
            Outcome::Skipped(why) => banner(check.name, why),
            Outcome::Failed(why) => eprintln!("FAILED {}: {why}", check.name),
        }
        results.push((check.name, outcome, start.elapsed().as_secs_f32()));
    }
    if args.json {
        println!("{}", json(&results)?);
    }
    let table = table(&results);
    if args.json {
        eprintln!("\n{table}")
    } else {
        println!("\n{table}")
    }
    let failed = results.iter().any(|(_, outcome, _)| failures(outcome) > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A method and its name.
type Method = (&'static Check, &'static Proof);

fn chosen(names: &[String]) -> Result<Vec<Method>> {
    let mut methods = checks::proofs();
    if let Some(unknown) = names.iter().find(|name| methods.iter().all(|(check, _)| check.name != **name)) {
        let all: Vec<_> = methods.iter().map(|(check, _)| check.name).collect();
        bail!("no method {unknown:?}; there are: {}", all.join(" "));
    }
    methods.retain(|(check, _)| names.is_empty() || names.iter().any(|name| name == check.name));
    Ok(methods)
}

fn run_one(proof: &Proof, machine: &Machine, seconds: u32) -> Outcome {
    let lacking = machine.lacks(proof.needs);
    if !lacking.is_empty() {
        let of_bpf = lacking.iter().any(|(need, _)| matches!(need, Need::Tools | Need::Bpf));
        let why = reasons(&lacking);
        return if privilege::required() && of_bpf {
            Outcome::Failed(format!("required here, but: {why}"))
        } else {
            Outcome::Skipped(why)
        };
    }
    // BPF tools that are not required may still be useful; they are searched for only then.
    let tools = || machine.tools();
    match proof.run(&Given::new(&tools, seconds)) {
        Ok(counts) => Outcome::Ran(counts),
        Err(error) if error.is::<Skip>() => Outcome::Skipped(error.to_string()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn counts(outcome: &Outcome) -> Counts {
    match outcome {
        Outcome::Ran(counts) => *counts,
        Outcome::Kept(_) | Outcome::Skipped(_) => Counts::default(),
        Outcome::Failed(_) => Counts { failures: 1, ..Counts::default() },
    }
}

fn failures(outcome: &Outcome) -> u64 {
    counts(outcome).failures
}

#[derive(Serialize)]
struct Report<'a> {
    methods: Vec<Row<'a>>,
}

/// A method in the JSON object.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(flatten)]
    counts: Counts,
    /// The commit of an earlier pass that still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_at: Option<&'a str>,
    /// A method that did not run must not show zeros as its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn json(results: &[(&str, Outcome, f32)]) -> Result<String> {
    let rows = results.iter().map(|(name, outcome, _)| {
        let mut row = Row { name, counts: counts(outcome), passed_at: None, skipped: None, error: None };
        match outcome {
            Outcome::Ran(_) => {}
            Outcome::Kept(commit) => row.passed_at = Some(commit),
            Outcome::Skipped(why) => row.skipped = Some(why),
            Outcome::Failed(why) => row.error = Some(why),
        }
        row
    });
    Ok(serde_json::to_string(&Report { methods: rows.collect() })?)
}

fn table(results: &[(&str, Outcome, f32)]) -> String {
    let mut table = format!(
        "{:14}  {:>6}  {:>14}  {:>9}  {:>8}  {:>7}\n",
        "method", "cases", "explored", "killed", "failures", "seconds"
    );
    for (name, outcome, seconds) in results {
        let Counts { cases, explored, mutants, killed, failures, left } = counts(outcome);
        let killed = if mutants == 0 { String::new() } else { format!("{killed}/{mutants}") };
        let why = match outcome {
            Outcome::Ran(_) if left > 0 => format!("{left} are left"),
            Outcome::Ran(_) | Outcome::Kept(_) => String::new(),
            Outcome::Skipped(why) | Outcome::Failed(why) => why.lines().next().unwrap_or_default().to_owned(),
        };
        let row = match outcome {
            Outcome::Kept(commit) => format!("{name:14}  passed on {commit}; what it covers has not changed"),
            Outcome::Skipped(_) => format!("{name:14}  SKIPPED  {why}"),
            Outcome::Ran(_) | Outcome::Failed(_) => {
                format!(
                    "{name:14}  {cases:6}  {explored:14}  {killed:>9}  {failures:8}  {seconds:7.1}  {why}"
                )
            }
        };
        table += row.trim_end();
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> [(&'static str, Outcome, f32); 3] {
        let counts =
            Counts { cases: 4, explored: 1_000_000, mutants: 9, killed: 8, failures: 1, ..Counts::default() };
        [
            ("loom", Outcome::Ran(counts), 61.5),
            ("litmus", Outcome::Skipped("no herd7\nmore".into()), 0.0),
            ("stress", Outcome::Failed("died".into()), 2.0),
        ]
    }

    #[test]
    fn the_table_has_all_numbers_and_why_there_are_none() {
        assert_eq!(
            table(&results()),
            "method           cases        explored     killed  failures  seconds\n\
             loom                 4         1000000        8/9         1     61.5\n\
             litmus          SKIPPED  no herd7\n\
             stress               0               0                    1      2.0  died\n"
        );
    }

    #[test]
    fn the_object_has_the_keys_that_are_promised() {
        let said = json(&results()).unwrap();
        let loom = r#"{"methods":[{"name":"loom","cases":4,"explored":1000000,"mutants":9,"killed":8,"failures":1},"#;
        assert!(said.starts_with(loom), "{said}");
        assert!(said.contains(r#""failures":0,"skipped":"no herd7\nmore"}"#), "{said}");
        assert!(said.ends_with(r#""failures":1,"error":"died"}]}"#), "{said}");
    }

    #[test]
    fn unknown_methods_are_named() {
        let error = chosen(&["loom".into(), "lom".into()]).err().unwrap().to_string();
        assert!(error.contains("\"lom\"") && error.contains("zero-syscalls"), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), checks::proofs().len());
    }
}
