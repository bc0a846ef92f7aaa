//! The command as a user without any privilege, who need not reach the folder in which it was built.
#![allow(dead_code)] // each test uses some of it

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

pub(crate) const NOBODY: u32 = 65534;

/// Runs the command as nobody.
pub(crate) fn as_nobody(args: &[&str]) -> Output {
    with_copy(|copy| {
        Command::new(copy).args(args).uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null()).output()
    })
    .unwrap()
}

/// The same with these capabilities and no others (`+bpf,+perfmon`). `None` if this machine has no means for that.
pub(crate) fn as_nobody_with(capabilities: &str, args: &[&str]) -> Option<Output> {
    let all = format!("-all,{capabilities}");
    let all = all.trim_end_matches(',');
    let run = |copy: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--inh-caps", all, "--ambient-caps", all, "--bounding-set", all]);
        command.arg(copy).args(args).current_dir("/").stdin(Stdio::null()).output()
    };
    match with_copy(run) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        output => Some(output.unwrap()).filter(|output| !output.stderr.starts_with(b"setpriv")),
    }
}

/// Changes this thread to user nobody, who has no capabilities.
pub(crate) fn become_nobody() {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
}

fn with_copy<T>(run: impl FnOnce(&Path) -> T) -> T {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let copy = std::env::temp_dir().join(format!("mapring-nobody-{}-{number}", std::process::id()));
    // By another process: a child that another thread forks meanwhile would keep a file of this process open for
    // writing, and such a file can't be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_mapring")).arg(&copy).status().unwrap();
    assert!(copied.success());
    let done = run(&copy);
    fs::remove_file(&copy).unwrap();
    done
}
