//! The reading thread: from its first record to its last it makes no system call. A seccomp filter kills the process at any
//! system call of this thread except those of its end.

use std::env::consts::ARCH;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use mapring::{Access, Counters, ReadStats};
use nix::sys::signal::SigSet;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::{Event, Source};

/// Pause instructions after a round without records: about a microsecond.
const PAUSES: u32 = 32;
/// How long the reader waits for a record whose writer was preempted. The ring is large enough to hold all others for
/// that long.
const PATIENCE: Duration = Duration::from_secs(1);
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

/// What the reader needs.
struct Job {
    events: Mutex<mapring::Reader<Event>>,
    /// Its system calls, counted by the producer.
    calls: Option<Counters>,
    filter: BpfProgram,
}

/// The thread that started the reader owns it as well, since the reader must not free memory or close files at its end:
/// that takes system calls.
#[derive(Default)]
struct Shared {
    tid: OnceLock<u32>,
    job: OnceLock<Job>,
    stop: AtomicBool,
}

/// What was read, and the system calls that the producer counted for the thread meanwhile, if it counts.
type Outcome = (ReadStats, Option<u64>);

pub(super) struct Reading {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Outcome>>,
}

impl Reading {
    /// Starts the thread, which waits for a source.
    pub(super) fn new() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let body = move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            of_thread.tid.get_or_init(|| tid);
            read(of_thread.job.wait(), &of_thread.stop)
        };
        Ok(Self { shared, thread: thread::Builder::new().name("mapring-reader".into()).spawn(body)? })
    }

    /// The thread's id, known before anything is published.
    pub(super) fn tid(&self) -> u32 {
        *self.shared.tid.wait()
    }

    /// Makes the thread read `source`.
    pub(super) fn start(&self, source: &Source) -> Result<()> {
        let access = source.events.access();
        ensure!(access == Access::Mapped, "reading takes system calls here: {access}");
        let events = Mutex::new(source.events.reader().with_patience(PATIENCE));
        let (calls, filter) = (source.reader_calls.clone(), filter()?);
        self.shared.job.get_or_init(|| Job { events, calls, filter });
        Ok(())
    }

    /// Whether the thread has ended without being stopped.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops the thread, and waits for it.
    pub(super) fn stop(self) -> Result<Outcome> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

fn filter() -> Result<BpfProgram> {
    let arch = ARCH.try_into().with_context(|| format!("no seccomp filters for {ARCH}"))?;
    let allowed = WAY_OUT.into_iter().map(|call| (call, Vec::new())).collect();
    Ok(SeccompFilter::new(allowed, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()?)
}

/// Puts the calling thread, and no other, behind the filter permanently.
fn enter(filter: &BpfProgram) -> Result<()> {
    // A signal handler returns by a system call. Other threads receive the process's signals.
    SigSet::all().thread_block()?;
    seccompiler::apply_filter(filter).context("this kernel refuses the seccomp filter")
}

/// The body of the thread: behind the filter no allocation, no output, no clock, no shared lock.
fn read(job: &Job, stop: &AtomicBool) -> Result<Outcome> {
    let mut events = job.events.lock().unwrap_or_else(PoisonError::into_inner);
    enter(&job.filter)?; // a producer that counts the thread's calls must have counted this one
    let calls = || job.calls.as_ref()?.sum(0).ok();
    let before = calls();
    while !stop.load(Ordering::Relaxed) {
        if events.for_each(4096, |event| _ = hint::black_box(event.record)) == 0 {
            (0..PAUSES).for_each(|_| hint::spin_loop());
        }
    }
    let before = before.filter(|count| *count > 0);
    Ok((events.stats(), before.zip(calls()).map(|(before, after)| after - before)))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// In a process of its own. That a thread without system calls ends well is tested with the demo.
    #[test]
    fn a_system_call_kills_the_process() {
        if env::var_os("MAPRING_DEMO_FILTER").is_some() {
            super::enter(&super::filter().unwrap()).unwrap();
            panic!("{:?}", rustix::process::getppid());
        }
        let mut test = Command::new(env::current_exe().unwrap());
        test.args(["--exact", "demo::reader::tests::a_system_call_kills_the_process"]);
        assert_eq!(test.env("MAPRING_DEMO_FILTER", "1").status().unwrap().signal(), Some(libc::SIGSYS));
    }
}
