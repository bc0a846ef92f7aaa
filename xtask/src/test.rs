//! `cargo xtask test`: runs the steps, continues after a failure, and ends with a table of all steps and their count.

use std::fmt;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::checks::{self, Part, Test, Work};
use crate::need::{Machine, Need, reasons};
use crate::privilege;
use crate::skip::{Skip, banner};

/// Which steps to run, and how.
#[derive(clap::Args)]
#[command(after_help = checks::help("Steps", checks::tests().map(|(check, _)| check)))]
pub(crate) struct Args {
    /// The steps to run completely. Default: the quick part of all steps
    steps: Vec<String>,
    /// Run all steps completely
    #[arg(long, conflicts_with = "steps")]
    all: bool,
    /// Run the steps N times, and stop at the first failure, to find tests that sometimes fail
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// List the steps, their needs and their commands
    #[arg(long)]
    list: bool,
    /// Stop at the first failure
    #[arg(long)]
    fail_fast: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        })
    }
}

/// A step's row in the table.
struct Row {
    name: &'static str,
    outcome: Outcome,
    seconds: f32,
    /// How often it ran; the outcome is the last one.
    rounds: u32,
}

/// Runs the steps named, or the quick part, or all.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(args)?;
    let machine = Machine::default();
    let rows = rounds(&chosen, args, |part| run_part(part, &machine, privilege::required()));
    println!("\n{}", table(&rows, args.repeat));
    if args.steps.is_empty() && !args.all {
        println!("{}\n", left_out());
    }
    println!("{}", counts(&rows));
    let failed = rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs the parts as often as requested. When they are repeated, the first failure ends the run.
fn rounds(chosen: &[(&'static str, &Part)], args: &Args, mut run: impl FnMut(&Part) -> Outcome) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for round in 1..=args.repeat {
        for &(name, part) in chosen {
            let of =
                if args.repeat == 1 { String::new() } else { format!(" (round {round} of {})", args.repeat) };
            println!("\n=== {name}{of} ===");
            let start = Instant::now();
            let outcome = run(part);
            match &outcome {
                Outcome::Ok => {}
                Outcome::Failed(why) => println!("FAILED {name}: {why}"),
                Outcome::Skipped(why) => banner(name, why),
            }
            let seconds = start.elapsed().as_secs_f32();
            let failed = matches!(outcome, Outcome::Failed(_));
            match rows.iter_mut().find(|row| row.name == name) {
                Some(row) => {
                    *row = Row { name, outcome, seconds: row.seconds + seconds, rounds: row.rounds + 1 }
                }
                None => rows.push(Row { name, outcome, seconds, rounds: 1 }),
            }
            if failed && (args.fail_fast || args.repeat > 1) {
                return rows;
            }
        }
    }
    rows
}

/// The steps to run, and the part of each.
fn chosen(args: &Args) -> Result<Vec<(&'static str, &'static Part)>> {
    let names = &args.steps;
    if let Some(unknown) = names.iter().find(|name| checks::tests().all(|(check, _)| check.name != **name)) {
        let all: Vec<_> = checks::tests().map(|(check, _)| check.name).collect();
        bail!("no step {unknown:?}; there are: {}", all.join(" "));
    }
    let part = |name: &str, test: &'static Test| {
        let named = names.iter().any(|named| named == name);
        if args.all || named { Some(&test.whole) } else { test.quick().filter(|_| names.is_empty()) }
    };
    Ok(checks::tests().filter_map(|(check, test)| Some((check.name, part(check.name, test)?))).collect())
}

/// The parts that a run without `--all` leaves out.
fn left_out() -> String {
    let not_quick = checks::tests().filter(|(_, test)| !test.is_quick());
    let (less, none): (Vec<_>, Vec<_>) = not_quick.partition(|(_, test)| test.quick().is_some());
    let names = |steps: &[(&checks::Check, &Test)]| {
        steps.iter().map(|(check, _)| check.name).collect::<Vec<_>>().join(" ")
    };
    format!(
        "This was the quick part. Shortened: {}.\nLeft out: {}.\n`cargo xtask test --all` runs everything.",
        names(&less),
        names(&none)
    )
}

fn run_part(part: &Part, machine: &Machine, strict: bool) -> Outcome {
    let lacking = machine.lacks(part.needs);
    if !lacking.is_empty() {
        let why = reasons(&lacking);
        return if strict {
            Outcome::Failed(format!("required here, but: {why}"))
        } else {
            Outcome::Skipped(why)
        };
    }
    let tools = if part.needs(Need::Tools) { machine.tools() } else { None };
    match part.run(tools) {
        Ok(()) => Outcome::Ok,
        Err(error) if error.is::<Skip>() => Outcome::Skipped(error.to_string()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn table(rows: &[Row], repeat: u32) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut table = format!("{:width$}  {:7}  {:>7}\n", "step", "result", "seconds");
    for Row { name, outcome, seconds, rounds } in rows {
        let why = match outcome {
            Outcome::Ok => "",
            Outcome::Failed(why) | Outcome::Skipped(why) => why.lines().next().unwrap_or_default(),
        };
        let round = match outcome {
            _ if repeat == 1 => String::new(),
            Outcome::Failed(_) => format!("in round {rounds} of {repeat}: "),
            Outcome::Ok | Outcome::Skipped(_) => format!("{rounds} of {repeat} rounds  "),
        };
        let row = format!("{name:width$}  {:7}  {seconds:7.1}  {round}{why}", outcome.to_string());
        table += row.trim_end();
        table.push('\n');
    }
    let seconds: f32 = rows.iter().map(|row| row.seconds).sum();
    table + &format!("{:width$}  {:7}  {seconds:7.1}\n", "", "")
}

/// The last line, for programs to parse.
fn counts(rows: &[Row]) -> String {
    let count = |wanted: fn(&Outcome) -> bool| rows.iter().filter(|row| wanted(&row.outcome)).count();
    format!(
        "{} passed, {} failed, {} skipped",
        count(|outcome| matches!(outcome, Outcome::Ok)),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
        count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    )
}

fn list() {
    for (check, test) in checks::tests() {
        println!("{}", described(check.name, &test.whole));
        match test.quick() {
            Some(_) if test.is_quick() => {}
            Some(part) => println!("{}", described("    quick", part)),
            None => println!("    only with --all, or by its name"),
        }
    }
    println!("\nWithout --all, the line marked \"quick\" is run instead of the one above it.");
    println!("Run some: cargo xtask test fmt clippy. Without its needs (second column) a step is skipped;");
    println!("with MAPRING_REQUIRE_BPF=1 it fails instead.");
}

fn described(name: &str, part: &Part) -> String {
    let needs: Vec<_> = part.needs.iter().map(Need::to_string).collect();
    let lines = match &part.work {
        Work::Lines(lines) => lines,
        Work::Code { shown, .. } => std::slice::from_ref(shown),
    };
    format!("{name:15} {:16} {}", needs.join(", "), lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        <Line as clap::Parser>::parse_from(["test"].into_iter().chain(line.split_whitespace())).args
    }

    fn row(name: &'static str, outcome: Outcome, seconds: f32) -> Row {
        Row { name, outcome, seconds, rounds: 1 }
    }

    #[test]
    fn unknown_steps_are_named() {
        let error = chosen(&args("fmt clipy")).err().unwrap().to_string();
        assert!(error.contains("clipy") && error.contains("clippy-memfd"), "{error}");
    }

    #[test]
    fn what_is_named_runs_whole_and_all_is_everything() {
        let steps: Vec<_> = checks::tests().collect();
        let whole = |name: &str| &steps.iter().find(|(check, _)| check.name == name).unwrap().1.whole;
        for (check, test) in &steps {
            let chosen = chosen(&args(check.name)).unwrap();
            assert!(
                matches!(chosen[..], [(name, part)] if name == check.name && std::ptr::eq(part, &test.whole))
            );
        }
        let all = chosen(&args("--all")).unwrap();
        assert_eq!(all.len(), steps.len());
        assert!(all.iter().all(|(name, part)| std::ptr::eq(*part, whole(name))));
        let quick = chosen(&args("")).unwrap();
        assert!(
            quick.len() < steps.len() && quick.iter().any(|(name, part)| !std::ptr::eq(*part, whole(name)))
        );
        let all_of = quick.iter().filter(|(name, part)| std::ptr::eq(*part, whole(name)));
        let left_out = left_out();
        let words: Vec<_> = left_out.split([' ', '\n', '.']).collect();
        for (check, _) in &steps {
            let runs_whole = all_of.clone().any(|(name, _)| *name == check.name);
            assert_ne!(words.contains(&check.name), runs_whole, "{}: {left_out}", check.name);
        }
    }

    #[test]
    fn the_table_repeats_why() {
        let rows = [
            row("fmt", Outcome::Ok, 0.5),
            row("kernel", Outcome::Skipped("missing CAP_BPF\nmore".into()), 0.0),
            row("unit", Outcome::Failed("`cargo test` failed".into()), 61.0),
        ];
        assert_eq!(
            table(&rows, 1),
            "step    result   seconds\n\
             fmt     ok           0.5\n\
             kernel  SKIPPED      0.0  missing CAP_BPF\n\
             unit    FAILED      61.0  `cargo test` failed\n                    \
             61.5\n"
        );
        assert_eq!(counts(&rows), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn repetition_ends_at_the_first_failure_and_names_the_round() {
        let args = args("fmt unit --repeat 3");
        let chosen = chosen(&args).unwrap();
        let mut left = vec!["", "", "", "by chance"].into_iter();
        let rows = rounds(&chosen, &args, |_| match left.next().expect("it goes on after a failure") {
            "" => Outcome::Ok,
            why => Outcome::Failed(why.into()),
        });
        let table = table(&rows, args.repeat);
        assert!(
            table.contains("  2 of 3 rounds\n") && table.contains("  in round 2 of 3: by chance\n"),
            "{table}"
        );
        assert_eq!(counts(&rows), "1 passed, 1 failed, 0 skipped");
        assert!(rounds(&chosen, &args, |_| Outcome::Ok).iter().all(|row| row.rounds == 3));
    }
}
