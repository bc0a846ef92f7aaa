//! Mutants: small changes that each weaken the algorithm, and the model that must fail for each.
//!
//! A mutant of an ordering is a variable of the environment: the models of the unchanged sources serve all of these
//! (`ring/core/src/sync/weaken.rs`). Any other one changes a source, and needs its own build ([`textual`]). All run in one pool,
//! beside these builds.

mod list;
mod textual;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{iter, thread};

use anyhow::{Context, Result, ensure};

use list::LIST;
pub(crate) use list::Mutant;
#[cfg(test)]
pub(super) use list::sites;

use super::models;
use crate::cmd;
use crate::programs::{self, Program};
use crate::prove::{self, Since};

/// A model that finds nothing in this time is too large for its mutant.
const TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The model failed, with this message.
    Killed(String),
    Survived,
    Timeout,
    /// The mutant did not compile or did not run, so the model has no result.
    Error(String),
}

impl Mutant {
    fn as_it_should(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Killed(_) => self.equivalent.is_none(),
            Outcome::Survived => self.equivalent.is_some(),
            Outcome::Timeout | Outcome::Error(_) => false,
        }
    }
}

/// The mutants of the list whose name contains `filter`, after checking that each applies.
pub(crate) fn selected(filter: &str) -> Result<Vec<Mutant>> {
    let mut mutants = list::list()?;
    mutants.retain(|mutant| mutant.name.contains(filter));
    ensure!(!mutants.is_empty(), "no mutant named {filter:?} in {LIST}");
    for mutant in mutants.iter().filter(|mutant| mutant.weaken.is_none()) {
        mutant.apply(&fs::read_to_string(cmd::root().join(&mutant.file)).context(mutant.file.clone())?)?;
    }
    Ok(mutants)
}

/// All mutants but those that need a build and on which nothing has changed since `cargo xtask prove mutants` passed: neither the
/// file, nor the model, nor the entry.
pub(crate) fn due() -> Result<Vec<Mutant>> {
    let mut mutants = selected("")?;
    let Some(Since { commit, files }) = prove::since("mutants") else { return Ok(mutants) };
    let then = cmd::output(&mut cmd::line(&format!("git show {commit}:{LIST}")))?;
    // A list of sources that have moved since says nothing of these.
    let Ok(then) = list::parse(&then) else { return Ok(mutants) };
    let all = mutants.len();
    mutants.retain(|mutant| {
        let model = format!("loom-tests/tests/{}", mutant.model);
        let depends = |file: &String| {
            *file == mutant.file || file.starts_with(&model) || file.starts_with("loom-tests/src/")
        };
        mutant.weaken.is_some() || !then.contains(mutant) || files.iter().any(depends)
    });
    println!("{} mutants passed on commit {commit}, and have not changed since", all - mutants.len());
    Ok(mutants)
}

/// Runs each mutant, several in parallel, beside the builds of those that need one. Fails if a model does not detect one.
pub(crate) fn run(mutants: &[Mutant]) -> Result<()> {
    let work = cmd::target_dir().join("mutants");
    fs::create_dir_all(&work)?;
    let width =
        |of: fn(&Mutant) -> &str| mutants.iter().map(|mutant| of(mutant).len()).max().unwrap_or(0).max(6);
    let (name, model) = (width(|mutant| &mutant.name), width(|mutant| &mutant.model));
    println!("\n{:name$}  {:model$}  {:8}  {:>6}", "mutant", "model", "result", "s");

    let show = |mutant: &Mutant, outcome: &Outcome, seconds: f32| {
        let (result, note) = match outcome {
            Outcome::Killed(how) => {
                ("killed", how.lines().next().unwrap_or_default().chars().take(80).collect())
            }
            Outcome::Survived => {
                ("SURVIVED", mutant.equivalent.iter().map(|why| format!("equivalent: {why}")).collect())
            }
            Outcome::Timeout => ("TIMEOUT", format!("no failure within {} s", TIMEOUT.as_secs())),
            Outcome::Error(text) => ("ERROR", text.clone()),
        };
        // One write, since other threads print as well.
        let mut line =
            format!("{:name$}  {:model$}  {result:8}  {seconds:6.1}  {note}\n", mutant.name, mutant.model);
        if !mutant.as_it_should(outcome) {
            let why = mutant.equivalent.as_ref().unwrap_or(&mutant.why);
            line += &format!("  WRONG, for the list says: {}\n", why.trim());
        }
        print!("{line}");
    };
    let (orderings, textual): (Vec<_>, Vec<_>) = mutants.iter().partition(|mutant| mutant.weaken.is_some());
    let unchanged = build_models(&orderings)?;
    let program = |mutant: &Mutant| -> Result<PathBuf> {
        let found = unchanged.iter().find(|program| program.name == mutant.model);
        Ok(found.context("no such model")?.path.clone())
    };
    let outcomes = thread::scope(|scope| {
        let (sender, built) = mpsc::channel();
        let work = &work;
        let builds = scope.spawn(move || {
            textual::build(&textual, work, |mutant, program| sender.send((mutant, program)).is_ok())
        });
        let mut orderings = orderings.into_iter().map(|mutant| (mutant, program(mutant)));
        // What is built, or else an ordering. Waits for a build if there are no more of these.
        let next = move || built.try_recv().ok().or_else(|| orderings.next()).or_else(|| built.recv().ok());
        let outcomes = programs::in_parallel(iter::from_fn(next), programs::cpus(), |(mutant, program)| {
            let start = Instant::now();
            let outcome = match program {
                Ok(program) => run_one(mutant, &program, &work.join(format!("{}.log", mutant.name)))?,
                Err(error) => Outcome::Error(format!("no program: {error:#}")),
            };
            show(mutant, &outcome, start.elapsed().as_secs_f32());
            Ok((mutant, outcome))
        })?;
        builds.join().expect("it does not panic")?;
        anyhow::Ok(outcomes)
    })?;
    let killed = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Killed(_))).count();
    let wrong = outcomes.iter().filter(|(mutant, outcome)| !mutant.as_it_should(outcome));
    let wrong: Vec<_> = wrong.map(|(mutant, _)| mutant.name.as_str()).collect();
    // Mutants listed as equivalent can't be detected.
    let equivalent = mutants.iter().filter(|mutant| mutant.equivalent.is_some()).count();
    println!("mutants {}, killed {killed}, and {equivalent} equivalent", mutants.len() - equivalent);
    ensure!(wrong.is_empty(), "not killed as they should be: {}", wrong.join(", "));
    println!("{} mutants: all as they should be", mutants.len());
    Ok(())
}

/// Builds the models of mutants that don't change them.
fn build_models(mutants: &[&Mutant]) -> Result<Vec<Program>> {
    let mut cargo = models::cargo("test");
    let models: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.model).collect();
    models.iter().for_each(|model| _ = cargo.args(["--test", model]));
    if models.is_empty() { Ok(Vec::new()) } else { Ok(programs::build(cargo.arg("--no-run"))?.tests) }
}

fn run_one(mutant: &Mutant, program: &Path, log: &Path) -> Result<Outcome> {
    let mut test = Command::new(program);
    if let Some(name) = &mutant.test {
        test.args(["--exact", name]);
    }
    let weakened = mutant.weakened();
    if let Some(weakened) = &weakened {
        test.env("MAPRING_WEAKEN", weakened);
    }
    let out = File::create(log)?;
    test.current_dir(cmd::root().join("loom-tests"));
    let mut test = test.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out).spawn()?;
    let Some(status) = cmd::wait(&mut test, TIMEOUT)? else {
        test.kill()?;
        test.wait()?;
        return Ok(Outcome::Timeout);
    };
    Ok(judge(status, &String::from_utf8_lossy(&fs::read(log)?), weakened.as_deref()))
}

/// A test fails by a panic (101) or by a panic during a panic (SIGABRT); any other status is no result.
fn judge(status: ExitStatus, text: &str, weakened: Option<&str>) -> Outcome {
    const SIGABRT: i32 = 6;
    if text.contains("running 0 tests") {
        Outcome::Error("no such test in the model".into())
    } else if let Some(weakened) = weakened
        && !text.lines().any(|line| line == format!("weakened {weakened}"))
    {
        Outcome::Error(format!("{status}; the model asks for no such ordering"))
    } else if status.success() {
        Outcome::Survived
    } else if status.code() == Some(101) || status.signal() == Some(SIGABRT) {
        let panic = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        Outcome::Killed(panic.unwrap_or_default().to_owned())
    } else {
        Outcome::Error(status.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_test_kills() {
        let judge = |status, text: &str| judge(ExitStatus::from_raw(status), text, None);
        let failed = "running 1 test\nthread 'x' panicked at a.rs:1:2:\ntorn: 1 != 2\n";
        assert_eq!(judge(101 << 8, failed), Outcome::Killed("torn: 1 != 2".into()));
        assert_eq!(judge(0, "running 1 test\n"), Outcome::Survived);
        assert!(matches!(judge(0, "running 0 tests\n"), Outcome::Error(_)));
        assert!(matches!(judge(9, "running 1 test\n"), Outcome::Error(_)));
    }

    #[test]
    fn a_model_that_does_not_reach_the_weakened_place_has_no_result() {
        let judge = |status, text| judge(ExitStatus::from_raw(status), text, Some("RingClaim=Release"));
        assert_eq!(judge(0, "running 1 test\nweakened RingClaim=Release\n"), Outcome::Survived);
        for text in ["running 1 test\n", "running 1 test\nweakened RingClaim=Acquire\n"] {
            assert!(matches!(judge(0, text), Outcome::Error(_)));
            assert!(matches!(judge(101 << 8, text), Outcome::Error(_)));
        }
    }

    #[test]
    fn an_equivalent_mutant_must_survive() {
        let mut all = selected("").unwrap().into_iter();
        let mutant = all.find(|mutant| mutant.equivalent.is_some()).unwrap();
        assert!(mutant.as_it_should(&Outcome::Survived));
        assert!(!mutant.as_it_should(&Outcome::Killed(String::new())));
        assert!(!mutant.as_it_should(&Outcome::Timeout));
    }
}
