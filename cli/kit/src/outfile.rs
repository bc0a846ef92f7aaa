//! Files that this command writes. A file gets its name when it is whole: until then it is beside that name, for its owner
//! alone. So a full disk, an error or a kill neither leave a file that is cut short nor harm an older one, and a link that
//! somebody else made at the name is not followed.

mod destination;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::OFlags;
use tempfile::Builder;

pub use self::destination::Destination;
use self::destination::reopen;

/// A file that is being written.
pub struct OutFile {
    destination: Destination,
    /// Whether an existing file is replaced.
    force: bool,
    to: To,
}

enum To {
    /// A pipe, a terminal or another device.
    Stream(File),
    Part(Part),
}

struct Part {
    file: File,
    at: Destination,
    /// Whether it is removed unless it gets its name.
    is_hidden: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_hidden {
            let _ = self.at.remove();
        }
    }
}

impl OutFile {
    /// A file that is removed unless it is [finished](Self::finish).
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        Self::hidden(path, force, 0o600)
    }

    /// The same for a file that any user may read.
    pub fn public(path: &Path, force: bool) -> Result<Self> {
        Self::hidden(path, force, 0o644)
    }

    fn hidden(path: &Path, force: bool, mode: u32) -> Result<Self> {
        let destination = Destination::of(path)?;
        Self::new(destination, force, |destination| {
            let mut prefix = OsString::from(".");
            prefix.push(destination.name());
            prefix.push(".");
            let mut builder = Builder::new();
            builder.prefix(&prefix).suffix(".part").disable_cleanup(true);
            // Only its names are of use here: they are free ones of the directory, not of the root.
            let at = |path: &Path| destination.named(path.file_name().unwrap_or_default());
            let part = builder.make_in("/", |path| at(path).create(mode));
            let (file, path) = part.with_context(|| destination.shown())?.into_parts();
            Ok(Part { file, at: at(&path), is_hidden: true })
        })
    }

    /// A file that can be read while it grows: until it is finished it is FILE.part, also after an error. It is locked. `force`
    /// also replaces what is left of a command that was killed.
    pub fn growing(destination: Destination, force: bool) -> Result<Self> {
        Self::new(destination, force, |destination| {
            let at = destination.part();
            if let Some(_lock) = at.lock_file()? {
                let how =
                    "a command that was killed left it; rename it to keep it, or replace it with --force";
                ensure!(force, "{}: {how}", at.shown());
                at.remove().with_context(|| at.shown())?;
            }
            let file = at.create(0o600).with_context(|| at.shown())?;
            at.lock(&file)?;
            Ok(Part { file, at, is_hidden: false })
        })
    }

    fn new(
        destination: Destination,
        force: bool,
        part: impl FnOnce(&Destination) -> Result<Part>,
    ) -> Result<Self> {
        let to = match stream(&destination, force).with_context(|| destination.shown())? {
            Some(stream) => To::Stream(stream),
            None => To::Part(part(&destination)?),
        };
        Ok(Self { destination, force, to })
    }

    /// For the writer of its content.
    pub fn writer(&self) -> Result<File> {
        let file = match &self.to {
            To::Stream(file) => file,
            To::Part(part) => &part.file,
        };
        file.try_clone().with_context(|| self.shown())
    }

    /// The name for messages: where it can be read until it is finished, or what the user gave.
    pub fn shown(&self) -> String {
        match &self.to {
            To::Part(part) if !part.is_hidden => part.at.shown(),
            _ => self.destination.shown(),
        }
    }

    /// As the user named it.
    pub fn path(&self) -> &Path {
        self.destination.path()
    }

    /// Whether it is a file with a name, not a pipe or a device.
    pub fn is_regular(&self) -> bool {
        matches!(self.to, To::Part(_))
    }

    /// Gives the file its name, once it is on the disk.
    pub fn finish(self) -> Result<()> {
        let To::Part(mut part) = self.to else { return Ok(()) };
        let shown = || self.destination.shown();
        part.file.sync_all().with_context(shown)?;
        part.at.rename(&self.destination, self.force).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => anyhow!(EXISTS).context(shown()),
            _ => anyhow::Error::from(e).context(shown()),
        })?;
        part.is_hidden = false;
        self.destination.sync_names();
        Ok(())
    }
}

const EXISTS: &str = "the file exists; --force replaces it";

/// Opens a pipe or a device. `None` if the name is free, or has a regular file or a link: then a new file gets it.
fn stream(destination: &Destination, force: bool) -> Result<Option<File>> {
    let path = destination.path();
    let cloned = |fd: io::Result<_>| Ok(Some(File::from(fd?)));
    match path.to_str() {
        Some("/dev/stdout") => return cloned(io::stdout().as_fd().try_clone_to_owned()),
        Some("/dev/stderr") => return cloned(io::stderr().as_fd().try_clone_to_owned()),
        _ => {}
    }
    // Another file that this process was started with, by its number. Only if the user says so: another user's link to this
    // directory could choose any file that is open here.
    if path.parent().is_some_and(|of| [Path::new("/dev/fd"), Path::new("/proc/self/fd")].contains(&of)) {
        return Ok(Some(File::create(path)?));
    }
    let Some((found, metadata)) = destination.find()? else { return Ok(None) };
    let of = metadata.file_type();
    ensure!(!of.is_dir(), "a directory");
    if of.is_file() || of.is_symlink() {
        ensure!(force, EXISTS);
        return Ok(None);
    }
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    ensure!(!of.is_fifo() || is_ours, "another user made this pipe, and would read what is written");
    // The very one that was looked at: another pipe could wait for its reader without end.
    Ok(Some(reopen(&found, OFlags::NOCTTY)?))
}
