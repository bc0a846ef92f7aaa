//! Second processes: the package's own `kernel-tests-child`, as root or as nobody.

use std::process::Command;

/// Who has no rights: the usual user and group.
pub const NOBODY: u32 = 65534;

/// The child program (`env!("CARGO_BIN_EXE_kernel-tests-child")` in a test) with arguments. See
/// `src/bin/kernel-tests-child.rs` for what it does.
///
/// # Panics
/// If it can't be run, or ends in any way but exit 0.
pub fn child(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{args:?}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said.into_owned()
}
