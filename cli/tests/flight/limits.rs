//! Little memory and few file descriptors.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::recorder::{Recorder, output, stderr};
use crate::skip;

/// A cgroup with a limit, in a hierarchy of either version that is mounted.
pub(crate) struct Cgroup(PathBuf);

/// Files of a cgroup, and what is written into them.
type Settings<'s> = [(&'s str, &'s str)];

impl Cgroup {
    /// With memory of this size.
    pub(crate) fn new(test: &str, size: &str) -> Option<Self> {
        Self::with(test, "memory", &[("memory.limit_in_bytes", size)], &[("memory.max", size)])
    }

    /// With a fifth of a CPU.
    pub(crate) fn with_quota(test: &str) -> Option<Self> {
        let first = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "20000")];
        Self::with(test, "cpu", &first, &[("cpu.max", "20000 100000")])
    }

    /// How long its quota was used up.
    pub(crate) fn throttled(&self) -> Duration {
        let stat = fs::read_to_string(self.0.join("cpu.stat")).unwrap();
        let number = |name| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let first = || number("throttled_time").map(Duration::from_nanos);
        first().or_else(|| number("throttled_usec").map(Duration::from_micros)).unwrap()
    }

    fn with(test: &str, controller: &str, first: &Settings<'_>, second: &Settings<'_>) -> Option<Self> {
        let of_this = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |is: &dyn Fn(&str) -> bool| {
            let line = of_this.lines().find(|line| is(line.split(':').nth(1).unwrap_or_default()))?;
            line.splitn(3, ':').nth(2)
        };
        let name = format!("mapring-test-{}-{test}", std::process::id());
        let of_first = path(&|of| of.split(',').any(|one| one == controller));
        let all = [
            of_first.map(|path| (format!("/sys/fs/cgroup/{controller}{path}"), first)),
            Some((format!("/sys/fs/cgroup/{controller}"), first)),
            path(&str::is_empty).map(|path| (format!("/sys/fs/cgroup{path}"), second)),
            Some(("/sys/fs/cgroup".to_owned(), second)),
        ];
        all.into_iter().flatten().find_map(|(above, settings)| {
            let group = Self(PathBuf::from(&above).join(&name));
            fs::create_dir(&group.0).ok()?;
            let _ = fs::write(format!("{above}/cgroup.subtree_control"), format!("+{controller}")); // version 2
            let mut settings = settings.iter();
            settings.try_for_each(|(file, value)| fs::write(group.0.join(file), value)).ok().map(|()| group)
        })
    }

    /// A command whose arguments are run in it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0);
        command
    }

    /// Runs the command in it.
    fn run(&self, recorder: &Recorder, options: &[&str]) -> Output {
        let mut command = self.command();
        command.arg(env!("CARGO_BIN_EXE_mapring")).arg("flight").arg("--pins").arg(&recorder.dir);
        output(command.args(options).stdin(Stdio::null()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_small_cgroup_is_named_and_nothing_is_left() {
    let recorder = Recorder::new("cgroup");
    if !recorder.start(&["--size", "1M", "--events", "exec"]) {
        return;
    }
    assert!(recorder.run(&["stop"]).status.success());
    let Some(group) = Cgroup::new("start", "64M") else {
        skip::skipped("no memory cgroup can be made here");
        return;
    };
    let refused = group.run(&recorder, &["start", "--size", "64M"]);
    assert_eq!(refused.status.code(), Some(1));
    let name = group.0.display().to_string();
    assert!(stderr(&refused).contains(&format!("the memory cgroup {name} has a limit of 64M")));
    assert!(stderr(&refused).contains("smaller --size"));
    assert!(!recorder.dir.exists());
    assert!(group.run(&recorder, &["start", "--size", "32M"]).status.success());
}

#[test]
fn few_descriptors_are_named_and_nothing_is_left() {
    let recorder = Recorder::new("descriptors");
    if !recorder.start(&["--size", "1M", "--events", "exec"]) {
        return;
    }
    assert!(recorder.run(&["stop"]).status.success());
    let start = |limit: &str| {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_mapring"));
        let start = ["start", "--size", "8M", "--events", "exec,syscalls"];
        output(command.arg("flight").arg("--pins").arg(&recorder.dir).args(start).stdin(Stdio::null()))
    };
    for limit in [8, 12, 16, 20, 24] {
        let refused = start(&format!("-n {limit}"));
        assert_eq!(refused.status.code(), Some(1), "{limit}");
        assert!(
            stderr(&refused).contains(&format!("RLIMIT_NOFILE: this process may have {limit} open files"))
        );
        assert!(!recorder.dir.exists());
    }
    // It raises a limit that it may raise.
    assert!(start("-S -n 16").status.success());
}

#[test]
fn a_dump_needs_little_memory() {
    let recorder = Recorder::new("dump-memory");
    if !recorder.start(&["--size", "192M", "--events", "syscalls"]) {
        return;
    }
    let Some(group) = Cgroup::new("dump", "64M") else {
        skip::skipped("no memory cgroup can be made here");
        return;
    };
    // Events that take more memory than the cgroup has.
    let records = || recorder.status()["recording"]["groups"][0]["records"].as_u64().unwrap();
    while records() < 1 << 20 {
        (0..1 << 18).for_each(|_| assert!(rustix::process::getppid().is_some()));
    }
    let dir = env::temp_dir().join(format!("mapring-limits-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    for options in [&["--last", "10m"][..], &["--last", "100ms"], &[]] {
        let out = dir.join("a.pftrace");
        let dump = [&["dump", "--out", out.to_str().unwrap()], options].concat();
        let dumped = group.run(&recorder, &dump);
        assert!(dumped.status.success(), "{options:?}: {:?}", dumped.status);
        let _ = fs::remove_file(out);
    }
    fs::remove_dir(&dir).unwrap();
}

/// The limit of samples. Dropping it restores what was there.
struct SampleRate(String);

impl SampleRate {
    const FILE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";

    /// `None` if this process may not lower it.
    fn lower(to: &str) -> Option<Self> {
        let before = fs::read_to_string(Self::FILE).ok()?;
        fs::write(Self::FILE, to).ok().map(|()| Self(before))
    }
}

impl Drop for SampleRate {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).unwrap();
    }
}

#[test]
fn more_samples_than_the_kernel_takes_are_refused() {
    let recorder = Recorder::new("samples");
    let Some(_lowered) = SampleRate::lower("5000") else {
        return skip::skipped("the limit of samples is not ours");
    };
    if !recorder.start(&["--size", "8M", "--events", "exec"]) {
        return;
    }
    assert!(recorder.run(&["stop"]).status.success());
    let often = ["start", "--size", "8M", "--hz", "9000", "--events"];
    let why = "the kernel takes at most 5000 samples a second, not 9000: use --hz 5000, or raise kernel.perf_event_max_sample_rate";
    let alone = recorder.run(&[&often[..], &["profile"]].concat());
    assert!(alone.status.code() == Some(77) && stderr(&alone).contains(why) && !recorder.dir.exists());
    let beside = recorder.run(&[&often[..], &["exec,profile"]].concat());
    assert!(beside.status.success() && stderr(&beside).contains(why));
    assert_eq!(recorder.groups(), ["exec"]);
    assert!(recorder.status()["recording"]["not_sampled"].is_null());
}
