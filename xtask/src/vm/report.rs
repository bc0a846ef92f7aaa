//! The result of a boot: every test's end, a verdict, the table of all kernels, and the same as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::boot::BootLog;
use super::features;
use super::protocol::{Answer, End, Machine, Message, Probed, Test};

/// One kernel.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) kernel: String,
    pub(super) arch: String,
    pub(super) package: String,
    #[serde(flatten)]
    pub(super) machine: Machine,
    pub(super) tests: Vec<Test>,
    pub(super) features: Vec<Probed>,
    /// The kernel's warnings about itself.
    pub(super) warnings: Vec<String>,
    /// Why the kernel died in a first boot, if it did; all else is from the second boot.
    pub(super) died: Option<String>,
    /// Why the run as a whole is unreliable.
    pub(super) trouble: Option<String>,
    pub(super) seconds: f32,
    /// How many tests the guest says that it ran.
    #[serde(skip)]
    pub(super) ran: Option<usize>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) lacking: usize,
    pub(super) skipped: usize,
}

impl Row {
    /// Adds what the guest says, and returns it for the user if it is progress.
    pub(super) fn hear(&mut self, message: Message) -> Option<String> {
        let kernel = &self.kernel;
        match message {
            Message::Booted(machine) => {
                let Machine { release, version, cpus, nodes, preempt } = &machine;
                let preempt = preempt.as_ref().map(|mode| format!(", preempt={mode}")).unwrap_or_default();
                let output =
                    format!("{kernel:12} {release} {version}, {cpus} CPUs, by NUMA node: {nodes:?}{preempt}");
                self.machine = machine;
                return Some(output);
            }
            Message::Probed(features) => self.features = features,
            Message::Started(name) => {
                self.tests.push(Test { name, end: End::Unfinished, milliseconds: 0 });
            }
            Message::Ended(mut test) => {
                if let End::Failed(output) = &test.end
                    && let Some(feature) = features::lacking(&self.features, output)
                {
                    test.end = End::Lacking(feature.name.to_owned());
                }
                let end = match test.end {
                    End::Passed => "ok",
                    End::Skipped(_) => "skipped",
                    End::Lacking(_) => "lacking",
                    End::Failed(_) | End::Unfinished => "failed",
                };
                let seconds = test.milliseconds as f32 / 1000.0;
                let output = format!("{kernel:12} {end:7} {} ({seconds:.1} s)", test.name);
                self.tests.pop_if(|last| last.end == End::Unfinished && last.name == test.name);
                self.tests.push(test);
                return Some(output);
            }
            Message::Finished { tests, warnings } => (self.ran, self.warnings) = (Some(tests), warnings),
        }
        None
    }

    /// Judges the run, from what is on the console beside the messages.
    pub(super) fn end(&mut self, log: &BootLog) {
        let ended = self.tests.iter().filter(|test| test.end != End::Unfinished).count();
        let trouble = match (log.death(), self.ran) {
            (Some(why), _) => format!("{}{why}\n", if self.died.is_some() { "again: " } else { "" }),
            (None, _) if log.late => "time was up".to_owned(),
            (None, None) if self.machine.release.is_empty() => "it did not boot:\n".to_owned(),
            (None, None) => "it ended before its tests:\n".to_owned(),
            (None, Some(0)) => "no test was run".to_owned(),
            (None, Some(ran)) if ran != ended => format!("{} of {ran} results are lost:\n", ran - ended),
            (None, Some(_)) => return,
        };
        let words = if trouble.ends_with('\n') { log.last_words() } else { String::new() };
        self.trouble = Some(trouble + &words);
    }

    pub(super) fn counts(&self) -> Counts {
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
    pub(super) fn is_good(&self) -> bool {
        self.trouble.is_none() && self.counts().failed == 0
    }

    /// The features that tests found missing, and how many did.
    pub(super) fn lacking(&self) -> Vec<(&str, usize)> {
        let names = self.tests.iter().filter_map(|test| match &test.end {
            End::Lacking(name) => Some(name.as_str()),
            End::Passed | End::Skipped(_) | End::Failed(_) | End::Unfinished => None,
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
    }

    /// The kernel's answer about a feature.
    pub(super) fn answer(&self, feature: &str) -> Option<&Answer> {
        self.features.iter().find(|probed| probed.feature == feature).map(|probed| &probed.answer)
    }
}

/// Prints the failures, with the messages of the kernel or the test.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = &self.kernel;
        for Test { name, end, .. } in &self.tests {
            match end {
                End::Passed | End::Lacking(_) => {}
                End::Failed(output) => writeln!(f, "--- {kernel}: FAILED {name}\n{output}")?,
                End::Unfinished => writeln!(f, "--- {kernel}: UNFINISHED {name}")?,
                End::Skipped(why) => writeln!(f, "--- {kernel}: SKIPPED {name}: {why}")?,
            }
        }
        for (feature, tests) in self.lacking() {
            writeln!(f, "--- {kernel}: no {feature}: {tests} tests cannot run")?;
        }
        for warning in &self.warnings {
            writeln!(f, "--- {kernel}: the kernel says: {warning}")?;
        }
        for feature in features::surprises(&self.machine.release, &self.features) {
            writeln!(f, "--- {kernel}: its release lets one expect another answer about {feature}")?;
        }
        if let Some(why) = &self.died {
            writeln!(f, "--- {kernel}: DIED, and was booted once more: {why}")?;
        }
        self.trouble.as_ref().map_or(Ok(()), |trouble| writeln!(f, "--- {kernel}: FAILED: {trouble}"))
    }
}

/// The table at the end.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.machine.release.len()).max().unwrap_or(0).max("release".len());
    let mut table = format!(
        "{:12} {:width$}  {:>6} {:>6} {:>7} {:>7} {:>7}\n",
        "kernel", "release", "passed", "failed", "lacking", "skipped", "seconds"
    );
    for row in rows {
        let Counts { passed, failed, lacking, skipped } = row.counts();
        let (kernel, release, seconds) = (&row.kernel, &row.machine.release, row.seconds);
        table += &format!(
            "{kernel:12} {release:width$}  {passed:6} {failed:6} {lacking:7} {skipped:7} {seconds:7.0}"
        );
        if let Some(why) = &row.died {
            table += &format!("  DIED, booted once more: {why}");
        }
        match &row.trouble {
            Some(trouble) => table += &format!("  FAILED: {}", trouble.lines().next().unwrap_or_default()),
            None => row.lacking().iter().for_each(|(name, _)| table += &format!("  no {name}")),
        }
        table.push('\n');
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

    fn ended(name: &str, end: End) -> Message {
        Message::Ended(Test { name: name.into(), end, milliseconds: 5 })
    }

    fn finished(tests: usize) -> Message {
        Message::Finished { tests, warnings: vec![] }
    }

    fn row(messages: impl IntoIterator<Item = Message>) -> Row {
        row_of(messages, "last words", false, None)
    }

    fn row_of(
        messages: impl IntoIterator<Item = Message>,
        console: &str,
        late: bool,
        died: Option<&str>,
    ) -> Row {
        let died = died.map(str::to_owned);
        let mut row = Row { kernel: "x".into(), died, seconds: 9.0, ..Row::default() };
        messages.into_iter().for_each(|message| _ = row.hear(message));
        row.end(&BootLog { console: vec![console.into()], late, silent: false });
        row
    }

    #[test]
    fn ends_are_counted() {
        let messages = |release, answer| {
            [
                booted(release),
                Message::Probed(vec![Probed { feature: "fetching atomics".into(), answer }]),
                ended("a", End::Passed),
                Message::Started("b".into()),
                ended("b", End::Failed("BPF_STX uses reserved fields\n".into())),
                ended("c", End::Skipped("why".into())),
                finished(3),
            ]
        };
        let old = row(messages("5.10.0-32", Answer::Unsupported("no".into())));
        assert_eq!(old.counts(), Counts { passed: 1, failed: 0, lacking: 1, skipped: 1 });
        assert!(old.is_good());
        assert!(old.to_string().contains("no fetching atomics: 1 tests cannot run"));
        let new = row(messages("6.1.0-50", Answer::Supported));
        assert_eq!(new.counts(), Counts { passed: 1, failed: 1, lacking: 0, skipped: 1 });
        assert!(!new.is_good());
        assert!(new.to_string().contains("FAILED b\nBPF_STX"));
    }

    #[test]
    fn a_run_that_is_not_whole_is_no_success() {
        let trouble = |row: Row| row.trouble.unwrap_or_default();
        assert!(trouble(row([])).starts_with("it did not boot:\nlast words"));
        assert!(trouble(row([booted("6.1")])).starts_with("it ended before its tests"));
        assert!(trouble(row([booted("6.1"), finished(0)])).starts_with("no test"));
        assert!(trouble(row([booted("6.1"), finished(2)])).starts_with("2 of 2 results are lost"));
        let garbled = row([booted("6.1"), Message::Started("a".into()), finished(1)]);
        assert!(trouble(garbled).starts_with("1 of 1 results are lost"));
        let hung = row_of([booted("6.1"), Message::Started("slow".into())], "", true, None);
        assert!(!hung.is_good());
        assert_eq!((hung.counts().failed, hung.trouble.as_deref()), (1, Some("time was up")));
    }

    #[test]
    fn a_panic_is_never_silent() {
        let panic = "Kernel panic - not syncing: Fatal exception";
        let whole = [booted("6.1"), ended("a", End::Passed), finished(1)];
        let second = row_of(whole, "", false, Some(panic));
        assert!(second.is_good());
        assert!(second.to_string().contains(&format!("x: DIED, and was booted once more: {panic}")));
        assert!(table(&[second]).contains(&format!("  DIED, booted once more: {panic}\n")));
        let died = row_of([booted("6.1"), Message::Started("a".into())], panic, false, Some(panic));
        assert!(!died.is_good());
        assert!(died.trouble.unwrap().starts_with(&format!("again: {panic}")));
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let good = row([booted("6.1.0"), ended("a", End::Passed), finished(1)]);
        assert_eq!(
            table(&[good, row([])]),
            "kernel       release  passed failed lacking skipped seconds\n\
             x            6.1.0         1      0       0       0       9\n\
             x                          0      0       0       0       9  FAILED: it did not boot:\n"
        );
    }

    #[test]
    fn a_row_is_kept_as_json() {
        let row = row([booted("6.1"), ended("a", End::Skipped("why".into())), finished(1)]);
        let json = serde_json::to_string(&row).unwrap();
        assert!(json.contains(r#""release":"6.1""#) && json.contains(r#""end":{"skipped":"why"}"#), "{json}");
        assert_eq!(table(&[serde_json::from_str(&json).unwrap()]), table(&[row]));
    }
}
