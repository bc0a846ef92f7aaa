//! The result of a boot: every test's end, a verdict, the table of all kernels, and the same as JSON.

use std::fmt;

use serde::Serialize;

use super::boot::{LAST_WORDS, Said};
use super::features;
use super::protocol::{Answer, Ended, Machine, Message, Outcome, Probed};

/// How a test ended, for the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Passed,
    Failed(String),
    /// The kernel lacks this feature, according to its refusal and a probe.
    Lacking(&'static str),
    Skipped(String),
    /// It was running when the time was over or the machine died.
    Unfinished,
}

/// One test on one kernel.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) end: End,
    pub(crate) milliseconds: u64,
}

/// One kernel.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) kernel: String,
    pub(crate) arch: &'static str,
    pub(crate) package: String,
    pub(crate) release: String,
    pub(crate) version: String,
    pub(crate) cpus: usize,
    /// The CPUs of each NUMA node.
    pub(crate) nodes: Vec<String>,
    /// Where programs are preempted, if that can be chosen.
    pub(crate) preempt: Option<String>,
    pub(crate) tests: Vec<Test>,
    pub(crate) features: Vec<Probed>,
    /// The kernel's warnings about itself.
    pub(crate) warnings: Vec<String>,
    /// Why the kernel panicked in a first boot, if it did; all else is from the second boot.
    pub(crate) panicked: Option<String>,
    /// Why the run as a whole is unreliable.
    pub(crate) trouble: Option<String>,
    pub(crate) seconds: f32,
}

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) lacking: usize,
    pub(crate) skipped: usize,
}

impl Row {
    /// Builds the row from the output of a boot.
    pub(crate) fn new(kernel: &str, arch: &'static str, package: &str, said: Said, seconds: f32) -> Self {
        let mut row =
            Self { kernel: kernel.into(), arch, package: package.into(), seconds, ..Self::default() };
        let mut running = None;
        let mut promised = None;
        let panic = said.panic().map(str::to_owned);
        row.panicked = said.panicked_before;
        for message in said.messages {
            match message {
                Message::Booted(Machine { release, version, cpus, nodes, preempt }) => {
                    (row.release, row.version, row.cpus, row.nodes) = (release, version, cpus, nodes);
                    row.preempt = preempt;
                }
                Message::Probed(features) => row.features = features,
                Message::Started { test } => running = Some(test),
                Message::Ended(ended) => {
                    running = None;
                    row.end(ended);
                }
                Message::Finished { tests, warnings } => {
                    promised = Some(tests);
                    row.warnings = warnings;
                }
            }
        }
        let last_words = || said.console[said.console.len().saturating_sub(LAST_WORDS)..].join("\n");
        row.trouble = match (panic, promised) {
            (Some(panic), _) => {
                let again = if row.panicked.is_some() { "again: " } else { "" };
                Some(format!("{again}{panic}\n{}", last_words()))
            }
            (None, _) if said.late => Some("time was up".to_owned()),
            (None, None) if row.release.is_empty() => Some(format!("it did not boot:\n{}", last_words())),
            (None, None) => Some(format!("it ended before its tests:\n{}", last_words())),
            (None, Some(0)) => Some("no test was run".to_owned()),
            (None, Some(tests)) if tests != row.tests.len() => {
                Some(format!("{} of {tests} results are lost:\n{}", tests - row.tests.len(), last_words()))
            }
            (None, Some(_)) => None,
        };
        if let Some(name) = running {
            row.tests.push(Test { name, end: End::Unfinished, milliseconds: 0 });
        }
        row
    }

    fn end(&mut self, ended: Ended) {
        let end = match ended.outcome {
            Outcome::Passed => End::Passed,
            Outcome::Skipped(why) => End::Skipped(why),
            Outcome::Failed(said) => match features::lacking(&self.features, &said) {
                Some(feature) => End::Lacking(feature.name),
                None => End::Failed(said),
            },
        };
        self.tests.push(Test { name: ended.test, end, milliseconds: ended.milliseconds });
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for test in &self.tests {
            *match test.end {
                End::Passed => &mut counts.passed,
                End::Failed(_) | End::Unfinished => &mut counts.failed,
                End::Lacking(_) => &mut counts.lacking,
                End::Skipped(_) => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Whether every test passed that this kernel supports.
    pub(crate) fn is_good(&self) -> bool {
        self.trouble.is_none() && self.counts().failed == 0
    }

    /// The features that tests found missing, without repeats.
    pub(crate) fn lacking(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .tests
            .iter()
            .filter_map(|test| if let End::Lacking(name) = test.end { Some(name) } else { None })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// How many tests found this feature missing.
    pub(crate) fn lack(&self, feature: &'static str) -> usize {
        self.tests.iter().filter(|test| test.end == End::Lacking(feature)).count()
    }

    /// The kernel's answer about a feature.
    pub(crate) fn answer(&self, feature: &str) -> Option<&Answer> {
        self.features.iter().find(|probed| probed.feature == feature).map(|probed| &probed.answer)
    }
}

/// Prints the failures, with the messages of the kernel or the test.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.tests {
            match &test.end {
                End::Passed | End::Lacking(_) => {}
                End::Failed(said) => writeln!(f, "--- {}: FAILED {}\n{said}", self.kernel, test.name)?,
                End::Unfinished => writeln!(f, "--- {}: UNFINISHED {}", self.kernel, test.name)?,
                End::Skipped(why) => writeln!(f, "--- {}: SKIPPED {}: {why}", self.kernel, test.name)?,
            }
        }
        for feature in self.lacking() {
            writeln!(f, "--- {}: no {feature}: {} tests cannot run", self.kernel, self.lack(feature))?;
        }
        for warning in &self.warnings {
            writeln!(f, "--- {}: the kernel says: {warning}", self.kernel)?;
        }
        for feature in features::surprises(&self.release, &self.features) {
            writeln!(f, "--- {}: its release lets one expect another answer about {feature}", self.kernel)?;
        }
        if let Some(panic) = &self.panicked {
            writeln!(f, "--- {}: PANICKED, and was booted once more: {panic}", self.kernel)?;
        }
        match &self.trouble {
            Some(trouble) => writeln!(f, "--- {}: FAILED: {trouble}", self.kernel),
            None => Ok(()),
        }
    }
}

/// The table at the end.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.release.len()).max().unwrap_or(0).max("release".len());
    let mut table = format!(
        "{:12} {:width$}  {:>6} {:>6} {:>7} {:>7} {:>7}\n",
        "kernel", "release", "passed", "failed", "lacking", "skipped", "seconds"
    );
    for row in rows {
        let Counts { passed, failed, lacking, skipped } = row.counts();
        let note = match &row.trouble {
            Some(trouble) => format!("  FAILED: {}", trouble.lines().next().unwrap_or_default()),
            None => row.lacking().iter().map(|name| format!("  no {name}")).collect(),
        };
        let panicked = row.panicked.as_ref();
        let panicked =
            panicked.map(|panic| format!("  PANICKED, booted once more: {panic}")).unwrap_or_default();
        table += &format!(
            "{:12} {:width$}  {passed:6} {failed:6} {lacking:7} {skipped:7} {:7.0}{panicked}{note}\n",
            row.kernel, row.release, row.seconds
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::boot::NODES;
    use super::*;

    fn booted(release: &str) -> Message {
        let nodes = NODES.map(str::to_owned).to_vec();
        let (release, version) = (release.into(), "#1 SMP".into());
        Message::Booted(Machine { release, version, cpus: 2, nodes, preempt: Some("full".into()) })
    }

    fn ended(test: &str, outcome: Outcome) -> Message {
        Message::Ended(Ended { test: test.into(), outcome, milliseconds: 5 })
    }

    fn row(messages: Vec<Message>, late: bool) -> Row {
        let said = Said { messages, console: vec!["last words".into()], late, panicked_before: None };
        Row::new("x", "x86_64", "p", said, 9.0)
    }

    fn finished(tests: usize) -> Message {
        Message::Finished { tests, warnings: vec![] }
    }

    #[test]
    fn ends_are_counted() {
        let refused = || Outcome::Failed("BPF_STX uses reserved fields\n".into());
        let messages = |release, answer| {
            let feature = "fetching atomics".to_owned();
            vec![
                booted(release),
                Message::Probed(vec![Probed { feature, answer }]),
                ended("a", Outcome::Passed),
                ended("b", refused()),
                ended("c", Outcome::Skipped("why".into())),
                finished(3),
            ]
        };
        let old = row(messages("5.10.0-32", Answer::Unsupported("no".into())), false);
        assert_eq!(old.counts(), Counts { passed: 1, failed: 0, lacking: 1, skipped: 1 });
        assert!(old.is_good());
        assert!(old.to_string().contains("no fetching atomics: 1 tests cannot run"));
        let new = row(messages("6.1.0-50", Answer::Supported), false);
        assert_eq!(new.counts(), Counts { passed: 1, failed: 1, lacking: 0, skipped: 1 });
        assert!(!new.is_good());
        assert!(new.to_string().contains("FAILED b\nBPF_STX"));
    }

    #[test]
    fn a_run_that_is_not_whole_is_no_success() {
        let trouble = |row: Row| row.trouble.unwrap_or_default();
        assert!(trouble(row(vec![], false)).starts_with("it did not boot:\nlast words"));
        assert!(trouble(row(vec![booted("6.1")], false)).starts_with("it ended before its tests"));
        assert!(trouble(row(vec![booted("6.1"), finished(0)], false)).starts_with("no test"));
        assert!(trouble(row(vec![booted("6.1"), finished(2)], false)).starts_with("2 of 2 results are lost"));
        let hung = row(vec![booted("6.1"), Message::Started { test: "slow".into() }], true);
        assert!(!hung.is_good());
        assert_eq!((hung.counts().failed, hung.trouble.as_deref()), (1, Some("time was up")));
    }

    #[test]
    fn a_panic_is_never_silent() {
        let panic = "Kernel panic - not syncing: Fatal exception".to_owned();
        let of = |console: &str, panicked_before: Option<&String>, messages| {
            let said = Said {
                messages,
                console: vec![console.into()],
                late: false,
                panicked_before: panicked_before.cloned(),
            };
            Row::new("x", "x86_64", "p", said, 9.0)
        };
        let whole = vec![booted("6.1"), ended("a", Outcome::Passed), finished(1)];
        let second = of("", Some(&panic), whole);
        assert!(second.is_good());
        assert!(
            second.to_string().contains(&format!("x: PANICKED, and was booted once more: {panic}")),
            "{second}"
        );
        assert!(table(&[second]).contains(&format!("  PANICKED, booted once more: {panic}\n")));
        let died = of(&panic, Some(&panic), vec![booted("6.1"), Message::Started { test: "a".into() }]);
        assert!(!died.is_good());
        assert!(died.trouble.unwrap().starts_with(&format!("again: {panic}")));
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let good = row(vec![booted("6.1.0"), ended("a", Outcome::Passed), finished(1)], false);
        let bad = row(vec![], false);
        assert_eq!(
            table(&[good, bad]),
            "kernel       release  passed failed lacking skipped seconds\n\
             x            6.1.0         1      0       0       0       9\n\
             x                          0      0       0       0       9  FAILED: it did not boot:\n"
        );
    }
}
