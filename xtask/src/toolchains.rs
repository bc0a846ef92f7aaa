//! Compilers: every clang here that compiles for BPF, the oldest supported Rust, and a nightly.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cmd;

/// The oldest clang whose BPF backend compiles the headers.
const OLDEST_CLANG: u32 = 14;
/// The version in the checks of the oldest Rust.
pub(crate) const OLDEST: &str = "1.88.0";

#[derive(Clone)]
pub(crate) struct Clang {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) major: u32,
}

/// The clangs that can compile for BPF. The first is what builds by hand use, the one in `CLANG` or `clang`; then the newest.
pub(crate) fn clangs() -> Vec<Clang> {
    let named = |name: &str| {
        let rest = name.strip_prefix("clang");
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.parse::<u32>().is_ok())
        })
    };
    let mut found: Vec<_> = cmd::on_path(named).iter().filter_map(|path| usable_clang(path)).collect();
    found.sort_by_key(|clang| std::cmp::Reverse(clang.major));
    let plain = || cmd::on_path(|name| name == "clang").into_iter().next();
    if let Some(wanted) =
        env::var_os("CLANG").map(PathBuf::from).or_else(plain).and_then(|path| usable_clang(&path))
    {
        found.insert(0, wanted);
    }
    let mut known = Vec::new();
    found.retain(|clang| {
        let new = !known.contains(&clang.version);
        known.push(clang.version.clone());
        new
    });
    found
}

fn usable_clang(path: &Path) -> Option<Clang> {
    let (version, major) = clang_version(&cmd::output(Command::new(path).arg("--version")).ok()?)?;
    let mut compile = Command::new(path);
    compile.args(["-target", "bpf", "-O2", "-c", "-x", "c", "-o", "/dev/null", "-"]);
    let usable = major >= OLDEST_CLANG && cmd::succeeds(&mut compile, "int x;");
    usable.then(|| Clang { path: path.to_owned(), version, major })
}

fn clang_version(text: &str) -> Option<(String, u32)> {
    let version = text.split_once("clang version ")?.1.split_whitespace().next()?;
    let number = version.split(['-', '+', '~']).next()?;
    Some((number.to_owned(), number.split('.').next()?.parse().ok()?))
}

/// Installs the oldest Rust if needed.
pub(crate) fn oldest() -> Result<()> {
    let there = || cmd::succeeds(&mut cmd::line(&format!("rustup run {OLDEST} cargo --version")), "");
    if there() {
        return Ok(());
    }
    ensure!(cmd::exists("rustup"), "no rustup to get Rust {OLDEST} with (https://rustup.rs)");
    cmd::run(&mut cmd::line(&format!("rustup toolchain install {OLDEST} --profile minimal")))?;
    ensure!(there(), "Rust {OLDEST} does not run");
    Ok(())
}

/// Installs the standard library for another target if needed.
pub(crate) fn target(target: &str) -> Result<()> {
    let place = cmd::output(&mut cmd::line(&format!("rustc --print target-libdir --target {target}")))?;
    if Path::new(place.trim()).is_dir() {
        return Ok(());
    }
    cmd::run(cmd::line(&format!("rustup target add {target}")).stdout(std::io::stderr()))
        .with_context(|| format!("the standard library for {target} can't be had"))
}

/// Installs a nightly toolchain with `components` if needed.
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

    #[test]
    fn versions_of_distributions_are_read() {
        let version = |text| clang_version(text).map(|(_, major)| major);
        assert_eq!(version("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu"), Some(14));
        assert_eq!(version("Ubuntu clang version 18.1.3 (1ubuntu1)\n"), Some(18));
        assert_eq!(version("clang version 21.1.0-rc2 (https://github.com/llvm)\n"), Some(21));
        assert_eq!(version("gcc (Debian 12.2.0-14) 12.2.0"), None);
    }
}
