//! What the machine is like, and what this command was built with.

use std::fs;

use super::Finding;

const AREA: &str = "machine";

pub(super) fn findings() -> Vec<Finding> {
    let mut all = vec![cpus()];
    all.extend(listed());
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    all.extend(clock(read("/sys/devices/system/clocksource/clocksource0/current_clocksource").as_deref()));
    all.push(built(cfg!(feature = "bpf")));
    all
}

fn cpus() -> Finding {
    let online = mapring::cpus::online_cpus().map(|cpus| cpus.len());
    let possible = mapring::cpus::possible_cpus().map(|cpus| cpus.len());
    match (possible, online) {
        (Ok(possible), Ok(online)) => {
            let seen = format!("{possible} possible, {online} online: a ring has {possible} shards");
            Finding::ok(AREA, "CPUs", seen)
        }
        (Err(e), _) | (_, Err(e)) => {
            let lost = "Loaders can't size their maps.";
            Finding::missing(AREA, "CPUs", e.to_string(), lost).fixed_by("mount -t sysfs sysfs /sys")
        }
    }
}

/// Whether sysfs lists the CPUs that the kernel has.
fn listed() -> Option<Finding> {
    let (listed, possible) = (mapring_sys::cpus::listed_cpus().ok()?, mapring::cpus::possible_cpus().ok()?);
    if listed == possible {
        return None;
    }
    let seen = format!(
        "/sys/devices/system/cpu/possible lists {}, but the kernel has {}: another file may be mounted over it",
        listed.len(),
        possible.len(),
    );
    let lost = "mapring goes by the kernel. Other programs that read per-CPU maps may crash.";
    Some(
        Finding::missing(AREA, "list of CPUs", seen, lost)
            .fixed_by("umount /sys/devices/system/cpu/possible"),
    )
}

fn clock(source: Option<&str>) -> Option<Finding> {
    let feature = "clock without system calls";
    let lost =
        "Merged readers and conversions to wall time make a system call for each reading of the clock.";
    Some(match source? {
        source @ ("tsc" | "arch_sys_counter") => Finding::ok(AREA, feature, source),
        // Whether the vDSO reads these depends on the host.
        source @ ("kvm-clock" | "hyperv_clocksource_tsc_page") => {
            Finding::unknown(AREA, feature, format!("{source}: it depends on the host"), lost)
        }
        source => Finding::missing(AREA, feature, format!("{source}: only the kernel reads it"), lost)
            .fixed_by("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if it is available"),
    })
}

fn built(with_programs: bool) -> Finding {
    if with_programs {
        return Finding::ok("build", "programs", "this command has its BPF programs built in");
    }
    let lost = "`mapring flight start` and `mapring demo` can't load programs. All else works.";
    let fix = "sudo apt-get install clang libelf-dev zlib1g-dev pkg-config\n\
               cargo install --path cli --features bpf";
    Finding::missing("build", "programs", "this command was built without the cargo feature `bpf`", lost)
        .fixed_by(fix)
}

#[cfg(test)]
mod tests {
    use super::super::State::{Missing, Ok as Good, Unknown};
    use super::*;

    #[test]
    fn clocks_and_builds() {
        let state = |source| clock(Some(source)).unwrap().state;
        assert_eq!(["tsc", "kvm-clock", "hpet"].map(state), [Good, Unknown, Missing]);
        assert_eq!(clock(None), None);
        assert_eq!([built(true).state, built(false).state], [Good, Missing]);
        assert_eq!(cpus().state, Good);
    }
}
