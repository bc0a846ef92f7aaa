//! What other users do in the directory of the recorder, and near it.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;

use mapring_flight::pins;
use rustix::fs::{FlockOperation, flock};

use crate::nobody::{NOBODY, become_nobody};
use crate::recorder::{Recorder, output, stderr};

const SMALL: [&str; 4] = ["--size", "1M", "--events", "exec"];

#[test]
fn another_user_can_not_hold_the_lock() {
    let recorder = Recorder::new("held");
    DirBuilder::new().mode(0o755).create(&recorder.dir).unwrap();
    DirBuilder::new().mode(0o700).create(pins::lock(&recorder.dir)).unwrap(); // as a killed command leaves it
    let dirs = [recorder.dir.clone(), pins::lock(&recorder.dir)];
    let lock = move || {
        become_nobody();
        let dirs = dirs.into_iter().filter_map(|dir| File::open(dir).ok());
        dirs.inspect(|dir| flock(dir, FlockOperation::LockExclusive).unwrap()).collect::<Vec<_>>()
    };
    let locked = thread::spawn(lock).join().unwrap();
    if recorder.start(&SMALL) {
        assert!(recorder.run(&["stop"]).status.success() && !recorder.dir.exists());
    }
    assert_eq!(locked.len(), 1, "only the directory above the lock can be read");
}

/// Directories and pins that look like those of a killed `start`.
#[test]
fn clean_leaves_what_a_user_made() {
    let recorder = Recorder::new("alive");
    if !recorder.start(&SMALL) {
        return;
    }
    let other = recorder.dir.with_file_name(format!("mapring-test-{}-x", std::process::id()));
    let ring = pins::recording(&recorder.dir).join("maps/exec");
    let mapring = |args: &[&Path]| output(Command::new(env!("CARGO_BIN_EXE_mapring")).args(args));
    for new in ["new", "flight-lock/new"] {
        let maps = other.join(new).join("maps");
        fs::create_dir_all(&maps).unwrap();
        for name in [None, Some("live"), Some("exec")] {
            let pin = name.map(|name| maps.join(name));
            if let Some(pin) = &pin {
                assert!(mapring(&["pin".as_ref(), &ring, pin]).status.success());
            } else if new != "new" {
                continue; // this name is the recorder's
            }
            assert!(mapring(&["clean".as_ref(), "--yes".as_ref(), &other]).status.success());
            assert!(pin.as_ref().unwrap_or(&maps).exists(), "{pin:?}");
        }
        fs::remove_dir_all(&other).unwrap();
    }
}

/// Another user leads the commands of root to a recording of root, by a directory or a link of its own.
#[test]
fn pins_of_another_user_are_not_used() {
    let recorder = Recorder::new("private");
    if !recorder.start(&SMALL) {
        return;
    }
    let his = Recorder::new("his");
    let file = std::env::temp_dir().join(format!("mapring-his-{}", std::process::id()));
    DirBuilder::new().mode(0o755).create(&his.dir).unwrap();
    let own = |path: &Path| lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    let link = pins::recording(&his.dir);
    symlink(pins::recording(&recorder.dir), &link).unwrap();
    [&link, &his.dir].into_iter().for_each(|path| own(path));
    for is_link in [true, false] {
        if !is_link {
            fs::remove_file(&link).unwrap();
            fs::create_dir(&link).unwrap();
            for name in [pins::MAPS, pins::LINKS, pins::CONTROL] {
                symlink(pins::recording(&recorder.dir).join(name), link.join(name)).unwrap();
                own(&link.join(name));
            }
            own(&link);
        }
        let save = ["save", file.to_str().unwrap()];
        let dump = ["dump", "--format", "ndjson"];
        for command in [&["hold"][..], &["resume"], &["mark", "x"], &["status"], &["report"], &save, &dump] {
            let refused = his.run(command);
            assert_eq!(refused.status.code(), Some(1), "{command:?}");
            assert!(stderr(&refused).contains("belongs to user 65534, who could exchange"), "{command:?}");
        }
    }
    assert!(!file.exists() && recorder.status()["recording"]["stopped"].is_null());
    fs::remove_dir_all(&his.dir).unwrap();
}
