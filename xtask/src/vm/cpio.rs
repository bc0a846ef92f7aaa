//! The files of an initramfs: a cpio archive in the `newc` format, which the kernel unpacks.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cpio::newc::{Builder, trailer};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    known: BTreeSet<String>,
}

impl Archive {
    /// Adds an empty folder, and its parents.
    pub(super) fn folder(&mut self, path: &Path) -> Result<()> {
        self.entry(path, FOLDER, &[])
    }

    /// Adds a file that anyone may read and execute, and its parents. The first file of a name wins.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, content)
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        Ok(trailer(self.bytes)?)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        let name = path.to_str().with_context(|| format!("not UTF-8: {}", path.display()))?;
        ensure!(path.is_absolute(), "not absolute: {name}");
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        let name = name.trim_start_matches('/');
        if name.is_empty() || !self.known.insert(name.to_owned()) {
            return Ok(());
        }
        let size =
            u32::try_from(content.len()).with_context(|| format!("too long for an initramfs: {name}"))?;
        let mut entry = Builder::new(name).mode(mode).write(&mut self.bytes, size);
        entry.write_all(content)?;
        entry.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    #[test]
    fn entries_are_unique_and_follow_their_folders() {
        let mut archive = Archive::default();
        archive.file(Path::new("/a/b"), b"hello").unwrap();
        archive.file(Path::new("/a/b"), b"again").unwrap();
        archive.folder(Path::new("/a")).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut rest = &bytes[..];
        for (name, mode, content) in [("a", FOLDER, ""), ("a/b", PROGRAM, "hello"), ("TRAILER!!!", 0, "")] {
            let mut reader = Reader::new(rest).unwrap();
            assert_eq!((reader.entry().name(), reader.entry().mode()), (name, mode));
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, content);
            rest = reader.finish().unwrap();
        }
        assert!(rest.is_empty());
        assert!(Archive::default().file(Path::new("relative"), b"").is_err());
    }
}
