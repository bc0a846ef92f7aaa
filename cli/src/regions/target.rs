//! A map or memory file with what is known of it: its sort, its types, and how this user reads it.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use mapring::abi::{Kind, Preamble, RingOptions};
use mapring::any::AnyMap;
use mapring::btf::{self, Btf};
use mapring::record::UncheckedReason;
use mapring::{Access, Error, ErrorKind, OpenOptions, Refusal, Region, Source};
use serde::Serialize;

use super::find::Place;
use super::ringbuf::Observed;
use super::shortage;
use super::stamp::{self, Stamp};
use super::text::printable;
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

/// What `ls` and `show` say of a map. The names are those of the JSON output.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) region: String,
    pub(crate) id: Option<u32>,
    pub(crate) name: String,
    pub(crate) kind: String,
    /// The type of the records or values.
    #[serde(rename = "type")]
    pub(crate) ty: String,
    /// The bytes of a record or value.
    pub(crate) size: usize,
    /// The slots of each shard, cells, counters or values.
    pub(crate) entries: usize,
    /// Shards of a region, or CPUs of a per-CPU array.
    pub(crate) shards: usize,
    pub(crate) bytes: usize,
    pub(crate) pins: Vec<String>,
    /// `mapped` or `syscall`; `null` for maps that are not read.
    pub(crate) access: Option<&'static str>,
    /// Why it is read by system call.
    pub(crate) refusal: Option<String>,
    /// Why its types are not known.
    pub(crate) no_types: Option<String>,
    pub(crate) loader: Option<Loader>,
    pub(crate) programs: Option<Vec<Program>>,
    /// Why its programs are not known.
    pub(crate) no_programs: Option<String>,
    /// Records or updates that programs dropped.
    pub(crate) dropped: Option<u64>,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Loader {
    pub(crate) pid: u32,
    pub(crate) lives: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Program {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) links: usize,
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

    /// What is known of it. With `writers`, also which programs write it: many system calls.
    pub(crate) fn facts(&self, pins: &[PathBuf], writers: bool) -> Facts {
        let of_map = self.map.as_ref().map(AnyMap::facts);
        let cpus = self.map.as_ref().and_then(AnyMap::cpus).map_or(1, <[usize]>::len);
        let mut facts = Facts {
            region: self.place.to_string(),
            id: of_map.as_ref().map(|map| map.id),
            name: self.name(),
            kind: of_map.as_ref().map_or_else(String::new, |map| map.kind.replace('_', " ")),
            ty: self.ty().map(value::type_name).unwrap_or_default(),
            size: of_map.as_ref().map_or(0, |map| map.value_size),
            entries: of_map.as_ref().map_or(0, |map| map.max_entries),
            shards: cpus,
            bytes: 0,
            pins: pins.iter().map(|pin| printable(&pin.to_string_lossy()).into_owned()).collect(),
            access: self.access().map(|access| if access == Access::Mapped { "mapped" } else { "syscall" }),
            refusal: self.refusal().map(|refusal| refusal.to_string()),
            no_types: self.types.as_ref().err().cloned(),
            loader: None,
            programs: None,
            no_programs: None,
            dropped: None,
            error: None,
        };
        facts.bytes = facts.size.next_multiple_of(8).saturating_mul(facts.entries).saturating_mul(cpus);
        match &self.sort {
            Sort::Damaged(e) => facts.error = Some(e.to_string()),
            Sort::Other if facts.kind.ends_with("of maps") => facts.kind = "map of maps".to_owned(),
            // Its entries are bytes.
            Sort::Ringbuf => (facts.size, facts.bytes) = (1, facts.entries),
            Sort::Other => {}
            Sort::Array if facts.kind == "percpu array" => facts.kind = "per-CPU array".to_owned(),
            Sort::Array => {}
            Sort::Globals => facts.kind = "global data".to_owned(),
            Sort::Region(region) => facts.of_region(region, &[], writers),
            Sort::RingInMaps(regions) => {
                if let Some((_, first)) = regions.first() {
                    facts.of_region(first, regions, writers);
                }
            }
        }
        facts
    }

    fn refusal(&self) -> Option<Refusal> {
        match self.access() {
            Some(Access::Syscall(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

impl Facts {
    fn of_region(&mut self, region: &Region, all: &[(usize, Region)], writers: bool) {
        let geometry = region.geometry();
        let options = geometry.options();
        self.kind = match options == RingOptions::default() {
            true => geometry.kind().to_string(),
            false => format!("{} ({options})", geometry.kind()),
        };
        if options.has_per_cpu_maps() && all.is_empty() {
            self.kind.insert_str(0, "one CPU's ");
        }
        if !has_records(geometry.kind()) {
            self.no_types = None; // none are needed
        }
        if self.ty.is_empty() || !has_records(geometry.kind()) {
            self.ty = printable(&region.preamble().name).into_owned();
        }
        (self.size, self.entries) = (geometry.record(), geometry.capacity());
        match all {
            [] if geometry.kind().is_per_cpu() => self.bytes = geometry.bytes().saturating_mul(self.shards),
            [] => (self.shards, self.bytes) = (geometry.shards(), geometry.bytes()),
            all => {
                self.shards = all.iter().map(|(_, region)| region.geometry().shards()).sum();
                self.bytes = all.iter().map(|(_, region)| region.geometry().bytes()).sum();
            }
        }
        let loader = region.loader().ok().flatten();
        self.loader = loader.map(|loader| Loader { pid: loader.pid, lives: loader.is_alive() });
        self.dropped = region.dropped().ok();
        if !writers || self.id.is_none() {
            return;
        }
        match region.programs() {
            Ok(programs) => {
                let programs = programs.into_iter();
                let program = |user: mapring::liveness::MapUser| Program {
                    id: user.id,
                    name: printable(&user.name).into_owned(),
                    links: user.links,
                };
                self.programs = Some(programs.map(program).collect());
            }
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied) => {
                self.no_programs = Some("programs are not known without CAP_SYS_ADMIN".to_owned());
            }
            Err(e) => self.no_programs = Some(e.to_string()),
        }
    }

    /// The loader and the programs in words, if there is something to say.
    pub(crate) fn writers(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(Loader { pid, lives }) = &self.loader {
            parts.push(format!("loader {pid} {}", if *lives { "lives" } else { "has ended" }));
        }
        match &self.programs {
            Some(programs) if programs.is_empty() => parts.push("no program uses it".to_owned()),
            Some(programs) => parts.extend(programs.iter().map(|program| {
                let Program { id, name, links } = program;
                match links {
                    0 => format!("{name} (program {id}, no link)"),
                    _ => format!("{name} (program {id}, attached)"),
                }
            })),
            None => parts.extend(self.no_programs.clone()),
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Whether the loader chose the type of its records; in others they are the library's.
fn has_records(kind: Kind) -> bool {
    matches!(kind, Kind::Ring | Kind::Cells | Kind::Latches | Kind::PerCpuCells | Kind::Commands)
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
