//! Processes by pid and start: which one this is, and whether another one lives.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::Mapping;
use crate::abi::Process;
use crate::abi::readers::Owner;
use crate::error::{Error, Result};
use crate::time::Clock;

/// This process. Makes system calls: a child of `fork` is another process.
pub(crate) fn this_process() -> Result<Process> {
    let pid = std::process::id();
    let stat = fs::read("/proc/self/stat").map_err(|e| Error::system("open(/proc/self/stat)", e))?;
    match Stat::parse(&stat) {
        Some(stat) => Ok(Process { pid, start: stat.start }),
        None => Err(Error::system("read(/proc/self/stat)", Errno::INVAL)),
    }
}

/// This process as the owner of a seat. Makes system calls.
pub(crate) fn this_owner() -> Result<Owner> {
    let Process { pid, start } = this_process()?;
    let namespace = namespace().map_err(|e| Error::system("stat(/proc/self/ns/pid)", e))?;
    Ok(Owner::new(pid, without_offset(start), namespace))
}

/// The inode of this process's PID namespace.
fn namespace() -> std::io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino())
}

/// The pid of this process. Makes a system call only for the first time in each process: the word that keeps it is 0 in a
/// child of `fork`.
pub(crate) fn this_pid() -> u32 {
    static KEPT: OnceLock<Option<Mapping>> = OnceLock::new();
    let kept = KEPT.get_or_init(|| Mapping::wiped_on_fork().ok());
    let Some(word) = kept.as_ref().and_then(Mapping::words_mut) else { return std::process::id() };
    u32::try_from(word.load(0, Ordering::Relaxed)).ok().filter(|&pid| pid != 0).unwrap_or_else(|| {
        let pid = std::process::id();
        word.store(0, pid.into(), Ordering::Relaxed);
        pid
    })
}

/// A start in ticks as processes in no time namespace see it. It may be one too high.
fn without_offset(start: u64) -> u64 {
    let tick = 1_000_000_000 / i64::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
    start.wrapping_sub(Clock::Boottime.ahead().unwrap_or(0).div_euclid(tick).cast_unsigned())
}

/// Whether the processes in procfs are those of this process's PID namespace.
fn procfs_is_own() -> bool {
    fs::read_link("/proc/self").is_ok_and(|me| me.as_os_str() == this_pid().to_string().as_str())
}

/// Whether the owner of a seat lives. `None` if it is of another PID namespace. True if procfs hides it. Makes system calls.
pub(crate) fn owner_is_alive(owner: Owner) -> Option<bool> {
    let Owner { pid, start, .. } = owner;
    let here = Owner::new(pid, start.into(), namespace().ok()?) == owner;
    let same = |found: u64| {
        let found = Owner::new(pid, without_offset(found), 0).start;
        // With the offset of a time namespace it may be one too high.
        [found, found.wrapping_add(1), found.wrapping_sub(1)]
            .map(|it| Owner::new(0, it.into(), 0).start)
            .contains(&start)
    };
    here.then(|| lives(pid, same))
}

/// Whether a process lives. True if this can't be known, because procfs hides it. A process of another PID namespace seems to
/// have ended. Makes system calls.
pub fn is_alive(process: Process) -> bool {
    lives(process.pid, |start| start == process.start)
}

/// Whether the process with this pid in this namespace lives and has the right start.
fn lives(pid: u32, is_start: impl Fn(u64) -> bool) -> bool {
    let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // EPERM: it exists.
    let exists = || test_kill_process(known) != Err(Errno::SRCH);
    if !exists() {
        return false;
    }
    let stat = fs::read(format!("/proc/{pid}/stat")).ok();
    match stat.as_deref().and_then(Stat::parse).filter(|_| procfs_is_own()) {
        Some(stat) => is_start(stat.start) && !stat.ended,
        None => exists(),
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
        assert!(me.pid == std::process::id() && me.start > 0 && is_alive(me));
        assert!(!is_alive(Process { start: me.start - 1, ..me }), "an earlier process with this pid");
        assert!(!is_alive(Process { pid: (1 << 22) - 1, ..me }) && !is_alive(Process { pid: 0, ..me }));
        assert_eq!(Process::decode(me.encode()), Some(me));
    }

    #[test]
    fn a_process_lives_until_it_ends() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let stat = || Stat::parse(&fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap();
        let owner = Process { pid, start: stat().start };
        assert!(is_alive(owner));
        child.kill().unwrap();
        while !stat().ended {
            std::thread::yield_now();
        }
        assert!(!is_alive(owner), "a zombie");
        child.wait().unwrap();
        assert!(!is_alive(owner));
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
