//! The kernel's JIT code of producers: the claim, the words and the publication, in that order, by instructions that
//! order them on this machine. `proofs/litmus/` proves the properties of those instructions; this test checks that the
//! kernel emits them, in the kernel's own copy of the code.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod check;
mod step;
#[cfg(target_arch = "x86_64")]
mod x86;

use mapring_kernel_tests::prelude::*;

#[cfg(target_arch = "aarch64")]
use self::aarch64 as machine;
use self::check::{Claim, Publish};
use self::step::{Does, Operation};
#[cfg(target_arch = "x86_64")]
use self::x86 as machine;

/// The publication of programs compiled for this machine.
const HERE: Publish = if cfg!(target_arch = "x86_64") { Publish::Store } else { Publish::Exchange };

#[test]
fn code_for_this_machine() {
    require_bpf!();
    let object = &bpf::JIT.load(unfitted);
    check_all(object, HERE, guard());
}

#[test]
fn code_for_any_machine() {
    require_bpf!();
    let object = &bpf::JIT_PORTABLE.load(unfitted);
    check_all(object, Publish::Exchange, Claim::CompareExchange);
}

/// BPF's store-release of 8 bytes: the opcode of atomics, and the number of this one.
const STORE_RELEASE: (u8, i32) = (0xdb, 0x110);
/// The JIT's translation of it.
const RELEASE: Publish = if cfg!(target_arch = "x86_64") { Publish::Store } else { Publish::Release };

#[test]
fn code_with_a_store_release() {
    require_bpf!();
    let object = &bpf::JIT_RELEASE.load(unfitted);
    for name in ["ring_push", "cell_set"] {
        let program = program(object, name);
        let releases = program.insns().iter().filter(|insn| (insn.code, insn.imm) == STORE_RELEASE);
        assert_eq!(releases.count(), 1, "what this is about is not in the program");
    }
    check_all(object, RELEASE, Claim::CompareExchange);
    let wrong = if RELEASE == Publish::Store { &WRONG[1..] } else { &WRONG[..] };
    missing_barriers_are_found_in(object, RELEASE, wrong);
}

/// Deliberately wrong programs of the object, and a part of the expected message. The first applies if a plain store,
/// which it ends with, is not a release.
const WRONG: [(&str, &str); 4] = [
    ("wrong_store", "without publication"),
    ("wrong_addition", "without publication"),
    ("wrong_claim", "without claim"),
    ("wrong_order", "behind the publication"),
];

/// The check distinguishes correct code from code for x86 on another machine, and from code without barriers.
#[test]
fn missing_barriers_are_found() {
    require_bpf!();
    let object = &bpf::JIT_PORTABLE.load(unfitted);
    missing_barriers_are_found_in(object, Publish::Exchange, &WRONG);
    // It also does not confuse the ways to publish.
    check::record(&functions(object, "ring_push"), RELEASE, Claim::CompareExchange).unwrap_err();
}

fn missing_barriers_are_found_in(object: &Object, publish: Publish, wrong: &[(&str, &str)]) {
    for (name, complaint) in wrong {
        let error = check::record(&functions(object, name), publish, Claim::CompareExchange).unwrap_err();
        assert!(error.contains(complaint), "{name}: {error}");
    }
}

/// Every producer passes; none passes with one of its barriers weakened.
fn check_all(object: &Object, publish: Publish, of_rings: Claim) {
    for (name, claim) in
        [("ring_push", of_rings), ("numa_push", of_rings), ("cell_set", Claim::CompareExchange)]
    {
        let functions = functions(object, name);
        check::record(&functions, publish, claim).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        let mut changes = 0;
        for (at, function) in functions.iter().enumerate() {
            for (change, weaker) in weaker(function, claim) {
                let mut functions = functions.clone();
                functions[at] = weaker;
                assert!(check::record(&functions, publish, claim).is_err(), "{name}: {change}: not noticed");
                changes += 1;
            }
        }
        assert!(changes > 0, "{name}: nothing to weaken");
        let atomics = functions.iter().flat_map(machine::steps).filter(|step| match step.does {
            Does::Atomic { operation, .. } => operation != Operation::Other,
            does => does == Does::Release,
        });
        let atomics: Vec<_> = atomics.map(|step| step.text).collect();
        println!("{name}: {}; {changes} weaker ones noticed", atomics.join(", "));
    }
    check::counter(&functions(object, "counter_add")).unwrap_or_else(|wrong| panic!("counter_add: {wrong}"));
}

/// How programs for this machine claim slots of a ring.
fn guard() -> Claim {
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let address = |name: &str| {
        let line = symbols.lines().find(|line| line.split(' ').nth(2) == Some(name))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok()
    };
    match (address("bpf_preempt_disable"), address("bpf_preempt_enable")) {
        (Some(begin), Some(end)) if cfg!(target_arch = "x86_64") => Claim::Guard { begin, end },
        _ => Claim::CompareExchange,
    }
}

/// Copies of the function with a weaker claim: the change, and the function.
fn weaker(function: &Function, claim: Claim) -> Vec<(String, Function)> {
    match claim {
        #[cfg(target_arch = "x86_64")]
        Claim::Guard { begin, end } => [("begin", begin), ("end", end)]
            .into_iter()
            .flat_map(|(what, to)| machine::without_call(function, to).into_iter().map(move |f| (what, f)))
            .map(|(what, function)| (format!("without the {what} of the guard"), function))
            .collect(),
        _ => machine::weaker(function),
    }
}

fn functions(object: &Object, name: &str) -> Vec<Function> {
    let program =
        object.progs().find(|program| program.name() == name).unwrap_or_else(|| panic!("no program {name}"));
    image(program.as_fd())
        .unwrap_or_else(|| panic!("{name}: no machine code: is net.core.bpf_jit_enable set?"))
}
