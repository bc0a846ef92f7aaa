//! Whether this process may load and read BPF programs on this kernel; if not, the missing capability and how to get
//! it.

use std::{env, fs, path::Path};

use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

/// The capabilities that BPF needs without `SYS_ADMIN`; `SYS_ADMIN` alone is enough.
const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];

/// The facts that decide, as the kernel reports them.
#[derive(Debug)]
struct Facts {
    /// Effective capabilities.
    effective: CapabilitySet,
    /// Capabilities that this process and its children can ever get.
    bounding: CapabilitySet,
    /// Whether the capabilities apply to the whole machine, or only to a user namespace.
    first_namespace: bool,
    /// Whether the kernel provides its BTF, which the programs' relocations need.
    btf: bool,
}

/// Whether a test that can't use BPF here must fail instead of being skipped.
pub(crate) fn required() -> bool {
    env::var("MAPRING_REQUIRE_BPF").is_ok_and(|value| value == "1")
}

/// Everything that prevents BPF here: one line each, then lines with the fix. Empty if nothing does.
pub(crate) fn obstacles() -> Vec<String> {
    let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // A kernel that does not know a capability returns an error for it.
    let can_have = |set: &CapabilitySet| capability_is_in_bounding_set(*set).unwrap_or(false);
    let all = [CapabilitySet::SYS_ADMIN, CapabilitySet::BPF, CapabilitySet::PERFMON];
    let facts = Facts {
        effective: capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective),
        bounding: all.into_iter().filter(can_have).collect(),
        first_namespace: is_first_namespace(&uid_map),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
    };
    explain(&facts)
}

fn explain(facts: &Facts) -> Vec<String> {
    let mut obstacles = Vec::new();
    let missing = missing_capabilities(facts.effective).join(" and ");
    if !missing.is_empty() && missing_capabilities(facts.bounding).is_empty() {
        obstacles.push(format!(
            "missing {missing}\n\
             run as root:   sudo env \"PATH=$PATH\" cargo xtask demo\n\
             or allow only the demo:   cargo build --release -p mapring-cli --features bpf && \
             sudo setcap cap_bpf,cap_perfmon=ep target/release/mapring && target/release/mapring demo\n\
             (kernel.unprivileged_bpf_disabled makes no difference: programs that trace always need these)"
        ));
    } else if !missing.is_empty() {
        obstacles.push(format!(
            "missing {missing}, and nothing started from here can have them (a container?)\n\
             docker or podman: run --cap-add=BPF --cap-add=PERFMON, or --privileged"
        ));
    } else if !facts.first_namespace {
        obstacles.push(
            "root in a user namespace only (a rootless container?)\n\
             the kernel wants root outside of it: start the container as root, or run on the host"
                .into(),
        );
    }
    if !facts.btf {
        obstacles.push(
            "no /sys/kernel/btf/vmlinux: the kernel does not describe its types\n\
             it needs CONFIG_DEBUG_INFO_BTF=y, as distributions have it; or is /sys not mounted?"
                .into(),
        );
    }
    obstacles
}

fn missing_capabilities(set: CapabilitySet) -> Vec<&'static str> {
    if set.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    NEEDED.into_iter().filter(|(needed, _)| !set.contains(*needed)).map(|(_, name)| name).collect()
}

/// The initial user namespace maps every id to itself.
fn is_first_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: CapabilitySet = CapabilitySet::empty();
    const BPF: CapabilitySet = CapabilitySet::BPF;
    const ALL: CapabilitySet = CapabilitySet::all();
    const ROOT: Facts = Facts { effective: ALL, bounding: ALL, first_namespace: true, btf: true };

    #[test]
    fn root_needs_nothing() {
        assert!(explain(&ROOT).is_empty());
        assert!(explain(&Facts { effective: BPF | CapabilitySet::PERFMON, ..ROOT }).is_empty());
        assert!(explain(&Facts { effective: CapabilitySet::SYS_ADMIN, ..ROOT }).is_empty());
    }

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let output = |facts| explain(&facts).join("\n");
        assert!(
            output(Facts { effective: NONE, ..ROOT })
                .starts_with("missing CAP_BPF and CAP_PERFMON\nrun as root")
        );
        assert!(output(Facts { effective: BPF, ..ROOT }).starts_with("missing CAP_PERFMON\nrun as root"));
        assert!(output(Facts { effective: NONE, bounding: BPF, ..ROOT }).contains("--cap-add"));
        assert!(output(Facts { first_namespace: false, ..ROOT }).contains("user namespace"));
        assert!(output(Facts { btf: false, ..ROOT }).contains("CONFIG_DEBUG_INFO_BTF"));
    }

    #[test]
    fn namespaces_are_told_apart() {
        assert!(is_first_namespace("         0          0 4294967295\n"));
        assert!(!is_first_namespace("         0       1000          1\n"));
    }
}
