//! Regions in BPF maps: opened from any loader's map, mapped where the kernel allows it.

mod compare;
pub(crate) mod describe;
mod fdinfo;
mod freeze;
mod inner;
mod lookup;
mod plain;
mod section;

use std::any::TypeId;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::{MapInfo, MapType, libbpf_sys};
use rustix::fs::OFlags;
use rustix::io::Errno;

pub(crate) use fdinfo::is_frozen;
pub use freeze::PinOptions;
pub(crate) use freeze::freeze_and_pin;
pub(crate) use inner::{MapLocator, MapOfMaps, is_gone, make_like};
pub(crate) use lookup::{Lookup, PerCpu, pin, update_run};
pub(crate) use plain::Plain;
pub(crate) use section::{Section, look, section_name};

use self::describe::Types;
use super::{Identity, Mapping, Memory, OpenOptions, Refusal, Region, generation, write_preamble};
use crate::cpus::possible_cpus;
use crate::error::{Error, Result};
use crate::layout::{Geometry, Kind, Preamble, PreambleError, WORD};
use crate::protocol::{Words, ring};
use crate::record::{Expected, LayoutCheck, UncheckedReason};
use crate::sync::{Ordering, fence};
use crate::text::printable;

/// The kernel's own "not supported", which no libc knows.
const ENOTSUPP: i32 = 524;

const NO_PREAMBLE: &str = "; its loader writes one with mapring::loader::initialize once the map is loaded; open a map of \
                           another loader with OpenOptions::assume_layout, and one of plain values as an Array";

const NOT_OURS: &str = "; mapring's macros did not declare this map: Globals reads the global variables of programs \
                        (.data, .bss, .rodata), Array reads arrays of plain values";

const TOO_SMALL: &str = "; such a map holds no region: Array reads arrays of plain values";

/// A descriptor of a map, and what the kernel and messages call it.
pub(crate) struct MapFd {
    pub(crate) fd: OwnedFd,
    pub(crate) info: MapInfo,
    pub(crate) what: String,
}

impl MapFd {
    /// The map pinned at `path`: for reading alone, if its mode allows no more.
    pub(crate) fn pinned(path: &Path) -> Result<Self> {
        let what = printable(&path.to_string_lossy());
        let fd = lookup::open_pin(path, 0).or_else(|e| {
            let denied = e.kind() == io::ErrorKind::PermissionDenied;
            let read_only = || lookup::open_pin(path, libbpf_sys::BPF_F_RDONLY);
            if denied { read_only().map_err(|_| e) } else { Err(e) }
        });
        let fd = fd.map_err(|error| {
            let hint = match error.kind() {
                _ if path.is_dir() => {
                    "; it is a directory: name a pin in it, or open a NUMA ring that is pinned there with \
                     Ring::open"
                }
                io::ErrorKind::PermissionDenied if is_elsewhere(path) => {
                    "; is it a pin in a BPF file system?"
                }
                _ if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                    "; before Linux 5.19 opening a pin needs CAP_BPF: have its owner hand over the file descriptor \
                     (SCM_RIGHTS or inheritance), and open that"
                }
                io::ErrorKind::PermissionDenied => {
                    "; ask its owner for read and write permission on the pin (chmod 0666, once the map is frozen: \
                     Region::freeze_and_pin) and for search permission on its directory"
                }
                io::ErrorKind::NotFound => {
                    "; is the BPF file system mounted (mount -t bpf -o mode=0755 bpf /sys/fs/bpf), and the loader running?"
                }
                io::ErrorKind::InvalidInput => "; is it a pin in a BPF file system?",
                _ => "",
            };
            Error::Open { what: what.clone(), error, hint }
        })?;
        Self::new(fd, what)
    }

    pub(crate) fn id(id: u32) -> Result<Self> {
        let what = format!("map id {id}");
        let fd = lookup::open_id(id).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; opening maps by id needs CAP_SYS_ADMIN: run as root, or have the map pinned"
                }
                io::ErrorKind::NotFound => "; `bpftool map` lists the ids there are",
                _ => "",
            };
            Error::Open { what: what.clone(), error, hint }
        })?;
        Self::new(fd, what)
    }

    pub(crate) fn fd(fd: OwnedFd) -> Result<Self> {
        let what = format!("fd {}", fd.as_raw_fd());
        Self::new(fd, what)
    }

    /// The map of a loaded object.
    pub(crate) fn loaded(fd: OwnedFd, name: &str) -> Result<Self> {
        Self::new(fd, format!("map {}", printable(name)))
    }

    /// What its BTF says of the region in it.
    pub(crate) fn region(&self) -> Option<describe::Description> {
        Types::new(&self.info).region()
    }

    /// Whether a file descriptor is that of a map.
    pub(crate) fn is_one(fd: BorrowedFd<'_>) -> bool {
        lookup::is_map(fd)
    }

    /// Whether it is a map of maps.
    pub(crate) fn holds_maps(&self) -> bool {
        matches!(self.info.map_type(), MapType::ArrayOfMaps | MapType::HashOfMaps)
    }

    fn new(fd: OwnedFd, what: String) -> Result<Self> {
        if !lookup::is_map(fd.as_fd()) {
            return Err(Error::NotARegion { what, expected: "a BPF map", hint: "" });
        }
        let info = fdinfo::map_info(fd.as_fd())?;
        Ok(Self { fd, info, what })
    }

    /// What it is, as messages call it.
    fn type_name(&self) -> String {
        lookup::type_name(self.info.info.type_)
    }

    /// How a map is opened that is no array, if mapring or libbpf opens such.
    fn how_to_open(&self) -> &'static str {
        match self.info.map_type() {
            MapType::ArrayOfMaps => {
                "; open a resizable ring or a NUMA ring with Ring::open, and an entry with Source::inner"
            }
            MapType::HashOfMaps => "; open an entry with Source::inner",
            MapType::ProgArray => "; open it with Dispatch::open",
            MapType::RingBuf => "; it is a BPF ringbuf, which libbpf reads",
            _ => "",
        }
    }

    /// Checks its type.
    pub(crate) fn expect(&self, ty: MapType, expected: &'static str) -> Result<()> {
        if self.info.map_type() == ty {
            return Ok(());
        }
        Err(self.wrong_type(expected))
    }

    /// What is said of a map of another type.
    fn wrong_type(&self, expected: &'static str) -> Error {
        Error::MapType {
            what: self.what.clone(),
            found: self.type_name(),
            expected,
            hint: self.how_to_open(),
        }
    }
}

/// Opens a map as a region.
pub(super) fn open(opened: MapFd, options: OpenOptions) -> Result<Region> {
    let type_name = opened.type_name();
    let per_cpu = match opened.info.map_type() {
        MapType::Array => None,
        MapType::PercpuArray => Some(possible_cpus()?),
        _ => return Err(opened.wrong_type("array or percpu_array")),
    };
    let MapFd { fd, info, what } = opened;
    let element = info.info.value_size as usize;
    if !element.is_multiple_of(WORD) {
        return Err(Error::ValueSize { what, found: element });
    }
    let entries = info.info.max_entries as usize;
    let bytes = element * entries;

    let (memory, writable) =
        map_or_lookup(fd.as_fd(), &info, element, entries, per_cpu.as_deref(), options.write)?;
    let types = Types::new(&info);
    if matches!(memory, Memory::Lookup(_, Refusal::SpecialFields)) {
        nothing_hidden(&types, element, &what)?;
    }
    let check = |preamble: &Preamble| {
        agrees(preamble, element, entries, per_cpu.is_some(), &what, &type_name)?;
        let contradicted = types.region().and_then(|described| described.contradicts(&preamble.geometry));
        contradicted
            .map_or(Ok(()), |(preamble, btf)| Err(Error::BtfMismatch { what: what.clone(), preamble, btf }))
    };
    let preamble = read_preamble(&memory, bytes, &what).or_else(|e| match e {
        // Nobody wrote one yet. The map's BTF may say as much; the loader writes it.
        Error::Preamble { error: PreambleError::Magic { found: 0 }, .. } => {
            let described = options.layout.map(|geometry| {
                let name = options.expected.as_ref().map_or("", |expected| expected.rust).to_owned();
                Preamble { geometry, generation: generation(), name }
            });
            let declared = types.region();
            let assumed = described.is_some();
            let described =
                described.or_else(|| declared.as_ref().and_then(|d| d.preamble(entries, generation())));
            let Some(preamble) = described else {
                let nearest = declared.and_then(|declared| declared.nearest(entries)).ok_or(e)?;
                return Err(Error::Contradiction {
                    what: what.clone(),
                    source_of_shape: "its BTF",
                    property: "number of entries",
                    preamble: nearest.entries() as u64,
                    kernel: entries as u64,
                    hint: "; leave max_entries to mapring's macros and loader::prepare",
                });
            };
            if !assumed {
                a_shard_for_each_cpu(&preamble.geometry, &what)?;
            }
            if options.write_preamble {
                check(&preamble)?;
                let copies = per_cpu.as_ref().map_or(1, Vec::len);
                initialise(fd.as_fd(), &what, element, bytes, copies, &preamble)?;
            }
            Ok(preamble)
        }
        _ => Err(e),
    })?;
    check(&preamble)?;
    let compared = compare_record(&types, preamble.geometry.kind(), &what, options.expected.as_ref())?;
    Ok(Region::new(what, preamble, memory, writable, compared, Identity::Map(info.info.id), fd))
}

/// Checks that every CPU that writes has a shard: a loader that does not prepare its object makes one shard.
fn a_shard_for_each_cpu(geometry: &Geometry, what: &str) -> Result<()> {
    let sharded = matches!(geometry.kind(), Kind::Ring | Kind::Counters) && !geometry.is_of_cpu();
    let (shards, last) = (geometry.shards(), possible_cpus()?.last().copied().unwrap_or_default());
    if sharded && shards <= last {
        return Err(Error::NotFitted { what: what.to_owned(), shards, last });
    }
    Ok(())
}

/// Checks a preamble against what the kernel says of the map.
fn agrees(
    preamble: &Preamble,
    element: usize,
    entries: usize,
    per_cpu: bool,
    what: &str,
    type_name: &str,
) -> Result<()> {
    let says = |property, preamble: usize, kernel: usize| match preamble == kernel {
        true => Ok(()),
        false => Err(Error::Contradiction {
            what: what.to_owned(),
            source_of_shape: "its preamble or description",
            property,
            preamble: preamble as u64,
            kernel: kernel as u64,
            hint: "",
        }),
    };
    if preamble.geometry.kind().is_per_cpu() != per_cpu {
        let expected = if per_cpu { "array" } else { "percpu_array" };
        let hint = "; its preamble or description says so";
        return Err(Error::MapType { what: what.to_owned(), found: type_name.to_owned(), expected, hint });
    }
    says("value size", preamble.geometry.element(), element)?;
    says("number of entries", preamble.geometry.entries(), entries)
}

/// Maps an array of values of `value` bytes, for writing too if asked and allowed; else reads it by lookups.
fn map_or_lookup(
    fd: BorrowedFd<'_>,
    info: &MapInfo,
    value: usize,
    entries: usize,
    per_cpu: Option<&[usize]>,
    write: bool,
) -> Result<(Memory, Result<(), Refusal>)> {
    let mut writable = Err(Refusal::NotAsked);
    let mut mapping = None;
    // In the mapping each value starts on a word.
    let bytes = value.next_multiple_of(WORD) * entries;
    if write {
        match Mapping::new(fd, bytes, true) {
            Ok(mapped) => (mapping, writable) = (Some(mapped), Ok(())),
            Err(e) => writable = Err(refusal(&e, info, fd, true)),
        }
    }
    let memory = match mapping.map_or_else(|| Mapping::new(fd, bytes, false), Ok) {
        Ok(mapping) => Memory::Mapped(mapping),
        Err(e) => {
            let lookup = match per_cpu {
                None => Lookup::new(owned(fd)?, value, entries),
                Some(cpus) => Lookup::per_cpu(owned(fd)?, value, entries, cpus.to_owned()),
            };
            Memory::Lookup(lookup, refusal(&e, info, fd, false))
        }
    };
    Ok((memory, writable))
}

fn read_preamble(memory: &Memory, bytes: usize, what: &str) -> Result<Preamble> {
    if bytes < Preamble::BYTES {
        return Err(Error::Truncated {
            what: what.to_owned(),
            found: bytes as u64,
            expected: Preamble::BYTES as u64,
            hint: TOO_SMALL,
        });
    }
    let words = match memory {
        Memory::Mapped(mapping) => preamble_words(mapping.words()),
        Memory::Lookup(lookup, refusal) => lookup.preamble().map_err(|e| match refusal {
            Refusal::WriteOnlyFd => Error::NotReadable { what: what.to_owned(), refusal: *refusal },
            _ => Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e),
        })?,
    };
    fence(Ordering::Acquire);
    Preamble::decode(&words).map_err(|error| Error::Preamble {
        what: what.to_owned(),
        hint: match error {
            PreambleError::Magic { found: 0 } => NO_PREAMBLE,
            PreambleError::Magic { .. } => NOT_OURS,
            _ => "",
        },
        error,
    })
}

/// The first words of a mapped region.
fn preamble_words(words: Words<'_>) -> [u64; Preamble::WORDS] {
    let first = words.load(0, Ordering::Relaxed);
    fence(Ordering::Acquire); // SYNC preamble: pairs with the fence in `write_preamble`
    std::array::from_fn(|at| if at == 0 { first } else { words.load(at, Ordering::Relaxed) })
}

/// Writes the preamble of a region that has none, through a mapping if there is one to be had,
/// to each CPU's copy.
fn initialise(
    fd: BorrowedFd<'_>,
    what: &str,
    element: usize,
    bytes: usize,
    copies: usize,
    preamble: &Preamble,
) -> Result<()> {
    match Mapping::new(fd, bytes, true) {
        Ok(mapping) => {
            if let Some(words) = mapping.words_mut() {
                write_preamble(words, preamble);
                if preamble.geometry.is_resizable() {
                    ring::open(words, &preamble.geometry);
                }
            }
            return Ok(());
        }
        // With a preamble and closed gates the ring would drop every record.
        Err(error) if preamble.geometry.is_resizable() => {
            return Err(Error::NoPreamble { what: what.to_owned(), error });
        }
        Err(_) => {}
    }
    let mut image = vec![0; preamble.geometry.first() * element / WORD];
    image[..Preamble::WORDS].copy_from_slice(&preamble.encode());
    // The element with the magic number last.
    for (index, value) in image.chunks(element / WORD).enumerate().rev() {
        lookup::update(fd, index, &value.repeat(copies))
            .map_err(|error| Error::NoPreamble { what: what.to_owned(), error })?;
    }
    Ok(())
}

/// Compares the type that is expected with what a map's BTF says of the records, if it can.
fn compare_record(
    types: &Types,
    found: Kind,
    what: &str,
    expected: Option<&Expected>,
) -> Result<(Option<TypeId>, LayoutCheck)> {
    let Some(expected) = expected else { return Ok((None, LayoutCheck::Size(UncheckedReason::NotAsked))) };
    if let Some(kind) = expected.kind.filter(|&kind| kind != found) {
        return Err(Error::Kind { what: what.to_owned(), found, expected: kind });
    }
    let compared = compare_with(types, |btf| types.record(btf), what, expected)?;
    Ok((Some(expected.id), compared))
}

/// Compares the type that is expected with the C type that `find` finds, if there is one.
fn compare_with<'t>(
    types: &'t Types,
    find: impl FnOnce(&'t Btf<'static>) -> Option<BtfType<'t>>,
    what: &str,
    expected: &Expected,
) -> Result<LayoutCheck> {
    let not = |why| Ok(LayoutCheck::Size(why));
    let btf = match types.btf() {
        Ok(btf) => btf,
        Err(e) => {
            return not(match e.raw_os_error().map(Errno::from_raw_os_error) {
                // As long as there is a map, there are its types.
                Some(Errno::NOENT) => UncheckedReason::NoBtf,
                Some(Errno::PERM) => UncheckedReason::NotAllowed,
                errno => UncheckedReason::Errno(errno.map_or(0, Errno::raw_os_error)),
            });
        }
    };
    let Some(record) = find(btf) else { return not(UncheckedReason::NotDescribed) };
    let name = std::iter::successors(Some(record), |ty| ty.next_type()).find_map(|ty| ty.name());
    let name = name.map_or("record".into(), |name| name.to_string_lossy());
    compare::compare(btf, &expected.layout, record, &name).map_err(|different| Error::Layout {
        what: format!("{what} ({})", expected.rust),
        field: printable(&different.field),
        rust: different.rust,
        c: printable(&different.c),
    })?;
    Ok(LayoutCheck::Fields)
}

/// Lookups show zeros in place of a lock or a timer: that must not be where the region keeps its own.
fn nothing_hidden(types: &Types, element: usize, what: &str) -> Result<()> {
    for (field, offset, size) in types.hidden_fields() {
        let hides = |words: std::ops::Range<usize>| {
            // The place of those words in their elements, of which there may be several.
            words.map(|word| word * WORD).any(|at| {
                let at = at % element;
                offset < at + WORD && at < offset + size
            })
        };
        // What the region is, the count of writes with no place to go, and how claims are made; the
        // rest is for people.
        let identity = hides(0..Preamble::IDENTITY) || hides(Preamble::DROPPED..Preamble::DROPPED + 2);
        let hidden = match types.region().map(|described| described.kind) {
            _ if identity => "preamble",
            Some(Kind::Ring) if hides(0..2) => "header of a shard",
            _ => continue,
        };
        return Err(Error::Hidden { what: what.to_owned(), field, offset, hidden });
    }
    Ok(())
}

/// What an error from mmap means, for this map and descriptor. `docs/kernels.md` has the table.
fn refusal(e: &io::Error, info: &MapInfo, fd: BorrowedFd<'_>, write: bool) -> Refusal {
    let errno = e.raw_os_error().unwrap_or(0);
    let flag = |flag: u32| info.info.map_flags & flag != 0;
    let mode = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::ACCMODE);
    match Errno::from_raw_os_error(errno) {
        _ if errno == ENOTSUPP && info.map_type() == MapType::Array => Refusal::SpecialFields,
        _ if errno == ENOTSUPP => Refusal::MapType,
        Errno::INVAL if !flag(libbpf_sys::BPF_F_MMAPABLE) => Refusal::NotMmapable,
        Errno::INVAL | Errno::ACCESS if mode == Ok(OFlags::RDONLY) => Refusal::ReadOnlyFd,
        Errno::ACCESS if mode == Ok(OFlags::WRONLY) => Refusal::WriteOnlyFd,
        Errno::ACCESS if write && flag(libbpf_sys::BPF_F_RDONLY_PROG) => Refusal::ReadOnlyForPrograms,
        Errno::PERM if write && is_frozen(fd) != Some(false) => Refusal::Frozen,
        _ => Refusal::Errno(errno),
    }
}

fn owned(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|e| Error::system("dup", e))
}

/// Whether `path` is known to be in no BPF file system.
fn is_elsewhere(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type != 0xcafe_4a11)
}
