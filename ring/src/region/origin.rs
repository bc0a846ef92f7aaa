//! Where a region's map was found, so that it can be opened again from there.

use std::path::Path;
use std::sync::Arc;

use super::options::OpenOptions;
use crate::bpf::{MapFd, MapLocator};
use crate::loader::LoadedObject;

/// Where a map was found, so that it can be opened again from there, and its id.
pub(crate) struct Origin {
    pub(super) locator: MapLocator,
    pub(super) id: u32,
    pub(super) options: OpenOptions,
    /// The maps of a ring's readers and bells, as they were pinned when the ring was opened.
    pub(super) companions: Option<Companions>,
}

impl Origin {
    /// The path of its pin, if it was found by one.
    pub(super) fn pin(&self) -> Option<&Path> {
        match &self.locator {
            MapLocator::Pin(path) => Some(path),
            MapLocator::Inner(_) | MapLocator::Loaded(_) => None,
        }
    }

    /// The maps of its readers and bells, if they were pinned when it was opened.
    pub(super) fn companions(&self) -> Option<&Companions> {
        self.companions.as_ref()
    }

    /// The object of its map, if this process has loaded it.
    pub(super) fn object(&self) -> Option<&Arc<LoadedObject>> {
        match &self.locator {
            MapLocator::Loaded(map) => map.object.as_ref(),
            MapLocator::Pin(_) | MapLocator::Inner(_) => None,
        }
    }
}

/// The maps of a ring's readers and bells, from their pins beside the ring's.
pub(super) struct Companions {
    pub(super) readers: MapFd,
    pub(super) bells: MapFd,
}
