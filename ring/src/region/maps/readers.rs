//! The map in which programs and the readers of a ring find each other, and how it is found.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use mapring_sys::stage::{BELLS, NEW, NEXT, READERS, with_suffix};
use rustix::io::Errno;

use super::open::open;
use crate::abi::readers::{LOOK, NEVER, OTHER_RING};
use crate::abi::{Kind, Preamble};
use crate::bpf::{MapFd, MapLocator, MapOfMaps, is_gone};
use crate::error::{Cause, Error, Result};
use crate::region::origin::{Companions, Origin};
use crate::region::{Identity, OpenOptions, Region, SharedMut, Source};

/// The table of the readers of a ring, for writing, and their bells. Makes system calls; needs write access to the map of the
/// ring's readers.
pub(crate) fn places_of(ring: &Region) -> Result<(SharedMut, MapOfMaps)> {
    let (readers, bells) = companions(ring)?;
    let readers = open(readers, OpenOptions::new().write(true))?;
    readers.expect(Kind::Readers)?;
    Ok((readers.shared_mut()?, bells))
}

/// The readers of `ring`, to be looked at only. Makes system calls.
pub(crate) fn readers_of(ring: &Region) -> Result<Region> {
    let readers = open(companions(ring)?.0, OpenOptions::new())?;
    readers.expect(Kind::Readers)?;
    Ok(readers)
}

/// Links a ring, its readers and its bells, so that processes which find the ring find the others. Of a ring with a map for
/// each CPU, this is the map of the first. If they are linked already, nothing is written: the ring may be frozen.
pub(crate) fn link(ring: Source, readers: Source, bells: Source) -> Result<()> {
    let writable = OpenOptions::new().write(true);
    let ring = match ring.array_of_maps()? {
        Ok(maps) => writable.find(MapLocator::Inner(maps.at(&[0; 4])))?,
        Err(ring) => writable.open(ring)?,
    };
    let (readers, bells) = (writable.open(readers)?, bells.map()?.0);
    let id = |region: &Region| match region.identity() {
        Identity::Map(id) => id,
        Identity::File(..) => 0,
    };
    let of_ring = Preamble::links(id(&readers), 0);
    let of_readers = Preamble::links(id(&ring), bells.info.id);
    if linked(&ring)? == of_ring && linked(&readers)? == of_readers {
        return Ok(());
    }
    let shared = readers.shared_mut()?;
    // It is not 0 once it was linked: then it may have readers that want programs to look.
    shared.words().swap_if(LOOK, 0, NEVER, Ordering::Relaxed);
    shared.words().store(Preamble::LINK, of_readers, Ordering::Relaxed);
    ring.shared_mut()?.words().store(Preamble::LINK, of_ring, Ordering::Release);
    Ok(())
}

/// The map of the readers of a ring that another one is to replace. They stay, and name both rings meanwhile: a reader may be
/// in either of them.
pub(crate) struct Linked {
    readers: SharedMut,
    bells: u32,
}

impl Linked {
    /// `None` for a ring without readers, or that its loader has not linked to them. Makes system calls.
    pub(crate) fn to(ring: &Region) -> Result<Option<Self>> {
        if !ring.geometry().options().wakes_readers() || links_of(ring)?.is_none() {
            return Ok(None);
        }
        let readers = open(companions(ring)?.0, OpenOptions::new().write(true))?;
        let bells = Preamble::linked(linked(&readers)?).1;
        Ok(Some(Self { readers: readers.shared_mut()?, bells }))
    }

    /// Names the ring that is about to take the place.
    pub(crate) fn expect(&self, next: u32) {
        self.readers.words().store(OTHER_RING, next.into(), Ordering::Relaxed);
    }

    /// Names the ring that is in the place now, and the one before it.
    pub(crate) fn follow(&self, now: u32, before: u32) {
        self.readers.words().store(Preamble::LINK, Preamble::links(now, self.bells), Ordering::Relaxed);
        self.expect(before);
    }
}

/// The readers and bells of a ring, if it has some, with what follows the ring's name in those of their pins.
pub(super) fn companions_to_pin(ring: &Region) -> Result<Vec<(&'static str, OwnedFd)>> {
    let (readers, bells) = match companions(ring) {
        Err(e) if matches!(e.cause(), Cause::NotWakeable { .. }) => return Ok(Vec::new()),
        companions => companions?,
    };
    Ok(vec![(READERS, readers.fd), (BELLS, bells.into_fd()?)])
}

/// Whether the readers of a ring are pinned there.
pub(super) fn are_readers(pin: &Path) -> bool {
    let region = MapFd::pinned(pin).and_then(|map| open(map, OpenOptions::new()));
    region.is_ok_and(|region| region.geometry().kind() == Kind::Readers)
}

impl Companions {
    /// `None` for a ring without these maps. ESTALE if those of another ring are pinned now.
    pub(super) fn pinned(ring: &Region, pin: &Path) -> Result<Option<Self>> {
        let Some((id, _)) = links_of(ring)?.filter(|_| ring.geometry().options().wakes_readers()) else {
            return Ok(None);
        };
        let readers = pinned(pin, READERS, id)?;
        let (_, id) = Preamble::linked(linked(&open(readers.try_clone()?, OpenOptions::new())?)?);
        Ok(Some(Self { bells: pinned(pin, BELLS, id)?, readers }))
    }
}

/// The map with this id that is pinned beside `pin`. A process that replaces pins may not have moved it to its place yet.
fn pinned(pin: &Path, suffix: &str, id: u32) -> Result<MapFd> {
    let staged = with_suffix(pin, NEXT).join(with_suffix(NEW.as_ref(), suffix));
    let is_it = |map: &MapFd| map.info.id == id;
    let in_place = MapFd::pinned(&with_suffix(pin, suffix));
    if in_place.as_ref().is_ok_and(is_it) {
        return in_place;
    }
    match MapFd::pinned(&staged) {
        Ok(map) if is_it(&map) => Ok(map),
        // It may have been moved there between the two.
        _ => MapFd::pinned(&with_suffix(pin, suffix)).and_then(|map| {
            let hint = "; it belongs to another ring than the one pinned beside it: have that one pinned by Ring::pin or \
                        `mapring pin`, which also pin its readers and bells";
            let replaced =
                || Error::from(Cause::Open { what: map.what.clone(), error: Errno::STALE.into(), hint });
            if is_it(&map) { Ok(map) } else { Err(replaced()) }
        }),
    }
}

/// Why a ring has no readers.
const NOT_LINKED: &str = "its loader has not linked it to its maps __readers and __bells: mapring_loader::initialize does, \
                          and a loader without libbpf-rs calls mapring::loader::initialize_wakeable";
const NOT_WAKEABLE: &str = "MAPRING_RING declares it with neither WAKEABLE nor KEEP_OLDEST";

/// The maps of a ring's readers and bells. The ring names its readers, and these must name the ring: anyone who can
/// write a ring can name the maps of another.
fn companions(ring: &Region) -> Result<(MapFd, MapOfMaps)> {
    let no = |why| Error::from(Cause::NotWakeable { what: ring.what().to_owned(), why });
    let Identity::Map(id) = ring.identity() else { return Err(no(NOT_WAKEABLE)) };
    if !ring.geometry().options().wakes_readers() {
        return Err(no(NOT_WAKEABLE));
    }
    let (readers, _) = links_of(ring)?.ok_or(no(NOT_LINKED))?;
    let readers = companion(ring, READERS, readers)?;
    let region = open(readers.try_clone()?, OpenOptions::new())?;
    let (of_ring, bells) = Preamble::linked(linked(&region)?);
    let names_other = || {
        let other = region.live(OTHER_RING).map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))?;
        Ok::<_, Error>(ring.geometry().options().is_resizable() && other == u64::from(id))
    };
    if region.geometry().kind() != Kind::Readers || of_ring != id && !names_other()? {
        return Err(no("its readers belong to another ring"));
    }
    let bells = MapOfMaps::new(companion(ring, BELLS, bells)?, &[0; 4])?;
    Ok((readers, bells))
}

/// The ids to which a region is linked: a ring to its readers, and 0; readers to their ring and their bells. `None` for one that
/// is not linked.
pub(super) fn links_of(region: &Region) -> Result<Option<(u32, u32)>> {
    Ok(Some(Preamble::linked(linked(region)?)).filter(|&(first, _)| first != 0))
}

/// The word that links a ring to its readers, or these to the ring.
fn linked(region: &Region) -> Result<u64> {
    region.live(Preamble::LINK).map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))
}

/// The map with this id, from its pin next to that of the ring, or from the ring's object, or else by its id.
fn companion(ring: &Region, suffix: &str, id: u32) -> Result<MapFd> {
    let origin = ring.origin();
    let held = origin
        .and_then(Origin::companions)
        .map(|both| if suffix == READERS { &both.readers } else { &both.bells });
    if let Some(map) = held.filter(|map| map.info.id == id) {
        return map.try_clone();
    }
    let beside = origin.and_then(Origin::pin).map(|pin| pinned(pin, suffix, id));
    let refused = match beside {
        Some(Ok(map)) => return Ok(map),
        Some(Err(e)) if !is_gone(&e) => Some(e),
        _ => None,
    };
    MapFd::of(origin.and_then(Origin::object), id).map_err(|by_id| match (by_id.cause(), refused) {
        (Cause::Open { error, .. }, Some(e)) if error.kind() == ErrorKind::PermissionDenied => e,
        (Cause::Open { error, .. }, None) if error.kind() == ErrorKind::PermissionDenied => {
            let error = error.raw_os_error().map_or(ErrorKind::PermissionDenied.into(), io::Error::from_raw_os_error);
            let what = format!("the map {suffix} of {}", ring.what());
            let hint = "; it isn't pinned beside the ring, and opening it by id needs CAP_SYS_ADMIN: run as root, or have the \
                        ring pinned by Ring::pin, Ring::freeze_and_pin or `mapring pin`, which also pin its readers and bells";
            Error::from(Cause::Open { what, error, hint })
        }
        _ => by_id,
    })
}
