//! Every cause of an error, and its message.

use std::io;

use thiserror::Error;

use super::ErrorKind;
use crate::abi::{GeometryError, Kind, PreambleError, RingOptions};
use crate::access::Refusal;

/// Why something failed. Each message contains what was found, what was expected, and the remedy where there is one. A
/// `hint` is a remedy: empty, or it starts with a separator.
#[derive(Debug, Error)]
pub(crate) enum Cause {
    /// The path or id does not exist, or this process may not open it.
    #[error("can't open {what}: {error}{hint}")]
    Open { what: String, error: io::Error, hint: &'static str },
    /// The file descriptor or pin is something else: a file, a pipe, a BPF program.
    #[error("{what} is not {expected}{hint}")]
    NotARegion { what: String, expected: &'static str, hint: &'static str },
    /// The BPF map has a type that can't hold such a region.
    #[error("{what} is {found}, expected {expected}{hint}")]
    MapType { what: String, found: String, expected: &'static str, hint: &'static str },
    /// The region's first bytes are not a preamble that this version of the library can read.
    #[error("{what}: {error}{hint}")]
    Preamble { what: String, error: PreambleError, hint: &'static str },
    /// Sizes or numbers that no region can have.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The preamble contradicts the kernel. The kernel is right, and the region can't be used.
    #[error("{what}: {source_of_shape} makes the {property} {preamble}, the kernel says {kernel}{hint}")]
    Contradiction {
        what: String,
        source_of_shape: &'static str,
        property: &'static str,
        preamble: u64,
        kernel: u64,
        hint: &'static str,
    },
    /// The preamble contradicts the map's BTF.
    #[error(
        "{what}: its preamble or description says {preamble}, its BTF says {btf}: the preamble was overwritten, or \
         written for another map; have its loader create the map again"
    )]
    BtfMismatch { what: String, preamble: String, btf: String },
    /// An object reuses a map that holds another region than the object declares.
    #[error(
        "{what} can't be reused: it holds {found}, but the object declares {declared}; {}",
        one_with(
            *is_left,
            "the object makes a new map, and PinOptions::replace puts it in its place",
            "remove its pin, so that the loader pins a new map, or load the object that declared it"
        )
    )]
    Mismatch {
        what: String,
        found: String,
        declared: String,
        /// The object does not reuse it.
        is_left: bool,
    },
    /// An object reuses only some of the maps of a ring.
    #[error("{what} can't be reused without {missing}: {why}; reuse {names} together, or none of them")]
    Companions { what: String, missing: String, why: &'static str, names: String },
    /// A BPF map whose values can't be the elements of a region.
    #[error(
        "{what} has values of {found} bytes, but a region's elements have a multiple of 8: make the map with the \
         value_size that its macro or docs/abi.md gives it, or read plain values as an Array and global data as Globals"
    )]
    ValueSize { what: String, found: usize },
    /// A map or a file that is smaller than its region.
    #[error("{what} has {found} bytes, expected at least {expected}{hint}")]
    Truncated { what: String, found: u64, expected: u64, hint: &'static str },
    /// A memfd that another process can shrink. Its readers would then die by SIGBUS.
    #[error(
        "{what} is not sealed against resizing (F_SEAL_SHRINK and F_SEAL_GROW), so any process that \
         has it open could kill its readers with SIGBUS: {remedy}, or open it with OpenOptions::allow_unsealed"
    )]
    Unsealed { what: String, remedy: &'static str },
    /// A memfd of huge pages, which another process can punch out. Its readers would then die by SIGBUS.
    #[error(
        "{what} has huge pages (MFD_HUGETLB): although it is sealed against resizing, any process that has it open \
         can punch them out and kill its readers with SIGBUS: have its creator use ordinary pages, or open it with OpenOptions::allow_unsealed"
    )]
    HugePages { what: String },
    /// A memfd that consists mostly of holes. Reading it would allocate them and charge this process for the memory.
    #[error(
        "{what} is sparse: of the {bytes} bytes of its region {missing} are not allocated, and reading them would \
         charge this process for the memory: have its creator allocate them (fallocate), or open it with \
         OpenOptions::allow_unsealed"
    )]
    Sparse { what: String, bytes: u64, missing: u64 },
    /// The region is of another kind.
    #[error("{what} holds {found}, expected {expected}")]
    Kind { what: String, found: Kind, expected: Kind },
    /// Another ring has replaced a resizable one, but the process that resizes has not finished. It was very slow, or
    /// it died.
    #[error(
        "{what} replaced the ring that is read, but the process that resizes has not finished: if it died, \
         call mapring_loader::initialize in the loader, which finishes the resize; until then the reader waits"
    )]
    ResizeUnfinished { what: String },
    /// The records have another size than the Rust type.
    #[error("{what} has records of {found} bytes ({record}), but {rust} has {expected}")]
    RecordSize { what: String, found: usize, record: String, rust: &'static str, expected: usize },
    /// The index of a shard, cell, counter or latch is out of range.
    #[error("no {thing} {index}: there are {count}")]
    Index { thing: &'static str, index: usize, count: usize },
    /// The region can't be read in any way.
    #[error("{what} can't be read: {refusal}")]
    NotReadable { what: String, refusal: Refusal },
    /// Only BPF programs may write a ring in a BPF map: all writers of a shard must run on one CPU.
    #[error(
        "{what} is in a BPF map, which only BPF programs may write: create a ring for this process \
         (Ring::create_memfd), or write cells, counters or latches"
    )]
    ProgramsOnly { what: String },
    /// This process can't write the region.
    #[error("{what} can't be written: {refusal}")]
    NotWritable { what: String, refusal: Refusal },
    /// The region is sealed: userspace can never write it again. Its content stays. Readers still see writes by
    /// programs and through earlier mappings.
    #[error("{what} is sealed: {refusal}")]
    Sealed { what: String, refusal: Refusal },
    /// Another writer of this process could be in the middle of a write that would be recovered.
    #[error(
        "{what}: an unfinished write can't be recovered while this process has {count} other writers of \
         this {thing}, which may be in the middle of a write: drop them first"
    )]
    OtherWriters { what: String, thing: &'static str, count: usize },
    /// Another process writes the commands, and lives.
    #[error(
        "{what}: process {pid} writes these commands, and one process does so at a time: end it or its CommandsWriters, \
         or send the commands through it"
    )]
    Owned { what: String, pid: u32 },
    /// A map has no preamble, and its loader can't write one.
    #[error(
        "{what} has no preamble, and writing one failed: {error}; create the map without BPF_F_RDONLY, or read it \
         without a preamble by Region::open, which finds the shape in the map's BTF"
    )]
    NoPreamble { what: String, error: io::Error },
    /// The value has a field that the kernel hides, at a place where the region has data of its own.
    #[error(
        "{what}: the kernel hides the {field} at byte {offset} of each element, where the {hidden} is: move it to \
         another place in the record, or to a map of its own"
    )]
    Hidden { what: String, field: String, offset: usize, hidden: &'static str },
    /// The NUMA node does not exist.
    #[error(
        "no NUMA node {node}: there are {there:?} (mapring::cpus::online_nodes); choose one of them, or none: then the \
         kernel chooses the node where the object is loaded"
    )]
    Node { node: usize, there: Vec<usize> },
    /// The region can't be sealed.
    #[error("can't seal {what}: {step}: {error}{hint}")]
    Seal { what: String, step: String, error: io::Error, hint: &'static str },
    /// The map can't be pinned.
    #[error("{what} is not pinned at {path}: {error}{hint}")]
    Pin { what: String, path: String, error: io::Error, hint: &'static str },
    /// A pin that other users can open, while the kernel lets all users load BPF programs: one could overwrite the map.
    #[error(
        "{what} is not frozen and pinned with mode {mode:o}: kernel.unprivileged_bpf_disabled is 0, so each process \
         that can open the pin could load a BPF program that overwrites the map; set it to 2 (sysctl -w \
         kernel.unprivileged_bpf_disabled=2), use mode 600, or accept it with PinOptions::allow_unprivileged_bpf"
    )]
    UnprivilegedBpf { what: String, mode: u32 },
    /// The section or variable does not exist.
    #[error("no {thing} {name}: there are {there}")]
    NoSuch { thing: &'static str, name: String, there: String },
    /// The types of the map are not available.
    #[error(
        "{what} has no types: either its object was compiled without BTF (clang -g), or this process may not \
         read them, which needs CAP_SYS_ADMIN (mapring_loader::initialize and mapring_loader::section do without, for \
         an object that libbpf loaded)"
    )]
    NoTypes { what: String },
    /// The layout of the Rust type differs from that of the C type.
    #[error("{what}: {field} is {c} in C, and {rust} in Rust")]
    Layout { what: String, field: String, rust: String, c: String },
    /// The table of programs does not accept the program.
    #[error("{table} does not accept {program}: {error}{hint}")]
    Program { table: String, program: String, error: io::Error, hint: &'static str },
    /// The key has another length than the keys of the map of maps.
    #[error("{what} has keys of {expected} bytes, not {found}")]
    InnerKey { what: String, found: usize, expected: usize },
    /// A resizable ring without a shard for each possible CPU (programs on the other CPUs would use its slots as
    /// headers), or a `PER_CPU_MAPS` ring without an element for each CPU's map.
    #[error(
        "{what} has {}, expected {}, one for each possible CPU (0 to {last}): call mapring_loader::prepare before the object is \
         loaded; a loader without libbpf-rs sets max_entries to Geometry::entries (docs/guide/loading.md, Load with aya)",
        counted(*shards, "shard"), last + 1
    )]
    NotFitted { what: String, shards: usize, last: usize },
    /// The ring is not resizable.
    #[error(
        "{what} isn't a resizable ring: {}",
        one_with(
            *memfd,
            "a ring in a memfd keeps its number of slots; create one with more, and pass that on",
            "declare it with the option RESIZABLE, or open a plain ring with Ring::open"
        )
    )]
    NotResizable { what: String, memfd: bool },
    /// A resizable ring that was opened without the map of maps.
    #[error(
        "{what} is opened without its map of maps, in which another ring would take its place: open that one to resize it, by its \
         pin or its id, or in the loader, by the ring's name in the object"
    )]
    WithoutMaps { what: String },
    /// A ring in a memfd can't have these options.
    #[error(
        "{what} can't be a ring with {options}: a ring in a memfd can have WAKEABLE, KEEP_OLDEST or TAILS, and WAKEABLE \
         together with TAILS"
    )]
    NotInMemfd { what: String, options: RingOptions },
    /// A ring whose programs wake no reader.
    #[error("{what} wakes no reader: {why}; Reader::wait polls it instead")]
    NotWakeable { what: String, why: &'static str },
    /// The writers of a memfd wake a reader where it waits.
    #[error(
        "{what} is a memfd, whose writers wake a reader only in Reader::wait: it has no file descriptor for event loops"
    )]
    NoDescriptor { what: String },
    /// All seats of readers are taken.
    #[error("{what} has no seat left: {max} readers wait or are required already", max = crate::abi::readers::SEATS)]
    NoSeat { what: String },
    /// A ring whose programs wait for no reader.
    #[error(
        "{what} does not keep its oldest records: {}",
        one_with(
            *memfd,
            "create it with MemfdOptions::keep_oldest",
            "declare it with the option KEEP_OLDEST"
        )
    )]
    NotKeeping { what: String, memfd: bool },
    /// Programs took a required reader's seat.
    #[error(
        "this reader of {what} is no longer required: it held programs back for longer than its lease. Programs overwrite \
         what it has not read, until it calls Reader::require again"
    )]
    LeaseEnded { what: String },
    /// A ring with tails that can't be mapped. A lookup would copy a whole shard.
    #[error("{what} has tails, so it can be read only through a mapping: {refusal}")]
    TailsByCall { what: String, refusal: Refusal },
    /// The map can't be the ring of a CPU in a `PER_CPU_MAPS` ring.
    #[error("{what} can't be the ring of CPU {cpu}: it is {found}, expected {expected}")]
    NotNuma { what: String, cpu: usize, found: String, expected: String },
    /// A system call failed.
    #[error("{call}: {error}{hint}")]
    System { call: &'static str, error: io::Error, hint: &'static str },
    /// A loader's own error.
    #[error("{error}")]
    Other { kind: ErrorKind, error: Box<dyn std::error::Error + Send + Sync> },
}

impl Cause {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { .. } => ErrorKind::Open,
            Self::NotARegion { .. } | Self::MapType { .. } | Self::Kind { .. } => ErrorKind::WrongType,
            Self::NotNuma { .. } | Self::InnerKey { .. } => ErrorKind::WrongType,
            Self::Preamble { .. } | Self::NoPreamble { .. } => ErrorKind::Preamble,
            Self::Contradiction { .. } | Self::BtfMismatch { .. } => ErrorKind::Contradiction,
            Self::Mismatch { .. } | Self::Companions { .. } => ErrorKind::NotReusable,
            Self::Truncated { .. } | Self::Hidden { .. } => ErrorKind::Contradiction,
            Self::Layout { .. } | Self::RecordSize { .. } | Self::NoTypes { .. } => ErrorKind::Layout,
            Self::Geometry(_) | Self::ValueSize { .. } => ErrorKind::Shape,
            Self::NotFitted { .. } => ErrorKind::NotFitted,
            Self::Unsealed { .. } | Self::HugePages { .. } | Self::Sparse { .. } => ErrorKind::Untrusted,
            Self::ResizeUnfinished { .. } => ErrorKind::ResizeUnfinished,
            Self::OtherWriters { .. } | Self::Owned { .. } => ErrorKind::OtherWriters,
            Self::Index { .. } | Self::Node { .. } | Self::NoSuch { .. } => ErrorKind::OutOfRange,
            Self::NotReadable { .. } | Self::TailsByCall { .. } => ErrorKind::NotReadable,
            Self::NotWritable { .. } | Self::ProgramsOnly { .. } => ErrorKind::NotWritable,
            Self::Sealed { .. } => ErrorKind::Sealed,
            Self::Seal { .. } | Self::UnprivilegedBpf { .. } => ErrorKind::CannotSeal,
            Self::NotInMemfd { .. } => ErrorKind::Shape,
            Self::NotResizable { .. } | Self::WithoutMaps { .. } => ErrorKind::NotResizable,
            Self::NotWakeable { .. } | Self::NoDescriptor { .. } => ErrorKind::NotWakeable,
            Self::NoSeat { .. } => ErrorKind::NoSeat,
            Self::NotKeeping { .. } => ErrorKind::NotKeepOldest,
            Self::LeaseEnded { .. } => ErrorKind::LeaseEnded,
            Self::Program { .. } => ErrorKind::Program,
            Self::System { .. } | Self::Pin { .. } => ErrorKind::System,
            Self::Other { kind, .. } => *kind,
        }
    }

    pub(super) fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Open { error, .. }
            | Self::NoPreamble { error, .. }
            | Self::Seal { error, .. }
            | Self::Pin { error, .. }
            | Self::Program { error, .. }
            | Self::System { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The remedy in one case, or in the other.
fn one_with(is: bool, then: &'static str, otherwise: &'static str) -> &'static str {
    if is { then } else { otherwise }
}

/// `1 shard`, or `4 shards`.
fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn numbers_are_written_as_one_says_them() {
        let message = |shards| Cause::NotFitted { what: "map r".into(), shards, last: 3 }.to_string();
        assert!(message(1).starts_with("map r has 1 shard, expected 4, one for"), "{}", message(1));
        assert!(message(2).starts_with("map r has 2 shards, expected 4, one for"), "{}", message(2));
    }

    #[test]
    fn who_may_not_write_is_told_whether_that_is_for_good() {
        for refusal in [Refusal::Frozen, Refusal::Sealed] {
            assert!(matches!(Error::not_writable("r", refusal).cause(), Cause::Sealed { .. }), "{refusal:?}");
        }
        assert!(matches!(Error::not_writable("r", Refusal::ReadOnlyFd).cause(), Cause::NotWritable { .. }));
    }
}
