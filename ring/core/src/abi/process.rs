//! The word that names a process: the loader of a region, the owner of commands, a reader that waits.

/// A process, as a word names it: the pid in the lowest 22 bits, and above it the lowest 42 bits of the time when it
/// started, in clock ticks since boot. No two processes since boot have the same pid and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its pid, less than 2^22: Linux has no higher ones.
    pub pid: u32,
    /// When it started: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

impl Process {
    const PID_BITS: u32 = 22;

    /// The word that names it; never 0 for a process, whose pid is at least 1.
    pub fn encode(self) -> u64 {
        self.start << Self::PID_BITS | u64::from(self.pid)
    }

    /// The process that a word names, if it names one.
    pub fn decode(word: u64) -> Option<Self> {
        // At most 22 bits remain.
        #[allow(clippy::cast_possible_truncation)]
        let pid = (word & ((1 << Self::PID_BITS) - 1)) as u32;
        (pid != 0).then_some(Self { pid, start: word >> Self::PID_BITS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_what_it_was() {
        for process in [Process { pid: 1, start: 0 }, Process { pid: (1 << 22) - 1, start: (1 << 42) - 1 }] {
            assert_eq!(Process::decode(process.encode()), Some(process));
        }
        assert_eq!([0, 1 << 22, u64::MAX << 22].map(Process::decode), [None; 3]);
    }
}
