//! Which CPU a thread runs on. Threads inherit it from the one that starts them.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this process may use: not always all, nor from 0 on.
///
/// # Panics
/// If the kernel does not tell.
pub fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let allowed = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect()
    })
}

/// Moves this thread to `cpu`, and keeps it there.
///
/// # Panics
/// If there is no such CPU for this process.
pub fn on_cpu(cpu: usize) {
    run_on(&[cpu]);
}

/// Moves this thread to the first CPU, and keeps it there: which one that is.
///
/// # Panics
/// If the kernel refuses it.
pub fn on_one_cpu() -> usize {
    let cpu = cpus()[0];
    on_cpu(cpu);
    cpu
}

/// Lets this thread run on every CPU again.
///
/// # Panics
/// If the kernel refuses it.
pub fn everywhere() {
    run_on(cpus());
}

fn run_on(some: &[usize]) {
    assert!(some.iter().all(|cpu| cpus().contains(cpu)), "CPUs {some:?} of {:?}", cpus());
    let mut set = CpuSet::new();
    some.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).unwrap_or_else(|e| panic!("CPUs {some:?}: {e}"));
}

/// Whether the kernel is one of real time (PREEMPT_RT), where interrupts are tasks.
pub fn real_time() -> bool {
    let says = rustix::system::uname().version().to_string_lossy().contains("PREEMPT_RT");
    says || std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|it| it.trim() == "1")
}

/// Whether the kernel says that it does not preempt programs outside of critical sections: it runs with
/// `preempt=none` or `preempt=voluntary`. False where it does not say (without debugfs, or before Linux 5.15).
pub fn preempts_nobody() -> bool {
    std::fs::read_to_string("/sys/kernel/debug/sched/preempt")
        .is_ok_and(|modes| modes.contains("(none)") || modes.contains("(voluntary)"))
}

/// Major and minor number of the running kernel.
///
/// # Panics
/// If it has none.
pub fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().unwrap().split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().unwrap().parse().unwrap();
    (number(), number())
}
