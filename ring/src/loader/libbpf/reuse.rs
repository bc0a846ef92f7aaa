//! The maps that an object reuses instead of creating its own: whether they hold what the object declares.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use libbpf_rs::{MapHandle, MapType, Object, OpenObject, libbpf_sys};
use mapring_core::text::printable;

use super::types::{is_declared, pin_path, preset, types_of};
use super::{FIRST, no_such};
use crate::bpf::btf::{Btf, Type};
use crate::bpf::describe::{Description, LoadedObject, from_btf};
use crate::bpf::stage::{BELLS, READERS, Stage, with_suffix};
use crate::bpf::{MapFd, MapLocator, MapOfMaps, is_gone};
use crate::cpus::possible_cpus;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::record::string;
use crate::region::maps::{Declared, PinOptions, belong_together, not_pinned};
use crate::ring::pin_of;

/// The most bytes of a map's name that the kernel keeps.
const MOST_NAME: usize = 15;

/// The maps that an object declares, with the types of their values (0 if they have none), in the order in which libbpf has
/// them. libbpf's own names and types are those of the map that is reused.
pub(super) fn declared(btf: &Btf) -> Vec<(String, u32)> {
    let Some(section) = btf.types().find(|ty| ty.name() == b".maps" && ty.variables().next().is_some())
    else {
        return Vec::new();
    };
    let mut maps: Vec<_> = section.variables().collect();
    maps.sort_by_key(|map| map.offset);
    let value = |map: Type<'_>| Some(map.resolved().field("value")?.ty.target()?.id);
    let of = |name: &[u8], map| (String::from_utf8_lossy(name).into_owned(), value(map).unwrap_or_default());
    maps.into_iter().map(|map| of(map.name, map.ty)).collect()
}

/// The maps of an object that are not new, by their declared names.
pub(super) struct Reused<'o> {
    btf: &'o Btf,
    declared: &'o [(String, u32)],
    shards: usize,
    maps: Vec<(&'o str, MapFd)>,
    /// The object, if it is loaded.
    known: Option<&'o LoadedObject>,
}

impl<'o> Reused<'o> {
    fn new(btf: &'o Btf, declared: &'o [(String, u32)], known: Option<&'o LoadedObject>) -> Result<Self> {
        // CPU numbers may have gaps, and a program uses the number of its CPU as an index.
        let shards = possible_cpus()?.last().map_or(1, |last| last + 1);
        Ok(Self { btf, declared, shards, maps: Vec::new(), known })
    }

    /// The maps that an open object will use because of `reuse_fd`, or because one is pinned where libbpf will look.
    pub(super) fn of_open(object: &OpenObject, btf: &'o Btf, declared: &'o [(String, u32)]) -> Result<Self> {
        let mut reused = Self::new(btf, declared, None)?;
        for (map, (name, _)) in object.maps().filter(is_declared).zip(declared) {
            let found = match (preset(&map), pin_path(&map)) {
                (Some(fd), _) => Some(loaded(fd, name, None)?),
                (None, Some(pin)) => match MapFd::pinned_by_us(&pin) {
                    // libbpf would use what another user has put there.
                    Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::Other) => {
                        return Err(e);
                    }
                    // libbpf says what it can't open there.
                    map => map.ok(),
                },
                (None, None) => None,
            };
            reused.maps.extend(found.map(|map| (name.as_str(), map)));
        }
        Ok(reused)
    }

    /// The maps of a loaded object that were not created with its types. A map of maps has no types in any case.
    pub(super) fn of_loaded(
        object: &Object,
        known: &'o Arc<LoadedObject>,
        declared: &'o [(String, u32)],
    ) -> Result<Self> {
        let mut reused = Self::new(known.btf(), declared, Some(known))?;
        for (map, (name, _)) in object.maps().filter(is_declared).zip(declared) {
            if MapFd::is_one(map.as_fd()) {
                let found = loaded(map.as_fd(), name, Some(known.clone()))?;
                reused.maps.extend((!known.made(&found)).then_some((name.as_str(), found)));
            }
        }
        Ok(reused)
    }

    fn declaration(&self, name: &str) -> Option<Declared<'o>> {
        let value =
            |name: &str| self.declared.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        Some(Declared { btf: self.btf, value: value(name)?, shards: self.shards })
    }

    fn description(&self, name: &str) -> Option<Description> {
        from_btf(self.btf, self.declaration(name)?.value)
    }

    fn map(&self, name: &str) -> Option<&MapFd> {
        self.maps.iter().find(|(other, _)| *other == name).map(|(_, map)| map)
    }

    /// Refuses maps that hold something else than the object declares, and rings without their other maps.
    pub(super) fn check(&self) -> Result<()> {
        for (name, map) in &self.maps {
            match self.declaration(&format!("{name}{FIRST}")) {
                Some(of_each) => self.each_inner(map, &of_each)?,
                None => self.declaration(name).map_or(Ok(()), |declared| declared.fits(map))?,
            }
        }
        for (ring, _) in self.declared {
            if !self.declaration(ring).is_some_and(|it| it.wakes_readers()) {
                continue;
            }
            // The first of several maps stands for all.
            let name = ring.strip_suffix(FIRST).unwrap_or(ring);
            let [readers, bells] = [READERS, BELLS].map(|suffix| format!("{name}{suffix}"));
            let all = [ring, &readers, &bells].map(|name| (name.as_str(), self.map(name)));
            // Bells are a map of maps: whether a loaded object has made them is not known.
            if self.known.is_none() || all[..2].iter().any(|(_, map)| map.is_some()) {
                belong_together(all)?;
            }
        }
        Ok(())
    }

    /// Checks the rings in a map of maps that are not new.
    fn each_inner(&self, maps: &MapFd, of_each: &Declared<'_>) -> Result<()> {
        let first = MapOfMaps::new(maps.try_clone()?, &[0; 4])?;
        for key in 0..first.entries() {
            let key = u32::try_from(key).expect("maps are indexed by u32").to_ne_bytes();
            match MapLocator::Inner(first.at(&key)).open() {
                Err(e) if is_gone(&e) => {}
                Ok(map) if self.known.is_some_and(|known| known.made(&map)) => {}
                map => of_each.fits(&map?)?,
            }
        }
        Ok(())
    }
}

/// What [`reuse`] found.
#[derive(Debug)]
#[must_use]
pub enum Reuse {
    /// The object uses the maps that are pinned.
    Pinned,
    /// Nothing is pinned. The object makes new maps.
    Nothing,
    /// What is pinned does not fit, for this reason. The object makes new maps.
    Unfit(Error),
}

/// Use what is pinned at `pin` for the region that an object declares as `name`, if it fits; otherwise replace it. Call this
/// between `open` and `load`, in a loader that starts again. After [`initialize`](super::initialize), pin the region in any
/// case, with [`PinOptions::replace`](crate::loader::PinOptions::replace):
///
/// ```no_run
/// # fn load(mut open: mapring::libbpf_rs::OpenObject) -> Result<(), Box<dyn std::error::Error>> {
/// use mapring::loader::{self, PinOptions, Reuse};
///
/// const PIN: &str = "/sys/fs/bpf/switches";
/// if let Reuse::Unfit(why) = loader::reuse(&mut open, "switches", PIN)? {
///     eprintln!("{why}");
/// }
/// loader::prepare_object(&mut open)?;
/// let object = open.load()?;
/// loader::initialize_object(&object)?;
/// let ring = mapring::Ring::<[u64; 2]>::open(loader::map(&object, "switches")?)?;
/// ring.pin(PIN, PinOptions::new(0o600).replace(true))?;
/// # Ok(())
/// # }
/// ```
///
/// It fits if it has the kind, options, slots, shards, records and fields that the object declares; a resizable ring may have
/// other slots. A ring that wakes readers or keeps its oldest records must be pinned with its readers and bells. Fields are
/// compared only with CAP_SYS_ADMIN. The maps may be frozen. Of a `PER_CPU_MAPS` ring, `pin` is the directory.
///
/// Nothing is changed at the pin, except that what a loader began that died is finished or taken back. So a loader may die at
/// any step: until it pins the region, `pin` is as it was. Only one loader at a time may start.
///
/// Makes system calls. Waits up to a second for a process that changes the pin, and for a `PER_CPU_MAPS` ring an RCU grace period:
/// milliseconds. Needs write permission on the directory; for a `PER_CPU_MAPS` ring also CAP_SYS_ADMIN.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the object declares no such region;
/// [`ErrorKind::Open`](crate::ErrorKind::Open) if this process may not open what is pinned, or another user may have put it there;
/// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) if a program or a link is pinned there;
/// [`ErrorKind::System`](crate::ErrorKind::System).
pub fn reuse(object: &mut OpenObject, name: &str, pin: impl AsRef<Path>) -> Result<Reuse> {
    let pin = pin.as_ref();
    // What another process began is finished, and none begins meanwhile.
    let _lock = match Stage::beside(pin) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Reuse::Nothing),
        lock => {
            lock.map_err(|e| not_pinned(&format!("map {}", printable(name)), pin, PinOptions::new(0o600), e))?
        }
    };
    let btf = types_of(object)?;
    let declared = btf.as_ref().map(declared).unwrap_or_default();
    let maps = match pinned(btf.as_ref(), &declared, name, pin) {
        Ok(maps) if maps.is_empty() => return Ok(Reuse::Nothing),
        Err(e) if is_unfit(&e) => return Ok(Reuse::Unfit(e)),
        maps => maps?,
    };
    for (name, fd) in maps {
        if let Some(mut map) = object.maps_mut().find(|map| map.name() == name) {
            map.reuse_fd(fd.as_fd())?;
        }
    }
    Ok(Reuse::Pinned)
}

fn is_unfit(e: &Error) -> bool {
    use ErrorKind::{Contradiction, Layout, NotReusable, Preamble, Shape, WrongType};
    [NotReusable, WrongType, Preamble, Contradiction, Shape, Layout].contains(&e.kind())
        // A program or a link isn't the pin of an earlier loader.
        && !matches!(e.cause(), Cause::NotARegion { .. })
}

/// What is pinned for the region that an object declares as `name`: each map with the name of the one that can reuse it.
fn pinned<'o>(
    btf: Option<&'o Btf>,
    declared: &'o [(String, u32)],
    name: &str,
    pin: &Path,
) -> Result<Vec<(&'o str, OwnedFd)>> {
    let named = |name: &str| declared.iter().find(|(other, _)| other == name).map(|(name, _)| name.as_str());
    let (Some(btf), Some(name)) = (btf, named(name)) else {
        let there = declared.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(no_such("map", name, &[there]));
    };
    let mut reused = Reused::new(btf, declared, None)?;
    let first = named(&format!("{name}{FIRST}"));
    let of_each = first.unwrap_or(name);
    let (Some(each), Some(kind)) = (reused.declaration(of_each), reused.description(of_each)) else {
        let why = "it is not a region that mapring's macros declare: use libbpf's reuse_pinned_map";
        return Err(Error::from(Cause::NotARegion {
            what: format!("map {}", printable(name)),
            expected: "a region",
            hint: why,
        }));
    };
    let of_cpu = kind.options.has_per_cpu_maps();
    if pin.exists() && pin.is_dir() != of_cpu {
        let [found, declared] =
            [!of_cpu, of_cpu].map(|dir| if dir { "a directory of maps" } else { "one map" });
        return Err(Error::mismatch(
            &printable(&pin.to_string_lossy()),
            found.to_owned(),
            declared.to_owned(),
        ));
    }
    if of_cpu {
        let mut rings = Vec::new();
        for cpu in possible_cpus()? {
            rings.extend(at_pin(&pin.join(pin_of(cpu)))?.map(|map| (cpu, map)));
        }
        rings.iter().try_for_each(|(_, map)| each.fits(map))?;
        if let Some((cpu, _)) = rings.first() {
            let first = pin.join(pin_of(*cpu));
            for (suffix, name) in [READERS, BELLS].map(|suffix| (suffix, named(&format!("{name}{suffix}")))) {
                let map = name.map(|_| at_pin(&with_suffix(&first, suffix))).transpose()?.flatten();
                reused.maps.extend(name.zip(map));
            }
            reused.maps.push((name, in_one_map(name, reused.shards, &rings)?));
            reused.maps.push((of_each, rings.swap_remove(0).1));
        }
    } else if let Some(map) = at_pin(pin)? {
        // The pin of a resizable ring is that of the ring in use.
        each.fits_at_its_pin(&map)?;
        reused.maps.push((of_each, map));
        for suffix in [READERS, BELLS] {
            if let Some(name) = named(&format!("{name}{suffix}")) {
                reused.maps.extend(at_pin(&with_suffix(pin, suffix))?.map(|map| (name, map)));
            }
        }
    }
    for (name, map) in &reused.maps {
        // libbpf would give the object's map this name, and the loader would not find it.
        let (found, declared) = (string(&map.info.name), name.get(..MOST_NAME).unwrap_or(name));
        if found != declared {
            return Err(Error::mismatch(
                &map.what,
                format!("a map named {}", printable(&found)),
                format!("one named {declared}"),
            ));
        }
    }
    reused.check()?;
    Ok(reused.maps.into_iter().map(|(name, map)| (name, map.fd)).collect())
}

/// A new map of maps with the rings of all CPUs.
fn in_one_map(name: &str, entries: usize, rings: &[(usize, MapFd)]) -> Result<MapFd> {
    let number = |n: usize| u32::try_from(n).expect("CPUs are numbered by u32");
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        inner_map_fd: rings[0].1.fd.as_raw_fd().cast_unsigned(),
        ..Default::default()
    };
    let made = MapHandle::create(MapType::ArrayOfMaps, Some(name), 4, 4, number(entries), &options)?;
    let all: Vec<_> = rings.iter().map(|(cpu, map)| (number(*cpu).to_ne_bytes(), &map.fd)).collect();
    MapOfMaps::new(loaded(made.as_fd(), name, None)?, &[0; 4])?.put_all(&all)?;
    loaded(made.as_fd(), name, None)
}

/// The map that is pinned at `path`, if there is one.
fn at_pin(path: &Path) -> Result<Option<MapFd>> {
    match MapFd::pinned_by_us(path) {
        Err(e) if is_gone(&e) => Ok(None),
        map => map.map(Some),
    }
}

fn loaded(fd: BorrowedFd<'_>, name: &str, known: Option<Arc<LoadedObject>>) -> Result<MapFd> {
    MapFd::loaded(fd.try_clone_to_owned().map_err(|e| Error::system("dup", e))?, name, known)
}
