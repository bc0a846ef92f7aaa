//! `cargo xtask assembly`: checks the machine code of the hot paths for required and forbidden instructions.

mod listing;
mod producers;
mod readers;

use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use crate::counts::Counts;
use crate::setup::Tools;
use crate::toolchains::{self, Clang};
use crate::{cmd, headers, packages, privilege, skip};
use producers::Publish;
use readers::Machine;

/// Functions of `proofs/assembly/src/lib.rs`: those that check the sequence twice, and those that only add up.
const READERS: [&str; 4] = ["cell_try_read", "latch_try_read", "ring_step", "ring_run"];
const SUMS: [&str; 1] = ["counters_sum"];

/// The readers' machines, and rustc's targets.
const MACHINES: [(Machine, &str); 2] =
    [(Machine::X86, "x86_64-unknown-linux-gnu"), (Machine::Aarch64, "aarch64-unknown-linux-gnu")];

/// clang's options for C on aarch64.
const CROSS: &str = "--target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include";

/// Functions of `proofs/assembly/bpf/producer.bpf.c` that claim a slot of a ring.
const RINGS: [&str; 2] = ["ring_push", "numa_push"];
const RECORDS: [&str; 3] = ["ring_push", "numa_push", "cell_set"];
const COUNTERS: [&str; 1] = ["counter_add"];

/// The ways to publish: clang's flags, a name, and the oldest clang that supports it.
const WAYS: [(Publish, &[&str], &str, u32); 3] = [
    (Publish::Store, &["-D__TARGET_ARCH_x86"], "bpf-x86", 14),
    (Publish::Xchg, &[], "bpf-portable", 14),
    // Older clangs support -mcpu=v4, but not its store-release.
    (Publish::Release, &["-mcpu=v4"], "bpf-release", 21),
];

/// Without tools, it checks only readers in Rust.
pub(crate) fn run(tools: Option<&Tools>) -> Result<Counts> {
    let mut check = Check::default();
    for (machine, target) in MACHINES {
        check.readers(machine, target)?;
    }
    if let Some(tools) = tools {
        check.producers(tools)?;
        check.c(tools)?;
    } else {
        ensure!(!privilege::required(), "MAPRING_REQUIRE_BPF=1, but no clang for the producers");
        skip::banner("assembly of the BPF producers", "no clang: cargo xtask setup");
    }
    let Check { mut counts, wrong, .. } = check;
    wrong.iter().for_each(|wrong| eprintln!("WRONG {wrong}"));
    counts.failures = wrong.len() as u64;
    Ok(counts)
}

/// The same as a step of the tests: any failure is an error.
pub(crate) fn step(tools: Option<&Tools>) -> Result<()> {
    let counts = run(tools)?;
    eprintln!(
        "{} functions, {} instructions; {} of {} weaker ones noticed",
        counts.cases, counts.explored, counts.killed, counts.mutants
    );
    ensure!(counts.failures == 0, "{} functions are not what they must be", counts.failures);
    Ok(())
}

/// Checks what rustc made of `proofs/rust-bpf/src/bin/models.rs`.
pub(crate) fn by_rustc(assembly: &str, plain_stores: bool) -> Result<()> {
    let publish = if plain_stores { Publish::Store } else { Publish::Xchg };
    let mut check = Check::default();
    for (name, is_record) in [("ring_push", true), ("cell_set", true), ("add_counters", false)] {
        let lines = listing::function(assembly, name).with_context(|| format!("rustc: no {name}"))?;
        let lines = producers::from_slot(producers::in_order(lines));
        let right = |lines: &[String]| {
            producers::check_calls(lines)?;
            if is_record { producers::check_record(publish, lines) } else { producers::check_counter(lines) }
        };
        let weaker = if is_record { producers::weaker_records(publish, &lines) } else { Vec::new() };
        check.judge(&format!("{name} by rustc"), &lines, right, &weaker);
    }
    eprintln!(
        "{} functions by rustc; {} of {} weaker ones noticed",
        check.counts.cases, check.counts.killed, check.counts.mutants
    );
    ensure!(check.wrong.is_empty() && check.counts.mutants >= 10, "{:?}", check.wrong);
    Ok(())
}

#[derive(Default)]
struct Check {
    counts: Counts,
    wrong: Vec<String>,
}

impl Check {
    fn readers(&mut self, machine: Machine, target: &str) -> Result<()> {
        let assembly = compile_readers(target)?;
        let all = listing::instructions(&assembly);
        self.counts.explored += all.len() as u64;
        if let Err(error) = readers::check_all(machine, &all) {
            self.wrong.push(format!("{target}: {error:#}"));
        }
        for name in READERS.into_iter().chain(SUMS) {
            let lines = listing::function(&assembly, name).with_context(|| format!("{target}: no {name}"))?;
            self.reader(machine, &format!("{name} for {target}"), name, &lines);
        }
        Ok(())
    }

    fn producers(&mut self, tools: &Tools) -> Result<()> {
        let libbpf = headers::libbpf_include()?;
        for clang in &tools.clangs {
            let host = headers::host_includes(&clang.path)?;
            for (publish, flags, folder, since) in WAYS {
                if clang.major < since {
                    continue;
                }
                let assembly = compile_producers(clang, &libbpf, &host, flags)?;
                let kinds = |name: &str| listing::function(&assembly, name).as_deref().map(producers::kinds);
                ensure!(
                    kinds("ring_record") == kinds("ring_push"),
                    "{folder} by clang {}: a scope costs instructions: ring_record has others than ring_push",
                    clang.version
                );
                for name in RECORDS.into_iter().chain(COUNTERS) {
                    let lines = listing::function(&assembly, name)
                        .with_context(|| format!("clang {}: no {name}", clang.version))?;
                    let lines = producers::in_order(lines);
                    self.counts.explored += lines.len() as u64;
                    let what = format!("{folder}/{name} by clang {}", clang.version);
                    self.producer(publish, &what, name, &lines);
                }
            }
        }
        Ok(())
    }

    /// The read loop of the C header, by gcc and by each clang.
    fn c(&mut self, tools: &Tools) -> Result<()> {
        packages::ensure(&packages::C_BINDING)?;
        let host = if cfg!(target_arch = "x86_64") { Machine::X86 } else { Machine::Aarch64 };
        let clangs = tools.clangs.iter().flat_map(|clang| {
            let clang = clang.path.display();
            [(host, clang.to_string()), (Machine::Aarch64, format!("{clang} {CROSS}"))]
        });
        let gcc = [(host, "gcc"), (Machine::Aarch64, "aarch64-linux-gnu-gcc")];
        for (machine, compiler) in
            gcc.map(|(machine, gcc)| (machine, gcc.to_owned())).into_iter().chain(clangs)
        {
            let options = "-std=c11 -O2 -Ibindings/c/include -S proofs/assembly/c/reader.c -o -";
            let assembly = cmd::output(&mut cmd::line(&format!("{compiler} {options}")))?;
            let lines = listing::function(&assembly, "ring_run")
                .with_context(|| format!("{compiler}: no ring_run"))?;
            self.counts.explored += lines.len() as u64;
            let reads = readers::reads(machine, &lines);
            if reads.is_empty() {
                self.wrong.push(format!("ring_run by {compiler}: no words between two barriers"));
            }
            reads.iter().for_each(|read| {
                self.reader(machine, &format!("C's ring_run by {compiler}"), "ring_run", read)
            });
        }
        Ok(())
    }

    fn reader(&mut self, machine: Machine, what: &str, name: &str, lines: &[String]) {
        if READERS.contains(&name) {
            let weaker = readers::weaker_looks(machine, lines);
            self.judge(what, lines, |lines| readers::check_reader(machine, lines), &weaker);
        } else {
            self.judge(what, lines, |lines| readers::check_path(machine, lines), &[]);
        }
    }

    fn producer(&mut self, publish: Publish, what: &str, name: &str, lines: &[String]) {
        let record = RECORDS.contains(&name);
        let guarded = publish == Publish::Store && RINGS.contains(&name);
        let check = |lines: &[String]| {
            producers::check_calls(lines)?;
            if guarded {
                producers::check_guard(lines)?;
            }
            if record { producers::check_record(publish, lines) } else { producers::check_counter(lines) }
        };
        let mut weaker = if record { producers::weaker_records(publish, lines) } else { Vec::new() };
        if guarded {
            weaker.extend(producers::weaker_guards(lines));
        }
        self.judge(what, lines, check, &weaker);
    }

    /// The function must pass, and each weakened one must fail: a check that passes those is useless.
    fn judge(
        &mut self,
        what: &str,
        lines: &[String],
        check: impl Fn(&[String]) -> Result<()>,
        weaker: &[(String, Vec<String>)],
    ) {
        self.counts.cases += 1;
        if let Err(error) = check(lines) {
            self.wrong.push(format!("{what}: {error:#}"));
            return;
        }
        self.counts.mutants += weaker.len() as u64;
        for (change, lines) in weaker {
            match check(lines) {
                Err(_) => self.counts.killed += 1,
                Ok(()) => self.wrong.push(format!("{what}, with {change}: not noticed")),
            }
        }
    }
}

/// rustc's output for `proofs/assembly/src/lib.rs`. No linker is needed, so any target works.
fn compile_readers(target: &str) -> Result<String> {
    toolchains::target(target)?;
    let folder = cmd::target_dir().join("assembly");
    let file = folder.join(format!("{target}.s"));
    let mut cargo = cmd::line("cargo rustc --quiet --release -p mapring-assembly --lib --target");
    cargo.arg(target).arg("--target-dir").arg(&folder);
    // One codegen unit, so that all code is in one file.
    cargo.args(["--", "-Cdebuginfo=0", "-Ccodegen-units=1"]);
    cargo.arg(format!("--emit=asm={}", file.display())).env_remove("RUSTFLAGS");
    cargo.stdout(io::stderr());
    cmd::run(&mut cargo)?;
    fs::read_to_string(&file).with_context(|| format!("{}", file.display()))
}

fn compile_producers(clang: &Clang, libbpf: &[PathBuf], host: &[String], flags: &[&str]) -> Result<String> {
    let mut compile: Command = headers::clang(&clang.path, libbpf, host, flags);
    compile.args(["-S", "proofs/assembly/bpf/producer.bpf.c", "-o", "-"]);
    cmd::output(&mut compile)
}
