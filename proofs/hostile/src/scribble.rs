//! A writer that stores random words everywhere.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use mapring::Region;
use mapring::abi::Preamble;
use mapring::abi::seq::DISCARDED;
use mapring_core::protocol::WordsMut;
use memmap2::{MmapOptions, MmapRaw};

/// A word that can do harm: random, or close to a meaningful value.
pub fn hostile_word(rng: &mut Rng) -> u64 {
    match rng.u8(..6) {
        0 => rng.u64(..),
        1 => u64::MAX - rng.u64(..64),
        2 => DISCARDED | rng.u64(..64),
        3 => 1 << rng.u8(..64),
        _ => rng.u64(..64),
    }
}

/// A writable mapping of a region, made without the library.
#[derive(Debug)]
pub struct Neighbour {
    map: MmapRaw,
    original: Vec<u64>,
}

impl Neighbour {
    /// Maps `region`, and saves its content.
    ///
    /// # Panics
    /// Panics if it can't be mapped for writing.
    pub fn of(region: &Region) -> Self {
        Self::start_of(region, region.geometry().bytes())
    }

    /// Maps the first `bytes` of a map of any type.
    ///
    /// # Panics
    /// Panics if they can't be mapped for writing.
    pub fn start_of(map: impl AsFd, bytes: usize) -> Self {
        let map = MmapOptions::new().len(bytes).map_raw(&map.as_fd());
        let mut neighbour = Self { map: map.unwrap_or_else(|e| panic!("mmap: {e}")), original: Vec::new() };
        let words = neighbour.words();
        neighbour.original = (0..words.len()).map(|at| words.load(at, Ordering::Relaxed)).collect();
        neighbour
    }

    /// Restores the saved content.
    pub fn restore(&self) {
        let words = self.words();
        for (at, &word) in self.original.iter().enumerate() {
            words.store(at, word, Ordering::Relaxed);
        }
    }

    /// Its words.
    pub fn words(&self) -> WordsMut<'_> {
        // SAFETY: the mapping starts on a page boundary, has the stated length, is writable, and lives as long as
        // `self`; neither a sealed memfd nor a map can shrink; all users here access it through `WordsMut`.
        unsafe { WordsMut::from_raw(self.map.as_mut_ptr().cast(), self.map.len() / 8) }
    }

    /// Overwrites random words, including the preamble, until `stop`. Returns the number of stores.
    pub fn scribble(&self, seed: u64, stop: &AtomicBool) -> u64 {
        let words = self.words();
        let mut rng = Rng::with_seed(seed);
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            // Half of the time the preamble is restored, so that new readers can open the region. Sometimes everything
            // is restored; otherwise writers would soon find no free slot.
            let from = if rng.bool() { Preamble::WORDS } else { 0 };
            let restored = if rng.u8(..8) == 0 { words.len() } else { from };
            for (at, &word) in self.original[..restored].iter().enumerate() {
                words.store(at, word, Ordering::Relaxed);
            }
            let count = 1 << rng.u32(..8);
            for _ in 0..count {
                let at = rng.usize(from..words.len());
                words.store(at, hostile_word(&mut rng), Ordering::Relaxed);
            }
            written += count;
            if rng.u8(..8) == 0 {
                std::thread::yield_now(); // so that the victims run in between
            }
        }
        written
    }
}
