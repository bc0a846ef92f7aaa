//! What is opened: a pin, an id, a file descriptor, a loaded map, or an entry of a map of maps.

use std::fmt;
use std::io;
#[cfg(feature = "bpf")]
use std::os::fd::AsFd;
use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(feature = "bpf")]
use std::path::{Path, PathBuf};

#[cfg(feature = "bpf")]
use super::bpf::{MapFd, MapLocator, MapOfMaps};
#[cfg(feature = "bpf")]
use crate::error::{Error, Result};

/// Where to find a region or map: what the `open` functions take.
///
/// | from | |
/// |---|---|
/// | `&str`, `&Path`, … | a pin in a BPF file system |
/// | [`Source::id`] | the id of a BPF map; needs CAP_SYS_ADMIN |
/// | `OwnedFd`, `BorrowedFd`, `File` | the file descriptor of a BPF map or a memfd, made by any loader or process |
/// | `&libbpf_rs::MapHandle`, `&libbpf_rs::Map`, … | a map of a loaded object |
/// | [`Source::inner`] | an entry of a map of maps; needs CAP_SYS_ADMIN |
///
/// ```
/// use mapring::{Error, Ring};
///
/// # #[cfg(feature = "bpf")] {
/// let refused = Ring::<[u64; 2]>::open("/sys/fs/bpf/missing").unwrap_err();
/// assert!(matches!(refused, Error::Open { .. }));
/// # }
/// ```
pub struct Source(pub(super) Place);

pub(super) enum Place {
    #[cfg(feature = "bpf")]
    Pin(PathBuf),
    #[cfg(feature = "bpf")]
    Id(u32),
    Fd(io::Result<OwnedFd>),
    /// The map of a loaded object, and its name.
    #[cfg(feature = "bpf")]
    Loaded(io::Result<OwnedFd>, String),
    #[cfg(feature = "bpf")]
    Inner(Box<Source>, Box<[u8]>),
    /// A map that was opened already.
    #[cfg(feature = "bpf")]
    Opened(Box<(MapFd, Option<MapLocator>)>),
}

impl Source {
    /// The BPF map with this id. To open it takes CAP_SYS_ADMIN.
    #[cfg(feature = "bpf")]
    pub fn id(id: u32) -> Self {
        Self(Place::Id(id))
    }

    /// The map that is in `maps`, an `ARRAY_OF_MAPS` or `HASH_OF_MAPS`, under `key`. To open it takes CAP_SYS_ADMIN.
    #[cfg(feature = "bpf")]
    pub fn inner(maps: impl Into<Self>, key: &[u8]) -> Self {
        Self(Place::Inner(Box::new(maps.into()), key.into()))
    }

    /// Whether it is the map of a loaded object that mapring's macros declared: for maps that programs use. That leaves out
    /// the first map of a map of maps, which shows the kernel what they are.
    #[cfg(feature = "bpf")]
    pub(crate) fn is_declared(&self) -> Result<bool> {
        let Place::Loaded(Ok(fd), name) = &self.0 else { return Ok(false) };
        let fd = fd.try_clone().map_err(|e| Error::system("dup", e))?;
        let map = MapFd::loaded(fd, name)?;
        Ok(match map.region() {
            Some(described) => described.inner.is_none(),
            None if map.holds_maps() => {
                let Ok(maps) = MapOfMaps::new(map, &[0; 4]) else { return Ok(false) };
                MapLocator::Inner(maps).open().is_ok_and(|inner| inner.region().is_some())
            }
            None => false,
        })
    }

    /// The directory that this is, in place of a pin.
    #[cfg(feature = "bpf")]
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.0 {
            Place::Pin(path) if path.is_dir() => Some(path),
            _ => None,
        }
    }

    /// The array of maps that this is, at its first key, or else this.
    #[cfg(feature = "bpf")]
    pub(crate) fn array_of_maps(self) -> Result<Result<MapOfMaps, Self>> {
        match &self.0 {
            Place::Inner(..) => return Ok(Err(self)),
            Place::Fd(Ok(fd)) if !MapFd::is_one(fd.as_fd()) => return Ok(Err(self)),
            _ => {}
        }
        let opened = self.map()?;
        if opened.0.info.map_type() == libbpf_rs::MapType::ArrayOfMaps {
            return MapOfMaps::new(opened.0, &[0; 4]).map(Ok);
        }
        Ok(Err(Self(Place::Opened(Box::new(opened)))))
    }

    /// The map that is there now, and where to look for its successor.
    #[cfg(feature = "bpf")]
    pub(crate) fn map(self) -> Result<(MapFd, Option<MapLocator>)> {
        let dup = |fd: io::Result<OwnedFd>| fd.map_err(|e| Error::system("dup", e));
        let locator = match self.0 {
            Place::Pin(path) => MapLocator::Pin(path),
            Place::Inner(maps, key) => MapLocator::Inner(MapOfMaps::new(maps.map()?.0, &key)?),
            Place::Opened(opened) => return Ok(*opened),
            Place::Id(id) => return Ok((MapFd::id(id)?, None)),
            Place::Fd(fd) => return Ok((MapFd::fd(dup(fd)?)?, None)),
            Place::Loaded(fd, name) => return Ok((MapFd::loaded(dup(fd)?, &name)?, None)),
        };
        Ok((locator.open()?, Some(locator)))
    }
}

impl From<OwnedFd> for Source {
    fn from(fd: OwnedFd) -> Self {
        Self(Place::Fd(Ok(fd)))
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
        Self(Place::Fd(fd.try_clone_to_owned()))
    }
}

/// Duplicates the file descriptor: a system call.
impl From<&OwnedFd> for Source {
    fn from(fd: &OwnedFd) -> Self {
        Self(Place::Fd(fd.try_clone()))
    }
}

#[cfg(feature = "bpf")]
mod pins {
    use super::{Path, PathBuf, Place, Source};

    impl From<PathBuf> for Source {
        fn from(path: PathBuf) -> Self {
            Self(Place::Pin(path))
        }
    }

    impl From<&Path> for Source {
        fn from(path: &Path) -> Self {
            path.to_owned().into()
        }
    }

    impl From<&PathBuf> for Source {
        fn from(path: &PathBuf) -> Self {
            path.clone().into()
        }
    }

    impl From<String> for Source {
        fn from(path: String) -> Self {
            PathBuf::from(path).into()
        }
    }

    impl From<&String> for Source {
        fn from(path: &String) -> Self {
            PathBuf::from(path).into()
        }
    }

    impl From<&str> for Source {
        fn from(path: &str) -> Self {
            PathBuf::from(path).into()
        }
    }
}

/// Maps of loaded objects, which duplicate their file descriptor: a system call.
#[cfg(feature = "bpf")]
mod loaded {
    use libbpf_rs::{MapCore, MapHandle, MapImpl};

    use super::{Place, Source};

    fn loaded(map: &impl MapCore) -> Source {
        let name = map.name().to_string_lossy().into_owned();
        Source(Place::Loaded(map.as_fd().try_clone_to_owned(), name))
    }

    impl<T: std::fmt::Debug> From<&MapImpl<'_, T>> for Source {
        fn from(map: &MapImpl<'_, T>) -> Self {
            loaded(map)
        }
    }

    impl From<&MapHandle> for Source {
        fn from(map: &MapHandle) -> Self {
            loaded(map)
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            #[cfg(feature = "bpf")]
            Place::Pin(path) => f.debug_tuple("Pin").field(path).finish(),
            #[cfg(feature = "bpf")]
            Place::Id(id) => f.debug_tuple("Id").field(id).finish(),
            Place::Fd(fd) => f.debug_tuple("Fd").field(fd).finish(),
            #[cfg(feature = "bpf")]
            Place::Loaded(_, name) => f.debug_tuple("Loaded").field(name).finish(),
            #[cfg(feature = "bpf")]
            Place::Opened(opened) => f.debug_tuple("Opened").field(&opened.0.what).finish(),
            #[cfg(feature = "bpf")]
            Place::Inner(maps, key) => f.debug_tuple("Inner").field(maps).field(key).finish(),
        }
    }
}
