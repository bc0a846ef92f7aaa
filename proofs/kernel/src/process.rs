//! Second processes: the package's own, as root or as nobody.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, set_capabilities, set_keep_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Who has no rights: the usual user and group.
pub const NOBODY: u32 = 65534;

/// What the child program (`env!("CARGO_BIN_EXE_kernel-tests-child")` in a test) says, given
/// `args`: its stdout, or its stderr if it failed. What it does: `src/bin/kernel-tests-child.rs`.
///
/// # Panics
/// If it can't be run.
pub fn try_child(program: &str, args: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// As [`try_child`], for what must succeed.
///
/// # Panics
/// If it fails.
pub fn child(program: &str, args: &[&str]) -> String {
    try_child(program, args).unwrap_or_else(|said| panic!("{args:?}: {said}"))
}

/// Starts a reader, of the package's own programs, and calls `write` until it has had enough: the line in which
/// it says how it reads, before it is `ready`, and what it said afterwards.
///
/// # Panics
/// If it fails.
pub fn written_for(program: &str, args: &[&str], mut write: impl FnMut()) -> (String, Vec<String>) {
    let mut reader = Command::new(program).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines().map(Result::unwrap);
    let access = lines.next().unwrap();
    assert_eq!(lines.next().unwrap(), "ready");
    let status = loop {
        if let Some(status) = reader.try_wait().unwrap() {
            break status;
        }
        write();
    };
    assert!(status.success(), "1: read something wrong; signal 31: made a system call ({status})");
    (access, lines.collect())
}

/// Becomes nobody, without any capability or a way back. This process must have one thread.
///
/// # Errors
/// If something is left.
pub fn become_nobody() -> Result<()> {
    become_nobody_with(CapabilitySet::empty())
}

/// Becomes nobody, with these capabilities alone. This process must have one thread.
///
/// # Errors
/// If something else is left.
pub fn become_nobody_with(kept: CapabilitySet) -> Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_keep_capabilities(!kept.is_empty())?;
    set_thread_groups(&[]).context("setgroups")?;
    set_thread_res_gid(group, group, group).context("setresgid")?;
    set_thread_res_uid(user, user, user).context("setresuid")?;
    set_no_new_privs(true)?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    let left = capabilities(None)?;
    ensure!(left.effective == kept && left.permitted == kept, "left with {left:?}");
    ensure!(left.inheritable == CapabilitySet::empty(), "left with {left:?}");
    Ok(())
}
