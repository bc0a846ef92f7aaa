//! Opens what Python names, by path, descriptor or id, and finds the regions and types there.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use mapring::abi::{Kind, Tails};
use mapring::any::AnyMap;
use mapring::cpus::possible_cpus;
use mapring::globals::Globals;
use mapring::{Access, ErrorKind, OpenOptions, Region, Source};
use mapring_sys::btf::{self, Btf};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use crate::commands::CommandRing;
use crate::globals::Section;
use crate::reader::{Reader, seconds};
use crate::records::ByStamp;
use crate::tables::Table;
use crate::{banks, error, types, wrong};

/// The magic number of a BPF file system.
const BPF_FS: u64 = 0xcafe_4a11;

/// Where a map or memory file is.
enum Locator {
    Pin(PathBuf),
    /// A file or a descriptor.
    Fd(OwnedFd),
    Id(u32),
}

impl Locator {
    fn source(&self) -> Source {
        match self {
            Self::Pin(path) => path.as_path().into(),
            Self::Fd(fd) => fd.into(),
            Self::Id(id) => Source::id(*id),
        }
    }
}

/// An open region, or several that hold one ring.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct Opened {
    /// Each with the number of its first shard. At least one.
    regions: Vec<(usize, Region)>,
    /// Its types, and the id of its values' type there, or why there are none.
    types: Result<(Btf, u32), String>,
}

/// A region, or a section of global variables.
pub(crate) enum Found {
    Region(Opened),
    Section(Section),
}

impl<'py> IntoPyObject<'py> for Found {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Region(region) => Ok(Bound::new(py, region)?.into_any()),
            Self::Section(section) => Ok(Bound::new(py, section)?.into_any()),
        }
    }
}

/// Opens what one of these names.
#[pyfunction]
#[pyo3(signature = (path=None, fd=None, id=None))]
pub(crate) fn open_place(
    py: Python<'_>,
    path: Option<PathBuf>,
    fd: Option<i32>,
    id: Option<u32>,
) -> PyResult<Found> {
    let locator = match (path, fd, id) {
        (Some(path), None, None) => locator_of(path)?,
        (None, Some(fd), None) => Locator::Fd(duplicate(fd)?),
        (None, None, Some(id)) => Locator::Id(id),
        _ => return Err(PyValueError::new_err("name a path, a file descriptor or an id: one of them")),
    };
    py.detach(|| open(&locator))
}

#[pymethods]
impl Opened {
    /// The kind of region, as in the layout.
    #[getter]
    fn kind(&self) -> String {
        format!("{:?}", self.kind_of())
    }

    #[getter]
    fn record_size(&self) -> usize {
        let prefix = if self.has_tails() { Tails::PREFIX } else { 0 };
        self.first().geometry().record().saturating_sub(prefix)
    }

    /// Slots of a shard, or values.
    #[getter]
    fn capacity(&self) -> usize {
        self.first().geometry().capacity()
    }

    #[getter]
    fn shards(&self) -> usize {
        self.regions.iter().map(|(_, region)| region.geometry().shards()).sum()
    }

    #[getter]
    fn options(&self) -> String {
        self.first().geometry().options().to_string()
    }

    #[getter]
    fn has_tails(&self) -> bool {
        self.first().geometry().tails().is_some()
    }

    /// The type's name in C or Rust, for people.
    #[getter]
    fn name(&self) -> String {
        self.first().preamble().name.clone()
    }

    /// How it is read, in words.
    #[getter]
    fn access(&self) -> String {
        let mut all = self.regions.iter().map(|(_, region)| region.access());
        all.find(|access| *access != Access::Mapped).unwrap_or(Access::Mapped).to_string()
    }

    /// Writes that went nowhere.
    fn dropped(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| self.first().dropped()).map_err(crate::read_error)
    }

    /// Which type its records or values have, as a tree, or why that is not known.
    fn types<'py>(&self, py: Python<'py>) -> PyResult<(Option<Bound<'py, PyAny>>, String)> {
        let tails = self.has_tails();
        let found = self.types.as_ref().map_err(String::clone).and_then(|(btf, value)| {
            let tree = types::record(btf, *value, tails).and_then(|ty| types::tree(ty, self.record_size()));
            tree.ok_or_else(|| "its BTF does not describe its records".to_owned())
        });
        match found {
            Ok(tree) => Ok((Some(tree.to_python(py)?), "by BTF".to_owned())),
            Err(why) => Ok((None, why)),
        }
    }

    /// A reader of a ring, in the order of shards.
    fn reader(&self, py: Python<'_>, start: &str) -> PyResult<Reader> {
        let start = Reader::start(start)?;
        py.detach(|| Reader::new(&self.regions, self.record_size(), start, None))
    }

    /// A reader of a ring, in the order of the 8-byte number at `stamp`.
    fn merged(
        &self,
        py: Python<'_>,
        start: &str,
        stamp: usize,
        clock: &str,
        delay: Option<f64>,
        in_ticket_order: bool,
    ) -> PyResult<Reader> {
        let (start, clock) = (Reader::start(start)?, Reader::clock(clock)?);
        let delay = delay.map(|delay| seconds("a delay", delay)).transpose()?;
        let by_stamp = ByStamp { at: stamp, clock, delay, in_ticket_order };
        py.detach(|| Reader::new(&self.regions, self.record_size(), start, Some(by_stamp)))
    }

    /// Its cells or latches.
    fn table(&self) -> PyResult<Table> {
        Table::new(self.first())
    }

    fn commands(&self) -> PyResult<CommandRing> {
        CommandRing::new(self.first())
    }

    fn counters(&self) -> PyResult<banks::Counters> {
        mapring::Counters::from_region(self.first().clone()).map(banks::Counters).map_err(error)
    }

    fn histograms(&self) -> PyResult<banks::Histograms> {
        mapring::Histograms::from_region(self.first().clone()).map(banks::Histograms).map_err(error)
    }

    fn gauges(&self) -> PyResult<banks::Gauges> {
        mapring::Gauges::from_region(self.first().clone()).map(banks::Gauges).map_err(error)
    }

    fn top_keys(&self) -> PyResult<banks::TopKeys> {
        mapring::TopKeys::from_region(self.first().clone()).map(banks::TopKeys).map_err(error)
    }
}

impl Opened {
    fn first(&self) -> &Region {
        &self.regions[0].1
    }

    fn kind_of(&self) -> Kind {
        self.first().geometry().kind()
    }
}

/// A path in a BPF file system is a pin; another one is a memory file, which is opened only if it is a regular file: others could
/// wait, or do something.
fn locator_of(path: PathBuf) -> PyResult<Locator> {
    let pinned = |path: &Path| {
        rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|magic| magic == BPF_FS))
    };
    if pinned(&path) || !path.exists() {
        return Ok(Locator::Pin(path)); // if it does not exist, the error of the pin says so
    }
    let refused = |e: std::io::Error| {
        wrong(ErrorKind::Open, format!("{}: {e}: is it a path of a BPF file system?", path.display()))
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = File::from(rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| refused(e.into()))?);
    if !found.metadata().map_err(refused)?.is_file() {
        let text = format!("{} is not a pin in a BPF file system, and not a memory file", path.display());
        return Err(wrong(ErrorKind::WrongType, text));
    }
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(refused)?;
    Ok(Locator::Fd(file.into()))
}

/// A duplicate of a descriptor of this process, of which Python has only the number.
fn duplicate(fd: i32) -> PyResult<OwnedFd> {
    let this = rustix::process::getpid();
    let duplicate = rustix::process::pidfd_open(this, PidfdFlags::empty())
        .and_then(|this| rustix::process::pidfd_getfd(this, fd, PidfdGetfdFlags::empty()));
    // Before Linux 5.6, or in a sandbox: memory files can be opened again.
    duplicate
        .or_else(|e| match e {
            rustix::io::Errno::BADF => Err(e),
            _ => File::open(format!("/proc/self/fd/{fd}")).map(Into::into).map_err(|_| e),
        })
        .map_err(|e| PyOSError::new_err((e.raw_os_error(), format!("file descriptor {fd}: {e}"))))
}

fn open(locator: &Locator) -> PyResult<Found> {
    if let Locator::Pin(path) = locator
        && path.is_dir()
    {
        let regions = in_directory(path)?;
        let types = types_of(&regions[0].1);
        return Ok(Found::Region(Opened { regions, types }));
    }
    let map = match AnyMap::open(locator.source()) {
        Ok(map) => map,
        Err(e) if matches!(locator, Locator::Fd(_)) && e.kind() == ErrorKind::WrongType => {
            let region = region(locator.source()).map_err(error)?;
            let types = Err("a memory file has no BTF".to_owned());
            return Ok(Found::Region(Opened { regions: vec![(0, region)], types }));
        }
        Err(e) => return Err(error(e)),
    };
    let (regions, types) = match (map.facts().kind.as_str(), map.types()) {
        ("array_of_maps", _) => {
            let regions = in_maps(locator).map_err(error)?;
            let types = types_of(&regions[0].1);
            (regions, types)
        }
        (_, Ok((btf, id))) if btf.get(id).is_some_and(|ty| ty.kind() == btf::Kind::DataSec) => {
            let section = Globals::open(locator.source()).map_err(error)?;
            return Ok(Found::Section(Section { section, btf, id }));
        }
        (_, types) => {
            let region = region(locator.source()).map_err(error)?;
            (vec![(0, region)], types.map_err(|why| why.to_string()))
        }
    };
    if regions[0].1.geometry().kind() == Kind::Readers {
        let text = "it is the map of a ring's readers: open the ring, whose name has no __readers";
        return Err(wrong(ErrorKind::WrongType, text.to_owned()));
    }
    Ok(Found::Region(Opened { regions, types }))
}

fn region(source: Source) -> mapring::Result<Region> {
    OpenOptions::new().any_record().open(source)
}

fn types_of(region: &Region) -> Result<(Btf, u32), String> {
    let map = AnyMap::open(region.as_fd()).map_err(|e| e.to_string())?;
    map.types().map_err(|why| why.to_string())
}

/// The ring in an array of maps: a resizable one, or one with a map for each CPU.
fn in_maps(locator: &Locator) -> mapring::Result<Vec<(usize, Region)>> {
    let inner = |key: u32| region(Source::inner(locator.source(), &key.to_ne_bytes()));
    let first = inner(0)?;
    let per_cpu = first.geometry().options().has_per_cpu_maps();
    let mut regions = vec![(0, first)];
    // Not as many as there are keys: anybody can make a map with billions of them.
    let others = if per_cpu { possible_cpus()? } else { Vec::new() };
    for cpu in others.into_iter().filter(|cpu| *cpu != 0) {
        match inner(u32::try_from(cpu).unwrap_or(u32::MAX)) {
            // CPUs that were offline when the ring was made have no map.
            Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {}
            region => regions.push((cpu, region?)),
        }
    }
    Ok(regions)
}

/// The ring whose maps are pinned in a directory, as `cpu0`, `cpu1` and so on.
fn in_directory(path: &Path) -> PyResult<Vec<(usize, Region)>> {
    let cpus = possible_cpus().map_err(error)?.into_iter();
    let found = cpus.map(|cpu| (cpu, path.join(format!("cpu{cpu}")))).filter(|(_, pin)| pin.exists());
    let opened = found.map(|(cpu, pin)| Ok((cpu, region(pin.into())?)));
    let regions = opened.collect::<mapring::Result<Vec<_>>>().map_err(error)?;
    if regions.is_empty() {
        let text = format!("{} is a directory, and not one of a PER_CPU_MAPS ring", path.display());
        return Err(wrong(ErrorKind::WrongType, text));
    }
    Ok(regions)
}
