//! Whether programs claim slots in the guard. This affects only speed, as both claims may write one ring.

use std::fs;

use libbpf_rs::OpenObject;
use mapring::Result;
use mapring_sys::btf::{Btf, Kind};

use crate::error::Refused;
use crate::types::{kernel_has, license};

/// The constant that the loader sets for programs (`claim.bpf.h`): 1 selects claims without the guard.
const CONSTANT: &str = "mapring__guard_is_slow";

/// The files in which the kernel reports how it protects returns, and the protections that make each function call
/// slow: by 5 ns on Zen 4, so that a guard costs three times as much as a compare-and-swap.
const MITIGATIONS: [&str; 2] = ["spec_rstack_overflow", "retbleed"];
const SLOW: [&str; 3] = ["Safe RET", "untrained return thunk", "Stuffing"];

/// Whether calls of kernel functions are slow on this machine. Reads two files of sysfs.
pub(crate) fn is_slow() -> bool {
    MITIGATIONS.iter().any(|name| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/vulnerabilities/{name}"));
        text.is_ok_and(|text| is_slow_with(&text))
    })
}

fn is_slow_with(mitigation: &str) -> bool {
    SLOW.iter().any(|slow| mitigation.contains(slow))
}

/// The first of the two kernel functions of the guard. The kernel refuses a program with another license even if the
/// verifier would remove the calls.
const FUNCTION: &str = "bpf_preempt_disable";

/// The licenses that the kernel calls GPL-compatible (`license_is_gpl_compatible`).
const GPL_COMPATIBLE: [&str; 6] =
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// Refuses an object whose license keeps this kernel from loading its guard: the kernel's text names no remedy. Objects
/// without the guard, and kernels without its functions, take any license.
pub(crate) fn check_license(object: &OpenObject, btf: &Btf) -> Result<()> {
    let is_called =
        |btf: &Btf| btf.types().any(|ty| ty.kind() == Kind::Func && ty.name() == FUNCTION.as_bytes());
    if !is_called(btf) {
        return Ok(());
    }
    let license = match btf.types().find(|ty| ty.kind() == Kind::DataSec && ty.name() == b"license") {
        None => None,
        Some(section) => match section.variables().next().and_then(|var| license(object, var.size)) {
            // The kernel will tell.
            None => return Ok(()),
            license => license,
        },
    };
    let compatible = license.as_deref().is_some_and(|license| GPL_COMPATIBLE.contains(&license));
    if compatible || !kernel_has(FUNCTION) { Ok(()) } else { Err(Refused::License { license }.into()) }
}

/// The offset of the constant in an object's `.rodata`.
pub(crate) fn constant(btf: &Btf) -> Option<usize> {
    let section = btf.types().find(|ty| ty.kind() == Kind::DataSec && ty.name() == b".rodata")?;
    let constant = section.variables().find(|var| var.name == CONSTANT.as_bytes() && var.size == 4)?;
    Some(constant.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mitigations_of_returns_are_told_from_others() {
        let slow = [
            "Mitigation: Safe RET",
            "Vulnerable: Safe RET, no microcode",
            "Mitigation: untrained return thunk; SMT disabled",
        ];
        assert!(slow.into_iter().all(is_slow_with));
        let others = ["Not affected", "Mitigation: SMT disabled", "Mitigation: Enhanced IBRS", "Vulnerable"];
        assert!(!others.into_iter().any(is_slow_with));
    }
}
