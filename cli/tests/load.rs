//! `mapring load` and `unload`: objects without a loader of their own.
#![cfg(feature = "bpf")]

mod common;
mod nobody;
mod skip;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use mapring::Region;
use serde_json::Value;

use self::common::{Dir, lines, mapring, stderr, text, until_some};

/// The programs of `mapring demo`: their links are made from their sections.
const DEMO: &str = concat!(env!("OUT_DIR"), "/demo.bpf.o");
/// All kinds of regions, with programs that are called.
const REGIONS: &str = concat!(env!("OUT_DIR"), "/regions.bpf.o");
/// Two versions of a program, whose records differ.
const OLD: &str = concat!(env!("OUT_DIR"), "/old_version.bpf.o");
const NEW: &str = concat!(env!("OUT_DIR"), "/new_version.bpf.o");

/// A directory for pins, which `unload` removes.
struct Pins(String);

impl Pins {
    /// `None` if this machine has no BPF; says so.
    fn new(name: &str) -> Option<Self> {
        let all = lines(text(&mapring(&["doctor", "--json"])).as_bytes());
        let needed = ["programs that trace", "CAP_SYS_ADMIN", "bpffs"].map(Value::from);
        let missing = all.iter().find(|it| needed.contains(&it["feature"]) && it["state"] != "ok");
        if let Some(missing) = missing {
            skip::without_bpf(&missing.to_string());
            return None;
        }
        Some(Self(format!("/sys/fs/bpf/mapring-load-{name}-{}", std::process::id())))
    }

    fn load(&self, object: &str, more: &[&str]) -> Output {
        mapring(&[&["load", object, "--pin", &self.0][..], more].concat())
    }

    /// The error of a load that must fail.
    fn refuse(&self, object: &str, more: &[&str]) -> String {
        let output = self.load(object, more);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    fn region(&self, name: &str) -> Region {
        Region::open(self.path(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn programs_run_without_a_process_until_they_are_unloaded() {
    let Some(pins) = Pins::new("demo") else { return };
    let said = stderr(&pins.load(DEMO, &[]));
    assert!(
        said.contains("Regions: calls, reader_calls, events, cpus\nAttached: on_call, on_switch\n"),
        "{said}"
    );
    let count = |pins: &Pins| {
        let shown = text(&mapring(&["show", &pins.path("calls"), "--json"]));
        lines(shown.as_bytes()).iter().filter_map(|line| line["value"].as_u64()).sum::<u64>()
    };
    let before = count(&pins);
    until_some("system calls that are counted", || (count(&pins) > before).then_some(()));
    let why = pins.refuse(DEMO, &[]);
    assert!(why.contains("--reuse") && why.contains("--replace"), "{why}");

    // The same regions, with new programs.
    let (id, links) = (pins.region("events").preamble().generation, link_ids(&pins));
    assert!(pins.load(DEMO, &["--reuse"]).status.success());
    assert_eq!(pins.region("events").preamble().generation, id);
    assert!(links.iter().all(|link| !link_ids(&pins).contains(link)), "the first programs are detached");
    // New ones, and nothing is left of the others.
    assert!(pins.load(REGIONS, &["--replace"]).status.success());
    assert!(!pins.has("events") && pins.has("t_events") && link_ids(&pins).is_empty());

    let open = pins.region("t_events");
    assert!(mapring(&["unload", &pins.0]).status.success());
    assert!(!Path::new(&pins.0).exists());
    drop(open); // it was there as long as this process had it
    assert_eq!(mapring(&["unload", &pins.0]).status.code(), Some(1));
}

/// What the links that are pinned are told by.
fn link_ids(pins: &Pins) -> Vec<String> {
    let dir = mapring_sys::PinDir::open(Path::new(&pins.path("links"))).unwrap();
    let info = |name| {
        let fd = dir.open_pin(name).unwrap();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        text.lines().find(|line| line.starts_with("link_id:")).unwrap().to_owned()
    };
    dir.entries().unwrap().into_iter().map(|(name, _)| info(name)).collect()
}

#[test]
fn each_kind_of_region_is_initialized_and_pinned() {
    let Some(pins) = Pins::new("kinds") else { return };
    let said = stderr(&pins.load(REGIONS, &["--freeze"]));
    assert!(said.contains("for you to attach: fill, fill_kernel"), "{said}");
    let listed = text(&mapring(&["ls", "--json"]));
    let listed = lines(listed.as_bytes());
    for name in [
        "t_events",
        "t_names",
        "t_raw",
        "t_spans",
        "t_sized",
        "t_nodes/cpu0",
        "t_loads",
        "t_calls",
        "t_waits",
        "t_depths",
        "t_keys",
        "t_ring_of_many_bytes",
        "t_settings",
    ] {
        let path = pins.path(name);
        assert!(listed.iter().any(|it| it["pins"].to_string().contains(&path)), "{name}");
    }
    // Frozen: every user reads it, and no process writes it.
    let shown = nobody::as_nobody(&["show", &pins.path("t_calls"), "--json"]);
    assert!(shown.status.success() && !shown.stdout.is_empty());
}

#[test]
fn a_region_that_does_not_fit_is_kept_until_it_is_replaced() {
    let Some(pins) = Pins::new("fits") else { return };
    assert!(pins.load(OLD, &[]).status.success());
    let id = pins.region("versions").preamble().generation;
    let why = pins.refuse(NEW, &["--reuse"]);
    assert!(why.contains("versions: ") && why.contains("--replace"), "{why}");
    assert_eq!(pins.region("versions").preamble().generation, id);
    assert!(pins.load(NEW, &["--reuse", "--replace"]).status.success());
    assert_ne!(pins.region("versions").preamble().generation, id);
}

#[test]
fn a_map_takes_the_place_of_a_directory_with_its_name() {
    let Some(pins) = Pins::new("kind") else { return };
    assert!(pins.load(REGIONS, &[]).status.success());
    let all = || {
        fs::read_dir(&pins.0).unwrap().map(|it| it.unwrap()).filter(|it| it.file_type().unwrap().is_file())
    };
    let names: BTreeSet<_> = all().map(|it| it.file_name()).collect();
    assert!(names.contains(OsStr::new("bss")), "{names:?}");
    for pin in all() {
        fs::remove_file(pin.path()).unwrap();
        fs::create_dir(pin.path()).unwrap();
    }
    let done = pins.load(REGIONS, &["--replace"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(all().map(|it| it.file_name()).collect::<BTreeSet<_>>(), names);
}

#[test]
fn what_is_no_object_or_no_directory_of_ours_is_refused_and_nothing_stays() {
    let Some(pins) = Pins::new("refused") else { return };
    let dir = Dir::new();
    let text = dir.file("text.bpf.o", "no object");
    assert!(pins.refuse(&text, &[]).contains("not a BPF object"));
    assert!(pins.refuse("/nonexistent.bpf.o", &[]).contains("/nonexistent.bpf.o"));
    let anyone = dir.file("anyone.bpf.o", "");
    fs::copy(OLD, &anyone).unwrap();
    fs::set_permissions(&anyone, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(pins.refuse(&anyone, &[]).contains("every user may write it"));
    assert!(!Path::new(&pins.0).exists());

    fs::create_dir(&pins.0).unwrap();
    fs::create_dir(pins.path("mine")).unwrap();
    assert!(pins.refuse(OLD, &["--replace"]).contains("did not make"));
    assert_eq!(mapring(&["unload", &pins.0]).status.code(), Some(1));
    assert!(pins.has("mine"));
    let elsewhere = mapring(&["load", OLD, "--pin", "/tmp/mapring-load"]);
    assert!(stderr(&elsewhere).contains("name a directory below /sys/fs/bpf"));
}
