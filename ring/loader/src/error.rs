//! Why an object can't be loaded on this machine, and what to do about it.

use std::ops::RangeInclusive;

use mapring::{Error, ErrorKind};

/// A refusal of [`prepare`](crate::prepare()).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The object's writers publish with x86's memory order, but this machine is not x86.
    #[error(
        "map {map} was compiled with __TARGET_ARCH_x86, whose plain stores don't publish on this \
             architecture: compile it for this machine, or without __TARGET_ARCH_x86"
    )]
    MemoryOrder { map: String },
    /// The kernel refuses the guard's functions to programs with such a license.
    #[error(
        "the object's programs call bpf_preempt_disable, which this kernel allows only to programs with a GPL-compatible \
         license, and {}: put `#define MAPRING_NO_GUARD` before mapring's headers, and programs claim slots by \
         compare-and-swap instead, which costs about 3 ns more for each record; or choose a GPL-compatible license",
        license.as_ref().map_or("the object has none (a variable in SEC(\"license\"))".to_owned(), |it| format!("its license is {it:?}"))
    )]
    License { license: Option<String> },
    /// This kernel refuses the program because it has no fetching atomics (before Linux 5.12; on aarch64 5.18).
    #[error(
        "program {program} claims by fetching atomics, which need Linux {since}, and this is {release}: rings need \
         a newer kernel; begin a cell that has one writer by mapring_cell_begin_single_writer; counters, latches and all \
         readers work on this kernel"
    )]
    NoFetchingAtomics { program: String, since: String, release: String },
    /// The kernel does not create arrays with keys or values of this size.
    #[error("map {map}: a {part} of {found} bytes, where this kernel accepts {}{hint}", shown(allowed))]
    MapSize { map: String, part: &'static str, found: u32, allowed: RangeInclusive<u32>, hint: &'static str },
    /// The NUMA node does not exist.
    #[error(
        "no NUMA node {node}: there are {there:?} (mapring::cpus::online_nodes); choose one of them, or none: then the \
         kernel chooses the node where the object is loaded"
    )]
    Node { node: usize, there: Vec<usize> },
    /// The map or section does not exist.
    #[error("no {thing} {name}: there are {there}")]
    NoSuch { thing: &'static str, name: String, there: String },
    /// A map of another type.
    #[error(
        "map {map} is a map of type percpu_array, expected array; each CPU's values are on the node of that CPU already"
    )]
    PerCpu { map: String },
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::MemoryOrder { .. } | Refused::NoFetchingAtomics { .. } | Refused::License { .. } => {
                ErrorKind::Unsupported
            }
            Refused::MapSize { .. } => ErrorKind::Shape,
            Refused::Node { .. } | Refused::NoSuch { .. } => ErrorKind::OutOfRange,
            Refused::PerCpu { .. } => ErrorKind::WrongType,
        };
        Self::new(kind, refused)
    }
}

/// An error of libbpf.
pub(crate) fn libbpf(error: libbpf_rs::Error) -> Error {
    Error::new(ErrorKind::Loader, error)
}

/// `4`, or `1 to 8`.
fn shown(range: &RangeInclusive<u32>) -> String {
    match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_one_says_them() {
        let message = |allowed| {
            Refused::MapSize { map: "m".into(), part: "key", found: 8, allowed, hint: ": use 4" }.to_string()
        };
        assert_eq!(message(4..=4), "map m: a key of 8 bytes, where this kernel accepts 4: use 4");
        assert_eq!(message(1..=7), "map m: a key of 8 bytes, where this kernel accepts 1 to 7: use 4");
    }
}
