//! `mapring pin`, `freeze` and `clean`, on regions of running and ended loaders.
#![cfg(feature = "bpf")]

mod common;
mod nobody;
#[path = "pins/others.rs"]
mod others;
mod skip;

use std::fs::{self, DirBuilder};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ProgramInput, ProgramMut};
use mapring::Region;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::Value;

use self::common::{Over, lines, mapring, text};

fn objects(output: &Output) -> Vec<Value> {
    lines(text(output).as_bytes())
}

/// Whether BPF can be used; says so if not.
fn may_use_bpf() -> bool {
    let all = objects(&mapring(&["doctor", "--json"]));
    let missing = all.iter().find(|finding| {
        let of_programs = ["programs that trace", "CAP_SYS_ADMIN", "bpffs"].map(Value::from);
        of_programs.contains(&finding["feature"]) && finding["state"] != "ok"
    });
    let Some(missing) = missing else { return true };
    skip::without_bpf(&missing.to_string());
    false
}

/// A directory of pins, which is removed with all that is in it.
struct Pins(PathBuf);

impl Pins {
    fn new(name: &str) -> Self {
        let path = Path::new("/sys/fs/bpf").join(format!("mapring-{name}-{}", std::process::id()));
        DirBuilder::new().mode(0o755).create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn clean_removes_what_nothing_writes_any_more_and_nothing_else() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("clean");
    let (dir, flight) = (pins.path(""), pins.path("flight"));
    let start = ["flight", "--pins", &flight, "start", "--events", "exec,block", "--size", "4M"];
    assert!(mapring(&start).status.success());
    let maps = pins.path("flight/recording/maps");
    assert_eq!(objects(&mapring(&["clean", "--json", "--yes", &dir])), [] as [Value; 0], "programs use them");

    let hostile = pins.path("x;id>&2;#");
    DirBuilder::new().mode(0o755).create(&hostile).unwrap();
    let copy = pins.path("x;id>&2;#/copy");
    assert!(mapring(&["pin", &format!("{maps}/exec"), &copy, "--mode", "640"]).status.success());
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(mapring(&["pin", &format!("{maps}/exec"), &copy]).status.code(), Some(1), "it exists");
    let elsewhere = mapring(&["pin", &format!("{maps}/exec"), "/proc/mapring-pin"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&elsewhere.stderr).contains("/proc/mapring-pin is not in a BPF file system")
    );

    // The programs end with their links, a bit later.
    fs::remove_dir_all(pins.path("flight/recording/links")).unwrap();
    let mut stale = Vec::new();
    while stale.len() < 3 {
        stale = objects(&mapring(&["clean", "--json", &dir]));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        stale.iter().all(|pin| pin["removed"] == false && Path::new(pin["pin"].as_str().unwrap()).exists())
    );
    let shown = String::from_utf8(mapring(&["clean", &dir]).stdout).unwrap();
    assert!(shown.contains("copy: ring of struct exec, ") && shown.contains("no program uses it"), "{shown}");
    let doctor = objects(&mapring(&["doctor", "--json"]));
    let told = doctor.iter().filter(|finding| finding["seen"].as_str().unwrap().contains(&dir));
    assert!(told.clone().count() == 3 && told.clone().all(|finding| finding["state"] == "missing"));
    // Root may run what doctor advises.
    let fix = |doctor: &[Value]| {
        let of = doctor.iter().find(|finding| finding["seen"].as_str().unwrap().contains(&copy)).unwrap();
        of["fix"].as_str().unwrap().to_owned()
    };
    let advised = fix(&doctor); // another test may have put a ring in its place
    assert!(advised.starts_with("mapring clean") || advised.starts_with("rm "), "{advised}");
    assert!(
        advised.contains(&format!(" '{hostile}")) && !advised.contains(&format!(" {hostile}")),
        "{advised}"
    );
    fs::set_permissions(&hostile, fs::Permissions::from_mode(0o777)).unwrap();
    let fix = fix(&objects(&mapring(&["doctor", "--json"])));
    assert!(fix.starts_with("no command is safe") && !fix.contains("id>"), "{fix}");
    fs::set_permissions(&hostile, fs::Permissions::from_mode(0o755)).unwrap();

    let removed = objects(&mapring(&["clean", "--json", "--yes", &dir]));
    assert_eq!(removed.len(), 3);
    assert!(
        removed.iter().all(|pin| pin["removed"] == true && !Path::new(pin["pin"].as_str().unwrap()).exists())
    );
    assert_eq!(objects(&mapring(&["clean", "--json", &dir])), [] as [Value; 0]);
}

/// A loader starts again: it pins its ring in place of a stale one, at any moment while `clean` works.
#[test]
fn clean_leaves_what_is_pinned_meanwhile() {
    const RUNS: u32 = 1_000;
    const MOMENTS: u32 = 200;
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("swapped");
    let [dir, flight, p, q] = ["", "flight", "p", "q"].map(|name| pins.path(name));
    let start = ["flight", "--pins", &flight, "start", "--events", "exec", "--size", "1M"];
    assert!(mapring(&start).status.success());
    let stale = Region::open(pins.0.join("flight/recording/maps/exec")).unwrap();
    assert!(mapring(&["flight", "--pins", &flight, "stop"]).status.success());
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::old::OldVersionSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut open).unwrap();
    let skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    let live = Region::open(&skel.maps.versions).unwrap();

    stale.pin(&p, 0o600).unwrap();
    // The programs end with their links, a bit later.
    while objects(&mapring(&["clean", "--json", &dir])).is_empty() {
        thread::sleep(Duration::from_millis(20));
    }
    let clean = || objects(&common::command(&["clean", "--json", "--yes", &dir]).output().unwrap());
    let began = Instant::now();
    assert_eq!(clean()[0]["removed"], true);
    let span = began.elapsed();
    let (mut runs, mut removed, mut left) = (0, 0, 0);
    while runs < RUNS || removed == 0 || left == 0 {
        stale.pin(&p, 0o600).unwrap();
        live.pin(&q, 0o600).unwrap();
        let found = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(span * (runs % MOMENTS) / MOMENTS);
                fs::rename(&q, &p).unwrap();
            });
            clean()
        });
        let log = |removed: bool| found.iter().any(|pin| pin["pin"] == p && pin["removed"] == removed);
        (removed, left) = (removed + u32::from(log(true)), left + u32::from(log(false)));
        let now = Region::open(p.as_str()).unwrap_or_else(|e| panic!("run {runs}: {e}"));
        assert_eq!(now.preamble(), live.preamble(), "run {runs}");
        fs::remove_file(&p).unwrap();
        runs += 1;
        assert!(runs < 100 * RUNS, "{removed} removed, {left} left");
    }
    eprintln!("{removed} stale pins removed, {left} times another one came after the first look");
}

/// A demo, which loads programs; it is killed at the end.
struct Demo(Child);

impl Demo {
    fn start() -> Self {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_mapring"));
        demo.args(["demo", "--seconds", "600", "--json"]);
        Self(demo.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// The id of one of its maps, once it is there.
    fn map(&mut self, name: &str) -> String {
        loop {
            assert_eq!(self.0.try_wait().unwrap(), None, "the demo has ended");
            let all = objects(&mapring(&["ls", "--json"]));
            let mine = all.iter().find(|map| map["loader"]["pid"] == self.0.id() && map["name"] == name);
            if let Some(map) = mine {
                return format!("id:{}", map["id"]);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn freeze_explains_and_then_lets_everybody_read() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("freeze");
    let mut demo = Demo::start();
    let (id, pin) = (demo.map("cpus"), pins.path("cpus"));
    let explained = mapring(&["freeze", &id, &pin]);
    assert_eq!(explained.status.code(), Some(1));
    let log = String::from_utf8(explained.stderr).unwrap();
    assert!(
        log.lines().all(|line| line.contains('/') || line.chars().count() <= 80)
            && log.contains("can't be undone")
            && log.contains("add --yes")
            && !Path::new(&pin).exists(),
        "{log}"
    );
    assert!(mapring(&["freeze", &id, &pin, "--yes"]).status.success());

    let seen = objects(&nobody::as_nobody(&["ls", "--json", &pin]));
    assert_eq!((seen.len(), &seen[0]["access"]), (1, &Value::from("mapped")), "{seen:?}");
    let wrong = mapring(&["freeze", &id, &pins.path("other"), "--yes", "--group", "no such group"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("there is no group"));
}

/// Loads a ring in three maps and pins it.
#[test]
#[ignore = "a process that ends, for the other test"]
fn loader_of_a_ring_in_three_maps() {
    let pin = std::env::var_os("MAPRING_TEST_PIN").expect("the other test sets it");
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::woken::WokenSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut open).unwrap();
    let skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    mapring::Region::open(&skel.maps.woken).unwrap().pin(pin, 0o600).unwrap();
}

#[test]
fn readers_and_bells_are_pinned_and_cleaned_with_their_ring() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("companions");
    let dir = pins.path("");
    let load = |name: &str| {
        let mut loader = Command::new(std::env::current_exe().unwrap());
        loader
            .args(["--ignored", "--exact", "loader_of_a_ring_in_three_maps"])
            .env("MAPRING_TEST_PIN", pins.path(name));
        assert!(loader.stdout(Stdio::null()).status().unwrap().success());
    };
    let all = |name: &str| ["", "__bells", "__readers"].map(|suffix| pins.path(&format!("{name}{suffix}")));
    let cleaned = |args: &[&str]| {
        let found = objects(&mapring(&[&["clean", "--json", &dir], args].concat()));
        let mut names: Vec<_> = found.iter().map(|pin| pin["pin"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    // Pinned again and frozen, with all of its maps.
    load("one");
    assert!(mapring(&["pin", &pins.path("one"), &pins.path("pinned"), "--mode", "640"]).status.success());
    assert!(mapring(&["freeze", &pins.path("one"), &pins.path("sealed"), "--yes"]).status.success());
    for (name, mode) in [("pinned", 0o640), ("sealed", 0o666)] {
        for pin in all(name) {
            assert_eq!(fs::metadata(&pin).unwrap().permissions().mode() & 0o777, mode, "{pin}");
        }
    }
    // The kernel frees the programs of the loader a bit later.
    let expected = [all("one"), all("pinned"), all("sealed")].concat();
    while cleaned(&[]) != expected {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(cleaned(&["--yes"]), expected);
    assert!(expected.iter().all(|pin| !Path::new(pin).exists()));

    // What is left of a ring whose pin was removed by hand, and nothing of one that lives.
    load("left");
    fs::remove_file(pins.path("left")).unwrap();
    let [_, bells, readers] = all("left");
    while cleaned(&[]) != [bells.clone(), readers.clone()] {
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::remove_file(&readers).unwrap();
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::woken::WokenSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut open).unwrap();
    let skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    mapring::Region::open(&skel.maps.woken).unwrap().pin(pins.path("live"), 0o600).unwrap();
    fs::remove_file(pins.path("live__readers")).unwrap();
    fs::remove_file(pins.path("live")).unwrap();
    assert_eq!(cleaned(&["--yes"]), [bells]);
    assert!(Path::new(&pins.path("live__bells")).exists());
}

/// The old and the new version of a program, and one with a ring in three maps.
#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
mod skel {
    pub(super) mod old {
        include!(concat!(env!("OUT_DIR"), "/old_version.skel.rs"));
    }
    pub(super) mod woken {
        include!(concat!(env!("OUT_DIR"), "/woken.skel.rs"));
    }
    pub(super) mod new {
        include!(concat!(env!("OUT_DIR"), "/new_version.skel.rs"));
    }
}

#[test]
fn doctor_finds_records_that_are_not_ended() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("unended");
    let pin = pins.path("woken");
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::woken::WokenSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut open).unwrap();
    let skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    Region::open(&skel.maps.woken).unwrap().pin(&pin, 0o600).unwrap();
    let told = || {
        let all = objects(&mapring(&["doctor", "--json"]));
        let seen = all.into_iter().filter(|finding| finding["feature"] == "records");
        seen.filter(|finding| finding["seen"].as_str().unwrap().starts_with(&pin)).collect::<Vec<_>>()
    };
    assert_eq!(told(), [] as [Value; 0]);
    let run = |program: &ProgramMut<'_>| {
        let input = ProgramInput { context_in: Some(&mut [7; 8]), ..Default::default() };
        program.test_run(input).unwrap();
    };
    run(&skel.progs.forget);
    run(&skel.progs.publish);
    let found = told();
    let seen = found[0]["seen"].as_str().unwrap();
    assert!(seen.contains("a path of the program has no commit"), "{seen}");
    assert!(found[0]["fix"].as_str().unwrap().contains("mapring_record()"), "{found:?}");
    // Without files to look at it, doctor does not say that it has no fault.
    for files in 5..24 {
        let script = format!("ulimit -n {files} && exec \"$0\" doctor --json");
        let output =
            Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_mapring")]).output().unwrap();
        let all = if output.status.success() { objects(&output) } else { continue };
        let is_told = all.iter().any(|finding| {
            finding["seen"].as_str().unwrap().contains(&pin)
                || (&finding["feature"], &finding["state"]) == (&"pins".into(), &"unknown".into())
        });
        assert!(is_told, "{files}: {all:?}");
    }
}

#[test]
fn doctor_finds_programs_with_other_types_than_a_pinned_map() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("versions");
    let pin = pins.path("versions");
    let told = || {
        let all = objects(&mapring(&["doctor", "--json"]));
        let of_pin = all.into_iter().find(|finding| {
            finding["feature"] == "types" && finding["seen"].as_str().unwrap().starts_with(&pin)
        });
        of_pin.map(|finding| finding["seen"].as_str().unwrap().to_owned())
    };
    let mut storage = MaybeUninit::uninit();
    let mut old = skel::old::OldVersionSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut old).unwrap();
    let mut old = old.load().unwrap();
    mapring_loader::initialize(&old).unwrap();
    old.maps.versions.pin(&pin).unwrap();
    assert_eq!(told(), None, "the same types");

    let mut storage = MaybeUninit::uninit();
    let mut new = skel::new::NewVersionSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut new).unwrap();
    new.maps.versions.reuse_fd(old.maps.versions.as_fd()).unwrap();
    let _new = new.load().unwrap();
    let told = told().unwrap();
    assert!(told.contains("(publish) has another `version_event` than the map"), "{told}");
}
