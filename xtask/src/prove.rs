//! `cargo xtask prove`: runs every method of proof that is due, and prints one table of their counts. It can be stopped
//! at any time: the next run goes on with the methods that have not passed.

mod code;
mod keys;
mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::checks::{self, Check, Given, Proof};
use crate::counts::Counts;
use crate::need::{Machine, Need};
use crate::skip::{Skip, banner};
use crate::{cmd, privilege, setup};

use record::{Pass, Record};

pub(crate) use keys::{Covers, Sources};
pub(crate) use record::{Since, age, since};

/// How long methods take that can take any time, unless the user says so.
const SECONDS: u32 = 30;
const FUZZ_SECONDS: u32 = 3600;

/// Which methods to run, and for how long.
#[derive(clap::Args)]
#[command(after_help = checks::help("Methods", checks::proofs().into_iter().map(|(check, _)| check)))]
pub(crate) struct Args {
    /// The methods to run. Default: those that are due
    methods: Vec<String>,
    /// Run all methods, due or not
    #[arg(long, conflicts_with = "methods")]
    all: bool,
    /// Show the methods and what each one does
    #[arg(long)]
    list: bool,
    /// Run nothing: print which methods a change of this file would make due
    #[arg(long, value_name = "FILE", conflicts_with = "methods")]
    due_by: Option<String>,
    /// Run nothing: write all passes to proofs/last-proved.md, for a release
    #[arg(long, conflicts_with = "methods")]
    record: bool,
    /// Print one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
    /// How long the stress runs on each of its rings' sets
    #[arg(long, value_name = "N", default_value_t = SECONDS)]
    seconds: u32,
    /// How long `fuzz` runs each of its targets
    #[arg(long, value_name = "N", default_value_t = FUZZ_SECONDS)]
    fuzz_seconds: u32,
}

/// The result of a method, as in the JSON object.
#[derive(Default, Serialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    counts: Counts,
    /// The commit of an earlier pass that still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_at: Option<String>,
    /// A method that did not run must not show zeros as its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    seconds: f32,
}

/// Runs the methods named, or all that are due.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        checks::proofs().iter().for_each(|(check, _)| println!("{:14} {}", check.name, check.help));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &args.due_by {
        print!("{}", due_by(file)?);
        return Ok(ExitCode::SUCCESS);
    }
    if args.record {
        record::publish()?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args.methods)?;
    if chosen.iter().any(|(_, proof)| proof.needs.contains(&Need::Tools)) {
        setup::add_newest_clang();
    }
    let machine = Machine::default();
    let mut rows = Vec::new();
    for (&Check { name, help, .. }, proof) in chosen {
        let key = Sources::load()?.key(&proof.covers)?;
        let record = Record::load()?;
        if let Some(pass) = record.pass(name, &key).filter(|_| args.methods.is_empty() && !args.all) {
            rows.push(Row { name, passed_at: Some(pass.commit.clone()), ..Row::default() });
            continue;
        }
        eprintln!("\n=== {name}: {help} ===");
        let start = Instant::now();
        let row = run_one(
            proof,
            &Given { machine: &machine, seconds: args.seconds, fuzz_seconds: args.fuzz_seconds },
        );
        let row = Row { name, seconds: start.elapsed().as_secs_f32(), ..row };
        if let Some(why) = &row.skipped {
            banner(name, why);
        } else if let Some(why) = &row.error {
            eprintln!("FAILED {name}: {why}");
        } else if args.seconds < SECONDS || args.fuzz_seconds < FUZZ_SECONDS {
            eprintln!("not recorded: the options give it less time than a pass takes");
        } else if row.counts.failures == 0 {
            let sources = Sources::load()?;
            if sources.key(&proof.covers)? == key {
                record::note(name, Pass::now(key, sources.files(&proof.covers)?, &row.counts, row.seconds)?)?;
            } else {
                eprintln!("not recorded: what it covers has changed meanwhile");
            }
        }
        rows.push(row);
    }
    let table = table(&rows);
    if args.json {
        println!("{}", json(&rows)?);
        eprintln!("\n{table}")
    } else {
        println!("\n{table}")
    }
    let failed = rows.iter().any(|row| row.counts.failures > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A method and its name.
type Method = (&'static Check, &'static Proof);

fn chosen(names: &[String]) -> Result<Vec<Method>> {
    let mut methods = checks::proofs();
    cmd::known("method", names, methods.iter().map(|(check, _)| check.name))?;
    methods.retain(|(check, _)| names.is_empty() || names.iter().any(|name| name == check.name));
    Ok(methods)
}

fn run_one(proof: &Proof, given: &Given<'_>) -> Row {
    let skipped = |why| Row { skipped: Some(why), ..Row::default() };
    let failed =
        |why| Row { error: Some(why), counts: Counts { failures: 1, ..Counts::default() }, ..Row::default() };
    if let Some((why, of_bpf)) = given.machine.lacks(proof.needs) {
        let strict = privilege::required() && of_bpf;
        return if strict { failed(format!("required here, but: {why}")) } else { skipped(why) };
    }
    match proof.run(given) {
        Ok(counts) => Row { counts, ..Row::default() },
        Err(error) if error.is::<Skip>() => skipped(error.to_string()),
        Err(error) => failed(format!("{error:#}")),
    }
}

/// The methods that a change of a file makes due, and their usual minutes.
fn due_by(file: &str) -> Result<String> {
    let (sources, record) = (Sources::load()?, Record::load()?);
    ensure!(cmd::root().join(file).exists(), "no file {file}");
    let by_content = ["Cargo.lock", "Cargo.toml"].iter().any(|name| Path::new(file).ends_with(name));
    ensure!(!by_content, "what is due depends on what changes in it: {file}");
    let (mut table, mut all, mut by_comments) = (String::new(), 0, 0);
    for (Check { name, .. }, proof) in checks::proofs() {
        let (is_due, by_comment) = sources.depends(&proof.covers, file)?;
        if is_due {
            let seconds = record.seconds(name).unwrap_or_default();
            (all, by_comments) = (all + seconds, by_comments + if by_comment { seconds } else { 0 });
            let note = if by_comment { "  a comment does, too" } else { "" };
            table += &format!("{name:14}  {:6.1} min{note}\n", f64::from(seconds) / 60.0);
        }
    }
    let hours = |seconds: u32| f64::from(seconds) / 3600.0;
    let total = format!("due: {:.1} hours; by a comment: {:.1} hours\n", hours(all), hours(by_comments));
    Ok(table + &total)
}

fn json(rows: &[Row]) -> Result<String> {
    Ok(serde_json::to_string(&BTreeMap::from([("methods", rows)]))?)
}

fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:14}  {:>6}  {:>14}  {:>9}  {:>8}  {:>7}\n",
        "method", "cases", "explored", "killed", "failures", "seconds"
    );
    for Row { name, counts, passed_at, skipped, error, seconds } in rows {
        let Counts { cases, explored, mutants, killed, failures } = counts;
        let why = skipped.as_ref().or(error.as_ref()).and_then(|why| why.lines().next()).unwrap_or_default();
        let row = if let Some(commit) = passed_at {
            format!("{name:14}  passed on {commit}; what it covers has not changed")
        } else if skipped.is_some() {
            format!("{name:14}  SKIPPED  {why}")
        } else {
            let killed = if *mutants == 0 { String::new() } else { format!("{killed}/{mutants}") };
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

    fn rows() -> [Row; 3] {
        let failed = Counts { failures: 1, ..Counts::default() };
        let counts = Counts { cases: 4, explored: 1_000_000, mutants: 9, killed: 8, ..failed };
        [
            Row { name: "loom", counts, seconds: 61.5, ..Row::default() },
            Row { name: "litmus", skipped: Some("no herd7\nmore".into()), ..Row::default() },
            Row {
                name: "stress",
                error: Some("died".into()),
                counts: failed,
                seconds: 2.0,
                ..Row::default()
            },
        ]
    }

    #[test]
    fn the_table_has_all_numbers_and_why_there_are_none() {
        assert_eq!(
            table(&rows()),
            "method           cases        explored     killed  failures  seconds\n\
             loom                 4         1000000        8/9         1     61.5\n\
             litmus          SKIPPED  no herd7\n\
             stress               0               0                    1      2.0  died\n"
        );
    }

    #[test]
    fn the_object_has_the_keys_that_are_promised() {
        let text = json(&rows()).unwrap();
        let loom = r#"{"methods":[{"name":"loom","cases":4,"explored":1000000,"mutants":9,"killed":8,"failures":1},"#;
        assert!(text.starts_with(loom), "{text}");
        assert!(text.contains(r#""failures":0,"skipped":"no herd7\nmore"}"#), "{text}");
        assert!(text.ends_with(r#""failures":1,"error":"died"}]}"#), "{text}");
    }

    #[test]
    fn unknown_methods_are_named() {
        let error = chosen(&["loom".into(), "lom".into()]).err().unwrap().to_string();
        assert!(error.contains("\"lom\"") && error.contains("zero-syscalls"), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), checks::proofs().len());
    }
}
