//! Results of earlier runs, kept in one file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::sets::{TESTS, Tests};
use crate::cmd;

const KILLED: &str = "killed";
const UNVIABLE: &str = "unviable";
/// The names of cargo-mutants' lists.
const OUTCOMES: [&str; 4] = ["caught", "timeout", "unviable", "missed"];

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

/// The known results, and what they depend on.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(skip)]
    folder: PathBuf,
    /// Mutants by list: `killed`, `unviable`, and for each set of tests those that it missed.
    lists: BTreeMap<String, BTreeSet<String>>,
    /// The text of each file with mutants.
    texts: BTreeMap<String, String>,
    /// The sources of each set of tests, as hashes.
    sources: BTreeMap<String, String>,
}

impl Known {
    /// Loads the results in `folder` that are still valid: the source file is the same in `tree`, and for missed
    /// mutants the tests are the same.
    pub(super) fn load(folder: &Path, tree: &Path, mutants: &[String]) -> Result<Self> {
        let kept = fs::read(folder.join("known.json")).unwrap_or_default();
        let mut known: Self = serde_json::from_slice(&kept).unwrap_or_default();
        folder.clone_into(&mut known.folder);
        // Results of a run that was killed.
        for tests in &TESTS {
            known.collect(tests)?;
        }
        for file in mutants.iter().map(|mutant| file_of(mutant)).collect::<BTreeSet<_>>() {
            let text = fs::read_to_string(tree.join(file))?;
            let text = without_tests(&text);
            if known.texts.get(file).is_none_or(|was| was != text) {
                known.texts.insert(file.to_owned(), text.to_owned());
                known.forget(|mutant| file_of(mutant) == file);
            }
        }
        for tests in &TESTS {
            let sources = cmd::output(cmd::line("git rev-parse").args(tests.sources).current_dir(tree))?;
            if known.sources.insert(tests.name.to_owned(), sources.clone()) != Some(sources) {
                known.lists.remove(tests.name);
            }
        }
        known.save()?;
        Ok(known)
    }

    fn has(&self, list: &str, mutant: &str) -> bool {
        self.lists.get(list).is_some_and(|list| list.contains(mutant))
    }

    fn forget(&mut self, which: impl Fn(&str) -> bool) {
        self.lists.values_mut().for_each(|list| list.retain(|mutant| !which(mutant)));
    }

    fn save(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("known.json"), serde_json::to_string_pretty(self)?)?)
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
        let lists = [KILLED, UNVIABLE, tests.name].into_iter().filter_map(|list| self.lists.get(list));
        let done: String = lists.flatten().map(|mutant| format!("{mutant}\n")).collect();
        Ok(fs::write(folder.join("previously_caught.txt"), done)?)
    }

    /// The number of mutants that cargo-mutants has finished in this run of the tests.
    pub(super) fn done(&self, tests: &Tests) -> usize {
        let folder = self.out(tests).join("mutants.out");
        OUTCOMES.into_iter().map(|outcome| lines(&folder, outcome).len()).sum()
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
            let new = lines(&out.join("mutants.out"), outcome);
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

/// One of cargo-mutants' lists; empty if there is none.
fn lines(folder: &Path, outcome: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(format!("{outcome}.txt"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_left_until_all_tests_that_see_it_missed_it() {
        let mut known = Known::default();
        let [plain, model] = ["ring/src/cpus.rs:1:1: a", "ring/core/src/text.rs:1:1: b"];
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
