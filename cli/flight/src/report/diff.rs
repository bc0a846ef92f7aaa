//! Compares two reports: of each kind the largest changes first. Amounts are those of a second, as the reports have different lengths.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use mapring_kit::output;
use serde::Serialize;

use super::figures::{Distribution, Figures};
use super::largest::SHOWN;
use super::sections::time;

/// Changes of a kind that are listed.
const LISTED: usize = 8;
/// A value that grows or shrinks by a smaller factor counts as unchanged.
const LEAST: f64 = 1.25;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum What {
    CpuTime,
    RunqueueP50,
    RunqueueP99,
    RunqueueMax,
    LongestWait,
    CallTime,
    CallP99,
    CallErrors,
    DiskP99,
    DiskBytes,
    DiskErrors,
    InterruptTime,
    Faults,
    Packets,
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Unit {
    /// CPU time, or time in calls, per second.
    Seconds,
    Nanoseconds,
    /// Per second.
    Count,
    /// Per second.
    Bytes,
}

impl What {
    /// The group that it comes from, its unit, and a sentence.
    fn about(self) -> (&'static str, Unit, &'static str) {
        use Unit::{Bytes, Count, Nanoseconds, Seconds};
        match self {
            Self::CpuTime => ("sched", Seconds, "NAME used NOW CPUs, BEFORE before"),
            Self::RunqueueP50 => {
                ("sched", Nanoseconds, "half of the tasks waited NOW or less for a CPU, BEFORE before")
            }
            Self::RunqueueP99 => {
                ("sched", Nanoseconds, "99 % of the tasks waited NOW or less for a CPU, BEFORE before")
            }
            Self::RunqueueMax => ("sched", Nanoseconds, "the longest wait for a CPU took NOW, BEFORE before"),
            Self::LongestWait => ("sched", Nanoseconds, "NAME was blocked for NOW at most, BEFORE before"),
            Self::CallTime => {
                ("syscalls", Seconds, "threads spent NOW s of each second in NAME, BEFORE s before")
            }
            Self::CallP99 => {
                ("syscalls", Nanoseconds, "99 % of the calls of NAME took NOW or less, BEFORE before")
            }
            Self::CallErrors => ("syscalls", Count, "NAME failed NOW times per second, BEFORE before"),
            Self::DiskP99 => ("block", Nanoseconds, "99 % of the NAME took NOW or less, BEFORE before"),
            Self::DiskBytes => ("block", Bytes, "NAME moved NOW per second, BEFORE before"),
            Self::DiskErrors => ("block", Count, "NAME failed NOW times per second, BEFORE before"),
            Self::InterruptTime => ("irq", Seconds, "NAME used NOW CPUs, BEFORE before"),
            Self::Faults => ("faults", Count, "NAME had NOW page faults per second, BEFORE before"),
            Self::Packets => ("net", Count, "NAME sent and received NOW packets per second, BEFORE before"),
            Self::Bytes => ("net", Bytes, "NAME sent and received NOW per second, BEFORE before"),
        }
    }
}

impl Unit {
    /// What counts as nothing beside a value: it keeps changes of next to nothing from being the largest.
    fn noise(self) -> f64 {
        match self {
            Self::Seconds => 0.02,
            Self::Nanoseconds => 100_000.0,
            Self::Count => 10.0,
            Self::Bytes => 65536.0,
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // for people
    fn text(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2}"),
            Self::Nanoseconds => time(value as u64),
            Self::Count => format!("{value:.1}"),
            Self::Bytes => output::bytes(value as u64),
        }
    }
}

/// The report.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Diff {
    seconds: f64,
    seconds_before: f64,
    changes: Vec<Change>,
    /// Groups that one of the two did not record.
    not_compared: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Change {
    what: What,
    /// A process, a call, a disk, an interface; empty for all tasks.
    name: String,
    unit: Unit,
    /// `None` if there was none, or it was not among the largest of its list.
    now: Option<f64>,
    before: Option<f64>,
}

impl Change {
    fn difference(&self) -> f64 {
        (self.now.unwrap_or(0.0) - self.before.unwrap_or(0.0)).abs()
    }

    /// How many times as large, or as small.
    fn factor(&self) -> f64 {
        let [now, before] = [self.now, self.before].map(|it| it.unwrap_or(0.0) + self.unit.noise());
        (now / before).max(before / now)
    }
}

/// What one report says, with lists that were too long for it.
#[derive(Default)]
struct Measures {
    seconds: f64,
    values: BTreeMap<(What, String), f64>,
}

impl Measures {
    /// Processes of one name are one.
    #[allow(clippy::cast_precision_loss)] // for people
    fn of(figures: &Figures) -> Self {
        let period = &figures.completeness;
        let seconds = (period.until_ns.saturating_sub(period.from_ns).max(1)) as f64 / 1e9;
        let mut all = Self { seconds, values: BTreeMap::new() };
        for it in &figures.cpu_time {
            all.add(What::CpuTime, &it.process.name, it.busy_ns as f64 / 1e9);
        }
        let Distribution { p50_ns, p99_ns, max_ns, .. } = figures.runqueue;
        for (what, ns) in
            [(What::RunqueueP50, p50_ns), (What::RunqueueP99, p99_ns), (What::RunqueueMax, max_ns)]
        {
            all.most(what, "", ns);
        }
        for it in &figures.waits_uninterruptible {
            all.most(What::LongestWait, &it.task.name, it.ns);
        }
        for it in &figures.calls {
            all.add(What::CallTime, &it.call, it.total_ns as f64 / 1e9);
            all.most(What::CallP99, &it.call, it.took.p99_ns);
            all.add(What::CallErrors, &it.call, it.errors as f64);
        }
        for it in &figures.disks {
            let name = format!("{} of disk {}", it.requests, it.device);
            all.most(What::DiskP99, &name, it.took.p99_ns);
            all.add(What::DiskBytes, &name, it.bytes as f64);
            all.add(What::DiskErrors, &name, it.errors as f64);
        }
        for it in &figures.interrupts {
            all.add(What::InterruptTime, &it.interrupt, it.total_ns as f64 / 1e9);
        }
        for it in &figures.faults {
            all.add(What::Faults, &it.process.name, it.count as f64);
        }
        for it in &figures.interfaces {
            let name = it.name.clone().unwrap_or_else(|| format!("interface {}", it.interface));
            all.add(What::Packets, &name, (it.sent + it.received) as f64);
            all.add(What::Bytes, &name, (it.sent_bytes + it.received_bytes) as f64);
        }
        all
    }

    /// An amount.
    fn add(&mut self, what: What, name: &str, amount: f64) {
        *self.values.entry((what, name.to_owned())).or_default() += amount / self.seconds;
    }

    /// A time, of which the longest counts.
    #[allow(clippy::cast_precision_loss)] // for people
    fn most(&mut self, what: What, name: &str, ns: u64) {
        let longest = self.values.entry((what, name.to_owned())).or_default();
        *longest = longest.max(ns as f64);
    }
}

impl Diff {
    pub(super) fn of(now: &Figures, before: &Figures) -> Self {
        let are_recorded = |group: &str| {
            let is_recorded = |figures: &Figures| {
                figures.completeness.groups.iter().any(|it| it.group == group && it.is_recorded)
            };
            is_recorded(now) && is_recorded(before)
        };
        let groups = now.completeness.groups.iter().map(|it| it.group);
        let not_compared = groups.filter(|group| !are_recorded(group)).collect();
        let [now, before] = [now, before].map(Measures::of);
        let mut both: BTreeMap<_, [Option<f64>; 2]> = BTreeMap::new();
        for (at, measures) in [&now, &before].into_iter().enumerate() {
            for (key, value) in &measures.values {
                both.entry(key.clone()).or_default()[at] = Some(*value);
            }
        }
        let change = |((what, name), [now, before]): ((What, String), [Option<f64>; 2])| Change {
            what,
            name,
            unit: what.about().1,
            now,
            before,
        };
        let mut changes: Vec<_> = both.into_iter().map(change).collect();
        // A time that only one of the two has can't be compared.
        changes.retain(|it| it.unit != Unit::Nanoseconds || it.now.is_some() == it.before.is_some());
        changes.retain(|it| are_recorded(it.what.about().0) && it.factor() >= LEAST);
        // Kinds in the order of their list; of each kind what changed most. Positive numbers are in the order of their bits.
        changes.sort_by_key(|it| (it.what, Reverse(it.difference().to_bits())));
        let mut of_kind = BTreeMap::new();
        changes.retain(|it| {
            let count = of_kind.entry(it.what).or_insert(0);
            *count += 1;
            *count <= LISTED
        });
        Self { seconds: now.seconds, seconds_before: before.seconds, changes, not_compared }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:.1} s now, {:.1} s before. Of each kind the largest changes first\n",
            self.seconds, self.seconds_before
        );
        let mut last = "";
        for change in &self.changes {
            let group = change.what.about().0;
            if last != group {
                let _ = write!(text, "{}{group}", if last.is_empty() { "\n" } else { "\n\n" });
                last = group;
            }
            let shown = |value: Option<f64>| change.unit.text(value.unwrap_or(0.0));
            let sentence = change.what.about().2;
            let sentence =
                sentence.replace("NOW", &shown(change.now)).replace("BEFORE", &shown(change.before));
            let name = if change.name.is_empty() { "a process without a name" } else { &change.name };
            let _ = write!(text, "\n  {}", sentence.replace("NAME", name)); // can't fail
        }
        if self.changes.is_empty() {
            text += "\n  nothing changed by a quarter or more";
        }
        if self.changes.iter().any(|it| it.now.is_none() || it.before.is_none()) {
            let _ =
                write!(text, "\n\n0: there was none, or it was not among the {SHOWN} largest of its list");
        }
        if !self.not_compared.is_empty() {
            let _ = write!(
                text,
                "\n\nNot compared, as one of the two did not record it: {}",
                self.not_compared.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Calls, CpuTime, Faults, Group, Task};
    use super::*;

    fn figures(seconds: u64, busy: &[(&str, u64)], fsync_ns: u64) -> Figures {
        let mut figures = Figures::default();
        figures.completeness.until_ns = seconds * 1_000_000_000;
        figures.completeness.groups = ["sched", "syscalls", "block"]
            .map(|group| Group { group, is_recorded: group != "block", events: 1, complete_from_ns: None })
            .into();
        let task = |name: &&str| Task { pid: 1, tid: 1, name: (*name).to_owned(), cgroup: None };
        let cpu_time = |(name, ms): &(&str, u64)| CpuTime {
            process: task(name),
            busy_ns: ms * 1_000_000,
            percent: 0.0,
            threads: Vec::new(),
        };
        figures.cpu_time = busy.iter().map(cpu_time).collect();
        let took = Distribution { count: 1, p99_ns: fsync_ns, ..Distribution::default() };
        figures.calls = vec![Calls { call: "fsync".into(), errors: 0, total_ns: 1, took }];
        figures.faults = vec![Faults { process: task(&"many"), count: 1_000_000 * seconds }];
        figures
    }

    #[test]
    fn the_largest_changes_come_first_and_amounts_are_those_of_a_second() {
        let before = figures(100, &[("nginx", 40_000), ("same", 100_000)], 1_000_000);
        let now = figures(
            10,
            &[("nginx", 10_000), ("nginx", 8_000), ("same", 11_000), ("new", 1_000)],
            900_000_000,
        );
        let diff = Diff::of(&now, &before);
        let text = diff.text();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(
            lines,
            [
                "  nginx used 1.80 CPUs, 0.40 before",
                "  new used 0.10 CPUs, 0.00 before",
                "  99 % of the calls of fsync took 900 ms or less, 1.00 ms before",
            ]
        );
        assert!(
            text.starts_with("10.0 s now, 100.0 s before.") && text.ends_with("did not record it: block"),
            "{text}"
        );
        let same = Diff::of(&before, &before);
        assert!(same.changes.is_empty() && same.text().contains("nothing changed"));
    }
}
