//! The sources of maps: a pin, an id, a loaded map, or an entry of a map of maps.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use mapring_sys::fdinfo::is_map;
use mapring_sys::kinds::MapType;

use crate::bpf::{MapFd, MapLocator, MapOfMaps};
use crate::error::{Error, Result};
use crate::region::source::{AnySource, Source};

impl Source {
    /// The BPF map with this id. Opening it needs CAP_SYS_ADMIN.
    pub fn id(id: u32) -> Self {
        Self(AnySource::Id(id))
    }

    /// The map under `key` in `maps`, an `ARRAY_OF_MAPS` or `HASH_OF_MAPS`. Opening it needs CAP_SYS_ADMIN.
    pub fn inner(maps: impl Into<Self>, key: &[u8]) -> Self {
        Self(AnySource::Inner(Box::new(maps.into()), key.into()))
    }

    /// The path, if this is a directory instead of a pin.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.0 {
            AnySource::Pin(path) if path.is_dir() => Some(path),
            _ => None,
        }
    }

    /// The array of maps, at its first key, if this is one; otherwise this source.
    pub(crate) fn array_of_maps(self) -> Result<Result<MapOfMaps, Self>> {
        match &self.0 {
            AnySource::Inner(..) => return Ok(Err(self)),
            AnySource::Fd(Ok(fd)) if !is_map(fd.as_fd()) => return Ok(Err(self)),
            _ => {}
        }
        let opened = self.map()?;
        if opened.0.info.ty == MapType::ARRAY_OF_MAPS {
            return MapOfMaps::new(opened.0, &[0; 4]).map(Ok);
        }
        Ok(Err(Self(AnySource::Opened(Box::new(opened)))))
    }

    /// The map that is there now, and where its successor will be.
    pub(crate) fn map(self) -> Result<(MapFd, Option<MapLocator>)> {
        let locator = match self.0 {
            AnySource::Fd(fd) => return Ok((MapFd::fd(fd.map_err(|e| Error::system("dup", e))?)?, None)),
            AnySource::Pin(path) => MapLocator::Pin(path),
            AnySource::Inner(maps, key) => MapLocator::Inner(MapOfMaps::new(maps.map()?.0, &key)?),
            AnySource::Opened(opened) => return Ok(*opened),
            AnySource::Id(id) => return Ok((MapFd::id(id)?, None)),
            AnySource::Loaded(fd, name, object) => {
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

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self(AnySource::Pin(path))
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<String> for Source {
    fn from(path: String) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<&str> for Source {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}
