//! A separate process that performs one operation on a region while this process traces it. The tracer executes it one
//! instruction at a time, compares the shared words after each, and kills it after the n-th change. The traced code is
//! the production code as compiled.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The maximum number of instructions, enough even for unoptimized code with a sanitizer.
const MAX_STEPS: usize = 2_000_000;

/// The progress of a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Stores that changed shared memory.
    pub stores: usize,
    /// Whether it had finished its operation before it was killed.
    pub finished: bool,
}

struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `program args` with the region `stdin`, and kills it after `stores` changes or when it is done. `look` is
/// called after each instruction, and always returns the same number of words.
///
/// # Panics
/// Panics if the kernel does not allow tracing, if the program dies on its own, or if one instruction changes more than
/// one word.
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

/// Runs `program args` with the region `stdin` to its end, and returns its output.
///
/// # Panics
/// Panics if it fails.
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
