//! The virtual machine's files: this program as its first process, the tests, and the libraries of both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::cross::Cross;
use super::protocol::{PLAN, Plan};
use crate::cmd;
use crate::programs::{self, Built, Program};
use crate::setup::Tools;

/// Builds the kernel tests for another processor.
const TESTS: &str = "cargo test -p mapring-kernel-tests --no-run";
/// What the tests of the flight recorder start and read in addition.
const OF_FLIGHT: [&str; 13] = [
    "/bin/sh",
    "/bin/sleep",
    "/bin/cp",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/mount",
    "/bin/umount",
    "/bin/unshare",
    "/bin/setpriv",
    "/bin/nm",
    "/bin/objcopy",
    "/bin/readelf",
    "/etc/group",
];
/// A program of which they record stacks, compiled as in `cli/tests/flight/stacks.rs`.
const CHAIN: &str = "cc -g -O0 -fno-omit-frame-pointer -Wl,--build-id cli/tests/flight/chain.c -o";

/// What a machine gets.
pub(super) struct Contents {
    tests: Vec<Program>,
    /// All files by their paths there: this program, the tests, what they start and read, and libraries.
    files: BTreeMap<PathBuf, PathBuf>,
    env: Vec<(String, String)>,
}

/// The only tests to run, files that they read, at their paths here, and their variables.
pub(crate) struct Only {
    pub(crate) tests: &'static [&'static str],
    pub(crate) files: Vec<PathBuf>,
    pub(crate) env: Vec<(String, String)>,
}

impl Contents {
    pub(super) fn add(&mut self, only: Only) {
        for other in self.tests.extract_if(.., |test| !only.tests.contains(&&*test.name)) {
            self.files.remove(&other.path);
        }
        self.files.extend(only.files.into_iter().map(|file| (file.clone(), file)));
        self.env = only.env;
    }
}

/// Builds the tests as `cargo xtask test kernel` does, and those of the flight recorder; or the first for another
/// processor.
pub(super) fn build(tools: &Tools, cross: Option<&Cross>) -> Result<Contents> {
    let (mut files, mut set) = (BTreeMap::new(), Vec::new());
    let (init, Built { mut tests, mut others }) = if let Some(cross) = cross {
        let build = |line| {
            let mut cargo = cmd::line(line);
            cross.export(&mut cargo);
            programs::build(tools.export(&mut cargo))
        };
        files.extend(cross.libraries());
        (build("cargo build -p xtask")?.others.pop().context("xtask is a program")?.path, build(TESTS)?)
    } else {
        files.extend(OF_FLIGHT.map(|path| (path.into(), path.into())));
        let chain = cmd::target_dir().join("chain");
        cmd::run(cmd::line(CHAIN).arg(&chain))?;
        set.push(("MAPRING_CHAIN".to_owned(), chain.display().to_string()));
        files.insert(chain.clone(), chain);
        (env::current_exe()?, programs::build_together(tools)?)
    };
    let of_kernel = |program: &Program| program.package == cmd::root().join("proofs/kernel");
    tests.retain(|program| of_kernel(program) || program.name == "flight");
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    others.retain(|program| of_kernel(program) || program.name == "mapring");
    files.extend(tests.iter().chain(&others).map(|program| (program.path.clone(), program.path.clone())));
    files.insert("/init".into(), init);
    if cross.is_none() {
        let mut all = BTreeSet::new();
        for program in files.values().filter(|path| !path.starts_with("/etc")) {
            all.extend(libraries(program)?);
        }
        files.extend(all.into_iter().map(|library| (library.clone(), library)));
    }
    Ok(Contents { tests, files, env: set })
}

/// The archive for the kernel to unpack. Programs keep their paths, since tests contain paths of other programs.
pub(super) fn archive(contents: &Contents, args: &[String]) -> Result<Vec<u8>> {
    // `env::vars` panics if any value is not UTF-8.
    let here = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let plan = Plan {
        binaries: contents.tests.clone(),
        args: args.to_vec(),
        env: variables(here.chain(contents.env.iter().cloned())),
        dir: cmd::root().join("proofs/kernel"),
    };
    let mut archive = Archive::default();
    archive.file(Path::new(PLAN), &serde_json::to_vec(&plan)?)?;
    archive.folder(&plan.dir)?;
    archive.folder(&cmd::target_dir().join("tmp"))?;
    for (place, source) in &contents.files {
        archive.file(place, &fs::read(source).with_context(|| source.display().to_string())?)?;
    }
    archive.finish()
}

/// The tests' environment. Emulation is slow, so stress is short unless configured otherwise.
fn variables(here: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let fixed = [("MAPRING_STRESS_SECONDS", "2"), ("TMPDIR", "/tmp"), ("HOME", "/tmp"), ("PATH", "/bin")];
    let mut variables: Vec<_> = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    variables.extend(here.filter(|(name, _)| name.starts_with("MAPRING_") || name == "RUST_BACKTRACE"));
    variables.push(("MAPRING_REQUIRE_BPF".to_owned(), "1".to_owned()));
    // No other program runs here that this could disturb.
    variables.push(("MAPRING_CHANGE_SYSCTLS".to_owned(), "1".to_owned()));
    // `boot.rs` emulates both CPUs by one thread.
    variables.push(("MAPRING_CPUS_TAKE_TURNS".to_owned(), "1".to_owned()));
    variables
}

/// The shared libraries that a program loads, and its loader.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = cmd::output(Command::new("ldd").arg(program))?;
    loaded(&text).with_context(|| format!("`ldd {}` misses something:\n{text}", program.display()))
}

fn loaded(text: &str) -> Option<BTreeSet<PathBuf>> {
    if text.contains("not found") {
        return None;
    }
    let words = text.lines().filter_map(|line| {
        let place = line.split_once("=> ").map_or(line, |(_, place)| place);
        place.split_whitespace().next()
    });
    Some(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_where_the_loader_finds_them() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibelf.so.1 => /lib/x/libelf.so.1 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let found: Vec<_> = loaded(text).unwrap().into_iter().collect();
        assert_eq!(found, [Path::new("/lib/x/libelf.so.1"), Path::new("/lib64/ld-linux-x86-64.so.2")]);
        assert!(loaded("\tlibz.so.1 => not found\n").is_none());
        assert_eq!(loaded("\tstatically linked\n").unwrap().len(), 0);
    }

    #[test]
    fn the_users_variables_win_but_skipping_is_never_allowed() {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let here = [set("MAPRING_STRESS_SECONDS", "9"), set("MAPRING_REQUIRE_BPF", "0"), set("SECRET", "x")];
        let variables = variables(here.into_iter());
        let last =
            |name: &str| variables.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(last("MAPRING_STRESS_SECONDS"), Some("9"));
        assert_eq!(last("MAPRING_REQUIRE_BPF"), Some("1"));
        assert_eq!(last("SECRET"), None);
    }
}
