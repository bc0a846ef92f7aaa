//! The seccomp filter of the reading thread: any system call but those that end it kills the process.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::mem::MaybeUninit;
use std::ptr;

use anyhow::{Context, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What a thread calls on its way out: the alternate signal stack is given up, its own stack is
/// given back, those who wait are woken. Nothing that could read, write, wait or ask the time.
const WAY_OUT: [libc::c_long; 6] = [
    libc::SYS_exit,
    libc::SYS_futex,
    libc::SYS_madvise,
    libc::SYS_munmap,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
];

/// A filter that is ready to be entered.
pub(crate) struct Sandbox(BpfProgram);

impl Sandbox {
    pub(crate) fn new() -> Result<Self> {
        let arch = ARCH.try_into().with_context(|| format!("no seccomp filters for {ARCH}"))?;
        let allowed: BTreeMap<_, _> = WAY_OUT.into_iter().map(|call| (call, Vec::new())).collect();
        let filter = SeccompFilter::new(allowed, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
        Ok(Self(filter.try_into()?))
    }

    /// Puts the calling thread, and no other, behind the filter, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        // A signal handler ends by a system call. Other threads get the process's signals.
        block_signals()?;
        seccompiler::apply_filter(&self.0).context("this kernel refuses the seccomp filter")
    }
}

fn block_signals() -> Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is memory for a set, which is what the call fills in.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was filled in above, and null says that nobody wants the old set.
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

    /// Runs the test below in a process of its own.
    fn child(role: &str) -> ExitStatus {
        let mut test = Command::new(env::current_exe().unwrap());
        test.args(["--exact", "sandbox::tests::sandboxed_thread", "--nocapture"]).env(ROLE, role);
        test.status().unwrap()
    }

    /// Does nothing but in a child.
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
