//! Processes by pid and start: which one this is, and whether another one lives.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::abi::Process;
use crate::error::{Error, Result};

/// This process. Makes system calls: a child of `fork` is another process.
pub(crate) fn this_process() -> Result<Process> {
    let pid = std::process::id();
    let stat = fs::read("/proc/self/stat").map_err(|e| Error::system("open(/proc/self/stat)", e))?;
    match Stat::parse(&stat) {
        Some(stat) => Ok(Process { pid, start: stat.start }),
        None => Err(Error::system("read(/proc/self/stat)", Errno::INVAL)),
    }
}

impl Process {
    /// Whether the process lives. True if this can't be known, because procfs hides it. A process of another PID namespace
    /// seems to have ended. Makes system calls.
    pub fn is_alive(self) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // EPERM: it exists.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return false;
        }
        match fs::read(format!("/proc/{}/stat", self.pid)).ok().as_deref().and_then(Stat::parse) {
            Some(stat) => stat.start == self.start && !stat.ended,
            None => test_kill_process(pid) != Err(Errno::SRCH),
        }
    }
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    /// When it started, in clock ticks since boot; the lowest 42 bits.
    start: u64,
    /// It has ended, but its parent has not waited for it yet.
    ended: bool,
}

impl Stat {
    /// The name in parentheses can contain anything, also parentheses.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = str::from_utf8(&stat[name + 1..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?; // field 3
        let threads: u64 = fields.nth(16)?.parse().ok()?; // field 20
        let start: u64 = fields.nth(1)?.parse().ok()?; // field 22
        // The first thread of a process can end before the others.
        let ended = matches!(state, "Z" | "X") && threads <= 1;
        Some(Self { start: start & (u64::MAX >> 22), ended })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn processes_are_told_apart_by_their_start() {
        let me = this_process().unwrap();
        assert!(me.pid == std::process::id() && me.start > 0 && me.is_alive());
        assert!(!Process { start: me.start - 1, ..me }.is_alive(), "an earlier process with this pid");
        assert!(!Process { pid: (1 << 22) - 1, ..me }.is_alive() && !Process { pid: 0, ..me }.is_alive());
        assert_eq!(Process::decode(me.encode()), Some(me));
    }

    #[test]
    fn a_process_lives_until_it_ends() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let stat = || Stat::parse(&fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap();
        let owner = Process { pid, start: stat().start };
        assert!(owner.is_alive());
        child.kill().unwrap();
        while !stat().ended {
            std::thread::yield_now();
        }
        assert!(!owner.is_alive(), "a zombie");
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }

    #[test]
    fn any_name_is_skipped() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 0 4711 20";
        for (state, ended) in [("S", false), ("Z", false)] {
            let stat = format!("7 (a) Z (b) {state} {rest}");
            let stat = Stat::parse(stat.as_bytes()).unwrap();
            assert_eq!((stat.start, stat.ended), (4711, ended), "a zombie has other threads");
        }
        for broken in ["", "7 (a", "7 (a) S", "7 (a) S x"] {
            assert!(Stat::parse(broken.as_bytes()).is_none(), "{broken}");
        }
    }
}
