//! Which method passed with which key. `cargo xtask prove` notes each pass in a file that git does not track; for a release,
//! `cargo xtask prove --record` writes these passes to `proofs/last-proved.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::code::code;
use super::keys::Sources;
use crate::checks::{self, Check};
use crate::cmd;
use crate::counts::Counts;

const HEAD: &str = "\
# When each method of proof last passed

`cargo xtask prove --record` writes this file, once for a release. A method is due if its key has changed: a hash of the code
that it depends on, without comments. A release needs all of them.

| method | key | commit | when (UTC) | seconds | cases | explored | killed | machine |
|---|---|---|---|--:|--:|--:|--:|---|
";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    key: String,
    /// With a `+` if not all that it covers was committed.
    pub(super) commit: String,
    /// The other cells, as text.
    rest: Vec<String>,
}

impl Pass {
    /// A pass of the current commit, of a method that covers these files.
    pub(super) fn now(key: String, covered: BTreeSet<&str>, counts: &Counts, seconds: f32) -> Result<Self> {
        let Counts { cases, explored, mutants, killed, .. } = counts;
        let killed = if *mutants == 0 { String::new() } else { format!("{killed}/{mutants}") };
        let when = output("date -u +%F_%R")?.replace('_', " ");
        let rest =
            vec![when, format!("{seconds:.0}"), cases.to_string(), explored.to_string(), killed, machine()?];
        let mut changes = cmd::line("git status --porcelain --untracked-files --");
        let changes = if cmd::output(changes.args(covered))?.is_empty() { "" } else { "+" };
        Ok(Self { key, commit: output("git rev-parse --short=12 HEAD")? + changes, rest })
    }
}

fn output(line: &str) -> Result<String> {
    Ok(cmd::output(&mut cmd::line(line))?.trim().to_owned())
}

fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(format!("{}, Linux {}", model.map_or("unknown", |(_, model)| model), output("uname -r")?))
}

type Passes = BTreeMap<String, Pass>;

/// The passes of releases, and later ones.
pub(super) struct Record {
    released: Passes,
    later: Passes,
}

fn released() -> PathBuf {
    cmd::root().join("proofs/last-proved.md")
}

/// All worktrees have this file, and no `cargo clean` removes it.
fn later() -> Result<PathBuf> {
    Ok(cmd::root().join(output("git rev-parse --git-common-dir")?).join("last-proved.md"))
}

impl Record {
    /// Reads both files; without them, nothing has passed.
    pub(super) fn load() -> Result<Self> {
        let read = |path| parse(&fs::read_to_string(path).unwrap_or_default());
        Ok(Self { released: read(released()), later: read(later()?) })
    }

    /// The pass of a method with this key.
    pub(super) fn pass(&self, method: &str, key: &str) -> Option<&Pass> {
        self.of(method).find(|pass| pass.key == key)
    }

    /// The passes of a method, the last one first.
    fn of(&self, method: &str) -> impl Iterator<Item = &Pass> {
        [&self.later, &self.released].into_iter().filter_map(move |passes| passes.get(method))
    }

    /// How long a method took.
    pub(super) fn seconds(&self, method: &str) -> Option<u32> {
        self.of(method).find_map(|pass| pass.rest.get(1)?.parse().ok())
    }
}

/// Notes a pass. Another `prove` may have written the file meanwhile.
pub(super) fn note(method: &str, pass: Pass) -> Result<()> {
    let mut later = Record::load()?.later;
    later.insert(method.to_owned(), pass);
    save(self::later()?, &later)
}

/// Writes the last pass of each method to the file of releases.
pub(super) fn publish() -> Result<()> {
    let Record { mut released, later } = Record::load()?;
    released.extend(later);
    save(self::released(), &released)
}

fn save(path: PathBuf, passes: &Passes) -> Result<()> {
    fs::write(&path, text(passes)).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Passes {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).skip(1);
    let passes = rows.filter_map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim().to_owned());
        let (method, key, commit) = (cells.next()?, cells.next()?, cells.next()?);
        Some((method, Pass { key, commit, rest: cells.collect() }))
    });
    passes.collect()
}

fn text(passes: &Passes) -> String {
    let rows = checks::proofs().into_iter().filter_map(|(check, _)| {
        let Pass { key, commit, rest } = passes.get(check.name)?;
        Some(format!("| {} | {key} | {commit} | {} |\n", check.name, rest.join(" | ")))
    });
    HEAD.to_owned() + &rows.collect::<String>()
}

/// What has changed since a method passed.
pub(crate) struct Since {
    pub(crate) commit: String,
    /// The files with other code.
    pub(crate) files: Vec<String>,
}

/// What has changed since this method passed; `None` if it never did, or its commit is not known.
pub(crate) fn since(method: &str) -> Option<Since> {
    let commit = Record::load().ok()?.of(method).next()?.commit.clone();
    let (_, proof) = checks::proofs().into_iter().find(|(check, _)| check.name == method)?;
    let sources = Sources::load().ok()?;
    let covered = sources.files(&proof.covers).ok()?;
    let git = |args: &[&str]| cmd::output(cmd::line("git").args(args));
    let changed = git(&["diff", "--name-only", "--no-renames", &commit]).ok()?;
    let is_same = |file: &str| {
        let then = git(&["show", &format!("{commit}:{file}")]);
        let now = fs::read_to_string(cmd::root().join(file));
        matches!((then, now), (Ok(then), Ok(now)) if code(file, &then, true) == code(file, &now, true))
    };
    let files = changed.lines().filter(|file| covered.contains(*file) && !is_same(file));
    Some(Since { files: files.map(str::to_owned).collect(), commit })
}

/// Which methods have passed on the code as it is, for the head of a run of tests.
pub(crate) fn age() -> Result<String> {
    let (sources, record) = (Sources::load()?, Record::load()?);
    let (mut passed, mut due) = (0, Vec::new());
    for (Check { name, .. }, proof) in checks::proofs() {
        match record.of(name).next() {
            _ if record.pass(name, &sources.key(&proof.covers)?).is_some() => passed += 1,
            Some(Pass { commit, rest, .. }) => due.push(format!("{name} (passed {} on {commit})", rest[0])),
            None => due.push(format!("{name} (never)")),
        }
    }
    let due = if due.is_empty() { "none".into() } else { due.join(", ") };
    Ok(format!("`cargo xtask prove`: {passed} methods passed on the code as it is; due: {due}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let counts = Counts { cases: 4, explored: 10, mutants: 9, killed: 9, ..Counts::default() };
        let pass = |counts, seconds| Pass::now("12ab".into(), BTreeSet::new(), counts, seconds).unwrap();
        let (full, plain) = (pass(&counts, 61.4), pass(&Counts::default(), 1.0));
        let passes = Passes::from([("loom".to_owned(), full.clone()), ("litmus".to_owned(), plain)]);
        let text = text(&passes);
        assert!(text.contains(" | 61 | 4 | 10 | 9/9 | "), "{text}");
        assert_eq!(parse(&text), passes, "{text}");

        let record = Record { released: passes, later: Passes::new() };
        assert_eq!(record.pass("loom", "12ab"), Some(&full));
        assert_eq!(record.pass("loom", "12ac"), None);
        assert_eq!(record.seconds("loom"), Some(61));
    }
}
