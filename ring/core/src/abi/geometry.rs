//! The place of everything in a region: in elements, as the kernel counts them, and in words.

use thiserror::Error;

use super::gauge::GAUGE;
use super::histogram::HISTOGRAM;
use super::top::BUCKET;
use super::{Kind, LINE, Preamble, RingOptions, Tails, WORD, readers};

/// The shape of a region. Constructors accept only shapes whose offsets all fit. So calculations with a shape can't
/// overflow, and give no place outside of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    kind: Kind,
    record: u32,
    capacity: u32,
    shards: u32,
    options: RingOptions,
    tails: Option<Tails>,
}

/// Why a shape is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// The slots of a ring, of records or of commands, or the buckets of top keys, are not a power of two.
    #[error("a ring needs a power of two of slots, and top keys of buckets (1, 2, 4, …), not {0}")]
    Slots(u64),
    /// No cells, no counters, or no shards.
    #[error("{kind} with {capacity} entries in {shards} shards: both must be at least 1")]
    Empty {
        /// The kind of the region.
        kind: Kind,
        /// Cells or counters.
        capacity: u64,
        /// Shards.
        shards: u64,
    },
    /// Records of 0 bytes, or of too many.
    #[error("records of {0} bytes: a record has 1 to {max} bytes", max = Geometry::RECORD_MAX)]
    Record(u64),
    /// Readers with another number of seats than [`SEATS`](super::readers::SEATS).
    #[error("readers with {0} seats, this library knows {max}", max = super::readers::SEATS)]
    Readers(u64),
    /// Counters of a size other than 8 bytes.
    #[error("counters of {0} bytes: a counter has 8 bytes")]
    Counter(u64),
    /// Histograms of another size.
    #[error("histograms of {0} bytes: a histogram has {HISTOGRAM} bytes")]
    Histogram(u64),
    /// Gauges of another size.
    #[error("gauges of {0} bytes: a gauge has {GAUGE} bytes")]
    Gauge(u64),
    /// Buckets of top keys of another size.
    #[error("buckets of {0} bytes: a bucket of top keys has {BUCKET} bytes")]
    Bucket(u64),
    /// More elements than a map can have.
    #[error("{0} elements: a map has at most {max}", max = Geometry::ELEMENTS_MAX)]
    Entries(u64),
    /// More shards than a machine can have CPUs.
    #[error("{0} shards: a region has at most {max}", max = Geometry::SHARDS_MAX)]
    Shards(u64),
    /// The element size does not follow from the rest.
    #[error("elements of {found} bytes where the records make them {expected}")]
    Element {
        /// The value in the preamble.
        found: u64,
        /// The value that follows from the kind and the record size.
        expected: usize,
    },
    /// Cells, latches, commands and the per-CPU kinds have one shard.
    #[error(
        "only rings, counters, histograms, gauges and top keys have shards, and not in per-CPU maps: 1 shard, not {0}"
    )]
    Sharded(u64),
    /// Options of something else than a ring, or that no ring can have together.
    #[error(
        "{kind} with the options {options}: only rings have options, and a RESIZABLE ring has no others except WAKEABLE"
    )]
    Options {
        /// The kind of the region.
        kind: Kind,
        /// The options.
        options: RingOptions,
    },
    /// The map of one CPU has one shard.
    #[error("{0} shards in the map of one CPU: it has 1")]
    OfCpu(u64),
    /// Tails that don't fit into their area, or an area of a size that can't be.
    #[error(
        "tails of up to {longest} bytes in {bytes} bytes: the area is a power of two from 128 to 2^28, and at least twice the longest tail"
    )]
    Tails {
        /// Bytes of the longest tail.
        longest: u64,
        /// Bytes of the area.
        bytes: u64,
    },
    /// The records of a ring with tails start with the two words of a tail.
    #[error("records with tails have more than {min} bytes, not {0}", min = Tails::PREFIX)]
    Tailed(u64),
    /// A shard with its slots and tails is larger than a value of a map.
    #[error("a shard of {0} bytes, with its tails: the kernel takes at most {max}", max = Geometry::ELEMENT_MAX)]
    Shard(u64),
}

impl Geometry {
    /// Bytes of the largest record: the limit of an array's value, minus the sequence word.
    pub const RECORD_MAX: u64 = Self::ELEMENT_MAX - WORD as u64;
    /// The largest number of shards: more than any kernel has CPUs. Readers keep a position for each shard, so this
    /// bounds what they allocate.
    pub const SHARDS_MAX: u64 = 1 << 16;
    /// The largest number of elements: the limit of a map.
    pub const ELEMENTS_MAX: u64 = u32::MAX as u64;
    /// Bytes of the largest element of a ring with tails: the limit of an array's value.
    pub const ELEMENT_MAX: u64 = 1 << 29;

    /// A region of `kind` with `capacity` slots per shard, cells, latches, or counters, histograms or gauges per
    /// shard, of `record` bytes each (8 for counters, 4096 for histograms, 16384 for gauges).
    ///
    /// # Errors
    /// [`GeometryError`], with the number that is not possible.
    pub fn new(kind: Kind, record: u64, capacity: u64, shards: u64) -> Result<Self, GeometryError> {
        let (Ok(small_capacity), Ok(small_shards)) = (u32::try_from(capacity), u32::try_from(shards)) else {
            return Err(GeometryError::Entries(capacity.max(shards)));
        };
        let small_record = match u32::try_from(record) {
            Ok(bytes) if bytes != 0 && record <= Self::RECORD_MAX => bytes,
            _ => return Err(GeometryError::Record(record)),
        };
        match kind {
            Kind::Ring | Kind::Commands | Kind::TopKeys if !small_capacity.is_power_of_two() => {
                return Err(GeometryError::Slots(capacity));
            }
            Kind::Counters | Kind::PerCpuCounters | Kind::Readers if record != WORD as u64 => {
                return Err(GeometryError::Counter(record));
            }
            Kind::Readers if capacity != readers::SEATS as u64 => {
                return Err(GeometryError::Readers(capacity));
            }
            Kind::TopKeys if record != BUCKET as u64 => return Err(GeometryError::Bucket(record)),
            Kind::Gauges if record != GAUGE as u64 => return Err(GeometryError::Gauge(record)),
            Kind::Histograms if record != HISTOGRAM as u64 => return Err(GeometryError::Histogram(record)),
            _ if shards > 1 && !kind.is_sharded() => return Err(GeometryError::Sharded(shards)),
            _ if shards > Self::SHARDS_MAX => return Err(GeometryError::Shards(shards)),
            _ if capacity == 0 || shards == 0 => return Err(GeometryError::Empty { kind, capacity, shards }),
            Kind::Counters | Kind::PerCpuCounters | Kind::Histograms | Kind::Gauges
                if capacity > Self::RECORD_MAX / record =>
            {
                return Err(GeometryError::Entries(capacity));
            }
            _ => {}
        }
        Self {
            kind,
            record: small_record,
            capacity: small_capacity,
            shards: small_shards,
            options: RingOptions::default(),
            tails: None,
        }
        .that_fits()
    }

    fn with(self, option: RingOptions) -> Result<Self, GeometryError> {
        let options = self.options.with(option);
        if self.kind != Kind::Ring || options.possible().is_none() {
            return Err(GeometryError::Options { kind: self.kind, options });
        }
        if options.has_per_cpu_maps() && self.shards != 1 {
            return Err(GeometryError::OfCpu(self.shards.into()));
        }
        Ok(Self { options, ..self })
    }

    /// The ring's options; none of other regions.
    pub fn options(&self) -> RingOptions {
        self.options
    }

    /// The same ring with these options. `tails` are those of [`TAILS`](RingOptions::has_tails).
    ///
    /// # Errors
    /// [`GeometryError::Options`] if this is not a ring, or if no ring can have these options together;
    /// [`GeometryError::OfCpu`]; as for [`with_tails`](Self::with_tails).
    pub fn with_options(self, options: RingOptions, tails: Option<Tails>) -> Result<Self, GeometryError> {
        if options.bits() == 0 && tails.is_none() {
            return Ok(self);
        }
        let ring = self.with(options)?;
        match tails {
            Some(tails) => ring.with_tails(tails),
            None if options.has_tails() => Err(GeometryError::Tails { longest: 0, bytes: 0 }),
            None => Ok(ring),
        }
    }

    /// The same ring, but resizable. In every resizable ring the headers of all shards are at the same places, before
    /// all slots, so programs find them there.
    ///
    /// # Errors
    /// [`GeometryError::Options`].
    pub fn resizable(self) -> Result<Self, GeometryError> {
        self.with(RingOptions::RESIZABLE)
    }

    /// The same ring, as the map of one CPU.
    ///
    /// # Errors
    /// [`GeometryError::Options`], [`GeometryError::OfCpu`].
    pub fn of_cpu(self) -> Result<Self, GeometryError> {
        self.with(RingOptions::PER_CPU_MAPS)
    }

    /// The same ring, whose programs wake readers.
    ///
    /// # Errors
    /// [`GeometryError::Options`].
    pub fn wakeable(self) -> Result<Self, GeometryError> {
        self.with(RingOptions::WAKEABLE)
    }

    /// The same ring, but while a reader is required, programs drop new records rather than overwrite unread ones.
    ///
    /// # Errors
    /// [`GeometryError::Options`].
    pub fn keep_oldest(self) -> Result<Self, GeometryError> {
        self.with(RingOptions::KEEP_OLDEST)
    }

    /// The same ring with tails. Its records start with [`Tails::PREFIX`] bytes that say where the tail is. Each shard is
    /// one element, because a helper of BPF can't write across elements. The preamble is at the start of the first.
    ///
    /// # Errors
    /// [`GeometryError::Options`], [`GeometryError::Tailed`] if the records are too small, [`GeometryError::Shard`] if a
    /// shard is too large.
    pub fn with_tails(self, tails: Tails) -> Result<Self, GeometryError> {
        let ring = self.with(RingOptions::TAILS)?;
        if self.record() <= Tails::PREFIX {
            return Err(GeometryError::Tailed(self.record.into()));
        }
        let tailed = Self { tails: Some(tails), ..ring };
        if tailed.element() as u64 > Self::ELEMENT_MAX {
            Err(GeometryError::Shard(tailed.element() as u64))
        } else {
            Ok(tailed)
        }
    }

    /// The tails of the ring's records, if they have any.
    pub fn tails(&self) -> Option<&Tails> {
        self.tails.as_ref()
    }

    fn that_fits(self) -> Result<Self, GeometryError> {
        let shards = self.shard_elements() as u128 * u128::from(self.shards);
        let entries = self.first() as u128 + shards;
        match u32::try_from(entries) {
            Ok(_) => Ok(self),
            Err(_) => Err(GeometryError::Entries(u64::try_from(entries).unwrap_or(u64::MAX))),
        }
    }

    /// The kind of the region.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of a record, a value, a counter, a histogram or a gauge of one shard.
    pub fn record(&self) -> usize {
        self.record as usize
    }

    /// Slots per shard, cells, latches, or counters, histograms or gauges per shard.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// The number of shards: the possible CPUs, if BPF programs write the region.
    pub fn shards(&self) -> usize {
        self.shards as usize
    }

    /// Bytes of an element: the map's `value_size`.
    pub fn element(&self) -> usize {
        if let Some(tails) = &self.tails {
            return self.area() * WORD + tails.memory();
        }
        match self.kind {
            Kind::Ring | Kind::Cells | Kind::PerCpuCells | Kind::Commands | Kind::TopKeys => {
                WORD + self.record().next_multiple_of(WORD)
            }
            Kind::Latches => WORD + 2 * self.record().next_multiple_of(WORD),
            Kind::Counters | Kind::PerCpuCounters | Kind::Histograms | Kind::Gauges | Kind::Readers => {
                (self.capacity() * self.record()).next_multiple_of(LINE)
            }
        }
    }

    /// The number of elements: the map's `max_entries`.
    pub fn entries(&self) -> usize {
        if self.tails.is_some() {
            return self.shards();
        }
        self.first() + self.shard_elements() * self.shards()
    }

    /// Bytes of the region. A mapping rounds them up to a page.
    pub fn bytes(&self) -> usize {
        self.entries() * self.element()
    }

    /// The first element after the preamble; 0 in a ring with tails, where the first shard follows in the same element.
    pub fn first(&self) -> usize {
        match (self.kind, self.tails) {
            (Kind::Readers, _) => readers::FIRST,
            (_, Some(_)) => 0,
            _ => self.whole_lines(Preamble::BYTES),
        }
    }

    /// The first element of a shard: a ring's header, a bank of counters, histograms or gauges, the first cell.
    pub fn shard(&self, shard: usize) -> usize {
        if self.tails.is_some() {
            return shard;
        }
        let stride = if self.options.is_resizable() { self.whole_lines(LINE) } else { self.shard_elements() };
        self.first() + shard * stride
    }

    /// The element of slot 0 of a ring's shard, in a ring without tails; or of commands.
    pub fn slots(&self, shard: usize) -> usize {
        if self.options.is_resizable() {
            return self.shard(self.shards()) + shard * self.slot_elements();
        }
        self.shard(shard) + self.whole_lines(LINE)
    }

    /// Words of an element.
    pub fn element_words(&self) -> usize {
        self.element() / WORD
    }

    /// Words between two slots of a ring.
    pub fn slot_words(&self) -> usize {
        1 + self.record().div_ceil(WORD)
    }

    /// The first word of a ring's header, and of its slot 0, in the region.
    pub fn shard_words(&self, shard: usize) -> (usize, usize) {
        if self.tails.is_some() {
            let element = shard * self.element_words();
            return (element + Tails::SHARD, element + Tails::SLOTS);
        }
        (self.shard(shard) * self.element_words(), self.slots(shard) * self.element_words())
    }

    /// The first word of the area for tails, in an element.
    pub fn area(&self) -> usize {
        Tails::area(self.capacity() * self.slot_words() * WORD)
    }

    fn shard_elements(&self) -> usize {
        match self.kind {
            Kind::Ring | Kind::Commands => self.whole_lines(LINE) + self.slot_elements(),
            Kind::Cells | Kind::Latches | Kind::PerCpuCells | Kind::TopKeys => self.capacity(),
            Kind::Counters | Kind::PerCpuCounters | Kind::Histograms | Kind::Gauges => 1,
            Kind::Readers => readers::OF_SHARD,
        }
    }

    /// The elements that a shard's slots take, rounded up so that the next shard starts on a line.
    fn slot_elements(&self) -> usize {
        self.capacity().next_multiple_of(self.per_lines())
    }

    /// The distance, in elements, between two elements that start on a line.
    fn per_lines(&self) -> usize {
        LINE >> self.element().trailing_zeros().min(LINE.trailing_zeros())
    }

    /// How many elements `bytes` bytes take, if the next part must start on a line.
    fn whole_lines(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.element()).next_multiple_of(self.per_lines())
    }
}

#[cfg(test)]
mod tests;
