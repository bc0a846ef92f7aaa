//! Sleeps on the bits of a word that processes share, and wakes those who sleep: futex(2).

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mapring_core::protocol::WordsMut;
use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait_bitset, wake_bitset};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::error::{Error, Result};

/// The halves of a word, with those of these bits that each has.
#[allow(clippy::cast_possible_truncation)] // both halves
fn halves(bits: u64) -> impl Iterator<Item = (bool, NonZeroU32)> {
    let halves = [(false, bits as u32), (true, (bits >> 32) as u32)];
    halves.into_iter().filter_map(|(upper, bits)| Some((upper, NonZeroU32::new(bits)?)))
}

/// Sleeps while bit number `bit` of word `at` is set, at most for `limit`, or until something else wakes the thread. One system
/// call.
pub(crate) fn sleep_while_set(words: WordsMut<'_>, at: usize, bit: usize, limit: Duration) -> Result<()> {
    let end =
        Timespec::try_from(limit).ok().and_then(|limit| clock_gettime(ClockId::Monotonic).checked_add(limit));
    for (upper, bit) in halves(1 << bit) {
        let half = words.half(at, upper);
        let seen = half.load(Ordering::Relaxed);
        if seen & bit.get() == 0 {
            continue;
        }
        match wait_bitset(half, Flags::empty(), seen, end.as_ref(), bit) {
            // AGAIN: another bit has changed.
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            Err(e) => return Err(Error::system("futex(FUTEX_WAIT_BITSET)", e)),
        }
    }
    Ok(())
}

/// Wakes one thread for each of these bits of word `at`. At most two system calls, which can't fail for a mapped word.
pub(crate) fn wake(words: WordsMut<'_>, at: usize, bits: u64) {
    for (upper, bits) in halves(bits) {
        let _ = wake_bitset(words.half(at, upper), Flags::empty(), bits.get().count_ones(), bits);
    }
}
