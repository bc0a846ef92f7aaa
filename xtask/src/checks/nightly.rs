//! Miri and the sanitizers, which need a nightly Rust.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cmd;
use crate::counts::{self, Counts};

/// The number of schedules that Miri tries for each preemption rate.
const SEEDS: u64 = 16;
const RATES: [&str; 2] = ["0.01", "0.2"];

/// The protocols under Miri: random schedules with stale loads, data races, provenance.
pub(super) fn miri() -> Result<Counts> {
    let strict = "-Zmiri-strict-provenance";
    let mut all = counts::of(miri_test("mapring-core", &["--test", "protocol"]).env("MIRIFLAGS", strict))?;
    all.explored = all.cases;
    for rate in RATES {
        let flags = format!("{strict} -Zmiri-many-seeds=0..{SEEDS} -Zmiri-preemption-rate={rate}");
        // All seeds print at the same time, so only the end of the output is readable.
        let (_, status) =
            cmd::tee(miri_test("mapring-core", &["--test", "protocol"]).env("MIRIFLAGS", flags))?;
        all.explored += all.cases * SEEDS;
        all.failures += u64::from(!status.success());
    }
    // Atomics of different sizes, side by side.
    all += counts::of(
        miri_test("mapring --no-default-features", &["--lib", "scalar"]).env("MIRIFLAGS", strict),
    )?;
    for (control, says) in [("a_data_race", "Data race"), ("a_load_out_of_bounds", "Undefined Behavior")] {
        all += noticed(
            miri_test("mapring-core", &["--test", "controls"]).env("MIRIFLAGS", strict),
            control,
            says,
        )?;
    }
    Ok(all)
}

fn miri_test(package: &str, tests: &[&str]) -> Command {
    let mut cargo = cmd::line(&format!("cargo +nightly miri test -p {package} --target-dir"));
    cargo.arg(cmd::target_dir().join("miri")).args(tests).env_remove("RUSTFLAGS");
    cargo
}

/// All memfd tests of the library, under a sanitizer that also instruments the standard library. The address sanitizer
/// runs the hostile-memory tests as well.
pub(super) fn sanitizer(name: &'static str, control: &str, says: &str) -> Result<Counts> {
    let about = cmd::output(&mut cmd::line("rustc -vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let cargo = |package: &str, tests: &[&str]| {
        let mut cargo =
            cmd::line("cargo +nightly test --release -Zbuild-std --no-default-features --package");
        cargo.arg(package);
        let folder = if name == "address" { "asan" } else { "tsan" };
        cargo.args(["--target", host, "--target-dir"]).arg(cmd::target_dir().join(folder));
        cargo.env("RUSTFLAGS", format!("-Zsanitizer={name} -Cdebug-assertions")).args(tests);
        cargo
    };
    let tests = [
        "--package=mapring-core",
        "--lib",
        "--tests",
        "--no-fail-fast",
        "--",
        "--nocapture",
        "--test-threads=1",
    ];
    // A report makes the test program fail, whatever the tests return.
    let mut all = counts::of(cargo("mapring", &tests).env("TSAN_OPTIONS", "halt_on_error=1"))?;
    if name == "address" {
        // Hostile memory is the purpose of the address sanitizer.
        let hostile = ["--test", "hostile", "--", "--nocapture", "--test-threads=1"];
        all += counts::of(&mut cargo("mapring-hostile-tests", &hostile))?;
    }
    all += noticed(&mut cargo("mapring-core", &["--test", "controls"]), control, says)?;
    Ok(all)
}

/// Runs a program with a bug that the tool must detect.
fn noticed(command: &mut Command, control: &str, says: &str) -> Result<Counts> {
    command.args(["--", "--ignored", "--exact", "--nocapture", control]);
    cmd::announce(command);
    let out = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let text = String::from_utf8_lossy(&out.stderr);
    let ran = String::from_utf8_lossy(&out.stdout).contains("running 1 test");
    if !ran {
        bail!("`{}` did not run:\n{text}", cmd::shown(command));
    }
    let killed = !out.status.success() && text.contains(says);
    eprintln!("{control}: {}", if killed { "noticed" } else { "NOT NOTICED" });
    Ok(Counts { mutants: 1, killed: killed.into(), failures: (!killed).into(), ..Counts::default() })
}
