//! The errors of this crate, with their remedies.

use std::io;

use thiserror::Error;

use crate::layout::{GeometryError, Kind, PreambleError};
use crate::region::Refusal;

/// Why a region can't be opened, created or used. A message contains what was found, what was expected, and the remedy
/// if there is one. It is complete: it contains the kernel's error, which `source()` does not repeat.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The path or id does not exist, or this process may not open it.
    #[error("can't open {what}: {error}{hint}")]
    Open {
        /// The path or id as it was given.
        what: String,
        /// The kernel's error.
        error: io::Error,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// The file descriptor or pin is something else: a file, a pipe, a BPF program.
    #[error("{what} is not {expected}{hint}")]
    NotARegion {
        /// The path or descriptor as it was given.
        what: String,
        /// `a BPF map`, or `a BPF map or a memfd`.
        expected: &'static str,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// The BPF map has a type that can't hold such a region.
    #[error("{what} is {found}, expected {expected}{hint}")]
    MapType {
        /// The map, or memfd.
        what: String,
        /// What it is, such as `a map of type percpu_hash`.
        found: String,
        /// The types that are accepted.
        expected: &'static str,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// The region's first bytes are not a preamble that this version of the library can read.
    #[error("{what}: {error}{hint}")]
    Preamble {
        /// The region.
        what: String,
        /// What was found.
        error: PreambleError,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// Sizes or numbers that no region can have.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The preamble contradicts the kernel. The kernel is right, and the region can't be used.
    #[error("{what}: {source_of_shape} makes the {property} {preamble}, the kernel says {kernel}{hint}")]
    Contradiction {
        /// The region.
        what: String,
        /// The source of the shape: `its preamble or description`, or `its BTF`.
        source_of_shape: &'static str,
        /// The property that differs.
        property: &'static str,
        /// Its value by the preamble, the description or the BTF.
        preamble: u64,
        /// Its value as the kernel reports it.
        kernel: u64,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// The preamble contradicts the map's BTF.
    #[cfg(feature = "bpf")]
    #[error(
        "{what}: its preamble (or who described it) says {preamble}, its BTF says {btf}: the preamble was spoilt, or \
         written for another map; have its loader make the map anew"
    )]
    BtfMismatch {
        /// The region.
        what: String,
        /// The kind, the capacity and the bytes of a record, by the preamble.
        preamble: String,
        /// The same by BTF.
        btf: String,
    },
    /// A BPF map whose values can't be the elements of a region.
    #[cfg(feature = "bpf")]
    #[error(
        "{what} has values of {found} bytes, but a region's elements have a multiple of 8: make the map with the \
         value_size that its macro or docs/abi.md gives it, or read plain values as an Array and global data as Globals"
    )]
    ValueSize {
        /// The map.
        what: String,
        /// Bytes of its values.
        found: usize,
    },
    /// A map or a file that is smaller than its region.
    #[error("{what} has {found} bytes, expected at least {expected}{hint}")]
    Truncated {
        /// The region.
        what: String,
        /// Its bytes.
        found: u64,
        /// The bytes that it needs.
        expected: u64,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// A memfd that another process can shrink. Its readers would then die by SIGBUS.
    #[error(
        "{what} is not sealed against resizing (F_SEAL_SHRINK and F_SEAL_GROW), so any process that \
         holds it could kill its readers with SIGBUS: {remedy}, or open it with OpenOptions::allow_unsealed"
    )]
    Unsealed {
        /// The region.
        what: String,
        /// What its creator can do.
        remedy: &'static str,
    },
    /// A memfd of huge pages, which another process can punch out. Its readers would then die by SIGBUS.
    #[error(
        "{what} has huge pages (MFD_HUGETLB): despite its seals, whoever holds it can punch them out and kill its \
         readers with SIGBUS: have its maker use ordinary pages, or open it with OpenOptions::allow_unsealed"
    )]
    HugePages {
        /// The region.
        what: String,
    },
    /// A memfd that consists mostly of holes. Reading it would allocate them and charge this process for the memory.
    #[error(
        "{what} is sparse: of the {bytes} bytes of its region {missing} are not allocated, and reading them would \
         take this process's memory: have its maker allocate them (fallocate), or open it with \
         OpenOptions::allow_unsealed"
    )]
    Sparse {
        /// The region.
        what: String,
        /// Bytes of the region, by its preamble.
        bytes: u64,
        /// How many of them are not allocated.
        missing: u64,
    },
    /// The region is of another kind.
    #[error("{what} holds {found}, expected {expected}")]
    Kind {
        /// The region.
        what: String,
        /// Its kind.
        found: Kind,
        /// The kind that was expected.
        expected: Kind,
    },
    /// Another ring has replaced a resizable one, but the process that resizes has not finished. It was very slow, or
    /// it died.
    #[error(
        "{what} took the place of the ring that is read, but the process that resizes has not finished: if it died, \
         call mapring::loader::initialize in the loader, which finishes it; until then the reader waits"
    )]
    ResizeUnfinished {
        /// The ring that is in use.
        what: String,
    },
    /// The records have another size than the Rust type.
    #[error("{what} has records of {found} bytes ({record}), but {rust} has {expected}")]
    RecordSize {
        /// The region.
        what: String,
        /// Bytes of its records.
        found: usize,
        /// The name of the record type in the preamble.
        record: String,
        /// The Rust type.
        rust: &'static str,
        /// Bytes of the Rust type.
        expected: usize,
    },
    /// The index of a shard, cell, counter or latch is out of range.
    #[error("no {thing} {index}: there are {count}")]
    Index {
        /// `shard`, `cell`, `counter` or `latch`.
        thing: &'static str,
        /// The index that was passed.
        index: usize,
        /// How many exist.
        count: usize,
    },
    /// The region can't be read in any way.
    #[error("{what} can't be read: {refusal}")]
    NotReadable {
        /// The region.
        what: String,
        /// The reason.
        refusal: Refusal,
    },
    /// Only BPF programs may write a ring in a BPF map: all writers of a shard must run on one CPU.
    #[error(
        "{what} is in a BPF map, which only BPF programs may write: make a ring of your own for this process \
         (Ring::create_memfd), or write cells, counters or latches"
    )]
    ProgramsOnly {
        /// The ring.
        what: String,
    },
    /// This process can't write the region.
    #[error("{what} can't be written: {refusal}")]
    NotWritable {
        /// The region.
        what: String,
        /// The reason; a sealed region gives [`Error::Sealed`] instead.
        refusal: Refusal,
    },
    /// The region is sealed: userspace can never write it again. Its content stays. Readers still see writes by
    /// programs and through earlier mappings.
    #[error("{what} is sealed: {refusal}")]
    Sealed {
        /// The region.
        what: String,
        /// [`Refusal::Frozen`] for a BPF map, [`Refusal::Sealed`] for a memfd.
        refusal: Refusal,
    },
    /// Another writer of this process could be in the middle of a write that would be recovered.
    #[error(
        "{what}: what a writer left behind can't be ended while this process has {count} other writers of \
         this {thing}, which may be in the middle of a write: drop them first"
    )]
    OtherWriters {
        /// The region.
        what: String,
        /// `shard`, or `table` of cells.
        thing: &'static str,
        /// How many other writers exist.
        count: usize,
    },
    /// The object's writers publish with x86's memory order, but this machine is not x86.
    #[error(
        "map {map} was compiled with __TARGET_ARCH_x86, whose plain stores don't publish on this \
             architecture: compile it for this machine, or without __TARGET_ARCH_x86"
    )]
    MemoryOrder {
        /// The map.
        map: String,
    },
    /// This kernel refuses the program because it has no fetching atomics (before Linux 5.12; on aarch64 5.18).
    #[cfg(feature = "bpf")]
    #[error(
        "program {program} claims by fetching atomics, which Linux has since {since}, and this is {release}: rings need \
         a newer kernel; begin a cell that has one writer by mapring_cell_begin_single_writer; counters, latches and all \
         readers work as they are"
    )]
    NoFetchingAtomics {
        /// The program.
        program: String,
        /// The first release that has them on this architecture.
        since: String,
        /// The kernel's release.
        release: String,
    },
    /// A map has no preamble, and its loader can't write one.
    #[cfg(feature = "bpf")]
    #[error(
        "{what} has no preamble, and can't be given one: {error}; make the map without BPF_F_RDONLY, or read it as it \
         is by Region::open, which finds the shape in the map's BTF"
    )]
    NoPreamble {
        /// The region.
        what: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The value has a field that the kernel hides, at a place where the region has data of its own.
    #[cfg(feature = "bpf")]
    #[error(
        "{what}: the kernel hides the {field} at byte {offset} of each element, where the {hidden} is: move it to \
         another place in the record, or to a map of its own"
    )]
    Hidden {
        /// The region.
        what: String,
        /// The type of the field, such as `bpf_spin_lock`.
        field: String,
        /// The offset of the field.
        offset: usize,
        /// `preamble` or `header of a shard`.
        hidden: &'static str,
    },
    /// The kernel does not create arrays with keys or values of this size.
    #[cfg(feature = "bpf")]
    #[error("map {map}: a {part} of {found} bytes, where this kernel takes {}{hint}", shown(allowed))]
    MapSize {
        /// The map.
        map: String,
        /// `key` or `value`.
        part: &'static str,
        /// Its bytes.
        found: u32,
        /// The sizes that it accepts.
        allowed: std::ops::RangeInclusive<u32>,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// The NUMA node does not exist.
    #[error(
        "no memory node {node}: there are {there:?} (mapring::cpus::online_nodes); choose one of them, or none, and the \
         kernel takes the one where the object is loaded"
    )]
    Node {
        /// The node that was passed.
        node: usize,
        /// The nodes that exist.
        there: Vec<usize>,
    },
    /// The region can't be sealed.
    #[cfg(feature = "bpf")]
    #[error("can't seal {what}: {step}: {error}{hint}")]
    Seal {
        /// The region.
        what: String,
        /// The step that failed. The steps before it are done; repeating them does no harm.
        step: String,
        /// The kernel's error.
        error: io::Error,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// A pin that other users can open, while the kernel lets all users load BPF programs: one could overwrite the map.
    #[cfg(feature = "bpf")]
    #[error(
        "{what} is not frozen and pinned with mode {mode:o}: kernel.unprivileged_bpf_disabled is 0, so each process \
         that can open the pin could load a BPF program that overwrites the map; set it to 2 (sysctl -w \
         kernel.unprivileged_bpf_disabled=2), use mode 600, or accept it with PinOptions::allow_unprivileged_bpf"
    )]
    UnprivilegedBpf {
        /// The region.
        what: String,
        /// The mode of the pin.
        mode: u32,
    },
    /// The section or variable does not exist.
    #[cfg(feature = "bpf")]
    #[error("no {thing} {name}: there are {there}")]
    NoSuch {
        /// `section` or `variable`.
        thing: &'static str,
        /// The name that was passed.
        name: String,
        /// The names that exist.
        there: String,
    },
    /// The types of the map are not available.
    #[cfg(feature = "bpf")]
    #[error(
        "{what} tells no types: either its object was compiled without BTF (clang -g), or this process may not \
         read it, which takes CAP_SYS_ADMIN"
    )]
    NoTypes {
        /// The map.
        what: String,
    },
    /// The layout of the Rust type differs from that of the C type.
    #[cfg(feature = "bpf")]
    #[error("{what}: {field} is {c} in C, and {rust} in Rust")]
    Layout {
        /// The map, and the Rust type.
        what: String,
        /// The field, and the type that contains it.
        field: String,
        /// The layout in Rust.
        rust: String,
        /// The layout in C.
        c: String,
    },
    /// The table of programs does not accept the program.
    #[cfg(feature = "bpf")]
    #[error("{table} does not take {program}: {error}{hint}")]
    Program {
        /// The table, and the type of the programs that it accepts, if that is fixed.
        table: String,
        /// The program and its type, or what was passed instead of a program.
        program: String,
        /// The kernel's error.
        error: io::Error,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// The key has another length than the keys of the map of maps.
    #[cfg(feature = "bpf")]
    #[error("{what} has keys of {expected} bytes, not {found}")]
    InnerKey {
        /// The map of maps.
        what: String,
        /// Bytes of the key that was passed.
        found: usize,
        /// Bytes of its keys.
        expected: usize,
    },
    /// A resizable ring without a shard for each possible CPU (programs on the other CPUs would use its slots as
    /// headers), or a NUMA ring without an element for each CPU's map.
    #[cfg(feature = "bpf")]
    #[error(
        "{what} has {}, expected {}, one for each possible CPU (0 to {last}): call mapring::loader::prepare before the object is \
         loaded",
        counted(*shards, "shard"), last + 1
    )]
    NotFitted {
        /// The ring.
        what: String,
        /// Its shards.
        shards: usize,
        /// The last possible CPU.
        last: usize,
    },
    /// The ring is not resizable.
    #[cfg(feature = "bpf")]
    #[error(
        "{what} isn't a resizable ring: declare it with MAPRING_RESIZABLE_RING (resizable.bpf.h), or open a plain ring with \
         Ring::open"
    )]
    NotResizable {
        /// What was opened.
        what: String,
    },
    /// The map can't be the ring of a CPU in a NUMA ring.
    #[cfg(feature = "bpf")]
    #[error("{what} can't be the ring of CPU {cpu}: it is {found}, expected {expected}")]
    NotNuma {
        /// The map.
        what: String,
        /// The CPU: its key in the map of maps, and the number in the name of its pin.
        cpu: usize,
        /// What it is.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// A system call failed.
    #[error("{call}: {error}{hint}")]
    System {
        /// The call.
        call: &'static str,
        /// The kernel's error.
        error: io::Error,
        /// The remedy; empty, or starting with a separator.
        hint: &'static str,
    },
    /// libbpf failed.
    #[cfg(feature = "libbpf")]
    #[error(transparent)]
    Libbpf(#[from] libbpf_rs::Error),
}

impl Error {
    pub(crate) fn not_writable(what: &str, refusal: Refusal) -> Self {
        let what = what.to_owned();
        match refusal {
            Refusal::Frozen | Refusal::Sealed => Self::Sealed { what, refusal },
            _ => Self::NotWritable { what, refusal },
        }
    }

    pub(crate) fn system(call: &'static str, error: impl Into<io::Error>) -> Self {
        Self::System { call, error: error.into(), hint: "" }
    }
}

/// `1 shard`, or `4 shards`.
#[cfg(feature = "bpf")]
fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// `4`, or `1 to 8`.
#[cfg(feature = "bpf")]
fn shown(range: &std::ops::RangeInclusive<u32>) -> String {
    match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    }
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a read returned no value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A writer was in the cell at each attempt to read it. It may be slow, or it died before it finished. Reading
    /// again may succeed.
    #[error("a writer was in the cell at each of {looks} looks")]
    Busy {
        /// How many attempts were made.
        looks: u32,
    },
    /// The index of a shard, cell or counter is out of range.
    #[error("no {thing} {index}: there are {count}")]
    Index {
        /// `shard`, `cell` or `counter`.
        thing: &'static str,
        /// The index that was passed.
        index: usize,
        /// How many exist.
        count: usize,
    },
    /// The system call that replaces a mapped read failed. Never on a mapped region.
    #[error("lookup: {0}")]
    Lookup(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Lookup(error)
    }
}

#[cfg(all(test, feature = "bpf"))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_one_says_them() {
        let said = |shards| Error::NotFitted { what: "map r".into(), shards, last: 3 }.to_string();
        assert!(said(1).starts_with("map r has 1 shard, expected 4, one for"), "{}", said(1));
        assert!(said(2).starts_with("map r has 2 shards, expected 4, one for"), "{}", said(2));
        let said = |allowed| {
            Error::MapSize { map: "m".into(), part: "key", found: 8, allowed, hint: ": use 4" }.to_string()
        };
        assert_eq!(said(4..=4), "map m: a key of 8 bytes, where this kernel takes 4: use 4");
        assert_eq!(said(1..=7), "map m: a key of 8 bytes, where this kernel takes 1 to 7: use 4");
    }

    #[test]
    fn who_may_not_write_is_told_whether_that_is_for_good() {
        for refusal in [Refusal::Frozen, Refusal::Sealed] {
            assert!(matches!(Error::not_writable("r", refusal), Error::Sealed { .. }), "{refusal:?}");
        }
        assert!(matches!(Error::not_writable("r", Refusal::ReadOnlyFd), Error::NotWritable { .. }));
    }
}
