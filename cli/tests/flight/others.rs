//! What other users do in the directory of the recorder, and near it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::thread;

use rustix::fs::{FlockOperation, flock};

use crate::nobody::become_nobody;
use crate::pins;
use crate::recorder::Recorder;

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
