//! Writes an initramfs: a cpio archive in the `newc` format, as the kernel unpacks it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive being written.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    known: BTreeSet<String>,
}

impl Archive {
    /// Adds an empty folder, and those that lead to it.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.entry(path, FOLDER, &[])
    }

    /// Adds a file that anyone may read and run, and the folders that lead to it. The first of a name wins.
    pub(crate) fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.entry(path, PROGRAM, content)
    }

    /// The archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", 0, 0);
        self.bytes
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        let name = path.to_str().with_context(|| format!("not UTF-8: {}", path.display()))?;
        ensure!(path.is_absolute(), "not absolute: {name}");
        let name = name.trim_start_matches('/');
        if name.is_empty() || !self.known.insert(name.to_owned()) {
            return Ok(());
        }
        let size =
            u32::try_from(content.len()).with_context(|| format!("too long for an initramfs: {name}"))?;
        self.header(name, mode, size);
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn header(&mut self, name: &str, mode: u32, size: u32) {
        self.entries += 1;
        let name_size = u32::try_from(name.len() + 1).expect("a path is short");
        let (owner, links, time, device, check) = (0, 1, 0, 0, 0);
        self.bytes.extend_from_slice(b"070701");
        for field in [
            self.entries,
            mode,
            owner,
            owner,
            links,
            time,
            size,
            device,
            device,
            device,
            device,
            name_size,
            check,
        ] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_the_format_says() {
        let mut archive = Archive::default();
        archive.file(Path::new("/a/b"), b"hello").unwrap();
        archive.file(Path::new("/a/b"), b"again").unwrap();
        archive.folder(Path::new("/a")).unwrap();
        let bytes = archive.finish();
        let names = ["a\0", "a/b\0", "TRAILER!!!\0"];
        let mut at = 0;
        for (name, (mode, content)) in
            names.iter().zip([("000041ed", ""), ("000081ed", "hello"), ("00000000", "")])
        {
            let field = |n: usize| std::str::from_utf8(&bytes[at + 6 + 8 * n..][..8]).unwrap();
            assert_eq!((&bytes[at..at + 6], field(1)), (&b"070701"[..], mode));
            assert_eq!(field(6), format!("{:08x}", content.len()));
            assert_eq!(field(11), format!("{:08x}", name.len()));
            assert_eq!(&bytes[at + 110..][..name.len()], name.as_bytes());
            at = (at + 110 + name.len()).next_multiple_of(4);
            assert_eq!(&bytes[at..][..content.len()], content.as_bytes());
            at = (at + content.len()).next_multiple_of(4);
        }
        assert_eq!(at, bytes.len());
        assert!(Archive::default().file(Path::new("relative"), b"").is_err());
    }
}
