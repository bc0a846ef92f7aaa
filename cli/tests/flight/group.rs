//! Members of a group look at a recording without privilege.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use mapring_flight::pins;
use serde_json::Value;

use crate::recorder::{Recorder, output, stderr};
use crate::skip;

/// A BPF file system of its own.
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount(mode: &str) -> Self {
        let fs = Self(std::env::temp_dir().join(format!("mapring-bpffs-{}-{mode}", std::process::id())));
        fs::create_dir(&fs.0).unwrap();
        let mode = format!("mode={mode}");
        let mounted =
            Command::new("mount").args(["-t", "bpf", "-o", &mode, "bpf"]).arg(&fs.0).status().unwrap();
        assert!(mounted.success());
        fs
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// A group of /etc/group that is not root's.
fn some_group() -> (String, u32) {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let group = |line: &str| {
        let mut parts = line.split(':');
        Some((parts.next()?.to_owned(), parts.nth(1)?.parse::<u32>().ok()?))
    };
    groups.lines().filter_map(group).find(|(_, gid)| *gid != 0 && *gid < 65534).unwrap()
}

/// Whether this process may load programs at all.
fn can_record() -> bool {
    Recorder::new("probe").start(&["--size", "1M", "--events", "exec"])
}

#[test]
fn members_of_the_group_look_without_privilege() {
    if !can_record() {
        return;
    }
    let fs = BpfFs::mount("755");
    let recorder = Recorder { dir: fs.0.join("above/flight") };
    let (name, gid) = some_group();
    assert!(recorder.start(&["--size", "8M", "--events", "syscalls", "--group", &name]));
    // Other users may not be able to reach the binary where cargo puts it. Copied by another process: a child that another
    // thread forks meanwhile would keep a file of this process open for writing, and such a file can't be executed.
    let binary = std::env::temp_dir().join(format!("mapring-{}", std::process::id()));
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_mapring")).arg(&binary).status().unwrap();
    assert!(copied.success());
    let run = |gid, options: &[&str]| {
        let mut command = Command::new(&binary);
        command.arg("flight").arg("--pins").arg(&recorder.dir).args(options).uid(65534).gid(gid);
        output(&mut command)
    };
    let member = run(gid, &["status", "--json"]);
    let waits = run(gid, &["wait", "--timeout", "10ms"]);
    let [other, stop, start] = [run(65534, &["status"]), run(gid, &["stop"]), run(gid, &["start"])];
    fs::remove_file(&binary).unwrap();

    if !member.status.success() && stderr(&member).contains("before Linux 5.19") {
        assert_eq!(member.status.code(), Some(77));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(release.starts_with("5.1"), "{release}");
        skip::skipped("this kernel lets no process without privilege open a pin");
        return;
    }
    assert!(member.status.success());
    let status: Value = serde_json::from_slice(&member.stdout).unwrap();
    let calls = &status["recording"]["groups"][0];
    assert!(calls["records"].as_u64().unwrap() > 0 && calls["ns_per_event"].is_null());
    assert!(stderr(&waits).contains("nothing has stopped the recording"), "{waits:?}");
    assert!(status["recording"]["costs_unknown"].as_str().unwrap().contains("root"));
    assert_eq!(other.status.code(), Some(77));
    assert!(stderr(&other).contains("as root"));
    assert_eq!((stop.status.code(), start.status.code()), (Some(77), Some(77)));
    assert_eq!(recorder.groups(), ["syscalls"]);
    let permissions = fs::metadata(pins::recording(&recorder.dir).join("maps/syscalls")).unwrap();
    assert_eq!((permissions.st_mode() & 0o777, permissions.st_gid()), (0o660, gid));
    let links = fs::metadata(pins::recording(&recorder.dir).join("links")).unwrap();
    assert_eq!((links.st_mode() & 0o777, links.st_gid()), (0o700, 0));
}

#[test]
fn a_group_that_could_not_reach_the_pins_is_refused() {
    if !can_record() {
        return;
    }
    let fs = BpfFs::mount("700");
    let recorder = Recorder { dir: fs.0.join("flight") };
    let (name, _) = some_group();
    let output = recorder.run(&["start", "--size", "8M", "--events", "syscalls", "--group", &name]);
    assert_eq!(output.status.code(), Some(77));
    assert!(stderr(&output).contains(&format!("chmod o+x {}", fs.0.display())));
    assert!(!recorder.dir.exists());
}
