//! Second processes: this package's own programs, as root or as nobody.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, set_capabilities, set_keep_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// The usual unprivileged user and group.
pub const NOBODY: u32 = 65534;

/// Runs the child program (`env!("CARGO_BIN_EXE_kernel-tests-child")` in a test) with `args`. Returns its stdout, or
/// its stderr if it failed. `src/bin/kernel-tests-child.rs` describes its commands.
///
/// # Panics
/// Panics if it can't be run.
pub fn try_child(program: &str, args: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// As [`try_child`], for commands that must succeed.
///
/// # Panics
/// Panics if it fails.
pub fn child(program: &str, args: &[&str]) -> String {
    try_child(program, args).unwrap_or_else(|log| panic!("{args:?}: {log}"))
}

/// Starts a reader, one of this package's programs, and calls `write` until it ends. Returns the line in which it
/// reports how it reads, before the line `ready`, and its later output.
///
/// # Panics
/// Panics if it fails.
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

/// Changes this thread to user nobody, permanently and without any capability.
///
/// # Errors
/// Fails if any privilege is left.
pub fn become_nobody() -> Result<()> {
    become_nobody_with(CapabilitySet::empty())
}

/// Changes this thread to user nobody, with only these capabilities.
///
/// # Errors
/// Fails if any other privilege is left.
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
