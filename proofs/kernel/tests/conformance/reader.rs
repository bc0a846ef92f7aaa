//! Runs the reader in plain C, and parses its output.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use mapring::ReadStats;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kernel-tests-conformance");

/// Reads until it is stopped.
pub(crate) struct Reader {
    child: Child,
    /// How it reads: `mapped` or `lookup`.
    pub(crate) access: String,
    lines: JoinHandle<Vec<String>>,
    said: Arc<AtomicUsize>,
}

/// Its output after the line `ready`.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Shard, ticket and bytes of each record, in the order in which they came.
    pub(crate) records: Vec<(u64, u64, Vec<u8>)>,
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
        let said = Arc::<AtomicUsize>::default();
        let count = said.clone();
        let count = move |_: &String| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        Self { child, access, lines: std::thread::spawn(move || lines.inspect(count).collect()), said }
    }

    /// Whether it has printed this many lines since `ready`, or has ended.
    pub(crate) fn has_said(&self, lines: usize) -> bool {
        self.lines.is_finished() || self.said.load(Ordering::Relaxed) >= lines
    }

    /// Makes it read the rest, and end.
    pub(crate) fn stop(mut self) -> Said {
        drop(self.child.stdin.take());
        let lines = self.lines.join().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status} after {:?}", lines.last());
        let mut said = Said::default();
        lines.iter().for_each(|line| said.add(line));
        said
    }

    /// Its output for the current content.
    pub(crate) fn once(args: &[&str]) -> (String, Said) {
        let reader = Self::start(args);
        (reader.access.clone(), reader.stop())
    }

    /// Its reason to refuse these arguments.
    pub(crate) fn refuses(args: &[&str]) -> String {
        let output = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.starts_with("can't open"), "{args:?}: {said}");
        said
    }

    /// Its first line about a global variable: the variable's position, for processes that can't read types.
    pub(crate) fn place_of(args: &[&str]) -> String {
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

impl Said {
    fn add(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["record", shard, ticket, bytes] => {
                self.records.push((number(shard), number(ticket), hex(bytes)));
            }
            ["value", cpu, index, version, bytes] => {
                self.values.push((number(cpu), number(index), number(version), hex(bytes)));
            }
            ["counter", bank, index, value] => {
                let (at, value) = ((number(bank), number(index)), number(value));
                let before = self.counters.insert(at, value);
                assert!(before < Some(value), "counter {at:?} went from {before:?} to {value}");
            }
            ["tally", delivered, lapped, skipped, discarded, torn, dropped, rings] => {
                let [delivered, lapped, skipped] = [delivered, lapped, skipped].map(number);
                let mut stats = ReadStats::default();
                (stats.delivered, stats.lapped, stats.skipped) = (delivered, lapped, skipped);
                (stats.discarded, stats.torn) = (number(discarded), number(torn));
                (self.stats, self.dropped, self.rings) = (stats, number(dropped), number(rings));
            }
            ["dropped", dropped] => self.dropped = number(dropped),
            ["busy", _] => {}
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
