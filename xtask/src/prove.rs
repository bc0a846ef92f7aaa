//! `cargo xtask prove`: every method of proof there is, one table of what each one looked at.

mod counts;
mod methods;
mod nightly;
mod source_mutants;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

pub(crate) use counts::Counts;
use methods::{METHODS, Method};
pub(crate) use nightly::ensure_components;

use crate::steps::{Need, Skip};
use crate::test::Machine;
use crate::{privilege, setup};

/// Which methods to run, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The methods to run; all, if none is named
    methods: Vec<String>,
    /// Show the methods and what each one does
    #[arg(long)]
    list: bool,
    /// Print one JSON object on stdout, and all the rest on stderr
    #[arg(long)]
    json: bool,
    /// How long the stress runs on each of its rings' sets, and for how long `source-mutants` tests mutants
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u32,
}

/// What came of a method.
enum Outcome {
    Ran(Counts),
    Skipped(String),
    Failed(String),
}

/// Runs the methods named, or all.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        METHODS.iter().for_each(|method| println!("{:14} {}", method.name, method.what));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args.methods)?;
    if chosen.iter().any(|method| method.needs.contains(&Need::Tools)) {
        setup::add_newest_clang();
    }
    let machine = Machine::default();
    let mut results = Vec::new();
    for method in chosen {
        eprintln!("\n=== {}: {} ===", method.name, method.what);
        let start = Instant::now();
        let outcome = run_one(method, &machine, args.seconds);
        match &outcome {
            Outcome::Ran(_) => {}
            Outcome::Skipped(why) => crate::test::banner(method.name, why),
            Outcome::Failed(why) => eprintln!("FAILED {}: {why}", method.name),
        }
        results.push((method.name, outcome, start.elapsed().as_secs_f32()));
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

fn chosen(names: &[String]) -> Result<Vec<&'static Method>> {
    if let Some(unknown) = names.iter().find(|name| METHODS.iter().all(|method| method.name != **name)) {
        let all: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        bail!("no method {unknown:?}; there are: {}", all.join(" "));
    }
    let named = |method: &&Method| names.is_empty() || names.iter().any(|name| name == method.name);
    Ok(METHODS.iter().filter(named).collect())
}

fn run_one(method: &Method, machine: &Machine, seconds: u32) -> Outcome {
    let lacking: Vec<_> =
        method.needs.iter().filter_map(|&need| Some((need, machine.lacks(need)?))).collect();
    if !lacking.is_empty() {
        let of_bpf = lacking.iter().any(|(need, _)| matches!(need, Need::Tools | Need::Bpf));
        let why: Vec<_> = lacking.into_iter().map(|(_, why)| why).collect();
        return if privilege::required() && of_bpf {
            Outcome::Failed(format!("required here, but: {}", why.join("\n")))
        } else {
            Outcome::Skipped(why.join("\n"))
        };
    }
    // Where BPF tools are no need they may be of use; then they are looked for.
    let tools = || machine.tools().as_ref().ok();
    match (method.run)(&methods::Given { tools: &tools, seconds }) {
        Ok(counts) => Outcome::Ran(counts),
        Err(error) if error.is::<Skip>() => Outcome::Skipped(error.to_string()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn counts(outcome: &Outcome) -> Counts {
    match outcome {
        Outcome::Ran(counts) => *counts,
        Outcome::Skipped(_) => Counts::default(),
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
    /// Zeros of a method that did not run must not look like a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn json(results: &[(&str, Outcome, f32)]) -> Result<String> {
    let rows = results.iter().map(|(name, outcome, _)| {
        let (skipped, error) = match outcome {
            Outcome::Ran(_) => (None, None),
            Outcome::Skipped(why) => (Some(why.as_str()), None),
            Outcome::Failed(why) => (None, Some(why.as_str())),
        };
        Row { name, counts: counts(outcome), skipped, error }
    });
    Ok(serde_json::to_string(&Report { methods: rows.collect() })?)
}

fn table(results: &[(&str, Outcome, f32)]) -> String {
    let mut table = format!(
        "{:14}  {:>6}  {:>14}  {:>9}  {:>8}  {:>7}\n",
        "method", "cases", "explored", "killed", "failures", "seconds"
    );
    for (name, outcome, seconds) in results {
        let Counts { cases, explored, mutants, killed, failures } = counts(outcome);
        let killed = if mutants == 0 { String::new() } else { format!("{killed}/{mutants}") };
        let why = match outcome {
            Outcome::Ran(_) => "",
            Outcome::Skipped(why) | Outcome::Failed(why) => why.lines().next().unwrap_or_default(),
        };
        let row = if let Outcome::Skipped(_) = outcome {
            format!("{name:14}  SKIPPED  {why}")
        } else {
            format!("{name:14}  {cases:6}  {explored:14}  {killed:>9}  {failures:8}  {seconds:7.1}  {why}")
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
        let counts = Counts { cases: 4, explored: 1_000_000, mutants: 9, killed: 8, failures: 1 };
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
        assert_eq!(chosen(&[]).unwrap().len(), METHODS.len());
    }
}
