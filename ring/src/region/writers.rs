//! This process's writers, by the memory that they write: handles, clones and separate mappings of one region share an
//! entry here.
//!
//! All writers of an entry share a lock. Other processes do not see it. A child of `fork` has a copy of the lock, which
//! may be held by a thread that the child does not have: the child must not use inherited writers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};

/// Distinguishes one region's memory from another's, however it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// A BPF map: its id. The kernel gives this id to no other map while any process has this one open or mapped.
    Map(u32),
    /// A memfd: its device and inode. (If the numbers wrap around after 2^32 files, two regions share a lock, nothing
    /// else.)
    File(u64, u64),
}

impl Identity {
    /// Whether it is a BPF map.
    pub(crate) fn is_map(self) -> bool {
        !matches!(self, Self::File(..))
    }

    /// The identity of a memfd. Makes a system call.
    pub(super) fn file(fd: BorrowedFd<'_>) -> Result<Self> {
        let stat = rustix::fs::fstat(fd).map_err(|e| Error::system("fstat", e))?;
        Ok(Self::File(stat.st_dev, stat.st_ino))
    }
}

/// The memory, and the part of it that is written: a shard, a variable.
type Key = (Identity, usize);

/// The lock that the writers of one part share.
type Turn = Arc<Mutex<()>>;

/// The number of writers of each part, and their lock.
static ALL: Mutex<BTreeMap<Key, (usize, Turn)>> = Mutex::new(BTreeMap::new());

/// One of this process's writers of one part of some memory.
pub(crate) struct Writer {
    key: Key,
    turn: Turn,
    last: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Writer {
    /// Registers a writer. Waits while another one is [`alone`](Self::alone).
    pub(crate) fn new(identity: Identity, part: usize) -> Self {
        let key = (identity, part);
        let turn = {
            let mut all = ALL.lock();
            let (count, turn) = all.entry(key).or_default();
            *count += 1;
            Arc::clone(turn)
        };
        drop(turn.lock());
        Self { key, turn, last: None }
    }

    /// Calls `f` when this writer is dropped, if it is then the last one of its part. No other becomes a writer before
    /// `f` returns. `f` must not use writers.
    pub(crate) fn on_last(&mut self, f: impl FnOnce() + Send + Sync + 'static) {
        self.last = Some(Box::new(f));
    }

    /// Waits until no other writer holds the lock, and takes it.
    #[inline]
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Keeps others from becoming writers. If there already are other writers, returns their number as the error.
    pub(crate) fn alone(&self) -> Result<MutexGuard<'_, ()>, usize> {
        // A writer that registers from here on waits for this lock. So take the lock before counting.
        let turn = self.turn.lock();
        match ALL.lock().get(&self.key).map_or(1, |(count, _)| *count) - 1 {
            0 => Ok(turn),
            others => Err(others),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = ALL.lock().entry(self.key) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                if let Some(last) = self.last.take() {
                    last();
                }
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn file(inode: u64) -> Identity {
        Identity::File(u64::MAX, inode)
    }

    #[test]
    fn writers_of_one_part_share_a_turn_and_are_counted() {
        let [one, same, other, elsewhere] =
            [(1, 0), (1, 0), (1, 1), (2, 0)].map(|(inode, part)| Writer::new(file(inode), part));
        let turn = one.turn();
        assert!(same.turn.is_locked() && !other.turn.is_locked() && !elsewhere.turn.is_locked());
        drop(turn);
        assert_eq!(one.alone().err(), Some(1));
        assert!(!one.turn.is_locked() && other.alone().is_ok());
        drop(same);
        let alone = one.alone().unwrap();
        std::thread::scope(|scope| {
            let late = scope.spawn(|| Writer::new(file(1), 0));
            // The writer is counted before it waits.
            while ALL.lock()[&(file(1), 0)].0 < 2 {
                std::thread::yield_now();
            }
            assert!(!late.is_finished());
            drop(alone);
            drop(late.join().unwrap());
        });
        drop((one, other, elsewhere));
        let ended = Arc::new(AtomicUsize::new(0));
        let [one, same] = [(); 2].map(|()| {
            let (mut writer, ended) = (Writer::new(file(1), 0), Arc::clone(&ended));
            writer.on_last(move || _ = ended.fetch_add(1, Ordering::Relaxed));
            writer
        });
        drop(one);
        assert_eq!(ended.load(Ordering::Relaxed), 0, "there is another");
        drop(same);
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        assert!(!ALL.lock().keys().any(|(identity, _)| [file(1), file(2)].contains(identity)));
    }
}
