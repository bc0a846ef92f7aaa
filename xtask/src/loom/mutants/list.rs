//! The list of mutants.

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::HashSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::cmd;
use crate::loom::models::Model;
use crate::loom::orderings;

pub(super) const LIST: &str = "loom-tests/mutants.toml";

/// A `[mutant.NAME]` of the list, or a row of `[orderings]`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    #[serde(default)]
    pub(super) name: String,
    /// A site in `ring/core/src/sync/orderings.rs` whose ordering is weakened.
    pub(super) weaken: Option<String>,
    /// What is left of this ordering. If absent: it is relaxed, and there is no fence.
    to: Option<String>,
    /// Otherwise, a production source file.
    #[serde(default)]
    pub(super) file: String,
    /// Occurs exactly once in it.
    #[serde(default)]
    find: String,
    #[serde(default)]
    replace: String,
    /// The test target of `loom-tests` that must fail. In the list, it stands before the test.
    #[serde(default)]
    pub(super) model: String,
    /// Its one test to run; all tests if absent.
    pub(super) test: Option<String>,
    /// The effect of this change.
    pub(super) why: String,
    /// Why this change is harmless: the model must pass.
    pub(super) equivalent: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: BTreeMap<String, Mutant>,
    #[serde(default)]
    orderings: BTreeMap<String, Mutant>,
    /// The sites of orderings that no mutant weakens, with the reasons.
    #[serde(default)]
    #[cfg_attr(not(test), allow(dead_code, reason = "a test compares them with the table"))]
    without: BTreeMap<String, String>,
}

impl Mutant {
    /// The weakened ordering, as the models expect it in their environment.
    pub(super) fn weakened(&self) -> Option<String> {
        Some(format!("{}={}", self.weaken.as_ref()?, self.to.as_deref().unwrap_or("Relaxed")))
    }

    pub(super) fn apply(&self, source: &str) -> Result<String> {
        let found = source.matches(&self.find).count();
        ensure!(found == 1, "mutant {}: `find` occurs {found} times in {}, not once", self.name, self.file);
        ensure!(self.find != self.replace, "mutant {}: changes nothing", self.name);
        Ok(source.replacen(&self.find, &self.replace, 1))
    }

    fn check(&self) -> Result<()> {
        let name = &self.name;
        let Some(weakened) = self.weakened() else {
            ensure!(self.to.is_none(), "mutant {name}: `to` without `weaken`");
            ensure!(self.file.starts_with("ring/core/src/"), "mutant {name}: not a production source");
            return Ok(());
        };
        let is_one = [&self.file, &self.find, &self.replace].iter().all(|text| text.is_empty());
        ensure!(is_one, "mutant {name}: two changes");
        let table = "ring/core/src/sync/orderings.rs";
        let is_weaker = orderings::weakened(&weakened).is_some();
        ensure!(is_weaker, "mutant {name}: {weakened} is not weaker than an ordering of {table}");
        Ok(())
    }

    /// Whether this model must detect it.
    pub(crate) fn needs(&self, model: &Model) -> bool {
        self.model == model.program() && self.test.as_ref().is_none_or(|test| *test == model.test)
    }
}

/// The sites of orderings that a mutant weakens, and those that none does.
#[cfg(test)]
pub(in crate::loom) fn sites() -> Result<[HashSet<String>; 2]> {
    let text = fs::read_to_string(cmd::root().join(LIST))?;
    let weakened = parse(&text)?.into_iter().filter_map(|mutant| mutant.weaken);
    Ok([weakened.collect(), toml::from_str::<List>(&text)?.without.into_keys().collect()])
}

/// All mutants of the list.
pub(super) fn list() -> Result<Vec<Mutant>> {
    parse(&fs::read_to_string(cmd::root().join(LIST)).context(LIST)?).context(LIST)
}

/// The mutants of a list.
pub(super) fn parse(text: &str) -> Result<Vec<Mutant>> {
    let List { mutant, mut orderings, .. } = toml::from_str(text)?;
    for (name, mutant) in mutant {
        ensure!(orderings.insert(name.clone(), mutant).is_none(), "two mutants are named {name}");
    }
    let named = |(name, mut mutant): (String, Mutant)| {
        mutant.name = name;
        if let Some((model, test)) = mutant.test.as_deref().and_then(|test| test.split_once("::")) {
            (mutant.model, mutant.test) = (model.to_owned(), Some(test.to_owned()));
        }
        mutant.check()?;
        Ok(mutant)
    };
    orderings.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
        [mutant.no-fence]
        file = "ring/core/src/read.rs"
        find = "fence(Acquire);"
        test = "ring::rust::a_test"
        why = "words may be read before seq"
    "#;

    #[test]
    fn a_list_is_read_and_applied() {
        let mutants = parse(ONE).unwrap();
        assert_eq!((&*mutants[0].model, mutants[0].test.as_deref()), ("ring", Some("rust::a_test")));
        assert_eq!(mutants[0].apply("a; fence(Acquire); b;").unwrap(), "a;  b;");
    }

    #[test]
    fn a_change_must_have_exactly_one_place() {
        let mutant = &parse(ONE).unwrap()[0];
        assert!(mutant.apply("fence(Acquire); fence(Acquire);").unwrap_err().to_string().contains("2 times"));
        assert!(mutant.apply("fence(Release);").unwrap_err().to_string().contains("0 times"));
    }

    #[test]
    fn mistakes_in_the_list_are_errors() {
        let twice = format!("{ONE}[orderings.no-fence]\nweaken = 'RingCommit'\ntest = 'ring::a'\nwhy = 'a'");
        assert!(parse(&twice).unwrap_err().to_string().contains("two mutants"));
        assert!(parse(&ONE.replace("why", "wyh")).is_err());
        assert!(parse(&ONE.replace("ring/core/src", "loom-tests/src")).is_err());
        assert!(parse(&ONE.replace("why", "to = 'Acquire'\nwhy")).is_err());
    }

    #[test]
    fn a_weakened_ordering_is_one_of_the_table() {
        let of = |change: &str| {
            parse(&format!("[mutant]\n[orderings.a]\ntest = 'ring::a'\nwhy = 'b'\n{change}"))
                .map(|list| list[0].weakened())
        };
        assert_eq!(of("weaken = 'RingCommit'").unwrap().unwrap(), "RingCommit=Relaxed");
        assert_eq!(of("weaken = 'RingClaim'\nto = 'Release'").unwrap().unwrap(), "RingClaim=Release");
        for mistake in [
            "weaken = 'RingComit'",
            "weaken = 'RingCommit'\nto = 'Release'",
            "weaken = 'RingCommit'\nto = 'SeqCst'",
            "weaken = 'RingClaim'\nto = 'AcqRel'",
            "weaken = 'RingCommit'\nfile = 'ring/core/src/sync.rs'",
        ] {
            assert!(of(mistake).is_err(), "{mistake}");
        }
    }
}
