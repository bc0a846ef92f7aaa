//! The victim: a process of its own that does one thing to a region, under this one's eyes. It is
//! executed instruction by instruction, the shared words are compared after each, and after the
//! n-th change it is killed. What runs is the production code as the compiler made it.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// No victim needs so many instructions, not even unoptimised and with a sanitizer.
const MAX_STEPS: usize = 2_000_000;

/// How far a victim came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Stores that changed shared memory.
    pub stores: usize,
    /// Whether it had done all that it was told, before it was killed all the same.
    pub finished: bool,
}

struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `program args` with the region `stdin`, kills it once `look` has seen `stores` changes, or
/// when it is done. `look` is called after each instruction, and gives always as many words.
///
/// # Panics
/// If the kernel does not let it be traced, if it dies on its own, or if one instruction changes
/// more than one word.
pub fn kill_after(
    stores: usize,
    program: &str,
    args: &[&str],
    stdin: Stdio,
    mut look: impl FnMut(u32) -> Vec<u64>,
) -> Death {
    let child = Command::new(program).arg("traced").args(args).stdin(stdin).stdout(Stdio::null()).spawn();
    let victim = Traced(child.unwrap_or_else(|e| panic!("{program}: {e}")));
    let id = victim.0.id();
    let pid = Pid::from_raw(id.cast_signed());
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)), "{args:?}");
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
    let mut death = Death { stores: 0, finished: false };
    let mut before = look(id);
    for _ in 0..MAX_STEPS {
        if death.stores == stores {
            return death;
        }
        ptrace::step(pid, None).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Death { finished: true, ..death },
            other => panic!("{args:?}: {other:?}"),
        }
        let now = look(id);
        match before.iter().zip(&now).filter(|(before, now)| before != now).count() {
            0 => {}
            1 => death.stores += 1,
            more => panic!("{args:?}: one instruction changed {more} words"),
        }
        before = now;
    }
    panic!("{args:?}: not done after {MAX_STEPS} instructions")
}

/// Runs `program args` with the region `stdin` to its end: what it says.
///
/// # Panics
/// If it fails.
pub fn run(program: &str, args: &[&str], stdin: OwnedFd) -> String {
    let output = Command::new(program)
        .arg("free")
        .args(args)
        .stdin(stdin)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
