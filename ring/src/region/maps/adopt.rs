//! Opens maps where they were found, and makes others for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mapring_sys::bpf::{self, NewArray};
use rustix::io::Errno;

use super::freeze::{pinning, publish};
use super::open::open;
use super::preamble::initialise;
use crate::abi::{Geometry, Preamble};
use crate::bpf::{MapFd, MapLocator};
use crate::error::{Cause, Error, Result};
use crate::region::origin::{Companions, Origin};
use crate::region::{OpenOptions, Region, Source, generation};

/// Opens a map.
pub(crate) fn open_source(source: Source, options: OpenOptions) -> Result<Region> {
    let (map, locator) = source.map()?;
    match locator {
        Some(locator) => options.adopt(map, locator),
        None => open(map, options),
    }
}

/// Opens a file descriptor that is not a memfd.
pub(crate) fn open_fd(fd: OwnedFd, options: OpenOptions) -> Result<Region> {
    let opened = MapFd::fd(fd).map_err(|e| match e.cause() {
        Cause::NotARegion { what, hint, .. } => {
            Error::from(Cause::NotARegion { what: what.clone(), expected: "a BPF map or a memfd", hint })
        }
        _ => e,
    })?;
    open(opened, options)
}

impl OpenOptions {
    /// Opens the map that is there now.
    pub(crate) fn find(self, locator: MapLocator) -> Result<Region> {
        self.adopt(locator.open()?, locator)
    }

    /// Opens a map that is, or will be, there.
    pub(crate) fn adopt(self, mut opened: MapFd, locator: MapLocator) -> Result<Region> {
        for again in (0..MapLocator::AGAIN).rev() {
            let id = opened.info.id;
            let mut region = open(opened, self)?;
            let companions = match &locator {
                MapLocator::Pin(path) => Companions::pinned(&region, path),
                MapLocator::Inner(_) | MapLocator::Loaded(_) => Ok(None),
            };
            // This one was replaced after it was opened. (By now it may be there again.)
            let others = |e: &Error| e.io_error().and_then(Errno::from_io_error) == Some(Errno::STALE);
            if again > 0
                && let Err(error) = &companions
                && let Ok(now) = locator.open()
                && (now.info.id != id || others(error))
            {
                opened = now;
                continue;
            }
            // A process that later finds another map there is not its loader.
            let (options, companions) = (self.write_preamble(false), companions.ok().flatten());
            region.set_origin(Origin { locator, id, options, companions });
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
    /// [`replaced`](Self::replaced), or an error if nothing is there.
    pub(crate) fn successor(&self) -> Result<Option<Self>> {
        let Some(Origin { locator, id, options, .. }) = self.origin() else { return Ok(None) };
        let now = locator.open()?;
        if now.info.id == *id {
            return Ok(None);
        }
        options.adopt(now, locator.clone()).map(Some)
    }

    /// The id of the map, if it was found by its pin, in a map of maps or in a loaded object.
    pub(crate) fn id(&self) -> Option<u32> {
        self.origin().map(|origin| origin.id)
    }

    /// Creates a region like this one but of the shape `geometry`, on `node` if given, and opens it with `options`. It
    /// will be put at `locator`.
    pub(crate) fn another(
        &self,
        geometry: Geometry,
        node: Option<usize>,
        options: OpenOptions,
        locator: MapLocator,
    ) -> Result<Self> {
        let preamble = Preamble { geometry, generation: generation(), ..self.preamble().clone() };
        options.adopt(make_like(self.as_fd(), &preamble, node, &locator)?, locator)
    }
}

/// Creates a map with `preamble` and of its shape, to be put at `locator`, otherwise like `like`: with its flags, its name,
/// and its types if this process has loaded their object or may read them (CAP_SYS_ADMIN). On `node`, if the flags of `like`
/// include a node.
fn make_like(
    like: BorrowedFd<'_>,
    preamble: &Preamble,
    node: Option<usize>,
    locator: &MapLocator,
) -> Result<MapFd> {
    let like = bpf::map_info(like).map_err(|e| Error::system("bpf(BPF_OBJ_GET_INFO_BY_FD)", e))?;
    let geometry = &preamble.geometry;
    let fits = |number: usize| u32::try_from(number).expect("a geometry has no more");
    let known = match locator {
        MapLocator::Inner(maps) => maps.object().and_then(|object| object.types(like.btf_id)),
        MapLocator::Pin(_) | MapLocator::Loaded(_) => None,
    };
    let read = if known.is_none() { bpf::btf_by_id(like.btf_id).ok() } else { None };
    let btf = known.or(read.as_ref().map(AsFd::as_fd));
    let made = bpf::create_array(&NewArray {
        name: like.name,
        value_size: fits(geometry.element()),
        max_entries: fits(geometry.entries()),
        flags: like.flags,
        // All ones: any node. The kernel does not report the node of `like`.
        node: node.map_or(u32::MAX, fits),
        types: btf.map(|btf| (btf, like.key_type, like.value_type)),
    });
    let opened = MapFd::fd(made.map_err(|error| {
        Error::from(Cause::System {
            call: "bpf(BPF_MAP_CREATE)",
            hint: match Errno::from_io_error(&error) {
                Some(Errno::PERM) => "; making maps needs CAP_BPF: run as root",
                Some(Errno::NOMEM | Errno::TOOBIG) => "; so much memory can't be had: ask for fewer slots",
                _ => "",
            },
            error,
        })
    })?)?;
    initialise(opened.fd.as_fd(), &opened.info, &opened.what, preamble)?;
    Ok(opened)
}
