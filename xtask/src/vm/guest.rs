//! The first process of the virtual machine: mounts, probes, runs each test in its own process, reports, switches off.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::system::{RebootCommand, reboot};

use super::boot::NODES;
use super::features;
use super::protocol::{End, Machine, Message, PLAN, Plan, Test, line};
use crate::cmd;
use crate::programs::{self, Program};

/// File systems, in mount order: type, mount point, options, whether tests need it.
const MOUNTS: [(&str, &str, &str, bool); 7] = [
    ("proc", "/proc", "", true),
    ("sysfs", "/sys", "", true),
    ("devtmpfs", "/dev", "", true),
    ("bpf", "/sys/fs/bpf", "mode=0711", true),
    ("debugfs", "/sys/kernel/debug", "", false),
    ("tracefs", "/sys/kernel/tracing", "", false),
    ("cgroup2", "/sys/fs/cgroup", "", false),
];

/// How much of a failed test's output is sent: the serial line is slow.
const OUTPUT: u64 = 12 << 10;

/// A test takes this long only if it waits for something that never comes: stress waits for some minutes, and then
/// prints the reason.
const LIMIT: Duration = Duration::from_secs(600);

/// The kernel starts this; it switches the machine off at the end.
pub(crate) fn run() -> Result<()> {
    ensure!(std::process::id() == 1, "`vm-guest` is what a virtual machine starts, not a user");
    if let Err(error) = work() {
        println!("guest: {error:#}");
    }
    io::stdout().flush()?;
    reboot(RebootCommand::PowerOff).context("cannot switch off")
}

fn work() -> Result<()> {
    for (kind, place, options, needed) in MOUNTS {
        let mounted = fs::create_dir_all(place).map_err(anyhow::Error::from).and_then(|()| {
            let options = std::ffi::CString::new(options)?;
            Ok(mount(kind, place, kind, MountFlags::empty(), Some(options.as_c_str()))?)
        });
        if needed {
            mounted.with_context(|| format!("cannot mount {kind} at {place}"))?;
        }
    }
    // For tests that make a cgroup with little memory. Where the kernel has no such cgroups, they say so.
    let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
    // Each change of a map of maps waits for a grace period of RCU: expedited, that takes a tenth of the time. PREEMPT_RT
    // expedites none after it has booted, unless it is told to.
    for (file, value) in [("rcu_normal", "0"), ("rcu_expedited", "1")] {
        fs::write(Path::new("/sys/kernel").join(file), value)
            .with_context(|| format!("cannot set {file}"))?;
    }
    super::net::loopback_up().context("cannot bring up the loopback interface")?;
    // Not a separate file system: the tests' own files may be in it.
    fs::create_dir_all("/tmp")?;
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))?;
    // From now on only this process writes to the console, unless the kernel dies.
    fs::write("/proc/sys/kernel/printk", "1")?;
    let tell = |message: &Message| println!("{}", line(message));
    let machine = machine()?;
    tell(&Message::Booted(machine.clone()));
    // With fewer nodes, placement tests would pass without testing anything.
    ensure!(machine.nodes == NODES, "the CPUs by NUMA node are {:?} instead of {NODES:?}", machine.nodes);
    check_preemption(&fs::read_to_string("/proc/cmdline")?, machine.preempt.as_deref())?;
    tell(&Message::Probed(features::probe_all()));
    let plan: Plan = serde_json::from_slice(&fs::read(PLAN)?)?;
    let mut tests = 0;
    for binary in &plan.binaries {
        for name in names(binary, &plan)? {
            let test = format!("{}::{name}", binary.name);
            tell(&Message::Started(test.clone()));
            let start = Instant::now();
            let end = run_test(binary, &name, &plan)?;
            let milliseconds = u64::try_from(start.elapsed().as_millis())?;
            tell(&Message::Ended(Test { name: test, end, milliseconds }));
            tests += 1;
        }
    }
    tell(&Message::Finished { tests, warnings: warnings(&kernel_log()?) });
    Ok(())
}

fn machine() -> Result<Machine> {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let cpus = std::thread::available_parallelism()?.get();
    // Absent if the kernel has only one mode, and before 5.12.
    let preempt = fs::read_to_string("/sys/kernel/debug/sched/preempt").ok();
    Ok(Machine {
        release: text(uname.release()),
        version: text(uname.version()),
        cpus,
        nodes: nodes()?,
        preempt: preempt.as_deref().and_then(mode).map(str::to_owned),
    })
}

/// The mode in effect, in brackets in `/sys/kernel/debug/sched/preempt`.
fn mode(modes: &str) -> Option<&str> {
    modes.split_whitespace().find_map(|word| word.strip_prefix('(')?.strip_suffix(')'))
}

/// The preemption mode of the command line must be in effect; otherwise the tests would prove nothing about it.
fn check_preemption(command_line: &str, in_effect: Option<&str>) -> Result<()> {
    let asked = command_line.split_whitespace().find_map(|word| word.strip_prefix("preempt="));
    ensure!(
        asked.is_none() || asked == in_effect,
        "the kernel was booted with preempt={}, but its preemption is {}",
        asked.unwrap_or_default(),
        in_effect.unwrap_or("fixed: it has no PREEMPT_DYNAMIC"),
    );
    Ok(())
}

/// The CPUs of each NUMA node.
fn nodes() -> Result<Vec<String>> {
    let place = |node: usize| format!("/sys/devices/system/node/node{node}/cpulist");
    let places = (0..).map(place).take_while(|place| Path::new(place).exists());
    places.map(|place| Ok(fs::read_to_string(place)?.trim().to_owned())).collect()
}

fn names(binary: &Program, plan: &Plan) -> Result<Vec<String>> {
    let wanted = Wanted::new(&plan.args);
    let mut list = Command::new(&binary.path);
    let names = programs::tests(list.args(&wanted.options).current_dir(&plan.dir))?.into_iter();
    Ok(names.filter(|name| wanted.has(&format!("{}::{name}", binary.name))).collect())
}

/// The arguments that choose tests: by parts of their names, which begin with the name of the binary. (libtest does not
/// match that.)
struct Wanted<'a> {
    parts: Vec<&'a str>,
    skipped: Vec<&'a str>,
    /// The other arguments.
    options: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn new(args: &'a [String]) -> Self {
        let mut wanted = Self { parts: Vec::new(), skipped: Vec::new(), options: Vec::new() };
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            match arg {
                "--skip" => wanted.skipped.extend(args.next()),
                _ if arg.starts_with('-') => wanted.options.push(arg),
                _ => wanted.parts.push(arg),
            }
        }
        wanted
    }

    fn has(&self, test: &str) -> bool {
        let any = |parts: &[&str]| parts.iter().any(|part| test.contains(part));
        (self.parts.is_empty() || any(&self.parts)) && !any(&self.skipped)
    }
}

/// Runs one test in its own process, so that its effects end with it.
fn run_test(binary: &Program, name: &str, plan: &Plan) -> Result<End> {
    const PLACE: &str = "/tmp/output";
    let output = File::create(PLACE)?;
    let mut test = Command::new(&binary.path)
        .args(of_one(&plan.args))
        .args(["--exact", name, "--test-threads=1"])
        .envs(plan.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&plan.dir)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.path.display()))?;
    let Some(status) = cmd::wait(&mut test, LIMIT)? else {
        kill_process_group(Pid::from_child(&test), Signal::KILL)?;
        test.wait()?;
        return Ok(End::Failed(format!("{}\n(hung)", tail(Path::new(PLACE))?.trim())));
    };
    Ok(judge(status, &tail(Path::new(PLACE))?))
}

/// The arguments that also apply to a single test: parts of names would select other tests as well.
fn of_one(args: &[String]) -> impl Iterator<Item = &String> {
    args.iter().filter(|arg| ["--ignored", "--include-ignored", "--nocapture"].contains(&arg.as_str()))
}

/// A test has passed if libtest counted exactly this one, and the test did not report a skip.
fn judge(status: ExitStatus, printed: &str) -> End {
    let failed = |why: &dyn fmt::Display| End::Failed(format!("{}\n({why})", printed.trim()));
    if !status.success() {
        return failed(&status);
    }
    let after = |word| printed.lines().find_map(|line| line.split_once(word).map(|(_, rest)| rest));
    let count = |what| {
        let (number, _) = after("test result: ok. ")?.split_once(what)?;
        number.rsplit(' ').next()?.parse::<u32>().ok()
    };
    match (after("SKIPPED "), count(" passed;"), count(" ignored;")) {
        (Some(why), ..) => End::Skipped(why.to_owned()),
        (None, Some(1), Some(0)) => End::Passed,
        (None, Some(0), Some(1)) => End::Skipped(after(" ... ").unwrap_or_default().to_owned()),
        _ => failed(&"not this one test was run"),
    }
}

fn tail(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The kernel log so far, one record per line.
fn kernel_log() -> Result<String> {
    const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log = fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open("/dev/kmsg")?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    loop {
        match log.read(&mut record) {
            Ok(length) => text += &String::from_utf8_lossy(&record[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(text),
            // Overwritten in the meantime: continue with the oldest record left.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kernel's warnings about itself, without repeats.
fn warnings(log: &str) -> Vec<String> {
    const SIGNS: [&str; 6] =
        ["WARNING: ", "BUG: ", "Oops", "detected stall", "hung task", "possible recursive locking"];
    let complaints = log.lines().filter(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    let texts: BTreeSet<_> =
        complaints.map(|line| line.split_once(';').map_or(line, |(_, text)| text)).collect();
    texts.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_users_machine_is_left_alone() {
        assert!(run().unwrap_err().to_string().contains("not a user"));
    }

    #[test]
    fn parts_of_names_select_binaries_and_tests() {
        let args = ["stress::", "--skip", "portably", "--ignored", "torn"].map(str::to_owned);
        let wanted = Wanted::new(&args);
        assert_eq!(wanted.options, ["--ignored"]);
        assert!(wanted.has("stress::nested_writers") && wanted.has("basic::nothing_torn"));
        assert!(!wanted.has("basic::no_stress") && !wanted.has("stress::portably"));
        assert!(Wanted::new(&[]).has("basic::any"));
        let args = ["commands::", "--skip", "flight::"].map(str::to_owned);
        assert!(!Wanted::new(&args).has("flight::commands::a"), "by the name of the binary");
    }

    #[test]
    fn ends_are_told_apart() {
        let (ok, failed) = (ExitStatus::from_raw(0), ExitStatus::from_raw(101 << 8));
        let passed = "test a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(judge(ok, passed), End::Passed);
        let skipped = format!("SKIPPED a: no BPF\n{passed}");
        assert_eq!(judge(ok, &skipped), End::Skipped("a: no BPF".into()));
        let ignored =
            "test a ... ignored, until then\n\ntest result: ok. 0 passed; 0 failed; 1 ignored; 0 measured\n";
        assert_eq!(judge(ok, ignored), End::Skipped("ignored, until then".into()));
        assert!(matches!(judge(failed, "why\n"), End::Failed(printed) if printed.starts_with("why\n(")));
    }

    #[test]
    fn one_test_is_one_test() {
        let ok = ExitStatus::from_raw(0);
        let printed =
            "test a ... ok\ntest a_b ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
        assert!(matches!(judge(ok, printed), End::Failed(_)));
        let none = "\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        assert!(matches!(judge(ok, none), End::Failed(_)));
        assert!(matches!(judge(ok, ""), End::Failed(_)));
        let args = ["a", "--skip", "b", "--ignored"].map(str::to_owned);
        assert_eq!(of_one(&args).collect::<Vec<_>>(), ["--ignored"]);
    }

    #[test]
    fn preemption_is_what_was_asked_for() {
        assert_eq!(mode("none voluntary (full)\n"), Some("full"));
        assert_eq!(mode("(none) voluntary full lazy\n"), Some("none"));
        assert_eq!(mode(""), None);
        let asked = "console=ttyS0 preempt=full quiet -- vm-guest\n";
        check_preemption(asked, Some("full")).unwrap();
        check_preemption("console=ttyS0 -- vm-guest", None).unwrap();
        let refused = |in_effect| check_preemption(asked, in_effect).unwrap_err().to_string();
        assert!(refused(Some("voluntary")).ends_with("preempt=full, but its preemption is voluntary"));
        assert!(refused(None).ends_with("it has no PREEMPT_DYNAMIC"));
    }

    #[test]
    fn complaints_are_found_once() {
        let log = "6,1,0,-;Linux version\n4,2,5,-;WARNING: CPU: 0 PID: 7 at kernel/bpf/core.c:1\n SUBSYSTEM=x\n\
                   4,3,6,-;WARNING: CPU: 0 PID: 7 at kernel/bpf/core.c:1\n";
        assert_eq!(warnings(log), ["WARNING: CPU: 0 PID: 7 at kernel/bpf/core.c:1"]);
    }
}
