//! The sources of maps: a pin, an id, a loaded map, or an entry of a map of maps.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::describe::LoadedObject;
use super::kinds::MapType;
use super::{MapFd, MapLocator, MapOfMaps};
use crate::error::{Error, Result};
use crate::region::{self, OpenOptions, Region, Source};

/// Where to find a map.
pub(crate) enum MapSource {
    Pin(PathBuf),
    Id(u32),
    /// The map of a loaded object, its name, and the object.
    Loaded(io::Result<OwnedFd>, String, Option<Arc<LoadedObject>>),
    Inner(Box<Source>, Box<[u8]>),
    /// A map that is already open.
    Opened(Box<(MapFd, Option<MapLocator>)>),
}

impl MapSource {
    /// Opens it as a region.
    pub(crate) fn open(self, options: OpenOptions) -> Result<Region> {
        let (map, place) = self.map()?;
        match place {
            Some(place) => options.adopt(map, place),
            None => super::open::open(map, options),
        }
    }

    /// The map that is there now, and where its successor will be.
    fn map(self) -> Result<(MapFd, Option<MapLocator>)> {
        let locator = match self {
            Self::Pin(path) => MapLocator::Pin(path),
            Self::Inner(maps, key) => MapLocator::Inner(MapOfMaps::new(maps.map()?.0, &key)?),
            Self::Opened(opened) => return Ok(*opened),
            Self::Id(id) => return Ok((MapFd::id(id)?, None)),
            Self::Loaded(fd, name, object) => {
                let map = MapFd::loaded(fd.map_err(|e| Error::system("dup", e))?, &name, object)?;
                if map.object.is_none() {
                    return Ok((map, None));
                }
                MapLocator::Loaded(map.into())
            }
        };
        Ok((locator.open()?, Some(locator)))
    }
}

impl Source {
    /// The BPF map with this id. Opening it needs CAP_SYS_ADMIN.
    pub fn id(id: u32) -> Self {
        MapSource::Id(id).into()
    }

    /// The map under `key` in `maps`, an `ARRAY_OF_MAPS` or `HASH_OF_MAPS`. Opening it needs CAP_SYS_ADMIN.
    pub fn inner(maps: impl Into<Self>, key: &[u8]) -> Self {
        MapSource::Inner(Box::new(maps.into()), key.into()).into()
    }

    /// The path, if this is a directory instead of a pin.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.0 {
            region::AnySource::Map(MapSource::Pin(path)) if path.is_dir() => Some(path),
            _ => None,
        }
    }

    /// The array of maps, at its first key, if this is one; otherwise this source.
    pub(crate) fn array_of_maps(self) -> Result<Result<MapOfMaps, Self>> {
        match &self.0 {
            region::AnySource::Map(MapSource::Inner(..)) => return Ok(Err(self)),
            region::AnySource::Fd(Ok(fd)) if !MapFd::is_one(fd.as_fd()) => return Ok(Err(self)),
            _ => {}
        }
        let opened = self.map()?;
        if opened.0.info.ty == MapType::ARRAY_OF_MAPS {
            return MapOfMaps::new(opened.0, &[0; 4]).map(Ok);
        }
        Ok(Err(MapSource::Opened(Box::new(opened)).into()))
    }

    /// The map that is there now, and where its successor will be.
    pub(crate) fn map(self) -> Result<(MapFd, Option<MapLocator>)> {
        match self.0 {
            region::AnySource::Fd(fd) => Ok((MapFd::fd(fd.map_err(|e| Error::system("dup", e))?)?, None)),
            region::AnySource::Map(map) => map.map(),
        }
    }
}

impl From<MapSource> for Source {
    fn from(map: MapSource) -> Self {
        Self(region::AnySource::Map(map))
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        MapSource::Pin(path).into()
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

impl fmt::Debug for MapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(path) => f.debug_tuple("Pin").field(path).finish(),
            Self::Id(id) => f.debug_tuple("Id").field(id).finish(),
            Self::Loaded(_, name, _) => f.debug_tuple("Loaded").field(name).finish(),
            Self::Opened(opened) => f.debug_tuple("Opened").field(&opened.0.what).finish(),
            Self::Inner(maps, key) => f.debug_tuple("Inner").field(maps).field(key).finish(),
        }
    }
}
