//! Threads of one CPU that stop each other at any moment, also inside BPF programs.

use std::sync::{Mutex, Once};
use std::time::Duration;

use rustix::thread::{Pid, gettid};

/// Threads that take turns. Their order is random: where each thread is always stopped by the same one, some ways to
/// interrupt each other never happen.
///
/// By real-time priorities, since on kernels with `preempt=lazy` an ordinary thread mostly goes on until its program ends.
#[derive(Debug, Default)]
pub struct Turns {
    threads: Mutex<Vec<Pid>>,
}

impl Turns {
    /// This thread takes part.
    ///
    /// # Panics
    /// Panics if another thread panicked here.
    pub fn take_part(&self) {
        let thread = gettid();
        set_priority(thread, 1);
        self.threads.lock().unwrap().push(thread);
    }

    /// Until `enough`, stops the thread whose turn it is and gives the turn to another one.
    ///
    /// # Panics
    /// Panics if another thread panicked here.
    pub fn give(&self, enough: impl Fn() -> bool) {
        set_priority(gettid(), 3);
        let mut turn = None;
        while !enough() {
            std::thread::sleep(Duration::from_micros(fastrand::u64(1..500)));
            let next = fastrand::choice(&*self.threads.lock().unwrap()).copied();
            turn.into_iter().for_each(|thread| set_priority(thread, 1));
            next.into_iter().for_each(|thread| set_priority(thread, 2));
            turn = next;
        }
    }
}

/// Says so if the kernel refuses (a control group without real-time threads): then the thread stays an ordinary one.
#[allow(unsafe_code)]
fn set_priority(thread: Pid, priority: i32) {
    static REFUSED: Once = Once::new();
    let priority = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel only reads the parameter, which lives until this returns.
    if unsafe {
        libc::sched_setscheduler(thread.as_raw_nonzero().get(), libc::SCHED_FIFO, &raw const priority)
    } != 0
    {
        let error = std::io::Error::last_os_error();
        // A thread that has ended has no turns.
        if error.raw_os_error() != Some(libc::ESRCH) {
            REFUSED.call_once(|| eprintln!("sched_setscheduler: {error}"));
        }
    }
}
