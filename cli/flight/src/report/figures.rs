//! The figures of a report, as `--json` prints them. Times are in nanoseconds; those of events are of CLOCK_MONOTONIC. Names come from
//! the kernel, and are escaped.

use mapring::Histogram;
use serde::Serialize;

use super::super::symbols::Named;

/// The report.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Figures {
    /// What stopped the recording: a trigger, or `hold`.
    pub(super) stopped: Option<Stopped>,
    /// The end of the report, as the wall clock shows it.
    pub(super) until: String,
    pub(super) completeness: Completeness,
    /// Processes by their CPU time, the largest first.
    pub(super) cpu_time: Vec<CpuTime>,
    /// All processes, also those that are not listed.
    pub(super) cpu_time_all: Sum,
    /// Processes of the same name, where there are several, the largest sum first.
    pub(super) cpu_time_by_name: Vec<NameTime>,
    /// From the moment when a task could run until it ran.
    pub(super) runqueue: Distribution,
    pub(super) runqueue_worst: Vec<Delay>,
    /// How long threads could run, and did not because the CPU quota of their cgroup was used up: in none of the delays.
    pub(super) quota_waits: Vec<QuotaWait>,
    /// Waits that only the event ends, such as those for a disk.
    pub(super) waits_uninterruptible: Vec<Wait>,
    /// Waits of parents in vfork, until the child executes a program or ends. SIGKILL ends them, too.
    pub(super) waits_for_children: Vec<Wait>,
    /// Waits that a signal ends, too.
    pub(super) waits_interruptible: Vec<Wait>,
    /// Waits in sum, as the group `waits` recorded them, without those that only their own time ends.
    pub(super) wait_sums: Vec<WaitSum>,
    pub(super) sleeps: Total,
    /// Waits for locks of the kernel in sum, as the group `locks` recorded them.
    pub(super) lock_sums: Vec<WaitSum>,
    /// System calls by their time apart from interruptible waits, the longest first.
    pub(super) slow_calls: Vec<Call>,
    pub(super) calls: Vec<Calls>,
    pub(super) disks: Vec<Disk>,
    /// Requests to disks that ended, and whose begin is not recorded: they are in no other figure.
    pub(super) requests_without_begin: u64,
    pub(super) interrupts: Vec<Interrupts>,
    /// Of each CPU, as far back as all CPUs have such events. It is also in the CPU time of the processes that ran.
    pub(super) interrupt_time: Vec<InterruptTime>,
    pub(super) faults: Vec<Faults>,
    /// The latest.
    pub(super) started: Vec<Started>,
    pub(super) started_count: u64,
    /// The latest, in the order of times: first those that a signal killed, then those with an exit code, then the others.
    pub(super) ended: Vec<Ended>,
    pub(super) ended_count: u64,
    pub(super) interfaces: Vec<Traffic>,
    pub(super) marks: Vec<Mark>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Stopped {
    /// In words.
    pub(super) cause: String,
    pub(super) at_ns: u64,
}

/// What `flight mark` wrote, and conditions of triggers that were met.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Mark {
    pub(super) at_ns: u64,
    pub(super) text: String,
}

#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Completeness {
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    pub(super) groups: Vec<Group>,
    pub(super) cpus: Vec<Cpu>,
    pub(super) lost: Vec<Lost>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Group {
    pub(super) group: &'static str,
    pub(super) is_recorded: bool,
    pub(super) events: u64,
    /// Events before this time are overwritten, on one CPU at least. `None`: none was.
    pub(super) complete_from_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Cpu {
    pub(super) cpu: u16,
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    pub(super) events: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Lost {
    pub(super) group: &'static str,
    pub(super) cause: String,
    pub(super) count: u64,
}

/// A process or a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Task {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) name: String,
    /// The one of the process in /proc, of the second version if it has several. `None` if it is not known.
    pub(super) cgroup: Option<String>,
}

#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CpuTime {
    pub(super) process: Task,
    pub(super) busy_ns: u64,
    /// Of one CPU, over the time of the report.
    pub(super) percent: f64,
    pub(super) threads: Vec<ThreadTime>,
}

/// The CPU time of several processes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Sum {
    pub(super) processes: u64,
    pub(super) busy_ns: u64,
}

#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NameTime {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) sum: Sum,
    /// Of one CPU, over the time of the report.
    pub(super) percent: f64,
    /// Who started most of them, and how many, as far as the start was recorded.
    pub(super) parent: Option<Task>,
    pub(super) by_parent: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ThreadTime {
    pub(super) thread: Task,
    pub(super) busy_ns: u64,
}

/// Durations, within 12.5 %; `max_ns` is exact.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Distribution {
    pub(super) count: u64,
    pub(super) p50_ns: u64,
    pub(super) p90_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) max_ns: u64,
}

impl Distribution {
    pub(super) fn of(histogram: &Histogram, max: u64) -> Self {
        let at = |percent: f64| histogram.percentile(percent).map_or(0, |values| *values.end()).min(max);
        Self { count: histogram.count(), p50_ns: at(50.0), p90_ns: at(90.0), p99_ns: at(99.0), max_ns: max }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Delay {
    pub(super) task: Task,
    pub(super) ns: u64,
    pub(super) cpu: u16,
    /// When it ran at last.
    pub(super) at_ns: u64,
    /// Who ran longest on this CPU meanwhile.
    pub(super) instead: Task,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Wait {
    pub(super) task: Task,
    pub(super) ns: u64,
    pub(super) from_ns: u64,
    /// Nothing woke it until the end of the report.
    pub(super) is_open: bool,
    pub(super) waker: Option<Task>,
    /// `None`: the group `waits` has not recorded it, or it is not over.
    pub(super) stack: Option<Where>,
}

/// Many times.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Total {
    pub(super) count: u64,
    #[serde(rename = "total_ns")]
    pub(super) ns: u64,
    pub(super) max_ns: u64,
}

impl Total {
    pub(super) fn add(&mut self, more: Self) {
        self.count += more.count;
        (self.ns, self.max_ns) = (self.ns.saturating_add(more.ns), self.max_ns.max(more.max_ns));
    }
}

/// How long a thread waited for the CPU quota of its cgroup.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct QuotaWait {
    pub(super) task: Task,
    #[serde(flatten)]
    pub(super) total: Total,
}

/// The waits of a thread at one place that one thread ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct WaitSum {
    pub(super) task: Task,
    /// The state in which it waited, or the kind of the lock.
    pub(super) how: String,
    /// `None`: an interrupt, while no thread ran.
    pub(super) waker: Option<Task>,
    #[serde(flatten)]
    pub(super) total: Total,
    pub(super) stack: Where,
}

/// A stack, as names of functions, the innermost one first.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Where {
    pub(super) kernel: Vec<String>,
    pub(super) user: Vec<String>,
    /// Outer frames are missing.
    pub(super) is_cut: bool,
}

impl Where {
    pub(super) fn of(Named { kernel, user, is_cut }: &Named) -> Self {
        let [kernel, user] =
            [kernel, user].map(|frames| frames.iter().flat_map(|it| it.names.clone()).collect());
        Self { kernel, user, is_cut: *is_cut }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Call {
    pub(super) task: Task,
    pub(super) call: String,
    pub(super) args: [u64; 3],
    /// `None`: it had not returned at the end of the report.
    pub(super) ret: Option<i64>,
    pub(super) error: Option<&'static str>,
    pub(super) from_ns: u64,
    pub(super) ns: u64,
    /// The part of it that it did not wait interruptibly.
    pub(super) busy_ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Calls {
    pub(super) call: String,
    pub(super) errors: u64,
    pub(super) total_ns: u64,
    #[serde(flatten)]
    pub(super) took: Distribution,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Disk {
    /// Its numbers, as in `/sys/dev/block`.
    pub(super) device: String,
    /// Its name, if it is still present.
    pub(super) name: Option<String>,
    /// What they do: `reads`, `writes`, `discards`, `flushes`, or other `commands`.
    pub(super) requests: &'static str,
    pub(super) bytes: u64,
    pub(super) errors: u64,
    #[serde(flatten)]
    pub(super) took: Distribution,
    /// The slowest request that is over.
    pub(super) slowest: Option<Request>,
    /// How many were not over at the end of the report, and the oldest of them.
    pub(super) open: u64,
    pub(super) oldest: Option<Request>,
}

impl Disk {
    /// For people: by its name, if it has one.
    pub(super) fn shown(&self) -> String {
        let name = self.name.as_ref().map(|name| format!("{name} ({})", self.device));
        name.unwrap_or_else(|| self.device.clone())
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Request {
    pub(super) task: Task,
    pub(super) op: String,
    pub(super) sector: u64,
    pub(super) bytes: u32,
    pub(super) from_ns: u64,
    pub(super) ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Interrupts {
    /// `irq 24 (nvme0q1)`, with who handles it, or the name of a softirq.
    pub(super) interrupt: String,
    pub(super) total_ns: u64,
    #[serde(flatten)]
    pub(super) took: Distribution,
    /// Where and when the longest began.
    pub(super) longest_cpu: u16,
    pub(super) longest_from_ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct InterruptTime {
    pub(super) cpu: u16,
    pub(super) irq_ns: u64,
    pub(super) softirq_ns: u64,
    /// Softirqs, of the CPU's time.
    pub(super) softirq_percent: f64,
    /// The softirq that took most.
    pub(super) softirq: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Faults {
    pub(super) process: Task,
    pub(super) count: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Started {
    pub(super) process: Task,
    pub(super) file: String,
    pub(super) at_ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Ended {
    pub(super) process: Task,
    /// The thread that crashed, if it is not the first one of the process.
    pub(super) thread: Option<Task>,
    pub(super) at_ns: u64,
    pub(super) status: u8,
    pub(super) signal: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Traffic {
    pub(super) interface: u32,
    pub(super) name: Option<String>,
    pub(super) net_ns: u64,
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
}
