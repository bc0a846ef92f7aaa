//! The preamble: the first 128 bytes of every region, which describe it.

use thiserror::Error;

use super::{Gate, Geometry, GeometryError, Kind, Process, Tails, VERSION, WORD};
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
    #[error("layout version {found}, this library knows {VERSION}")]
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
    /// The sort of region is not supported.
    #[error(
        "a region of unknown sort {found}, this library knows 0, 1 (the ring of one CPU), 2 (a ring with tails), 3 (a \
         ring that wakes readers) and 4 (one that also keeps its oldest records)"
    )]
    Sort {
        /// The word 13.
        found: u64,
    },
    /// The state of the gate is not supported.
    #[error("a gate of unknown state {state}, this library knows 0 (not resizable), 1 (open) and 3 (retired)", state = found & 0xff)]
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
    /// The word that counts writes without a place: from a CPU without a shard, to an index out of range, into a busy
    /// cell.
    pub const DROPPED: usize = 12;

    /// The number of words at the start that identify the region; the others are informative or change.
    pub const IDENTITY: usize = 7;

    /// The word with the [`Process`] that initialized the region, or 0: see [`loader`](Self::loader).
    pub const LOADER: usize = 11;

    /// The name ends with a zero byte before the word [`LOADER`](Self::LOADER). Regions of mapring 0.6 and before, which
    /// name no loader, can have a longer name that goes on in that word.
    const NAME: core::ops::Range<usize> = 8..11;
    const LONG_NAME: core::ops::Range<usize> = 8..12;
    /// The word that says in its low byte what sort of ring this is: 1 for the ring of one CPU in a NUMA ring, 2 for a
    /// ring with [`Tails`], 3 for a ring that wakes readers, 4 for one that also keeps its oldest records, both with the
    /// id of the map of its readers in the upper half; else 0.
    const SORT: usize = 13;
    /// In a ring with tails that also wakes readers or keeps its oldest records, this word is like
    /// [`SORT`](Self::SORT) of such a ring without tails.
    const ALSO_WAKEABLE: usize = 15;
    const OF_CPU: u64 = 1;
    const WAKEABLE: u64 = 3;
    const KEEPS_OLDEST: u64 = 4;

    /// The preamble as words, with [`DROPPED`](Self::DROPPED) zero.
    pub fn encode(&self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        words[0] = Self::MAGIC;
        words[1] = VERSION;
        words[2] = self.geometry.kind() as u64;
        words[3] = self.geometry.record() as u64;
        words[4] = self.geometry.capacity() as u64;
        words[5] = self.geometry.shards() as u64;
        words[6] = self.geometry.element() as u64;
        words[7] = self.generation;
        words[Self::SORT] = match &self.geometry {
            of_cpu if of_cpu.is_of_cpu() => Self::OF_CPU,
            other => other.tails().map_or(0, |tails| tails.encode()),
        };
        if self.geometry.keeps_oldest() {
            words[Self::link(&self.geometry)] = Self::KEEPS_OLDEST;
        }
        let gate = if self.geometry.is_resizable() { Gate::Open } else { Gate::None };
        words[Gate::WORD] = gate.encode(self.geometry.capacity());
        let name = &self.name.as_bytes()[..self.name.len().min(Self::NAME.len() * WORD - 1)];
        for (word, bytes) in words[Self::NAME].iter_mut().zip(name.chunks(WORD)) {
            let mut padded = [0; WORD];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        words
    }

    /// The word that links a region of this shape, a ring or its [readers](super::readers), to the other, as
    /// [`readers`](Self::readers) and [`linked`](Self::linked) read it.
    pub fn link(region: &Geometry) -> usize {
        if region.tails().is_some() { Self::ALSO_WAKEABLE } else { Self::SORT }
    }

    /// The [link](Self::link) of a ring of this shape that wakes readers, whose readers are in the map with this id.
    pub fn wakeable(ring: &Geometry, readers: u32) -> u64 {
        let sort = if ring.keeps_oldest() { Self::KEEPS_OLDEST } else { Self::WAKEABLE };
        u64::from(readers) << 32 | sort
    }

    /// The id of the map with the readers, from that word, if the ring wakes readers.
    pub fn readers(word: u64) -> Option<u32> {
        let (sort, readers) = Self::linked(word);
        [Self::WAKEABLE, Self::KEEPS_OLDEST].contains(&sort.into()).then_some(readers)
    }

    /// The [link](Self::link) of readers: the ids of their ring and of the map with their bells.
    pub fn links(ring: u32, bells: u32) -> u64 {
        u64::from(bells) << 32 | u64::from(ring)
    }

    /// The ids in that word: of the ring, and of the map with the bells.
    #[allow(clippy::cast_possible_truncation)] // both halves
    pub fn linked(word: u64) -> (u32, u32) {
        (word as u32, (word >> 32) as u32)
    }

    /// Whether the name ends before the word [`LOADER`](Self::LOADER), according to the word before that one.
    pub fn names_loader(before: u64) -> bool {
        before.to_ne_bytes().ends_with(&[0])
    }

    /// The process that initialized the region, from the word before [`LOADER`](Self::LOADER) and that word.
    pub fn loader(before: u64, loader: u64) -> Option<Process> {
        Process::decode(loader).filter(|_| Self::names_loader(before))
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
        let kind = Kind::from_raw(words[2]).ok_or(PreambleError::Kind { found: words[2] })?;
        let mut geometry = Geometry::new(kind, words[3], words[4], words[5])?;
        match Gate::decode(words[Gate::WORD]) {
            Gate::None => {}
            Gate::Open | Gate::Retired => geometry = geometry.resizable()?,
            // Only headers contain this state.
            Gate::Closing | Gate::Unknown => return Err(PreambleError::Gate { found: words[Gate::WORD] }),
        }
        match words[Self::SORT] {
            _ if kind == Kind::Readers => {}
            0 => {}
            Self::OF_CPU => geometry = geometry.of_cpu()?,
            word if kind == Kind::Ring && Self::readers(word).is_some() => {
                if word & 0xff == Self::KEEPS_OLDEST {
                    geometry = geometry.keep_oldest()?;
                }
            }
            found => {
                let tails = Tails::decode(found).ok_or(PreambleError::Sort { found })??;
                geometry = geometry.with_tails(tails)?;
                if u64::from(Self::linked(words[Self::ALSO_WAKEABLE]).0) == Self::KEEPS_OLDEST {
                    geometry = geometry.keep_oldest()?;
                }
            }
        }
        if words[6] != geometry.element() as u64 {
            return Err(GeometryError::Element { found: words[6], expected: geometry.element() }.into());
        }
        let is_short = Self::names_loader(words[Self::LOADER - 1]);
        let name: Vec<u8> = words[if is_short { Self::NAME } else { Self::LONG_NAME }]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take_while(|&byte| byte != 0)
            .collect();
        let name = printable(&String::from_utf8_lossy(&name));
        Ok(Self { geometry, generation: words[7], name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preamble() -> Preamble {
        let geometry = Geometry::new(Kind::Ring, 56, 4096, 2).unwrap();
        Preamble { geometry, generation: 7, name: "switch_event".into() }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(Preamble::decode(&preamble().encode()), Ok(preamble()));
        let resizable = Preamble { geometry: preamble().geometry.resizable().unwrap(), ..preamble() };
        assert_eq!(Preamble::decode(&resizable.encode()), Ok(resizable.clone()));
        let one = Geometry::new(Kind::Ring, 56, 4096, 1).unwrap().of_cpu().unwrap();
        let of_cpu = Preamble { geometry: one, ..preamble() };
        assert_eq!(Preamble::decode(&of_cpu.encode()), Ok(of_cpu));
        let tails = Tails::new(4096, 1 << 20).unwrap();
        let tailed = Preamble { geometry: preamble().geometry.with_tails(tails).unwrap(), ..preamble() };
        assert_eq!(Preamble::decode(&tailed.encode()), Ok(tailed.clone()));
        let mut linked = tailed.encode();
        linked[Preamble::link(&tailed.geometry)] = Preamble::wakeable(&tailed.geometry, 7);
        assert_eq!(Preamble::decode(&linked), Ok(tailed.clone()));
        let keeps = Preamble { geometry: preamble().geometry.keep_oldest().unwrap(), ..preamble() };
        assert_eq!(Preamble::decode(&keeps.encode()), Ok(keeps.clone()));
        let mut linked = keeps.encode();
        linked[Preamble::link(&keeps.geometry)] = Preamble::wakeable(&keeps.geometry, 7);
        assert_eq!(Preamble::decode(&linked), Ok(keeps.clone()));
        let both = Preamble { geometry: tailed.geometry.keep_oldest().unwrap(), ..preamble() };
        let mut linked = both.encode();
        assert_eq!(Preamble::decode(&linked), Ok(both.clone()));
        linked[Preamble::link(&both.geometry)] = Preamble::wakeable(&both.geometry, 7);
        assert_eq!(Preamble::decode(&linked), Ok(both));
        // Its gate is closed later.
        let mut retired = resizable.encode();
        retired[Gate::WORD] = Gate::Retired.encode(4096);
        assert_eq!(Preamble::decode(&retired), Ok(resizable));
        let long = Preamble { name: "x".repeat(100), ..preamble() };
        assert_eq!(Preamble::decode(&long.encode()).unwrap().name, "x".repeat(23));
    }

    #[test]
    fn a_loader_is_told_from_the_end_of_a_long_name() {
        let loader = |words: &[u64]| Preamble::loader(words[10], words[11]);
        let process = Process { pid: 7, start: 9 };
        let mut words = Preamble { name: "x".repeat(100), ..preamble() }.encode();
        assert_eq!(loader(&words), None);
        words[11] = process.encode();
        assert_eq!(loader(&words), Some(process));
        assert_eq!(Preamble::decode(&words).unwrap().name, "x".repeat(23));
        // A region of an earlier version.
        words[8..12].fill(u64::from_ne_bytes(*b"yyyyyyyy"));
        assert_eq!((loader(&words), Preamble::decode(&words).unwrap().name), (None, "y".repeat(32)));
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
        assert_eq!(decode(2, 77), PreambleError::Kind { found: 77 });
        for found in [5, 1 << 8, 1 << 32 | 1, 2 | 64 << 40, u64::MAX] {
            assert_eq!(decode(13, found), PreambleError::Sort { found });
        }
        assert_eq!(decode(13, 1), PreambleError::Geometry(GeometryError::OfCpu));
        assert_eq!(decode(13, 2), PreambleError::Geometry(GeometryError::Tails { longest: 0, bytes: 1 }));
        for found in [2, 4, 0xff, 0xc02, 0xc04, u64::MAX] {
            assert_eq!(decode(14, found), PreambleError::Gate { found });
        }
        assert!(decode(14, 0xc04).to_string().contains("unknown state 4, this library knows 0"));
        for (at, value) in [(3, 0), (3, u64::MAX), (4, 0), (4, 3), (5, 0), (5, u64::MAX), (6, 0), (6, 72)] {
            assert!(matches!(decode(at, value), PreambleError::Geometry(_)), "word {at} = {value}");
        }
    }
}
