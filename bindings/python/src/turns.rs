//! A lock that threads take in turns, and that the child of a fork does not wait for in vain.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How often this process is the child of a fork.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// What the interpreter calls in the child of a fork.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

pub(crate) struct Turns<T> {
    value: Mutex<T>,
    /// [`FORKS`] when a thread took the lock: another number is that of a thread which stayed in the parent.
    taken: AtomicU32,
}

impl<T> Turns<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), taken: AtomicU32::new(0) }
    }

    /// Waits for its turn. Only without the interpreter's lock.
    ///
    /// # Errors
    /// If a thread of the parent held the lock when this process was forked.
    pub(crate) fn lock(&self) -> PyResult<MutexGuard<'_, T>> {
        let forks = FORKS.load(Ordering::Relaxed);
        let guard = match self.value.try_lock() {
            Some(guard) => guard,
            None if self.taken.load(Ordering::Relaxed) != forks => {
                let why =
                    "a thread used this reader when the process was forked: open the ring again in the child";
                return Err(PyRuntimeError::new_err(why));
            }
            None => self.value.lock(),
        };
        self.taken.store(forks, Ordering::Relaxed);
        Ok(guard)
    }

    /// Does something that may sleep. Threads that wait for their turn are next.
    pub(crate) fn then_others<R>(&self, f: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        let mut guard = self.lock()?;
        let result = f(&mut guard);
        MutexGuard::unlock_fair(guard);
        Ok(result)
    }
}
