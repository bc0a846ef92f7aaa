//! `proofs/last-proved.md`: for which commit each method of proof last passed. A method whose files have not changed
//! since keeps its pass.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::checks::{self, Proof};
use crate::cmd;
use crate::counts::Counts;

const HEAD: &str = "\
# When each method of proof last passed

`cargo xtask prove` writes this file, method by method. It skips a method if the files that the method covers have not
changed since its commit here. `cargo xtask test --all` prints which methods are due. A release needs all of them.

| method | commit | when (UTC) | seconds | cases | explored | killed | machine |
|---|---|---|--:|--:|--:|--:|---|
";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) commit: String,
    /// The other cells, as text.
    rest: Vec<String>,
}

impl Pass {
    /// A pass of the current commit.
    pub(super) fn now(counts: &Counts, seconds: f32) -> Result<Self> {
        let Counts { cases, explored, mutants, killed, .. } = counts;
        let killed = if *mutants == 0 { String::new() } else { format!("{killed}/{mutants}") };
        let when = said("date -u +%F_%R")?.replace('_', " ");
        let rest =
            vec![when, format!("{seconds:.0}"), cases.to_string(), explored.to_string(), killed, machine()?];
        Ok(Self { commit: said("git rev-parse --short=12 HEAD")?, rest })
    }

    /// Whether nothing that the method covers differs from the commit of the pass.
    pub(super) fn is_current(&self, proof: &Proof) -> bool {
        git(&["diff", "--quiet", &self.commit, "--"], proof).status().is_ok_and(|status| status.success())
            && is_committed(proof)
    }
}

/// Whether all that the method covers is committed.
pub(super) fn is_committed(proof: &Proof) -> bool {
    cmd::output(&mut git(&["status", "--porcelain", "--"], proof)).is_ok_and(|changes| changes.is_empty())
}

fn git(args: &[&str], proof: &Proof) -> Command {
    let mut git = cmd::line("git");
    git.args(args).args(proof.covers).stderr(std::process::Stdio::null());
    git
}

fn said(line: &str) -> Result<String> {
    Ok(cmd::output(&mut cmd::line(line))?.trim().to_owned())
}

fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(format!("{}, Linux {}", model.map_or("unknown", |(_, model)| model), said("uname -r")?))
}

fn path() -> PathBuf {
    cmd::root().join("proofs/last-proved.md")
}

pub(super) type Passes = BTreeMap<String, Pass>;

/// Reads the file; without one, nothing has passed.
pub(super) fn load() -> Passes {
    parse(&fs::read_to_string(path()).unwrap_or_default())
}

fn parse(text: &str) -> Passes {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).skip(1);
    let passes = rows.filter_map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim().to_owned());
        let (method, commit) = (cells.next()?, cells.next()?);
        Some((method, Pass { commit, rest: cells.collect() }))
    });
    passes.collect()
}

fn text(passes: &Passes) -> String {
    let rows = checks::proofs().into_iter().filter_map(|(check, _)| {
        let Pass { commit, rest } = passes.get(check.name)?;
        Some(format!("| {} | {commit} | {} |\n", check.name, rest.join(" | ")))
    });
    HEAD.to_owned() + &rows.collect::<String>()
}

pub(super) fn save(passes: &Passes) -> Result<()> {
    fs::write(path(), text(passes)).with_context(|| path().display().to_string())
}

/// What has changed since a method passed.
pub(crate) struct Since {
    pub(crate) commit: String,
    /// The files that the method covers and that differ.
    pub(crate) files: Vec<String>,
}

/// What has changed since this method passed; `None` if it never did, or its commit is gone.
pub(crate) fn since(method: &str) -> Option<Since> {
    let commit = load().remove(method)?.commit;
    let (_, proof) = checks::proofs().into_iter().find(|(check, _)| check.name == method)?;
    let files = cmd::output(&mut git(&["diff", "--name-only", &commit, "--"], proof)).ok()?;
    Some(Since { commit, files: files.lines().map(str::to_owned).collect() })
}

/// Which methods have passed on the files that they cover, for the head of a run of tests.
pub(crate) fn age() -> String {
    let passes = load();
    let (current, due): (Vec<_>, Vec<_>) = checks::proofs()
        .into_iter()
        .partition(|(check, proof)| passes.get(check.name).is_some_and(|pass| pass.is_current(proof)));
    let names = due.iter().map(|(check, _)| match passes.get(check.name) {
        Some(Pass { commit, rest }) => format!("{} (passed {} on {commit})", check.name, rest[0]),
        None => format!("{} (never)", check.name),
    });
    let due = if due.is_empty() { "none".into() } else { names.collect::<Vec<_>>().join(", ") };
    format!("`cargo xtask prove`: {} methods passed on the files as they are; due: {due}", current.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let counts = Counts { cases: 4, explored: 10, mutants: 9, killed: 9, ..Counts::default() };
        let pass = Pass::now(&counts, 61.4).unwrap();
        let plain = Pass::now(&Counts::default(), 1.0).unwrap();
        let passes = Passes::from([("loom".to_owned(), pass), ("litmus".to_owned(), plain)]);
        let text = text(&passes);
        assert!(text.contains(" | 61 | 4 | 10 | 9/9 | "), "{text}");
        assert_eq!(parse(&text), passes, "{text}");
    }

    #[test]
    fn a_commit_that_is_gone_is_no_pass() {
        let (_, proof) = checks::proofs()[0];
        let pass = Pass { commit: "0123456789ab".into(), rest: vec![] };
        assert!(!pass.is_current(proof));
    }
}
