//! Test programs: built by cargo, and run several at a time, which cargo does not do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cmd;
use crate::counts::Counts;
use crate::setup::Tools;

/// A test program.
#[derive(Clone)]
pub(crate) struct Program {
    /// The name of its target.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of its package, where cargo runs it.
    pub(crate) package: PathBuf,
}

impl Program {
    /// The program, as cargo would run it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        command
    }
}

/// A program with its arguments.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) command: Command,
}

/// Builds the test programs of a `cargo test`.
pub(crate) fn build(cargo: &mut Command) -> Result<Vec<Program>> {
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]).stderr(Stdio::inherit());
    Ok(in_messages(&cmd::output(cargo)?).0)
}

/// The programs in cargo's messages: tests, and the paths of others.
pub(crate) fn in_messages(messages: &str) -> (Vec<Program>, Vec<PathBuf>) {
    let (mut tests, mut others) = (Vec::new(), Vec::new());
    for message in messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let Some(path) = text(&message["executable"]).map(PathBuf::from) else { continue };
        if message["profile"]["test"] != true {
            others.push(path);
        } else if let (Some(name), Some(manifest)) =
            (text(&message["target"]["name"]), text(&message["manifest_path"]))
            && let Some(package) = Path::new(&manifest).parent()
        {
            tests.push(Program { name, path, package: package.to_owned() });
        }
    }
    (tests, others)
}

/// Runs jobs, `at_once` of them at a time. Prints a line for each, and the output of those that fail. Fails if one does.
pub(crate) fn run(jobs: Vec<Job>, at_once: usize) -> Result<Counts> {
    ensure!(!jobs.is_empty(), "no tests have this name");
    let mut counts = Counts::default();
    in_parallel(jobs, at_once, run_one)?.into_iter().for_each(|counted| counts += counted);
    ensure!(counts.failures == 0, "{} of {} tests failed", counts.failures, counts.cases);
    Ok(counts)
}

/// The results of `f` for all items, in any order; `at_once` calls at a time. Ends early if a call fails.
pub(crate) fn in_parallel<T: Send, R: Send>(
    items: impl IntoIterator<IntoIter: Send, Item = T>,
    at_once: usize,
    f: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let queue = Mutex::new(items.into_iter());
    let next = || queue.lock().expect("workers do not panic").next();
    let worker = || std::iter::from_fn(next).map(&f).collect::<Result<Vec<_>>>();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| worker.join().expect("it does not panic"));
        Ok(results.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

fn run_one(Job { name, mut command }: Job) -> Result<Counts> {
    let start = Instant::now();
    let out = command.stdin(Stdio::null()).output().with_context(|| cmd::shown(&command))?;
    let said = String::from_utf8_lossy(&out.stdout);
    let result = if out.status.success() { "ok" } else { "FAILED" };
    // One write, since other threads print as well.
    let mut text = format!("{result:6} {:6.1} s  {name}\n", start.elapsed().as_secs_f32());
    let errors = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        text += &format!("{said}{errors}\n");
    } else {
        // What a test could not show, it says.
        let loud = |line: &&str| line.contains("SKIPPED") || line.contains("NOT SHOWN");
        text.extend(said.lines().chain(errors.lines()).filter(loud).map(|line| format!("       {line}\n")));
    }
    print!("{text}");
    Ok(Counts::of_tests(&said, out.status.success()))
}

/// The packages whose tests are built together: one build, since all features are the same in each of their steps.
pub(crate) const TOGETHER: &str = "cargo test --profile quick --workspace --exclude mapring-benches --exclude mapring-loom-tests \
                        --exclude mapring-assembly --features mapring-cli/bpf,mapring-hostile-tests/bpf";

/// Tests of one package, out of a build of all packages without optimization.
pub(crate) struct Tests {
    /// Its folder.
    pub(crate) package: &'static str,
    /// The test programs to run, or to leave out.
    pub(crate) only: &'static [&'static str],
    pub(crate) without: &'static [&'static str],
    pub(crate) args: &'static [&'static str],
    pub(crate) vars: &'static [(&'static str, &'static str)],
    /// Whether two of the programs can run at the same time.
    pub(crate) at_once: bool,
}

impl Tests {
    /// All tests of a package, several programs at a time.
    pub(crate) const fn of(package: &'static str) -> Self {
        // What is skipped must be heard.
        Self { package, only: &[], without: &[], args: &["--nocapture"], vars: &[], at_once: true }
    }

    /// Builds and runs them.
    pub(crate) fn run(&self, tools: &Tools) -> Result<()> {
        let folder = cmd::root().join(self.package);
        let mut programs = build(tools.export(&mut cmd::line(TOGETHER)))?;
        programs.retain(|program| {
            let name = program.name.as_str();
            let wanted = self.only.is_empty() || self.only.contains(&name);
            program.package == folder && wanted && !self.without.contains(&name)
        });
        let jobs = programs.iter().map(|program| {
            let mut command = program.command();
            tools.export(command.args(self.args).envs(self.vars.iter().copied()));
            Job { name: program.name.clone(), command }
        });
        run(jobs.collect(), if self.at_once { cpus() } else { 1 }).map(drop)
    }
}

/// The CPUs that this process can use.
pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_messages_name_tests_and_programs() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"libc"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/b/Cargo.toml","target":{"name":"a"},"profile":{"test":true},"executable":"/t/a-1"}
{"reason":"compiler-artifact","manifest_path":"/b/Cargo.toml","target":{"name":"c"},"profile":{"test":false},"executable":"/t/c"}
{"reason":"build-finished","success":true}"#;
        let (tests, others) = in_messages(messages);
        let [test] = &tests[..] else { panic!("{} tests", tests.len()) };
        assert_eq!((&*test.name, &*test.path, &*test.package), ("a", Path::new("/t/a-1"), Path::new("/b")));
        assert_eq!(others, [Path::new("/t/c")]);
    }
}
