//! Sealing: a map that programs alone write from now on, and that others may read.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::io::Errno;

use super::lookup;
use crate::error::{Error, Result};

/// Freezes the map, and pins it at `path` with this mode and group.
pub(crate) fn seal(fd: BorrowedFd<'_>, what: &str, path: &Path, mode: u32, group: Option<u32>) -> Result<()> {
    let failed =
        |step: String, error: io::Error, hint| Error::Seal { what: what.to_owned(), step, error, hint };
    if is_frozen(fd) != Some(true) {
        lookup::freeze(fd).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::ResourceBusy => {
                    "; somebody has it mapped for writing: drop the handles that were opened with Options::write, and \
                     libbpf-rs objects whose global data it is"
                }
                io::ErrorKind::PermissionDenied => "; the descriptor is read-only: its loader can seal it",
                _ if error.raw_os_error() == Some(super::ENOTSUPP) => {
                    "; no map is frozen whose values hold a lock or a timer: keep those in a map of their own"
                }
                _ if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    "; only BPF maps are sealed so: memfds by Region::seal_writes"
                }
                _ => "",
            };
            failed("bpf(BPF_MAP_FREEZE)".to_owned(), error, hint)
        })?;
    }
    lookup::pin(fd, path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => "; somebody is pinned there: remove that first",
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
                "; is that in a BPF file system (mount -t bpf bpf /sys/fs/bpf), in a directory that you may write?"
            }
            _ => "",
        };
        failed(format!("pin at {}", path.display()), error, hint)
    })?;
    // Nobody gets in before: a new pin is for its owner alone.
    let opened = chown(path, None, group).and_then(|()| set_permissions(path, Permissions::from_mode(mode)));
    opened.map_err(|error| {
        // What could not be done for others is not left half done.
        let _ = std::fs::remove_file(path);
        failed(format!("chgrp and chmod {mode:o} {}", path.display()), error, "")
    })
}

/// Whether the map is frozen; nothing, where procfs does not tell.
pub(crate) fn is_frozen(fd: BorrowedFd<'_>) -> Option<bool> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let frozen = info.lines().find_map(|line| line.strip_prefix("frozen:"))?;
    Some(frozen.trim() == "1")
}
