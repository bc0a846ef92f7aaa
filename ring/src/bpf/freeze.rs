//! Freezes and pins maps: then only BPF programs can write them, and other processes read them through the pin.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::io::Errno;

use super::fdinfo::is_frozen;
use super::sys;
use super::uapi::ENOTSUPP;
use crate::error::{Cause, Error, Result};
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

/// Freezes the map, and pins it at `path`.
pub(super) fn freeze_and_pin(fd: BorrowedFd<'_>, what: &str, path: &Path, options: PinOptions) -> Result<()> {
    let failed = |step: String, error: io::Error, hint| {
        Error::from(Cause::Seal { what: what.to_owned(), step, error, hint })
    };
    let PinOptions { mode, group, allow_unprivileged_bpf } = options;
    if mode & OTHERS != 0 && !allow_unprivileged_bpf && is_unprivileged_bpf_allowed() {
        return Err(Error::from(Cause::UnprivilegedBpf { what: what.to_owned(), mode }));
    }
    if is_frozen(fd) != Some(true) {
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
            failed("bpf(BPF_MAP_FREEZE)".to_owned(), error, hint)
        })?;
    }
    sys::pin(fd, path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => "; something is already pinned there: remove it first",
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
                "; pins need a BPF file system (mount -t bpf -o mode=0755 bpf /sys/fs/bpf) and a directory in it \
                 that you may write"
            }
            _ => "",
        };
        failed(format!("pin at {}", printable(&path.to_string_lossy())), error, hint)
    })?;
    // No other user can open it before: a new pin has permissions only for its owner.
    let opened = chown(path, None, group).and_then(|()| set_permissions(path, Permissions::from_mode(mode)));
    opened.map_err(|error| {
        // If a step for other users fails, the pin is removed.
        let _ = std::fs::remove_file(path);
        failed(format!("chgrp and chmod {mode:o} {}", printable(&path.to_string_lossy())), error, "")
    })
}

/// Whether procfs shows that processes without privilege can load BPF programs.
fn is_unprivileged_bpf_allowed() -> bool {
    std::fs::read_to_string(UNPRIVILEGED_BPF).is_ok_and(|value| value.trim() == "0")
}
