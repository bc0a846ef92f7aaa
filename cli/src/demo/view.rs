//! The data to display: turns samples into rates, sorts by activity, and formats events.

use std::collections::VecDeque;
use std::time::Duration;

use super::board::{Board, Sample};
use super::record::{Cpu, Event, Feed, call_name, task_name};

/// The period of the rates.
const WINDOW: u64 = 1_000_000_000;
/// Events kept for display.
const EVENTS: usize = 16;

pub(crate) struct View {
    /// The source of the records, and how they are read.
    pub(crate) source: String,
    pub(crate) access: String,
    pub(crate) length: Duration,
    start: u64,
    /// CPUs of this machine; they have the first cells of a sample.
    machine: usize,
    latest: mapring::Reader<Event>,
    pub(crate) events: VecDeque<Event>,
    samples: VecDeque<Sample>,
}

/// A system call, and its count.
pub(crate) struct CallLine {
    pub(crate) name: String,
    pub(crate) rate: f64,
    pub(crate) total: u64,
}

/// A CPU, or all CPUs.
pub(crate) struct CpuLine {
    pub(crate) name: String,
    /// Switches per second, if known for each CPU.
    pub(crate) switches: Option<f64>,
    pub(crate) busy: f64,
    pub(crate) running: String,
}

impl View {
    pub(crate) fn new(source: &str, length: Duration, start: u64, feed: &Feed, board: &Board) -> Self {
        let samples = VecDeque::from([Sample { ns: start, ..board.sample() }]);
        let (latest, events) = (board.latest(), VecDeque::new());
        let (source, access) = (format!("records of {source}"), format!("read {}", feed.events.access()));
        Self { source, access, length, start, machine: feed.machine, latest, events, samples }
    }

    /// Takes a new sample.
    pub(crate) fn advance(&mut self, board: &Board) {
        self.events.extend(self.latest.drain().map(|event| event.record));
        self.events.make_contiguous().sort_by_key(|event| event.ns);
        let old = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..old);
        let sample = board.sample();
        while self.samples.len() > 1 && sample.ns.saturating_sub(self.samples[1].ns) >= WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub(crate) fn now(&self) -> &Sample {
        self.samples.back().expect("there is one from the start")
    }

    fn before(&self) -> &Sample {
        self.samples.front().expect("there is one from the start")
    }

    /// The time from the start to the latest sample.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed_at(self.now().ns)
    }

    pub(crate) fn elapsed_at(&self, ns: u64) -> Duration {
        Duration::from_nanos(ns.saturating_sub(self.start))
    }

    /// The rate per second of a value that only grows.
    fn rate(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        let grown = of(self.now()).saturating_sub(of(self.before()));
        grown as f64 * 1e9 / self.window()
    }

    fn window(&self) -> f64 {
        self.now().ns.saturating_sub(self.before().ns).max(1) as f64
    }

    pub(crate) fn records(&self) -> f64 {
        self.rate(|sample| sample.records)
    }

    /// Switches of the whole machine.
    pub(crate) fn switches(&self) -> f64 {
        self.rate(|sample| sample.cpus.iter().map(|cpu| cpu.switches).fold(0, u64::wrapping_add))
    }

    /// The most frequent calls by total count. Totals keep the order stable between samples.
    pub(crate) fn calls(&self, count: usize) -> Vec<CallLine> {
        let mut calls: Vec<_> =
            self.now().calls.iter().copied().enumerate().filter(|(_, n)| *n > 0).collect();
        calls.sort_by_key(|&(nr, total)| (std::cmp::Reverse(total), nr));
        let line = |&(nr, total): &(usize, u64)| CallLine {
            name: call_name(nr),
            rate: self.rate(|sample| sample.calls[nr]),
            total,
        };
        calls.iter().take(count).map(line).collect()
    }

    /// As many CPUs as fit, the busiest if not all fit, and a line for all.
    pub(crate) fn cpus(&self, room: usize) -> Vec<CpuLine> {
        // If `ns` is 0, the cell was never written: the CPU is absent, or was asleep the whole time.
        let live = |index: &usize| self.now().cpus[*index].ns > 0;
        let mut lines: Vec<_> = (0..self.machine).filter(live).map(|index| self.cpu(index)).collect();
        let all = CpuLine {
            name: "all".into(),
            switches: Some(self.switches()),
            busy: lines.iter().map(|line| line.busy).sum::<f64>().max(0.0) / lines.len().max(1) as f64,
            running: String::new(),
        };
        if lines.len() >= room {
            lines.sort_by(|a, b| b.busy.total_cmp(&a.busy));
            lines.truncate(room.saturating_sub(1));
        }
        lines.push(all);
        lines
    }

    fn cpu(&self, index: usize) -> CpuLine {
        let (before, now) = (self.before(), self.now());
        let cpu = &now.cpus[index];
        let idle = idle_ns(cpu, now.ns).saturating_sub(idle_ns(&before.cpus[index], before.ns));
        CpuLine {
            name: index.to_string(),
            switches: (cpu.switches > 0).then(|| self.rate(|sample| sample.cpus[index].switches)),
            busy: (1.0 - idle as f64 / self.window()).clamp(0.0, 1.0),
            running: if cpu.pid == 0 { "idle".into() } else { task_name(&cpu.comm) },
        }
    }

    /// An event as one line of text.
    pub(crate) fn event(&self, event: &Event) -> String {
        let seconds = event.ns.saturating_sub(self.start) as f64 / 1e9;
        let who = task(event.pid, &event.comm);
        let what = match event.kind {
            Event::SWITCH => format!("{who} → {}", task(event.other, &event.other_comm)),
            Event::CALL => format!("{who} calls {}", call_name(event.value as usize)),
            _ if event.value == 1 => format!("{who} ran once"),
            _ => format!("{who} ran {} times", event.value),
        };
        format!("{seconds:9.4}  cpu {:<3} {what}", event.cpu)
    }
}

/// Idle time up to `now`, including the time since the last record.
fn idle_ns(cpu: &Cpu, now: u64) -> u64 {
    let since = if cpu.pid == 0 && cpu.ns > 0 { now.saturating_sub(cpu.ns) } else { 0 };
    cpu.idle_ns + since
}

fn task(pid: u32, comm: &[u8; 16]) -> String {
    if pid == 0 { "idle".into() } else { format!("{}[{pid}]", task_name(comm)) }
}

/// A number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate, rounded to a whole number, with commas between thousands.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and small")]
pub(crate) fn rounded(rate: f64) -> String {
    grouped(rate.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        let texts: Vec<_> = [0, 7, 999, 1000, 123_456, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(texts, ["0", "7", "999", "1,000", "123,456", "1,234,567"]);
        assert_eq!(rounded(1999.6), "2,000");
    }
}
