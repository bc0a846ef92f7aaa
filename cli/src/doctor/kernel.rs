//! What the kernel has: its version, BPF, its types, the guard of claims, what the administrator allows.

use std::fs;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;

use super::Finding;

const AREA: &str = "kernel";

pub(super) fn findings() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = version(&release);
    let supported = |what: Result<bool, String>| what;
    let arrays = supported(aya::sys::is_map_supported(MapType::Array).map_err(|e| chain(&e)));
    let tracing =
        supported(aya::sys::is_program_supported(ProgramType::RawTracePoint).map_err(|e| chain(&e)));
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let mut all = vec![
        linux(&release, version),
        bpf("maps", arrays, "No region can be created. Regions that are pinned may be readable."),
        bpf(
            "programs that trace",
            tracing,
            "No BPF program can write records. Memfds between processes work.",
        ),
        types(Path::new("/sys/kernel/btf/vmlinux").exists()),
        guard(version, &symbols),
    ];
    all.extend(jit(read("/proc/sys/net/core/bpf_jit_enable").as_deref()));
    all.extend(seals(read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref()));
    all.extend(lockdown(read("/sys/kernel/security/lockdown").as_deref()));
    all.push(preemption(&release, read("/sys/kernel/debug/sched/preempt").as_deref()));
    all
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// `6.12` of `6.12.107+deb13-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn linux(release: &str, version: Option<(u32, u32)>) -> Finding {
    let seen = format!("{release}, {}", std::env::consts::ARCH);
    match version {
        Some(version) if version >= (5, 12) => Finding::ok(AREA, "Linux", seen),
        Some(version) if version >= (5, 5) => Finding::missing(
            AREA,
            "Linux",
            seen,
            "Programs that write rings need Linux 5.12; `mapring flight` needs 5.15. Reading works.",
        )
        .fixed_by("boot a newer kernel"),
        _ => Finding::missing(AREA, "Linux", seen, "BPF maps can't be mapped before Linux 5.5.")
            .fixed_by("boot a newer kernel"),
    }
}

fn bpf(feature: &'static str, supported: Result<bool, String>, lost: &'static str) -> Finding {
    match supported {
        Ok(true) => Finding::ok(AREA, feature, "the kernel takes them from this user"),
        Ok(false) => Finding::missing(AREA, feature, "this kernel has none", lost)
            .fixed_by("boot a kernel with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y"),
        // Only an attempt tells, and a refusal for lack of privilege does not.
        Err(why) => Finding::unknown(AREA, feature, format!("this user may not try ({why})"), lost)
            .fixed_by("see CAP_BPF below; or ask as root: sudo mapring doctor"),
    }
}

fn types(found: bool) -> Finding {
    let location = "/sys/kernel/btf/vmlinux";
    if found {
        return Finding::ok(AREA, "types of the kernel (BTF)", location);
    }
    let lost = "Programs that read the kernel's structs don't load: `mapring flight`, `mapring demo`.";
    Finding::missing(AREA, "types of the kernel (BTF)", format!("no {location}"), lost)
        .fixed_by("mount -t sysfs sysfs /sys, or boot a kernel with CONFIG_DEBUG_INFO_BTF=y")
}

fn guard(version: Option<(u32, u32)>, symbols: &str) -> Finding {
    let feature = "guarded claims";
    let has = symbols.lines().any(|line| line.split_whitespace().nth(2) == Some("bpf_preempt_disable"));
    let lost =
        "Programs claim slots by compare-and-swap: correct, and some nanoseconds slower on most machines.";
    if has {
        Finding::ok(AREA, feature, "the kernel has bpf_preempt_disable()")
    } else if version < Some((6, 10)) {
        let seen = "Linux 6.10 and later have bpf_preempt_disable()";
        Finding::missing(AREA, feature, seen, lost).fixed_by("boot a newer kernel")
    } else {
        Finding::unknown(AREA, feature, "/proc/kallsyms does not list bpf_preempt_disable()", lost)
    }
}

fn jit(enabled: Option<&str>) -> Option<Finding> {
    let location = "net.core.bpf_jit_enable";
    match enabled {
        Some("0") => {
            let lost = "Programs are interpreted: events cost about ten times as much.";
            let fix = format!("sysctl -w {location}=1");
            Some(Finding::missing(AREA, "JIT", format!("{location} is 0"), lost).fixed_by(fix))
        }
        Some(other) => Some(Finding::ok(AREA, "JIT", format!("{location} is {other}"))),
        None => {
            let lost = "Interpreted programs cost about ten times as much.";
            Some(Finding::unknown(AREA, "JIT", format!("{location} can't be read by this user"), lost))
        }
    }
}

fn seals(unprivileged: Option<&str>) -> Option<Finding> {
    let (feature, location) = ("seals", "kernel.unprivileged_bpf_disabled");
    Some(match unprivileged? {
        "0" => {
            let lost = "Every user that can open a frozen region's pin can overwrite it by a BPF program.";
            let fix = format!("sysctl -w {location}=2");
            Finding::missing(AREA, feature, format!("{location} is 0"), lost).fixed_by(fix)
        }
        value => Finding::ok(
            AREA,
            feature,
            format!("{location} is {value}: users without CAP_BPF load no programs"),
        ),
    })
}

fn lockdown(modes: Option<&str>) -> Option<Finding> {
    let mode = modes?.split_once('[')?.1.split_once(']')?.0;
    let lost = "Programs that read the kernel's memory are refused: `mapring flight`, `mapring demo`.";
    Some(match mode {
        "confidentiality" => Finding::missing(AREA, "lockdown", mode, lost)
            .fixed_by("boot without lockdown=confidentiality (Secure Boot may set it)"),
        _ => Finding::ok(AREA, "lockdown", mode),
    })
}

/// For people: no feature depends on it.
fn preemption(release: &str, modes: Option<&str>) -> Finding {
    let mode = modes.and_then(|modes| modes.split_once('(')?.1.split_once(')').map(|(mode, _)| mode));
    let seen = match mode {
        Some(mode) => mode.to_owned(),
        None if release.contains("-rt") => "PREEMPT_RT".to_owned(),
        None => "fixed, or not visible to this user".to_owned(),
    };
    Finding::ok(AREA, "preemption", format!("{seen} (rings work with each)"))
}

#[cfg(test)]
mod tests {
    use super::super::State::{Missing, Ok as Good, Unknown};
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("6.12.107+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("linux"), None);
        let state = |release| linux(release, version(release)).state;
        assert_eq!(["5.4.0", "5.10.0", "5.12.0", "6.18.0"].map(state), [Missing, Missing, Good, Good]);
    }

    #[test]
    fn each_answer_has_its_state_and_what_is_missing_has_a_fix() {
        let has = "0000000000000000 T bpf_preempt_disable_x\n0000000000000000 T bpf_preempt_disable\n";
        let cases = [
            (bpf("maps", Ok(true), "l"), Good),
            (bpf("maps", Ok(false), "l"), Missing),
            (bpf("maps", Err("EPERM".into()), "l"), Unknown),
            (types(false), Missing),
            (guard(Some((6, 12)), has), Good),
            (guard(Some((6, 12)), "0 T bpf_preempt_disable_x\n"), Unknown),
            (guard(Some((6, 1)), ""), Missing),
            (jit(Some("0")).unwrap(), Missing),
            (jit(Some("1")).unwrap(), Good),
            (seals(Some("0")).unwrap(), Missing),
            (seals(Some("2")).unwrap(), Good),
            (lockdown(Some("none integrity [confidentiality]")).unwrap(), Missing),
            (lockdown(Some("[none] integrity confidentiality")).unwrap(), Good),
        ];
        for (finding, state) in cases {
            assert_eq!(finding.state, state, "{finding}");
            assert_eq!(
                finding.fix.is_some(),
                state == Missing || finding.feature == "maps" && state == Unknown
            );
            assert_eq!(finding.lost.is_empty(), state == Good);
        }
        assert_eq!(seals(None), None);
        assert!(preemption("6.12-rt-amd64", None).seen.starts_with("PREEMPT_RT"));
        assert!(preemption("6.12", Some("none voluntary (full)")).seen.starts_with("full"));
    }
}
