//! Where memory that a peer copies lies within its pages. On some machines a copy takes ten times as long in one place as in
//! another: `rep movsb` where the ends of source and destination are a little apart, loads that seem to depend on stores
//! 4096 bytes away. A ratio to such a peer says nothing, so each peer is measured at its best place.

use anyhow::{Context, Result};

use crate::Spread;

/// Places within a page, in bytes.
pub const OFFSETS: [usize; 8] = [0, 32, 64, 512, 1024, 2048, 3072, 4032];

/// How often each place is tried.
const ROUNDS: usize = 7;

/// The place at which `block` takes the least time: the smallest median of some rounds over all places.
///
/// # Errors
/// Returns the first error of a block, or that there is no place.
pub fn best_place<P: Copy>(
    places: impl IntoIterator<Item = P>,
    mut block: impl FnMut(P) -> Result<f64>,
) -> Result<P> {
    let mut tried: Vec<_> = places.into_iter().map(|place| (place, Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (place, samples) in &mut tried {
            samples.push(block(*place)?);
        }
    }
    let medians = tried.into_iter().map(|(place, samples)| (place, Spread::of(samples).median));
    Ok(medians.min_by(|a, b| a.1.total_cmp(&b.1)).context("no place")?.0)
}

/// Words that can be placed anywhere within a page.
pub struct Placed {
    words: Vec<u64>,
    len: usize,
}

impl Placed {
    const PAGE: usize = 4096;

    /// So many words.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self { words: vec![0; len + 2 * Self::PAGE / size_of::<u64>()], len }
    }

    /// The words that begin `offset` bytes after the start of a page.
    pub fn at(&mut self, offset: usize) -> &mut [u64] {
        let first = self.words.as_ptr().align_offset(Self::PAGE) + offset % Self::PAGE / size_of::<u64>();
        &mut self.words[first..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_place_is_the_fastest() {
        let mut blocks = 0.0;
        let mut block = |place: usize| {
            blocks += 0.001;
            Ok([3.0, 1.0, 2.0][place] + blocks)
        };
        assert_eq!(best_place(0..3, &mut block).unwrap(), 1);
        assert!(best_place(0..0, &mut block).is_err());
        assert!(best_place(0..3, |_| anyhow::bail!("wrong")).is_err());
    }

    #[test]
    fn words_are_where_they_shall_be() {
        let mut placed = Placed::new(512);
        for offset in OFFSETS {
            let words = placed.at(offset);
            assert_eq!((words.as_ptr().addr() % 4096, words.len()), (offset, 512));
        }
    }
}
