//! Resizable rings: a ring is replaced by a larger or smaller one while programs write to it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use libbpf_rs::MapCore;

use super::{Follower, Ring};
use crate::error::{Error, Result};
use crate::layout::{Geometry, Kind};
use crate::protocol::ring::{Whole, finish, give_up, is_replaced_by, replace, unfinished};
use crate::record::Record;
use crate::region::{Found, Options, Outer, Region, SharedMut, is_gone, pin};

/// The key of the ring that is in use.
const IN_USE: [u8; 4] = [0; 4];

/// A ring that `MAPRING_RESIZABLE_RING` (`resizable.bpf.h`) makes: behind an `ARRAY_OF_MAPS`, so that
/// another one can take its place while programs write.
///
/// Every record goes to one of the two, and none is lost by the exchange: a [`Follower`] drains the old
/// ring and goes on with the new one, and its [tally](Follower::tally) is exact across both. Per CPU
/// and ring, records come in the order of their tickets; between rings in that of the rings, but for
/// programs that were at work at the time.
///
/// One process at a time may resize. It needs CAP_BPF to make maps and CAP_SYS_ADMIN to open them by id.
/// Readers need neither, if the ring in use is [pinned](Self::pin).
pub struct ResizableRing<T> {
    maps: Outer,
    ring: Ring<T>,
    pin: Option<PathBuf>,
}

impl<T: Record> ResizableRing<T> {
    /// The resizable ring of a loaded libbpf-rs object, given as the map that programs reserve from.
    /// Programs drop (and count) records until this was called, which writes the preamble. Finishes what a
    /// process left that died while it resized the ring. Makes system calls.
    ///
    /// # Errors
    /// [`Error::MapType`], [`Error::NotResizable`], [`Error::NotWritable`]; what
    /// [`Region::open_inner`](crate::Region::open_inner) and [`Ring::from_region`] can say.
    pub fn open(rings: &impl MapCore) -> Result<Self> {
        Self::new(rings.as_fd())
    }

    /// The same of the map of maps behind a descriptor, opened by its pin for example.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_fd(rings: impl AsFd) -> Result<Self> {
        Self::new(rings.as_fd())
    }

    fn new(rings: BorrowedFd<'_>) -> Result<Self> {
        let maps = Outer::new(rings, &IN_USE)?;
        let options = Options::new().write(true).loader(true).record_of::<T>(Kind::Ring);
        let region = options.find(Found::Inner(maps.clone()))?;
        if !region.geometry().is_resizable() {
            return Err(Error::NotResizable { what: region.what().to_owned() });
        }
        let shared = region.shared_mut()?; // the gate is closed through a mapping
        if let Some(old) = unfinished(whole(&shared)) {
            finish_for_another(old, &shared)?;
        }
        Ok(Self { maps, ring: Ring::from_region(region)?, pin: None })
    }
}

/// Finishes what a process began that put `new` in the place of the ring with the id `old`, and died. Programs
/// that found the old ring may still write to it, and followers wait for it to be retired.
fn finish_for_another(old: u32, new: &SharedMut) -> Result<()> {
    let options = Options::new().write(true);
    let region = match options.open_id(old) {
        Err(e) if is_gone(&e) => {
            give_up(whole(new));
            return Ok(());
        }
        region => region?,
    };
    let shared = region.shared_mut()?;
    let (is, was) = (new.region().geometry(), region.geometry());
    let same_but_for_slots = was.is_resizable()
        && (was.kind(), was.record(), was.shards()) == (is.kind(), is.record(), is.shards());
    // Whoever can write the new ring could name any map: the old one has to name the new one as well.
    if same_but_for_slots && is_replaced_by(*shared.words(), id(new.region())) {
        finish(Whole { id: old, ..whole(&shared) }, whole(new));
    } else {
        give_up(whole(new));
    }
    Ok(())
}

/// A region that was found in a map of maps, or that was made to be put there.
fn whole(shared: &SharedMut) -> Whole<'_> {
    let region = shared.region();
    Whole { words: shared.words(), geometry: region.geometry(), id: id(region) }
}

/// Its id; 0, which no map has, if it was found in another way.
fn id(region: &Region) -> u32 {
    region.id().unwrap_or_default()
}

impl<T: AnyBitPattern> ResizableRing<T> {
    /// The ring that is in use.
    pub fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    /// A reader of what is in the ring now, and of all that comes, in this and later rings.
    pub fn reader(&self) -> Follower<T> {
        self.ring.reader().following()
    }

    /// Pins the ring in use at `path`, with this mode, and after each [`resize`](Self::resize) the new
    /// one in its place. Readers without privilege open it by [`Ring::open_pinned`], and go on by
    /// [`Reader::following`](crate::Reader::following). Makes system calls.
    ///
    /// # Errors
    /// [`Error::System`], if there is something at `path`, or no BPF file system.
    pub fn pin(&mut self, path: impl Into<PathBuf>, mode: u32) -> Result<()> {
        let path = path.into();
        let pinned = pin(self.ring.region().as_fd(), &path);
        pinned.map_err(|e| Error::system("bpf(BPF_OBJ_PIN)", e))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(|e| Error::system("chmod", e))?;
        self.pin = Some(path);
        Ok(())
    }

    /// Puts a ring of `slots` slots (a power of two) for each CPU in the place of the one in use.
    /// Programs and readers go on meanwhile. Makes system calls, and waits for an RCU grace period:
    /// milliseconds.
    ///
    /// The old ring goes when its last reader does. If this fails before the new ring is in use, nothing has
    /// changed. If only the pin can't be replaced, the new ring is in use, and readers that follow by the pin
    /// wait for the next resize.
    ///
    /// If the process dies in the midst of this, followers wait in the old ring until the loader
    /// [opens](Self::open) the ring again, which finishes it.
    ///
    /// # Errors
    /// [`Error::Geometry`], [`Error::System`].
    pub fn resize(&mut self, slots: usize) -> Result<()> {
        let (old, geometry) = (self.ring.region().shared_mut()?, *self.ring.region().geometry());
        let shape =
            Geometry::new(Kind::Ring, geometry.record() as u64, slots as u64, geometry.shards() as u64)?;
        let (options, place) = (Options::new().write(true), Found::Inner(self.maps.clone()));
        let next = self.ring.region().another(shape.resizable()?, None, options, place)?;
        let new = next.shared_mut()?;
        let mut pinned = Ok(());
        replace(whole(&old), whole(&new), || {
            self.maps.put(next.as_fd())?;
            if let Some(path) = &self.pin {
                pinned = replace_pin(next.as_fd(), path);
            }
            Ok::<_, Error>(())
        })?;
        self.ring = Ring::from_region(next)?;
        pinned.map_err(|e| Error::system("replacing the pin", e))
    }
}

/// Pins `map` in place of what is at `path`, for the same users. Whoever opens it finds one of the two.
fn replace_pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let was = fs::metadata(path)?;
    let mut new = path.to_owned().into_os_string();
    new.push("_next"); // the BPF file system takes no dots
    if let Err(e) = fs::remove_file(&new)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    pin(map, new.as_ref())?;
    chown(&new, Some(was.uid()), Some(was.gid()))?;
    fs::set_permissions(&new, was.permissions())?;
    fs::rename(&new, path)
}

impl<T> fmt::Debug for ResizableRing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResizableRing").field("ring", &self.ring).field("pin", &self.pin).finish()
    }
}
