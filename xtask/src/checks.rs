//! The only table of checks: the steps of `cargo xtask test`, in order, and the methods of `cargo xtask prove`.

mod kinds;
mod nightly;
mod runs;
mod source_mutants;

use std::time::Duration;

use anyhow::Context;

use self::kinds::{Count, check, code};
use crate::loom::models::{self, Model};
use crate::loom::mutants;
use crate::need::Need;
use crate::programs::{self, Tests};
use crate::{aarch64, assembly, cmd, guide, headers, servers, vm};

pub(crate) use self::kinds::{Check, Given, Part, Proof, Test, Work};

use Count::{Code, Line};
use Need::{Aarch64, Bpf, Machines, Nightly, OldestRust, Path, Servers, Strace, Tools};
use Work::Lines;

const BPF: &[Need] = &[Tools, Bpf];
const FAULTS: &[Need] = &[Tools, Bpf, Strace];
const ARM: &[Need] = &[Tools, Aarch64];
const BUILD_STD: &[Need] = &[Nightly(&["rust-src"])];

/// The models that take more than ten seconds.
const LONGEST_MODELS: [&str; 4] = [
    "rust::a_record_is_never_torn",
    "rust::a_nested_writer",
    "rust::a_stuck_writer_is_stepped_over",
    "a_program_while_its_ring_is_replaced",
];

/// All checks. Cheap steps come first; steps with the same build profile are adjacent.
static CHECKS: &[Check] = &[
    check("setup", "the tools of a BPF build can be had")
        .test(&[Tools], code("cargo xtask setup", |_| Ok(()))),
    check("fmt", "the format of all sources").test(&[], Lines(&["cargo fmt --all --check"])),
    check("clippy", "lints of all crates, benchmarks included")
        .test(&[Tools], Lines(&["cargo clippy --workspace --all-targets --all-features -- -D warnings"]))
        .only_in_all(),
    check("clippy-memfd", "lints of what builds without BPF, and of the library without libbpf")
        .test(&[], Lines(&["cargo clippy -p mapring -p mapring-cli -p mapring-hostile-tests -p xtask --no-default-features --all-targets -- -D warnings", "cargo clippy -p mapring --no-default-features --features bpf,derive --all-targets -- -D warnings"]))
        .only_in_all(),
    check("docs", "the library's documentation, its links included")
        .test(&[Tools], Lines(&["RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p mapring -p mapring-derive --all-features", "RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p mapring --no-default-features", "RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p mapring --no-default-features --features bpf,derive"]))
        .only_in_all(),
    check("package", "the crates as cargo would publish them, but for the upload")
        .test(&[Tools], Lines(&["cargo publish --dry-run --allow-dirty -p mapring-derive -p mapring"]))
        .only_in_all(),
    check("unit", "the library's own tests")
        .test(&[Tools], Lines(&["cargo test -p mapring -p mapring-derive --all-targets"]))
        .quick(
            &[Tools],
            code("the same, and the tests of xtask", |tools| {
                let tools = tools.context("no tools")?;
                Tests::of("ring").run(tools)?;
                Tests::of("xtask").run(tools)
            }),
        ),
    check("unit-memfd", "the same without BPF and without libbpf, and the tests of xtask")
        .test(&[], Lines(&["cargo test -p mapring -p xtask --no-default-features --all-targets", "cargo test -p mapring --no-default-features --features bpf,derive --lib"]))
        .only_in_all(),
    check("doctest", "the examples in the documentation")
        .test(&[Tools], Lines(&["cargo test -p mapring --doc"]))
        .quick(
            &[Tools],
            code("the same, with the features of the other quick tests", |tools| {
                cmd::run(tools.context("no tools")?.export(cmd::line(programs::TOGETHER).arg("--doc")))
            }),
        ),
    check("doctest-memfd", "the same without BPF")
        .test(&[], Lines(&["cargo test -p mapring --doc --no-default-features"]))
        .only_in_all(),
    check("headers", "the BPF headers, compiled by every clang here")
        .test(&[Tools], code("clang -target bpf -Wall -Wextra -Werror … on every *.bpf.c, with every clang here", |tools| headers::run(tools.context("no tools")?, true)))
        .quick(
            &[Tools],
            code("the same for any machine; builds compile them for this one", |tools| {
                headers::run(tools.context("no tools")?, false)
            }),
        ),
    check("examples", "the examples, and the tests of the command")
        .test(
            BPF,
            Lines(&[
                "cargo test --release -p mapring-examples --all-features",
                // Apart from the examples, whose features of the library would make another build of it.
                "cargo test --release -p mapring-cli --all-features",
            ]),
        )
        .quick(
            &[Tools],
            code("the same, without Parquet", |tools| {
                // These record all that happens, so nothing else may: they run by themselves.
                let alone = &["flight", "flight_dump"];
                let tools = tools.context("no tools")?;
                Tests::of("examples").run(tools)?;
                Tests { only: alone, at_once: false, ..Tests::of("cli") }.run(tools)?;
                Tests { without: alone, ..Tests::of("cli") }.run(tools)
            }),
        ),
    check("examples-memfd", "the same without BPF")
        .test(
            &[],
            Lines(&[
                "cargo test --release -p mapring-examples --no-default-features",
                "cargo test -p mapring-cli --no-default-features",
            ]),
        )
        .only_in_all(),
    check("export", "the command's export, read by Prometheus, VictoriaMetrics and NATS")
        .test(&[Tools, Bpf, Servers], code("cargo test --release -p mapring-cli --all-features --test export, with Debian's servers", |tools| servers::test(tools.context("no tools")?)))
        .only_in_all(),
    check("demo", "the demo, run for a second")
        .test(BPF, code("cargo xtask demo --json --seconds 1", |_| runs::one_json_object(&[])))
        .only_in_all(),
    check("demo-memfd", "the same without BPF")
        .test(
            &[],
            code("cargo xtask demo --json --seconds 1 --memfd", |_| runs::one_json_object(&["--memfd"])),
        )
        .only_in_all(),
    check("guide", "the project of docs/guide.md with the program of README.md, built elsewhere and run")
        .test(
            BPF,
            code("mapring new target/guide/switches; cargo build; target/debug/switches", |tools| {
                guide::run(tools.context("no tools")?)
            }),
        )
        .only_in_all(),
    check("kernel", "all tests of the real kernel")
        .test(BPF, Lines(&["cargo test --release -p mapring-kernel-tests -- --test-threads=1"]))
        .quick(
            BPF,
            code("the same, a second for each stress test", |tools| {
                let vars = &[("MAPRING_STRESS_SECONDS", "1")];
                runs::build_ahead();
                let kernel = Tests {
                    args: &["--nocapture", "--test-threads=1"],
                    vars,
                    at_once: false,
                    ..Tests::of("proofs/kernel")
                };
                kernel.run(tools.context("no tools")?)
            }),
        )
        .prove(13, BPF, Line("cargo test --release -p mapring-kernel-tests --no-fail-fast -- --nocapture --test-threads=1")),
    check("zero-syscalls", "readers that no system call survives, on read-only pages").prove(
        12,
        BPF,
        Line("cargo test --release -p mapring-kernel-tests --no-fail-fast --test zero_syscalls -- --nocapture --test-threads=1"),
    ),
    check("stress", "writers nested in writers on all CPUs, each word and ticket checked").prove(
        14,
        BPF,
        Code(runs::count_stress),
    ),
    check("hostile-memfd", "hostile memory files")
        .test(&[], Lines(&["cargo test -p mapring-hostile-tests"]))
        .only_in_all(),
    check("hostile", "memory that anyone scribbles on, writers that die")
        .test(BPF, Lines(&["cargo test -p mapring-hostile-tests --features bpf --test hostile maps::"]))
        .quick(
            &[Tools],
            code("the same, and memory files", |tools| {
                Tests { without: &["faults"], ..Tests::of("proofs/hostile") }.run(tools.context("no tools")?)
            }),
        )
        .prove(10, &[Path("proofs/hostile")], Code(runs::count_hostile)),
    check("faults", "each system call of the library fails once, at each place")
        .test(FAULTS, Lines(&["cargo test --release -p mapring-hostile-tests --features bpf --test faults"]))
        .quick(
            FAULTS,
            code("one of eight calls, with ENOMEM only", |tools| {
                let vars = &[("MAPRING_FAULTS_ERRNOS", "ENOMEM"), ("MAPRING_FAULTS_EVERY", "8")];
                Tests { only: &["faults"], vars, ..Tests::of("proofs/hostile") }
                    .run(tools.context("no tools")?)
            }),
        )
        .prove(11, FAULTS, Line("MAPRING_FAULTS_ERRNOS=EPERM,ENOMEM,EINTR,EAGAIN,EINVAL cargo test -p mapring-hostile-tests --features bpf --test faults -- --nocapture")),
    check("vm", "tests of the real kernel on other kernels, under QEMU")
        .test(
            &[Tools, Machines(vm::STEPS)],
            code("cargo xtask vm 6.12-preempt sid 6.12-rt 6.1 -- flight:: claim …; cargo xtask vm 5.10 -- --skip …; cargo xtask vm 5.15 -- flight::", |tools| vm::step(vm::STEPS, tools.context("no tools")?)),
        )
        .only_in_all(),
    check("assembly", "machine code of the hot paths: barriers there, locks and calls not")
        .test(
            &[Tools],
            code("cargo xtask assembly", |tools| assembly::step(&assembly::Args::default(), tools)),
        )
        .prove(1, &[], Code(|given| assembly::run(&assembly::Args::default(), given.tools()))),
    check("clippy-aarch64", "lints of all crates but the benchmarks for aarch64")
        .test(ARM, code("cargo clippy --workspace --exclude mapring-benches --all-targets --all-features --target aarch64-unknown-linux-gnu …", |tools| aarch64::lint(tools.context("no tools")?)))
        .only_in_all(),
    check("aarch64", "the library's own tests on an emulated aarch64")
        .test(ARM, code("cargo test -p mapring --all-features --all-targets --target aarch64-unknown-linux-gnu, under qemu-user", |tools| aarch64::test(tools.context("no tools")?)))
        .only_in_all(),
    check("vm-aarch64", "some tests of the real kernel on aarch64 kernels")
        .test(
            &[Tools, Aarch64, Machines(&[vm::STEP_ARM])],
            code(vm::STEP_ARM, |tools| vm::step(&[vm::STEP_ARM], tools.context("no tools")?)),
        )
        .only_in_all(),
    check("clippy-loom", "lints of the loom models")
        .test(&[], code("RUSTFLAGS='--cfg loom' cargo clippy --release -p mapring-loom-tests --target-dir target/loom …", |_| models::clippy()))
        .only_in_all(),
    check("litmus", "the protocols under the kernel's, Arm's and x86's memory models")
        .test(&[], code("proofs/litmus/run.sh aarch64/* bpf/* x86/* (those of lkmm/ fetch the kernel's source, too)", |_| runs::small_litmus()))
        .only_in_all()
        .prove(2, &[Path("proofs/litmus")], Code(|_| runs::count_litmus())),
    check("bpf-loom", "the compiled BPF code under loom, against the production readers")
        .test(&[Tools], code("cargo test --release -p mapring-bpf-loom; the same with RUSTFLAGS='--cfg loom', --test models", |tools| runs::bpf_loom(tools.context("no tools")?)))
        .quick(
            &[Tools],
            code("compiled code against the reference, one thread at a time", |tools| {
                // These take a minute or more without optimization.
                Tests { without: &["stuck", "weakened"], ..Tests::of("proofs/bpf-loom") }.run(tools.context("no tools")?)
            }),
        )
        .prove(5, &[Path("proofs/bpf-loom"), Tools], Code(runs::count_bpf_loom)),
    check("loom", "every interleaving of the production sources, bounded where it says so")
        .test(
            // The models `bpf_…::…` have a copy of the BPF code in Rust: `bpf-loom` runs the compiled code itself, and
            // `litmus` has its orderings. `prove` runs them, too.
            &[],
            code("cargo xtask loom, without its models `bpf_…::…`", |_| {
                models::run(|model| !model.test.starts_with("bpf_")).map(drop)
            }),
        )
        .quick(
            &[],
            code("the same, without the four that take longest", |_| {
                let is_long = |model: &Model| LONGEST_MODELS.contains(&model.test.as_str());
                models::run(|model| !model.test.starts_with("bpf_") && !is_long(model)).map(drop)
            }),
        )
        .prove(3, &[], Code(|_| models::run(|_| true))),
    check("mutants", "the same with one fence, ordering or check less: a model must fail")
        .test(&[], code("cargo xtask loom --mutants", |_| mutants::run(&mutants::selected("")?)))
        .quick(&[], code("some of cargo xtask loom --mutants", |_| mutants::run(&mutants::sample()?)))
        .prove(4, &[Path("loom-tests/mutants.toml")], Code(|_| runs::count_mutants())),
    check("source-mutants", "each function of the library changed by cargo-mutants: a test must fail; goes on where it stopped").prove(
        6,
        FAULTS,
        Code(|given| source_mutants::run(given.needed_tools()?, Duration::from_secs(given.seconds.into()))),
    ),
    check("miri", "undefined behaviour and stale loads, under many schedules").prove(
        7,
        &[Nightly(&["miri", "rust-src"])],
        Code(|_| nightly::miri()),
    ),
    check("asan", "accesses out of bounds, over memory files").prove(
        8,
        BUILD_STD,
        Code(|_| nightly::sanitizer("address", "a_load_out_of_bounds", "AddressSanitizer")),
    ),
    check("tsan", "data races around the shared words, over memory files").prove(
        9,
        BUILD_STD,
        Code(|_| nightly::sanitizer("thread", "a_data_race", "ThreadSanitizer: data race")),
    ),
    check("msrv", "the library compiles with the oldest Rust")
        .test(&[Tools, OldestRust], Lines(&["rustup run 1.88.0 cargo check -p mapring"]))
        .only_in_all(),
    check("msrv-memfd", "so does all that needs no libbpf")
        .test(&[OldestRust], Lines(&["rustup run 1.88.0 cargo check -p mapring -p mapring-cli -p xtask --no-default-features", "rustup run 1.88.0 cargo check -p mapring --no-default-features --features bpf,derive"]))
        .only_in_all(),
];

/// The steps of `cargo xtask test`, in the order of execution.
pub(crate) fn tests() -> impl Iterator<Item = (&'static Check, &'static Test)> {
    CHECKS.iter().filter_map(|check| Some((check, check.test.as_ref()?)))
}

/// The methods of `cargo xtask prove`, in the order of execution.
pub(crate) fn proofs() -> Vec<(&'static Check, &'static Proof)> {
    let proofs = CHECKS.iter().filter_map(|check| Some((check, check.proof.as_ref()?)));
    let mut proofs: Vec<_> = proofs.collect();
    proofs.sort_by_key(|(_, proof)| proof.turn);
    proofs
}

/// One line per check, for `--help`.
pub(crate) fn help(title: &str, checks: impl Iterator<Item = &'static Check>) -> String {
    checks.fold(format!("{title}:\n"), |text, check| text + &format!("  {:15} {}\n", check.name, check.help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchains::OLDEST;

    #[test]
    fn names_are_words_and_unique() {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        assert!(names.iter().all(|name| name.chars().all(is_word)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }

    #[test]
    fn every_check_is_run_by_a_command_and_has_its_turn() {
        assert!(CHECKS.iter().all(|check| check.test.is_some() || check.proof.is_some()));
        let turns: Vec<_> = proofs().iter().map(|(_, proof)| usize::from(proof.turn)).collect();
        assert!(turns.iter().copied().eq(1..=turns.len()), "{turns:?}");
    }

    #[test]
    fn maps_need_no_c_compiler() {
        let line =
            "cargo tree -p mapring --no-default-features --features bpf,derive -e no-dev --prefix none";
        let tree = cmd::output(&mut cmd::line(line)).unwrap();
        let packages: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(packages.contains(&"mapring") && packages.contains(&"libc"), "{tree}");
        assert!(!packages.iter().any(|name| *name == "cc" || name.starts_with("libbpf")), "{tree}");
    }

    #[test]
    fn the_checks_of_the_oldest_rust_name_it() {
        for (check, test) in super::tests().filter(|(_, test)| test.whole.needs(OldestRust)) {
            let named =
                matches!(test.whole.work, Lines(lines) if lines.iter().all(|line| line.contains(OLDEST)));
            assert!(named, "{}", check.name);
        }
    }
}
