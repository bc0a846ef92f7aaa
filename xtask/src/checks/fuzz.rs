//! `cargo xtask prove fuzz`: libFuzzer runs each target of `proofs/fuzz` for the same time, under the address sanitizer.
//!
//! `target/fuzz/corpus` keeps the inputs that it found: the next run begins with them. An input that makes a target fail is in
//! `proofs/fuzz/artifacts`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::counts::Counts;
use crate::{cargo_tools, cmd};

const VERSION: &str = "0.13.2";
const FOLDER: &str = "proofs/fuzz";

/// The targets, and the folders of their first inputs.
const TARGETS: [(&str, &str); 5] = [
    ("btf", "proofs/fuzz/seeds/btf"),
    ("filter", "proofs/fuzz/seeds/filter"),
    ("flight", "proofs/fuzz/seeds/flight"),
    ("image", "proofs/images"),
    ("recording", "proofs/fuzz/seeds/recording"),
];

/// A target with a defect, and the seconds in which it must be found.
const CONTROL: (&str, u32) = ("control", 60);

/// Runs each target for so many seconds.
pub(super) fn run(seconds: u32) -> Result<Counts> {
    let tool = cargo_tools::install("fuzz", VERSION)?;
    let (control, limit) = CONTROL;
    let (output, _) = fuzz(&tool, control, None, limit)?;
    let is_found = output.contains("deadly signal");
    eprintln!("{control}: {}", if is_found { "noticed" } else { "NOT NOTICED" });
    let killed = is_found.into();
    let mut all = Counts { mutants: 1, killed, failures: 1 - killed, ..Counts::default() };
    for (target, seeds) in TARGETS {
        let (output, is_sound) = fuzz(&tool, target, Some(seeds), seconds)?;
        let (explored, edges) = figures(&output);
        println!("{target}: {explored} executions, {edges} edges");
        if !is_sound {
            eprintln!("{}", cmd::last_lines(&output, 20));
        }
        all += Counts { cases: 1, explored, failures: (!is_sound).into(), ..Counts::default() };
    }
    Ok(all)
}

/// Runs a target. Returns its log, and whether nothing was found.
fn fuzz(tool: &Path, target: &str, seeds: Option<&str>, seconds: u32) -> Result<(String, bool)> {
    let folder = cmd::target_dir().join("fuzz");
    let (corpus, log) = (folder.join("corpus").join(target), folder.join(format!("{target}.log")));
    fs::create_dir_all(&corpus)?;
    let mut fuzz = Command::new(tool);
    fuzz.current_dir(cmd::root()).args(["fuzz", "run", "--fuzz-dir", FOLDER, "--target-dir"]).arg(&folder);
    fuzz.arg(target).arg(corpus).args(seeds).arg("--").arg(format!("-max_total_time={seconds}"));
    // What the library prints would fill the log; a report of the sanitizer comes with the command that cargo-fuzz prints.
    fuzz.args(["-print_final_stats=1", "-close_fd_mask=3", "-timeout=60"]);
    // This program runs with another Rust.
    fuzz.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
    let file = fs::File::create(&log).with_context(|| log.display().to_string())?;
    cmd::announce(&fuzz);
    let status = fuzz.stdout(Stdio::null()).stderr(file).status().context("cargo-fuzz does not start")?;
    Ok((String::from_utf8_lossy(&fs::read(&log)?).into_owned(), status.success()))
}

/// The executions, and the edges of the program that they reached.
fn figures(output: &str) -> (u64, u64) {
    let last = |after: &str| {
        let number = |line: &str| line.split_once(after)?.1.split_whitespace().next()?.parse().ok();
        output.lines().rev().find_map(number).unwrap_or(0)
    };
    (last("stat::number_of_executed_units:"), last(" cov: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_last_line() {
        let output = "#2\tINITED cov: 190 ft: 191 corp: 1/512b exec/s: 0 rss: 50Mb\n\
            #900\tDONE   cov: 301 ft: 800 corp: 9/2Kb lim: 4096 exec/s: 450 rss: 60Mb\n\
            Done 900 runs in 2 second(s)\nstat::number_of_executed_units: 900\nstat::average_exec_per_sec: 450\n";
        assert_eq!(figures(output), (900, 301));
        assert_eq!(figures("error: could not compile"), (0, 0));
    }

    #[test]
    fn all_targets_run() {
        let manifest = fs::read_to_string(cmd::root().join(FOLDER).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let names = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap());
        assert!(names.filter(|name| *name != CONTROL.0).eq(TARGETS.map(|(target, _)| target)));
        assert!(TARGETS.iter().all(|(_, seeds)| cmd::root().join(seeds).is_dir()));
    }
}
