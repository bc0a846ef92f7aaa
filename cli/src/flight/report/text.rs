//! A report for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::figures::{Completeness, Distribution, Figures, Stopped, Task};
use crate::output;

/// Lines of a section.
const LINES: usize = 10;

/// The report.
pub(super) fn of(figures: &Figures) -> String {
    let mut text = Text { all: String::new(), figures };
    text.summary();
    text.completeness();
    text.tasks();
    text.calls();
    text.devices();
    text.programs();
    text.all.trim_end().to_owned()
}

struct Text<'f> {
    all: String,
    figures: &'f Figures,
}

impl Text<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.all.extend([line.as_ref(), "\n"]);
    }

    /// What to look at first.
    fn summary(&mut self) {
        let figures = self.figures;
        let Completeness { from_ns, until_ns, cpus, .. } = &figures.completeness;
        let (all, cpus) = (time(until_ns - from_ns), cpus.len());
        match &figures.stopped {
            None => self.line(format!("{all} of {cpus} CPUs, up to now\n")),
            Some(Stopped { cause, at_ns }) => {
                let [before, after] =
                    [at_ns.saturating_sub(*from_ns), until_ns.saturating_sub(*at_ns)].map(time);
                self.line(format!("Stopped by {cause}"));
                self.line(format!(
                    "{all} of {cpus} CPUs: {before} before that, {after} after. Times count from there\n"
                ));
            }
        }
        for ended in figures.ended.iter().filter(|ended| ended.signal.is_some()).take(3) {
            let signal = ended.signal.as_deref().unwrap_or_default();
            self.line(format!(
                "  {} was killed by {signal} {}",
                named(&ended.process),
                ago(figures, ended.at_ns)
            ));
        }
        if let Some(busiest) = figures.cpu_time.first() {
            self.line(format!("  {} used {:.0} % of a CPU", named(&busiest.process), busiest.percent));
        }
        if let Some(worst) = figures.runqueue_worst.first() {
            let (task, instead) = (named(&worst.task), named(&worst.instead));
            self.line(format!(
                "  {task} could run, and waited {} for {instead} on CPU {}",
                time(worst.ns),
                worst.cpu
            ));
        }
        if let Some(call) = figures.slow_calls.first() {
            let open = if call.ret.is_some() { "took" } else { "has not returned for" };
            self.line(format!("  {} of {} {open} {}", call.call, named(&call.task), time(call.ns)));
        }
        for disk in figures.disks.iter().take(2) {
            let errors = if disk.errors > 0 { format!(", {} failed", disk.errors) } else { String::new() };
            let (max, p50) = (time(disk.took.max_ns), time(disk.took.p50_ns));
            self.line(format!(
                "  disk {}: the slowest request took {max}, half of them {p50} or less{errors}",
                disk.device
            ));
        }
    }

    fn completeness(&mut self) {
        let figures = self.figures;
        let Completeness { from_ns, cpus, lost, .. } = &figures.completeness;
        self.title("How complete it is", &[]);
        let late: Vec<_> = cpus.iter().filter(|cpu| cpu.from_ns > from_ns + 1_000_000_000).collect();
        match late.is_empty() {
            true => self.line("  all CPUs from the start"),
            false => late
                .iter()
                .for_each(|cpu| self.line(format!("  CPU {}: from {}", cpu.cpu, ago(figures, cpu.from_ns)))),
        }
        match lost.is_empty() {
            true => self.line("  nothing is lost"),
            false => lost.iter().for_each(|lost| {
                self.line(format!("  {}: {} lost: {}", lost.group, lost.count, lost.cause.escape_debug()));
            }),
        }
    }

    fn tasks(&mut self) {
        let figures = self.figures;
        if !figures.marks.is_empty() {
            self.title("Marks and triggers", &[]);
            self.table(
                &["when", "what"],
                figures.marks.iter().map(|it| vec![ago(figures, it.at_ns), it.text.clone()]),
            );
        }
        if self.title("CPU time", &["sched"]) {
            self.table(
                &["process", "time", "% of a CPU", "busiest thread", "time"],
                figures.cpu_time.iter().map(|it| {
                    let thread = it
                        .threads
                        .first()
                        .filter(|thread| thread.thread.tid != it.process.pid || it.threads.len() > 1);
                    let thread = thread
                        .map_or([String::new(), String::new()], |it| [named(&it.thread), time(it.busy_ns)]);
                    let [name, busy] = thread;
                    vec![named(&it.process), time(it.busy_ns), format!("{:.1}", it.percent), name, busy]
                }),
            );
        }
        if self.title("Time in the run queue", &["sched"]) {
            self.line(format!("  {}", spread(&figures.runqueue)));
            self.table(
                &["waited", "task", "for", "CPU", "ran"],
                figures.runqueue_worst.iter().map(|it| {
                    vec![
                        time(it.ns),
                        named(&it.task),
                        named(&it.instead),
                        it.cpu.to_string(),
                        ago(figures, it.at_ns),
                    ]
                }),
            );
        }
        for (title, waits) in [
            (
                "Longest waits that no signal ends (disks, locks of the kernel)",
                &figures.waits_uninterruptible,
            ),
            ("Longest waits for other things", &figures.waits_interruptible),
        ] {
            if self.title(title, &["sched"]) {
                self.table(
                    &["waited", "task", "woken by", "since"],
                    waits.iter().map(|it| {
                        let waker = it.waker.as_ref().map_or("nothing yet".to_owned(), named);
                        vec![time(it.ns), named(&it.task), waker, ago(figures, it.from_ns)]
                    }),
                );
            }
        }
    }

    fn calls(&mut self) {
        let figures = self.figures;
        if self
            .title("Slow system calls, without the time of waits that a signal ends", &["syscalls", "sched"])
        {
            self.table(
                &["time", "in all", "task", "call", "result"],
                figures.slow_calls.iter().map(|it| {
                    let [a, b, c] = it.args;
                    let ret = it.ret.map_or("has not returned".to_owned(), |ret| ret.to_string());
                    let ret = it.error.map_or(ret, str::to_owned);
                    let call = format!("{}({a:#x}, {b:#x}, {c:#x}, …)", it.call);
                    vec![time(it.busy_ns), time(it.ns), named(&it.task), call, ret]
                }),
            );
        }
        if self.title("System calls by their time, waits included", &["syscalls"]) {
            self.table(
                &["call", "time", "calls", "errors", "p50", "p99", "max"],
                figures.calls.iter().map(|it| {
                    let took = &it.took;
                    let [p50, p99, max] = [took.p50_ns, took.p99_ns, took.max_ns].map(time);
                    vec![
                        it.call.clone(),
                        time(it.total_ns),
                        took.count.to_string(),
                        it.errors.to_string(),
                        p50,
                        p99,
                        max,
                    ]
                }),
            );
        }
    }

    fn devices(&mut self) {
        let figures = self.figures;
        if self.title("Disks", &["block"]) {
            self.table(
                &["disk", "requests", "bytes", "errors", "p50", "p99", "max", "slowest"],
                figures.disks.iter().map(|it| {
                    let [p50, p99, max] = [it.took.p50_ns, it.took.p99_ns, it.took.max_ns].map(time);
                    let slowest = it.slowest.as_ref().map_or(String::new(), |it| {
                        format!("{} of {} by {}", it.op, output::bytes(it.bytes.into()), named(&it.task))
                    });
                    let (count, bytes) = (it.took.count.to_string(), output::bytes(it.bytes));
                    vec![it.device.clone(), count, bytes, it.errors.to_string(), p50, p99, max, slowest]
                }),
            );
        }
        if self.title("Longest interrupts", &["irq"]) {
            self.table(
                &["interrupt", "max", "p99", "count", "time", "longest"],
                figures.interrupts.iter().map(|it| {
                    let longest = format!("CPU {}, {}", it.longest_cpu, ago(figures, it.longest_from_ns));
                    let [p99, max, all] = [it.took.p99_ns, it.took.max_ns, it.total_ns].map(time);
                    vec![it.interrupt.clone(), max, p99, it.took.count.to_string(), all, longest]
                }),
            );
        }
        if self.title("Packets", &["net"]) {
            self.table(
                &["interface", "sent", "bytes", "received", "bytes"],
                figures.interfaces.iter().map(|it| {
                    let name = it.name.clone().unwrap_or_else(|| format!("number {}", it.interface));
                    let [sent, received] = [it.sent_bytes, it.received_bytes].map(output::bytes);
                    vec![name, it.sent.to_string(), sent, it.received.to_string(), received]
                }),
            );
        }
    }

    fn programs(&mut self) {
        let figures = self.figures;
        if self.title("Page faults", &["faults"]) {
            let rows = figures.faults.iter().map(|it| vec![named(&it.process), it.count.to_string()]);
            self.table(&["process", "faults"], rows);
        }
        if self.title("Programs that started", &["exec"]) {
            let rows = figures.started.iter();
            self.table(
                &["process", "file", "when"],
                rows.map(|it| vec![named(&it.process), it.file.clone(), ago(figures, it.at_ns)]),
            );
            self.more(figures.started_count, figures.started.len());
        }
        if self.title("Processes that ended", &["exec"]) {
            self.table(
                &["process", "how", "when"],
                figures.ended.iter().map(|it| {
                    let how = it.signal.clone().unwrap_or_else(|| format!("exit code {}", it.status));
                    vec![named(&it.process), how, ago(figures, it.at_ns)]
                }),
            );
            self.more(figures.ended_count, figures.ended.len());
        }
    }

    fn more(&mut self, all: u64, listed: usize) {
        let shown = listed.min(LINES) as u64;
        if all > shown {
            self.line(format!("  and {} more", all - shown));
        }
    }

    /// Begins a section. Returns whether there is something to show: all groups that it needs were recorded.
    fn title(&mut self, title: &str, groups: &[&str]) -> bool {
        let is_recorded = |name: &&&str| {
            self.figures.completeness.groups.iter().any(|group| group.group == **name && group.is_recorded)
        };
        let missing: Vec<_> = groups.iter().filter(|name| !is_recorded(name)).copied().collect();
        let of = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
        let _ = write!(self.all, "\n{title}{of}\n"); // can't fail
        if !missing.is_empty() {
            self.line(format!(
                "  not recorded: `mapring flight start --events` without {}",
                missing.join(", ")
            ));
        }
        missing.is_empty()
    }

    fn table(&mut self, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        let rows: Vec<_> = rows.take(LINES).collect();
        if rows.is_empty() {
            return self.line("  nothing");
        }
        let is_number = |at: usize| {
            rows.iter().all(|row| row[at].starts_with(|c: char| "+-".contains(c) || c.is_ascii_digit()))
        };
        let are_numbers: Vec<_> = (0..header.len()).map(is_number).collect();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
        for (column, is_number) in table.column_iter_mut().zip(are_numbers) {
            if is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt().lines().for_each(|line| self.line(format!(" {line}")));
    }
}

/// A time, seen from what stopped the recording, or from the end of the report.
fn ago(figures: &Figures, ns: u64) -> String {
    match &figures.stopped {
        None => format!("{} ago", time(figures.completeness.until_ns.saturating_sub(ns))),
        Some(zero) if ns < zero.at_ns => format!("-{}", time(zero.at_ns - ns)),
        Some(zero) => format!("+{}", time(ns - zero.at_ns)),
    }
}

fn named(task: &Task) -> String {
    let number = if task.tid == 0 { task.pid } else { task.tid };
    if task.name.is_empty() { format!("({number})") } else { format!("{} ({number})", task.name) }
}

fn spread(it: &Distribution) -> String {
    let [p50, p90, p99, max] = [it.p50_ns, it.p90_ns, it.p99_ns, it.max_ns].map(time);
    format!("{} times; p50 {p50}, p90 {p90}, p99 {p99}, max {max}", it.count)
}

/// A time with three digits.
#[allow(clippy::cast_precision_loss)] // for people
pub(super) fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let times = [0, 999, 1_500, 63_210_000, 999_600_000, 2_100_000_000, 320_000_000_000].map(time);
        assert_eq!(times, ["0 ns", "999 ns", "1.50 µs", "63.2 ms", "1000 ms", "2.10 s", "320 s"]);
    }

    #[test]
    fn a_section_names_the_group_that_is_missing() {
        let text = of(&Figures::default());
        assert!(
            text.contains("Disks (block)\n  not recorded: `mapring flight start --events` without block"),
            "{text}"
        );
    }
}
