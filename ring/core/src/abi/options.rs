//! What a ring can do beyond what every ring does.

use core::fmt;

/// The options of a ring, as `MAPRING_RING` declares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RingOptions(u8);

impl RingOptions {
    // The bits in BTF and in the preamble, as in `include/mapring/detail/options.bpf.h`. Each with its name there.

    /// Programs wake readers that wait.
    pub const WAKEABLE: Self = Self(1);
    /// Programs keep records that a required reader has not read. Such a ring is wakeable.
    pub const KEEP_OLDEST: Self = Self(2 | 1);
    /// Records have tails.
    pub const TAILS: Self = Self(4);
    /// Each shard is in a map of its own.
    pub const PER_CPU_MAPS: Self = Self(8);
    /// Another ring can replace this one.
    pub const RESIZABLE: Self = Self(16);
    const NAMES: [(Self, &'static str); 5] = [
        (Self::WAKEABLE, "WAKEABLE"),
        (Self::KEEP_OLDEST, "KEEP_OLDEST"),
        (Self::TAILS, "TAILS"),
        (Self::PER_CPU_MAPS, "PER_CPU_MAPS"),
        (Self::RESIZABLE, "RESIZABLE"),
    ];

    /// The options with these bits, if they are known and a ring can have all of them.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let options = Self(u8::try_from(bits).ok().filter(|bits| *bits < 32)?);
        (options.has(Self::KEEP_OLDEST) || options.0 & 2 == 0).then_some(options)?.possible()
    }

    /// The bits in BTF and in the preamble.
    pub fn bits(self) -> u64 {
        self.0.into()
    }

    /// These options, unless no ring can have all of them: positions of required readers and tails are of one ring, so a
    /// resizable ring can only wake readers.
    pub fn possible(self) -> Option<Self> {
        let beside = Self(self.0 & !Self::RESIZABLE.0);
        (!self.is_resizable() || Self::WAKEABLE.has(beside)).then_some(self)
    }

    /// These options and `other`.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Programs wake readers that wait.
    pub fn wakes_readers(self) -> bool {
        self.has(Self::WAKEABLE)
    }

    /// Programs drop new records rather than overwrite what a required reader has not read.
    pub fn keeps_oldest(self) -> bool {
        self.has(Self::KEEP_OLDEST)
    }

    /// Records have tails.
    pub fn has_tails(self) -> bool {
        self.has(Self::TAILS)
    }

    /// Each shard has a map of its own, on the NUMA node of its CPU.
    pub fn has_per_cpu_maps(self) -> bool {
        self.has(Self::PER_CPU_MAPS)
    }

    /// Another ring can replace it.
    pub fn is_resizable(self) -> bool {
        self.has(Self::RESIZABLE)
    }
}

/// `KEEP_OLDEST, TAILS`: as in the declaration. Nothing for a ring without options.
impl fmt::Display for RingOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let implied = |option| option == Self::WAKEABLE && self.keeps_oldest();
        let names = Self::NAMES.iter().filter(|(option, _)| self.has(*option) && !implied(*option));
        for (at, (_, name)) in names.enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_by_their_bits_and_names() {
        let all = (0..=256).filter_map(RingOptions::from_bits).map(|options| options.to_string());
        let expected = [
            "",
            "WAKEABLE",
            "KEEP_OLDEST",
            "TAILS",
            "WAKEABLE, TAILS",
            "KEEP_OLDEST, TAILS",
            "PER_CPU_MAPS",
            "WAKEABLE, PER_CPU_MAPS",
            "KEEP_OLDEST, PER_CPU_MAPS",
            "TAILS, PER_CPU_MAPS",
            "WAKEABLE, TAILS, PER_CPU_MAPS",
            "KEEP_OLDEST, TAILS, PER_CPU_MAPS",
            "RESIZABLE",
            "WAKEABLE, RESIZABLE",
        ];
        assert_eq!(all.collect::<Vec<_>>(), expected);
        assert!(
            (0..32)
                .filter_map(RingOptions::from_bits)
                .all(|it| RingOptions::from_bits(it.bits()) == Some(it))
        );
    }

    #[test]
    fn who_keeps_records_wakes_readers() {
        let wakes = |options: RingOptions| options.wakes_readers();
        assert!(wakes(RingOptions::WAKEABLE) && wakes(RingOptions::KEEP_OLDEST));
        assert!(!wakes(RingOptions::TAILS) && !wakes(RingOptions::RESIZABLE));
    }
}
