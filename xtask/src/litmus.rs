//! The protocols under formal memory models: runs the tests of `proofs/litmus` under herd7, in the kernel's C and
//! lowered to instructions. herd7 and the kernel's model come from Debian's packages.

mod lower;
mod shape;

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::lower::Dialect;
use self::shape::Shape;
use crate::cmd;
use crate::counts::Counts;
use crate::skip::Skip;
use crate::vm::{self, Arch};

/// herd7 is only in Debian's unstable suite.
const SUITE: &str = "sid";

/// herd7, from the `PATH` or unpacked, and the kernel's model, from `LKMM` or unpacked.
struct Herd {
    command: Vec<PathBuf>,
    model: PathBuf,
}

/// What herd7 says about a test.
struct Seen {
    is_allowed: bool,
    /// The final states: the values of what the condition names, in its order.
    states: BTreeSet<Vec<String>>,
}

/// Runs the tests in some dialects, and prints a line for each and for each change. A test that was also written by hand
/// in a dialect must have the same final states there.
pub(crate) fn run(dialects: &[Dialect]) -> Result<Counts> {
    let herd = Herd::find(dialects).map_err(|error| Skip(format!("{error:#}")))?;
    let tests = cmd::root().join("proofs/litmus");
    let lowered = folder().join("tests");
    fs::create_dir_all(&lowered)?;
    let mut by_hand: BTreeSet<_> = files(&tests.join("by-hand"))?.into_iter().collect();
    let mut counts = Counts::default();
    for file in files(&tests.join("lkmm"))? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let shape = Shape::parse(&fs::read_to_string(&file)?).with_context(|| format!("{name}"))?;
        for &dialect in dialects {
            let twin = tests.join(format!("by-hand/{name}.{dialect}.litmus"));
            for (n, case) in shape.cases(dialect).with_context(|| format!("{name}"))?.iter().enumerate() {
                let file = lowered.join(format!("{name}.{dialect}.{n}.litmus"));
                fs::write(&file, &case.text)?;
                let seen = herd.judge(dialect, &file)?;
                let mut wrong = match (seen.is_allowed, case.is_mutant) {
                    (false, true) => "  WRONG: must be allowed",
                    (true, false) => "  WRONG: must be forbidden",
                    _ => "",
                };
                if n == 0 && by_hand.remove(&twin) && herd.judge(dialect, &twin)?.states != seen.states {
                    wrong = "  WRONG: by hand it has other final states";
                }
                let verdict = if seen.is_allowed { "allowed" } else { "forbidden" };
                let (title, states) = (&case.title, seen.states.len());
                eprintln!("{name:18} {dialect:9} {title:76} {verdict:9} {states:4}{wrong}");
                counts.explored += states as u64;
                counts.failures += u64::from(!wrong.is_empty());
                counts.cases += u64::from(!case.is_mutant);
                counts.mutants += u64::from(case.is_mutant);
                counts.killed += u64::from(case.is_mutant && seen.is_allowed);
            }
        }
    }
    ensure!(by_hand.is_empty(), "no test is lowered to what is in {by_hand:?}");
    let Counts { cases, mutants, killed, failures, .. } = counts;
    eprintln!("litmus: {cases} cases, {mutants} mutants, {killed} killed, {failures} failures");
    Ok(counts)
}

/// The tests that were run, and unpacked packages.
fn folder() -> PathBuf {
    cmd::target_dir().join("litmus")
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

impl Herd {
    fn find(dialects: &[Dialect]) -> Result<Self> {
        let command = if cmd::exists("herd7") {
            vec!["herd7".into()]
        } else {
            let herd = folder().join("herd");
            vm::unpack(&["herdtools7", "libc6", "libgmp10"], SUITE, Arch::X86, &["./usr/*"], &herd)?;
            // With the C library that it was built for.
            let loader = herd.join("lib64/ld-linux-x86-64.so.2");
            let libraries = herd.join("lib/x86_64-linux-gnu");
            let (program, library) = (herd.join("bin/herd7"), herd.join("share/herdtools7/herd"));
            vec![loader, "--library-path".into(), libraries, program, "-set-libdir".into(), library]
        };
        let model = env::var_os("LKMM").map_or_else(|| folder().join("memory-model"), PathBuf::from);
        let source = folder().join("source");
        if dialects.contains(&Dialect::Lkmm) && (!model.exists() || source.exists()) {
            vm::unpack(&["linux-source"], SUITE, Arch::X86, &["*.tar.xz"], &source)?;
            let archive = files(&source.join("src"))?.pop().context("linux-source has no archive")?;
            let mut tar = Command::new("tar");
            tar.arg("-xJf").arg(archive).args([
                "--strip-components=2",
                "--wildcards",
                "*/tools/memory-model",
            ]);
            cmd::output(tar.current_dir(folder()))?;
            fs::remove_dir_all(&source)?;
        }
        Ok(Self { command, model })
    }

    fn judge(&self, dialect: Dialect, test: &Path) -> Result<Seen> {
        let mut herd = Command::new(&self.command[0]);
        herd.args(&self.command[1..]);
        if dialect == Dialect::Lkmm {
            herd.current_dir(&self.model).args(["-conf", "linux-kernel.cfg"]);
        }
        let log = cmd::output(herd.arg(test))?;
        let is_allowed = match log.split_once("\nObservation ").and_then(|(_, rest)| rest.split(' ').nth(1)) {
            Some("Never") => false,
            Some("Sometimes" | "Always") => true,
            _ => bail!("herd7 does not judge {}:\n{log}", test.display()),
        };
        // Of a place; not in a condition in C.
        let brackets = ['[', ']'];
        let text = fs::read_to_string(test)?;
        let asked = text.rsplit_once("exists").map_or("", |(_, condition)| condition);
        let asked = asked.split(['(', ')', ' ', '~']).filter_map(|word| Some(word.split_once('=')?.0));
        let states = log.lines().skip_while(|line| !line.starts_with("States ")).skip(1);
        let states = states.take_while(|line| line.ends_with(';')).map(|line| {
            let values = line.trim_end_matches(';').split("; ").filter_map(|item| item.split_once('='));
            let values: HashMap<_, _> =
                values.map(|(name, value)| (name.trim_matches(brackets), value)).collect();
            asked.clone().map(|name| Some((*values.get(name.trim_matches(brackets))?).to_owned())).collect()
        });
        let states: Option<_> = states.collect();
        let states = states.with_context(|| format!("{}: not all values in:\n{log}", test.display()))?;
        Ok(Seen { is_allowed, states })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowering_makes_a_difference_of_each_mutant_that_a_dialect_can_show() {
        let shapes: Vec<_> = files(&cmd::root().join("proofs/litmus/lkmm")).unwrap();
        let shapes: Vec<_> =
            shapes.iter().map(|file| Shape::parse(&fs::read_to_string(file).unwrap()).unwrap()).collect();
        let mutants = Dialect::ALL.map(|dialect| {
            let cases = shapes.iter().flat_map(|shape| shape.cases(dialect).unwrap());
            cases.filter(|case| case.is_mutant).count()
        });
        assert_eq!(mutants, [125, 52, 42, 108, 108, 44, 43]);
    }
}
