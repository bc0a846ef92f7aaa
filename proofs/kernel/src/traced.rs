//! A process that is killed before or after one of its system calls.

use std::process::{Child, Command};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Killed when dropped.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program that lets itself be traced and stops itself twice: before what it does, and after. Kills it at its `stops`-th
/// stop in between, at the entry or exit of a system call. Returns whether it had finished.
///
/// # Panics
/// Panics if the program can't be started, or ends otherwise.
pub fn run_and_die(command: &mut Command, stops: usize) -> bool {
    let victim = Traced(command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program())));
    let pid = Pid::from_raw(victim.0.id().cast_signed());
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
    for _ in 0..stops {
        ptrace::syscall(pid, None).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            // It stops itself again when it has finished.
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return true,
            other => panic!("{other:?}"),
        }
    }
    false
}
