//! An open map, found by its pin, its id or a descriptor, with the kernel's information about it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use mapring_core::text::printable;
use mapring_sys::MapInfo;
use mapring_sys::PinDir;
use mapring_sys::bpf;
use mapring_sys::fdinfo::is_map;
use mapring_sys::kinds::MapType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::describe::Types;
use crate::error::{Cause, Error, Result};
use crate::loader::LoadedObject;
use crate::record::string;

/// A descriptor of a map, with the kernel's information and the name for messages.
pub(crate) struct MapFd {
    pub(crate) fd: OwnedFd,
    pub(crate) info: MapInfo,
    pub(crate) what: String,
    /// Its object, if this process has loaded it.
    pub(crate) object: Option<Arc<LoadedObject>>,
}

impl MapFd {
    /// The map pinned at `path`: for reading only, if its mode allows no more.
    pub(crate) fn pinned(path: &Path) -> Result<Self> {
        Self::opened(path, bpf::open_writable_or_not(|flags| bpf::open_pin(path, flags)))
    }

    /// The same for a pin that this process relies on: not one that another user may have put there.
    pub(crate) fn pinned_by_us(path: &Path) -> Result<Self> {
        Self::opened(path, PinDir::of(path).and_then(|(dir, name)| dir.open_our_pin(name)))
    }

    /// The same for `path` in a directory that is open.
    pub(crate) fn pinned_in(dir: &OwnedFd, path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default();
        Self::opened(path, bpf::open_writable_or_not(|flags| bpf::open_pin_in(dir.as_fd(), name, flags)))
    }

    /// Opens a directory of pins, to read what is in it.
    pub(crate) fn directory(path: &Path) -> Result<OwnedFd> {
        let opened =
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        opened.map_err(|e| {
            let what = printable(&path.to_string_lossy());
            Error::from(Cause::Open { what, error: e.into(), hint: "" })
        })
    }

    fn opened(path: &Path, fd: io::Result<OwnedFd>) -> Result<Self> {
        let what = printable(&path.to_string_lossy());
        let fd = fd.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::Other => "", // refused by this crate
                _ if path.is_dir() => {
                    "; it is a directory: name a pin in it, or open a PER_CPU_MAPS ring that is pinned there with \
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
            Error::from(Cause::Open { what: what.clone(), error, hint })
        })?;
        Self::new(fd, what)
    }

    /// The map with this id: from this object, if it is there.
    pub(crate) fn of(object: Option<&Arc<LoadedObject>>, id: u32) -> Result<Self> {
        object.and_then(|object| object.map(id)).unwrap_or_else(|| Self::id(id))
    }

    pub(crate) fn id(id: u32) -> Result<Self> {
        let what = format!("map id {id}");
        let fd = bpf::map_by_id(id).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; opening maps by id needs CAP_SYS_ADMIN: run as root, or open the region by a pin (Ring::pin, \
                     `mapring pin`)"
                }
                io::ErrorKind::NotFound => "; `bpftool map` lists the ids there are",
                _ => "",
            };
            Error::from(Cause::Open { what: what.clone(), error, hint })
        })?;
        Self::new(fd, what)
    }

    pub(crate) fn fd(fd: OwnedFd) -> Result<Self> {
        let what = format!("fd {}", fd.as_raw_fd());
        let map = Self::new(fd, what)?;
        let name = string(&map.info.name);
        let what = if name.is_empty() { map.what } else { format!("map {}", printable(&name)) };
        Ok(Self { what, ..map })
    }

    /// The same map by another descriptor.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|e| Error::system("dup", e))?;
        Ok(Self { fd, info: self.info, what: self.what.clone(), object: self.object.clone() })
    }

    /// The map of a loaded object.
    pub(crate) fn loaded(fd: OwnedFd, name: &str, object: Option<Arc<LoadedObject>>) -> Result<Self> {
        Ok(Self { object, ..Self::new(fd, format!("map {}", printable(name)))? })
    }

    /// Its types.
    pub(crate) fn types(&self) -> Types {
        Types::new(&self.info, self.object.as_deref())
    }

    /// Whether it is a map of maps.
    pub(crate) fn holds_maps(&self) -> bool {
        matches!(self.info.ty, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS)
    }

    fn new(fd: OwnedFd, what: String) -> Result<Self> {
        if !is_map(fd.as_fd()) {
            return Err(Error::from(Cause::NotARegion { what, expected: "a BPF map", hint: "" }));
        }
        let info = map_info(fd.as_fd())?;
        Ok(Self { fd, info, what, object: None })
    }

    /// How to open a map that is not an array, if mapring or libbpf can open it.
    fn how_to_open(&self) -> &'static str {
        match self.info.ty {
            MapType::ARRAY_OF_MAPS => {
                "; open a resizable ring or a PER_CPU_MAPS ring with Ring::open, and an entry with Source::inner"
            }
            MapType::HASH_OF_MAPS => "; open an entry with Source::inner",
            MapType::PROG_ARRAY => "; open it with Dispatch::open",
            MapType::RINGBUF => {
                "; show a BPF ringbuf with any::RingbufObserver, or take its records with libbpf"
            }
            _ => "",
        }
    }

    /// Checks the type of the map.
    pub(crate) fn expect(&self, ty: MapType, expected: &'static str) -> Result<()> {
        if self.info.ty == ty {
            return Ok(());
        }
        Err(self.wrong_type(expected))
    }

    /// Checks that it is an array, per-CPU or not.
    pub(crate) fn expect_array(&self) -> Result<()> {
        match self.info.ty {
            MapType::ARRAY | MapType::PERCPU_ARRAY => Ok(()),
            _ => Err(self.wrong_type("array or percpu_array")),
        }
    }

    /// The error for a map of another type.
    pub(crate) fn wrong_type(&self, expected: &'static str) -> Error {
        Error::from(Cause::MapType {
            what: self.what.clone(),
            found: self.info.ty.to_string(),
            expected,
            hint: self.how_to_open(),
        })
    }
}

/// Whether `path` is known not to be in a BPF file system.
fn is_elsewhere(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type != 0xcafe_4a11)
}

/// The kernel's information about a map.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> Result<MapInfo> {
    mapring_sys::fdinfo::map_info(map).map_err(|e| Error::system("bpf(BPF_OBJ_GET_INFO_BY_FD)", e))
}
