//! The bell of a reader: a BPF ringbuf on which it sleeps, and which programs ring. Its place among the waiters says
//! whether it sleeps.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::open::open;
use super::{MapFd, MapOfMaps, sys};
use crate::abi::Process;
use crate::abi::{Kind, Preamble};
use crate::error::{Cause, Error, Result};
use crate::protocol::waiters::Place;
use crate::region::{Identity, Mapping, OpenOptions, Region, SharedMut, Source, this_process};
use crate::sync::Ordering;

/// What follows the name, or the pin, of a ring in those of its other maps.
pub(crate) const WAITERS: &str = "__waiters";
pub(crate) const BELLS: &str = "__bells";

/// A reader's bell, as long as it can be woken.
pub(crate) struct Bell {
    ringbuf: OwnedFd,
    /// The page with the position up to which the reader has read. The kernel finds the ringbuf readable while the other
    /// position is further on.
    consumer: Mapping,
    producer: Mapping,
    waiters: SharedMut,
    place: usize,
    me: u64,
    bells: MapOfMaps,
}

impl Bell {
    /// A bell for a reader of `ring`. Makes system calls, and waits for an RCU grace period: milliseconds. Needs write
    /// access to the ring's waiters and bells, and CAP_BPF.
    pub(crate) fn of(ring: &Region) -> Result<Self> {
        let (waiters, bells) = companions(ring)?;
        let waiters = open(waiters, OpenOptions::new().write(true))?;
        waiters.expect(Kind::Waiters)?;
        let what = waiters.what().to_owned();
        let waiters = waiters.shared_mut()?;
        let ringbuf = sys::create_ringbuf(rustix::param::page_size()).map_err(|error| {
            let hint = "; a bell of its own needs CAP_BPF";
            Error::from(Cause::System { call: "bpf(BPF_MAP_CREATE)", error, hint })
        })?;
        let page = |page, write| {
            Mapping::page(ringbuf.as_fd(), page, write).map_err(|e| Error::system("mmap of a ringbuf", e))
        };
        let (consumer, producer) = (page(0, true)?, page(1, false)?);
        let me = this_process()?.encode();
        let alive = |owner| Process::decode(owner).is_some_and(Process::is_alive);
        let Some(place) = Place::take(waiters.words(), me, alive).map(|place| place.number()) else {
            return Err(Error::from(Cause::NoPlace { what }));
        };
        let bell = Self { ringbuf, consumer, producer, waiters, place, me, bells: bells.at(&key(place)) };
        bell.bells.put(bell.ringbuf.as_fd())?;
        Ok(bell)
    }

    /// See [`Place::sleeps_until`].
    pub(crate) fn sleeps_until(&self, shard: usize, ticket: Option<u64>) {
        if shard < self.waiters.region().geometry().shards() {
            self.place().sleeps_until(shard, ticket);
        }
    }

    /// Silences the bell, and says that the reader sleeps. It must look for records before it does.
    pub(crate) fn asleep(&self) {
        if let Some(consumer) = self.consumer.words_mut() {
            consumer.store(0, self.producer.words().load(0, Ordering::Acquire), Ordering::Release);
        }
        self.place().asleep();
    }

    /// Whether it has rung since it was silenced. Makes no system call.
    pub(crate) fn has_rung(&self) -> bool {
        let at = |page: &Mapping| page.words().load(0, Ordering::Acquire);
        at(&self.producer) != at(&self.consumer)
    }

    /// See [`Place::awake`].
    pub(crate) fn awake(&self) {
        self.place().awake();
    }

    fn place(&self) -> Place<'_> {
        Place::at(self.waiters.words(), self.place)
    }
}

/// Readable while the bell has rung.
impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ringbuf.as_fd()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.place().awake();
        // If this fails, programs find a bell that nobody hears, until the next reader takes the place.
        let _ = self.bells.remove();
        self.place().leave(self.me);
    }
}

/// Links a ring, its waiters and its bells, so that processes which find the ring find the others.
pub(crate) fn link(ring: Source, waiters: Source, bells: Source) -> Result<()> {
    let writable = OpenOptions::new().write(true);
    let (ring, waiters, bells) = (writable.open(ring)?, writable.open(waiters)?, bells.map()?.0);
    let id = |region: &Region| match region.identity() {
        Identity::Map(id) => id,
        Identity::File(..) => 0,
    };
    let (links, wakeable) = (Preamble::links(id(&ring), bells.info.id), Preamble::wakeable(id(&waiters)));
    waiters.shared_mut()?.words().store(Preamble::LINK, links, Ordering::Relaxed);
    ring.shared_mut()?.words().store(Preamble::LINK, wakeable, Ordering::Release);
    Ok(())
}

/// Pins the waiters and bells of a ring that is pinned at `path`, if it has some, with this mode.
pub(crate) fn pin_companions(ring: &Region, path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (waiters, bells) = match companions(ring) {
        Err(e) if matches!(e.cause(), Cause::NotWakeable { .. }) => return Ok(()),
        companions => companions?,
    };
    for (map, suffix) in [(waiters.fd, WAITERS), (bells.into_fd()?, BELLS)] {
        let path = with_suffix(path, suffix);
        sys::pin(map.as_fd(), &path).map_err(|e| Error::system("bpf(BPF_OBJ_PIN)", e))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(|e| Error::system("chmod", e))?;
    }
    Ok(())
}

/// The maps of a ring's waiters and bells. The ring names its waiters, and these must name the ring: anyone who can
/// write a ring can name the maps of another.
fn companions(ring: &Region) -> Result<(MapFd, MapOfMaps)> {
    let no = |why| Error::from(Cause::NotWakeable { what: ring.what().to_owned(), why });
    let Identity::Map(id) = ring.identity() else { return Err(no("a memfd has no bell")) };
    let link = ring.live(Preamble::LINK).map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))?;
    let waiters = Preamble::waiters(link).filter(|_| ring.geometry().kind() == Kind::Ring).ok_or(no(
        "MAPRING_WAKEABLE_RING did not declare it, or its loader did not call mapring::loader::initialize",
    ))?;
    let waiters = companion(ring, WAITERS, waiters)?;
    let links = open(waiters.try_clone()?, OpenOptions::new())?
        .live(Preamble::LINK)
        .map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))?;
    let (of_ring, bells) = Preamble::linked(links);
    if of_ring != id {
        return Err(no("its waiters belong to another ring"));
    }
    let bells = MapOfMaps::new(companion(ring, BELLS, bells)?, &key(0))?;
    Ok((waiters, bells))
}

/// The map with this id, from its pin next to that of the ring, or else by its id.
fn companion(ring: &Region, suffix: &str, id: u32) -> Result<MapFd> {
    let pinned = ring.origin().and_then(|origin| origin.pin()).map(|pin| with_suffix(pin, suffix));
    let pinned = pinned.and_then(|path| MapFd::pinned(&path).ok());
    pinned.filter(|map| map.info.id == id).map_or_else(|| MapFd::id(id), Ok)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(suffix);
    path.into()
}

fn key(place: usize) -> [u8; 4] {
    u32::try_from(place).expect("there are few places").to_ne_bytes()
}
