//! Files that this command writes. A file gets its name when it is whole: until then it is beside that name, for its owner
//! alone. So a full disk, an error or a kill neither leave a file that is cut short nor harm an older one, and a link that
//! somebody else made at the name is not followed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::OFlags;
use tempfile::{Builder, NamedTempFile};

use crate::regions::text::printable;

/// A file that is being written.
pub(crate) struct OutFile {
    path: PathBuf,
    /// Whether an existing file is replaced.
    force: bool,
    to: To,
}

enum To {
    /// A pipe, a terminal or another device.
    Stream(File),
    Part(NamedTempFile),
}

impl OutFile {
    /// A file that is removed unless it is [finished](Self::finish).
    pub(crate) fn create(path: &Path, force: bool) -> Result<Self> {
        Self::new(path, force, 0o600, |name| {
            let mut prefix = OsString::from(".");
            prefix.push(name);
            prefix.push(".");
            (prefix, 6)
        })
    }

    /// The same for a file that any user may read.
    pub(crate) fn public(path: &Path, force: bool) -> Result<Self> {
        Self::new(path, force, 0o644, |name| (name.to_owned(), 6))
    }

    /// A file that can be read while it grows: until it is finished it is [`FILE.part`](part), also after an error.
    pub(crate) fn growing(path: &Path, force: bool) -> Result<Self> {
        let mut out = Self::new(path, force, 0o600, |name| (name.to_owned(), 0))?;
        if let To::Part(part) = &mut out.to {
            part.disable_cleanup(true);
        }
        Ok(out)
    }

    fn new(
        path: &Path,
        force: bool,
        mode: u32,
        prefix: impl FnOnce(&OsString) -> (OsString, usize),
    ) -> Result<Self> {
        let shown = || shown(path);
        let of = |to| Self { path: path.to_owned(), force, to };
        if let Some(stream) = stream(path).with_context(shown)? {
            return Ok(of(To::Stream(stream)));
        }
        let name = path.file_name().with_context(|| format!("{}: not the name of a file", shown()))?;
        ensure!(!path.is_dir() || path.is_symlink(), "{}: a directory", shown());
        ensure!(force || fs::symlink_metadata(path).is_err(), exists(path));
        let (prefix, random) = prefix(&name.to_owned());
        let mut builder = Builder::new();
        let part =
            builder.prefix(&prefix).suffix(".part").rand_bytes(random).make_in(directory(path), |part| {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(mode).custom_flags(flags(OFlags::NOFOLLOW));
                options.open(part)
            });
        Ok(of(To::Part(part.with_context(shown)?)))
    }

    /// For the writer of its content.
    pub(crate) fn writer(&self) -> Result<File> {
        let file = match &self.to {
            To::Stream(file) => file,
            To::Part(part) => part.as_file(),
        };
        file.try_clone().with_context(|| self.shown())
    }

    /// Where it is until it is finished; for messages.
    pub(crate) fn shown(&self) -> String {
        match &self.to {
            To::Part(_) => shown(&part(&self.path)),
            To::Stream(_) => shown(&self.path),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a file with a name, not a pipe or a device.
    pub(crate) fn is_regular(&self) -> bool {
        matches!(self.to, To::Part(_))
    }

    /// Gives the file its name, once it is on the disk.
    pub(crate) fn finish(self) -> Result<()> {
        let path = self.path.clone();
        self.finish_as(&path)
    }

    /// The same with another name in its directory.
    pub(crate) fn finish_as(self, path: &Path) -> Result<()> {
        let To::Part(part) = self.to else { return Ok(()) };
        part.as_file().sync_all().with_context(|| shown(path))?;
        let named = if self.force { part.persist(path) } else { part.persist_noclobber(path) };
        named.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => anyhow!(exists(path)),
            _ => anyhow::Error::from(e.error).context(shown(path)),
        })?;
        // The name is on the disk as well, if the file system can do that.
        let _ = File::open(directory(path)).and_then(|directory| directory.sync_all());
        Ok(())
    }
}

/// The name of a file while it grows.
pub(crate) fn part(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".part");
    name.into()
}

fn exists(path: &Path) -> String {
    format!("{}: the file exists; --force replaces it", shown(path))
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Opens what is no file at all, but a pipe or a device; `None` for any other path.
fn stream(path: &Path) -> Result<Option<File>> {
    let cloned = |fd: io::Result<_>| Ok(Some(File::from(fd?)));
    match path.to_str() {
        Some("/dev/stdout") => return cloned(io::stdout().as_fd().try_clone_to_owned()),
        Some("/dev/stderr") => return cloned(io::stderr().as_fd().try_clone_to_owned()),
        _ => {}
    }
    // Another file that this process was started with, by its number. Not one of another process, whose numbers another user
    // may choose; and not by `path`, which may lead elsewhere by now.
    if let Ok(own) = fs::canonicalize("/proc/self/fd")
        && let Some(number) = path.file_name()
        && fs::canonicalize(directory(path)).is_ok_and(|directory| directory == own)
    {
        return Ok(Some(File::create(own.join(number))?));
    }
    let is_stream = |metadata: &fs::Metadata| {
        let of = metadata.file_type();
        let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
        ensure!(!of.is_fifo() || is_ours, "another user made this pipe, and would read what is written");
        Ok(!(of.is_file() || of.is_dir() || of.is_symlink()))
    };
    // Before it is opened, which waits for the reader of a pipe; and afterwards, since it may be another one.
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(None) };
    if !is_stream(&found)? {
        return Ok(None);
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NOCTTY)).open(path)?;
    Ok(is_stream(&file.metadata()?)?.then_some(file))
}
