//! Mutants: small changes that each weaken the algorithm, and the model that must fail for each.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::models::{self, Model};
use crate::cmd;
use crate::programs;

const LIST: &str = "loom-tests/mutants.toml";

/// A model that finds nothing in this time is too large for its mutant.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A sample takes one of this many mutants of each model.
const SAMPLE: usize = 16;

/// A `[[mutant]]` entry of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    name: String,
    /// A production source file.
    file: String,
    /// Occurs exactly once in it.
    find: String,
    #[serde(default)]
    replace: String,
    /// The test target of `loom-tests` that must fail.
    model: String,
    /// Its one test to run; all tests if absent.
    test: Option<String>,
    /// The effect of this change.
    why: String,
    /// Why this change is harmless: the model must pass.
    equivalent: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The model failed, with this message.
    Killed(String),
    Survived,
    Timeout,
    /// The mutant did not compile or did not run, so the model has no result.
    Error(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed(_) => "killed",
            Self::Survived => "SURVIVED",
            Self::Timeout => "TIMEOUT",
            Self::Error(_) => "ERROR",
        })
    }
}

impl Mutant {
    /// The file with the change applied.
    fn apply(&self, source: &str) -> Result<String> {
        let found = source.matches(&self.find).count();
        ensure!(found == 1, "mutant {}: `find` occurs {found} times in {}, not once", self.name, self.file);
        ensure!(self.find != self.replace, "mutant {}: changes nothing", self.name);
        Ok(source.replacen(&self.find, &self.replace, 1))
    }

    /// Whether this model must detect it.
    pub(crate) fn needs(&self, model: &Model) -> bool {
        self.model == model.program() && self.test.as_ref().is_none_or(|test| *test == model.test)
    }

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
    let text = fs::read_to_string(cmd::root().join(LIST)).context(LIST)?;
    let mut mutants = parse(&text).context(LIST)?;
    mutants.retain(|mutant| mutant.name.contains(filter));
    ensure!(!mutants.is_empty(), "no mutant named {filter:?} in {LIST}");
    for mutant in &mutants {
        mutant.apply(&fs::read_to_string(cmd::root().join(&mutant.file)).context(mutant.file.clone())?)?;
    }
    Ok(mutants)
}

/// Some of each model's mutants, always the same ones: takes a minute instead of many.
pub(crate) fn sample() -> Result<Vec<Mutant>> {
    let all = selected("")?;
    let mut seen = HashMap::<String, usize>::new();
    let of_model = all.into_iter().filter(|mutant| {
        let nth = seen.entry(mutant.model.clone()).or_default();
        *nth += 1;
        *nth % SAMPLE == 1
    });
    Ok(of_model.collect())
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let mutants = toml::from_str::<List>(text)?.mutant;
    let mut names = HashSet::new();
    for mutant in &mutants {
        ensure!(names.insert(&mutant.name), "two mutants are named {}", mutant.name);
        ensure!(mutant.file.starts_with("ring/src/"), "mutant {}: not a production source", mutant.name);
    }
    Ok(mutants)
}

/// Runs each mutant in a copy of the sources, several in parallel. Fails if a model does not detect one.
pub(crate) fn run(mutants: &[Mutant]) -> Result<()> {
    let work = cmd::target_dir().join("mutants");
    let width =
        |of: fn(&Mutant) -> &str| mutants.iter().map(|mutant| of(mutant).len()).max().unwrap_or(0).max(6);
    let (name, model) = (width(|mutant| &mutant.name), width(|mutant| &mutant.model));
    println!("\n{:name$}  {:model$}  {:8}  {:>6}", "mutant", "model", "result", "s");

    let show = |mutant: &Mutant, outcome: &Outcome, seconds: f32| {
        let note = match outcome {
            Outcome::Killed(how) => how.lines().next().unwrap_or_default().chars().take(80).collect(),
            Outcome::Survived => {
                mutant.equivalent.as_deref().map_or(String::new(), |why| format!("equivalent: {why}"))
            }
            Outcome::Timeout => format!("no failure within {} s", TIMEOUT.as_secs()),
            Outcome::Error(said) => said.clone(),
        };
        let result = outcome.to_string();
        // One write, since other threads print as well.
        let mut line =
            format!("{:name$}  {:model$}  {result:8}  {seconds:6.1}  {note}\n", mutant.name, mutant.model);
        if !mutant.as_it_should(outcome) {
            let why = mutant.equivalent.as_ref().unwrap_or(&mutant.why);
            line += &format!("  WRONG, for the list says: {}\n", why.trim());
        }
        print!("{line}");
    };
    // Mutants are built one after the other in one folder, since cargo treats two copies of a workspace as the same.
    // The models take most of the time, and run in parallel to the builds.
    let copy = Mutex::new(work.join("work"));
    copy_sources(&copy.lock().expect("new"))?;
    let outcomes = programs::in_parallel(mutants, programs::cpus(), |mutant| {
        let start = Instant::now();
        let outcome = run_one(mutant, &copy, &work.join(format!("{}.log", mutant.name)))?;
        show(mutant, &outcome, start.elapsed().as_secs_f32());
        Ok((mutant, outcome))
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

fn run_one(mutant: &Mutant, copy: &Mutex<PathBuf>, log: &Path) -> Result<Outcome> {
    let program = log.with_extension("model");
    if let Err(error) = build_one(mutant, &copy.lock().expect("a worker does not panic"), &program)? {
        return Ok(Outcome::Error(format!("does not compile: {error:#}")));
    }
    let mut test = Command::new(&program);
    if let Some(name) = &mutant.test {
        test.args(["--exact", name]);
    }
    let out = File::create(log)?;
    test.current_dir(cmd::root().join("loom-tests"))
        .stdin(Stdio::null())
        .stderr(out.try_clone()?)
        .stdout(out);
    let Some(status) = wait(&mut test, TIMEOUT)? else {
        return Ok(Outcome::Timeout);
    };
    Ok(judge(status, &String::from_utf8_lossy(&fs::read(log)?)))
}

/// Builds the model of a mutant, and moves it so that the next build does not overwrite it.
fn build_one(mutant: &Mutant, copy: &Path, program: &Path) -> Result<Result<()>> {
    let file = copy.join(&mutant.file);
    let original = fs::read_to_string(&file)?;
    fs::write(&file, mutant.apply(&original)?)?;
    let built = build(&mutant.model, copy);
    fs::write(&file, original)?;
    Ok(match built {
        Ok(executable) => fs::copy(executable, program).map(drop).map_err(anyhow::Error::from),
        Err(error) => Err(error),
    })
}

/// A test fails by a panic (101) or by a panic during a panic (SIGABRT); any other status is no result.
fn judge(status: ExitStatus, said: &str) -> Outcome {
    const SIGABRT: i32 = 6;
    if said.contains("running 0 tests") {
        Outcome::Error("no such test in the model".into())
    } else if status.success() {
        Outcome::Survived
    } else if status.code() == Some(101) || status.signal() == Some(SIGABRT) {
        let panic = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        Outcome::Killed(panic.unwrap_or_default().to_owned())
    } else {
        Outcome::Error(status.to_string())
    }
}

/// Builds one model of the copy, and returns its test program.
fn build(model: &str, copy: &Path) -> Result<PathBuf> {
    // In the same target folder as the unchanged sources, to reuse all other packages. The mutants' files have their
    // own names there, since the profile differs.
    let mut cargo = models::cargo("test");
    cargo.current_dir(copy).env("CARGO_INCREMENTAL", "1");
    let programs = programs::build(cargo.args(["--test", model, "--no-run"]))?.tests;
    let program = programs.into_iter().rfind(|program| program.name == model);
    Ok(program.context("cargo built no test program")?.path)
}

fn wait(command: &mut Command, timeout: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The library and its models. Its macros lie in its folder, which makes them a member too.
const PARTS: [&str; 2] = ["ring", "loom-tests"];

/// Copies them as their own workspace, so that nothing else is built or changed.
fn copy_sources(copy: &Path) -> Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir_all(copy)?;
    let root = cmd::root();
    for folder in PARTS {
        copy_folder(&root.join(folder), &copy.join(folder))?;
    }
    if root.join("Cargo.lock").exists() {
        fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock"))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    fs::write(copy.join("Cargo.toml"), reduced(&manifest)?)?;
    Ok(())
}

fn reduced(manifest: &str) -> Result<String> {
    let mut manifest: toml::Table = toml::from_str(manifest)?;
    let Some(workspace) = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut) else {
        bail!("Cargo.toml has no [workspace]");
    };
    workspace.insert("members".into(), PARTS.to_vec().into());
    workspace.remove("default-members");
    // It is for packages that the copy does not have.
    manifest.get_mut("profile").and_then(|profiles| profiles.as_table_mut()?.remove("quick"));
    // These packages are compiled once per mutant and run briefly, so they are optimized less. All others stay as
    // built. With the usual profile, cargo would mistake a mutant for the unchanged sources.
    let quick = ["mapring", "mapring-derive", "mapring-loom-tests"]
        .map(|name| format!("[profile.release.package.{name}]\nopt-level = 1\ndebug = false\n"));
    Ok(toml::to_string(&manifest)? + &quick.concat())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
        [[mutant]]
        name = "no-fence"
        file = "ring/src/read.rs"
        find = "fence(Acquire);"
        model = "ring"
        why = "words may be read before seq"
    "#;

    #[test]
    fn a_list_is_read_and_applied() {
        let mutants = parse(ONE).unwrap();
        assert_eq!(mutants[0].model, "ring");
        assert_eq!(mutants[0].apply("a; fence(Acquire); b;").unwrap(), "a;  b;");
    }

    #[test]
    fn a_change_must_have_exactly_one_place() {
        let mutant = &parse(ONE).unwrap()[0];
        assert!(mutant.apply("fence(Acquire); fence(Acquire);").unwrap_err().to_string().contains("2 times"));
        assert!(mutant.apply("fence(Release);").unwrap_err().to_string().contains("0 times"));
    }

    #[test]
    fn mistakes_in_the_list_are_errors() {
        assert!(parse(&format!("{ONE}{ONE}")).unwrap_err().to_string().contains("two mutants"));
        assert!(parse(&ONE.replace("why", "wyh")).is_err());
        assert!(parse(&ONE.replace("ring/src", "loom-tests/src")).is_err());
    }

    #[test]
    fn a_sample_has_mutants_of_each_model() {
        let (sample, all) = (sample().unwrap(), selected("").unwrap());
        let models =
            |mutants: &[Mutant]| mutants.iter().map(|mutant| mutant.model.clone()).collect::<HashSet<_>>();
        assert_eq!(models(&sample), models(&all));
        assert!(sample.len() * 5 < all.len(), "{} of {}", sample.len(), all.len());
    }

    #[test]
    fn only_a_failed_test_kills() {
        let failed = "running 1 test\nthread 'x' panicked at a.rs:1:2:\ntorn: 1 != 2\n";
        assert_eq!(judge(ExitStatus::from_raw(101 << 8), failed), Outcome::Killed("torn: 1 != 2".into()));
        assert_eq!(judge(ExitStatus::from_raw(0), "running 1 test\n"), Outcome::Survived);
        assert!(matches!(judge(ExitStatus::from_raw(0), "running 0 tests\n"), Outcome::Error(_)));
        assert!(matches!(judge(ExitStatus::from_raw(9), "running 1 test\n"), Outcome::Error(_)));
    }

    #[test]
    fn an_equivalent_mutant_must_survive() {
        let mutant = &parse(&format!("{ONE}\nequivalent = 'covered by the second fence'")).unwrap()[0];
        assert!(mutant.as_it_should(&Outcome::Survived));
        assert!(!mutant.as_it_should(&Outcome::Killed(String::new())));
        assert!(!mutant.as_it_should(&Outcome::Timeout));
    }

    #[test]
    fn the_copy_is_a_workspace_of_its_own() {
        let reduced =
            reduced("[workspace]\nmembers = ['ring', 'xtask']\ndefault-members = ['xtask']\n").unwrap();
        let reduced: toml::Table = toml::from_str(&reduced).unwrap();
        let workspace = toml::from_str::<toml::Table>("members = ['ring', 'loom-tests']").unwrap();
        assert_eq!(reduced["workspace"], workspace.into());
        assert_eq!(reduced["profile"]["release"]["package"].as_table().unwrap().len(), 3);
    }
}
