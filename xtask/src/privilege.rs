//! Whether this process may load and read BPF programs on this kernel; if not, what is missing and how to get it.

use std::{env, fs, path::Path};

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// What decides it, as the kernel states it.
#[derive(Debug, Default)]
struct Facts {
    /// Effective capabilities.
    effective: u64,
    /// Capabilities that this process and its children can ever get.
    bounding: u64,
    /// Whether the capabilities count for the whole machine, not for a user namespace only.
    first_namespace: bool,
    /// Whether the kernel describes its types, which the programs' relocations need.
    btf: bool,
}

/// Whether what can't use BPF here is to fail instead of being skipped.
pub(crate) fn required() -> bool {
    env::var("MAPRING_REQUIRE_BPF").is_ok_and(|value| value == "1")
}

/// Everything that stands in the way of BPF here: a line each, then lines with the remedy. Empty: nothing does.
pub(crate) fn obstacles() -> Vec<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let facts = Facts {
        effective: capabilities(&status, "CapEff").unwrap_or(0),
        bounding: capabilities(&status, "CapBnd").unwrap_or(0),
        first_namespace: is_first_namespace(&read("/proc/self/uid_map")),
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
             or allow only the demo:   cargo build --release -p mapring-demo --features bpf && \
             sudo setcap cap_bpf,cap_perfmon=ep target/release/mapring-demo && target/release/mapring-demo\n\
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

/// `CAP_SYS_ADMIN` alone is enough; without it, both of the others are needed.
fn missing_capabilities(set: u64) -> Vec<&'static str> {
    if set & CAP_SYS_ADMIN != 0 {
        return Vec::new();
    }
    let needed = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
    needed.into_iter().filter(|(bit, _)| set & bit == 0).map(|(_, name)| name).collect()
}

fn capabilities(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The first user namespace maps every id to itself.
fn is_first_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = (1 << 41) - 1;
    const ROOT: Facts = Facts { effective: ALL, bounding: ALL, first_namespace: true, btf: true };

    #[test]
    fn root_needs_nothing() {
        assert!(explain(&ROOT).is_empty());
        assert!(explain(&Facts { effective: CAP_BPF | CAP_PERFMON, ..ROOT }).is_empty());
        assert!(explain(&Facts { effective: CAP_SYS_ADMIN, ..ROOT }).is_empty());
    }

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let said = |facts| explain(&facts).join("\n");
        assert!(
            said(Facts { effective: 0, ..ROOT }).starts_with("missing CAP_BPF and CAP_PERFMON\nrun as root")
        );
        assert!(said(Facts { effective: CAP_BPF, ..ROOT }).starts_with("missing CAP_PERFMON\nrun as root"));
        assert!(said(Facts { effective: 0, bounding: CAP_BPF, ..ROOT }).contains("--cap-add"));
        assert!(said(Facts { first_namespace: false, ..ROOT }).contains("user namespace"));
        assert!(said(Facts { btf: false, ..ROOT }).contains("CONFIG_DEBUG_INFO_BTF"));
    }

    #[test]
    fn capabilities_are_read_from_status() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\n";
        assert_eq!(capabilities(status, "CapEff"), Some(0x1ff_feff_ffff));
        assert_eq!(capabilities(status, "CapBnd"), None);
    }

    #[test]
    fn namespaces_are_told_apart() {
        assert!(is_first_namespace("         0          0 4294967295\n"));
        assert!(!is_first_namespace("         0       1000          1\n"));
    }
}
