//! What is mapped in a process, as `/proc/PID/maps` says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::procfs::{self, Process, Ticks};

/// No more of the file is read.
const MOST: u64 = 16 << 20;

pub(super) struct Mapping {
    pub(super) start: u64,
    end: u64,
    pub(super) offset: u64,
    pub(super) is_code: bool,
    /// The device's numbers and the inode. The latter is 0 if no file is mapped.
    pub(super) file: (u32, u32, u64),
    path: Vec<u8>,
}

/// The address space of a process that is present.
pub(super) struct Space {
    pub(super) pid: u32,
    /// In the order of their addresses.
    mappings: Vec<Mapping>,
}

impl Space {
    /// Reads it. Without mappings if the process has ended, or belongs to another user.
    pub(super) fn of(process: &Process) -> Self {
        let pid = process.pid;
        let mut text = Vec::new();
        let read =
            File::open(format!("/proc/{pid}/maps")).and_then(|file| file.take(MOST).read_to_end(&mut text));
        // Another process can have got the number meanwhile. The kernel's ticks are not more exact.
        let now = procfs::process(pid, &Ticks::new());
        let is_same = now.is_some_and(|now| now.start.abs_diff(process.start) < 20_000_000);
        if read.is_err() || !is_same {
            return Self { pid, mappings: Vec::new() };
        }
        Self { pid, mappings: text.split(|&byte| byte == b'\n').filter_map(parse).collect() }
    }

    /// Whether it could be read.
    pub(super) fn is_known(&self) -> bool {
        !self.mappings.is_empty()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(|mapping| mapping.is_file())
    }

    pub(super) fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings.get(after.checked_sub(1)?).filter(|mapping| address < mapping.end)
    }

    /// A link to what is mapped, also if it has no name any more.
    pub(super) fn map_file(&self, mapping: &Mapping) -> PathBuf {
        format!("/proc/{}/map_files/{:x}-{:x}", self.pid, mapping.start, mapping.end).into()
    }
}

impl Mapping {
    pub(super) fn is_file(&self) -> bool {
        self.file.2 != 0
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.strip_suffix(b" (deleted)").unwrap_or(&self.path)))
    }

    /// The last part of the path, or what stands there instead: `[vdso]`. Empty if nothing does.
    pub(super) fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// `55d0-55e0 r-xp 00002000 08:01 123   /usr/bin/cat`.
fn parse(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        rest = after.trim_ascii_start();
        std::str::from_utf8(field).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = field()?.split_once('-')?;
    let is_code = field()?.contains('x');
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    let device = |text: &str| u32::from_str_radix(text, 16).ok();
    let file = (device(major)?, device(minor)?, inode);
    Some(Mapping { start: hex(start)?, end: hex(end)?, offset, is_code, file, path: rest.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_mappings() {
        let mapping =
            parse(b"1000-2f00 r-xp 00002000 08:1a 123                    /tmp/a b\\012 (deleted)").unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x1000, 0x2f00, 0x2000));
        assert_eq!((mapping.is_code, mapping.file, &*mapping.name()), (true, (8, 0x1a, 123), "a b\\012"));
        let vdso = parse(b"1000-2000 r-xp 00000000 00:00 0   [vdso]").unwrap();
        assert!(!vdso.is_file() && vdso.name() == "[vdso]");
        for line in
            ["", "-", "1-2", "1-2 r-xp 0 0:0", "1-2 r-xp 0 0:0 x", "1-2 r-xp g 0:0 1", "x-2 r-xp 0 0:0 1"]
        {
            assert!(parse(line.as_bytes()).is_none(), "{line}");
        }
        let space = Space { pid: 1, mappings: vec![mapping] };
        assert!(space.find(0xfff).is_none() && space.find(0x2eff).is_some() && space.find(0x2f00).is_none());
        assert_eq!(space.map_file(space.find(0x1000).unwrap()), Path::new("/proc/1/map_files/1000-2f00"));
    }
}
