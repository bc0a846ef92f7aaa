//! Second processes: the package's own `kernel-tests-child`, as root or as nobody.

use std::process::Command;

/// Who has no rights: the usual user and group.
pub const NOBODY: u32 = 65534;

/// What the child program (`env!("CARGO_BIN_EXE_kernel-tests-child")` in a test) says, given
/// `args`: its stdout, or its stderr if it failed. What it does: `src/bin/kernel-tests-child.rs`.
///
/// # Panics
/// If it can't be run.
pub fn try_child(program: &str, args: &[&str]) -> Result<String, String> {
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
