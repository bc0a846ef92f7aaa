//! The clangs of this machine. Some build scripts include this file directly, to avoid a dependency.

use std::env;
use std::process::Command;

/// One clang of each major version, the oldest first: its command and its version.
///
/// # Panics
/// Panics if no clang is found.
pub fn clangs() -> Vec<(String, u32)> {
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CLANGS"); // `cargo xtask` sets it to the clangs that it found
    let names = env::var("CLANG").into_iter().chain(["clang".into()]);
    let mut found: Vec<(String, u32)> = Vec::new();
    for name in names.chain((14..40).map(|major| format!("clang-{major}"))) {
        let Ok(text) = Command::new(&name).arg("--version").output() else { continue };
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        let version = text.split("clang version ").nth(1).and_then(|v| v.split('.').next()?.parse().ok());
        if let Some(major) = version
            && found.iter().all(|&(_, other)| other != major)
        {
            found.push((name, major));
        }
    }
    found.sort_by_key(|&(_, major)| major);
    assert!(!found.is_empty(), "no clang to compile BPF programs with (`cargo xtask setup` installs it)");
    found
}
