//! The sources of regions: a pin, an id, a file descriptor, a loaded map, or an entry of a map of maps.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::bpf::{MapFd, MapLocator};
use crate::loader::LoadedObject;

/// Where to find a region or map: the argument of the `open` functions.
///
/// | from | |
/// |---|---|
/// | `&str`, `String`, `&Path`, `PathBuf` | a pin in a BPF file system |
/// | [`Source::id`] | the id of a BPF map; needs CAP_SYS_ADMIN |
/// | `OwnedFd`, `BorrowedFd`, `File` | the file descriptor of a BPF map or a memfd, made by any loader or process |
/// | a reference to what has a descriptor | the same: `&OwnedFd`, `&libbpf_rs::Map`, `&libbpf_rs::MapHandle`, … |
/// | `mapring_loader::map`, [`Source::loaded`] | a map of a loaded object, with the object's types and the ring's other maps |
/// | [`Source::inner`] | an entry of a map of maps; needs CAP_SYS_ADMIN |
///
/// ```
/// use mapring::{ErrorKind, Ring};
///
/// let refused = Ring::<[u64; 2]>::open("/sys/fs/bpf/missing").unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Open);
/// ```
pub struct Source(pub(crate) AnySource);

pub(crate) enum AnySource {
    Fd(io::Result<OwnedFd>),
    Pin(PathBuf),
    Id(u32),
    /// The map of a loaded object, its name, and the object.
    Loaded(io::Result<OwnedFd>, String, Option<Arc<LoadedObject>>),
    /// The map under a key in a map of maps.
    Inner(Box<Source>, Box<[u8]>),
    /// A map that is already open.
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

/// Whatever has a descriptor: `&OwnedFd`, `&File`, a map of libbpf-rs or aya. Duplicates it: a system call.
impl<F: AsFd> From<&F> for Source {
    fn from(fd: &F) -> Self {
        fd.as_fd().into()
    }
}

impl Source {
    /// A map of an object that this process has loaded, by a descriptor and its name, with the object's types and other maps.
    /// Duplicates the descriptor: a system call.
    pub fn loaded(map: impl AsFd, name: &str, object: Option<Arc<LoadedObject>>) -> Self {
        Self(AnySource::Loaded(map.as_fd().try_clone_to_owned(), name.to_owned(), object))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AnySource::Fd(fd) => f.debug_tuple("Fd").field(fd).finish(),
            AnySource::Pin(path) => f.debug_tuple("Pin").field(path).finish(),
            AnySource::Id(id) => f.debug_tuple("Id").field(id).finish(),
            AnySource::Loaded(_, name, _) => f.debug_tuple("Loaded").field(name).finish(),
            AnySource::Inner(maps, key) => f.debug_tuple("Inner").field(maps).field(key).finish(),
            AnySource::Opened(opened) => f.debug_tuple("Opened").field(&opened.0.what).finish(),
        }
    }
}
