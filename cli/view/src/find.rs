//! Finds maps and memory files: by path, id or name, or all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mapring::any::AnyMap;
use mapring::{ErrorKind, Source};
use mapring_kit::text::{printable, printable_path};
use mapring_sys::btf;
use rustix::fs::{Mode, OFlags};

use crate::shortage;

/// The deepest directory below a mount in which pins are found.
const DEPTH: usize = 32;
/// The magic number of a BPF file system.
const BPF_FS: u64 = 0xcafe_4a11;

/// Where a map or memory file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A pin in a BPF file system, or the directory in which a `PER_CPU_MAPS` ring is pinned.
    Pin(PathBuf),
    /// A map, by its id.
    Id(u32),
    /// A memory file: `/proc/PID/fd/N`.
    File(PathBuf),
}

impl Location {
    /// The source for the library.
    pub fn source(&self) -> Result<Source> {
        Ok(match self {
            Self::Pin(path) => path.as_path().into(),
            Self::Id(id) => Source::id(*id),
            Self::File(path) => open_file(path)?.into(),
        })
    }

    /// The source of its map; of a ring that is pinned in a directory, of the first one.
    pub fn map(&self) -> Result<Source> {
        match self.pins()?.into_iter().next() {
            Some((_, pin)) => Ok(pin.as_path().into()),
            None => self.source(),
        }
    }

    /// The pins of a ring that is pinned in a directory, each with its CPU; otherwise none.
    pub(crate) fn pins(&self) -> io::Result<Vec<(usize, PathBuf)>> {
        match self {
            Self::Pin(path) if path.is_dir() => pins_of_cpus(path),
            _ => Ok(Vec::new()),
        }
    }
}

/// The pins of a `PER_CPU_MAPS` ring in a directory, by their CPUs.
fn pins_of_cpus(dir: &Path) -> io::Result<Vec<(usize, PathBuf)>> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?.into_iter();
    let mut pins: Vec<_> = entries
        .filter_map(|entry| {
            let cpu = entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()?;
            Some((cpu, entry.path()))
        })
        .collect();
    pins.sort();
    Ok(pins)
}

/// As the user names it, escaped.
impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pin(path) | Self::File(path) => f.write_str(&printable_path(path)),
            Self::Id(id) => write!(f, "id:{id}"),
        }
    }
}

/// Opens a file that may be a region. Not what is no regular file: that could wait, or do something.
fn open_file(path: &Path) -> Result<File> {
    let name = || printable_path(path);
    // By a descriptor, so that it is this file that is opened.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = File::from(rustix::fs::open(path, flags, Mode::empty()).with_context(name)?);
    let is_file = found.metadata().with_context(name)?.is_file();
    ensure!(is_file, "{} is not a pin in a BPF file system, and not a memory file", name());
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).with_context(name)
}

/// Whether `path` is in a BPF file system.
pub fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|magic| magic == BPF_FS))
}

/// All maps, each once, with its pins.
#[derive(Default)]
pub struct All {
    /// By id: the pins, in order. Empty for a map that was found by its id alone.
    pub maps: BTreeMap<u32, Vec<PathBuf>>,
    /// What could not be looked at, in words.
    pub hidden: Vec<String>,
    /// The directories in which pins may be, without the mounts themselves.
    pub dirs: BTreeSet<PathBuf>,
    /// Whether some maps are not listed for want of file descriptors or memory.
    pub short: bool,
}

impl All {
    /// All pins that this process can open and, with CAP_SYS_ADMIN, all maps.
    pub fn find() -> Self {
        let mut all = Self::default();
        let mounts = mounts();
        match &mounts {
            Ok(mounts) if mounts.is_empty() => all.hidden.push(
                "no BPF file system is mounted, so there are no pins: mount -t bpf -o mode=0755 bpf /sys/fs/bpf"
                    .to_owned(),
            ),
            Ok(mounts) => mounts.iter().for_each(|mount| all.add_dir(mount)),
            Err(e) => {
                all.short |= shortage::is_short(e);
                all.hidden.push(format!("/proc/self/mounts: {e}"));
            }
        }
        #[cfg(feature = "commands")]
        all.add_loaded();
        all
    }

    /// Adds all maps by their ids.
    #[cfg(feature = "commands")]
    fn add_loaded(&mut self) {
        for map in aya::maps::loaded_maps() {
            match map {
                Ok(map) => drop(self.maps.entry(map.id()).or_default()),
                Err(e) if is_gone(&e) => {}
                Err(e) if is_denied(&e) => {
                    self.hidden.push(
                        "only pinned maps are listed: CAP_SYS_ADMIN is needed to list maps by id (run as root)"
                            .to_owned(),
                    );
                    break;
                }
                Err(e) => {
                    self.short |= errno(&e).is_some_and(shortage::of_errno);
                    self.hidden.push(format!("maps by id: {}", printable(&chain(&e))));
                    break;
                }
            }
        }
    }

    /// Adds the pins in a directory.
    pub fn add_dir(&mut self, dir: &Path) {
        let mut unread = Vec::new();
        let mut dirs = vec![(dir.to_owned(), 0)];
        while let Some((dir, depth)) = dirs.pop() {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) => {
                    unread.push((dir, e));
                    continue;
                }
            };
            for entry in entries.flatten() {
                match entry.file_type() {
                    Ok(ty) if ty.is_dir() && depth < DEPTH => {
                        self.dirs.insert(entry.path());
                        dirs.push((entry.path(), depth + 1));
                    }
                    Ok(ty) if ty.is_file() => self.add_pin(entry.path(), &mut unread),
                    _ => {}
                }
            }
        }
        self.short |= unread.iter().any(|(_, e)| shortage::is_short(e));
        if let Some((path, e)) = unread.first() {
            let more = match unread.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            self.hidden.push(format!("not opened: {} ({e}){more}", printable_path(path)));
        }
    }

    /// Adds a pin, unless it is one of a program or a link.
    pub(crate) fn add_pin(&mut self, path: PathBuf, unread: &mut Vec<(PathBuf, io::Error)>) {
        match AnyMap::open(path.as_path()) {
            Ok(map) => {
                let pins = self.maps.entry(map.facts().id).or_default();
                if !pins.contains(&path) {
                    pins.push(path);
                    pins.sort();
                }
            }
            Err(e) if e.kind() == ErrorKind::WrongType => {}
            // The kernel's iterators. Only root may open them.
            Err(_)
                if [Some("maps.debug"), Some("progs.debug")]
                    .contains(&path.file_name().and_then(|n| n.to_str())) => {}
            // Removed meanwhile.
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {}
            Err(e) => {
                let errno = e.io_error().and_then(io::Error::raw_os_error);
                unread.push((path, errno.map_or_else(|| io::Error::other(e), io::Error::from_raw_os_error)));
            }
        }
    }
}

/// The directories on which BPF file systems are mounted.
pub fn mounts() -> io::Result<Vec<PathBuf>> {
    Ok(bpf_mounts(&fs::read("/proc/self/mounts")?))
}

fn bpf_mounts(text: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut words = line.split(|&byte| byte == b' ');
        let (dir, ty) = (words.nth(1), words.next());
        if let (Some(dir), Some(b"bpf")) = (dir, ty) {
            found.push(PathBuf::from(OsString::from_vec(unescaped(dir))));
        }
    }
    found.dedup();
    found
}

/// The kernel writes a space in a path as `\040`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut rest, mut found) = (text, Vec::new());
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        found.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    found
}

/// The location that `name` means: a path, `id:42`, or the name of a map. A file of the current directory with that name hides
/// no map, unless it is a pin.
pub fn find(name: &str) -> Result<Location> {
    if let Some(id) = name.strip_prefix("id:") {
        let id =
            id.parse().ok().with_context(|| format!("{}: write a map's id as id:42", printable(name)))?;
        return Ok(Location::Id(id));
    }
    let path = Path::new(name);
    let is_dir =
        || format!("{} is a directory: `mapring ls` lists the maps that are pinned in it", printable(name));
    if !(name.contains('/') || path.is_file() && is_pinned(path)) {
        return by_name(name).map_err(|e| if path.is_dir() { e.context(is_dir()) } else { e });
    }
    let has_ring = || is_pinned(path) && pins_of_cpus(path).is_ok_and(|pins| !pins.is_empty());
    ensure!(!path.is_dir() || has_ring(), is_dir());
    let in_bpf_fs = is_pinned(path) || !path.exists() && path.parent().is_some_and(is_pinned);
    Ok(if in_bpf_fs { Location::Pin(path.to_owned()) } else { Location::File(path.to_owned()) })
}

/// The one map with this name: of a map, or of a pin's file.
fn by_name(name: &str) -> Result<Location> {
    let all = All::find();
    // With this name, and those that may have it.
    let (mut found, mut possible) = (Vec::new(), Vec::new());
    for (id, pins) in all.maps {
        let named = pins.iter().find(|pin| pin.file_name().is_some_and(|file| file == name));
        let location = named.or(pins.first()).map_or(Location::Id(id), |pin| Location::Pin(pin.clone()));
        match named.map_or_else(|| is_called(&location, name), |_| Some(true)) {
            Some(true) => found.push(location),
            Some(false) => {}
            None => possible.push(location),
        }
    }
    let found = if found.is_empty() { possible } else { found };
    let name = printable(name);
    match &found[..] {
        [location] => Ok(location.clone()),
        [] => {
            let hidden = all.hidden.iter().map(|why| format!("; {why}")).collect::<String>();
            bail!("no map has the name {name}: `mapring ls` lists the maps{hidden}")
        }
        _ => {
            let locations = found.iter().map(Location::to_string).collect::<Vec<_>>().join(", ");
            bail!("{} maps have the name {name}: name one of {locations}", found.len())
        }
    }
}

/// The most bytes of a map's name that the kernel keeps.
pub(crate) const KEPT: usize = 15;

/// Whether a map has this name in C. `None` if the kernel keeps only its first bytes, and the types do not say.
fn is_called(location: &Location, name: &str) -> Option<bool> {
    let open = || AnyMap::open(location.source().ok()?).ok();
    let Some(map) = open() else { return Some(false) };
    let kept = map.facts().name;
    if name.len() <= KEPT {
        return Some(kept == name);
    }
    if kept.as_bytes() != name.as_bytes().get(..KEPT)? {
        return Some(false);
    }
    let is_of_maps = map.facts().kind == "array_of_maps";
    let typed = if is_of_maps {
        // It has no types: those of the maps in it say whose it is. Bells are BPF ringbufs, or not there yet.
        let first = || AnyMap::open(Source::inner(location.source().ok()?, &0u32.to_ne_bytes())).ok();
        let Some(first) = first().filter(|first| first.facts().kind != "ringbuf") else {
            return if name.ends_with("__bells") { None } else { Some(false) };
        };
        first
    } else {
        map
    };
    let (btf, value) = typed.types().ok()?;
    // The declarations of an object's maps are variables. Each points to the type of its values.
    let maps = btf.types().find(|ty| ty.kind() == btf::Kind::DataSec && ty.name() == b".maps")?;
    let is_it = |map: &btf::Variable<'_>| {
        let mut ty = map.ty.resolved();
        if is_of_maps {
            let maps = ty.field("values").and_then(|maps| maps.ty.resolved().array());
            let Some(inner) = maps.and_then(|(map, _)| map.resolved().target()) else { return false };
            ty = inner.resolved();
        }
        let of = ty.field("value").and_then(|field| field.ty.resolved().target());
        of.is_some_and(|of| of.id == value)
    };
    let mut same = maps.variables().filter(is_it).peekable();
    same.peek()?;
    Some(same.any(|map| map.name == name.as_bytes()))
}

fn chain(e: &dyn std::error::Error) -> String {
    let more = e.source().map(|source| format!(": {}", chain(source)));
    format!("{e}{}", more.unwrap_or_default())
}

fn errno(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let of_library = e.downcast_ref::<mapring::Error>().and_then(mapring::Error::io_error);
    let own = of_library.or_else(|| e.downcast_ref()).and_then(io::Error::raw_os_error);
    own.or_else(|| e.source().and_then(errno))
}

fn is_denied(e: &(dyn std::error::Error + 'static)) -> bool {
    [libc::EPERM, libc::EACCES].map(Some).contains(&errno(e))
}

/// Whether a map ended after its id was listed.
pub fn is_gone(e: &(dyn std::error::Error + 'static)) -> bool {
    errno(e) == Some(libc::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mounts_are_unescaped() {
        let mounts =
            b"sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw,mode=700 0 0\nbpf /run/b\\040b bpf rw 0 0\n";
        assert_eq!(bpf_mounts(mounts), ["/sys/fs/bpf", "/run/b b"].map(PathBuf::from));
        for (text, path) in [("/a\\040b", "/a b"), ("/a", "/a"), ("\\", "\\"), ("/\\9zz\\134", "/\\9zz\\")] {
            assert_eq!(unescaped(text.as_bytes()), path.as_bytes(), "{text}");
        }
    }

    #[test]
    fn what_is_no_region_is_not_opened() {
        for path in ["/dev/tty", "/dev/null", "/proc/self/fd", "/does/not/exist"] {
            assert!(find(path).and_then(|location| location.source()).is_err(), "{path}");
        }
        assert_eq!(find("id:7").unwrap(), Location::Id(7));
        assert!(find("id:x").is_err());
    }
}
