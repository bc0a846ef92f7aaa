//! The writers that this process has, by the memory that they write: handles, clones and separate mappings
//! of one region find each other here.
//!
//! All of them share a lock. Other processes do not see it. A child of `fork` has a copy of it, which a thread
//! that the child does not have may hold: it must not write by what it inherited.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};

/// What tells one region's memory from another's, however it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// A BPF map: its id, which the kernel gives to no other map while anyone has this one open or mapped.
    Map(u32),
    /// A memory file: its device and inode. (Numbers that wrapped around after 2^32 files cost two regions
    /// a common lock, and nothing else.)
    File(u64, u64),
}

impl Identity {
    /// Whether it is a BPF map.
    pub(crate) fn is_map(self) -> bool {
        !matches!(self, Self::File(..))
    }

    /// That of a memory file. Makes a system call.
    pub(super) fn file(fd: BorrowedFd<'_>) -> Result<Self> {
        let stat = rustix::fs::fstat(fd).map_err(|e| Error::system("fstat", e))?;
        Ok(Self::File(stat.st_dev, stat.st_ino))
    }
}

/// The memory, and the part of it that is written: a shard, a variable.
type Key = (Identity, usize);

/// Whose turn it is.
type Turn = Arc<Mutex<()>>;

/// How many writers there are of each.
static ALL: Mutex<BTreeMap<Key, (usize, Turn)>> = Mutex::new(BTreeMap::new());

/// One of this process's writers of a part of some memory.
pub(crate) struct Writer {
    key: Key,
    turn: Turn,
}

impl Writer {
    /// One more. Waits while another one is [`alone`](Self::alone).
    pub(crate) fn new(identity: Identity, part: usize) -> Self {
        let key = (identity, part);
        let turn = {
            let mut all = ALL.lock();
            let (count, turn) = all.entry(key).or_default();
            *count += 1;
            Arc::clone(turn)
        };
        drop(turn.lock());
        Self { key, turn }
    }

    /// Waits until no other writer has its turn.
    #[inline]
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Keeps others from becoming writers; how many there are already, if there are any.
    pub(crate) fn alone(&self) -> Result<MutexGuard<'_, ()>, usize> {
        // Who becomes one from here on finds the lock held. So it must be taken before they are counted.
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
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
            // It is counted before it waits.
            while ALL.lock()[&(file(1), 0)].0 < 2 {
                std::thread::yield_now();
            }
            assert!(!late.is_finished());
            drop(alone);
            drop(late.join().unwrap());
        });
        drop((one, other, elsewhere));
        assert!(!ALL.lock().keys().any(|(identity, _)| [file(1), file(2)].contains(identity)));
    }
}
