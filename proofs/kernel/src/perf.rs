//! Software events: the clock that interrupts everything else, and context switches.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use libbpf_rs::libbpf_sys::perf_event_attr;
use libbpf_rs::{Link, Object};

use crate::{cpus, program};

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
const PERF_COUNT_SW_CONTEXT_SWITCHES: u64 = 3;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// A clock event on `cpu` every `period` nanoseconds, which interrupts any code that runs there.
///
/// # Panics
/// Panics with the kernel's error.
pub fn sample_clock(cpu: usize, period: u64) -> OwnedFd {
    software(cpu, PERF_COUNT_SW_CPU_CLOCK, period)
}

/// An event at each context switch on `cpu`, inside the scheduler.
///
/// # Panics
/// Panics with the kernel's error.
pub fn sample_switches(cpu: usize) -> OwnedFd {
    software(cpu, PERF_COUNT_SW_CONTEXT_SWITCHES, 1)
}

/// Makes the clock interrupt each CPU every `period` nanoseconds with this program, until the links are dropped.
///
/// # Panics
/// Panics with the kernel's error.
pub fn ticks(object: &Object, name: &str, period: u64) -> Vec<Link> {
    let clocks = cpus().iter().map(|&cpu| sample_clock(cpu, period).into_raw_fd());
    clocks.map(|fd| program(object, name).attach_perf_event(fd).unwrap()).collect()
}

/// How long a stress test runs: `MAPRING_STRESS_SECONDS`, or as many as these.
///
/// # Panics
/// Panics if the variable is not a number.
pub fn stress_seconds(otherwise: f64) -> Duration {
    let seconds = std::env::var("MAPRING_STRESS_SECONDS")
        .map_or(otherwise, |s| s.parse().expect("a number of seconds"));
    Duration::from_secs_f64(seconds)
}

fn software(cpu: usize, config: u64, period: u64) -> OwnedFd {
    let mut attr = perf_event_attr {
        type_: PERF_TYPE_SOFTWARE,
        size: u32::try_from(size_of::<perf_event_attr>()).unwrap(),
        config,
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = period;
    let (any_process, no_group) = (-1, -1);
    // SAFETY: `attr` has the size that it states, and the call keeps no pointer to it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    assert!(fd >= 0, "perf_event_open on CPU {cpu}: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}
