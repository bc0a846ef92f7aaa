//! Freezes and pins maps: then only BPF programs can write them, and other processes read them through the pin.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use super::fdinfo::is_frozen;
use super::pins::PinAccess;
use super::readers::companions_to_pin;
use super::stage::Stage;
use super::sys;
use super::uapi::ENOTSUPP;
use crate::error::{Cause, Error, Result};
use crate::region::Region;
use crate::text::printable;

/// Controls whether processes without privilege may load BPF programs: 0 allows it, 1 forbids it until the next boot, 2
/// forbids it until root changes the value.
const UNPRIVILEGED_BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";

/// Permissions that let processes of other users open a pin.
const OTHERS: u32 = 0o066;

/// Options for the pin of [`Region::freeze_and_pin`](crate::Region::freeze_and_pin): its mode, its group, and what the
/// caller accepts. A mode alone is enough: `region.freeze_and_pin(path, 0o666)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct PinOptions {
    mode: u32,
    group: Option<u32>,
    allow_unprivileged_bpf: bool,
}

impl PinOptions {
    /// A pin with this mode, such as `0o666`, of the caller's own group.
    pub fn new(mode: u32) -> Self {
        Self { mode, group: None, allow_unprivileged_bpf: false }
    }

    /// Gives the pin to this group.
    pub fn group(self, group: u32) -> Self {
        Self { group: Some(group), ..self }
    }

    /// Allows a pin that other users can open even while `kernel.unprivileged_bpf_disabled` is 0. Each process that
    /// opens such a pin can load a BPF program that overwrites the map. Without this option the result is
    /// [`ErrorKind::CannotSeal`](crate::ErrorKind::CannotSeal).
    pub fn allow_unprivileged_bpf(self, allow: bool) -> Self {
        Self { allow_unprivileged_bpf: allow, ..self }
    }
}

impl From<u32> for PinOptions {
    fn from(mode: u32) -> Self {
        Self::new(mode)
    }
}

/// How maps are pinned.
#[derive(Clone, Copy)]
pub(crate) struct Publish {
    pub(crate) options: PinOptions,
    /// Freeze the map first.
    pub(crate) freeze: bool,
    /// Replace what is pinned there.
    pub(crate) replace: bool,
}

impl From<PinOptions> for PinAccess {
    fn from(options: PinOptions) -> Self {
        Self { owner: None, group: options.group, mode: options.mode }
    }
}

/// Pins regions, each with its companions: one at `path`, or several in a directory there, each with its name.
pub(crate) fn publish(regions: &[(Option<String>, &Region)], path: &Path, how: Publish) -> Result<()> {
    let Some((_, first)) = regions.first() else { return Ok(()) };
    let what = first.what();
    let PinOptions { mode, allow_unprivileged_bpf, .. } = how.options;
    let exposed = how.freeze && mode & OTHERS != 0 && !allow_unprivileged_bpf;
    if exposed && is_unprivileged_bpf_allowed() {
        return Err(Error::from(Cause::UnprivilegedBpf { what: what.to_owned(), mode }));
    }
    // A place that is refused leaves the map as it was: a freeze can't be undone.
    let stage = Stage::beside(path).map_err(|e| not_pinned(what, path, how, e))?;
    for (_, region) in regions.iter().filter(|_| how.freeze) {
        freeze(region.as_fd(), region.what())?;
    }
    let access = how.options.into();
    let done = match regions {
        [(None, region)] => {
            let others = companions_to_pin(region)?;
            let all = [("", region.as_fd())].into_iter();
            let all: Vec<_> = all.chain(others.iter().map(|(suffix, map)| (*suffix, map.as_fd()))).collect();
            stage.publish(&all, access, how.replace)
        }
        several => stage.publish_dir(how.replace, |dir| {
            several.iter().try_for_each(|(name, region)| {
                let name = OsStr::new(name.as_deref().unwrap_or_default());
                dir.pin(region, name)?;
                dir.set_access_of(name, access)
            })
        }),
    };
    done.map_err(|e| not_pinned(what, path, how, e))
}

/// Pins `map` at `path` in place of the earlier pin, with its owner and mode.
pub(crate) fn renew_pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let stage = Stage::beside(path)?;
    stage.publish(&[("", map)], stage.access()?, true)
}

/// The error for a pin that could not be made.
fn not_pinned(what: &str, path: &Path, how: Publish, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            "; something is already pinned there: remove it first, or replace it (Ring::replace_pin)"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
            "; pins need a BPF file system (mount -t bpf -o mode=0755 bpf /sys/fs/bpf) and a directory in it \
             that you may write"
        }
        _ => "",
    };
    let path = printable(&path.to_string_lossy());
    if how.freeze {
        let step = format!("pin at {path}");
        return Error::from(Cause::Seal { what: what.to_owned(), step, error, hint });
    }
    Error::from(Cause::Pin { what: what.to_owned(), path, error, hint })
}

fn freeze(fd: BorrowedFd<'_>, what: &str) -> Result<()> {
    if is_frozen(fd) == Some(true) {
        return Ok(());
    }
    sys::freeze(fd).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::ResourceBusy => {
                "; a process has it mapped for writing: drop the handles that were opened with OpenOptions::write, and \
                 libbpf-rs objects whose global data it is"
            }
            io::ErrorKind::PermissionDenied => {
                "; the file descriptor is read-only: call this in the loader, or on a region opened from a \
                 read-write descriptor"
            }
            _ if error.raw_os_error() == Some(ENOTSUPP) => {
                "; the kernel freezes no map whose values hold a bpf_spin_lock or a bpf_timer: keep those in a \
                 map of their own"
            }
            _ if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                "; only BPF maps can be frozen: for a memfd call Region::seal_future_writes"
            }
            _ => "",
        };
        let step = "bpf(BPF_MAP_FREEZE)".to_owned();
        Error::from(Cause::Seal { what: what.to_owned(), step, error, hint })
    })
}

/// Whether procfs shows that processes without privilege can load BPF programs.
fn is_unprivileged_bpf_allowed() -> bool {
    std::fs::read_to_string(UNPRIVILEGED_BPF).is_ok_and(|value| value.trim() == "0")
}
