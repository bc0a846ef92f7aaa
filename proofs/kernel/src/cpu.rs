//! The CPU that a thread runs on. New threads inherit it from their parent.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this process may use: not always all, and not always from 0.
///
/// # Panics
/// Panics if the kernel does not report them.
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
/// Panics if this process can't use that CPU.
pub fn on_cpu(cpu: usize) {
    run_on(&[cpu]);
}

/// Moves this thread to the first CPU, keeps it there, and returns that CPU.
///
/// # Panics
/// Panics if the kernel refuses.
pub fn on_one_cpu() -> usize {
    let cpu = cpus()[0];
    on_cpu(cpu);
    cpu
}

/// Lets this thread run on every CPU again.
///
/// # Panics
/// Panics if the kernel refuses.
pub fn everywhere() {
    run_on(cpus());
}

fn run_on(some: &[usize]) {
    assert!(some.iter().all(|cpu| cpus().contains(cpu)), "CPUs {some:?} of {:?}", cpus());
    let mut set = CpuSet::new();
    some.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).unwrap_or_else(|e| panic!("CPUs {some:?}: {e}"));
}

/// Whether the kernel is a real-time kernel (PREEMPT_RT), where interrupts run as tasks.
pub fn real_time() -> bool {
    let says = rustix::system::uname().version().to_string_lossy().contains("PREEMPT_RT");
    says || std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|it| it.trim() == "1")
}

/// Whether programs can claim with preemption disabled: since Linux 6.10.
pub fn has_guard() -> bool {
    kernel() >= (6, 10)
}

/// Whether the kernel reports that it never preempts programs, even outside critical sections: it runs with
/// `preempt=none` or `preempt=voluntary`. False if it does not report this (without debugfs, or before Linux 5.15).
pub fn preempts_nobody() -> bool {
    std::fs::read_to_string("/sys/kernel/debug/sched/preempt")
        .is_ok_and(|modes| modes.contains("(none)") || modes.contains("(voluntary)"))
}

/// Major and minor number of the running kernel.
///
/// # Panics
/// Panics if it has none.
pub fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().unwrap().split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().unwrap().parse().unwrap();
    (number(), number())
}
