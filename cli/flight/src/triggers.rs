//! The conditions that stop a recording: their table, from which help and errors come, and the expressions that name them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use mapring_kit::output;
use nix::sys::signal::Signal;
use syscalls::Sysno;

#[cfg(feature = "bpf")]
use crate::event::Comm;

/// What a trigger is about. The numbers, and all that is here, are in `bpf/triggers.bpf.h` too.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) number: u32,
    /// When it stops the recording.
    about: &'static str,
    /// The programs that find it. The name of each begins with its group.
    pub(crate) programs: &'static [&'static str],
    pub(crate) tracepoint: &'static str,
    /// It takes a time: `> 50ms`.
    pub(crate) is_time: bool,
    fields: &'static [Field],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// The name of a system call, before the time.
    Call,
    Signal,
    Comm,
    Pid,
    Uid,
}

use Field::{Call, Comm as Name, Pid, Signal as By, Uid};

/// The kernel's programs compare as many.
pub(crate) const MOST: usize = 8;
/// The table of waits has times of 26 days.
const LONGEST: Duration = Duration::from_secs(20 * 24 * 60 * 60);

const SCHED: &[&str] = &["sched_switch", "sched_old_switch", "sched_waking", "sched_new"];
const CALLS: &[&str] = &["syscalls_enter", "syscalls_exit"];
const SOFTIRQS: &[&str] = &["irq_soft_enter", "irq_soft_exit"];

/// All triggers.
pub(crate) static KINDS: [Kind; 12] = [
    event(
        "runqueue",
        1,
        "a thread that can run waits longer for a CPU",
        SCHED,
        "sched_switch",
        &[Name, Pid, Uid],
    )
    .timed(),
    event(
        "blocked",
        2,
        "a thread was blocked longer (state D of ps)",
        SCHED,
        "sched_switch",
        &[Name, Pid, Uid],
    )
    .timed(),
    event("syscall", 3, "a system call took longer", CALLS, "sys_exit", &[Call, Name, Pid, Uid]).timed(),
    event("irq", 4, "an interrupt took longer", &["irq_enter", "irq_exit"], "irq_handler_exit", &[]).timed(),
    event("softirq", 5, "a softirq took longer", SOFTIRQS, "softirq_exit", &[]).timed(),
    event(
        "exit",
        6,
        "a thread ends, or a process crashes",
        &["exec_exit", "exec_crash"],
        "sched_process_exit",
        &[By, Name, Pid, Uid],
    ),
    event("oom", 7, "memory is full, and the kernel kills", OOM, "mark_victim", &[Name, Pid, Uid]),
    event(
        "hung",
        8,
        "a thread is blocked for long",
        &["marks_hung"],
        "sched_process_hang",
        &[Name, Pid, Uid],
    ),
    event("rcu_stall", 9, "a CPU holds up RCU", &["marks_rcu_stall"], "rcu_stall_warning", &[]),
    event("machine_check", 10, "the CPU reports an error", &["marks_machine_check"], "mce_record", &[]),
    event("memory_error", 11, "memory reports an error", &["marks_memory_error"], "mc_event", &[]),
    event(
        "quota",
        12,
        "a thread waits longer for the CPU quota of its cgroup",
        SCHED,
        "sched_switch",
        &[Name, Pid, Uid],
    )
    .timed(),
];

const OOM: &[&str] = &["marks_oom", "marks_old_oom"];

const fn event(
    name: &'static str,
    number: u32,
    about: &'static str,
    programs: &'static [&'static str],
    tracepoint: &'static str,
    fields: &'static [Field],
) -> Kind {
    Kind { name, number, about, programs, tracepoint, is_time: false, fields }
}

/// The kind of this number.
pub(crate) fn kind(number: u32) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.number == number)
}

/// A condition that stops the recording.
#[derive(Clone)]
pub(crate) struct Trigger {
    pub(crate) kind: &'static Kind,
    /// It holds for longer times.
    time: Duration,
    call: Option<Sysno>,
    signal: Option<Signal>,
    pub(crate) comm: Option<String>,
    pid: Option<u32>,
    uid: Option<u32>,
}

/// Reads an expression such as `syscall fsync > 2s comm=nginx`. Words are quoted as in a shell: `comm="V8 WorkerThread"`.
///
/// # Errors
/// In words, with what is known at that place and the nearest name.
pub(crate) fn parse(text: &str) -> Result<Trigger, String> {
    let name = text.split(|c: char| c.is_whitespace() || c == '>').find(|word| !word.is_empty());
    let name = name.ok_or_else(|| format!("a trigger is one of {}", list(names())))?;
    let kind =
        KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| unknown("trigger", name, names()))?;
    let mut trigger =
        Trigger { kind, time: Duration::ZERO, call: None, signal: None, comm: None, pid: None, uid: None };
    let (event, fields) = match kind.is_time {
        true => text.split_once('>').unwrap_or((text, "")),
        false => (text, ""),
    };
    let words = |text| shlex::split(text).ok_or_else(|| format!("a quote of {text:?} has no end"));
    let (event, fields) = (words(event)?, words(fields)?);
    let mut words = event[1..].iter().chain(&fields).map(String::as_str);
    if kind.fields.contains(&Call) {
        let calls = || Sysno::iter().map(|call| call.name());
        let call = event.get(1).and_then(|_| words.next());
        let call = call.ok_or_else(|| format!("{name} needs the name of a system call: {}", kind.usage()))?;
        trigger.call = Some(call.parse().map_err(|_| unknown("system call", call, calls()))?);
    }
    if kind.is_time {
        let time = fields.first().and_then(|_| words.next());
        let time = time.ok_or_else(|| format!("{name} needs a time: {}", kind.usage()))?;
        trigger.time = output::span(time).map_err(|how| format!("the time {time} of {name}: {how}"))?;
        if trigger.time > LONGEST {
            return Err(format!("the time {time} of {name}: the longest is 20d"));
        }
    }
    for word in words {
        let (field, value) = word.split_once('=').unwrap_or((word, ""));
        let fields = || kind.fields.iter().filter_map(|field| field.name());
        let found = kind.fields.iter().find(|known| known.name() == Some(field));
        let is_twice = match found.ok_or_else(|| unknown(&format!("field of {name}"), field, fields()))? {
            By => trigger.signal.replace(signal(value)?).is_some(),
            Name if (1..16).contains(&value.len()) && !value.contains(char::is_control) => {
                trigger.comm.replace(value.to_owned()).is_some()
            }
            Name => {
                return Err(format!(
                    "comm={value:?}: the name of a thread has 1 to 15 bytes, all of them printable"
                ));
            }
            Uid => {
                // The last number means no user.
                let uid = value.parse().ok().filter(|uid| *uid != u32::MAX);
                trigger
                    .uid
                    .replace(uid.ok_or_else(|| format!("uid={value}: write it as uid=1000"))?)
                    .is_some()
            }
            Pid | Call => {
                let pid = value.parse().ok().filter(|pid| *pid > 0);
                trigger
                    .pid
                    .replace(pid.ok_or_else(|| format!("pid={value}: write it as pid=4711"))?)
                    .is_some()
            }
        };
        if is_twice {
            return Err(format!("{field} is there twice: a trigger has one"));
        }
    }
    Ok(trigger)
}

fn signal(value: &str) -> Result<Signal, String> {
    let by_number = value.parse().ok().and_then(|number: i32| Signal::try_from(number).ok());
    let by_name = || value.parse().or_else(|_| format!("SIG{value}").parse()).ok();
    by_number.or_else(by_name).ok_or_else(|| unknown("signal", value, Signal::iterator().map(Signal::as_str)))
}

fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Says that a name is not known, what is, and which is nearest. Lists that are too long for a line are left out.
fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let known: Vec<_> = known.collect();
    let mut message = format!("{name:?} is not a {what}");
    let nearest = known.iter().map(|known| (distance(name, known), known)).min();
    if let Some((_, nearest)) = nearest.filter(|(distance, known)| *distance <= known.len().div_ceil(2)) {
        let _ = write!(message, "; the nearest is {nearest}");
    }
    match known.len() {
        0 => message.push_str("; it has none"),
        1..=40 => {
            let _ = write!(message, "; known are {}", list(known.iter().copied()));
        }
        _ => {}
    }
    message
}

/// How many letters must change.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let least =
                (before + usize::from(!x.eq_ignore_ascii_case(&y))).min(row[j] + 1).min(row[j + 1] + 1);
            before = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.len()]
}

impl Field {
    fn name(self) -> Option<&'static str> {
        match self {
            Call => None,
            By => Some("signal"),
            Name => Some("comm"),
            Pid => Some("pid"),
            Uid => Some("uid"),
        }
    }
}

impl Kind {
    /// The same with a time.
    const fn timed(self) -> Self {
        Self { is_time: true, ..self }
    }

    /// How an expression of this kind is written.
    fn usage(&self) -> String {
        let call = if self.fields.contains(&Call) { " NAME" } else { "" };
        let time = if self.is_time { " > TIME" } else { "" };
        let field = |field: &Field| Some(format!(" [{}=…]", field.name()?));
        format!("{}{call}{time}{}", self.name, self.fields.iter().filter_map(field).collect::<String>())
    }
}

/// As it is written.
impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.name)?;
        self.call.map_or(Ok(()), |call| write!(f, " {call}"))?;
        if self.kind.is_time {
            write!(f, " > {}", humantime::format_duration(self.time))?;
        }
        self.signal.map_or(Ok(()), |signal| write!(f, " signal={signal}"))?;
        let quoted = self.comm.as_ref().map(|comm| shlex::try_quote(comm).unwrap_or_default());
        quoted.map_or(Ok(()), |comm| write!(f, " comm={comm}"))?;
        self.pid.map_or(Ok(()), |pid| write!(f, " pid={pid}"))?;
        self.uid.map_or(Ok(()), |uid| write!(f, " uid={uid}"))
    }
}

/// The help of `start`: all triggers, and whether this kernel has them.
pub(crate) fn help() -> String {
    // clap wants it each time, and the kernel's types have megabytes.
    let is_asked = std::env::args_os().any(|arg| arg == "--help" || arg == "-h" || arg == "help");
    let kernel = if is_asked { fs::read("/sys/kernel/btf/vmlinux").ok() } else { None };
    let names = |types: &Vec<u8>| -> HashSet<Vec<u8>> {
        types
            .split(|byte| *byte == 0)
            .filter_map(|name| name.strip_prefix(b"btf_trace_"))
            .map(<[u8]>::to_vec)
            .collect()
    };
    let has = kernel.as_ref().map(names);
    let mut help = "Triggers, and when they stop the recording:\n".to_owned();
    for kind in &KINDS {
        let is_there = has.as_ref().is_none_or(|has| has.contains(kind.tracepoint.as_bytes()));
        let lacks = if is_there { "" } else { " (this kernel lacks it)" };
        let _ = writeln!(help, "  {}: {}{lacks}", kind.usage(), kind.about);
    }
    help + "At most 8 can be armed. TIME is 500us, 50ms, 2s or 1m."
}

/// A condition as programs compare it: `struct condition`.
#[cfg(feature = "bpf")]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Condition {
    least: u64,
    comm: Comm,
    mask: Comm,
    kind: u32,
    number: i32,
    pid: u32,
    uid: u32,
}

/// The constants of a group's programs.
#[cfg(feature = "bpf")]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Constants {
    after: u64,
    armed: u32,
    only: u32,
    conditions: [Condition; MOST],
}

#[cfg(feature = "bpf")]
impl Constants {
    /// `only`: the group is not recorded.
    pub(crate) fn new(triggers: &[Trigger], after: Duration, only: bool) -> Self {
        let mut constants: Self = bytemuck::Zeroable::zeroed();
        constants.after = nanoseconds(after).min(u64::MAX >> 1); // programs add it to a time
        constants.only = only.into();
        for (condition, trigger) in constants.conditions.iter_mut().zip(triggers) {
            constants.armed |= 1 << trigger.kind.number;
            *condition = trigger.condition();
        }
        constants
    }
}

#[cfg(feature = "bpf")]
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(feature = "bpf")]
impl Trigger {
    fn condition(&self) -> Condition {
        let number = self.call.map(|call| call.id()).or(self.signal.map(|signal| signal as i32));
        let (mut comm, mut mask) = (Comm::default(), Comm::default());
        // The kernel may leave bytes of an older name after the zero.
        if let Some(name) = &self.comm {
            comm[..name.len()].copy_from_slice(name.as_bytes());
            mask[..=name.len()].fill(0xff);
        }
        Condition {
            least: if self.kind.is_time { nanoseconds(self.time).saturating_add(1) } else { 0 },
            comm,
            mask,
            kind: self.kind.number,
            number: number.unwrap_or(-1),
            pid: self.pid.unwrap_or(0),
            uid: self.uid.map_or(0, |uid| uid + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).map(|trigger| trigger.to_string()).unwrap_err()
    }

    #[test]
    fn expressions_are_read_as_they_are_written() {
        for text in [
            "oom",
            "oom comm=postgres",
            "exit signal=SIGSEGV comm=postgres uid=26",
            "runqueue > 50ms",
            "blocked > 30s comm=nginx pid=12",
            "syscall fsync > 2s",
            "irq > 5ms",
            "hung",
            "exit comm='V8 WorkerThread'",
            "blocked > 1s comm='a>b' pid=3",
            "oom comm='GC Thread#0'",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse(" syscall  fsync>2000ms").unwrap().to_string(), "syscall fsync > 2s");
        for text in
            ["exit comm=\"V8 WorkerThread\"", "exit 'comm=V8 WorkerThread'", "exit comm=V8\\ WorkerThread"]
        {
            assert_eq!(parse(text).unwrap().comm.as_deref(), Some("V8 WorkerThread"), "{text}");
        }
        assert_eq!(parse("exit comm=\"postgres\"").unwrap().to_string(), "exit comm=postgres");
        assert_eq!(parse("exit comm=a>b").unwrap().comm.as_deref(), Some("a>b"));
        for signal in ["11", "SEGV"] {
            assert_eq!(parse(&format!("exit signal={signal}")).unwrap().to_string(), "exit signal=SIGSEGV");
        }
    }

    #[test]
    fn a_wrong_expression_is_refused_with_what_is_known_there() {
        for (text, parts) in [
            ("", &["a trigger is one of runqueue, blocked, "][..]),
            ("oon", &["\"oon\" is not a trigger; the nearest is oom; known are runqueue, "]),
            ("zzzzzzzz", &["\"zzzzzzzz\" is not a trigger; known are"]),
            ("syscall fsinc > 2s", &["\"fsinc\" is not a system call; the nearest is fsync"]),
            (
                "syscall > 2s",
                &["needs the name of a system call: syscall NAME > TIME [comm=…] [pid=…] [uid=…]"],
            ),
            ("runqueue", &["runqueue needs a time: runqueue > TIME"]),
            ("runqueue >", &["runqueue needs a time"]),
            ("runqueue > long", &["the time long of runqueue: write it as 500ms"]),
            ("blocked > 480h1s", &["the longest is 20d"]),
            (
                "exit signl=SIGSEGV",
                &[
                    "\"signl\" is not a field of exit; the nearest is signal; known are signal, comm, pid, uid",
                ],
            ),
            (
                "exit signal=SIGSEGF",
                &["\"SIGSEGF\" is not a signal; the nearest is SIGSEGV; known are SIGHUP, "],
            ),
            ("irq > 5ms comm=a", &["\"comm\" is not a field of irq; it has none"]),
            ("exit comm=0123456789abcdef", &["1 to 15 bytes"]),
            ("exit comm=", &["1 to 15 bytes"]),
            ("exit pid=0", &["write it as pid=4711"]),
            ("exit uid=root", &["write it as uid=1000"]),
            ("exit comm='a", &["has no end"]),
            ("exit comm=a comm=b", &["comm is there twice"]),
            ("exit comm='a\nb'", &["all of them printable"]),
            ("exit comm=V8 WorkerThread", &["\"WorkerThread\" is not a field of exit"]),
        ] {
            let message = refused(text);
            assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        }
    }

    #[test]
    fn all_triggers_are_in_the_help_and_have_numbers_of_their_own() {
        let help = help();
        for (at, kind) in KINDS.iter().enumerate() {
            assert!(help.contains(&format!("  {}: ", kind.usage())), "{help}");
            assert_eq!(usize::try_from(kind.number), Ok(at + 1));
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }

    #[test]
    #[cfg(feature = "bpf")]
    fn a_name_is_compared_up_to_its_end() {
        let triggers = ["exit signal=SIGSEGV comm=ab", "syscall read > 0s"].map(|text| parse(text).unwrap());
        let constants = Constants::new(&triggers, Duration::from_secs(5), true);
        let [exit, read] = [constants.conditions[0], constants.conditions[1]];
        assert_eq!((exit.mask[..4].to_vec(), exit.number, exit.least), (vec![255, 255, 255, 0], 11, 0));
        assert_eq!((read.mask, read.number, read.least), (Comm::default(), 0, 1));
        assert_eq!((constants.armed, constants.only, constants.after), (1 << 6 | 1 << 3, 1, 5_000_000_000));
    }
}
