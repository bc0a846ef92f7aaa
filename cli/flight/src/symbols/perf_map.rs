//! Names of code that a JIT compiler made: `/tmp/perf-PID.map` of the process's root directory. Anybody can write there, so the
//! file must be of the process's user or of root.

use std::io::Read;
use std::path::Path;

use rustix::fs::OFlags;

use super::files::{Opened, handle_in};
use crate::procfs::Process;

/// No more of the file is read, and no more functions are kept.
const MOST: u64 = 16 << 20;
const FUNCTIONS: usize = 1 << 18;

/// Functions by their addresses. The end is not included.
pub(super) struct PerfMap(Vec<(u64, u64, Box<str>)>);

impl PerfMap {
    /// The map of a process, if it has one.
    pub(super) fn of(process: &Process) -> Option<Self> {
        // Its own number for itself.
        let pid = process.nspids.last()?;
        Self::read(process.pid, Path::new(&format!("tmp/perf-{pid}.map")), process.uid?)
    }

    fn read(pid: u32, path: &Path, user: u32) -> Option<Self> {
        let opened = Opened::new(handle_in(pid, path, OFlags::NOFOLLOW)?)?;
        let mut text = Vec::new();
        let read = [0, user].contains(&opened.owner).then(|| opened.file.take(MOST).read_to_end(&mut text));
        read?.ok().map(|_| Self::parse(&text))
    }

    /// Lines of a start, a size and a name. A later one at the same address replaces an earlier one.
    fn parse(text: &[u8]) -> Self {
        let function = |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            let (start, rest) = line.split_once(' ')?;
            let (size, name) = rest.split_once(' ')?;
            let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
            let start = hex(start)?;
            Some((start, start.checked_add(hex(size)?)?, super::shown(name.as_bytes()).into()))
        };
        let mut functions: Vec<_> =
            text.split(|&byte| byte == b'\n').filter_map(function).take(FUNCTIONS).collect();
        functions.reverse();
        functions.sort_by_key(|&(start, ..)| start); // keeps the order of the same addresses
        functions.dedup_by_key(|&mut (start, ..)| start);
        Self(functions)
    }

    pub(super) fn find(&self, address: u64) -> Option<&str> {
        let after = self.0.partition_point(|&(start, ..)| start <= address);
        let (_, end, name) = self.0.get(after.checked_sub(1)?)?;
        (address < *end && !name.is_empty()).then_some(&**name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lines_are_functions() {
        let map = PerfMap::parse(
            b"1000 10 old\n\xff\n\n2000 0 empty\n1000 20 new ; name\x1b\nffffffffffffffff 2 over\n3000 10\n0x4000 0x10 hex\n5000 5 ",
        );
        assert_eq!(
            [0xfff, 0x1000, 0x101f, 0x1020, 0x2000].map(|at| map.find(at)),
            [None, Some("new ; name\\u{1b}"), Some("new ; name\\u{1b}"), None, None]
        );
        assert_eq!([map.find(0x4000), map.find(0x5000), map.find(u64::MAX)], [Some("hex"), None, None]);
    }

    #[test]
    fn only_a_file_of_the_process_is_read() {
        let pid = std::process::id();
        let own = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("map");
        fs::write(&file, "1000 10 f\n").unwrap();
        let read = |path: &Path, user| {
            PerfMap::read(pid, path, user).and_then(|map| map.find(0x1000).map(str::to_owned))
        };
        assert_eq!(read(&file, own).as_deref(), Some("f"));
        let user = if own == 0 { 12345 } else { own };
        std::os::unix::fs::chown(&file, Some(user), None).unwrap();
        assert_eq!(read(&file, user).as_deref(), Some("f"));
        assert_eq!(read(&file, user + 1), None, "another user's");
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(read(&link, user), None, "a link");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        assert_eq!(read(&pipe, own), None, "a pipe");
        assert_eq!(read(dir.path(), own), None, "a directory");
        assert_eq!(read(Path::new("/dev/zero"), own), None, "a device");
    }
}
