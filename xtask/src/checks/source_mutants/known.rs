//! Results of earlier runs, kept as lists of mutants' names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sets::{TESTS, Tests};
use crate::cmd;

const KILLED: &str = "killed";
const UNVIABLE: &str = "unviable";
/// The names of cargo-mutants' lists.
const OUTCOMES: [&str; 4] = ["caught", "timeout", "unviable", "missed"];

/// The result for a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A test failed, or did not end.
    Killed,
    /// All tests that cover it passed.
    Survived,
    /// It does not compile.
    Unviable,
    /// Not all tests that cover it have run.
    Left,
}

/// The known results, by list: `killed`, `unviable`, and for each set of tests the mutants that it missed.
pub(super) struct Known {
    folder: PathBuf,
    lists: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// Loads the results in `folder` that are still valid: the source file is the same in `tree`, and for missed
    /// mutants the tests are the same.
    pub(super) fn load(folder: &Path, tree: &Path, mutants: &[String]) -> Result<Self> {
        let mut known = Self { folder: folder.to_owned(), lists: BTreeMap::new() };
        for list in TESTS.iter().map(|tests| tests.name).chain([KILLED, UNVIABLE]) {
            known.lists.insert(list.to_owned(), lines(&known.list(list))?.collect());
        }
        // Results of a run that was killed.
        for tests in &TESTS {
            known.collect(tests)?;
        }
        for file in mutants.iter().map(|mutant| file_of(mutant)).collect::<BTreeSet<_>>() {
            let text = fs::read_to_string(tree.join(file))?;
            let text = without_tests(&text);
            let copy = folder.join("texts").join(file);
            if !fs::read_to_string(&copy).is_ok_and(|was| was == text) {
                known.forget(|mutant| file_of(mutant) == file);
                fs::create_dir_all(copy.parent().context("it is in a folder")?)?;
                known.save()?;
                fs::write(copy, text)?;
            }
        }
        for tests in &TESTS {
            let sources = cmd::output(cmd::line("git rev-parse").args(tests.sources).current_dir(tree))?;
            let last = folder.join(format!("{}.sources", tests.name));
            if !fs::read_to_string(&last).is_ok_and(|was| was == sources) {
                known.lists.insert(tests.name.to_owned(), BTreeSet::new());
                known.save()?;
                fs::write(last, sources)?;
            }
        }
        Ok(known)
    }

    fn list(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.txt"))
    }

    fn has(&self, list: &str, mutant: &str) -> bool {
        self.lists.get(list).is_some_and(|list| list.contains(mutant))
    }

    fn forget(&mut self, which: impl Fn(&str) -> bool) {
        self.lists.values_mut().for_each(|list| list.retain(|mutant| !which(mutant)));
    }

    fn save(&self) -> Result<()> {
        for (name, list) in &self.lists {
            fs::write(self.list(name), text(list))?;
        }
        Ok(())
    }

    pub(super) fn verdict(&self, mutant: &str) -> Verdict {
        if self.has(KILLED, mutant) {
            Verdict::Killed
        } else if self.has(UNVIABLE, mutant) {
            Verdict::Unviable
        } else if TESTS.iter().all(|tests| !tests.see(file_of(mutant)) || self.has(tests.name, mutant)) {
            Verdict::Survived
        } else {
            Verdict::Left
        }
    }

    /// Whether these tests must run on the mutant.
    pub(super) fn is_due(&self, mutant: &str, tests: &Tests) -> bool {
        let missed = self.has(tests.name, mutant) || !tests.see(file_of(mutant));
        self.verdict(mutant) == Verdict::Left && !missed
    }

    /// The output folder of cargo-mutants for these tests.
    pub(super) fn out(&self, tests: &Tests) -> PathBuf {
        self.folder.join(format!("out-{}", tests.name))
    }

    /// Writes for cargo-mutants which mutants it can skip for these tests.
    pub(super) fn hand_on(&self, tests: &Tests) -> Result<()> {
        let folder = self.out(tests).join("mutants.out");
        fs::create_dir_all(&folder)?;
        let done = [KILLED, UNVIABLE, tests.name].map(|list| &self.lists[list]);
        fs::write(folder.join("previously_caught.txt"), text(done.into_iter().flatten()))?;
        Ok(())
    }

    /// The number of mutants that cargo-mutants has finished in this run of the tests.
    pub(super) fn done(&self, tests: &Tests) -> usize {
        let folder = self.out(tests).join("mutants.out");
        let size = |outcome| lines(&folder.join(format!("{outcome}.txt"))).map_or(0, Iterator::count);
        OUTCOMES.into_iter().map(size).sum()
    }

    /// Collects cargo-mutants' results for these tests.
    pub(super) fn collect(&mut self, tests: &Tests) -> Result<()> {
        let out = self.out(tests);
        for outcome in OUTCOMES {
            let list = match outcome {
                "caught" | "timeout" => KILLED,
                // A mutant that does not compile in another set may compile in the first.
                "unviable" if tests.name == TESTS[0].name => UNVIABLE,
                _ => tests.name,
            };
            let new = lines(&out.join("mutants.out").join(format!("{outcome}.txt")))?;
            self.lists.entry(list.to_owned()).or_default().extend(new);
        }
        self.save()?;
        // Keep its logs for one run.
        if out.join("mutants.out").exists() {
            let _ = fs::remove_dir_all(out.join("last"));
            fs::rename(out.join("mutants.out"), out.join("last"))?;
        }
        Ok(())
    }
}

/// The file of a mutant: the first part of its name.
pub(super) fn file_of(mutant: &str) -> &str {
    mutant.split(':').next().unwrap_or_default()
}

/// A source without the tests at its end, which do not affect mutants.
fn without_tests(source: &str) -> &str {
    let ends = ["\n#[cfg(test)]\nmod ", "\n#[cfg(all(test"].iter().filter_map(|start| source.find(start));
    &source[..ends.min().unwrap_or(source.len())]
}

/// The lines of a file; none if the file does not exist.
fn lines(path: &Path) -> Result<std::vec::IntoIter<String>> {
    let text = if path.exists() { fs::read_to_string(path)? } else { String::new() };
    Ok(text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter())
}

fn text<'a>(list: impl IntoIterator<Item = &'a String>) -> String {
    list.into_iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_left_until_all_tests_that_see_it_missed_it() {
        let mut known = Known { folder: PathBuf::new(), lists: BTreeMap::new() };
        let [plain, model] = ["ring/src/cpus.rs:1:1: a", "ring/src/text.rs:1:1: b"];
        for tests in TESTS.iter().filter(|tests| tests.name != "loom") {
            assert!([plain, model].iter().all(|mutant| known.is_due(mutant, tests)));
            let list = known.lists.entry(tests.name.to_owned()).or_default();
            list.extend([plain, model].map(str::to_owned));
            assert!([plain, model].iter().all(|mutant| !known.is_due(mutant, tests)));
        }
        assert!(known.verdict(plain) == Verdict::Survived && known.verdict(model) == Verdict::Left);
        known.lists.entry(KILLED.to_owned()).or_default().insert(model.to_owned());
        assert!(known.verdict(model) == Verdict::Killed);
        known.forget(|mutant| file_of(mutant) == "ring/src/cpus.rs");
        assert!(known.verdict(plain) == Verdict::Left);
    }

    #[test]
    fn tests_are_no_part_of_the_text() {
        assert_eq!(without_tests("a\n\n#[cfg(test)]\nmod tests {}\n"), "a\n");
        assert_eq!(without_tests("#[cfg(test)]\nuse x;\n"), "#[cfg(test)]\nuse x;\n");
    }
}
