//! `cargo xtask record`: runs the demo in a terminal and writes `docs/demo.svg`, the animation in README.md.

use std::fs;

use anyhow::{Result, bail, ensure};

use crate::cmd;

/// tmux is the terminal: it has a size without a window, and answers the demo's query of the cursor position. asciinema
/// records in it, and svg-term, which npx fetches, draws the recording.
const PROGRAMS: [&str; 3] = ["tmux", "asciinema", "npx"];
/// Debian's and Ubuntu's packages of these.
const INSTALL: &str = "apt-get install -y --no-install-recommends tmux asciinema npm";
/// A private tmux server, which ends with the recording and does not read the user's configuration.
const TMUX: &str = "tmux -L mapring-record -f /dev/null";
/// The recorded command: the demo without cargo's output. The last picture stays for 5 seconds.
const SHOWN: &str =
    r#"echo "$ cargo xtask demo"; cargo xtask demo --seconds 7 2>/dev/null; sleep 5; printf " ""#;
const RECORDING: &str = "target/demo.cast";
const PICTURE: &str = "docs/demo.svg";
/// A larger file loads too slowly in a README.
const LIMIT: u64 = 300_000;

/// Records the demo.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !cmd::exists(program)).collect();
    if !missing.is_empty() {
        bail!("`cargo xtask record` needs {}; on Debian and Ubuntu: {INSTALL}", missing.join(", "));
    }
    let version = cmd::output(&mut cmd::line("asciinema --version"))?;
    ensure!(version.starts_with("asciinema 2"), "svg-term reads recordings of asciinema 2, found {version}");

    cmd::run(&mut cmd::line("cargo xtask demo --seconds 1 --json"))?; // builds it before the recording begins
    let record = format!(
        "asciinema rec --quiet --overwrite --command '{SHOWN}' {RECORDING}; {TMUX} wait-for -S recorded"
    );
    fs::create_dir_all(cmd::root().join("target"))?;
    cmd::run(
        cmd::line(TMUX)
            .args(["new-session", "-d", "-x", "84", "-y", "31"])
            .arg(record)
            .args([";", "wait-for", "recorded"]),
    )?;
    let svg_term = "npx --yes svg-term-cli@2.1.1 --window --no-cursor";
    cmd::run(&mut cmd::line(&format!("{svg_term} --in {RECORDING} --out {PICTURE}")))?;
    let size = fs::metadata(cmd::root().join(PICTURE))?.len();
    ensure!(size < LIMIT, "{PICTURE} has {size} bytes, which is too much for a README: record it again");
    println!("{PICTURE} ({} KB): look at it in a browser before you commit it", size / 1000);
    Ok(())
}
