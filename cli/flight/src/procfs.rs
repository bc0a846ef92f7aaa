//! What /proc says about a process or a thread. It may end between two reads, and its texts may be anything.

use std::fs::File;
use std::io::Read;

use mapring::time::Clock;
use serde::{Deserialize, Serialize};

use crate::text::escape;

/// More of a file is not read: a command line can have megabytes.
const MOST: u64 = 16 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) comm: Vec<u8>,
    /// CLOCK_MONOTONIC in nanoseconds, cut to the kernel's ticks.
    pub(crate) start: u64,
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) uid: Option<u32>,
    /// Its number in each pid namespace that it is in, from the outermost to its own.
    pub(crate) nspids: Vec<u32>,
    /// The inode of its pid namespace, if this process may know it.
    pub(crate) pid_ns: Option<u64>,
    /// Escaped.
    pub(crate) cgroup: String,
    /// Escaped.
    pub(crate) cmdline: Vec<String>,
}

/// Converts the ticks in /proc to nanoseconds of CLOCK_MONOTONIC.
pub(crate) struct Ticks {
    tick: u64,
    ahead: i64,
}

impl Ticks {
    pub(crate) fn new() -> Self {
        let boot = Clock::Boottime;
        // /proc shows the start of a process on CLOCK_BOOTTIME as it is in this time namespace.
        let ahead = boot.now().wrapping_sub(Clock::Monotonic.now()).cast_signed();
        let ahead = ahead.saturating_add(boot.ahead().unwrap_or(0));
        Self { tick: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1), ahead }
    }

    fn ns(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.tick).saturating_add_signed(self.ahead.saturating_neg())
    }
}

/// Whether /proc numbers processes as the records do: as the initial pid namespace.
pub(crate) fn is_initial_namespace() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFC; // PROC_PID_INIT_INO
    namespace("self", "pid") == Some(INITIAL)
}

/// `None` if no such process or thread is present.
pub(crate) fn process(tid: u32, ticks: &Ticks) -> Option<Process> {
    let file = |name| read(&format!("/proc/{tid}/{name}"));
    let mut process = parse_stat(&file("stat")?, ticks)?;
    parse_status(&file("status")?, &mut process);
    process.pid_ns = namespace(&tid.to_string(), "pid");
    process.cgroup = cgroup(&file("cgroup").unwrap_or_default());
    process.cmdline = cmdline(&file("cmdline").unwrap_or_default());
    Some(process)
}

/// Those that were present, by their numbers.
#[derive(Default)]
pub(crate) struct Present {
    pub(crate) all: Vec<(u32, Process)>,
    /// Command lines, or threads, are left out.
    pub(crate) is_cut: bool,
}

/// All processes, and then their other threads, without the command line that they share. Of what takes more than `most` bytes
/// of JSON, command lines are left out first. Empty if /proc numbers them in another way than the records.
pub(crate) fn all(most: usize) -> Present {
    let numbers = |dir: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    };
    let ticks = Ticks::new();
    let pids: Vec<_> = is_initial_namespace().then(|| numbers("/proc")).into_iter().flatten().collect();
    let threads = |&pid: &u32| numbers(&format!("/proc/{pid}/task")).filter(move |tid| *tid != pid);
    let bytes_of = |process: &Process| serde_json::to_string(process).map_or(0, |text| text.len() + 16);
    let (mut present, mut bytes) = (Present::default(), 0);
    for tid in pids.iter().copied().chain(pids.iter().flat_map(threads)) {
        let Some(mut process) = process(tid, &ticks) else { continue };
        let is_too_long = bytes + bytes_of(&process) > most / 2;
        present.is_cut |= is_too_long && process.pid == tid && !process.cmdline.is_empty();
        if is_too_long || process.pid != tid {
            process.cmdline.clear();
        }
        bytes += bytes_of(&process);
        if bytes > most {
            present.is_cut = true;
            break;
        }
        present.all.push((tid, process));
    }
    present
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Who handles this interrupt, escaped.
pub(crate) fn irq(number: u32) -> Option<String> {
    let text = read(&format!("/sys/kernel/irq/{number}/actions"))?;
    Some(escape(text.trim_ascii())).filter(|name| !name.is_empty())
}

/// The interrupts of this machine that somebody handles.
pub(crate) fn irqs() -> Vec<(u32, String)> {
    let all = std::fs::read_dir("/sys/kernel/irq").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|number| Some((number, irq(number)?))).collect()
}

/// The inode in `pid:[4026531836]`, for a kind of namespace.
pub(crate) fn namespace(process: &str, kind: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{process}/ns/{kind}")).ok()?;
    link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// A name can contain blanks and parentheses: the last closing parenthesis ends it.
fn parse_stat(text: &[u8], ticks: &Ticks) -> Option<Process> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let comm = text.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(4 - 3)?.parse().ok()?;
    let start = fields.nth(22 - 5)?.parse().ok()?;
    Some(Process { comm, start: ticks.ns(start), parent, ..Process::default() })
}

/// The kernel escapes newlines in the name, so each line is a field.
fn parse_status(text: &[u8], process: &mut Process) {
    let text = String::from_utf8_lossy(text);
    for line in text.lines() {
        let Some((key, values)) = line.split_once(':') else { continue };
        let mut values = values.split_ascii_whitespace().map_while(|value| value.parse().ok());
        match key {
            "Tgid" => process.pid = values.next().unwrap_or(0),
            "Uid" => process.uid = values.next(),
            "NSpid" => process.nspids = values.collect(),
            _ => {}
        }
    }
}

/// The path in the unified hierarchy, or in the first hierarchy of version 1.
fn cgroup(text: &[u8]) -> String {
    let lines = || text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let unified = lines().find_map(|line| line.strip_prefix(b"0::"));
    let path = unified.or_else(|| lines().next()?.splitn(3, |&byte| byte == b':').nth(2));
    escape(path.unwrap_or_default())
}

fn cmdline(text: &[u8]) -> Vec<String> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() { Vec::new() } else { text.split(|&byte| byte == 0).map(escape).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS: Ticks = Ticks { tick: 10_000_000, ahead: 0 };

    #[test]
    fn hostile_files() {
        for text in [&b""[..], b"1", b"1 (", b"1 )(", b"1 (a", b"1 (a) R", b"1 (a) R x", b"\xff (\xff) \xff"]
        {
            assert_eq!(parse_stat(text, &TICKS), None, "{text:?}");
        }
        let text = format!("1 (a) ) \n(b)) R 7 {} 99999999999999999999", "0 ".repeat(17));
        assert_eq!(parse_stat(text.as_bytes(), &TICKS), None);
        let text = format!("1 (a) ) \n(b)) R 7 {}18446744073709551615", "0 ".repeat(17));
        let stat = parse_stat(text.as_bytes(), &TICKS).unwrap();
        assert_eq!((&stat.comm[..], stat.start, stat.parent), (&b"a) ) \n(b)"[..], u64::MAX, 7));
        let mut process = Process::default();
        parse_status(b"Name:\tx\nTgid:\t12\nUid:\t-1 0\nNSpid:\t12 x 3\n\xff:\xff\nnone\n", &mut process);
        assert_eq!((process.pid, process.uid, process.nspids), (12, None, vec![12]));
        assert_eq!(cgroup(b"12:cpu:/a\n0::/b\x1b[m\n"), "/b\\u{1b}[m");
        assert_eq!([cgroup(b""), cgroup(b"x"), cgroup(b"1:name=x:/c:d\n2:y:/e\n")], ["", "", "/c:d"]);
        assert_eq!(cmdline(b"a\0\0b\xff\0"), ["a", "", "b\\xff"]);
        assert!(cmdline(b"").is_empty() && process_is_absent());
    }

    fn process_is_absent() -> bool {
        process(u32::MAX, &TICKS).is_none()
    }

    #[test]
    fn this_process() {
        let pid = std::process::id();
        let me = process(pid, &Ticks::new()).unwrap();
        assert_eq!((me.pid, me.nspids.last().copied()), (pid, Some(pid)));
        let present = all(64 << 20);
        let found = |tid| present.all.iter().find(|(found, _)| *found == tid).map(|(_, process)| process);
        if is_initial_namespace() {
            // Tests run in threads of their own.
            let tid = rustix::thread::gettid().as_raw_pid().cast_unsigned();
            let thread = found(tid).unwrap();
            assert!(!present.is_cut && found(pid).unwrap().cmdline == me.cmdline);
            assert!(tid != pid && thread.pid == pid && thread.cmdline.is_empty());
            let few = all(20_000);
            assert!(few.is_cut && serde_json::to_string(&few.all).unwrap().len() <= 20_000);
        }
        assert!(me.start <= Clock::Monotonic.now() && me.pid_ns.is_some() && !me.cmdline.is_empty());
    }
}
