//! What an object declares, and whether the maps that it reuses instead of creating its own hold that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use mapring_core::text::printable;
use mapring_sys::bpf;
use mapring_sys::btf::{Btf, Type};
use mapring_sys::stage::{BELLS, READERS, Stage, with_suffix};

use super::{Declared, FIRST, LoadedObject, PinOptions};
use crate::bpf::{MapFd, MapLocator, MapOfMaps, is_gone};
use crate::cpus::possible_cpus;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::record::string;
use crate::region::maps::{belong_together, not_pinned};
use crate::ring::pin_of;

/// The most bytes of a map's name that the kernel keeps.
const MOST_NAME: usize = 15;

/// The maps that an object's section `.maps` declares, with the types of their values (0 if they have none), in the order in
/// which libbpf has them. libbpf's own names and types are those of a map that is reused.
pub struct Declarations {
    btf: Arc<Btf>,
    maps: Vec<(String, u32)>,
    /// CPU numbers may have gaps, and a program uses the number of its CPU as an index.
    shards: usize,
}

impl Declarations {
    /// The maps of an object with these types. Reads a file of sysfs.
    ///
    /// # Errors
    /// As for [`possible_cpus`].
    pub fn new(btf: Arc<Btf>) -> Result<Self> {
        let shards = possible_cpus()?.last().map_or(1, |last| last + 1);
        Ok(Self { maps: declared(&btf), btf, shards })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.maps.iter().map(|(name, _)| name.as_str())
    }

    /// The shards that each region gets on this machine.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The map that is declared with this name.
    pub fn get(&self, name: &str) -> Option<Declared<'_>> {
        let (_, value) = self.maps.iter().find(|(other, _)| other == name)?;
        Some(Declared { btf: &self.btf, value: *value, shards: self.shards })
    }

    /// The map that is declared with this name, as it is written here.
    fn named(&self, name: &str) -> Option<&str> {
        self.names().find(|other| *other == name)
    }
}

fn declared(btf: &Btf) -> Vec<(String, u32)> {
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

/// The maps of an object that are not new, by their declared names: programs write them by what their object says, so maps
/// that hold something else are refused.
pub struct Reused<'o> {
    declared: &'o Declarations,
    maps: Vec<(&'o str, MapFd)>,
    /// The object, if it is loaded.
    known: Option<&'o Arc<LoadedObject>>,
}

impl<'o> Reused<'o> {
    /// None yet. Maps that `object` made are new, whatever is added. A map of maps has no types: it is never taken for a new
    /// one.
    pub fn new(declared: &'o Declarations, object: Option<&'o Arc<LoadedObject>>) -> Self {
        Self { declared, maps: Vec::new(), known: object }
    }

    /// Adds the map that the object uses as the one declared with this name. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System),
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) if it is not a BPF map.
    pub fn add(&mut self, name: &'o str, map: BorrowedFd<'_>) -> Result<()> {
        let map = loaded(map, name, self.known.cloned())?;
        if !self.known.is_some_and(|known| known.made(&map)) {
            self.maps.push((name, map));
        }
        Ok(())
    }

    /// Adds the map that is pinned where the loader's library will look. One that can't be opened is not added: the library
    /// says so. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) if another user may have put it there: the library would use it.
    pub fn add_pinned(&mut self, name: &'o str, pin: &Path) -> Result<()> {
        match MapFd::pinned_by_us(pin) {
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::Other) => Err(e),
            map => {
                self.maps.extend(map.ok().map(|map| (name, map)));
                Ok(())
            }
        }
    }

    fn map(&self, name: &str) -> Option<&MapFd> {
        self.maps.iter().find(|(other, _)| *other == name).map(|(_, map)| map)
    }

    /// Refuses maps that hold something else than the object declares, and rings without their other maps.
    ///
    /// # Errors
    /// [`ErrorKind::NotReusable`](crate::ErrorKind::NotReusable), with both sides.
    pub fn check(&self) -> Result<()> {
        for (name, map) in &self.maps {
            match self.declared.get(&format!("{name}{FIRST}")) {
                Some(of_each) => self.each_inner(map, &of_each)?,
                None => self.declared.get(name).map_or(Ok(()), |declared| declared.fits(map))?,
            }
        }
        for ring in self.declared.names() {
            if !self.declared.get(ring).is_some_and(|it| it.wakes_readers()) {
                continue;
            }
            // The first of several maps stands for all.
            let name = ring.strip_suffix(FIRST).unwrap_or(ring);
            let [readers, bells] = [READERS, BELLS].map(|suffix| format!("{name}{suffix}"));
            let all = [ring, &readers, &bells].map(|name| (name, self.map(name)));
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

/// What is pinned for a region that an object declares.
#[must_use]
pub enum Pinned {
    /// These maps fit, each with the name of the declared map that can reuse it.
    Fits(Vec<(String, OwnedFd)>),
    /// Nothing is pinned.
    Nothing,
    /// What is pinned does not fit, for this reason.
    Unfit(Error),
}

impl Declarations {
    /// What is pinned at `pin` for the region that is declared as `name`. It fits if it has the kind, options, slots, shards,
    /// records and fields that the object declares; a resizable ring may have other slots. A ring that wakes readers or keeps
    /// its oldest records must be pinned with its readers and bells. Fields are compared only with CAP_SYS_ADMIN. Of a
    /// `PER_CPU_MAPS` ring, `pin` is the directory.
    ///
    /// Nothing is changed at the pin, except that what a loader began that died is finished or taken back. Makes system calls.
    /// Waits up to a second for a process that changes the pin, and for a `PER_CPU_MAPS` ring an RCU grace period:
    /// milliseconds. Needs write permission on the directory; for a `PER_CPU_MAPS` ring also CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the object declares no such region;
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) if this process may not open what is pinned, or another user may have put it
    /// there; [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) if a program or a link is pinned there;
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn pinned(&self, name: &str, pin: &Path) -> Result<Pinned> {
        // What another process began is finished, and none begins meanwhile.
        let _lock = match Stage::beside(pin) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Pinned::Nothing),
            lock => lock.map_err(|e| {
                not_pinned(&format!("map {}", printable(name)), pin, PinOptions::new(0o600), e)
            })?,
        };
        match pinned(self, name, pin) {
            Ok(maps) if maps.is_empty() => Ok(Pinned::Nothing),
            Err(e) if is_unfit(&e) => Ok(Pinned::Unfit(e.of_left())),
            maps => Ok(Pinned::Fits(maps?)),
        }
    }
}

fn is_unfit(e: &Error) -> bool {
    use ErrorKind::{Contradiction, Layout, NotReusable, Preamble, Shape, WrongType};
    [NotReusable, WrongType, Preamble, Contradiction, Shape, Layout].contains(&e.kind())
        // A program or a link isn't the pin of an earlier loader.
        && !matches!(e.cause(), Cause::NotARegion { .. })
}

/// What is pinned for the region that an object declares as `name`: each map with the name of the one that can reuse it.
fn pinned(declared: &Declarations, name: &str, pin: &Path) -> Result<Vec<(String, OwnedFd)>> {
    let named = |name: &str| declared.named(name);
    let Some(name) = named(name) else {
        let there = printable(&declared.names().collect::<Vec<_>>().join(", "));
        return Err(Error::from(Cause::NoSuch { thing: "map", name: printable(name), there }));
    };
    let mut reused = Reused::new(declared, None);
    let first = named(&format!("{name}{FIRST}"));
    let of_each = first.unwrap_or(name);
    let Some((each, options)) = declared.get(of_each).and_then(|each| Some((each, each.options()?))) else {
        let why = "it is not a region that mapring's macros declare: use libbpf's reuse_pinned_map";
        return Err(Error::from(Cause::NotARegion {
            what: format!("map {}", printable(name)),
            expected: "a region",
            hint: why,
        }));
    };
    let of_cpu = options.has_per_cpu_maps();
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
            reused.maps.push((name, in_one_map(name, declared.shards, &rings)?));
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
    Ok(reused.maps.into_iter().map(|(name, map)| (name.to_owned(), map.fd)).collect())
}

/// A new map of maps with the rings of all CPUs.
fn in_one_map(name: &str, entries: usize, rings: &[(usize, MapFd)]) -> Result<MapFd> {
    let number = |n: usize| u32::try_from(n).expect("CPUs are numbered by u32");
    let made = bpf::create_array_of_maps(name, number(entries), rings[0].1.fd.as_fd());
    let made = made.map_err(|e| Error::system("bpf(BPF_MAP_CREATE)", e))?;
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
