//! The sources of regions: a pin, an id, a file descriptor, a loaded map, or an entry of a map of maps.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(feature = "bpf")]
use std::path::PathBuf;
#[cfg(feature = "libbpf")]
use std::sync::Arc;

#[cfg(feature = "libbpf")]
use crate::bpf::describe::LoadedObject;
#[cfg(feature = "bpf")]
use crate::bpf::{MapFd, MapLocator};

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
    #[cfg(feature = "bpf")]
    Pin(PathBuf),
    #[cfg(feature = "bpf")]
    Id(u32),
    /// The map of a loaded object, its name, and the object.
    #[cfg(feature = "libbpf")]
    Loaded(io::Result<OwnedFd>, String, Option<Arc<LoadedObject>>),
    /// The map under a key in a map of maps.
    #[cfg(feature = "bpf")]
    Inner(Box<Source>, Box<[u8]>),
    /// A map that is already open.
    #[cfg(feature = "bpf")]
    Opened(Box<(MapFd, Option<MapLocator>)>),
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
            #[cfg(feature = "bpf")]
            AnySource::Pin(path) => f.debug_tuple("Pin").field(path).finish(),
            #[cfg(feature = "bpf")]
            AnySource::Id(id) => f.debug_tuple("Id").field(id).finish(),
            #[cfg(feature = "libbpf")]
            AnySource::Loaded(_, name, _) => f.debug_tuple("Loaded").field(name).finish(),
            #[cfg(feature = "bpf")]
            AnySource::Inner(maps, key) => f.debug_tuple("Inner").field(maps).field(key).finish(),
            #[cfg(feature = "bpf")]
            AnySource::Opened(opened) => f.debug_tuple("Opened").field(&opened.0.what).finish(),
        }
    }
}
