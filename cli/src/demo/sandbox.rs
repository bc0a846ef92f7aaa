//! The seccomp filter of the reading thread: any system call except those of thread exit kills the process.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::mem::MaybeUninit;
use std::ptr;

use anyhow::{Context, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The calls of an exiting thread: it releases its alternate signal stack and its own stack, and wakes joiners. None
/// can read, write, wait or get the time.
const WAY_OUT: [libc::c_long; 6] = [
    libc::SYS_exit,
    libc::SYS_futex,
    libc::SYS_madvise,
    libc::SYS_munmap,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
];

/// A filter that is ready to enter.
pub(crate) struct Sandbox(BpfProgram);

impl Sandbox {
    pub(crate) fn new() -> Result<Self> {
        let arch = ARCH.try_into().with_context(|| format!("no seccomp filters for {ARCH}"))?;
        let allowed: BTreeMap<_, _> = WAY_OUT.into_iter().map(|call| (call, Vec::new())).collect();
        let filter = SeccompFilter::new(allowed, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
        Ok(Self(filter.try_into()?))
    }

    /// Puts the calling thread, and no other, behind the filter permanently.
    pub(crate) fn enter(&self) -> Result<()> {
        // A signal handler returns by a system call. Other threads receive the process's signals.
        block_signals()?;
        seccompiler::apply_filter(&self.0).context("this kernel refuses the seccomp filter")
    }
}

fn block_signals() -> Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is memory for a signal set, and the call initializes it.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was initialized above, and null means that the old set is not returned.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut()) };
    anyhow::ensure!(error == 0, "pthread_sigmask: {}", std::io::Error::from_raw_os_error(error));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};
    use std::{env, thread};

    use super::*;

    const ROLE: &str = "MAPRING_DEMO_SANDBOX_TEST";

    /// Runs the test below in its own process.
    fn child(role: &str) -> ExitStatus {
        let mut test = Command::new(env::current_exe().unwrap());
        test.args(["--exact", "demo::sandbox::tests::sandboxed_thread", "--nocapture"]).env(ROLE, role);
        test.status().unwrap()
    }

    /// Does nothing outside a child process.
    #[test]
    fn sandboxed_thread() {
        let Ok(role) = env::var(ROLE) else { return };
        let sandbox = Sandbox::new().unwrap();
        let thread = thread::spawn(move || {
            sandbox.enter().unwrap();
            if role == "calls" {
                let _ = rustix::process::getppid();
            }
            let outcome = std::hint::black_box(7_u64);
            std::mem::forget(sandbox);
            outcome
        });
        assert_eq!(thread.join().unwrap(), 7);
    }

    #[test]
    fn a_system_call_kills_the_process() {
        assert_eq!(child("calls").signal(), Some(libc::SIGSYS));
    }

    #[test]
    fn a_thread_that_makes_none_ends_well() {
        assert!(child("ends").success());
    }
}
