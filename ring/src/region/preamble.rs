//! Writing a region's preamble.

use std::sync::atomic::{Ordering, fence};

use mapring_core::protocol::WordsMut;

use super::process::this_process;
use crate::abi::{Preamble, Process};

/// Writes a preamble, its first word last: a reader that sees this word sees the rest.
pub(crate) fn write_preamble(words: WordsMut<'_>, preamble: &Preamble) {
    let encoded = with_loader(preamble);
    for (at, &word) in encoded.iter().enumerate().skip(1).filter(|&(at, _)| at != Preamble::DROPPED) {
        words.store(at, word, Ordering::Relaxed);
    }
    fence(Ordering::Release); // SYNC preamble: pairs with the fence in `preamble_words`
    words.store(0, encoded[0], Ordering::Relaxed);
}

/// The preamble as words, with this process as the loader, unless procfs is missing.
pub(crate) fn with_loader(preamble: &Preamble) -> [u64; Preamble::WORDS] {
    let mut words = preamble.encode();
    words[Preamble::LOADER] = this_process().map_or(0, Process::encode);
    words
}

/// Nanoseconds since boot, to distinguish a region from earlier ones at the same place.
pub(crate) fn generation() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
