//! A map or memory file with what is known of it: its content, its types, and how this user reads it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use mapring::abi::{Kind, Preamble};
use mapring::any::AnyMap;
use mapring::record::UncheckedReason;
use mapring::{Access, Error, ErrorKind, Merged, OpenOptions, ReadStats, Refusal, Region, Source, Start};
use mapring_kit::text::{printable, printable_path};
use mapring_sys::btf::{self, Btf};

use crate::find::{KEPT, Location};
use crate::ringbuf::Observed;
use crate::shortage;
use crate::stamp::Stamp;
use crate::untyped::{self, Item as Record, Records};
use crate::value::{self, Value};

/// A map or memory file.
pub struct Target {
    /// Where it was found.
    pub location: Location,
    /// `None` for a memory file.
    pub map: Option<AnyMap>,
    /// Its content.
    pub layout: Layout,
    /// The types, and the id of the values' type there, or why there are none.
    types: Result<(Rc<Btf>, u32), String>,
}

/// What is in a map or memory file.
pub enum Layout {
    /// A region of mapring.
    Region(Region),
    /// A ring in a map of maps, or whose maps are pinned in a directory: the regions that hold it now, each with the number of its first shard.
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
    /// opens what is at a location.
    pub fn open(location: Location) -> Result<Self> {
        let from = location.clone();
        Self::of(location, || from.source())
    }

    /// The same of a source that this process has.
    pub fn of(location: Location, source: impl Fn() -> Result<Source>) -> Result<Self> {
        if let Location::File(_) = location {
            let region = open(source()?).map_err(|e| match e.kind() {
                ErrorKind::WrongType => anyhow!("{location} is not a BPF map, and not a memory file"),
                _ => anyhow::Error::from(e).context(location.to_string()),
            })?;
            let types = Err("a memory file has no BTF".to_owned());
            return Ok(Self { location, map: None, layout: Layout::Region(region), types });
        }
        let is_absent = |e: &Error| e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound);
        let in_dir = ring_in_directory(&location)?;
        let map = match in_dir.first() {
            Some((_, first)) => AnyMap::open(first.as_fd()),
            None => AnyMap::open(source()?),
        };
        let map = map.map_err(|e| match location {
            Location::Id(id) if is_absent(&e) => {
                anyhow!("no map has the id {id}: `mapring ls` lists the maps")
            }
            _ => e.into(),
        })?;
        let mut types = types_of(&map).with_context(|| location.to_string())?;
        let kind = map.facts().kind;
        let layout = match kind.as_str() {
            _ if !in_dir.is_empty() => Layout::RingInMaps(in_dir),
            "array" | "percpu_array" => match open(source()?) {
                Ok(region) => Layout::Region(region),
                Err(e) if shortage::of_library(&e) => return Err(e.into()),
                Err(e) => layout_of(e, &map, types.as_ref().ok()),
            },
            "array_of_maps" => ring_in_maps(&map, source)?.map_or(Layout::Other, Layout::RingInMaps),
            "ringbuf" => {
                types = Err("a BPF ringbuf does not say what is in its records".to_owned());
                Layout::Ringbuf
            }
            _ => Layout::Other,
        };
        if let Layout::RingInMaps(regions) = &layout
            && let Some((_, first)) = regions.first()
        {
            types = types_of(&AnyMap::open(first.as_fd())?).with_context(|| location.to_string())?;
        }
        Ok(Self { location, map: Some(map), layout, types })
    }

    /// Its region; of a ring in several maps, the first one.
    pub fn region(&self) -> Option<&Region> {
        match &self.layout {
            Layout::Region(region) => Some(region),
            Layout::RingInMaps(regions) => regions.first().map(|(_, region)| region),
            _ => None,
        }
    }

    /// Its kind, if it is a region.
    pub fn kind(&self) -> Option<Kind> {
        self.region().map(|region| region.geometry().kind())
    }

    /// A reader of its records, if it is a ring or a BPF ringbuf.
    pub fn records(&self, start: Start) -> Result<Box<dyn Records>> {
        match &self.layout {
            Layout::Ringbuf => self.observed(start).map(|observed| Box::new(observed) as Box<dyn Records>),
            _ => untyped::records(&self.ring()?, start),
        }
        .with_context(|| self.location.to_string())
    }

    /// Records or updates that programs dropped, by cause in a word. `None` if it is no region.
    ///
    /// # Errors
    /// A failed system call.
    pub fn dropped(&self) -> Result<Option<Vec<(&'static str, u64)>>> {
        Ok(match self.region() {
            Some(region) if region.geometry().kind() == Kind::Ring => {
                Some(drops(&self.records(Start::Now)?.stats()).to_vec())
            }
            Some(region) => Some(vec![("no_place", region.dropped()?)]),
            None => None,
        })
    }

    /// Adds it to a merge by this stamp, if it is a ring. `f` gets the records.
    pub(crate) fn join<C>(
        &self,
        merged: Merged<'static, C>,
        start: Start,
        stamp: Stamp,
        f: impl FnMut(&mut C, Record<'_>) + Send + 'static,
    ) -> Result<Merged<'static, C>> {
        untyped::join(merged, &self.ring()?, start, stamp, f).with_context(|| self.location.to_string())
    }

    /// The regions of its ring, each with the number of its first shard.
    fn ring(&self) -> Result<Cow<'_, [(usize, Region)]>> {
        match &self.layout {
            Layout::RingInMaps(regions) => Ok(regions.into()),
            Layout::Region(region) if region.geometry().kind() == Kind::Ring => {
                Ok(vec![(0, region.clone())].into())
            }
            Layout::Damaged(e) => bail!("{}: {e}", self.location),
            _ => bail!(
                "{} is not a mapring ring, but of kind {}: see `mapring show`",
                self.location,
                self.facts(&[], false).kind
            ),
        }
    }

    /// An observer, if it is a BPF ringbuf.
    pub(crate) fn observed(&self, start: Start) -> Result<Observed> {
        Ok(Observed::new(self.map.as_ref().context("not a map")?, start)?)
    }

    /// Its BTF, and the id of its values' type there, or why they are not known.
    pub fn types(&self) -> Result<(&Btf, u32), &str> {
        self.types.as_ref().map(|(btf, value)| (&**btf, *value)).map_err(String::as_str)
    }

    /// The type of its records or values, or why it is not known.
    pub fn ty(&self) -> Result<btf::Type<'_>, &str> {
        let (btf, value) = self.types.as_ref().map_err(String::as_str)?;
        let has_records = self.kind().is_some_and(has_records);
        let has_tails = self.region().is_some_and(|region| region.geometry().tails().is_some());
        let ty = value::described(btf, *value, has_records, has_tails);
        ty.ok_or("its BTF does not describe its values")
    }

    /// Decodes a record or value: by its type, or else as bytes.
    pub fn decode(&self, bytes: &[u8]) -> Value {
        self.decoder()(bytes)
    }

    /// The same for many of them.
    pub fn decoder(&self) -> impl Fn(&[u8]) -> Value {
        let ty = self.ty().ok();
        move |bytes| ty.map_or_else(|| Value::bytes(bytes), |ty| value::decode(ty, bytes))
    }

    /// The variables of global data.
    pub fn variables(&self) -> Vec<btf::Variable<'_>> {
        let Ok((btf, value)) = &self.types else { return Vec::new() };
        btf.get(*value).into_iter().flat_map(btf::Type::variables).collect()
    }

    /// How it is read, if it is.
    pub fn access(&self) -> Option<Access> {
        match &self.layout {
            Layout::Region(region) => Some(region.access()),
            Layout::RingInMaps(regions) => {
                let mut all = regions.iter().map(|(_, region)| region.access());
                Some(all.find(|access| *access != Access::Mapped).unwrap_or(Access::Mapped))
            }
            Layout::Array | Layout::Globals => self.map.as_ref().and_then(AnyMap::access),
            Layout::Ringbuf => Some(Access::Mapped),
            Layout::Other | Layout::Damaged(_) => None,
        }
    }

    /// The name by which people know it.
    pub fn name(&self) -> String {
        // Its maps have names of their own.
        if let (Layout::RingInMaps(_), Location::Pin(dir)) = (&self.layout, &self.location)
            && let Some(name) = dir.file_name().filter(|_| dir.is_dir())
        {
            return printable_path(name);
        }
        self.map_name().unwrap_or_else(|| self.location.to_string())
    }

    /// The map's name, if it has one. The kernel keeps 15 bytes of it; a pin may have them all.
    pub fn map_name(&self) -> Option<String> {
        let kept = self.map.as_ref().map(|map| map.facts().name).filter(|name| !name.is_empty())?;
        let pin = if let Location::Pin(path) = &self.location { path.file_name() } else { None };
        let whole = pin.and_then(OsStr::to_str).filter(|pin| kept.len() == KEPT && pin.starts_with(&kept));
        Some(whole.map_or(kept.clone(), |whole| printable(whole).into_owned()))
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.access() {
            Some(Access::Syscall(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// The records that programs dropped, by cause in a word: these are labels of `export`.
pub fn drops(stats: &ReadStats) -> [(&'static str, u64); 5] {
    [
        ("no_slot", stats.no_slot),
        ("held_by_reader", stats.full),
        ("no_shard", stats.no_shard),
        ("no_tail_space", stats.no_tail),
        ("tail_too_long", stats.too_long),
    ]
}

/// What tells targets apart: their names, with the ids of maps that share one.
pub(crate) fn labels<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Vec<String> {
    let all: Vec<_> = targets.into_iter().map(|target| (target.name(), target)).collect();
    let label = |(name, target): &(String, &Target)| match &target.map {
        Some(map) if all.iter().filter(|(other, _)| other == name).count() > 1 => {
            format!("{name} id:{}", map.facts().id)
        }
        _ => name.clone(),
    };
    all.iter().map(label).collect()
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
fn layout_of(e: Error, map: &AnyMap, types: Option<&(Rc<Btf>, u32)>) -> Layout {
    let value = types.and_then(|(btf, value)| btf.get(*value));
    if value.is_some_and(|value| value.kind() == btf::Kind::DataSec) {
        return Layout::Globals;
    }
    let mut words = Vec::new();
    let is_read = map.read(0, &mut words);
    let marked = words.first() == Some(&Preamble::MAGIC);
    let declared = value.is_some_and(|value| value.name().starts_with(b"mapring_"));
    if marked || declared || is_read.is_err() { Layout::Damaged(e) } else { Layout::Array }
}

/// A text that the kernel tells of itself, such as `osrelease`.
pub fn of_kernel(name: &str) -> std::io::Result<String> {
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

/// The ring whose maps are pinned in a directory, if the location is one.
fn ring_in_directory(location: &Location) -> Result<Vec<(usize, Region)>> {
    // Another ring's directory may get the name meanwhile.
    let identity = || match location {
        Location::Pin(path) => std::fs::metadata(path).ok().map(|of| (of.dev(), of.ino())),
        _ => None,
    };
    let mut before = identity();
    for _ in 0..10 {
        let pins = location.pins()?.into_iter();
        let regions: Result<Vec<_>, _> = pins.map(|(cpu, pin)| Ok((cpu, open(pin.as_path())?))).collect();
        if mem::replace(&mut before, identity()) == before {
            return regions.map_err(|e: Error| anyhow::Error::from(e).context(location.to_string()));
        }
    }
    bail!("{location}: other rings replace it all the time")
}

/// Whether the loader chose the type of its records; in others they are the library's.
pub(crate) fn has_records(kind: Kind) -> bool {
    matches!(kind, Kind::Ring | Kind::Cells | Kind::Latches | Kind::PerCpuCells | Kind::Commands)
}
