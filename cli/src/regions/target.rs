//! A map or memory file with what is known of it: its sort, its types, and how this user reads it.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use mapring::abi::{Kind, Preamble};
use mapring::any::AnyMap;
use mapring::record::UncheckedReason;
use mapring::{Access, Error, ErrorKind, OpenOptions, Refusal, Region, Source};
use mapring_sys::btf::{self, Btf};

use super::facts::has_records;
use super::find::Place;
use super::ringbuf::Observed;
use super::shortage;
use super::stamp::{self, Stamp};
use super::untyped::{self, Records};
use super::value::{self, Value};

/// A map or memory file.
pub(crate) struct Target {
    pub(crate) place: Place,
    /// `None` for a memory file.
    pub(crate) map: Option<AnyMap>,
    pub(crate) sort: Sort,
    /// The types, and the id of the values' type there, or why there are none.
    types: Result<(Rc<Btf>, u32), String>,
}

/// What is in a map or memory file.
pub(crate) enum Sort {
    Region(Region),
    /// A ring in a map of maps: the regions that hold it now, each with the number of its first shard.
    RingInMaps(Vec<(usize, Region)>),
    /// An array without a protocol.
    Array,
    /// The global variables of a BPF object.
    Globals,
    /// The kernel's own ring buffer.
    Ringbuf,
    /// A map with other content, which this command does not show.
    Other,
    /// It says that it is a region, but it is not a valid one, or one that this process may not open.
    Damaged(Error),
}

impl Target {
    /// Opens what is at a place.
    pub(crate) fn open(place: Place) -> Result<Self> {
        let from = place.clone();
        Self::of(place, || from.source())
    }

    /// The same of a source that this process has.
    pub(crate) fn of(place: Place, source: impl Fn() -> Result<Source>) -> Result<Self> {
        if let Place::File(_) = place {
            let region = open(source()?).map_err(|e| match e.kind() {
                ErrorKind::WrongType => anyhow!("{place} is not a BPF map, and not a memory file"),
                _ => anyhow::Error::from(e).context(place.to_string()),
            })?;
            let types = Err("a memory file has no BTF".to_owned());
            return Ok(Self { place, map: None, sort: Sort::Region(region), types });
        }
        let is_absent = |e: &Error| e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound);
        let map = AnyMap::open(source()?).map_err(|e| match place {
            Place::Id(id) if is_absent(&e) => anyhow!("no map has the id {id}: `mapring ls` lists the maps"),
            _ => e.into(),
        })?;
        let mut types = types_of(&map).with_context(|| place.to_string())?;
        let kind = map.facts().kind;
        let sort = match kind.as_str() {
            "array" | "percpu_array" => match open(source()?) {
                Ok(region) => Sort::Region(region),
                Err(e) if shortage::of_library(&e) => return Err(e.into()),
                Err(e) => sort_of(e, &map, types.as_ref().ok()),
            },
            "array_of_maps" => ring_in_maps(&map, source)?.map_or(Sort::Other, Sort::RingInMaps),
            "ringbuf" => {
                types = Err("a BPF ringbuf does not say what is in its records".to_owned());
                Sort::Ringbuf
            }
            _ => Sort::Other,
        };
        if let Sort::RingInMaps(regions) = &sort
            && let Some((_, first)) = regions.first()
        {
            types = types_of(&AnyMap::open(first.as_fd())?).with_context(|| place.to_string())?;
        }
        Ok(Self { place, map: Some(map), sort, types })
    }

    /// Its region; of a ring in several maps, the first one.
    pub(crate) fn region(&self) -> Option<&Region> {
        match &self.sort {
            Sort::Region(region) => Some(region),
            Sort::RingInMaps(regions) => regions.first().map(|(_, region)| region),
            _ => None,
        }
    }

    /// Its kind, if it is a region.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.region().map(|region| region.geometry().kind())
    }

    /// A reader of its records, if it is a ring or a BPF ringbuf.
    pub(crate) fn records(&self, start: mapring::Start, stamp: Option<Stamp>) -> Result<Box<dyn Records>> {
        match &self.sort {
            Sort::RingInMaps(regions) => untyped::records(regions, start, stamp),
            Sort::Region(region) if region.geometry().kind() == Kind::Ring => {
                untyped::records(&[(0, region.clone())], start, stamp)
            }
            Sort::Ringbuf => self.observed(start).map(|observed| Box::new(observed) as Box<dyn Records>),
            Sort::Damaged(e) => bail!("{}: {e}", self.place),
            _ => bail!(
                "{} is not a mapring ring, but of kind {}: see `mapring show`",
                self.place,
                self.facts(&[], false).kind
            ),
        }
        .with_context(|| self.place.to_string())
    }

    /// An observer, if it is a BPF ringbuf.
    pub(crate) fn observed(&self, start: mapring::Start) -> Result<Observed> {
        Ok(Observed::new(self.map.as_ref().context("not a map")?, start)?)
    }

    /// Its BTF, and the id of its values' type there, or why they are not known.
    pub(crate) fn types(&self) -> Result<(&Btf, u32), &str> {
        self.types.as_ref().map(|(btf, value)| (&**btf, *value)).map_err(String::as_str)
    }

    /// The type of its records or values, or why it is not known.
    pub(crate) fn ty(&self) -> Result<btf::Type<'_>, &str> {
        let (btf, value) = self.types.as_ref().map_err(String::as_str)?;
        let has_records = self.kind().is_some_and(has_records);
        let has_tails = self.region().is_some_and(|region| region.geometry().tails().is_some());
        let ty = value::described(btf, *value, has_records, has_tails);
        ty.ok_or("its BTF does not describe its values")
    }

    /// Decodes a record or value: by its type, or else as bytes.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Value {
        self.decoder()(bytes)
    }

    /// The same for many of them.
    pub(crate) fn decoder(&self) -> impl Fn(&[u8]) -> Value {
        let ty = self.ty().ok();
        move |bytes| ty.map_or_else(|| Value::bytes(bytes), |ty| value::decode(ty, bytes))
    }

    /// The field of its records that is the time, as far as the clocks say.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        stamp::Wanted::default().find(self).ok()?.0
    }

    /// The variables of global data.
    pub(crate) fn variables(&self) -> Vec<btf::Variable<'_>> {
        let Ok((btf, value)) = &self.types else { return Vec::new() };
        btf.get(*value).into_iter().flat_map(btf::Type::variables).collect()
    }

    /// How it is read, if it is.
    pub(crate) fn access(&self) -> Option<Access> {
        match &self.sort {
            Sort::Region(region) => Some(region.access()),
            Sort::RingInMaps(regions) => {
                let mut all = regions.iter().map(|(_, region)| region.access());
                Some(all.find(|access| *access != Access::Mapped).unwrap_or(Access::Mapped))
            }
            Sort::Array | Sort::Globals => self.map.as_ref().and_then(AnyMap::access),
            Sort::Ringbuf => Some(Access::Mapped),
            Sort::Other | Sort::Damaged(_) => None,
        }
    }

    /// The name by which people know it.
    pub(crate) fn name(&self) -> String {
        let by_kernel = self.map.as_ref().map(|map| map.facts().name).filter(|name| !name.is_empty());
        by_kernel.unwrap_or_else(|| self.place.to_string())
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.access() {
            Some(Access::Syscall(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// The types, or why there are none.
///
/// # Errors
/// If this process has no descriptor or memory for them.
fn types_of(map: &AnyMap) -> io::Result<Result<(Rc<Btf>, u32), String>> {
    match map.types() {
        Ok((btf, value)) => Ok(Ok((Rc::new(btf), value))),
        Err(UncheckedReason::Errno(e)) if shortage::of_errno(e) => Err(io::Error::from_raw_os_error(e)),
        Err(why) => Ok(Err(why.to_string())),
    }
}

/// What is in an array that could not be opened as a region, for this reason.
fn sort_of(e: Error, map: &AnyMap, types: Option<&(Rc<Btf>, u32)>) -> Sort {
    let value = types.and_then(|(btf, value)| btf.get(*value));
    if value.is_some_and(|value| value.kind() == btf::Kind::DataSec) {
        return Sort::Globals;
    }
    let mut words = Vec::new();
    let is_read = map.read(0, &mut words);
    let marked = words.first() == Some(&Preamble::MAGIC);
    let declared = value.is_some_and(|value| value.name().starts_with(b"mapring_"));
    if marked || declared || is_read.is_err() { Sort::Damaged(e) } else { Sort::Array }
}

/// A text that the kernel tells of itself, such as `osrelease`.
pub(crate) fn of_kernel(name: &str) -> std::io::Result<String> {
    let text = std::fs::read_to_string(std::path::Path::new("/proc/sys/kernel").join(name))?;
    Ok(text.trim_end().to_owned())
}

/// Opens a region whose records are read as bytes.
fn open(source: impl Into<Source>) -> mapring::Result<Region> {
    OpenOptions::new().any_record().open(source)
}

/// The ring in an array of maps, if it holds one.
fn ring_in_maps(map: &AnyMap, source: impl Fn() -> Result<Source>) -> Result<Option<Vec<(usize, Region)>>> {
    let inner = |key: u32| Ok::<_, anyhow::Error>(Source::inner(source()?, &key.to_ne_bytes()));
    // Another kind of map, no map, or no privilege to open maps by id: then only the map of maps is shown.
    let first = match open(inner(0)?) {
        Ok(first) => first,
        Err(e) if shortage::of_library(&e) => return Err(e.into()),
        Err(_) => return Ok(None),
    };
    let options = first.geometry().options();
    if !options.has_per_cpu_maps() {
        return Ok(options.is_resizable().then(|| vec![(0, first)]));
    }
    let mut regions = vec![(0, first)];
    for cpu in 1..map.facts().max_entries {
        // CPUs that do not exist have no map.
        match open(inner(u32::try_from(cpu)?)?) {
            Ok(region) => regions.push((cpu, region)),
            Err(e) if shortage::of_library(&e) => return Err(e.into()),
            Err(_) => {}
        }
    }
    Ok(Some(regions))
}
