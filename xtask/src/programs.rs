//! Test programs: built by cargo, and run several at a time, which cargo does not do.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fmt, fs, thread};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cmd;
use crate::counts::Counts;
use crate::setup::Tools;
use crate::times;

/// A test program.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The name of its target.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of its package, where cargo runs it.
    pub(crate) package: PathBuf,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        command
    }
}

pub(crate) fn tests(program: &mut Command) -> Result<Vec<String>> {
    let list = cmd::output(program.args(["--list", "--format=terse"]))?;
    Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// What a cargo command built.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Built {
    pub(crate) tests: Vec<Program>,
    /// All other programs.
    pub(crate) others: Vec<Program>,
}

/// Builds the programs of a `cargo test` or `cargo build`.
pub(crate) fn build(cargo: &mut Command) -> Result<Built> {
    cmd::announce(cargo);
    let name = cmd::shown(cargo);
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    Ok(in_messages(&times::of_build(&name, || cmd::output(cargo))?))
}

fn in_messages(messages: &str) -> Built {
    let mut built = Built::default();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let (Some(path), Some(name), Some(manifest)) = (
            text(&message["executable"]).map(PathBuf::from),
            text(&message["target"]["name"]),
            text(&message["manifest_path"]),
        ) else {
            continue;
        };
        let Some(package) = Path::new(&manifest).parent() else { continue };
        let program = Program { name, path, package: package.to_owned() };
        let is_test = message["profile"]["test"] == true;
        if is_test { &mut built.tests } else { &mut built.others }.push(program);
    }
    built
}

/// Runs these commands with their names, `at_once` of them at a time. Prints a line for each, and the output of those that
/// fail. Fails if one does.
pub(crate) fn run(jobs: Vec<(String, Command)>, at_once: usize) -> Result<Counts> {
    ensure!(!jobs.is_empty(), "no tests have this name");
    let mut counts = Counts::default();
    in_parallel(jobs, at_once, run_one)?.into_iter().for_each(|counted| counts += counted);
    ensure!(counts.failures == 0, "{} of {} tests failed", counts.failures, counts.cases);
    Ok(counts)
}

/// The results of `f` for all items, in their order; `at_once` calls at a time. Ends early if a call fails.
pub(crate) fn in_parallel<T: Send, R: Send>(
    items: impl IntoIterator<IntoIter: Send, Item = T>,
    at_once: usize,
    f: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().expect("workers do not panic").next();
    let call = |(at, item)| anyhow::Ok((at, f(item)?));
    let worker = || std::iter::from_fn(next).map(call).collect::<Result<Vec<_>>>();
    let mut results = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().expect("it does not panic"));
        anyhow::Ok(joined.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<_>>())
    })?;
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Whether a line says what a test could not show.
pub(crate) fn is_loud(line: &str) -> bool {
    line.contains("SKIPPED") || line.contains("NOT SHOWN")
}

fn run_one((name, mut command): (String, Command)) -> Result<Counts> {
    let start = Instant::now();
    // Not pipes: what a failed test left running would keep them open.
    let [mut log, mut errors] = [memory()?, memory()?];
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(errors.try_clone()?);
    let limit = env::var(LIMIT).ok().and_then(|limit| limit.parse().ok());
    let status = times::of(&name, || within(limit, &mut command)).with_context(|| cmd::shown(&command))?;
    let is_ok = status.is_some_and(|status| status.success());
    let [log, errors] = [text_of(&mut log)?, text_of(&mut errors)?];
    let result = if is_ok { "ok" } else { "FAILED" };
    // One write, since other threads print as well.
    let mut text = format!("{result:6} {:6.1} s  {name}\n", start.elapsed().as_secs_f32());
    if !is_ok {
        let hung = if status.is_none() { "It did not end, and was killed.\n" } else { "" };
        text += &format!("{log}{errors}{hung}\n");
    } else {
        let loud = log.lines().chain(errors.lines()).filter(|line| is_loud(line));
        text.extend(loud.map(|line| format!("       {line}\n")));
    }
    print!("{text}");
    Ok(Counts::of_tests(&log, is_ok))
}

/// The variable with the seconds after which a test program counts as hung.
pub(crate) const LIMIT: &str = "MAPRING_TEST_LIMIT";

/// How the command ended; none if it was killed after these seconds.
fn within(seconds: Option<u64>, command: &mut Command) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let Some(seconds) = seconds else { return Ok(Some(child.wait()?)) };
    let ended = cmd::wait(&mut child, Duration::from_secs(seconds))?;
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(ended)
}

fn memory() -> Result<File> {
    Ok(rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

fn text_of(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Builds the tests of all packages that share one build: the same profile and features for unit tests, documentation,
/// examples, the command, real kernels, guests and hostile memory.
/// Without what incremental builds keep, since a run builds once.
const TOGETHER: &str = "CARGO_INCREMENTAL=0 cargo test --workspace --exclude mapring-benches --exclude mapring-loom-tests \
                        --exclude mapring-assembly --features mapring-cli/bpf,mapring-hostile-tests/bpf";

/// The variable that leaves out Parquet, for the quick part.
pub(crate) const QUICK: &str = "MAPRING_TEST_QUICK";

pub(crate) fn together(tools: &Tools) -> Command {
    let mut cargo = cmd::line(TOGETHER);
    if env::var_os(QUICK).is_none() {
        cargo.args(["--features", "mapring-cli/parquet"]);
    }
    tools.export(&mut cargo);
    cargo
}

/// The variable that says that they are built: cargo would wait for other steps that build.
pub(crate) const BUILT: &str = "MAPRING_TEST_BUILT";

/// Builds them all, unless this run of the steps did.
pub(crate) fn build_together(tools: &Tools) -> Result<Built> {
    let list = cmd::target_dir().join("test/built.json");
    if env::var_os(BUILT).is_some() {
        return Ok(serde_json::from_slice(&fs::read(&list)?)?);
    }
    let built = build(together(tools).arg("--no-run"))?;
    fs::create_dir_all(list.parent().context("it lies in a folder")?)?;
    fs::write(list, serde_json::to_vec(&built)?)?;
    Ok(built)
}

/// Runs the contract of the readers in all languages (`proofs/kernel/tests/options/languages.rs`) with another one, whose command is
/// these words.
pub(crate) fn languages(tools: &Tools, language: &str, words: &[PathBuf]) -> Result<Counts> {
    let package = cmd::root().join("proofs/kernel");
    let tests = build_together(tools)?.tests;
    let test = tests.iter().find(|test| test.name == "options" && test.package == package);
    let mut command = test.context("the build has no test options")?.command();
    let words: Vec<_> = words.iter().map(|word| word.display().to_string()).collect();
    command
        .args(["languages::", "--nocapture", "--test-threads=1"])
        .env("MAPRING_READER", format!("{language}={}", words.join("\t")))
        .env("MAPRING_REQUIRE_BPF", "1");
    let counts = run(vec![(format!("readers in {language}, C and Rust"), command)], 1)?;
    ensure!(counts.cases > 0, "no test of readers in all languages");
    Ok(counts)
}

/// The command `mapring` of that build.
pub(crate) fn command(tools: &Tools) -> Result<Command> {
    let built = build_together(tools)?.others.into_iter().find(|program| program.name == "mapring");
    Ok(Command::new(built.context("the build has no mapring")?.path))
}

/// Test programs of that build.
#[derive(Clone, Copy)]
pub(crate) struct Tests {
    pub(crate) packages: &'static [&'static str],
    /// The programs to run, or to leave out.
    pub(crate) only: &'static [&'static str],
    pub(crate) without: &'static [&'static str],
    pub(crate) args: &'static [&'static str],
    pub(crate) vars: fn() -> Vec<(&'static str, String)>,
    /// Whether two of the programs can run at the same time.
    pub(crate) at_once: bool,
}

impl Tests {
    /// All tests of some packages, several programs at a time.
    pub(crate) const fn of(packages: &'static [&'static str]) -> Self {
        // What is skipped must be heard.
        Self { packages, only: &[], without: &[], args: &["--nocapture"], vars: Vec::new, at_once: true }
    }

    pub(crate) fn run(&self, tools: &Tools) -> Result<()> {
        let folders: Vec<_> = self.packages.iter().map(|package| cmd::root().join(package)).collect();
        let mut programs = build_together(tools)?.tests;
        programs.retain(|program| folders.contains(&program.package));
        for names in [self.only, self.without] {
            cmd::known("test program", names, programs.iter().map(|program| &*program.name))?;
        }
        programs.retain(|program| {
            let name = program.name.as_str();
            (self.only.is_empty() || self.only.contains(&name)) && !self.without.contains(&name)
        });
        let jobs = programs.iter().map(|program| {
            let mut command = program.command();
            tools.export(command.args(self.args).envs((self.vars)()));
            (program.name.clone(), command)
        });
        run(jobs.collect(), if self.at_once { cpus() } else { 1 }).map(drop)
    }
}

impl fmt::Display for Tests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.vars)().iter().try_for_each(|(name, value)| write!(f, "{name}={value} "))?;
        match self.only {
            [] => write!(f, "the programs of {}", self.packages.join(", "))?,
            only => write!(f, "the programs {} of {}", only.join(", "), self.packages.join(", "))?,
        }
        if self.without.is_empty() { Ok(()) } else { write!(f, " (without {})", self.without.join(", ")) }
    }
}

/// How many CPUs a step may use, if not all.
pub(crate) const CPUS: &str = "MAPRING_TEST_CPUS";

/// The CPUs that this process can use.
pub(crate) fn cpus() -> usize {
    let share = env::var(CPUS).ok().and_then(|share| share.parse().ok());
    share.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed() {
        let run = |limit, line| within(limit, &mut cmd::line(line)).unwrap().map(|status| status.success());
        assert_eq!(run(None, "false"), Some(false));
        assert_eq!(run(Some(1000), "true"), Some(true));
        assert_eq!(run(Some(1), "sleep 1000"), None);
    }

    #[test]
    fn cargos_messages_name_tests_and_programs() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"libc"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/b/Cargo.toml","target":{"name":"a"},"profile":{"test":true},"executable":"/t/a-1"}
{"reason":"compiler-artifact","manifest_path":"/b/Cargo.toml","target":{"name":"c"},"profile":{"test":false},"executable":"/t/c"}
{"reason":"build-finished","success":true}"#;
        let built = in_messages(messages);
        let ([test], [other]) = (&built.tests[..], &built.others[..]) else { panic!("not one of each") };
        assert_eq!((&*test.name, &*test.path, &*test.package), ("a", Path::new("/t/a-1"), Path::new("/b")));
        assert_eq!((&*other.name, &*other.path), ("c", Path::new("/t/c")));
    }
}
