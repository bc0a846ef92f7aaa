//! Whether programs claim slots in the guard: a question of speed alone, as both claims may write one ring.

use std::fs;

use libbpf_rs::OpenObject;
use libbpf_rs::btf::types::{DataSec, Var};
use libbpf_rs::btf::{Btf, BtfType};

/// The constant by which the loader tells programs (`claim.bpf.h`): 1 for claims without the guard.
const CONSTANT: &str = "mapring__guard_is_slow";

/// Where the kernel says how it protects returns, and which of these ways make each call of a function slow: by
/// 5 ns on Zen 4, so that a guard costs three times as much as a compare-and-swap.
const MITIGATIONS: [&str; 2] = ["spec_rstack_overflow", "retbleed"];
const SLOW: [&str; 3] = ["Safe RET", "untrained return thunk", "Stuffing"];

/// Whether calls of kernel functions are slow on this machine. Reads two files of sysfs.
pub(super) fn is_slow() -> bool {
    MITIGATIONS.iter().any(|name| {
        let said = fs::read_to_string(format!("/sys/devices/system/cpu/vulnerabilities/{name}"));
        said.is_ok_and(|said| is_slow_with(&said))
    })
}

fn is_slow_with(mitigation: &str) -> bool {
    SLOW.iter().any(|slow| mitigation.contains(slow))
}

/// Tells the object's programs. Those that know no guard are left alone.
pub(super) fn choose(object: &mut OpenObject, btf: &Btf<'_>, guarded: bool) {
    let Some(at) = constant(btf) else { return };
    let constants = object.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
    if let Some(mut map) = constants
        && let Some(word) = map.initial_value_mut().and_then(|bytes| bytes.get_mut(at..at + 4))
    {
        word.copy_from_slice(&u32::from(!guarded).to_ne_bytes());
    }
}

/// Where in `.rodata` it is.
fn constant(btf: &Btf<'_>) -> Option<usize> {
    let section: DataSec<'_> = btf.type_by_name(".rodata")?;
    section.iter().find_map(|variable| {
        let var: BtfType<'_> = btf.type_by_id(variable.ty)?;
        let var = Var::try_from(var).ok()?;
        (var.name().is_some_and(|name| name == CONSTANT) && variable.size == 4)
            .then_some(variable.offset as usize)
    })
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
