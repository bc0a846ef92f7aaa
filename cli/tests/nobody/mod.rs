//! The command as a user without any privilege, who need not reach the folder in which it was built.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const NOBODY: u32 = 65534;

/// Runs the command as nobody.
pub(crate) fn as_nobody(args: &[&str]) -> Output {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let copy = std::env::temp_dir().join(format!("mapring-nobody-{}-{number}", std::process::id()));
    // By another process: a child that another thread forks meanwhile would keep a file of this process open for
    // writing, and such a file can't be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_mapring")).arg(&copy).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(&copy);
    let output = command.args(args).uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null()).output();
    fs::remove_file(&copy).unwrap();
    output.unwrap()
}
