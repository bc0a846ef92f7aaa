//! The sections of a report for people, from which its text and its page are made: both show the same.

use mapring_kit::output;
use mapring_kit::text::grouped;

use super::super::sum;
use super::figures::{
    Completeness, Distribution, Ended, Figures, InterruptTime, QuotaWait, Stopped, Sum, Task, Total, Wait,
    WaitSum, Where,
};
use super::text::{Document, Part, Row, Section};

/// The signals of faults in a program.
const CRASHES: [&str; 7] = ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGSYS", "SIGTRAP"];

/// Those that ask a process to end, as a shell or a service manager does.
const REQUESTS: [&str; 5] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGALRM"];

/// The groups that tell slow system calls from those that wait for something.
const CALLS: &[&str] = &["syscalls", "sched"];

/// The report.
pub(super) fn of(figures: &Figures) -> Document {
    let mut text = Text { document: Document::default(), figures };
    text.summary();
    text.completeness();
    text.tasks();
    text.sums();
    text.calls();
    text.devices();
    text.programs();
    text.document
}

struct Text<'f> {
    document: Document,
    figures: &'f Figures,
}

impl<'f> Text<'f> {
    fn part(&mut self, part: Part) {
        self.document.sections.last_mut().expect("a title is first").parts.push(part);
    }

    fn line(&mut self, line: impl Into<String>) {
        self.part(Part::Line(line.into()));
    }

    /// What to look at first.
    fn summary(&mut self) {
        let figures = self.figures;
        let Completeness { from_ns, until_ns, cpus, .. } = &figures.completeness;
        let (all, cpus) = (time(until_ns - from_ns), cpus.len());
        self.document.head = match &figures.stopped {
            None => vec![format!("The last {all} of {cpus} CPUs, up to {}", figures.until)],
            Some(Stopped { cause, at_ns }) => {
                let [before, after] =
                    [at_ns.saturating_sub(*from_ns), until_ns.saturating_sub(*at_ns)].map(time);
                let period = format!(
                    "{all} of {cpus} CPUs: {before} before that, {after} after. Times count from there"
                );
                vec![format!("Stopped by {cause}"), period]
            }
        };
        let mut first = Vec::new();
        // Crashes first, and those that are next to what stopped the recording, or to its end.
        let zero = figures.stopped.as_ref().map_or(*until_ns, |stopped| stopped.at_ns);
        let killed = |it: &'f Ended| {
            let signal = it.signal.as_deref()?;
            Some((!CRASHES.contains(&signal), zero.abs_diff(it.at_ns), signal, it))
        };
        let mut killed: Vec<_> = figures.ended.iter().filter_map(killed).collect();
        killed.sort_by_key(|(is_kill, distance, ..)| (*is_kill, *distance));
        let story = |(is_kill, _, signal, it): &(bool, u64, &str, &Ended)| {
            let (of, when) = (if *is_kill { "killed" } else { "crash" }, when(figures, it.at_ns));
            let thread =
                it.thread.as_ref().map_or(String::new(), |it| format!(" in its thread {}", named(it)));
            (of, format!("{} was killed by {signal}{thread}, {when}", whose(&it.process)))
        };
        // Those that were asked to end come last.
        let (asked, killed): (Vec<_>, Vec<_>) =
            killed.into_iter().partition(|(.., signal, _)| REQUESTS.contains(signal));
        first.extend(killed.iter().take(3).map(story));
        // Many of one name, if they used more than any process. Then the busiest one, and others that a CPU was busy with.
        let largest = figures.cpu_time.first().map_or(0, |it| it.busy_ns);
        let many = figures.cpu_time_by_name.first();
        let many = many.filter(|it| it.sum.busy_ns > largest || it.percent > 20.0);
        if let Some(many) = many {
            let by = many
                .parent
                .as_ref()
                .map_or(String::new(), |it| format!(", most of them started by {}", named(it)));
            let (count, name, percent) = (grouped(many.sum.processes), &many.name, many.percent);
            first.push(("CPU", format!("{count} processes {name} used {percent:.0} % of a CPU{by}")));
        }
        let busy = figures.cpu_time.iter().take(3).enumerate();
        for (at, it) in busy.filter(|(at, it)| *at == 0 || it.percent > 50.0) {
            let (process, percent) = (whose(&it.process), it.percent);
            let most = if at == 0 { ", more than any other process" } else { "" };
            first.push(("CPU", format!("{process} used {percent:.0} % of a CPU{most}")));
        }
        for disk in figures.disks.iter().filter(|disk| disk.oldest.is_some()).take(2) {
            let Some(oldest) = disk.oldest.as_ref().filter(|it| it.ns >= 1_000_000_000) else { continue };
            let (shown, count, age) = (disk.shown(), grouped(disk.open), time(oldest.ns));
            let (op, by) = (&oldest.op, named(&oldest.task));
            first.push((
                "disk",
                format!(
                    "{shown}: {count} {} are not over, the oldest has taken {age} ({op} by {by})",
                    disk.requests
                ),
            ));
        }
        for disk in figures.disks.iter().filter(|disk| disk.took.count > 0).take(2) {
            let (shown, count) = (disk.shown(), disk.took.count);
            let [max, p50] = [disk.took.max_ns, disk.took.p50_ns].map(time);
            let errors = if disk.errors > 0 { format!(", {} failed", disk.errors) } else { String::new() };
            let took = match count {
                1 => format!("its only request ({}) took {max}{errors}", disk.requests),
                _ => {
                    let requests = disk.requests;
                    format!(
                        "the slowest of {count} {requests} took {max}, half of them {p50} or less{errors}"
                    )
                }
            };
            first.push(("disk", format!("{shown}: {took}")));
        }
        // Those that are not over, or took long.
        let is_stuck = |it: &&Wait| it.ns >= 1_000_000_000;
        for it in figures.waits_uninterruptible.iter().filter(is_stuck).take(2) {
            let end = if it.is_open { ", and nothing has woken it yet" } else { "" };
            let place = it.stack.as_ref().and_then(|stack| stack.chains().next());
            let place = place.map_or(String::new(), |(_, names)| format!(": {names}"));
            let line = format!("{} waited {} in state D{end}{place}", whose(&it.task), time(it.ns));
            first.push(("blocked", line));
        }
        // A thread that its quota kept off its CPU for a tenth of the time.
        let most = figures.quota_waits.first().filter(|it| it.total.ns > (until_ns - from_ns) / 10);
        if let Some(QuotaWait { task, total: Total { count, ns, .. } }) = most {
            let (task, waited, count) = (whose(task), time(*ns), grouped(*count));
            let line = format!(
                "{task} could run, and waited {waited} in {count} waits for the CPU quota of its cgroup"
            );
            first.push(("quota", line));
        }
        if let Some(worst) = figures.runqueue_worst.first() {
            let (task, instead, cpu) = (named(&worst.task), named(&worst.instead), worst.cpu);
            let waited = time(worst.ns);
            first.push((
                "run queue",
                format!("{task} could run, and waited {waited} for {instead} on CPU {cpu}"),
            ));
        }
        let of_softirqs =
            figures.interrupt_time.iter().max_by(|a, b| a.softirq_percent.total_cmp(&b.softirq_percent));
        if let Some(InterruptTime { cpu, softirq_percent, softirq, .. }) =
            of_softirqs.filter(|it| it.softirq_percent >= 10.0)
        {
            let line = format!("softirqs took {softirq_percent:.0} % of CPU {cpu}, most of it {softirq}");
            first.push(("interrupts", line));
        }
        // A thread that waits for locks of its own process, or of the kernel, for a fifth of the time.
        let is_long = |it: &&WaitSum| it.total.ns > (until_ns - from_ns) / 5;
        let of_process =
            |it: &&WaitSum| it.stack.user.iter().take(4).any(|name| is_lock(name)) && it.waker.is_some();
        for (it, what) in [
            (figures.wait_sums.iter().filter(of_process).find(is_long), "a lock of its program"),
            (figures.lock_sums.iter().find(is_long), "a lock of the kernel"),
        ] {
            let Some(it) = it else { continue };
            let waker = it
                .waker
                .as_ref()
                .map_or(String::new(), |waker| format!(", which {} gave back", named(waker)));
            let (total, count) = (time(it.total.ns), grouped(it.total.count));
            let place = it.stack.user.iter().chain(&it.stack.kernel).find(|name| is_lock(name));
            let place = place.map_or(String::new(), |name| format!(" ({name})"));
            first.push((
                "lock",
                format!("{} waited {total} in {count} waits for {what}{place}{waker}", named(&it.task)),
            ));
        }
        if let Some(call) = figures.slow_calls.first()
            && missing(figures, CALLS).is_none()
        {
            let open = if call.ret.is_some() { "took" } else { "has not returned for" };
            first.push((
                "system call",
                format!("{} of {} {open} {}", call.call, named(&call.task), time(call.ns)),
            ));
        }
        first.extend(asked.first().map(story));
        let lost = sum(figures.completeness.lost.iter().map(|it| it.count));
        let lost = if lost == 0 { "nothing".to_owned() } else { format!("{lost} events") };
        let from = figures.completeness.groups.iter().filter_map(|group| group.complete_from_ns).max();
        let from = from.map(|ns| format!("; all groups are complete from {} on", ago(figures, ns)));
        first.push(("lost", lost + &from.unwrap_or_default()));
        self.document.first = first;
    }

    fn completeness(&mut self) {
        let figures = self.figures;
        let Completeness { groups, lost, .. } = &figures.completeness;
        self.title("How complete it is", &[]);
        let from = |ns: Option<u64>| ns.map_or("the start".to_owned(), |ns| ago(figures, ns));
        self.table(
            &["group", "events", "complete from"],
            groups
                .iter()
                .filter(|it| it.is_recorded)
                .map(|it| vec![it.group.to_owned(), it.events.to_string(), from(it.complete_from_ns)]),
        );
        lost.iter().for_each(|lost| {
            self.line(format!("{}: {} lost: {}", lost.group, lost.count, lost.cause.escape_debug()));
        });
    }

    fn tasks(&mut self) {
        let figures = self.figures;
        if !figures.marks.is_empty() {
            self.title("Marks and triggers", &[]);
            self.table(
                &["when", "what"],
                figures
                    .marks
                    .iter()
                    .map(|it| Row::at(it.at_ns, 0, vec![ago(figures, it.at_ns), it.text.clone()])),
            );
        }
        if self.title("CPU time", &["sched"]) {
            self.table(
                &["process", "time", "% of a CPU", "busiest thread", "time", "unit"],
                figures.cpu_time.iter().map(|it| {
                    let thread = it
                        .threads
                        .first()
                        .filter(|thread| thread.thread.tid != it.process.pid || it.threads.len() > 1);
                    let thread = thread
                        .map_or([String::new(), String::new()], |it| [named(&it.thread), time(it.busy_ns)]);
                    let [name, busy] = thread;
                    let unit = unit(&it.process).to_owned();
                    vec![named(&it.process), time(it.busy_ns), format!("{:.1}", it.percent), name, busy, unit]
                }),
            );
            let Sum { processes, busy_ns } = figures.cpu_time_all;
            self.more(processes);
            if processes > 0 {
                let Completeness { from_ns, until_ns, cpus, .. } = &figures.completeness;
                let all = (until_ns - from_ns).max(1).saturating_mul(cpus.len().max(1) as u64);
                let percent = u128::from(busy_ns) * 100 / u128::from(all);
                let (processes, busy) = (grouped(processes), time(busy_ns));
                self.line(format!("all {processes} processes: {busy}, {percent} % of {} CPUs", cpus.len()));
                self.line("times on a CPU, with its interrupts, and with what a hypervisor took (steal)");
            }
            if !figures.cpu_time_by_name.is_empty() {
                self.table(
                    &["processes of one name", "number", "time", "% of a CPU", "started most of them"],
                    figures.cpu_time_by_name.iter().map(|it| {
                        let parent = it.parent.as_ref().map_or(String::new(), named);
                        let (count, busy) = (grouped(it.sum.processes), time(it.sum.busy_ns));
                        vec![it.name.clone(), count, busy, format!("{:.1}", it.percent), parent]
                    }),
                );
            }
        }
        if self.title("Time in the run queue", &["sched"]) {
            self.line(spread(&figures.runqueue));
            self.table(
                &["waited", "task", "for", "CPU", "ran"],
                figures.runqueue_worst.iter().map(|it| {
                    let (cpu, ran) = (it.cpu.to_string(), ago(figures, it.at_ns));
                    let cells = vec![time(it.ns), named(&it.task), named(&it.instead), cpu, ran];
                    Row::at(it.at_ns.saturating_sub(it.ns), it.ns, cells)
                }),
            );
        }
        const QUOTA: &str = "Waits for the CPU quota of a cgroup, which is used up";
        if !figures.quota_waits.is_empty() && self.title(QUOTA, &["sched"]) {
            self.table(
                &["waits", "in sum", "longest", "task"],
                figures.quota_waits.iter().map(|it| {
                    let Total { count, ns, max_ns } = it.total;
                    vec![grouped(count), time(ns), time(max_ns), named(&it.task)]
                }),
            );
        }
        const STUCK: &str = "Longest uninterruptible waits (state D: disks, locks of the kernel)";
        const VFORK: &str = "Longest waits of parents in vfork (state D: a child, or SIGKILL, ends them)";
        for (title, waits, is_rare) in [
            (STUCK, &figures.waits_uninterruptible, false),
            (VFORK, &figures.waits_for_children, true),
            ("Longest interruptible waits", &figures.waits_interruptible, false),
        ] {
            if !(is_rare && waits.is_empty()) && self.title(title, &["sched"]) {
                self.table(
                    &["waited", "task", "woken by", "since"],
                    waits.iter().map(|it| {
                        let waker = it.waker.as_ref().map_or("nothing yet".to_owned(), named);
                        let cells = vec![time(it.ns), named(&it.task), waker, ago(figures, it.from_ns)];
                        let under = it.stack.as_ref().map(Where::innermost).unwrap_or_default();
                        Row { under, ..Row::at(it.from_ns, it.ns, cells) }
                    }),
                );
                let missing = missing(figures, &["waits"]).filter(|_| !waits.is_empty());
                missing.into_iter().for_each(|line| self.line(format!("where they waited: {line}")));
            }
        }
    }

    /// Waits in sum, and locks of the kernel: many short ones are in no list of the longest.
    fn sums(&mut self) {
        let figures = self.figures;
        if figures.completeness.groups.iter().any(|group| group.group == "waits" && group.is_recorded) {
            self.title("Waits in sum, by where and by who ended them", &["waits"]);
            self.wait_sums("state", &figures.wait_sums);
            let Total { count, ns, .. } = figures.sleeps;
            if count > 0 {
                self.line(format!(
                    "and {} sleeps that only their own time ended: {}",
                    grouped(count),
                    time(ns)
                ));
            }
        }
        if figures.completeness.groups.iter().any(|group| group.group == "locks" && group.is_recorded) {
            self.title("Locks of the kernel, by the time that threads waited for them", &["locks"]);
            self.wait_sums("lock", &figures.lock_sums);
        }
    }

    fn wait_sums(&mut self, how: &'static str, sums: &[WaitSum]) {
        let header: &'static [&'static str] = match how {
            "lock" => &["waited", "times", "longest", "task", "lock"],
            _ => &["waited", "times", "longest", "task", "state", "woken by"],
        };
        self.table(
            header,
            sums.iter().map(|it| {
                let Total { count, ns, max_ns } = it.total;
                let mut cells = vec![time(ns), grouped(count), time(max_ns), named(&it.task), it.how.clone()];
                if how != "lock" {
                    cells.push(it.waker.as_ref().map_or("an interrupt".to_owned(), named));
                }
                Row { under: it.stack.innermost(), ..cells.into() }
            }),
        );
    }

    fn calls(&mut self) {
        let figures = self.figures;
        if self.title("Slow system calls, without the time of interruptible waits", CALLS) {
            self.table(
                &["time", "in all", "task", "call", "result"],
                figures.slow_calls.iter().map(|it| {
                    let [a, b, c] = it.args;
                    let ret = it.ret.map_or("has not returned".to_owned(), |ret| ret.to_string());
                    let ret = it.error.map_or(ret, str::to_owned);
                    let call = format!("{}({a:#x}, {b:#x}, {c:#x}, …)", it.call);
                    Row::at(
                        it.from_ns,
                        it.ns,
                        vec![time(it.busy_ns), time(it.ns), named(&it.task), call, ret],
                    )
                }),
            );
        }
        if self.title("System calls by their time, waits included", &["syscalls"]) {
            self.table(
                &["call", "time", "calls", "errors", "p50", "p99", "max"],
                figures.calls.iter().map(|it| {
                    let took = &it.took;
                    let [p50, p99, max] = [took.p50_ns, took.p99_ns, took.max_ns].map(time);
                    let [count, errors] = [took.count, it.errors].map(|number| number.to_string());
                    vec![it.call.clone(), time(it.total_ns), count, errors, p50, p99, max]
                }),
            );
        }
    }

    fn devices(&mut self) {
        let figures = self.figures;
        if self.title("Disks", &["block"]) {
            self.table(
                &[
                    "disk", "requests", "number", "bytes", "errors", "p50", "p99", "max", "slowest",
                    "not over",
                ],
                figures.disks.iter().map(|it| {
                    let [p50, p99, max] = [it.took.p50_ns, it.took.p99_ns, it.took.max_ns].map(time);
                    let slowest = it.slowest.as_ref().map_or(String::new(), |it| {
                        format!("{} of {} by {}", it.op, output::bytes(it.bytes.into()), named(&it.task))
                    });
                    let (count, bytes) = (it.took.count.to_string(), output::bytes(it.bytes));
                    let (kind, errors) = (it.requests.to_owned(), it.errors.to_string());
                    let open = match &it.oldest {
                        Some(oldest) => format!("{}, the oldest {}", it.open, time(oldest.ns)),
                        None => String::new(),
                    };
                    let cells = vec![it.shown(), kind, count, bytes, errors, p50, p99, max, slowest, open];
                    let times = it.slowest.as_ref().map(|it| it.from_ns..it.from_ns.saturating_add(it.ns));
                    Row { time: times, ..cells.into() }
                }),
            );
            if figures.requests_without_begin > 0 {
                let count = grouped(figures.requests_without_begin);
                self.line(format!("and {count} that ended, and whose begin is not recorded"));
            }
        }
        if self.title("Longest interrupts", &["irq"]) {
            self.table(
                &["interrupt", "max", "p99", "count", "time", "longest"],
                figures.interrupts.iter().map(|it| {
                    let longest = format!("CPU {}, {}", it.longest_cpu, ago(figures, it.longest_from_ns));
                    let [p99, max, all] = [it.took.p99_ns, it.took.max_ns, it.total_ns].map(time);
                    let cells = vec![it.interrupt.clone(), max, p99, it.took.count.to_string(), all, longest];
                    Row::at(it.longest_from_ns, it.took.max_ns, cells)
                }),
            );
        }
        let busy = figures.interrupt_time.iter().filter(|it| it.irq_ns + it.softirq_ns > 0);
        let busy: Vec<_> = busy.collect();
        if !busy.is_empty() && self.title("Time of CPUs in interrupts", &["irq"]) {
            self.table(
                &["CPU", "softirqs", "% of the CPU", "most in", "interrupts"],
                busy.into_iter().map(|it| {
                    let [softirqs, irqs] = [it.softirq_ns, it.irq_ns].map(time);
                    let percent = format!("{:.1}", it.softirq_percent);
                    vec![it.cpu.to_string(), softirqs, percent, it.softirq.clone(), irqs]
                }),
            );
        }
        if self.title("Packets", &["net"]) {
            self.table(
                &["interface", "sent", "bytes", "received", "bytes"],
                figures.interfaces.iter().map(|it| {
                    let name = it
                        .name
                        .clone()
                        .unwrap_or_else(|| format!("number {} in net namespace {}", it.interface, it.net_ns));
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
                rows.map(|it| {
                    Row::at(it.at_ns, 0, vec![named(&it.process), it.file.clone(), ago(figures, it.at_ns)])
                }),
            );
            self.more(figures.started_count);
        }
        if self.title("Processes that ended", &["exec"]) {
            self.table(
                &["process", "how", "when"],
                figures.ended.iter().map(|it| {
                    let how = it.signal.clone().unwrap_or_else(|| format!("exit code {}", it.status));
                    let thread = it.thread.as_ref().map_or(String::new(), |it| format!(" in {}", named(it)));
                    let how = how + &thread;
                    Row::at(it.at_ns, 0, vec![named(&it.process), how, ago(figures, it.at_ns)])
                }),
            );
            self.more(figures.ended_count);
        }
    }

    /// There were so many rows in the table above.
    fn more(&mut self, count: u64) {
        if let Some(Part::Table { all, .. }) =
            self.document.sections.last_mut().and_then(|it| it.parts.last_mut())
        {
            *all = Some(count);
        }
    }

    /// Begins a section. Returns whether there is something to show: all groups that it needs were recorded.
    fn title(&mut self, title: &'static str, groups: &'static [&'static str]) -> bool {
        let missing = missing(self.figures, groups);
        self.document.sections.push(Section { title, groups, parts: Vec::new() });
        let is_there = missing.is_none();
        missing.into_iter().for_each(|line| self.line(line));
        is_there
    }

    fn table(&mut self, header: &'static [&'static str], rows: impl Iterator<Item = impl Into<Row>>) {
        let rows: Vec<_> = rows.map(Into::into).collect();
        self.part(Part::Table { header, all: None, rows });
    }
}

/// Whether a function with this name takes a lock, by its name.
fn is_lock(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["mutex", "rwlock", "spin_lock", "spinlock", "lll_lock", "rwsem", "sem_wait", "lock_slow", "futex_lock"]
        .iter()
        .any(|part| name.contains(part))
}

/// Says which of these groups were not recorded, if there are some.
pub(super) fn missing(figures: &Figures, groups: &[&str]) -> Option<String> {
    let recorded = &figures.completeness.groups;
    let is_recorded = |name: &&str| recorded.iter().any(|group| group.group == *name && group.is_recorded);
    let missing: Vec<_> = groups.iter().copied().filter(|name| !is_recorded(name)).collect();
    let why = || format!("not recorded: `mapring flight start --events` without {}", missing.join(", "));
    (!missing.is_empty()).then(why)
}

/// A time, seen from what stopped the recording, or from the end of the report.
fn ago(figures: &Figures, ns: u64) -> String {
    match &figures.stopped {
        None => format!("{} ago", time(figures.completeness.until_ns.saturating_sub(ns))),
        Some(zero) if ns < zero.at_ns => format!("-{}", time(zero.at_ns - ns)),
        Some(zero) => format!("+{}", time(ns - zero.at_ns)),
    }
}

/// The same in a sentence.
fn when(figures: &Figures, ns: u64) -> String {
    match &figures.stopped {
        None => ago(figures, ns),
        Some(zero) if ns == zero.at_ns => "at that moment".to_owned(),
        Some(zero) if ns < zero.at_ns => format!("{} before that", time(zero.at_ns - ns)),
        Some(zero) => format!("{} after that", time(ns - zero.at_ns)),
    }
}

fn named(task: &Task) -> String {
    let number = if task.tid == 0 { task.pid } else { task.tid };
    if task.name.is_empty() { format!("({number})") } else { format!("{} ({number})", task.name) }
}

/// The same with its unit or container, unless it is in the root of its hierarchy.
fn whose(task: &Task) -> String {
    let unit = unit(task);
    if unit.is_empty() { named(task) } else { format!("{} of {unit}", named(task)) }
}

/// The last part of the cgroup's path: `nginx.service`, or a container.
fn unit(task: &Task) -> &str {
    task.cgroup.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
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
    use super::super::figures::{CpuTime, Lost, NameTime};
    use super::*;

    #[test]
    fn a_thread_that_is_stuck_stands_out_with_its_function() {
        let wait = |ns, is_open, kernel: &[&str]| Wait {
            task: Task { pid: 7, tid: 8, name: "writer".to_owned(), cgroup: None },
            ns,
            from_ns: 0,
            is_open,
            waker: None,
            stack: (!kernel.is_empty()).then(|| Where {
                kernel: kernel.iter().map(|name| (*name).to_owned()).collect(),
                ..Where::default()
            }),
        };
        let figures = Figures {
            waits_uninterruptible: vec![
                wait(5_000_000_000, true, &[]),
                wait(2_000_000_000, false, &["io_schedule", "folio_wait"]),
                wait(900_000_000, true, &[]),
            ],
            ..Figures::default()
        };
        let text = super::of(&figures).to_string();
        assert!(
            text.contains("writer (8) waited 5.00 s in state D, and nothing has woken it yet\n"),
            "{text}"
        );
        assert!(text.contains("writer (8) waited 2.00 s in state D: io_schedule ← folio_wait\n"), "{text}");
        assert!(!text.contains("waited 900 ms in state D"), "{text}");
    }

    #[test]
    fn counts_that_a_file_makes_up_have_a_largest_sum() {
        let lost = |count| Lost { group: "sched", cause: "x".to_owned(), count };
        let mut figures = Figures::default();
        figures.completeness.lost = vec![lost(u64::MAX), lost(1)];
        assert!(super::of(&figures).to_string().contains("18446744073709551615 events"));
    }

    #[test]
    fn who_was_asked_to_end_is_named_after_the_culprit() {
        let ended = |pid, signal: &str| Ended {
            process: Task { pid, tid: pid, name: "x".to_owned(), cgroup: None },
            thread: None,
            at_ns: 0,
            status: 0,
            signal: Some(signal.to_owned()),
        };
        let of = |pid, percent| CpuTime {
            process: Task { pid, ..Task::default() },
            percent,
            ..CpuTime::default()
        };
        let many = NameTime {
            name: "true".to_owned(),
            sum: Sum { processes: 9197, busy_ns: 1 },
            percent: 36.0,
            parent: Some(Task { pid: 5, tid: 5, name: "bash".to_owned(), cgroup: None }),
            by_parent: 9197,
        };
        let figures = Figures {
            ended: vec![ended(1, "SIGTERM"), ended(2, "SIGKILL"), ended(3, "SIGSEGV")],
            cpu_time: vec![of(4, 16.0)],
            cpu_time_by_name: vec![many],
            ..Figures::default()
        };
        let text = super::of(&figures).to_string();
        let (_, first) = text.split_once("What stands out\n").unwrap();
        let order = [
            "(3) was killed by SIGSEGV",
            "(2) was killed by SIGKILL",
            "9,197 processes true used 36 % of a CPU, most of them started by bash (5)",
            "(4) used 16 %",
            "(1) was killed by SIGTERM",
            "lost ",
        ];
        let lines: Vec<_> = first.lines().take(order.len()).collect();
        assert!(lines.iter().zip(order).all(|(line, part)| line.contains(part)), "{text}");
    }

    #[test]
    fn times_have_three_digits() {
        let times = [0, 999, 1_500, 63_210_000, 999_600_000, 2_100_000_000, 320_000_000_000].map(time);
        assert_eq!(times, ["0 ns", "999 ns", "1.50 µs", "63.2 ms", "1000 ms", "2.10 s", "320 s"]);
    }

    #[test]
    fn each_process_that_a_cpu_is_busy_with_stands_out() {
        let used = |(pid, percent)| CpuTime {
            process: Task { pid, ..Task::default() },
            percent,
            ..CpuTime::default()
        };
        let cpu_time = [(1, 98.0), (2, 95.0), (3, 20.0)].map(used).into();
        let text = of(&Figures { cpu_time, ..Figures::default() }).to_string();
        assert!(text.contains("(1) used 98 % of a CPU, more than any other process\n"), "{text}");
        assert!(text.contains("(2) used 95 % of a CPU\n") && !text.contains("(3) used"), "{text}");
    }

    #[test]
    fn a_section_names_the_group_that_is_missing() {
        let text = of(&Figures::default()).to_string();
        assert!(
            text.contains("Disks (block)\n  not recorded: `mapring flight start --events` without block"),
            "{text}"
        );
    }
}
