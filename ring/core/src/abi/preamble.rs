//! The preamble: the first 128 bytes of every region, which describe it.

use thiserror::Error;

use super::{Gate, Geometry, GeometryError, Kind, RingOptions, Tails, VERSION, WORD};
use crate::text::printable;

/// The content of the preamble. It is written once, before the region is given to others; afterwards only words 11 to 15
/// change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The region's shape.
    pub geometry: Geometry,
    /// Distinguishes the region from earlier ones at the same place: nanoseconds since boot when it was created.
    pub generation: u64,
    /// The record type's name, set by the creator; for people only, cut after 23 bytes. A decoded name can be printed:
    /// control characters and similar are escaped.
    pub name: String,
}

/// Why a preamble is refused, with what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PreambleError {
    /// The first word is not `mapring`.
    #[error("no preamble: the first word is {found:#018x}, expected {magic:#018x} (\"mapring\")", magic = Preamble::MAGIC)]
    Magic {
        /// The first word.
        found: u64,
    },
    /// The layout version is not supported.
    #[error(
        "layout version {found}, this library knows {VERSION}: build program, loader and reader with one version of mapring{}",
        if *found < VERSION { ", and replace what an older one has pinned" } else { "" }
    )]
    Version {
        /// The second word.
        found: u64,
    },
    /// The kind is not supported.
    #[error(
        "a region of unknown kind {found}, this library knows 1 (ring), 2 (cells), 3 (counters), 4 (latches), \
         5 (cells for each CPU), 6 (counters for each CPU), 7 (histograms), 8 (gauges), 9 (readers), \
         10 (commands) and 11 (top keys)"
    )]
    Kind {
        /// The third word.
        found: u64,
    },
    /// The options of a ring are not supported.
    #[error("a ring with unknown options {found:#x}")]
    Options {
        /// Their bits.
        found: u64,
    },
    /// The state of the gate is not supported.
    #[error("a gate of state {state}: a resizable ring has 1 (open) or 3 (retired), any other region 0", state = found & 0xff)]
    Gate {
        /// The word 14; its low byte is the state.
        found: u64,
    },
    /// The sizes contradict each other or the layout.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

impl Preamble {
    /// The size of the preamble in bytes.
    pub const BYTES: usize = 128;
    /// The size of the preamble in words.
    pub const WORDS: usize = Self::BYTES / WORD;
    /// The first word: `mapring` and a zero byte, in memory order.
    pub const MAGIC: u64 = u64::from_ne_bytes(*b"mapring\0");
    /// The word that counts writes that went nowhere: from a CPU without a shard, to an index out of range, into a busy
    /// cell.
    pub const DROPPED: usize = 12;

    /// The number of words at the start that identify the region; the others are informative or change.
    pub const IDENTITY: usize = 7;

    /// The word with the [`Process`](super::Process) that initialized the region, or 0.
    pub const LOADER: usize = 11;

    /// The words with the name of the record type.
    pub const NAME: core::ops::Range<usize> = 8..11;
    /// The word with the kind in its low byte; of a ring also the bits of its options from bit 8, and its tails.
    pub const KIND: usize = 2;
    /// The word with the bytes of a record or value.
    pub const RECORD: usize = 3;
    /// The word with the capacity: slots per shard, or values.
    pub const CAPACITY: usize = 4;
    /// The word with the number of shards.
    pub const SHARDS: usize = 5;
    /// The word with the bytes of an element.
    pub const SIZE: usize = 6;
    /// The word that distinguishes the region from earlier ones at the same place.
    pub const GENERATION: usize = 7;
    /// The word that links a ring to the map of its readers, by its id, and [readers](super::readers) to their ring and their
    /// bells. 0 if they are not linked yet.
    pub const LINK: usize = 13;

    /// The preamble as words, with [`DROPPED`](Self::DROPPED) zero.
    pub fn encode(&self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        words[0] = Self::MAGIC;
        words[1] = VERSION;
        words[Self::KIND] = Self::kind_word(&self.geometry);
        words[Self::RECORD] = self.geometry.record() as u64;
        words[Self::CAPACITY] = self.geometry.capacity() as u64;
        words[Self::SHARDS] = self.geometry.shards() as u64;
        words[Self::SIZE] = self.geometry.element() as u64;
        words[Self::GENERATION] = self.generation;
        let gate = if self.geometry.options().is_resizable() { Gate::Open } else { Gate::None };
        words[Gate::WORD] = gate.encode(self.geometry.capacity());
        let name = &self.name.as_bytes()[..self.name.len().min(Self::NAME.len() * WORD - 1)];
        for (word, bytes) in words[Self::NAME].iter_mut().zip(name.chunks(WORD)) {
            let mut padded = [0; WORD];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        words
    }

    /// The [link](Self::LINK) of a ring to its readers, with 0; or of readers to their ring and the map with their bells.
    pub fn links(first: u32, second: u32) -> u64 {
        u64::from(second) << 32 | u64::from(first)
    }

    /// The ids in that word.
    #[allow(clippy::cast_possible_truncation)] // both halves
    pub fn linked(word: u64) -> (u32, u32) {
        (word as u32, (word >> 32) as u32)
    }

    fn kind_word(geometry: &Geometry) -> u64 {
        let tails = geometry.tails().map_or(0, |tails| tails.encode());
        geometry.kind() as u64 | geometry.options().bits() << 8 | tails
    }

    /// Decodes `words`, which were read from shared memory.
    ///
    /// # Errors
    /// [`PreambleError`] for words that `encode` never returns. Any words are safe to pass.
    pub fn decode(words: &[u64; Self::WORDS]) -> Result<Self, PreambleError> {
        if words[0] != Self::MAGIC {
            return Err(PreambleError::Magic { found: words[0] });
        }
        if words[1] != VERSION {
            return Err(PreambleError::Version { found: words[1] });
        }
        let word = words[Self::KIND];
        let kind = Kind::from_raw(word & 0xff).ok_or(PreambleError::Kind { found: word & 0xff })?;
        let unknown = PreambleError::Options { found: word >> 8 };
        let options = RingOptions::from_bits(word >> 8 & 0xff).ok_or(unknown.clone())?;
        let tails = options.has_tails().then(|| Tails::decode(word)).transpose()?;
        let geometry = Geometry::new(kind, words[Self::RECORD], words[Self::CAPACITY], words[Self::SHARDS])?
            .with_options(options, tails)?;
        if word != Self::kind_word(&geometry) {
            return Err(unknown);
        }
        match (Gate::decode(words[Gate::WORD]), options.is_resizable()) {
            (Gate::None, false) | (Gate::Open | Gate::Retired, true) => {}
            _ => return Err(PreambleError::Gate { found: words[Gate::WORD] }),
        }
        if words[Self::SIZE] != geometry.element() as u64 {
            return Err(
                GeometryError::Element { found: words[Self::SIZE], expected: geometry.element() }.into()
            );
        }
        let name: Vec<u8> = words[Self::NAME]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take_while(|&byte| byte != 0)
            .collect();
        let name = printable(&String::from_utf8_lossy(&name));
        Ok(Self { geometry, generation: words[Self::GENERATION], name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Process;

    fn preamble() -> Preamble {
        let geometry = Geometry::new(Kind::Ring, 56, 4096, 2).unwrap();
        Preamble { geometry, generation: 7, name: "switch_event".into() }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let tails = Tails::new(4096, 1 << 20).unwrap();
        for bits in 0..32 {
            let Some(options) = RingOptions::from_bits(bits) else { continue };
            let shards = if options.has_per_cpu_maps() { 1 } else { 2 };
            let ring = Geometry::new(Kind::Ring, 56, 4096, shards).unwrap();
            let ring = ring.with_options(options, options.has_tails().then_some(tails)).unwrap();
            let described = Preamble { geometry: ring, ..preamble() };
            let mut words = described.encode();
            // Live words.
            words[Preamble::LINK] = Preamble::links(7, 0);
            words[Preamble::LOADER] = Process { pid: 7, start: 9 }.encode();
            if options.is_resizable() {
                words[Gate::WORD] = Gate::Retired.encode(4096);
            }
            assert_eq!(Preamble::decode(&words), Ok(described), "{options}");
        }
        let long = Preamble { name: "x".repeat(100), ..preamble() };
        assert_eq!(Preamble::decode(&long.encode()).unwrap().name, "x".repeat(23));
    }

    #[test]
    fn each_word_is_checked() {
        let decode = |at: usize, value| {
            let mut words = preamble().encode();
            words[at] = value;
            Preamble::decode(&words).unwrap_err()
        };
        assert_eq!(decode(0, 0), PreambleError::Magic { found: 0 });
        assert_eq!(decode(1, 9), PreambleError::Version { found: 9 });
        assert!(
            decode(1, 2)
                .to_string()
                .contains("layout version 2, this library knows 3: build program, loader")
        );
        assert!(decode(1, 2).to_string().ends_with("and replace what an older one has pinned"));
        assert_eq!(decode(2, 77), PreambleError::Kind { found: 77 });
        for found in [2, 20, 32, 1 << 8, 1 << 24, u64::MAX >> 8] {
            assert_eq!(decode(2, found << 8 | 1), PreambleError::Options { found });
        }
        let geometry = |at, value| match decode(at, value) {
            PreambleError::Geometry(error) => error,
            other => panic!("word {at} = {value}: {other}"),
        };
        assert_eq!(geometry(2, 8 << 8 | 1), GeometryError::OfCpu(2));
        assert_eq!(geometry(2, 4 << 8 | 1), GeometryError::Tails { longest: 0, bytes: 1 });
        assert!(matches!(geometry(2, 1 << 8 | 2), GeometryError::Sharded(2)));
        for found in [1, 2, 3, 4, 0xff, 0xc04, u64::MAX] {
            assert_eq!(decode(14, found), PreambleError::Gate { found });
        }
        for (at, value) in [(3, 0), (3, u64::MAX), (4, 0), (4, 3), (5, 0), (5, u64::MAX), (6, 0), (6, 72)] {
            geometry(at, value);
        }
    }

    #[test]
    fn the_words_are_where_others_expect_them() {
        assert_eq!((Preamble::BYTES, Preamble::WORDS, preamble().encode().len()), (128, 16, 16));
        assert_eq!(Preamble::links(7, 9), 9 << 32 | 7);
        assert_eq!(Preamble::linked(u64::MAX << 32 | 7), (7, u32::MAX));
    }
}
