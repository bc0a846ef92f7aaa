//! The numbers of the layout that other languages have, too. Their values are the library's.

use mapring_core::abi::gauge::{GAUGE, STRIDE as GAUGE_WORDS, VALUE_BITS, VALUE_MAX, WINDOWS};
use mapring_core::abi::histogram::{BUCKETS, HISTOGRAM, STRIDE as HISTOGRAM_WORDS};
use mapring_core::abi::{Gate, Geometry, LINE, Preamble, Tails, WORD, commands, readers, seq, top};
use mapring_core::protocol::ring::{self, LossCause};

/// A number with its name in all languages. `of` are those that have it: `b` the BPF headers, `e` BPF programs in Rust, `c` the readers
/// in C, `g` Go.
pub(crate) struct Number {
    pub(crate) word: &'static str,
    pub(crate) value: u64,
    pub(crate) of: &'static str,
    pub(crate) doc: &'static str,
    /// Of its type in C, if it isn't that of all numbers of its size.
    pub(crate) suffix: &'static str,
    /// Its name in C, if programs use it.
    pub(crate) public_in_c: &'static str,
}

macro_rules! groups {
    ($($title:literal, $prefix:literal {
        $($word:ident $($suffix:ident)? $(($public:ident))?: $value:expr, $of:ident, $doc:literal;)*
    })*) => {
        /// Each with its title, and what Go has before the names.
        pub(crate) const GROUPS: &[(&str, &str, &[Number])] = &[$(($title, $prefix, &[$(Number {
            word: stringify!($word),
            value: $value as u64,
            of: stringify!($of),
            doc: $doc,
            suffix: concat!($(stringify!($suffix))?),
            public_in_c: concat!($(stringify!($public))?),
        }),*])),*];
    };
}

groups! {
    "Words of the preamble", "word" {
        MAGIC: 0, g, "`mapring` and a zero byte";
        VERSION: 1, g, "the version of the layout";
        KIND: Preamble::KIND, cg, "the kind, in bits 0 to 7; the options and tails of a ring above";
        RECORD: Preamble::RECORD, cg, "bytes of a record or value";
        CAPACITY: Preamble::CAPACITY, cg, "slots of a shard, or values";
        SHARDS: Preamble::SHARDS, cg, "the number of shards";
        SIZE: Preamble::SIZE, cg, "bytes of an element";
        GENERATION: Preamble::GENERATION, cg, "when the region was made";
        NAME: Preamble::NAME.start, cg, "the name of the record type";
        LOADER: Preamble::LOADER, cg, "the process that made it";
        DROPPED: Preamble::DROPPED, becg, "counts writes that went nowhere";
        LINK: Preamble::LINK, cg, "the maps of a wakeable ring";
        GATE: Gate::WORD, cg, "the gate for readers of a resizable ring";
        BEFORE: Gate::BEFORE, cg, "the tickets of all rings before this one";
    }
    "Words of the header of a shard", "word" {
        HEAD: ring::HEAD, cg, "a hint of the next ticket";
        NO_SLOT: ring::NO_SLOT, cg, "counts records for which no slot was free";
        END: ring::END, cg, "the tickets of a retired ring";
        PROGRAM_GATE: ring::PROGRAM_GATE, bcg, "the gate for programs of a resizable ring";
        LIMIT: ring::LIMIT, be, "programs claim tickets before this one without checking the readers";
        FULL: ring::FULL, becg, "counts records that were dropped because of a required reader";
        DROPS_SINCE: ring::DROPS_SINCE, becg, "when the latest spell of drops began";
        DROPS_UNTIL: ring::DROPS_UNTIL, becg, "when the last record was dropped";
    }
    "Words of the header for tails", "word" {
        TAIL_NEXT: Tails::NEXT, be, "the next position to claim, in bytes";
        TAIL_HIGH: Tails::HIGH, becg, "no byte at or beyond this position was ever written";
        TAIL_GRANTED: Tails::GRANTED, be, "no writer may write at or beyond this position yet";
        TAIL_NO_SPACE: Tails::NO_SPACE, becg, "counts records without space for a tail";
        TAIL_TOO_LONG: Tails::TOO_LONG, becg, "counts tails that were longer than the longest";
        TAIL_BESIDE: Tails::BESIDE, be, "positions before this one were claimed beside NEXT or stepped over";
        TAIL_READ: Tails::READ, be, "required readers have read all records with tails before this position";
        TAIL_MARK: Tails::MARK, be, "a position, and a ticket that records with tails before it precede";
        TAIL_ENDED: Tails::ENDED, be, "1 + the newest ticket that has ended";
        TAIL_STEPPED: Tails::STEPPED, be, "what was claimed before this position and not granted then is void";
        TAIL_ACTIVE: Tails::ACTIVE, be, "the first word with the position of a writer, plus 1";
    }
    "Words of the map of readers", "word" {
        OTHER_RING: readers::OTHER_RING, cg, "the id of another ring's map";
        ASLEEP: readers::ASLEEP, becg, "a bit for each reader that sleeps";
        REQUIRED: readers::REQUIRED, becg, "a bit for each reader that is required";
        LOOK: readers::LOOK, becg, "the bits of a ticket at which programs look for readers that sleep";
        IDLE_SINCE: readers::IDLE_SINCE, becg, "since when no reader has said that it sleeps";
    }
    "Elements of the map of readers", "element" {
        OWNERS: readers::owner(0) / readers::SEATS, cg, "the process in each seat";
        LEASES: readers::lease(0) / readers::SEATS, becg, "each reader's lease";
        WANTS: readers::wants(0) / readers::SEATS, cg, "1 + the bits of LOOK that each reader wants";
        WAKE_AT: readers::FIRST, beg, "of shard 0: 1 + the ticket until which each reader sleeps";
        POSITIONS: readers::FIRST + 1, beg, "of shard 0: the next ticket of each required reader";
        HELD: readers::FIRST + 2, beg, "of shard 0: since when each reader has held programs back";
        OF_SHARD: readers::OF_SHARD, becg, "the number for each shard";
    }
    "Readers", "" {
        SEATS: readers::SEATS, becg, "readers that can have a seat, and words of an element";
        NEVER: readers::NEVER, cg, "the bits of LOOK while programs look for no reader";
        FOR_GOOD: readers::FOR_GOOD, cg, "a ticket that no shard reaches";
        IDLE: readers::IDLE, b, "after so many nanoseconds without a sleep programs stop looking";
        SILENT: readers::SILENT, cg, "after so many nanoseconds without a sleep an unseen reader counts as dead";
    }
    "Words of the header of commands", "word" {
        PUSHED: commands::PUSHED, bcg, "the commands that were pushed";
        APPLIED: commands::APPLIED, bcg, "the commands that were carried out or skipped";
        LOCK: commands::LOCK, b, "1 while a program carries out commands";
        SKIPPED: commands::SKIPPED, bcg, "counts words that no owner writes";
        OWNER: commands::OWNER, cg, "the process that pushes";
    }
    "Words of a bucket of top keys", "" {
        TOP_OTHER: top::OTHER, bg, "what is in no count";
        TOP_KEYS: top::KEYS, bg, "the first key";
        TOP_COUNTS: top::COUNTS, bg, "the first count";
        TOP_ERRORS: top::ERRORS, bg, "the first error";
    }
    "Sequences and heads", "" {
        DISCARDED: seq::DISCARDED, bcg, "in `seq`: the ticket ended without a record";
        PENDING: seq::PENDING, bcg, "in `head`: a guarded claim is under way";
        TRIES: seq::TRIES, bcg, "slots that a claim tries";
        WALK: seq::WALK, bcg, "slots that a claim tries before it bisects";
    }
    "States of a gate, and bits of its words", "" {
        GATE_OPEN: Gate::Open, bcg, "the ring is in use";
        GATE_CLOSING: Gate::Closing, cg, "another ring is in use, or will be soon";
        GATE_RETIRED: Gate::Retired, cg, "readers go on with the next ring";
        GATE_LEAVING: Gate::LEAVING, cg, "another ring is replacing this one";
        COUNTING: Gate::COUNTING, cg, "in BEFORE, until the tickets are counted";
    }
    "Sizes", "" {
        LINE UL: LINE, becg, "bytes of a cache line: the preamble and each shard start on one";
        PREAMBLE UL: Preamble::BYTES, be, "bytes of the preamble";
        PREAMBLE_WORDS: Preamble::WORDS, cg, "words of the preamble";
        HISTOGRAM_WORDS UL: HISTOGRAM_WORDS, bec, "words from one histogram to the next";
        HISTOGRAM_BYTES: HISTOGRAM, cg, "bytes of a histogram";
        HISTOGRAM_BUCKETS (MAPRING_BUCKETS): BUCKETS, bcg, "buckets of a histogram";
        GAUGE_WORDS UL: GAUGE_WORDS, bc, "words from one gauge to the next";
        GAUGE_BYTES: GAUGE, cg, "bytes of a gauge";
        GAUGE_WINDOWS UL (MAPRING_WINDOWS): WINDOWS, bcg, "windows of a gauge";
        GAUGE_BITS: VALUE_BITS, bg, "the low bits of a gauge's word, which have the value";
        GAUGE_MAX: VALUE_MAX, bcg, "the largest value of a gauge";
        TOP_WAYS (MAPRING_KEYS): top::WAYS, bcg, "keys of a bucket";
        BUCKET_WORDS UL: top::STRIDE, b, "words of a bucket of top keys";
        BUCKET_BYTES: top::BUCKET, cg, "bytes of a bucket of top keys after its sequence";
        TAIL_ALIGN ULL: Tails::ALIGN, b, "the position of a tail is a multiple of so many bytes";
        TAIL_WRITERS: Tails::WRITERS, be, "writers of a shard between claim and end of a tail";
        TAIL_PREFIX: Tails::PREFIX, cg, "bytes of the position and the length of a tail, before the record";
        TAIL_SHARD: Tails::SHARD * WORD, cg, "a shard with tails: bytes to its header";
        TAIL_HEADER: Tails::SHARD * WORD + LINE, cg, "to its header for tails";
        TAIL_FIRST_SLOT: Tails::SLOTS * WORD, cg, "to its slots";
    }
    "Limits", "" {
        RECORD_MAX: Geometry::RECORD_MAX, cg, "bytes of a record";
        SHARDS_MAX: Geometry::SHARDS_MAX, cg, "shards";
        ELEMENTS_MAX: Geometry::ELEMENTS_MAX, cg, "elements";
        ELEMENT_MAX: Geometry::ELEMENT_MAX, cg, "bytes of a shard with tails";
        AREA_MIN ULL: *Tails::AREAS.start(), cg, "bytes of the smallest area for tails";
        AREA_MAX: *Tails::AREAS.end(), cg, "bytes of the largest area for tails";
        SPELL LL: ring::SPELL, bg, "after so many nanoseconds without a drop the next one begins a spell";
    }
}

/// The kinds by their numbers, from 1: as C and as Go name them.
pub(crate) const KINDS: &[(&str, &str)] = &[
    ("RING", "Ring"),
    ("CELLS", "Cells"),
    ("COUNTERS", "Counters"),
    ("LATCHES", "Latches"),
    ("PERCPU_CELLS", "PerCPUCells"),
    ("PERCPU_COUNTERS", "PerCPUCounters"),
    ("HISTOGRAMS", "Histograms"),
    ("GAUGES", "Gauges"),
    ("READERS", "Readers"),
    ("COMMANDS", "Commands"),
    ("TOP_KEYS", "TopKeys"),
];

/// The options in the order of their bits, each with the bits that a declaration sets.
pub(crate) const OPTIONS: &[(&str, u64)] =
    &[("WAKEABLE", 1), ("KEEP_OLDEST", 3), ("TAILS", 4), ("PER_CPU_MAPS", 8), ("RESIZABLE", 16)];

/// The causes of losses, in their order, as Go names them.
pub(crate) const CAUSES: &[(LossCause, &str, &str)] = &[
    (LossCause::Lapped, "LostLapped", "overwritten before they were read"),
    (LossCause::Skipped, "LostSkipped", "reserved, and not ended while later tickets had ended"),
    (LossCause::TailLost, "LostTail", "the tail was overwritten before it was read"),
    (LossCause::NoSlot, "DroppedNoSlot", "no slot was free"),
    (LossCause::Full, "DroppedFull", "a required reader had not read the oldest"),
    (LossCause::NoShard, "DroppedNoShard", "the CPU had no shard, or the ring was not initialized"),
    (LossCause::NoTail, "DroppedNoTail", "no space for the tail"),
    (LossCause::TooLong, "DroppedTooLong", "the tail was too long"),
];
