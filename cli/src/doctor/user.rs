//! What this user may do: capabilities, the user namespace, and where maps can be pinned.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mapring_kit::text::printable_path;
use mapring_view::find::mounts;
use rustix::fs::{Access, access};
use rustix::thread::{CapabilitySet, capabilities};

use super::{Finding, word};

const AREA: &str = "user";

/// A capability, its name, and what it is for. `setcap` replaces all capabilities of a file, so the advice for one keeps
/// those before it; CAP_SYS_ADMIN contains them.
const CAPABILITIES: [(CapabilitySet, &str, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF", "This user can't load programs or create maps."),
    (
        CapabilitySet::PERFMON,
        "CAP_PERFMON",
        "This user can't load programs that trace: `mapring flight start`, `mapring demo`.",
    ),
    (
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "This user can't list maps by id, see types of maps (BTF), or see which programs use a map and what a \
         recording costs.",
    ),
];

pub(super) fn findings() -> Vec<Finding> {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let mut all: Vec<_> =
        CAPABILITIES.into_iter().map(|(set, name, lost)| capability(effective, set, name, lost)).collect();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    all.extend(namespace(&map));
    let mounts = mounts().unwrap_or_default();
    all.push(bpffs(&mounts, |path| access(path, Access::WRITE_OK).is_ok()));
    let mode = |path: &PathBuf| Some((path.clone(), fs::metadata(path).ok()?.mode()));
    all.extend(mounts.iter().filter_map(mode).filter_map(|(path, mode)| open_to_all(&path, mode)));
    all
}

fn capability(
    effective: CapabilitySet,
    set: CapabilitySet,
    name: &'static str,
    lost: &'static str,
) -> Finding {
    if effective.contains(set) {
        return Finding::ok(AREA, name, "effective");
    }
    // The kernel accepts CAP_SYS_ADMIN in place of the two younger ones.
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Finding::ok(AREA, name, "not effective, and CAP_SYS_ADMIN is enough");
    }
    let fix = format!(
        "run as root: sudo mapring …\nor allow the command: sudo setcap {}=ep \"$(command -v mapring)\"",
        if set == CapabilitySet::PERFMON { "cap_bpf,cap_perfmon".to_owned() } else { name.to_lowercase() }
    );
    Finding::missing(AREA, name, "not effective", lost).fixed_by(fix)
}

/// The kernel asks for capabilities outside of all user namespaces.
fn namespace(uid_map: &str) -> Option<Finding> {
    let feature = "user namespace";
    let words: Vec<_> = uid_map.split_whitespace().collect();
    match words[..] {
        [] => None,
        ["0", "0", "4294967295"] => Some(Finding::ok(AREA, feature, "the first one")),
        _ => {
            let lost = "Capabilities count only inside of it. The kernel takes no programs from it.";
            let fix =
                "start the container as root and with --cap-add=BPF --cap-add=PERFMON, or run on the host";
            Some(Finding::missing(AREA, feature, "another one (a rootless container?)", lost).fixed_by(fix))
        }
    }
}

fn bpffs(mounts: &[PathBuf], writable: impl Fn(&Path) -> bool) -> Finding {
    let Some(first) = mounts.first() else {
        let lost = "Regions and links can't be pinned, so they end with their loader.";
        return Finding::missing(AREA, "bpffs", "not mounted", lost)
            .fixed_by("sudo mount -t bpf -o mode=0755 bpf /sys/fs/bpf");
    };
    match mounts.iter().find(|path| writable(path)) {
        Some(path) => Finding::ok(AREA, "bpffs", format!("{} is writable", printable_path(path))),
        None => {
            let lost = "This user can't pin regions. It can open the pins that it may read.";
            Finding::missing(AREA, "bpffs", format!("{} is not writable", printable_path(first)), lost).fixed_by(
                "run as root: sudo mapring …\nor give USER a directory there: sudo install -d -o USER /sys/fs/bpf/USER",
            )
        }
    }
}

/// A BPF file system in which each user may make names: the kernel's default mode is 1777.
fn open_to_all(path: &Path, mode: u32) -> Option<Finding> {
    let lost = "Any user can take the names of pins there before their loader does, and can pin each map again that he may \
                open.";
    (mode & 0o002 != 0).then(|| {
        let fix =
            word(path).map_or("change its mode to 0755".to_owned(), |path| format!("sudo chmod 0755 {path}"));
        Finding::missing(
            AREA,
            "bpffs mode",
            format!("{} has mode {:o}", printable_path(path), mode & 0o7777),
            lost,
        )
        .fixed_by(fix)
    })
}

#[cfg(test)]
mod tests {
    use super::super::State::{Missing, Ok as Good};
    use super::*;

    #[test]
    fn file_systems_that_are_open_to_all() {
        for (mode, is_open) in [(0o41777, true), (0o40777, true), (0o40755, false), (0o41770, false)] {
            let found = open_to_all(Path::new("/sys/fs/bpf"), mode);
            assert_eq!(found.is_some(), is_open, "{mode:o}");
            if let Some(found) = found {
                assert_eq!(found.fix.as_deref(), Some("sudo chmod 0755 /sys/fs/bpf"));
            }
        }
        let named = open_to_all(Path::new("/mnt/x;id"), 0o41777).unwrap();
        assert_eq!(named.fix.as_deref(), Some("sudo chmod 0755 '/mnt/x;id'"));
        let hostile = open_to_all(Path::new("/mnt/\x1b[2J"), 0o41777).unwrap();
        assert!(![hostile.seen, hostile.fix.unwrap()].concat().contains('\x1b'));
    }

    #[test]
    fn capabilities_and_their_substitute() {
        let of =
            |effective| CAPABILITIES.map(|(set, name, lost)| capability(effective, set, name, lost).state);
        assert_eq!(of(CapabilitySet::empty()), [Missing; 3]);
        assert_eq!(of(CapabilitySet::BPF | CapabilitySet::PERFMON), [Good, Good, Missing]);
        assert_eq!(of(CapabilitySet::SYS_ADMIN), [Good; 3]);
        let (set, name, lost) = CAPABILITIES[0];
        let fix = capability(CapabilitySet::empty(), set, name, lost).fix.unwrap();
        assert!(fix.contains("setcap cap_bpf=ep"), "{fix}");
        // setcap replaces what an earlier one gave.
        let (set, name, lost) = CAPABILITIES[1];
        let fix = capability(CapabilitySet::BPF, set, name, lost).fix.unwrap();
        assert!(fix.contains("setcap cap_bpf,cap_perfmon=ep"), "{fix}");
    }

    #[test]
    fn mounts_and_who_can_write_them() {
        let found = ["/sys/fs/bpf", "/run/b"].map(PathBuf::from);
        assert_eq!(bpffs(&found, |path| path.starts_with("/run")).seen, "/run/b is writable");
        assert_eq!(bpffs(&found, |_| false).state, Missing);
        assert_eq!(bpffs(&[], |_| true).fix.unwrap(), "sudo mount -t bpf -o mode=0755 bpf /sys/fs/bpf");
    }

    #[test]
    fn namespaces() {
        assert_eq!(namespace("         0          0 4294967295\n").unwrap().state, Good);
        assert_eq!(namespace("0 100000 65536\n").unwrap().state, Missing);
        assert_eq!(namespace(""), None);
    }
}
