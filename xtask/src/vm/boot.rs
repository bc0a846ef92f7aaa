//! One boot: QEMU without KVM, two processors and NUMA nodes, the guest's messages on the console, and a time limit.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernels::{Arch, Kernel};
use super::protocol::{self, Message};
use crate::cmd::interrupted;
use crate::skip::shout;

/// How often to check whether the user interrupted the run.
const TICK: Duration = Duration::from_millis(200);

/// A machine that says nothing for so long has died: a test that takes longer than ten minutes by its clock is ended
/// there. Its clock can stop for good: the kernel takes a wrapping clock that went on by 7/8 to 8/8 of its range for one
/// that went back (`clocksource_delta`, since Linux 6.13 and 6.12.5): with `hpet` a stop of the host for 38 to 43 seconds.
const SILENCE: Duration = Duration::from_secs(900);
const SILENT: &str = "its time stopped: it said nothing for 15 minutes";

/// The number of last console lines to print.
const LAST_WORDS: usize = 20;

/// The CPUs of each NUMA node, in sysfs's format; each node is a socket with a part of the memory.
pub(super) const NODES: [&str; 2] = ["0", "1"];

/// What was on a machine's console beside the messages: the kernel's last words, if it died.
pub(super) struct BootLog {
    pub(super) console: Vec<String>,
    /// This program switched the machine off.
    pub(super) late: bool,
    /// The same because it was silent.
    pub(super) silent: bool,
}

impl BootLog {
    /// Why the kernel died, if it did.
    pub(super) fn death(&self) -> Option<&str> {
        self.panic().or(self.silent.then_some(SILENT))
    }

    fn panic(&self) -> Option<&str> {
        self.console.iter().find_map(|line| Some(line[line.find("Kernel panic - not syncing")?..].trim()))
    }

    pub(super) fn last_words(&self) -> String {
        self.console[self.console.len().saturating_sub(LAST_WORDS)..].join("\n")
    }
}

/// The machine, switched off when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots a kernel and reads its messages until it switches itself off, or for `limit`.
pub(super) fn run(
    arch: Arch,
    kernel: &Kernel,
    image: &Path,
    initramfs: &Path,
    limit: Duration,
    mut hear: impl FnMut(Message),
) -> Result<BootLog> {
    let stop = interrupted()?;
    let mut qemu = qemu(arch, kernel, image, initramfs);
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut machine = Machine(child.with_context(|| format!("cannot start {:?}", qemu.get_program()))?);
    let console = machine.0.stdout.take().context("a pipe was asked for")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });

    let mut log = BootLog { console: Vec::new(), late: false, silent: false };
    let (end, mut heard) = (Instant::now() + limit, Instant::now());
    loop {
        let line = lines.recv_timeout(TICK);
        // A signal from the terminal also ends QEMU: check this first.
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if line.is_ok() {
            heard = Instant::now();
        }
        match line {
            Ok(line) => match protocol::parse(&line) {
                Some(Ok(message)) => hear(message),
                // A garbled message counts as missing in the end; the line explains why.
                Some(Err(_)) | None => log.console.push(line),
            },
            Err(RecvTimeoutError::Disconnected) => return Ok(log),
            Err(RecvTimeoutError::Timeout) => {}
        }
        (log.late, log.silent) = (Instant::now() > end, heard.elapsed() > SILENCE);
        if log.late || log.silent {
            return Ok(log);
        }
    }
}

/// Boots again if the kernel died, with a visible message: emulation sometimes causes that. If it dies twice, that is a
/// failure. `boot` gets the cause of the first death.
pub(super) fn again_after_death<R>(
    kernel: &str,
    mut boot: impl FnMut(Option<String>) -> Result<(R, BootLog)>,
) -> Result<(R, BootLog)> {
    let (row, first) = boot(None)?;
    let Some(why) = first.death() else { return Ok((row, first)) };
    shout(&format!("{kernel}: {why}\nIt is booted once more. It said:\n{}", first.last_words()));
    boot(Some(why.to_owned()))
}

fn qemu(arch: Arch, kernel: &Kernel, image: &Path, initramfs: &Path) -> Command {
    let (machine, usual, options) = match arch {
        // No check of timer interrupts: on a busy host they come late, and the kernel gives up. A clock that the vDSO
        // can't read: readers must do without it; and on a busy host the kernel would give up the TSC half-way. Not
        // acpi_pm, which wraps after 4.7 seconds instead of 43 ([`SILENCE`]). Without cmpxchg16b: QEMU 7.2
        // sometimes corrupts the flags after it, and kernels that use it die.
        Arch::X86 => ("pc", "qemu64,-cx16", "console=ttyS0 no_timer_check clocksource=hpet"),
        // Pointers are signed by a cheap hash: the real one takes most of an emulated kernel's time. No LPA2, since
        // kernels before 5.12 misinterpret it and do not boot.
        Arch::Arm => ("virt", "max,pauth-impdef=on,lpa2=off", "console=ttyAMA0"),
    };
    let mut command = Command::new(format!("qemu-system-{}", arch.name()));
    command.args(["-machine", machine, "-cpu", kernel.cpu.unwrap_or(usual)]);
    // One thread for both CPUs: with one thread each, QEMU 7.2 lets one CPU run code that the other is patching, and
    // kernels panic when tracepoints are attached and detached.
    command.args(["-accel", "tcg,thread=single", "-smp", "2,sockets=2", "-m", "3072"]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    for (node, cpus) in NODES.iter().enumerate() {
        command.args(["-object", &format!("memory-backend-ram,id=memory{node},size=1536M")]);
        command.args(["-numa", &format!("node,nodeid={node},cpus={cpus},memdev=memory{node}")]);
    }
    command.args(["-serial", "stdio", "-kernel"]).arg(image).arg("-initrd").arg(initramfs);
    let preempt = kernel.preempt.map(|mode| format!(" preempt={mode}")).unwrap_or_default();
    command.args(["-append", &format!("{options}{preempt} panic=-1 quiet -- vm-guest")]);
    command
}

#[cfg(test)]
mod tests {
    use super::super::kernels::KERNELS;
    use super::*;

    fn kernel(name: &str) -> &'static Kernel {
        KERNELS.iter().find(|kernel| kernel.name == name).unwrap()
    }

    #[test]
    fn a_machine_has_two_processors_and_ends_on_panic() {
        let shown = |arch| crate::cmd::shown(&qemu(arch, kernel("6.12"), Path::new("/k"), Path::new("/i")));
        let x86 = shown(Arch::X86);
        assert!(x86.contains(" -accel tcg,thread=single -smp 2,sockets=2 "), "{x86}");
        assert!(
            x86.contains("-no-reboot") && x86.contains("panic=-1") && x86.ends_with("-- vm-guest'"),
            "{x86}"
        );
        let arm = shown(Arch::Arm);
        assert!(arm.starts_with("qemu-system-aarch64 -machine virt -cpu max,"), "{arm}");
        let second = " memory-backend-ram,id=memory1,size=1536M -numa node,nodeid=1,cpus=1,memdev=memory1 ";
        assert!(x86.contains(second) && arm.contains(second), "{x86}\n{arm}");
        assert!(!x86.contains("preempt="), "{x86}");
    }

    #[test]
    fn preemption_is_asked_for_on_the_command_line() {
        let qemu = qemu(Arch::X86, kernel("6.12-preempt"), Path::new("/k"), Path::new("/i"));
        let shown = crate::cmd::shown(&qemu);
        assert!(
            shown.contains("no_timer_check clocksource=hpet preempt=full panic=-1 quiet -- vm-guest'"),
            "{shown}"
        );
    }

    fn log(console: &[&str]) -> BootLog {
        BootLog { console: console.iter().map(|&line| line.to_owned()).collect(), late: false, silent: false }
    }

    /// The panic message of Linux 7.2 under QEMU 7.2.
    const PANIC: [&str; 5] = [
        "[  415.118232] Oops: int3: 0000 [#1] SMP NOPTI",
        "[  415.118232] RIP: 0010:trace_syscall_enter+0x5/0xa0",
        "[  415.118232] Kernel panic - not syncing: Fatal exception in interrupt",
        "[  415.118232] Kernel Offset: 0x1b000000 from 0xffffffff81000000",
        "[  415.118232] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---",
    ];

    #[test]
    fn a_panic_is_recognised_among_all_that_is_on_the_console() {
        let panic = "Kernel panic - not syncing: Fatal exception in interrupt";
        assert_eq!(log(&PANIC).panic(), Some(panic));
        let garbled = log(&["SeaBIOS (version 1.16.2)", "\u{1b}[2JKernel panic - not syncing: x\r"]);
        assert_eq!(garbled.panic(), Some("Kernel panic - not syncing: x"));
        assert_eq!(log(&PANIC[..2]).panic(), None, "an oops ends a process, and its test fails");
        assert_eq!(log(&["test kernel_panic_is_shown ... ok"]).panic(), None);
        assert_eq!(log(&[]).panic(), None);
    }

    #[test]
    fn a_kernel_that_died_is_booted_once_more() {
        let silent = "silent";
        let boots = |consoles: &[&[&str]]| {
            let mut left = consoles.iter();
            let boot = |died: Option<String>| {
                let &console = left.next().expect("one boot too many");
                Ok((died.is_some(), BootLog { silent: console == [silent], ..log(console) }))
            };
            let (died, log) = again_after_death("x", boot).unwrap();
            (died, log.death().is_some(), left.len())
        };
        assert_eq!(boots(&[&["fine"], &[]]), (false, false, 1));
        assert_eq!(boots(&[&PANIC, &["fine"], &[]]), (true, false, 1));
        assert_eq!(boots(&[&PANIC, &PANIC, &[]]), (true, true, 1));
        assert_eq!(boots(&[&[silent], &["fine"], &[]]), (true, false, 1));
        assert_eq!(boots(&[&PANIC, &[silent], &[]]), (true, true, 1));
    }
}
