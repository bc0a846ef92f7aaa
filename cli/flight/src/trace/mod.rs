//! The formats that events are written in.

mod calls;
mod frames;
mod perfetto;
mod rows;
pub(super) mod stacks;
mod table;

pub(super) use self::calls::Abi;
pub(super) use self::rows::{lock_kind, softirq_name};

use anyhow::Result;
use clap::ValueEnum;
use mapring_kit::table::{Format as Tables, Out};

use super::event::{Event, Gap};
use super::names::{Names, Older};

/// The format of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A trace for <https://ui.perfetto.dev>: threads, CPUs and system calls over time
    Perfetto,
    /// A line of JSON for each event
    Ndjson,
    /// A line of values for each event, after a line of names
    Csv,
    /// As csv, but no text begins as a formula of a spreadsheet: ' stands before =, +, -, @, tab or return
    Spreadsheet,
    /// A table in columns, for databases. The command must be built with the feature `parquet`
    Parquet,
    /// A line for each stack with its count, for the tools of FlameGraph
    Folded,
    /// A profile for `go tool pprof` and Grafana Pyroscope
    Pprof,
    /// A flame graph, for a browser
    Svg,
}

impl Format {
    /// The format of the table, if it is one.
    pub(crate) fn table(self) -> Option<Tables> {
        match self {
            Self::Perfetto | Self::Folded | Self::Pprof | Self::Svg => None,
            Self::Ndjson => Some(Tables::Ndjson),
            Self::Csv => Some(Tables::Csv),
            Self::Spreadsheet => Some(Tables::Spreadsheet),
            Self::Parquet => Some(Tables::Parquet),
        }
    }

    /// The format that is made of stacks, if it is one.
    pub(crate) fn stacks(self) -> Option<stacks::Format> {
        match self {
            Self::Folded => Some(stacks::Format::Folded),
            Self::Pprof => Some(stacks::Format::Pprof),
            Self::Svg => Some(stacks::Format::Svg),
            Self::Perfetto | Self::Ndjson | Self::Csv | Self::Spreadsheet | Self::Parquet => None,
        }
    }

    /// Whether a file without an end makes sense.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Ndjson | Self::Csv | Self::Spreadsheet)
    }
}

/// A file that is being written.
pub(crate) trait Sink {
    /// Writes an event. They come in the order of their stamps, except for late ones.
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()>;

    /// Writes that records are missing.
    fn gap(&mut self, gap: &Gap) -> Result<()>;

    /// Passes on what is buffered.
    fn flush(&mut self) -> Result<()>;

    /// Writes what belongs to the end.
    fn finish(&mut self, _: &mut Names) -> Result<()> {
        self.flush()
    }
}

/// Begins a file. `older` are the threads from before the first event, `zero` is when a trigger stopped the recording.
pub(crate) fn sink(
    format: Format,
    out: Out,
    names: &mut Names,
    older: &[Older],
    zero: Option<u64>,
    stacks: &stacks::Options,
) -> Result<Box<dyn Sink>> {
    Ok(match (format.table(), format.stacks()) {
        (Some(format), _) => Box::new(table::Events::new(format, out, zero, names.machine().wall())?),
        (_, Some(format)) => Box::new(stacks::Writer::new(format, stacks, out)?),
        (None, None) => Box::new(perfetto::Perfetto::new(out, names, older, stacks.symbols()?)?),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use mapring_kit::table::format_of;

    use super::super::event::tests::{comm, event, exec};
    use super::super::event::{Interface, What};
    use super::super::names::Threads;
    use super::super::stack::{Stack, UserFrame};
    use super::*;

    /// A file whose bytes the test keeps.
    #[derive(Clone, Default)]
    pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        pub(super) fn bytes(&self) -> Vec<u8> {
            self.0.lock().unwrap().clone()
        }
    }

    pub(super) const HOSTILE: &str = "\x1b[31m\"a,\n\u{9b}";

    /// An event of each kind, with large values and a hostile name.
    pub(super) fn events() -> Vec<Event> {
        let name = comm(HOSTILE);
        let mut broken = comm("ab");
        broken[1] = 0xff;
        let switch = |next, next_comm| What::Switch {
            state: 1,
            is_killable: false,
            prio: 120,
            next,
            next_prio: -1,
            next_comm,
            quota: 0,
        };
        let all = [
            What::Fork { child_pid: 8, child_tid: 8, comm: comm("child") },
            What::Fork { child_pid: 7, child_tid: 9, comm: comm("thread") },
            What::Waking { task: 8, is_new: true, prio: 120, target: 1, comm: comm("child") },
            What::SyscallEnter { nr: -1, is_32bit: false, args: [u64::MAX; 3] },
            What::SyscallExit { nr: -1, is_32bit: true, ret: i64::MIN },
            What::SyscallEnter { nr: syscalls::Sysno::openat as i32, is_32bit: false, args: [1, 2, 3] },
            What::SyscallExit { nr: syscalls::Sysno::openat as i32, is_32bit: false, ret: -2 },
            What::IrqEnter { irq: u32::MAX },
            What::IrqExit { irq: u32::MAX },
            What::SoftirqEnter { vec: 3 },
            What::SoftirqExit { vec: 3 },
            What::SoftirqEnter { vec: u32::MAX },
            exec(format!("/bin/{HOSTILE}"), HOSTILE),
            What::BlockIssue {
                request: 1,
                dev: 8 << 20 | 1,
                sector: u64::MAX,
                bytes: 4096,
                op: *b"WS\0\0\0\0\0\0",
            },
            What::BlockComplete { request: 1, dev: u32::MAX, sector: 0, bytes: u32::MAX, error: -5 },
            What::NetSend { interface: Interface { index: 1, net_ns: 0 }, bytes: 60 },
            What::NetReceive { interface: Interface { index: 2, net_ns: u64::MAX }, bytes: u32::MAX },
            What::Fault { address: u64::MAX, ip: 0 },
            What::Sample { stack: stack(true) },
            What::Wait { ns: 900, state: 2, is_throttled: false, waker: Some(8), stack: stack(false) },
            What::Wait {
                ns: u64::MAX,
                state: 0x100,
                is_throttled: false,
                waker: None,
                stack: Stack::default(),
            },
            What::Contention { lock: u64::MAX, flags: u32::MAX, ns: u64::MAX, stack: stack(true) },
            What::Trigger { kind: 6, value: 11, pid: 7, tid: 9, comm: name },
            What::Trigger { kind: u32::MAX, value: u64::MAX, pid: u32::MAX, tid: u32::MAX, comm: name },
            What::Mark { text: HOSTILE.into() },
            What::Offline { cpu: u32::MAX },
            What::Hold,
            What::Resume,
            What::Exit { code: 0x100, process: Some(0x100) },
            What::Crash { signal: -11, comm: name },
            switch(8, name),
        ];
        let mut events: Vec<_> = (1000..).zip(all).map(|(ns, what)| event(ns, 7, what)).collect();
        events.push(event(2000, 8, switch(0, comm("swapper/0"))));
        events.push(event(2000, 0, switch(8, broken))); // at the same time
        events.push(Event {
            ns: u64::MAX,
            cpu: u16::MAX,
            pid: u32::MAX,
            tid: u32::MAX,
            what: switch(u32::MAX, name),
        });
        events
    }

    pub(super) fn stack(is_cut: bool) -> Stack {
        let file = UserFrame::File { build_id: [0xab; 20], offset: u64::MAX };
        Stack { kernel: vec![u64::MAX, 0], user: vec![file, UserFrame::Address(0x7f00)], is_cut, began: 0 }
    }

    pub(super) fn gap(since: Option<u64>, until: u64) -> Gap {
        Gap { group: "sched", cpu: 3, count: u64::MAX, cause: "overwritten".into(), since, until }
    }

    /// Writes these events and gaps, and returns the file.
    pub(super) fn written(format: Format, events: &[Event], gaps: &[Gap]) -> Vec<u8> {
        let out = Shared::default();
        let mut names = Names::of_events();
        let mut threads = Threads::since(0);
        events.iter().for_each(|event| threads.see(event));
        let older = names.learn(threads);
        let mut sink =
            sink(format, Box::new(out.clone()), &mut names, &older, Some(1001), &stacks::Options::default())
                .unwrap();
        for event in events {
            names.at(event);
            sink.event(event, &mut names).unwrap();
            names.update(event);
        }
        gaps.iter().for_each(|gap| sink.gap(gap).unwrap());
        sink.finish(&mut names).unwrap();
        out.bytes()
    }

    #[test]
    fn a_full_disk_is_an_error_in_each_format() {
        for format in Format::value_variants() {
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            let mut names = Names::of_events();
            let sink = sink(*format, Box::new(full), &mut names, &[], None, &stacks::Options::default());
            let Ok(mut sink) = sink else { continue };
            let event = &events()[0];
            let outcome = (0..1 << 16).try_for_each(|_| sink.event(event, &mut names));
            assert!(outcome.and_then(|()| sink.finish(&mut names)).is_err(), "{format:?}");
        }
    }

    #[test]
    fn the_name_of_a_trace_says_its_format() {
        for (file, format) in [
            ("a.pftrace", Format::Perfetto),
            ("b.c/d.jsonl", Format::Ndjson),
            ("x.csv", Format::Csv),
            ("a.pb.gz", Format::Pprof),
        ] {
            assert_eq!(format_of(Path::new(file)), Ok(format));
        }
        assert!(
            ["a.txt", "a.csv.gz", "pb.gz"].iter().all(|file| format_of::<Format>(Path::new(file)).is_err())
        );
    }
}
