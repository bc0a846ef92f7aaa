//! One boot: QEMU without KVM, two processors and memory nodes, what the guest says on the console, and an end in time.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::kernels::Arch;
use super::protocol::{self, Message};

/// How often it is looked whether the user has had enough.
const TICK: Duration = Duration::from_millis(200);

/// The CPUs of each memory node, as sysfs will list them; each is a socket with a part of the memory.
pub(crate) const NODES: [&str; 2] = ["0", "1"];

/// What a machine said until it was gone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) messages: Vec<Message>,
    /// Everything else on the console: the kernel's last words, if it died.
    pub(crate) console: Vec<String>,
    /// It was switched off by this program.
    pub(crate) late: bool,
}

/// The machine, switched off when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots a kernel and listens until it switches itself off, or for `limit`; `each` message is shown as it comes.
pub(crate) fn run(
    arch: Arch,
    cpu: Option<&str>,
    kernel: &Path,
    initramfs: &Path,
    limit: Duration,
    mut each: impl FnMut(&Message),
) -> Result<Said> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut qemu = qemu(arch, cpu, kernel, initramfs);
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

    let mut said = Said::default();
    let end = Instant::now() + limit;
    loop {
        let line = lines.recv_timeout(TICK);
        // A signal from the terminal ends QEMU as well: look at this first.
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        match line {
            Ok(line) => match protocol::parse(&line) {
                Some(Ok(message)) => {
                    each(&message);
                    said.messages.push(message);
                }
                // What was garbled counts as missing in the end; the line tells why.
                Some(Err(_)) | None => said.console.push(line),
            },
            Err(RecvTimeoutError::Disconnected) => return Ok(said),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() > end {
            said.late = true;
            return Ok(said);
        }
    }
}

fn qemu(arch: Arch, cpu: Option<&str>, kernel: &Path, initramfs: &Path) -> Command {
    let (machine, usual, options) = match arch {
        // No check whether timer interrupts come in time: on a busy host they don't, and the kernel gives up.
        // Without cmpxchg16b: QEMU 7.2 now and then spoils the flags after it, and kernels that use it die.
        Arch::X86 => ("pc", "qemu64,-cx16", "console=ttyS0 no_timer_check"),
        // Pointers are signed by a cheap hash: the real one is most of what an emulated kernel does. No LPA2,
        // which kernels before 5.12 take for something else and do not boot.
        Arch::Arm => ("virt", "max,pauth-impdef=on,lpa2=off", "console=ttyAMA0"),
    };
    let mut command = Command::new(format!("qemu-system-{}", arch.name()));
    command.args(["-machine", machine, "-cpu", cpu.unwrap_or(usual)]);
    command.args([
        "-accel",
        "tcg",
        "-smp",
        "2,sockets=2",
        "-m",
        "2048",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]);
    for (node, cpus) in NODES.iter().enumerate() {
        command.args(["-object", &format!("memory-backend-ram,id=memory{node},size=1G")]);
        command.args(["-numa", &format!("node,nodeid={node},cpus={cpus},memdev=memory{node}")]);
    }
    command.args(["-serial", "stdio", "-kernel"]).arg(kernel).arg("-initrd").arg(initramfs);
    command.args(["-append", &format!("{options} panic=-1 quiet -- vm-guest")]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_two_processors_and_ends_on_panic() {
        let shown = |arch| crate::cmd::shown(&qemu(arch, None, Path::new("/k"), Path::new("/i")));
        let x86 = shown(Arch::X86);
        assert!(x86.contains(" -accel tcg -smp 2,sockets=2 "), "{x86}");
        assert!(
            x86.contains("-no-reboot") && x86.contains("panic=-1") && x86.ends_with("-- vm-guest'"),
            "{x86}"
        );
        let arm = shown(Arch::Arm);
        assert!(arm.starts_with("qemu-system-aarch64 -machine virt -cpu max,"), "{arm}");
        let second = " memory-backend-ram,id=memory1,size=1G -numa node,nodeid=1,cpus=1,memdev=memory1 ";
        assert!(x86.contains(second) && arm.contains(second), "{x86}\n{arm}");
    }
}
