//! The only table of checks: the steps of `cargo xtask test`, in order, and the methods of `cargo xtask prove`.

mod fuzz;
mod kinds;
mod nightly;
mod runs;
mod source_mutants;

use self::kinds::{Count, check, code, part, programs};
use crate::loom::models::{self, Model};
use crate::loom::mutants;
use crate::need::Need;
use crate::programs::{Tests, build_together, together};
use crate::prove::Covers;
use crate::{
    aarch64, api, assembly, c, cmd, deny, dist, go, guide, headers, litmus, python, rust_bpf, servers, vm,
};

pub(crate) use self::kinds::{Check, Given, Part, Proof, Quick, Takes, Work};

use Count::{Code, Outputs};
use Need::{
    Aarch64, Bpf, Browser, Compilers, Deny, Go, Machines, Nightly, OldestRust, Servers, Strace, Tools,
};
use Takes::{Check as Checking, Cpus, Kernel};
use Work::Lines;

const BPF: &[Need] = &[Tools, Bpf];
const FAULTS: &[Need] = &[Tools, Bpf, Strace];
const ARM: &[Need] = &[Tools, Aarch64];
const BUILD_STD: &[Need] = &[Nightly(&["rust-src"])];

/// The step that builds the tests of all packages.
pub(crate) const BUILD: &str = "build";
/// The command's tests of the flight recorder, which records what all processes do.
const FLIGHT: &[&str] = &["flight", "flight_dump"];
/// The tests of the command that are steps of their own.
const APART: &[&str] = &["flight", "flight_dump", "export"];
/// The kernel tests, one after the other: most measure or change something of the whole kernel.
const OF_KERNEL: Tests =
    Tests { args: &["--nocapture", "--test-threads=1"], at_once: false, ..Tests::of(&["proofs/kernel"]) };
/// The slowest of them, which the quick part leaves out. Some wait for the kernel most of the time: for grace periods of RCU.
#[rustfmt::skip]
const SLOW_OF_KERNEL: &[&str] = &[
    "conformance", "keep_tails", "killed_readers", "liveness", "pin_attacks", "resizable", "restart", "reuse", "tails", "wakeable",
];
#[rustfmt::skip]
const HOSTILE_TESTS: Tests =
    Tests { vars: || vec![("MAPRING_HOSTILE_SECONDS", "1".into()), ("MAPRING_HOSTILE_IMAGES", "500".into())], ..Tests::of(&["proofs/hostile"]) };
/// The crates of the command.
const OF_COMMAND: &[&str] = &["cli", "cli/kit", "cli/view", "cli/export", "cli/flight"];
const BPF_LOOM: Tests = Tests { without: &["stuck", "tails", "weakened"], ..Tests::of(&["proofs/bpf-loom"]) };

const LIBRARY: Covers =
    Covers::tests(&["mapring", "mapring-core", "mapring-sys", "mapring-loader", "mapring-derive"]);
const MODELS: Covers = Covers::tests(&["mapring-loom-tests"]);
const KERNEL: Covers =
    Covers::tests(&["mapring-kernel-tests"]).files(&["bindings/c", "examples/runqlat.bpf.c"]);
const HOSTILE: Covers = Covers::tests(&["mapring-hostile-tests"]).files(&["bindings/c"]);
/// What runs on which kernels; not how this program boots them and watches them.
const GUESTS: &[&str] = &["xtask/src/vm/guest.rs", "xtask/src/vm/initramfs.rs", "xtask/src/vm/kernels.rs"];
/// The tests that run, or are compiled, for an emulated machine.
#[rustfmt::skip]
const EMULATED: &[&str] = &[
    "cli/tests", "proofs/kernel/tests", "xtask/src/vm/guest.rs", "xtask/src/vm/initramfs.rs", "xtask/src/vm/kernels.rs",
];
const IN_GUESTS: Covers = Covers::tests(&["mapring-kernel-tests"]).files(GUESTS);
#[rustfmt::skip]
const FLIGHT_IN_GUESTS: &[&str] = &[
    "cli/src/main.rs", "cli/tests/common", "cli/tests/flight",
    "xtask/src/vm/guest.rs", "xtask/src/vm/initramfs.rs", "xtask/src/vm/kernels.rs",
];
/// The tests of BPF programs in Rust that need no tool chain of their own.
#[rustfmt::skip]
const RUST_BPF: &[&str] = &[
    "ring/ebpf", "proofs/rust-bpf", "docs/rust-bpf.md", "proofs/kernel/tests/options", "proofs/kernel/tests/options.rs",
    "proofs/kernel/tests/rust_bpf.rs", "ring/include", "proofs/bpf-loom/tests/agrees.rs", "proofs/bpf-loom/tests/models.rs", "proofs/bpf-loom/tests/tails.rs",
];
#[rustfmt::skip]
const PYTHON: &[&str] = &[
    "bindings/c", "bindings/python", "docs/python.md", "proofs/kernel/tests/options", "proofs/kernel/tests/options.rs",
];

/// All checks. The longest steps start first (`test/schedule.rs`); the table at the end has this order.
static CHECKS: &[Check] = &[
    check("setup", "installs or finds the BPF build tools")
        .test(part(1, &[Tools], code("cargo xtask setup", |_| Ok(())))),
    check(BUILD, "the tests of all packages but the models and benchmarks, in one build").test(
        part(590, &[Tools], code("cargo test --workspace … --no-run", |given| build_together(given.tools()?).map(drop)))
            .takes(Cpus),
    ),
    check("fmt", "the format of all sources").test(part(3, &[], Lines(&[
            "cargo fmt --all --check",
            "cargo fmt --manifest-path ring/ebpf/Cargo.toml --all --check",
            "cargo fmt --manifest-path proofs/rust-bpf/Cargo.toml --check",
            "cargo fmt --manifest-path proofs/fuzz/Cargo.toml --check",
            "cargo fmt --manifest-path bindings/python/Cargo.toml --all --check",
        ]))),
    check("clippy", "lints of all crates, benchmarks included")
        .in_all(part(245, &[Tools], Lines(&["cargo clippy --target-dir target/check --workspace --all-targets --all-features -- -D warnings"])).takes(Checking).built()),
    check("clippy-memfd", "lints of what builds without BPF programs, and so without a C compiler")
        .in_all(part(
            75,
            &[],
            Lines(&[
                "cargo clippy --target-dir target/check -p mapring -p mapring-cli -p mapring-kit -p mapring-view -p mapring-export -p mapring-flight -p mapring-examples -p mapring-hostile-tests -p xtask --no-default-features --features mapring-cli/commands --all-targets -- -D warnings",
                "cargo check --target-dir target/check -p mapring-cli --no-default-features --features bpf",
            ]),
        ).takes(Checking)),
    check("docs", "the library's documentation, its links included")
        .in_all(part(10, &[Tools], Lines(&["RUSTDOCFLAGS=-Dwarnings cargo doc --target-dir target/check --no-deps -p mapring -p mapring-core -p mapring-sys -p mapring-loader -p mapring-derive --all-features"])).takes(Checking)),
    check("package", "the crates' files as cargo would publish them")
        .in_all(part(1, &[], Lines(&["cargo package --no-verify --allow-dirty -p mapring-derive -p mapring-core -p mapring-sys -p mapring -p mapring-loader"]))),
    check("deny", "the licences and sources of all dependencies")
        .in_all(part(5, &[Deny], code("cargo-deny check bans licenses sources", |_| deny::run()))),
    check("unit", "the tests of the library and of xtask")
        .test(programs(30, &[Tools], Tests::of(&["ring", "ring/core", "ring/sys", "ring/loader", "ring/derive", "xtask"]))),
    check("doctest", "the examples in the documentation").test(
        part(7, &[Tools], code("cargo test --workspace … --doc", |given| cmd::run(together(given.tools()?).arg("--doc"))))
            .built(),
    ),
    check("headers", "the BPF headers, compiled by every clang here")
        .test(part(90, &[Tools], code("clang -target bpf -Wall -Wextra -Werror … on every *.bpf.c, with every clang here; builds compile them with one for this machine", |given| headers::run(given.tools()?, true))))
        .quick(part(
            25,
            &[Tools],
            code("the same for any machine", |given| headers::run(given.tools()?, false)),
        )),
    check("c", "the headers for C and C++ with every compiler and sanitizer, and the program of docs/c.md")
        .in_all(
            part(90, &[Tools, Bpf, Compilers], code("gcc, clang, g++, aarch64-linux-gnu-gcc … -Wall -Wextra -Wpedantic -Werror; bpftool gen skeleton; cc; switches", |given| {
                c::run(given.tools()?)
            }))
            .takes(Kernel)
            .built(),
        ),
    check("examples", "the examples").test(programs(7, BPF, Tests::of(&["examples"])).takes(Kernel)),
    check("command", "the tests of the command")
        .test(programs(80, &[Tools], Tests { without: APART, ..Tests::of(OF_COMMAND) }).takes(Kernel)),
    check("flight", "the tests of the flight recorder, by themselves: it records what all processes do")
        .in_all(
            programs(100, &[Tools], Tests { only: FLIGHT, at_once: false, ..Tests::of(OF_COMMAND) })
                .takes(Takes::Machine),
        ),
    check("memfd", "the library and the command without BPF programs: memory files, what the command lacks, and the demo")
        .in_all(part(
            150,
            &[],
            code("cargo test -p mapring --no-default-features --test memfd --test images; cargo test -p mapring-cli …; cargo xtask demo --json --seconds 1 --memfd", |_| {
                runs::without_bpf()
            }),
        )),
    check("export", "the command's export, read by Prometheus, VictoriaMetrics and NATS")
        .in_all(
            programs(
                47,
                &[Tools, Bpf, Servers],
                Tests {
                    only: &["export"],
                    vars: || vec![(servers::VARIABLE, servers::folder().display().to_string())],
                    ..Tests::of(OF_COMMAND)
                },
            )
            .takes(Kernel),
        ),
    check("demo", "the demo, run for a second").test(
        part(2, BPF, code("mapring demo --json --seconds 1", |given| {
            runs::one_json_object(crate::programs::command(given.tools()?)?.arg("demo"))
        }))
        .takes(Kernel)
        .built(),
    ),
    check("guide", "the projects of docs/guide with the program of README.md, built elsewhere and run")
        .in_all(
            part(
                58,
                BPF,
                code("mapring new target/guide/switches; cargo build; target/debug/switches", |given| guide::run(given.tools()?)),
            )
            .takes(Kernel)
            .built(),
        ),
    check("rust-bpf", "BPF programs in Rust: instructions, models, the real kernel, and the project of docs/rust-bpf.md")
        .prove(23, &[Tools, Bpf, Machines(&[rust_bpf::GUESTS])], Covers::tests(&[]).builds(&["mapring-kernel-tests", "mapring-bpf-loom"]).files(RUST_BPF), Code(rust_bpf::count)),
    check("kernel", "all tests of the real kernel")
        .test(
            programs(230, BPF, Tests { vars: || vec![("MAPRING_STRESS_SECONDS", "2".into())], ..OF_KERNEL }).takes(Kernel),
        )
        .quick(
            programs(110, BPF, Tests {
                without: SLOW_OF_KERNEL,
                vars: || vec![("MAPRING_STRESS_SECONDS", "1".into())],
                ..OF_KERNEL
            })
            .takes(Kernel),
        )
        .prove(13, BPF, KERNEL, Outputs(&["cargo test --release -p mapring-kernel-tests --no-fail-fast -- --nocapture --test-threads=1"])),
    check("zero-syscalls", "readers under a seccomp filter that kills on any system call, with read-only pages").prove(
        12,
        BPF,
        KERNEL,
        Outputs(&["cargo test --release -p mapring-kernel-tests --no-fail-fast --test zero_syscalls -- --nocapture --test-threads=1"]),
    ),
    check("stress", "writers nested in writers on all CPUs, each word and ticket checked").prove(
        14,
        BPF,
        KERNEL,
        Code(runs::count_stress),
    ),
    check("hostile", "memory that anyone scribbles on, memory files, writers that die")
        .test(programs(55, &[Tools], Tests { without: &["faults"], ..HOSTILE_TESTS }).takes(Kernel))
        .quick(
            programs(40, &[Tools], Tests {
                only: &["hostile"],
                vars: || vec![("MAPRING_HOSTILE_SECONDS", "0.5".into()), ("MAPRING_HOSTILE_IMAGES", "250".into())],
                ..HOSTILE_TESTS
            })
            .takes(Kernel),
        )
        .prove(10, &[], HOSTILE, Code(runs::count_hostile)),
    check("faults", "each system call of the library fails once, at each place")
        .in_all(
            programs(60, FAULTS, Tests { only: &["faults"], vars: || vec![("MAPRING_FAULTS_EVERY", "8".into())], ..HOSTILE_TESTS })
                .takes(Kernel),
        )
        .prove(11, FAULTS, HOSTILE, Outputs(&["MAPRING_FAULTS_ERRNOS=EPERM,ENOMEM,EINTR,EAGAIN,EINVAL cargo test -p mapring-hostile-tests --features bpf --test faults -- --nocapture"])),
    check("vm", "tests of the real kernel on other kernels, under QEMU")
        .in_all(
            part(
                500,
                &[Tools, Machines(vm::STEPS)],
                code("cargo xtask vm 6.12-preempt -- …; cargo xtask vm 5.10 sid -- …; cargo xtask vm 5.15 -- …", |given| {
                    vm::step(vm::STEPS, given.tools()?).map(drop)
                }),
            )
            .built(),
        ),
    check("vm-oldest", "all tests of the library that a kernel can change, on the oldest kernels, under QEMU")
        .prove(18, &[Tools, Machines(vm::PROOF_OLDEST)], IN_GUESTS, Code(|given| vm::step(vm::PROOF_OLDEST, given.tools()?))),
    check("vm-stable", "the same on Debian's kernels")
        .prove(19, &[Tools, Machines(vm::PROOF_STABLE)], IN_GUESTS, Code(|given| vm::step(vm::PROOF_STABLE, given.tools()?))),
    check("vm-preempt", "the same on kernels that preempt programs")
        .prove(20, &[Tools, Machines(vm::PROOF_PREEMPT)], IN_GUESTS, Code(|given| vm::step(vm::PROOF_PREEMPT, given.tools()?))),
    check("vm-newest", "the same on the newest kernel")
        .prove(21, &[Tools, Machines(vm::PROOF_NEWEST)], IN_GUESTS, Code(|given| vm::step(vm::PROOF_NEWEST, given.tools()?))),
    check("vm-flight", "the tests of the flight recorder on all these kernels")
        .prove(22, &[Tools, Machines(vm::PROOF_FLIGHT)], Covers::tests(&[]).builds(&["mapring-flight"]).files(FLIGHT_IN_GUESTS), Code(|given| vm::step(vm::PROOF_FLIGHT, given.tools()?))),
    check("assembly", "machine code of the hot paths: barriers there, locks and calls not")
        .in_all(part(40, &[Tools, Compilers], code("cargo xtask assembly", |given| assembly::step(Some(given.tools()?)))))
        .prove(1, &[], Covers::tests(&["mapring-assembly"]).files(&["bindings/c", "xtask/src/assembly"]), Code(|given| assembly::run(given.tools().ok()))),
    check("clippy-aarch64", "lints of the library for aarch64")
        .in_all(part(12, ARM, code("cargo clippy -p mapring --no-default-features --features … --target aarch64-unknown-linux-gnu", |given| aarch64::lint(given.tools()?, false))).takes(Checking)),
    check("aarch64", "lints of all crates; the library's own tests, and some of the real kernel, on an emulated aarch64").prove(
        17,
        &[Tools, Aarch64, Machines(&[vm::PROOF_ARM])],
        LIBRARY.builds(&["mapring-kernel-tests", "mapring-cli"]).files(EMULATED),
        Code(runs::count_aarch64),
    ),
    check("features", "what each set of features compiles, tests and documents; the crates as they would be published").prove(
        15,
        &[Tools, Nightly(&[])],
        LIBRARY.comments(),
        Outputs(&[
            "cargo clippy -p mapring --no-default-features --all-targets -- -D warnings",
            "RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p mapring --no-default-features",
            "RUSTDOCFLAGS=--cfg=docsrs cargo +nightly doc --no-deps -p mapring --all-features",
            "cargo publish --dry-run --allow-dirty -p mapring-derive -p mapring-core -p mapring-sys -p mapring -p mapring-loader",
            "cargo test -p mapring --no-default-features --all-targets",
            "cargo test -p mapring --doc --no-default-features",
            "cargo test --release -p mapring -p mapring-core -p mapring-sys -p mapring-loader -p mapring-derive --all-targets",
            "cargo check -p mapring-cli -p xtask --no-default-features",
        ]),
    ),
    check("release", "the examples and the command, optimized, with and without BPF").prove(
        16,
        BPF,
        Covers::tests(&["mapring-examples", "mapring-cli", "mapring-kit", "mapring-view", "mapring-export", "mapring-flight"]),
        Outputs(&[
            "cargo test --release -p mapring-examples --all-features",
            "cargo test --release -p mapring-examples --no-default-features",
            "cargo test --release -p mapring-cli -p mapring-kit -p mapring-view -p mapring-export -p mapring-flight --all-features",
            "cargo test -p mapring-cli -p mapring-kit -p mapring-view -p mapring-export -p mapring-flight",
            "cargo xtask demo --json --seconds 1",
        ]),
    ),
    check("clippy-loom", "lints of the loom models")
        .in_all(part(20, &[], code("RUSTFLAGS='--cfg loom' cargo clippy --release -p mapring-loom-tests --target-dir target/loom …", |_| models::clippy()))),
    check("litmus", "the protocols under the kernel's, Arm's and x86's memory models")
        .in_all(part(70, &[], code("proofs/litmus, lowered to all instructions (the kernel's own model comes with its source)", |_| runs::small_litmus())).takes(Takes::OneCpu))
        .prove(2, &[], Covers::tests(&[]).files(&["proofs/litmus", "xtask/src/litmus"]), Code(|_| litmus::run(&litmus::Dialect::ALL))),
    check("bpf-loom", "the compiled BPF code under loom, against the production readers")
        .test(part(330, &[Tools], code("the programs of proofs/bpf-loom, without `stuck`, `tails` and `weakened`; RUSTFLAGS='--cfg loom', --test models", runs::bpf_loom)).built())
        .quick(programs(25, &[Tools], BPF_LOOM))
        .prove(5, &[Tools], Covers::tests(&["mapring-bpf-loom"]).files(&["ring/include"]), Code(runs::count_bpf_loom)),
    check("loom", "every interleaving of the production sources, bounded where it says so")
        .in_all(part(90, &[], code("cargo xtask loom, without its models `bpf_…::…` and those that take longest", |_| {
            models::run(Model::is_step).map(drop)
        })))
        .prove(3, &[], MODELS, Code(|_| models::run(|_| true))),
    check("mutants", "the same with one fence, ordering or check less: a model must fail")
        .in_all(part(200, &[], code("cargo xtask loom --mutants, without those that need a build and have passed in `prove`", |_| mutants::run(&mutants::due()?))))
        .prove(4, &[], MODELS, Code(|_| runs::count_mutants())),
    check("source-mutants", "each function of the core, and a sample of the library's others, changed by cargo-mutants: a test must fail").prove(
        6,
        FAULTS,
        LIBRARY,
        Code(|given| source_mutants::run(given.tools()?)),
    ),
    check("miri", "undefined behaviour and stale loads, under many schedules").prove(
        7,
        &[Nightly(&["miri", "rust-src"])],
        LIBRARY,
        Code(|_| nightly::miri()),
    ),
    check("asan", "accesses out of bounds, over memory files").prove(
        8,
        BUILD_STD,
        LIBRARY.builds(&["mapring-hostile-tests"]).files(&["bindings/c", "proofs/hostile/tests"]),
        Code(|_| nightly::sanitizer("address", "a_load_out_of_bounds", "AddressSanitizer")),
    ),
    check("tsan", "data races around the shared words, over memory files").prove(
        9,
        BUILD_STD,
        LIBRARY,
        Code(|_| nightly::sanitizer("thread", "a_data_race", "ThreadSanitizer: data race")),
    ),
    check("fuzz", "what reads bytes of others, fuzzed: BTF, filters, saved flights, regions, recordings").prove(
        27,
        &[Nightly(&[])],
        Covers::tests(&[]).builds(&["mapring-view", "mapring-flight", "mapring-hostile-tests"]).files(&["proofs/fuzz"]),
        Code(|given| fuzz::run(given.fuzz_seconds)),
    ),
    check("go", "the Go binding: its format, go vet, its tests of the real kernel, with the race detector, and the contract of all readers")
        .in_all(
            part(190, &[Tools, Bpf, Go], code("gofmt -l; go vet ./...; go test -race ./...; the test options of proofs/kernel", |given| go::run(given.tools()?)))
                .takes(Kernel)
                .built(),
        ),
    check("python", "the Python package: its wheel in a fresh virtual environment, on the real kernel; the program of docs/python.md")
        .prove(24, BPF, Covers::tests(&[]).builds(&["mapring-kernel-tests"]).files(PYTHON), Code(python::count)),
    check("dist", "the static executables and packages: one alone in an empty root, the other processor's in an emulator")
        .prove(25, &[Tools, Bpf, Aarch64], Covers::tests(&[]).builds(&["mapring-cli"]).files(&["xtask/src/dist", "xtask/src/dist.rs"]), Code(dist::count)),
    check("report", "the page of a flight recorder's report in a headless Chromium: clicked, zoomed and read, light and dark").prove(
        26,
        &[Tools, Bpf, Browser],
        Covers::tests(&[]).builds(&["mapring-flight"]).files(&["cli/tests/browser", "cli/tests/browser.rs"]),
        Outputs(&["cargo test -p mapring-cli --features bpf --test browser -- --ignored --nocapture"]),
    ),
    check("api", "the public API of the crates is what docs/api lists")
        .in_all(part(25, &[Tools, OldestRust], code("rustup run 1.88.0 cargo rustdoc … --output-format json; the listings of docs/api", |given| api::run(given.tools()?))).takes(Checking)),
    check("msrv", "the library, the command and xtask compile with the oldest Rust")
        .in_all(part(
            85,
            &[Tools, OldestRust],
            Lines(&["rustup run 1.88.0 cargo check --target-dir target/check -p mapring -p mapring-cli -p xtask"]),
        ).takes(Checking)),
];

/// The steps of `cargo xtask test`.
pub(crate) fn tests() -> impl Iterator<Item = (&'static Check, &'static Part)> {
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
    fn the_workflow_and_its_table_name_steps_and_methods() {
        let read = |path: &str| std::fs::read_to_string(cmd::root().join(path)).unwrap();
        let (workflow, page) = (read(".github/workflows/ci.yml"), read("CONTRIBUTING.md"));
        let steps: Vec<_> = super::tests().map(|(check, _)| check.name).collect();
        let lines: Vec<_> =
            workflow.lines().filter_map(|line| line.split_once("cargo xtask test ")).collect();
        assert!(lines.len() > 2);
        for (_, named) in lines {
            assert!(named.split(' ').all(|step| steps.contains(&step)), "{named}");
            assert!(
                page.contains(&format!("| `cargo xtask test {named}` |")),
                "CONTRIBUTING.md lacks {named}"
            );
        }
        let (_, matrix) = workflow.split_once("methods:\n").unwrap();
        let rows = matrix.lines().map_while(|line| line.trim_start().strip_prefix("- "));
        let mut methods: Vec<_> = rows.flat_map(|row| row.split(' ')).collect();
        // Has no end: it runs for the time that it is given.
        methods.push("source-mutants");
        methods.sort_unstable();
        let mut all: Vec<_> = proofs().iter().map(|(check, _)| check.name).collect();
        all.sort_unstable();
        assert_eq!(methods, all);
    }

    #[test]
    fn the_checks_of_the_oldest_rust_name_it() {
        for (check, part) in super::tests().filter(|(_, part)| part.needs.contains(&OldestRust)) {
            let named = match part.work {
                Lines(lines) => lines.iter().all(|line| line.contains(OLDEST)),
                Work::Code(text, _) => text.contains(OLDEST),
                Work::Programs(_) => false,
            };
            assert!(named, "{}", check.name);
        }
    }
}
