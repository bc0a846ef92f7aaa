//! The sources of regions: a pin, an id, a file descriptor, a loaded map, or an entry of a map of maps.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::bpf;

/// Where to find a region or map: the argument of the `open` functions.
///
/// | from | |
/// |---|---|
/// | `&str`, `&Path`, … | a pin in a BPF file system |
/// | [`Source::id`] | the id of a BPF map; needs CAP_SYS_ADMIN |
/// | `OwnedFd`, `BorrowedFd`, `File` | the file descriptor of a BPF map or a memfd, made by any loader or process |
/// | `&libbpf_rs::MapHandle`, `&libbpf_rs::Map`, … | a map of a loaded object (cargo feature `libbpf`) |
/// | [`loader::map`](crate::loader::map) | the same, with the object's types and the ring's other maps |
/// | [`Source::inner`] | an entry of a map of maps; needs CAP_SYS_ADMIN |
///
/// ```
/// use mapring::{ErrorKind, Ring};
///
/// # #[cfg(feature = "bpf")] {
/// let refused = Ring::<[u64; 2]>::open("/sys/fs/bpf/missing").unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Open);
/// # }
/// ```
pub struct Source(pub(crate) AnySource);

pub(crate) enum AnySource {
    Fd(io::Result<OwnedFd>),
    Map(bpf::MapSource),
}

impl From<OwnedFd> for Source {
    fn from(fd: OwnedFd) -> Self {
        Self(AnySource::Fd(Ok(fd)))
    }
}

impl From<std::fs::File> for Source {
    fn from(file: std::fs::File) -> Self {
        OwnedFd::from(file).into()
    }
}

/// Duplicates the file descriptor: a system call.
impl From<BorrowedFd<'_>> for Source {
    fn from(fd: BorrowedFd<'_>) -> Self {
        Self(AnySource::Fd(fd.try_clone_to_owned()))
    }
}

/// Duplicates the file descriptor: a system call.
impl From<&OwnedFd> for Source {
    fn from(fd: &OwnedFd) -> Self {
        Self(AnySource::Fd(fd.try_clone()))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AnySource::Fd(fd) => f.debug_tuple("Fd").field(fd).finish(),
            AnySource::Map(map) => map.fmt(f),
        }
    }
}
