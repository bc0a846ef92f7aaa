//! `cargo xtask prove source-mutants`: cargo-mutants changes each function, and a test must fail.
//!
//! It changes all of `mapring-core`, and of the rest of the library a sample. The version chooses the sample, so each release
//! tests another one. Several sets of tests run on each mutant, the fast ones first, until one fails. A mutant that does not
//! compile is not counted. One that exceeds the time limit counts as killed.
//!
//! `target/source-mutants` has the lists and logs of cargo-mutants. A run that was interrupted goes on where it stopped, while
//! the code of the changed packages stays the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::counts::Counts;
use crate::loom::models::LONGEST;
use crate::prove::{Covers, Sources};
use crate::setup::Tools;
use crate::{cargo_tools, cmd};

const VERSION: &str = "27.1.0";
/// The sample is one mutant of so many: of 3700, as many as two hours are enough for, at a minute and a half each.
const SAMPLE: usize = 48;

/// The mutants of these packages, and the tests that must notice them.
struct Trial {
    name: &'static str,
    packages: &'static [&'static str],
    /// It has one of so many mutants.
    one_of: usize,
    sets: &'static [Set],
}

struct Set {
    /// The packages whose tests run, and arguments of `cargo test`.
    packages: &'static [&'static str],
    args: &'static str,
    flags: &'static str,
    /// A mutant that runs for this many seconds counts as endless.
    timeout: u32,
}

impl Set {
    const fn of(packages: &'static [&'static str], args: &'static str, timeout: u32) -> Self {
        Self { packages, args, flags: "", timeout }
    }
}

const TRIALS: [Trial; 2] = [
    Trial {
        name: "core",
        packages: &["mapring-core"],
        one_of: 1,
        sets: &[
            Set::of(&["mapring-core"], "--lib", 20),
            Set::of(&["mapring-core"], "--tests", 60),
            // The models, on real threads.
            Set::of(&["mapring-loom-tests"], "--tests", 120),
            Set::of(&["mapring"], "--no-default-features --lib --tests", 120),
            // The same in all interleavings, without the longest, and those of BPF programs.
            Set { flags: "--cfg loom", ..Set::of(&["mapring-loom-tests"], "--release --tests", 600) },
        ],
    },
    Trial {
        name: "sample",
        packages: &["mapring", "mapring-sys", "mapring-loader"],
        one_of: SAMPLE,
        sets: &[
            Set::of(&["mapring"], "--lib --tests", 120),
            Set::of(
                &["mapring-hostile-tests"],
                "--features=mapring-hostile-tests/bpf --test=death --test=hostile",
                300,
            ),
            Set::of(&["mapring-hostile-tests"], "--features=mapring-hostile-tests/bpf --test=faults", 600),
            Set::of(&["mapring-kernel-tests"], "--tests", 900),
        ],
    },
];

/// Tests all mutants of the core, and the sample.
pub(super) fn run(tools: &Tools) -> Result<Counts> {
    ensure!(
        cmd::succeeds(&mut cmd::line("git diff --quiet HEAD"), ""),
        "commit the changes: mutants are made of a commit"
    );
    let lab = Lab {
        tool: cargo_tools::install("mutants", VERSION)?,
        folder: cmd::target_dir().join("source-mutants"),
        tools,
    };
    lab.update()?;
    let mut counts = Counts::default();
    for trial in &TRIALS {
        counts += lab.run(trial)?;
    }
    Ok(counts)
}

/// A clone of the repository, whose sources are changed.
struct Lab<'a> {
    tool: PathBuf,
    folder: PathBuf,
    tools: &'a Tools,
}

impl Lab<'_> {
    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Fetches the commit. Undoes the changes of a run that was killed.
    fn update(&self) -> Result<()> {
        let tree = self.tree();
        let git = |line: &str| cmd::run(cmd::line(line).current_dir(&tree));
        if !tree.join(".git").exists() {
            fs::create_dir_all(&tree)?;
            git("git init --quiet")?;
        }
        cmd::run(
            cmd::line("git fetch --quiet --depth 1 --force").arg(cmd::root()).arg("HEAD").current_dir(&tree),
        )?;
        git("git reset --quiet --hard FETCH_HEAD")
    }

    fn mutants(&self, trial: &Trial) -> Command {
        let mut command = Command::new(&self.tool);
        command.args(["mutants", "--colors=never"]).current_dir(self.tree());
        command.args(trial.packages.iter().map(|package| format!("--package={package}")));
        command
    }

    /// Runs each set of tests on the mutants that the sets before it missed.
    fn run(&self, trial: &Trial) -> Result<Counts> {
        let Trial { name, one_of, .. } = trial;
        let seed = seed() % one_of;
        let all = cmd::output(self.mutants(trial).arg("--list"))?;
        let all = all.lines().enumerate().map(|(at, mutant)| (at % one_of == seed, mutant));
        let (chosen, others): (Vec<_>, Vec<_>) = all.partition(|(is_chosen, _)| *is_chosen);
        let (out, key) =
            (self.folder.join(name), Sources::load()?.key(&Covers::tests(&[]).builds(trial.packages))?);
        if fs::read_to_string(out.join("key")).unwrap_or_default() != key {
            let _ = fs::remove_dir_all(&out);
            fs::create_dir_all(out.join("mutants.out"))?;
            // cargo-mutants leaves these out.
            add(
                &out.join("mutants.out/previously_caught.txt"),
                others.into_iter().map(|(_, mutant)| mutant.to_owned()),
            )?;
            fs::write(out.join("key"), key)?;
        }
        for set in trial.sets {
            keep(&out)?;
            let mut command = self.mutants(trial);
            command.args(["--in-place", "--iterate", "--build-timeout=900", "--output"]).arg(&out);
            // Its pipe would be an extra descriptor in all tests, and some count descriptors.
            command.arg("--jobserver=false").arg(format!("--timeout={}", set.timeout));
            command.args(set.packages.iter().map(|package| format!("--test-package={package}")));
            command.args(set.args.split(' ').map(|arg| format!("--cargo-arg={arg}")));
            let mut target = self.folder.join("target");
            if !set.flags.is_empty() {
                target = self.folder.join("target-loom");
                // It would run the core's own tests, which are none of loom's.
                command.arg("--baseline=skip");
                command.args(["--", "--", "--skip=bpf_"]);
                command.args(LONGEST.iter().map(|model| format!("--skip={model}")));
            }
            command.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", set.flags).env("RUST_BACKTRACE", "0");
            command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
            command.env("CARGO_PROFILE_RELEASE_DEBUG", "0").env("MAPRING_REQUIRE_BPF", "1");
            // Enough to detect a change, in a fraction of the time.
            command.env("MAPRING_STRESS_SECONDS", "2").env("MAPRING_HOSTILE_SECONDS", "1");
            command.env("MAPRING_HOSTILE_IMAGES", "100").env("MAPRING_FAULTS_ERRNOS", "ENOMEM");
            self.tools.export(&mut command);
            match cmd::run_with_signals(&mut command)?.code() {
                // All were caught; some were missed; some did not end.
                Some(0 | 2 | 3) => {}
                code => bail!("cargo-mutants ended with {code:?}: see {}", out.display()),
            }
        }
        keep(&out)?;
        let survivors = lines(&out.join("mutants.out/missed.txt"));
        survivors.iter().for_each(|mutant| println!("SURVIVED {mutant}"));
        let (survived, unviable) = (survivors.len(), lines(&out.join("unviable.txt")).len());
        let mutants = chosen.len() - unviable;
        println!(
            "{name}: each {one_of}th, from {seed} on: {mutants} mutants, {survived} survived; {unviable} do not compile"
        );
        let [cases, mutants, survived] = [chosen.len(), mutants, survived].map(|number| number as u64);
        Ok(Counts { cases, mutants, killed: mutants - survived, failures: survived, ..Counts::default() })
    }
}

/// Chooses the sample.
fn seed() -> usize {
    env!("CARGO_PKG_VERSION")
        .bytes()
        .fold(0, |seed: usize, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Keeps what cargo-mutants does not pass on from one run to the next: a mutant that does not end is caught, and which do not
/// compile.
fn keep(out: &Path) -> Result<()> {
    let last = out.join("mutants.out");
    add(&last.join("caught.txt"), lines(&last.join("timeout.txt")))?;
    add(&out.join("unviable.txt"), lines(&last.join("unviable.txt")))
}

/// Adds mutants to a list.
fn add(list: &Path, mutants: impl IntoIterator<Item = String>) -> Result<()> {
    let all: BTreeSet<_> = lines(list).into_iter().chain(mutants).map(|mutant| mutant + "\n").collect();
    fs::write(list, all.into_iter().collect::<String>()).with_context(|| list.display().to_string())
}

/// One of cargo-mutants' lists; empty if there is none.
fn lines(list: &Path) -> Vec<String> {
    fs::read_to_string(list).unwrap_or_default().lines().map(str::to_owned).collect()
}
