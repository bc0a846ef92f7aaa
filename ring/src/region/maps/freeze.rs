//! Freezes and pins maps: then only BPF programs can write them, and other processes read them through the pin.
//!
//! Linux 6.18 has these mechanisms against the programs of other processes. `proofs/kernel/tests/seal_limits.rs` shows
//! the first one.
//!
//! | mechanism | result |
//! |---|---|
//! | exclusive map: `excl_prog_hash` of `BPF_MAP_CREATE` | Works: only the program whose instructions have this SHA-256 can use the map (else EACCES), and userspace as any other map. Not in a map of maps (error 524). One program for each map; the hash covers neither its maps nor its type, so others can run the same program. |
//! | `BPF_F_RDONLY_PROG` | Works against all programs, the loader's too. For maps that userspace writes. |
//! | BPF LSM program on `bpf_prog_load` or `bpf_map` | A policy for the whole machine. Not tried. |
//! | mode `0640` or `0660` with a group, in a directory that only the group can search | Fewer processes can open the pin. Those that can are as powerful as before. |
//! | map of maps, BPF tokens | No protection: a program that finds the outer map finds the inner one; tokens only grant. |

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use mapring_core::text::printable;
use mapring_sys::ENOTSUPP;
use mapring_sys::PinAccess;
use mapring_sys::bpf;
use mapring_sys::fdinfo::is_frozen;
use mapring_sys::stage::{READERS, Stage, with_suffix};
use rustix::io::Errno;

use super::readers::{are_readers, companions_to_pin};
use crate::error::{Cause, Error, Result};
use crate::region::Region;

/// Controls whether processes without privilege may load BPF programs: 0 allows it, 1 forbids it until the next boot, 2
/// forbids it until root changes the value.
const UNPRIVILEGED_BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";

/// Permissions that let processes of other users open a pin.
const OTHERS: u32 = 0o066;

/// How a region is pinned: the mode of the pin, its group, and what the caller accepts. A mode alone is enough:
/// `ring.pin(path, 0o600)`, `ring.freeze_and_pin(path, 0o666)`.
///
/// A frozen map can be opened by:
///
/// - `0o666`: any process. It maps it and reads without system calls.
/// - `PinOptions::new(0o660).group(id)`: the processes of one group, in the same way.
/// - `0o444`, or `0o440` and a group: Linux does not map read-only file descriptors, so readers make system calls.
///
/// Readers also need search permission on the directories above. `docs/guarantees.md` has all of this as a table, and other
/// ways to let other processes read a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct PinOptions {
    mode: u32,
    group: Option<u32>,
    allow_unprivileged_bpf: bool,
    replace: bool,
    /// Freeze the map first.
    pub(crate) freeze: bool,
}

impl PinOptions {
    /// A pin with this mode, such as `0o666`, of the caller's own group.
    pub fn new(mode: u32) -> Self {
        Self { mode, group: None, allow_unprivileged_bpf: false, replace: false, freeze: false }
    }

    /// Gives the pin to this group.
    pub fn group(self, group: u32) -> Self {
        Self { group: Some(group), ..self }
    }

    /// Replaces what is pinned there, if anything is. A process that opens the path at any moment finds the earlier region or
    /// this one, whole: a ring with its readers and bells, a `PER_CPU_MAPS` ring with all its maps (to replace a directory needs Linux
    /// 5.16). This is also so if the process that replaces dies meanwhile. Without this option, a path that exists is an error.
    pub fn replace(self, replace: bool) -> Self {
        Self { replace, ..self }
    }

    /// Allows a frozen map that other users can open even while `kernel.unprivileged_bpf_disabled` is 0. Each process that
    /// opens such a pin can load a BPF program that overwrites the map. Without this option the result is
    /// [`ErrorKind::CannotSeal`](crate::ErrorKind::CannotSeal).
    pub fn allow_unprivileged_bpf(self, allow: bool) -> Self {
        Self { allow_unprivileged_bpf: allow, ..self }
    }

    pub(crate) fn freezing(self) -> Self {
        Self { freeze: true, ..self }
    }
}

impl From<u32> for PinOptions {
    fn from(mode: u32) -> Self {
        Self::new(mode)
    }
}

impl From<PinOptions> for PinAccess {
    fn from(options: PinOptions) -> Self {
        Self { owner: None, group: options.group, mode: options.mode }
    }
}

/// The functions that pin a handle, the same for each, with what is to be said of this one.
macro_rules! pinning {
    ([$($generics:tt)*] $handle:ty, $pin_doc:literal, $freeze_doc:literal, $publish:expr) => {
        impl<$($generics)*> $handle {
            /// Pins it at `path`, with a mode such as `0o600` or other [`PinOptions`](crate::loader::PinOptions).
            #[doc = $pin_doc]
            /// Nobody but root and this user may be able to exchange names in the directory. Makes system calls.
            ///
            /// # Errors
            /// [`ErrorKind::System`](crate::ErrorKind::System) if `path` exists (see
            /// [`PinOptions::replace`](crate::loader::PinOptions::replace)), or is not in a BPF file system, and for a memfd.
            pub fn pin(
                &self,
                path: impl AsRef<std::path::Path>,
                options: impl Into<crate::region::maps::PinOptions>,
            ) -> crate::Result<()> {
                self.publish(path.as_ref(), options.into())
            }

            /// [Pins](Self::pin) it after freezing its maps, so that processes without privilege can read it:
            /// `freeze_and_pin(path, 0o666)`. Call it in the loader, once there is a preamble
            /// (`mapring_loader::initialize` writes it) and no process has the map mapped for writing. Maps
            /// that are frozen already are only pinned. Makes system calls.
            #[doc = $freeze_doc]
            ///
            /// From then on no process can write the map: not through a mapping, not by `bpf(2)`, not as root. BPF programs
            /// still can, and **any process that can open the pin and load a BPF program can load one that writes the map**;
            /// mode `0o444` does not prevent that. With CAP_BPF a process can always load programs. Without it, it can while
            /// the sysctl `kernel.unprivileged_bpf_disabled` is 0. So this call refuses a pin that other users can open while
            /// procfs shows that the sysctl is 0; see
            /// [`PinOptions::allow_unprivileged_bpf`](crate::loader::PinOptions::allow_unprivileged_bpf).
            ///
            /// Removing the pin does not take back what others opened. A process that opened it keeps its file descriptor,
            /// and can pin the map again in any BPF file system directory that it may write.
            ///
            /// # Errors
            /// [`ErrorKind::CannotSeal`](crate::ErrorKind::CannotSeal) with the step that failed, and the remedy.
            pub fn freeze_and_pin(
                &self,
                path: impl AsRef<std::path::Path>,
                options: impl Into<crate::region::maps::PinOptions>,
            ) -> crate::Result<()> {
                self.publish(path.as_ref(), options.into().freezing())
            }

            fn publish(&self, path: &std::path::Path, how: crate::region::maps::PinOptions) -> crate::Result<()> {
                let publish: fn(&Self, &std::path::Path, crate::region::maps::PinOptions) -> crate::Result<()> = $publish;
                publish(self, path, how)
            }
        }
    };
}
pub(crate) use pinning;

/// Pins regions, each with its companions: one at `path`, or several in a directory there, each with its name.
pub(crate) fn publish(regions: &[(Option<String>, &Region)], path: &Path, how: PinOptions) -> Result<()> {
    let Some((_, first)) = regions.first() else { return Ok(()) };
    let what = first.what();
    let exposed = how.freeze && how.mode & OTHERS != 0 && !how.allow_unprivileged_bpf;
    if exposed && is_unprivileged_bpf_allowed() {
        return Err(Error::from(Cause::UnprivilegedBpf { what: what.to_owned(), mode: how.mode }));
    }
    let refused = |e| not_pinned(what, path, how, e);
    let stage = Stage::beside(path).map_err(refused)?;
    let others = companions_to_pin(first)?;
    let suffixes = || std::iter::once("").chain(others.iter().map(|(suffix, _)| *suffix));
    // A place that is refused leaves the map as it was: a freeze can't be undone.
    if !how.replace {
        let beside = if matches!(regions, [(None, _)]) { others.len() } else { 0 };
        suffixes().take(1 + beside).try_for_each(|suffix| stage.expect_free(suffix)).map_err(refused)?;
    }
    for (_, region) in regions.iter().filter(|_| how.freeze) {
        freeze(region.as_fd(), region.what())?;
    }
    let access = how.into();
    let done = match regions {
        [(None, region)] => {
            let fds = std::iter::once(region.as_fd()).chain(others.iter().map(|(_, map)| map.as_fd()));
            stage.publish(&suffixes().zip(fds).collect::<Vec<_>>(), access, how.replace)
        }
        several => stage.publish_dir(how.replace, |dir| {
            let name = |at: usize| several[at].0.clone().unwrap_or_default();
            let maps = several.iter().enumerate().map(|(at, (_, region))| (name(at), region.as_fd()));
            let others = others.iter().map(|(suffix, map)| (name(0) + suffix, map.as_fd()));
            maps.chain(others).try_for_each(|(name, map)| {
                dir.pin(map, OsStr::new(&name))?;
                dir.set_access_of(OsStr::new(&name), access)
            })
        }),
    };
    done.map_err(refused)?;
    if others.is_empty() && are_readers(&with_suffix(path, READERS)) {
        // Those of a ring that was replaced. If this process dies before, `mapring clean` removes them.
        stage.remove_companions().map_err(refused)?;
    }
    Ok(())
}

/// Pins `map` at `path` in place of the earlier pin, with its owner and mode.
pub(crate) fn renew_pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let stage = Stage::beside(path)?;
    stage.publish(&[("", map)], stage.access()?, true)
}

/// The error for a pin that could not be made.
pub(crate) fn not_pinned(what: &str, path: &Path, how: PinOptions, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            "; something is already pinned there: remove it first, or replace it (PinOptions::replace)"
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
    bpf::freeze(fd).map_err(|error| {
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
