//! The functions of regions that exist only for BPF maps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::describe::LoadedObject;
use super::fdinfo::{is_frozen, map_info};
use super::freeze::{pinning, publish};
use super::inner::make_like;
use super::lookup::update_run;
use super::open::open;
use super::readers::Companions;
use super::sys::Elements;
use super::{MapFd, MapLocator};
use crate::abi::{Geometry, Preamble};
use crate::error::{Cause, Error, Result};
use crate::region::{Memory, OpenOptions, Refusal, Region, generation};
use crate::sync::Ordering;

/// The part of [`OpenOptions`] that is only for maps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(super) layout: Option<Geometry>,
    pub(super) write_preamble: bool,
}

/// Where a map was found, so that it can be opened again from there, and its id.
pub(crate) struct Origin {
    place: MapLocator,
    id: u32,
    options: OpenOptions,
    /// The maps of a ring's readers and bells, as they were pinned when the ring was opened.
    companions: Option<Companions>,
}

impl Origin {
    /// The path of its pin, if it was found by one.
    pub(super) fn pin(&self) -> Option<&Path> {
        match &self.place {
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
        match &self.place {
            MapLocator::Loaded(map) => map.object.as_ref(),
            MapLocator::Pin(_) | MapLocator::Inner(_) => None,
        }
    }

    /// The region that is in this place now, if it is another one. An error if there is none.
    pub(crate) fn successor(&self) -> Result<Option<Region>> {
        let now = self.place.open()?;
        if now.info.id == self.id {
            return Ok(None);
        }
        self.options.adopt(now, self.place.clone()).map(Some)
    }
}

/// Opens a file descriptor that is not a memfd.
pub(crate) fn open_fd(fd: OwnedFd, options: OpenOptions) -> Result<Region> {
    let opened = MapFd::fd(fd).map_err(|e| match e.into_cause() {
        Cause::NotARegion { what, hint, .. } => {
            Error::from(Cause::NotARegion { what, expected: "a BPF map or a memfd", hint })
        }
        cause => cause.into(),
    })?;
    open(opened, options)
}

impl OpenOptions {
    /// Describes a BPF map without a preamble, instead of its BTF: for maps that another loader created from an object
    /// with mapring's macros, or whose programs follow `docs/abi.md`. If there is a preamble, this description is
    /// ignored, or with [`write_preamble`](Self::write_preamble) compared: another shape is
    /// [`ErrorKind::NotReusable`](crate::ErrorKind::NotReusable). (For arrays without a protocol of mapring, use [`Array`](crate::Array).)
    pub fn assume_layout(self, geometry: Geometry) -> Self {
        Self { map: Options { layout: Some(geometry), ..self.map }, ..self }
    }

    /// Writes the preamble if there is none: for loaders that describe their maps with
    /// [`assume_layout`](Self::assume_layout). Other loaders call [`loader::initialize`](crate::loader::initialize).
    /// Readers then open the map by its pin, without a description.
    pub fn write_preamble(self, write_preamble: bool) -> Self {
        Self { map: Options { write_preamble, ..self.map }, ..self }
    }

    /// Opens the map that is in this place now.
    pub(crate) fn find(self, place: MapLocator) -> Result<Region> {
        self.adopt(place.open()?, place)
    }

    /// Opens a map that is, or will be, in this place.
    pub(crate) fn adopt(self, mut opened: MapFd, place: MapLocator) -> Result<Region> {
        for again in (0..MapLocator::AGAIN).rev() {
            let id = opened.info.id;
            let mut region = open(opened, self)?;
            let companions = match &place {
                MapLocator::Pin(path) => Companions::pinned(&region, path),
                MapLocator::Inner(_) | MapLocator::Loaded(_) => Ok(None),
            };
            // This one was replaced after it was opened. (By now it may be there again.)
            let others = |e: &Error| e.io_error().and_then(Errno::from_io_error) == Some(Errno::STALE);
            if again > 0
                && let Err(error) = &companions
                && let Ok(now) = place.open()
                && (now.info.id != id || others(error))
            {
                opened = now;
                continue;
            }
            // A process that later finds another map there is not its loader.
            let (options, companions) = (self.write_preamble(false), companions.ok().flatten());
            region.set_origin(Origin { place, id, options, companions });
            return Ok(region);
        }
        unreachable!("the last round returns")
    }
}

pinning!(
    [] Region,
    "Of a ring that wakes readers or keeps its oldest records, this also pins the maps of its readers and bells, as \
     `PATH__readers` and `PATH__bells`.",
    "",
    |region, path, how| publish(&[(None, region)], path, how)
);

impl Region {
    /// The id of the map, if it was found by its pin, in a map of maps or in a loaded object.
    pub(crate) fn id(&self) -> Option<u32> {
        self.origin().map(|origin| origin.id)
    }

    /// Creates a region like this one but of the shape `geometry`, on `node` if given, and opens it with `options`. It
    /// will be put in `place`.
    pub(crate) fn another(
        &self,
        geometry: Geometry,
        node: Option<usize>,
        options: OpenOptions,
        place: MapLocator,
    ) -> Result<Self> {
        let preamble = Preamble { geometry, generation: generation(), ..self.preamble().clone() };
        options.adopt(make_like(self.as_fd(), &preamble, node, &place)?, place)
    }
}

/// A region that this process writes by system calls.
pub(crate) struct ByCall {
    region: Region,
    map: Elements<Region>,
}

impl ByCall {
    /// `None` for a region that is mapped for writing, or that can't be written at all. Makes system calls.
    pub(crate) fn new(region: &Region) -> Result<Option<Self>> {
        if !matches!(region.writable(), Err(Refusal::ReadOnlyForPrograms | Refusal::NotMmapable)) {
            return Ok(None);
        }
        let info = map_info(region.as_fd())?;
        Ok(Some(Self { region: region.clone(), map: Elements::new(region.clone(), &info) }))
    }

    /// Copies elements from `first` on, as many as fit into `out`, for their only writer: in no order. Makes a system
    /// call if the region is not mapped.
    pub(crate) fn elements(&self, first: usize, out: &mut [u64]) -> Result<()> {
        let words = self.region.geometry().element_words();
        match self.region.memory() {
            Memory::Mapped(mapping) => {
                let from = mapping.words().slice(first * words, out.len());
                out.iter_mut().enumerate().for_each(|(at, word)| *word = from.load(at, Ordering::Relaxed));
                Ok(())
            }
            Memory::Lookup(lookup, _) => lookup
                .run(first, out.len() / words, out)
                .map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e)),
        }
    }

    /// Writes elements from `first` on, one after the other; one system call writes many.
    pub(crate) fn update(&self, first: usize, elements: &[u64]) -> Result<()> {
        update_run(&self.map, first, self.region.geometry().element_words(), elements)
            .map_err(|e| self.not_updated("bpf(BPF_MAP_UPDATE_ELEM)", e))
    }

    /// Why an update was refused.
    fn not_updated(&self, call: &'static str, error: io::Error) -> Error {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        if denied && is_frozen(self.region.as_fd()) == Some(true) {
            return Error::not_writable(self.region.what(), Refusal::Frozen);
        }
        let hint = if denied { "; the descriptor is read-only: its loader can write it" } else { "" };
        Error::from(Cause::System { call, error, hint })
    }
}
