//! `cargo xtask test`: runs the steps, several at once, continues after a failure, and ends with a table of all steps.

mod schedule;
mod speed;
mod step;
mod table;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

use self::schedule::{Schedule, State, Step};
use self::step::{Ended, Outcome};
use self::table::{Row, counts, table};
use crate::checks::{self, Check, Part, Quick, Takes};
use crate::cmd;
use crate::need::{Machine, Need};
use crate::programs::{self, cpus};
use crate::{prove, times};

pub(crate) use self::step::{Args as StepArgs, run as run_step};

/// Which steps to run, and how.
#[derive(Parser)]
#[command(after_help = checks::help("Steps", checks::tests().map(|(check, _)| check)))]
pub(crate) struct Args {
    /// The steps to run completely. Default: the quick part of all steps
    steps: Vec<String>,
    /// Run all steps completely
    #[arg(long, conflicts_with = "steps")]
    all: bool,
    /// Run the steps N times, and stop at the first failure, to find tests that sometimes fail
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// List the steps, their needs and their commands
    #[arg(long)]
    list: bool,
    /// Print the builds and test programs that took longest when they last ran
    #[arg(long)]
    times: bool,
    /// Start no more steps after a failure
    #[arg(long)]
    fail_fast: bool,
}

/// A step of this run.
type Chosen = (&'static str, &'static Part);

/// Runs the steps named, or the quick part, or all.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    if args.times {
        print!("{}", times::slowest()?);
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(args)?;
    let rows = match chosen[..] {
        [step] => rounds(args, || Ok(vec![run_here(step)]))?,
        _ => {
            let speed = speed::measure();
            introduce(&chosen, args, speed)?;
            let start = Instant::now();
            let rows = rounds(args, || run_all(&chosen, args))?;
            println!("\n{}", table(&rows, args.repeat, start.elapsed().as_secs_f32(), speed));
            rows
        }
    };
    if args.steps.is_empty() && !args.all {
        println!("{}\n", left_out());
    }
    println!("{}", counts(&rows));
    Ok(if rows.iter().any(Row::has_failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs the steps as often as requested. When they are repeated, the first failure ends the run.
fn rounds(args: &Args, mut run: impl FnMut() -> Result<Vec<Row>>) -> Result<Vec<Row>> {
    let mut all: Vec<Row> = Vec::new();
    for round in 1..=args.repeat {
        if args.repeat > 1 {
            println!("\n=== round {round} of {} ===", args.repeat);
        }
        for row in run()? {
            match all.iter_mut().find(|old| old.name == row.name) {
                Some(old) => {
                    let (seconds, cpu) = (old.seconds + row.seconds, old.cpu + row.cpu);
                    *old = Row { seconds, cpu, rounds: old.rounds + row.rounds, ..row };
                }
                None => all.push(row),
            }
        }
        if all.iter().any(Row::has_failed) {
            break;
        }
    }
    Ok(all)
}

fn introduce(chosen: &[Chosen], args: &Args, speed: f32) -> Result<()> {
    let seconds = |of_machine: bool| {
        let steps = chosen.iter().filter(|(_, part)| (part.takes == Takes::Machine) == of_machine);
        steps.map(|(_, part)| f32::from(part.seconds)).sum::<f32>()
    };
    let total = seconds(false) / cpus() as f32 + seconds(true);
    println!(
        "{} steps, {} at a time, the longest first: about {:.0} minutes here, once packages are installed.\n\
         This machine takes {speed:.2} times as long as the one of reference.\n\
         They build in target/, load BPF programs, and read the output of test programs. The output of each step: \
         target/test/STEP.log",
        chosen.len(),
        cpus(),
        (total * speed / 60.0).ceil(),
    );
    if args.all {
        println!("{}", prove::age()?);
    }
    Ok(())
}

/// A single step, whose output is shown as it comes.
fn run_here((name, part): Chosen) -> Row {
    println!("\n=== {name} ===");
    let machine = Machine::default();
    let start = Instant::now();
    let outcome = step::lacking(part, &machine).unwrap_or_else(|| step::run_part(part, &machine));
    step::say(name, &outcome);
    let seconds = start.elapsed().as_secs_f32();
    println!("{outcome} {name}: {seconds:.1} s");
    Row::new(name, outcome, seconds, times::cpu(), part)
}

/// What the main loop waits for.
enum Event {
    /// Whether the machine has what a step needs; if not, its outcome.
    Looked(&'static str, Option<Outcome>),
    Ended(&'static str, Ended),
}

/// Runs each step in its own process, as many at once as there are CPUs.
fn run_all(chosen: &[Chosen], args: &Args) -> Result<Vec<Row>> {
    let start = Instant::now();
    let clock = |since: Instant| since.elapsed().as_secs_f32();
    let steps = chosen.iter().map(|&(name, part)| Step { name, part, state: State::Unknown });
    let mut schedule = Schedule::new(steps.collect(), cpus());
    let (sender, events) = mpsc::channel();
    look_for_needs(chosen.to_vec(), sender.clone());

    let mut started = BTreeMap::new();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut all_times = BTreeMap::new();
    while rows.len() < chosen.len() {
        let built = rows.get(checks::BUILD).is_some_and(|row| row.outcome == Outcome::Ok);
        let failed = rows.values().any(Row::has_failed);
        while !(failed && args.fail_fast)
            && let Some(at) = schedule.next()
        {
            let Step { name, part, state } = &mut schedule.steps()[at];
            let quick = !args.all && args.steps.is_empty();
            println!("[{:6.0} s] {name}", clock(start));
            // A step alone builds with all CPUs, and so does a build.
            let share = if matches!(part.takes, Takes::Cpus | Takes::Machine) { cpus() } else { 1 };
            let mut child = step::start(name, quick, built, share)?;
            *state = State::Running;
            started.insert(*name, Instant::now());
            let (name, sender) = (*name, sender.clone());
            thread::spawn(move || sender.send(Event::Ended(name, step::result(name, &mut child))));
        }
        if failed && args.fail_fast && schedule.steps().iter().all(|step| step.state != State::Running) {
            break;
        }
        for at in schedule.orphans() {
            let Step { name, part, state } = &mut schedule.steps()[at];
            *state = State::Ended;
            let outcome = Outcome::Failed("its build did not pass".into());
            rows.insert(name, Row::new(name, outcome, 0.0, 0.0, part));
        }
        if rows.len() == chosen.len() {
            break;
        }
        let (name, ended) = match events.recv()? {
            Event::Looked(name, None) => {
                schedule.find(name).state = State::Ready;
                continue;
            }
            Event::Looked(name, Some(outcome)) => {
                step::say(name, &outcome);
                (name, Ended { outcome, cpu: 0.0, times: Vec::new() })
            }
            Event::Ended(name, ended) => (name, ended),
        };
        let seconds = started.get(name).map_or(0.0, |&since| clock(since));
        let Ended { outcome, cpu, times } = ended;
        report(name, &outcome, clock(start), seconds);
        let step = schedule.find(name);
        step.state = if outcome == Outcome::Ok { State::Passed } else { State::Ended };
        rows.insert(name, Row::new(name, outcome, seconds, cpu, step.part));
        all_times.insert(name.to_owned(), times);
    }
    times::save(all_times)?;
    Ok(chosen.iter().filter_map(|(name, _)| rows.remove(name)).collect())
}

/// Looks whether this machine has what each step needs, and installs it, while other steps run. Builds come first.
fn look_for_needs(mut chosen: Vec<Chosen>, sender: Sender<Event>) {
    chosen.sort_by_key(|(_, part)| (part.takes != Takes::Cpus, part.needs.len()));
    thread::spawn(move || {
        let machine = Machine::default();
        for (name, part) in chosen {
            let outcome = step::lacking(part, &machine);
            if sender.send(Event::Looked(name, outcome)).is_err() {
                return;
            }
        }
    });
}

/// The lines of a failed step's output that are repeated.
const LAST: usize = 400;

fn report(name: &'static str, outcome: &Outcome, at: f32, seconds: f32) {
    let text = std::fs::read_to_string(step::log(name)).unwrap_or_default();
    println!("[{at:6.0} s]   {outcome} {name}: {seconds:.1} s");
    if let Outcome::Failed(_) = outcome {
        println!("=== the end of {} ===\n{}\n===", step::log(name).display(), cmd::last_lines(&text, LAST));
    } else {
        // What a test could not show, it says.
        text.lines().filter(|line| programs::is_loud(line)).for_each(|line| println!("  {line}"));
    }
}

/// The steps to run, and the part of each.
fn chosen(args: &Args) -> Result<Vec<Chosen>> {
    let names = &args.steps;
    cmd::known("step", names, checks::tests().map(|(check, _)| check.name))?;
    let part = |check: &'static Check, whole| {
        let named = names.iter().any(|named| named == check.name);
        if args.all || named { Some(whole) } else { check.quick_part().filter(|_| names.is_empty()) }
    };
    Ok(checks::tests().filter_map(|(check, whole)| Some((check.name, part(check, whole)?))).collect())
}

/// The parts that a run without `--all` leaves out.
fn left_out() -> String {
    let names = |which: fn(&Check) -> bool| {
        let steps = checks::tests().filter(|(check, _)| which(check));
        steps.map(|(check, _)| check.name).collect::<Vec<_>>().join(" ")
    };
    format!(
        "This was the quick part. Shortened: {}.\nLeft out: {}.\n`cargo xtask test --all` runs everything.",
        names(|check| matches!(check.quick, Quick::Less(_))),
        names(|check| check.quick_part().is_none()),
    )
}

fn list() {
    for (check, whole) in checks::tests() {
        println!("{}", described(check.name, whole));
        match &check.quick {
            Quick::Whole => {}
            Quick::Less(less) => println!("{}", described("    quick", less)),
            Quick::Nothing => println!("    only with --all, or by its name"),
        }
    }
    println!("\nWithout --all, the line marked \"quick\" is run instead of the one above it.");
    println!("Run some: cargo xtask test fmt clippy. Without its needs (second column) a step is skipped;");
    println!("with MAPRING_REQUIRE_BPF=1 it fails instead.");
}

fn described(name: &str, part: &Part) -> String {
    let needs: Vec<_> = part.needs.iter().map(Need::to_string).collect();
    format!("{name:15} {:16} {}", needs.join(", "), part.shown())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::parse_from(["test"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn unknown_steps_are_named() {
        let error = chosen(&args("fmt clipy")).err().unwrap().to_string();
        assert!(error.contains("clipy") && error.contains("clippy-memfd"), "{error}");
    }

    #[test]
    fn what_is_named_runs_whole_and_all_is_everything() {
        let names = |line: &str| chosen(&args(line)).unwrap();
        let has = |chosen: &[Chosen], whole: &Part| chosen.iter().any(|(_, part)| std::ptr::eq(*part, whole));
        let (all, quick, left_out) = (names("--all"), names(""), left_out());
        let words: Vec<_> = left_out.split([' ', '\n', '.']).collect();
        for (check, whole) in checks::tests() {
            let named = names(check.name);
            assert!(named.len() == 1 && has(&named, whole) && has(&all, whole), "{}", check.name);
            assert_ne!(words.contains(&check.name), has(&quick, whole), "{}: {left_out}", check.name);
        }
        let shortened = quick.iter().filter(|(_, part)| !has(&all, part)).count();
        assert_eq!(all.len(), checks::tests().count());
        assert!(shortened > 0 && quick.len() < all.len());
    }

    #[test]
    fn repetition_ends_at_the_first_failure() {
        let args = args("fmt unit --repeat 3");
        let row = |name, outcome| Row { name, outcome, seconds: 1.0, cpu: 1.0, rounds: 1, usual: 1 };
        let mut left = vec!["", "by chance"].into_iter();
        let rows = rounds(&args, || {
            let outcome = match left.next().expect("it goes on after a failure") {
                "" => Outcome::Ok,
                why => Outcome::Failed(why.into()),
            };
            Ok(vec![row("fmt", Outcome::Ok), row("unit", outcome)])
        });
        let rows = rows.unwrap();
        assert!(rows.iter().all(|row| row.rounds == 2 && row.seconds == 2.0));
        assert_eq!(counts(&rows), "1 passed, 1 failed, 0 skipped");
        let rows = rounds(&args, || Ok(vec![row("fmt", Outcome::Ok)])).unwrap();
        assert_eq!(rows[0].rounds, 3);
    }
}
