//! `cargo xtask record`: runs the command in a terminal and writes the animations of README.md and docs/command.md.

use std::fs;

use anyhow::{Result, ensure};

use crate::{cmd, packages, setup};

/// A private tmux server, which ends with the recording and does not read the user's configuration.
const TMUX: &str = "tmux -L mapring-record -f /dev/null";
/// A recording: its script, in bash, and the lines of the terminal. The last picture stays for 5 seconds.
struct Recording {
    name: &'static str,
    script: &'static str,
    lines: &'static str,
}

/// The first one opens README.md, the other is in docs/command.md.
const RECORDINGS: [Recording; 2] = [
    Recording {
        name: "flight",
        // The trace is written where nothing else is, and read by what everybody has.
        script: r#"cd "$(mktemp -d)"; PATH=$ROOT/target/release:$PATH
say() { printf '\e[1m$ %s\e[0m\n' "$*"; sleep 1; eval "$*"; sleep "$PAUSE"; }
PAUSE=3 say 'mapring flight start         # loads, pins, and exits: the kernel records'
(for _ in 1 2 3 4 5; do grep -rqs mapring /usr/share/doc; done) &
PAUSE=3 say 'mapring flight status'
PAUSE=2 say 'mapring flight dump --last 10s --out crash.pftrace'
PAUSE=3 say 'mapring flight dump --format csv 2>/dev/null | cut -d, -f1,3,6,31 | grep /usr/bin | tail -n 4'
PAUSE=1 say 'mapring flight stop'"#,
        lines: "28",
    },
    Recording {
        name: "demo",
        script: r#"echo "$ mapring demo"; "$ROOT/target/release/mapring" demo --seconds 7 2>/dev/null"#,
        lines: "31",
    },
];
/// A larger file loads too slowly in a README.
const LIMIT: u64 = 300_000;

pub(crate) fn run() -> Result<()> {
    packages::ensure(&packages::RECORDING)?;
    let version = cmd::output(&mut cmd::line("asciinema --version"))?;
    ensure!(version.starts_with("asciinema 2"), "svg-term reads recordings of asciinema 2, found {version}");

    let mut build = cmd::line("cargo build --release -p mapring-cli --features bpf");
    cmd::run(setup::ensure()?.export(&mut build))?;
    RECORDINGS.iter().try_for_each(record)
}

fn record(Recording { name, script, lines }: &Recording) -> Result<()> {
    let (root, target) = (cmd::root(), cmd::target_dir());
    let [written, cast] = ["sh", "cast"].map(|end| target.join(format!("{name}.{end}")));
    let end = "sleep 5; printf ' '";
    fs::write(&written, format!("ROOT={}\n{script}\n{end}\n", root.display()))?;
    let command = format!(
        "asciinema rec --quiet --overwrite --command 'bash {}' {}; {TMUX} wait-for -S recorded",
        written.display(),
        cast.display()
    );
    cmd::run(
        cmd::line(TMUX)
            .args(["new-session", "-d", "-x", "84", "-y", lines])
            .arg(command)
            .args([";", "wait-for", "recorded"]),
    )?;
    let picture = root.join("docs").join(format!("{name}.svg"));
    let mut draw = cmd::line("npx --yes svg-term-cli@2.1.1 --window --no-cursor --in");
    cmd::run(draw.arg(&cast).arg("--out").arg(&picture))?;
    let (size, picture) = (fs::metadata(&picture)?.len(), picture.display());
    ensure!(size < LIMIT, "{picture} has {size} bytes, which is too much for a README: record it again");
    println!("{picture} ({} KB): look at it in a browser before you commit it", size / 1000);
    Ok(())
}
