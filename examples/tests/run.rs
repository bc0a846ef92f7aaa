//! Runs each example, and checks what it prints.

use std::process::Command;

mod common;

use common::text;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    text(&output)
}

#[test]
fn memfd() {
    let text = run(env!("CARGO_BIN_EXE_memfd"), &["5"]);
    assert_eq!(text.lines().filter(|line| line.contains(" ns, in ")).count(), 5);
    assert!(text.ends_with("lost 0, read mapped\n"));
}

#[cfg(feature = "bpf")]
mod bpf {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    use super::common::{allowed, skip};
    use super::*;

    const SWITCHES: &str = env!("CARGO_BIN_EXE_switches");
    const FOREIGN: &str = env!("CARGO_BIN_EXE_foreign");

    #[test]
    fn switches() {
        if !allowed() {
            return;
        }
        // A thread can choose any name: this one clears the screen and reverses the text direction.
        let stop = AtomicBool::new(false);
        let text = thread::scope(|scope| {
            scope.spawn(|| {
                fs::write("/proc/thread-self/comm", b"\x1b[2J\xff\xe2\x80\xae").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let text = run(SWITCHES, &["0.5"]);
            stop.store(true, Ordering::Relaxed);
            text
        });
        assert!(text.contains(" \\u{1b}[2J\u{fffd}\\u{202e}["), "its name was not met");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
        let events = text.lines().filter(|line| line.contains(" cpu ") && line.contains("] -> ["));
        assert!(events.count() > 10);
        let last = text.lines().last().unwrap();
        assert!(last.contains(" delivered, ") && last.ends_with(", 0 dropped; read mapped"), "{last}");
    }

    #[test]
    fn syscalls() {
        if !allowed() {
            return;
        }
        let text = run(env!("CARGO_BIN_EXE_syscalls"), &["2"]);
        assert!(text.starts_with("second 1, read mapped\n") && text.contains("\nsecond 2, read mapped\n"));
        // The calls depend on the other processes of this machine; at least one is always present.
        let calls: Vec<_> = text.lines().filter(|line| line.contains(" last by ")).collect();
        for line in &calls {
            let [count, name, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(count.parse::<u64>().unwrap() > 0 && name != "?", "{line}");
        }
        assert!(!calls.is_empty() && text.contains("\nupdates given up: "), "{text}");
    }

    #[test]
    fn resizable() {
        if !allowed() {
            return;
        }
        let text = run(env!("CARGO_BIN_EXE_resizable"), &["40"]);
        let lines: Vec<_> = text.lines().collect();
        let [rounds @ .., rings, last] = &lines[..] else { panic!("{text}") };
        assert_eq!(rounds.len(), 40);
        assert!(rounds[0].contains(" 16 slots, ") && !rounds[0].contains("lost 0,"), "{text}");
        // The ring grew exactly as often as the reader lost records.
        let lossy = rounds[..39].iter().filter(|round| !round.contains("lost 0,")).count();
        assert!(rings.starts_with(&format!("{} rings, ", lossy + 1)) || lossy > 16, "{text}");
        assert!(last.ends_with(", 0 dropped; read mapped"), "{text}");
    }

    #[test]
    fn nodes() {
        if !allowed() {
            return;
        }
        let text = run(env!("CARGO_BIN_EXE_nodes"), &["1"]);
        let lines: Vec<_> = text.lines().collect();
        let [nodes @ .., "read mapped"] = &lines[..] else { panic!("{text}") };
        assert_eq!(nodes.len(), mapring::cpus::online_nodes().unwrap().len());
        let number = |line: &str, before: &str| {
            let (rest, _) = line.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {line}"));
            rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let sum = |before| nodes.iter().map(|line| number(line, before)).sum::<u64>();
        assert_eq!(sum(" CPUs"), mapring::cpus::possible_cpus().unwrap().len() as u64, "{text}");
        assert!(sum(" delivered") > 0 && sum(" dropped") == 0, "{text}");
    }

    #[test]
    fn pipeline() {
        if !allowed() {
            return;
        }
        let text = run(env!("CARGO_BIN_EXE_pipeline"), &["1"]);
        assert!(
            text.contains(" weigh_one\n") && text.contains("stage 1: program ") && text.contains(" emit\n")
        );
        let number = |after: &str, before: &str| {
            let rest = text.split_once(after).unwrap_or_else(|| panic!("no {after:?}")).1;
            rest.split_once(before).unwrap().0.trim().parse::<u64>().unwrap()
        };
        let (one, two) = (number("came out: ", " weighed by one"), number("weighed by one, ", " by two"));
        let (missed, lost) = (number("to weigh them: ", ";"), number("slow reader: ", "\n"));
        assert!(one > 1000 && two > 1000 && missed > 0, "{one} {two} {missed}");
        assert_eq!(one + two + missed + lost, number(" swaps while ", " packets"));
        assert!(text.contains("; 0 wrong\n") && text.ends_with("none is missing, none came twice\n"));
    }

    #[test]
    fn tune() {
        if !allowed() {
            return;
        }
        let text = run(env!("CARGO_BIN_EXE_tune"), &["20"]);
        let lines: Vec<_> = text.lines().collect();
        let [changes @ .., events, last] = &lines[..] else { panic!("{text}") };
        assert_eq!(changes.len(), 20);
        for (n, change) in changes.iter().enumerate() {
            assert!(change.starts_with(&format!("change {}: 1 in ", n + 1)), "{change}");
            assert!(change.contains(" of ") && change.contains(", acknowledged after "), "{change}");
            assert!(!change.contains("; 0 events"), "{change}");
        }
        assert!(events.ends_with(" after the acknowledgement: all as their commands say"), "{events}");
        assert!(last.starts_with("20 commands carried out, 0 skipped; "), "{last}");
    }

    #[test]
    fn runqlat() {
        if !allowed() {
            return;
        }
        let text = run(env!("CARGO_BIN_EXE_runqlat"), &["0.5", "2"]);
        let intervals: Vec<_> = text.split("\n\n").collect();
        let [first, second, "read mapped\n"] = intervals[..] else { panic!("{text}") };
        for interval in [first, second] {
            let lines: Vec<_> = interval.lines().collect();
            let [head, bars @ .., percentiles] = &lines[..] else { panic!("{text}") };
            let count = head.strip_suffix(" waits, in µs:").unwrap().parse::<u64>().unwrap();
            let bar = |line: &&str| line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap();
            // The example itself sleeps and wakes up in each interval.
            assert!(count > 0 && bars.iter().map(bar).sum::<u64>() == count, "{interval}");
            assert!(percentiles.starts_with("50 %: ") && percentiles.contains(", 99.9 %: "), "{interval}");
        }
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn r#async() {
        if !allowed() {
            return;
        }
        let mut program = Command::new(env!("CARGO_BIN_EXE_async"));
        let mut child = Running(program.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("attached"));
        // Other processes of this machine end too.
        let mut line_of = |pid: u32| lines.find(|line| line.contains(&format!("[{pid}] ended "))).unwrap();

        let mut shell = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        shell.wait().unwrap();
        let line = line_of(shell.id());
        assert!(line.starts_with("sh[") && line.contains(" ended with status 3 after "), "{line}");
        // A process can choose any name: this one reverses the text direction.
        let script = "printf '\\342\\200\\256' > /proc/$$/comm; kill -9 $$";
        let mut shell = Command::new("sh").args(["-c", script]).spawn().unwrap();
        shell.wait().unwrap();
        let line = line_of(shell.id());
        assert!(line.starts_with("\\u{202e}[") && line.contains(" ended by signal 9 after "), "{line}");

        kill_process(Pid::from_child(&child.0), Signal::INT).unwrap();
        assert!(child.0.wait().unwrap().success());
        let last = lines.last().unwrap();
        assert!(last.contains(" delivered, 0 lost") && last.ends_with(", 0 dropped; read mapped"), "{last}");
    }

    /// The loader is killed and starts again, with the same ring and with another one. The reader misses nothing.
    #[test]
    fn restart() {
        if !allowed() {
            return;
        }
        let Some(folder) = BpfFolder::new("restart") else { return };
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
        let pin = folder.0.join("starts");
        let pin = pin.to_str().unwrap();
        let start = |args: &[&str]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_restart"));
            let mut child = Running(program.args(args).stdout(Stdio::piped()).spawn().unwrap());
            let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
            (child, lines)
        };
        let load = |more: &[&str], expected: &str| {
            let (loader, mut lines) = start(&[&["load", pin], more].concat());
            let first = lines.next().unwrap();
            assert!(first.starts_with(expected), "{first}");
            assert_eq!(lines.next().as_deref(), Some("recording"));
            loader
        };
        let begin = || {
            let mut shell = Command::new("true").spawn().unwrap();
            shell.wait().unwrap();
            format!("{} started {}", std::process::id(), shell.id())
        };
        let mut loader = load(&[], "a new ring");
        let mut expected = vec![begin()];
        let (_reader, mut lines) = start(&["read", pin]);
        let mut rings = 1;
        for (more, log) in [
            (&[][..], "the pinned ring"),
            (&["larger"], "a new ring, as "),
            (&["larger"], "the pinned ring"),
            (&[], "a new ring, as "),
        ] {
            expected.push(begin());
            drop(loader);
            loader = load(more, log);
            expected.push(begin());
            // Each CPU's records are in order.
            while !expected.is_empty() {
                let line = lines.next().unwrap();
                rings += usize::from(
                    line.starts_with("the ring was read to its end: ") && line.contains(" 0 lost"),
                );
                expected.retain(|other| *other != line);
            }
        }
        assert_eq!(rings, 3);
        drop(loader);
    }

    #[test]
    fn foreign() {
        if !allowed() {
            return;
        }
        let Some(folder) = BpfFolder::new("foreign") else { return };
        let pin = folder.0.join("ring");
        let mut switches = Command::new(SWITCHES);
        switches.arg("60").arg(&pin).stdout(Stdio::null());
        let _switches = Running(switches.spawn().unwrap());
        let pin = pin.to_str().unwrap();
        wait_for(pin);

        let log = run(FOREIGN, &[pin, "5"]);
        assert!(log.contains(" shards of 4096 switch_event\nread: mapped\ncompared: field by field with"));
        assert!(log.contains("\nwritten: not by this process: the map is frozen"));
        assert!(
            log.contains("\nas another type: ") && log.contains("32 bytes) in C, and 2 times an integer")
        );
        assert_eq!(log.lines().filter(|line| line.contains("] -> [")).count(), 5);
        assert!(log.lines().last().unwrap().starts_with("lost "));

        // The same without any privilege, by a copy of the program that everyone may execute.
        let copy = folder.0.with_extension("copy");
        fs::copy(FOREIGN, &copy).unwrap();
        let log = text(&Command::new(&copy).args([pin, "3"]).uid(65534).gid(65534).output().unwrap());
        fs::remove_file(&copy).unwrap();
        assert!(log.contains("\nread: mapped\ncompared: by size alone (reading BTF takes CAP_SYS_ADMIN)\n"));
        assert!(log.contains("records of 32 bytes (switch_event), but [u64; 2] has 16\n"));
        assert!(log.contains("\nlost "));
    }

    #[test]
    fn foreign_says_what_is_wrong() {
        for (pin, expected) in [("/nowhere", "can't open /nowhere: No such file"), ("/dev/null", "/dev/null")]
        {
            let output = Command::new(FOREIGN).arg(pin).output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr);
            println!("{log}");
            assert!(!output.status.success() && log.contains(expected));
        }
    }

    /// A program that ends when this value is dropped.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn wait_for(path: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        // Setting the mode is the last step of publishing the pin.
        let ready = || fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o777 == 0o666);
        while !ready() {
            assert!(Instant::now() < end, "nothing was pinned at {path}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// This test's own BPF file system, readable by everyone.
    struct BpfFolder(PathBuf);

    impl BpfFolder {
        fn new(name: &str) -> Option<Self> {
            let path = std::env::temp_dir().join(format!("mapring-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path).status().unwrap();
            if mounted.success() {
                return Some(Self(path));
            }
            fs::remove_dir(&path).unwrap();
            skip("no BPF file system can be mounted");
            None
        }
    }

    impl Drop for BpfFolder {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
            let _ = fs::remove_dir(&self.0);
        }
    }
}
