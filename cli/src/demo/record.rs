//! The published types, the same for BPF programs (`bpf/demo.bpf.c`) and for a process.

use bytemuck::{Pod, Zeroable};
use mapring::{Cells, Counters, Record, Region, Ring};
use syscalls::Sysno;

/// Counters of system calls by number. The last counter is for all numbers without their own.
pub(crate) const CALLS: usize = 512;

/// An event. With its sequence word it fills a cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable, Record)]
#[repr(C)]
pub(crate) struct Event {
    /// Time on the monotonic clock.
    pub(crate) ns: u64,
    /// One of the constants below.
    pub(crate) kind: u16,
    pub(crate) cpu: u16,
    /// The number of a system call, or how often a process was switched in.
    pub(crate) value: u32,
    pub(crate) pid: u32,
    pub(crate) other: u32,
    pub(crate) comm: [u8; 16],
    pub(crate) other_comm: [u8; 16],
}

impl Event {
    /// A CPU switched from one task to another.
    pub(crate) const SWITCH: u16 = 0;
    /// A task made a system call.
    pub(crate) const CALL: u16 = 1;
    /// A process got a CPU this many times since the last pass.
    pub(crate) const RAN: u16 = 2;
    pub(crate) const KINDS: usize = 3;
}

/// The state of a CPU.
#[derive(Clone, Copy, Debug, Pod, Zeroable, Record)]
#[repr(C)]
pub(crate) struct Cpu {
    /// When this state was current, on the monotonic clock.
    pub(crate) ns: u64,
    pub(crate) switches: u64,
    /// The involuntary switches among them.
    pub(crate) preempted: u64,
    /// Idle time until `ns`.
    pub(crate) idle_ns: u64,
    /// The running process; 0 if the CPU is idle.
    pub(crate) pid: u32,
    pub(crate) unused: u32,
    pub(crate) comm: [u8; 16],
}

/// Everything that a producer publishes, open for reading.
pub(crate) struct Feed {
    pub(crate) events: Ring<Event>,
    pub(crate) calls: Counters,
    /// One cell per CPU. A producer that only has the total of all CPUs' switches adds one more cell for it.
    pub(crate) cpus: Cells<Cpu>,
    /// System calls of the reader, if the producer counts them.
    pub(crate) reader_calls: Option<Counters>,
    /// The number of cells for CPUs of this machine, and the number of cells in use.
    pub(crate) machine: usize,
    pub(crate) cells: usize,
}

impl Feed {
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> {
        let some = [self.events.region(), self.calls.region().clone(), self.cpus.region().clone()];
        some.into_iter().chain(self.reader_calls.as_ref().map(|calls| calls.region().clone()))
    }
}

/// The name of a system call.
pub(crate) fn call_name(nr: usize) -> String {
    match Sysno::new(nr) {
        Some(call) => call.name().to_owned(),
        None if nr + 1 == CALLS => "(other)".to_owned(),
        None => format!("number {nr}"),
    }
}

/// A task's name, without characters that control a terminal.
pub(crate) fn task_name(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    let name = String::from_utf8_lossy(&comm[..end]);
    // Drop characters that move the cursor or reverse the text: all that `Debug` escapes, except quotes.
    let shown = |c: char| c.is_ascii_graphic() || c.escape_debug().eq([c]);
    name.chars().map(|c| if shown(c) { c } else { '?' }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A feed as a process publishes it: `machine` CPUs, one shard.
    pub(crate) fn feed(machine: usize) -> Feed {
        Feed {
            events: Ring::create_memfd(256, 1).unwrap(),
            calls: Counters::create_memfd(CALLS, 1).unwrap(),
            cpus: Cells::create_memfd(machine).unwrap(),
            reader_calls: None,
            machine,
            cells: machine,
        }
    }

    #[test]
    fn names_are_fit_to_be_shown() {
        assert_eq!(task_name(b"kworker/0:1\0\x1bxyz"), "kworker/0:1");
        assert_eq!(task_name(b"\x1b[2Jsixteen-byte"), "?[2Jsixteen-byte");
        assert_eq!(task_name(b"\x1b]0;\"x'\\\x07\r\n\xff\xc2\x9bmm"), "?]0;\"x'\\???\u{fffd}?mm");
        let mut comm = [0; 16];
        comm[..11].copy_from_slice("\u{202e}a b\u{2066}\u{e9}".as_bytes());
        assert_eq!(task_name(&comm), "?a b?\u{e9}");
        assert_eq!(call_name(Sysno::futex as usize), "futex");
        assert_eq!((call_name(511).as_str(), call_name(510).as_str()), ("(other)", "number 510"));
    }
}
