//! Runs the reader in C, and parses its output.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mapring::ReadStats;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kernel-tests-conformance");
/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads until it is stopped.
pub(crate) struct Reader {
    child: Child,
    /// How it reads: `mapped` or `lookup`.
    pub(crate) access: String,
    lines: JoinHandle<Vec<String>>,
    now: Arc<Mutex<Progress>>,
}

/// What it has printed so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) lines: usize,
    /// Its last losses; its other counts are older.
    pub(crate) stats: ReadStats,
    /// Whether it found a value that was being written.
    pub(crate) busy: bool,
}

/// A required reader's lease, and its next ticket of each shard.
pub(crate) type Required = (u64, Vec<u64>);

/// Its output after the line `ready`.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Shard, ticket and bytes of each record, in the order in which they came.
    pub(crate) records: Vec<(u64, u64, Vec<u8>)>,
    /// The ring of each of these records, if several are read.
    pub(crate) rings_of: Vec<usize>,
    /// The tail of each of these records, if the ring has tails.
    pub(crate) tails: Vec<Vec<u8>>,
    /// CPU, index, version and bytes of each value, each time it changed.
    pub(crate) values: Vec<(u64, u64, u64, Vec<u8>)>,
    /// The last value of each counter that was ever incremented, by bank and index.
    pub(crate) counters: HashMap<(u64, u64), u64>,
    /// For a ring.
    pub(crate) stats: ReadStats,
    /// Records that writers dropped.
    pub(crate) dropped: u64,
    /// The number of rings read.
    pub(crate) rings: u64,
    /// Reads that found a value being written.
    pub(crate) busy: u64,
    /// When the latest spell of drops in a shard began, and its last drop.
    pub(crate) drops: HashMap<u64, (u64, u64)>,
    /// The loader: its pid, and `alive` or `gone`; or `unknown`.
    pub(crate) loader: String,
    /// The bounds of each of the top keys.
    pub(crate) keys: BTreeMap<u64, (u64, u64)>,
    /// The most that was added to any other key.
    pub(crate) unlisted: u64,
    /// The counts of the buckets of histograms that are not 0: by shard, histogram and first value of the bucket.
    pub(crate) buckets: BTreeMap<(u64, u64, u64), u64>,
    /// The smallest and the largest value of the windows of gauges, by shard, gauge and window.
    pub(crate) windows: BTreeMap<(u64, u64, u64), (u64, u64)>,
    /// How often a program's bell ended a sleep.
    pub(crate) wakes: u64,
    /// A command's number, and how many were carried out when it ended.
    pub(crate) pushed: (u64, u64),
    /// The pid of each reader that has a seat, and how it is required.
    pub(crate) readers: Vec<(u64, Option<Required>)>,
}

impl Reader {
    /// Starts it with these arguments, and waits until it has opened them.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut reader = Command::new(PROGRAM);
        reader.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = reader.spawn().unwrap_or_else(|e| panic!("{PROGRAM}: {e}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let before: Vec<_> = lines.by_ref().take_while(|line| line != "ready").collect();
        let Some(access) = before.last().cloned() else {
            panic!("{args:?}: {}", child.wait().unwrap());
        };
        let now = Arc::<Mutex<Progress>>::default();
        let notes = now.clone();
        let note = move |line: &String| notes.lock().unwrap().note(line);
        Self { child, access, lines: std::thread::spawn(move || lines.inspect(note).collect()), now }
    }

    /// Waits until it has printed enough, or has ended. Stops its process again and again, for others to get ahead.
    pub(crate) fn wait_until(&self, enough: impl Fn(Progress) -> bool) {
        let start = Instant::now();
        while !enough(*self.now.lock().unwrap()) && !self.lines.is_finished() {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.now);
            self.signal(Signal::SIGSTOP);
            std::thread::sleep(Duration::from_millis(2));
            self.signal(Signal::SIGCONT);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Makes it read the rest, and end.
    pub(crate) fn stop(mut self) -> Report {
        drop(self.child.stdin.take());
        let lines = self.lines.join().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status} after {:?}", lines.last());
        let mut report = Report::default();
        lines.iter().for_each(|line| report.add(line));
        report
    }

    /// How it ends by itself.
    pub(crate) fn ends(mut self) -> ExitStatus {
        self.lines.join().unwrap();
        self.child.wait().unwrap()
    }

    /// Its output for the current content.
    pub(crate) fn once(args: &[&str]) -> (String, Report) {
        let reader = Self::start(args);
        (reader.access.clone(), reader.stop())
    }

    /// Its reason to refuse these arguments.
    pub(crate) fn refuses(args: &[&str]) -> String {
        let output = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap();
        let report = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && report.starts_with("can't open"), "{args:?}: {report}");
        report
    }

    /// Its first line about a global variable: the variable's position, for processes that can't read types.
    pub(crate) fn address_of(args: &[&str]) -> String {
        let output = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned()
    }

    /// The values computed from these shapes of regions, one line each.
    pub(crate) fn layouts(shapes: &str) -> Vec<String> {
        let mut reader = Command::new(PROGRAM);
        let mut child = reader.arg("layout").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, shapes) = (child.stdin.take().unwrap(), shapes.to_owned());
        let writer = std::thread::spawn(move || stdin.write_all(shapes.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Progress {
    fn note(&mut self, line: &str) {
        self.lines += 1;
        if line.starts_with("tally ") || line.starts_with("busy ") {
            let mut report = Report::default();
            report.add(line);
            self.busy |= report.busy > 0;
            if line.starts_with("tally ") {
                self.stats = report.stats;
            }
        }
    }
}

impl Report {
    fn add(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["record", shard, ticket, bytes] => {
                self.records.push((number(shard), number(ticket), hex(bytes)));
            }
            ["ring", index] => self.rings_of.push(number(index)),
            ["value", cpu, index, version, bytes] => {
                self.values.push((number(cpu), number(index), number(version), hex(bytes)));
            }
            ["counter", bank, index, value] => {
                let (at, value) = ((number(bank), number(index)), number(value));
                let before = self.counters.insert(at, value);
                assert!(before < Some(value), "counter {at:?} went from {before:?} to {value}");
            }
            ["record", shard, ticket, bytes, tail] => {
                self.records.push((number(shard), number(ticket), hex(bytes)));
                self.tails.push(hex(tail));
            }
            ["tally", ref counts @ ..] => {
                let counts: Vec<u64> = counts.iter().map(|count| number(count)).collect();
                let &[delivered, lapped, skipped, tail_lost, discarded, stepped_over, torn, dropped, rings] =
                    &counts[..]
                else {
                    panic!("{line:?}")
                };
                let mut stats = ReadStats::default();
                (stats.delivered, stats.lapped, stats.skipped) = (delivered, lapped, skipped);
                (stats.tail_lost, stats.discarded, stats.torn) = (tail_lost, discarded, torn);
                stats.stepped_over = stepped_over;
                (self.stats, self.dropped, self.rings) = (stats, dropped, rings);
            }
            ["drops", shard, since, until] => {
                self.drops.insert(number(shard), (number(since), number(until)));
            }
            ["loader", ..] => self.loader = line["loader ".len()..].to_owned(),
            ["key", key, least, most] => {
                self.keys.insert(number(key), (number(least), number(most)));
            }
            ["unlisted", most] => self.unlisted = number(most),
            ["bucket", shard, index, first, count] => {
                self.buckets.insert((number(shard), number(index), number(first)), number(count));
            }
            ["window", shard, index, window, least, most] => {
                let at = (number(shard), number(index), number(window));
                self.windows.insert(at, (number(least), number(most)));
            }
            ["reader", _, pid, required, lease, ref next @ ..] => {
                let next = next.iter().map(|ticket| number(ticket)).collect();
                self.readers.push((number(pid), (required == "1").then(|| (number(lease), next))));
            }
            ["dropped", dropped] => self.dropped = number(dropped),
            ["wakes", times] => self.wakes = number(times),
            ["pushed", pushed, done] => self.pushed = (number(pushed), number(done)),
            ["busy", times] => self.busy = number(times),
            _ => panic!("{line:?}"),
        }
    }
}

fn number<T: FromStr<Err: Debug>>(word: &str) -> T {
    word.parse().unwrap()
}

fn hex(word: &str) -> Vec<u8> {
    let digits = word.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
