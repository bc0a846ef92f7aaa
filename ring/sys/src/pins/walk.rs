//! The way to a directory of pins: each name in it is opened by the descriptor of the one before, and checked.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::PinDir;

/// The file systems whose names only the kernel makes.
const PROC: i64 = 0x9fa0;
const SYSFS: i64 = 0x6265_6572;
/// As many symbolic links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Opens a directory name by name, and checks each. Makes those that are missing in a BPF file system, if it gets a mode.
pub(super) fn walk(path: &Path, mode: Option<u32>) -> io::Result<PinDir> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let names = |path: &Path| -> Vec<_> {
        path.components().rev().map(|name: Component<'_>| name.as_os_str().to_owned()).collect()
    };
    // An absolute path begins with the name `/`.
    let mut left = names(&std::path::absolute(path)?);
    let mut at = PinDir { fd: openat(CWD, "/", flags, Mode::empty())?, path: "/".into() };
    let mut links = 0;
    while let Some(name) = left.pop() {
        let (found, made) = match (openat(&at.fd, &name, flags, Mode::empty()), mode) {
            (Err(Errno::NOENT), Some(_)) => {
                at = at.expect_pins()?;
                let made = match mkdirat(&at.fd, &name, Mode::RWXU) {
                    Err(Errno::EXIST) => false,
                    made => made.map(|()| true)?,
                };
                (openat(&at.fd, &name, flags, Mode::empty()), made)
            }
            (found, _) => (found, false),
        };
        let mut next = PinDir { fd: found?, path: at.path.join(&name) };
        let found = fstat(&next.fd)?;
        let system = fstatfs(&next.fd)?.f_type;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                next.expect_owner(&found)?;
                if system == PROC {
                    // The text of such a link isn't where it leads.
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    next.fd = openat(&at.fd, &name, flags, Mode::empty())?;
                    next.expect_safe(&fstat(&next.fd)?)?;
                    at = next;
                } else {
                    let text = readlinkat(&next.fd, "", Vec::new())?;
                    left.extend(names(Path::new(OsStr::from_bytes(text.as_bytes()))));
                }
            }
            FileType::Directory => {
                if system != PROC && system != SYSFS {
                    next.expect_safe(&found)?;
                }
                if let Some(mode) = mode.filter(|_| made) {
                    next.set_access(None, mode)?; // it does not depend on the umask
                }
                at = next;
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(at)
}
