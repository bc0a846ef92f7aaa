//! Recorders of scheduling events and system calls: the flight recorder, ftrace, `perf record` and `trace-cmd record`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use super::switches::pipes;
use crate::programs::load;
use crate::programs::skel::clock::ClockSkel;

/// The pins of the flight recorder that is measured.
const PINS: &str = "/sys/fs/bpf/mapring-bench";
/// The ftrace instance, which has its own buffer.
const INSTANCE: &str = "/sys/kernel/tracing/instances/mapring-bench";
/// Bytes of a recording that is dumped.
const SIZE: u64 = 64 << 20;

/// The command `mapring`, built by `cargo xtask bench`.
pub(crate) fn command() -> Result<&'static Path> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let path = FOUND.get_or_init(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release/mapring"));
    ensure!(path.exists(), "no {}: cargo build --release -p mapring-cli --features bpf", path.display());
    Ok(path)
}

/// A folder in memory, removed in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/mapring-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Records switches, wakeups or system calls.
pub(super) trait Recorder {
    fn start(&self) -> Result<Running>;
}

/// A recorder that runs. When it is stopped, it returns how many events it recorded.
pub(super) struct Running(Box<dyn FnOnce() -> Result<u64>>);

impl Running {
    pub(super) fn stop(self) -> Result<u64> {
        (self.0)()
    }
}

/// What can be made a trace or text, again and again.
pub(super) struct Recording {
    program: PathBuf,
    args: Vec<String>,
    events: u64,
}

impl Recording {
    /// Returns the CPU time for each event, in nanoseconds.
    pub(super) fn dump(&self) -> Result<f64> {
        let used = cpu_time(Command::new(&self.program).args(&self.args))?;
        Ok(used.as_nanos() as f64 / self.events as f64)
    }
}

/// The CPU time of a command and its children.
pub(super) fn cpu_time(command: &mut Command) -> Result<Duration> {
    let used = || -> Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok((usage.user_time() + usage.system_time()).num_microseconds())
    };
    let before = used()?;
    output(command)?;
    Ok(Duration::from_micros(u64::try_from(used()? - before)?))
}

/// Runs a command and returns what it printed, on both streams.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?}: {}: {text}", output.status);
    Ok(text)
}

/// A BPF program of switches that only reads the clock, and records nothing.
pub(super) struct ClockOnly(ClockSkel<'static>);

impl ClockOnly {
    pub(super) fn load() -> Result<Self> {
        Ok(Self(load!(clock::ClockSkelBuilder)))
    }
}

impl Recorder for ClockOnly {
    fn start(&self) -> Result<Running> {
        let link = self.0.progs.clock_switch.attach()?;
        Ok(Running(Box::new(move || {
            drop(link);
            Ok(u64::MAX)
        })))
    }
}

/// BPF programs of system calls that do nothing.
pub(super) struct Empty(ClockSkel<'static>);

impl Empty {
    pub(super) fn load() -> Result<Self> {
        Ok(Self(load!(clock::ClockSkelBuilder)))
    }
}

impl Recorder for Empty {
    fn start(&self) -> Result<Running> {
        let links = [self.0.progs.empty_enter.attach()?, self.0.progs.empty_exit.attach()?];
        Ok(Running(Box::new(move || {
            drop(links);
            Ok(u64::MAX)
        })))
    }
}

/// `mapring flight`, whose recording has stopped.
pub(super) struct Held(pub(super) Flight);

impl Recorder for Held {
    fn start(&self) -> Result<Running> {
        let running = self.0.start()?;
        Flight::run(&["hold"])?;
        Ok(Running(Box::new(move || {
            let _ = running.stop()?;
            Ok(u64::MAX)
        })))
    }
}

/// `mapring flight`: its groups, of which the first one is counted, and other options.
pub(super) struct Flight(pub(super) &'static [&'static str]);

impl Flight {
    pub(super) fn run(args: &[&str]) -> Result<String> {
        output(Command::new(command()?).args(["flight", "--pins", PINS]).args(args))
    }

    /// The number before a word.
    fn number_before(text: &str, word: &str) -> Result<u64> {
        let words: Vec<_> = text.split_whitespace().collect();
        let at = words.iter().position(|found| found.trim_matches([',', '.']) == word);
        let number = at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok());
        number.with_context(|| format!("no number of {word}: {text}"))
    }

    /// Fills the rings. They stay until the recorder is stopped.
    pub(super) fn record(&self, scratch: &Scratch) -> Result<(Running, Recording)> {
        let running = self.start_with(&format!("{SIZE}"))?;
        let trace = scratch.file("trace.pftrace");
        let dump = ["flight", "--pins", PINS, "dump", "--force", "--out", &trace].map(str::to_owned);
        let mut events = 0;
        // Until older events are overwritten.
        loop {
            pipes()?;
            let now = Self::number_before(&Self::run(&["dump", "--force", "--out", &trace])?, "events")?;
            if now < events + events / 100 {
                break;
            }
            events = now;
        }
        Ok((running, Recording { program: command()?.to_owned(), args: dump.into(), events }))
    }

    pub(super) fn start_with(&self, size: &str) -> Result<Running> {
        let _ = Self::run(&["stop"]);
        Self::run(&[&["start", "--size", size, "--events"], self.0].concat())?;
        let first = self.0[0].split(',').next().unwrap_or_default();
        Ok(Running(Box::new(move || Self::number_before(&Self::run(&["stop"])?, first))))
    }
}

impl Recorder for Flight {
    fn start(&self) -> Result<Running> {
        self.start_with("16M")
    }
}

/// ftrace, with these events, each a folder of its system. With stacks, each event has an entry for that of the kernel, and
/// one for that of userspace.
pub(super) struct Ftrace {
    pub(super) events: &'static [&'static str],
    pub(super) stacks: bool,
}

impl Recorder for Ftrace {
    fn start(&self) -> Result<Running> {
        let instance = Path::new(INSTANCE);
        if !instance.exists() {
            fs::create_dir(instance)
                .context("an ftrace instance: mount -t tracefs tracefs /sys/kernel/tracing")?;
            fs::write(instance.join("buffer_size_kb"), "8192")?;
        }
        fs::write(instance.join("trace"), "")?;
        for option in ["stacktrace", "userstacktrace"] {
            fs::write(instance.join("options").join(option), if self.stacks { "1" } else { "0" })?;
        }
        let set = |events: &[&str], to: &str| -> Result<()> {
            let enable = |event: &&str| fs::write(instance.join("events").join(event).join("enable"), to);
            Ok(events.iter().try_for_each(enable)?)
        };
        set(self.events, "1")?;
        let events = self.events;
        Ok(Running(Box::new(move || {
            set(events, "0")?;
            let recorded = recorded(instance)?;
            fs::remove_dir(instance)?;
            Ok(recorded)
        })))
    }
}

/// Events that an ftrace instance has recorded: those that are there, and those that were overwritten.
fn recorded(instance: &Path) -> Result<u64> {
    let mut sum = 0;
    for cpu in fs::read_dir(instance.join("per_cpu"))? {
        let stats = fs::read_to_string(cpu?.path().join("stats"))?;
        let of =
            |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        sum += of("entries:").context("entries")? + of("overrun:").context("overrun")?;
    }
    Ok(sum)
}

/// `perf record` of all CPUs, with these events.
pub(super) struct Perf(&'static str);

impl Perf {
    pub(super) fn find(events: &'static str) -> Result<Self> {
        output(Command::new("perf").arg("--version")).context("apt-get install linux-perf")?;
        Ok(Self(events))
    }

    pub(super) fn spawn(what: &[&str], to: &Path) -> Result<Child> {
        let mut perf = Command::new("perf");
        perf.args(["record", "--quiet", "--all-cpus"]).args(what).arg("--output").arg(to);
        spawn(&mut perf, to)
    }

    pub(super) fn record(&self, scratch: &Scratch) -> Result<Recording> {
        let data = scratch.0.join("perf.data");
        let perf = Self::spawn(&["--event", self.0], &data)?;
        while fs::metadata(&data)?.len() < SIZE {
            pipes()?;
        }
        end(perf)?;
        let args = ["script".to_owned(), "--input".to_owned(), data.display().to_string()];
        Ok(Recording { events: lines("perf", &args)?, program: "perf".into(), args: args.into() })
    }
}

impl Recorder for Perf {
    fn start(&self) -> Result<Running> {
        let scratch = Scratch::new()?;
        let perf = Self::spawn(&["--event", self.0, "--mmap-pages", "16M"], &scratch.0.join("perf.data"))?;
        Ok(Running(Box::new(move || {
            end(perf)?;
            let data = scratch.file("perf.data");
            lines("perf", &["script", "--fields", "event", "--input", &data].map(str::to_owned))
        })))
    }
}

/// `trace-cmd record` of all CPUs.
pub(super) struct TraceCmd;

impl TraceCmd {
    /// `trace-cmd`, which resets the function tracer before it records events. Some machines forbid that, even to root.
    /// The tracer is not used here, so in a mount namespace of its own the command writes to other files.
    fn command() -> Command {
        const SCRIPT: &str = "cd /sys/kernel/tracing && for file in set_ftrace_filter set_ftrace_notrace set_ftrace_pid \
                              /proc/sys/kernel/ftrace_enabled; do : > \"$0/file\" && mount --bind \"$0/file\" $file || exit; \
                              done; cd \"$0\" && exec trace-cmd \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", SCRIPT]);
        command
    }

    pub(super) fn record(scratch: &Scratch) -> Result<Recording> {
        let data = scratch.0.join("trace.dat");
        // A trial, whose error says what is missing.
        let mut trial = Self::command();
        trial.arg(&scratch.0).args(["record", "-q", "-e", "sched:sched_switch", "-o"]).arg(&data).arg("true");
        output(trial.current_dir(&scratch.0)).context("trace-cmd (apt-get install trace-cmd)")?;
        let mut record = Self::command();
        record.arg(&scratch.0).args([
            "record",
            "-q",
            "-b",
            "32768",
            "-e",
            "sched:sched_switch",
            "-e",
            "sched:sched_wakeup",
            "-o",
        ]);
        let mut recorder = spawn(record.arg(&data).current_dir(&scratch.0), &scratch.0)?;
        // It writes a file for each CPU until it ends.
        let size = || -> Result<u64> {
            let files: Vec<_> = fs::read_dir(&scratch.0)?.collect::<Result<_, _>>()?;
            let of_cpus =
                files.iter().filter(|file| file.file_name().to_string_lossy().starts_with("trace.dat.cpu"));
            of_cpus.map(|file| Ok(file.metadata()?.len())).sum()
        };
        while size()? < SIZE {
            ensure!(recorder.try_wait()?.is_none(), "trace-cmd has ended");
            pipes()?;
        }
        end(recorder)?;
        let args = ["report".to_owned(), "-i".to_owned(), data.display().to_string()];
        Ok(Recording { events: lines("trace-cmd", &args)?, program: "trace-cmd".into(), args: args.into() })
    }
}

/// Starts a recorder, and gives it time to begin once its file is there. What it misses until then is noticed.
fn spawn(command: &mut Command, file: &Path) -> Result<Child> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    while !file.exists() {
        ensure!(child.try_wait()?.is_none(), "{command:?} has ended");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(400));
    Ok(child)
}

/// Ends a recorder as Ctrl-C does.
pub(super) fn end(mut recorder: Child) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(recorder.id())?), Signal::SIGINT)?;
    recorder.wait()?;
    Ok(())
}

/// The number of lines that a command prints.
fn lines(program: &str, args: &[String]) -> Result<u64> {
    Ok(printed(program, args)?.lines().count() as u64)
}

/// What a command prints, without its errors.
pub(super) fn printed(program: &str, args: &[String]) -> Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
