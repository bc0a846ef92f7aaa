//! The Python package: builds its wheel with maturin, installs it in a fresh virtual environment, and runs its tests there. What they need
//! comes from PyPI, into `target/python`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench::languages::{Times, times};
use crate::checks::Given;
use crate::counts::Counts;
use crate::packages::BCC;
use crate::setup::Tools;
use crate::skip::Skip;
use crate::{cmd, headers, packages, programs};

/// What builds the wheel, and what its tests use.
const MATURIN: &str = "maturin>=1.9,<2";
const TESTED_WITH: [&str; 5] = ["pytest", "mypy", "numpy", "pyarrow", "polars"];

fn folder() -> PathBuf {
    cmd::target_dir().join("python")
}

fn package() -> PathBuf {
    cmd::root().join("bindings/python")
}

/// Makes a virtual environment with these packages.
fn environment(at: &Path, packages: &[&str]) -> Result<()> {
    if at.exists() {
        fs::remove_dir_all(at)?;
    }
    let install = || {
        cmd::output(Command::new("python3").args(["-m", "venv"]).arg(at))?;
        cmd::output(Command::new(at.join("bin/pip")).args(["install", "--quiet"]).args(packages))
    };
    install().map(drop).map_err(|error| {
        Skip(format!("no virtual environment: {error:#}\nit needs python3 with venv, and PyPI (offline?)"))
            .into()
    })
}

/// A cargo command in the package, which is a workspace of its own.
fn cargo(line: &str) -> Command {
    let mut command = cmd::line(line);
    command.current_dir(package()).env("CARGO_TARGET_DIR", folder().join("build"));
    command
}

/// Builds the wheel.
fn build() -> Result<PathBuf> {
    let (maturin, wheels) = (folder().join("maturin"), folder().join("wheels"));
    if !maturin.join("bin/maturin").exists() {
        environment(&maturin, &[MATURIN])?;
    }
    if wheels.exists() {
        fs::remove_dir_all(&wheels)?; // of other versions
    }
    let mut build = Command::new(maturin.join("bin/maturin"));
    build.args(["build", "--release", "--out"]).arg(&wheels);
    build.current_dir(package()).env("CARGO_TARGET_DIR", folder().join("build"));
    cmd::run(&mut build)?;
    cmd::files(&wheels)?
        .into_iter()
        .find(|file| file.extension().is_some_and(|it| it == "whl"))
        .context("no wheel")
}

/// Builds the wheel and its tests' producer, and installs the wheel in a fresh environment.
fn prepare(tools: &Tools) -> Result<(PathBuf, PathBuf)> {
    let mut producer = cargo("cargo build --release --locked -p mapring-python-producer");
    cmd::run(tools.export(&mut producer))?;
    let wheel = build()?;
    let fresh = folder().join("tests");
    let packages: Vec<_> = TESTED_WITH.into_iter().chain(wheel.to_str()).collect();
    environment(&fresh, &packages)?;
    Ok((wheel, fresh))
}

/// Python with what the tests need.
fn in_tests(tools: &Tools, python: &Path) -> Result<Command> {
    let headers = headers::libbpf_include()?.map(|folder| folder.display().to_string()).join(":");
    let mut command = Command::new(python);
    command
        .current_dir(package())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CLANG", &tools.clangs[0].path)
        .env("MAPRING_BPF_HEADERS", headers)
        .env("MAPRING_PRODUCER", folder().join("build/release/mapring-python-producer"));
    Ok(command)
}

/// Lints the package, and counts its wheel's tests. Tests of BPF that are skipped say so, or fail.
fn test(tools: &Tools, requires_bpf: bool) -> Result<(PathBuf, Counts)> {
    let mut lint = cargo("cargo clippy --release --locked --workspace --all-targets -- -D warnings");
    cmd::run(tools.export(&mut lint))?;
    let (wheel, fresh) = prepare(tools)?;
    let mut tests = in_tests(tools, &fresh.join("bin/python"))?;
    tests.args(["-m", "pytest", "-p", "no:cacheprovider"]);
    if requires_bpf {
        tests.env("MAPRING_REQUIRE_BPF", "1");
    }
    let (text, status) = cmd::tee(&mut tests)?;
    let last =
        text.lines().rfind(|line| line.contains(" passed") || line.contains(" failed")).unwrap_or_default();
    let sum = |words: &[&str]| {
        let numbers = Counts::numbers(last).into_iter();
        numbers.filter(|(_, word)| words.contains(word)).map(|(number, _)| number).sum::<u64>()
    };
    let failures = sum(&["failed", "error", "errors"]).max(u64::from(!status.success()));
    Ok((wheel, Counts { cases: sum(&["passed", "failed"]), failures, ..Counts::default() }))
}

/// What a record costs a reader in Python, and bcc's.
pub(crate) fn speed(tools: &Tools) -> Result<Times> {
    packages::ensure(&[BCC])?;
    let fresh = prepare(tools)?.1;
    let mut ours = in_tests(tools, &fresh.join("bin/python"))?;
    let mut text = cmd::output(ours.args(["-m", "pytest", "-p", "no:cacheprovider", "tests/test_speed.py"]))?;
    // bcc is a package of the system's Python, and the tests' helpers need pytest.
    let packages = "import pytest, pathlib; print(pathlib.Path(pytest.__file__).parents[1])";
    let packages = cmd::output(Command::new(fresh.join("bin/python")).args(["-c", packages]))?;
    let mut theirs = in_tests(tools, Path::new("/usr/bin/python3"))?;
    text += &cmd::output(theirs.arg("tests/bcc_speed.py").env("PYTHONPATH", packages.trim()))?;
    times(
        &text,
        &[
            ("read_numpy", "`read_numpy`"),
            ("events", "`read`, an object for each record, and one of its fields"),
            (
                "bcc",
                "bcc's ring buffer over a BPF ringbuf, a callback for each record, and one of its fields",
            ),
        ],
    )
}

/// `cargo xtask wheel`.
pub(crate) fn wheel(tools: &Tools) -> Result<()> {
    let (wheel, counts) = test(tools, false)?;
    ensure!(counts.failures == 0, "{} tests of the wheel failed", counts.failures);
    println!("{}", wheel.display());
    Ok(())
}

/// The method of proof: also the contract of the readers in all languages.
pub(crate) fn count(given: &Given<'_>) -> Result<Counts> {
    let tools = given.tools()?;
    let (_, mut counts) = test(tools, true)?;
    let python = [folder().join("tests/bin/python"), package().join("tests/reads.py")];
    counts += programs::languages(tools, "Python", &python)?;
    Ok(counts)
}
