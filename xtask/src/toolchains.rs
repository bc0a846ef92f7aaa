//! Rust toolchains other than the one that builds this: the oldest supported one, and a nightly.

use anyhow::{Result, bail, ensure};

use crate::cmd;

/// The version in the checks of the oldest Rust.
pub(crate) const OLDEST: &str = "1.88.0";

/// Installs the oldest Rust if needed; the error contains the reason of a failure.
pub(crate) fn oldest() -> Result<()> {
    let there = || cmd::succeeds(&mut cmd::line(&format!("rustup run {OLDEST} cargo --version")), "");
    if there() {
        return Ok(());
    }
    if !cmd::exists("rustup") {
        bail!("no rustup to get Rust {OLDEST} with (https://rustup.rs)");
    }
    cmd::run(&mut cmd::line(&format!("rustup toolchain install {OLDEST} --profile minimal")))?;
    ensure!(there(), "Rust {OLDEST} does not run");
    Ok(())
}

/// Installs a nightly toolchain with `components` if needed; the error contains the reason of a failure.
pub(crate) fn nightly(components: &[&str]) -> Result<()> {
    ensure!(cmd::exists("rustup"), "no rustup to get a nightly Rust with (https://rustup.rs)");
    let list = "rustup component list --installed --toolchain nightly";
    let lacking = || {
        let installed = cmd::output(&mut cmd::line(list)).unwrap_or_default();
        let there = |component: &&str| {
            installed.lines().any(|line| line == *component || line.starts_with(&format!("{component}-")))
        };
        components.iter().copied().filter(|component| !there(component)).collect::<Vec<_>>()
    };
    if lacking().is_empty() && cmd::succeeds(&mut cmd::line("cargo +nightly --version"), "") {
        return Ok(());
    }
    // Also adds missing components to an installed toolchain. A nightly without Miri is skipped.
    let mut install = cmd::line("rustup toolchain install nightly --profile minimal --no-self-update");
    components.iter().for_each(|component| _ = install.args(["--component", component]));
    install.stdout(std::io::stderr());
    cmd::run(&mut install)?;
    ensure!(lacking().is_empty(), "nightly has no {}", lacking().join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rust_is_the_one_promised() {
        assert_eq!(OLDEST, format!("{}.0", env!("CARGO_PKG_RUST_VERSION")));
    }
}
