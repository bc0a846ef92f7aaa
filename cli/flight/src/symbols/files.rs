//! Where files of programs are found, by their build ids. Other users own many of them, and may put anything in their place: only
//! regular files are opened, only for reading, and none is mapped that its owner could cut short meanwhile.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::elf::Elf;
use super::maps::Space;
use super::{BuildId, copy, hex, shown};

/// Where debug files are, as gdb looks for them.
const DEBUG: &str = "/usr/lib/debug";

/// Files whose build ids are remembered, and those of a directory of `--debug-dir`.
const MOST: usize = 1 << 16;

/// Larger files are not read.
const LARGEST: u64 = 8 << 30;

/// A file with a build id, as it can be mapped.
pub(super) struct Image {
    pub(super) file: File,
    pub(super) elf: Elf,
}

impl Image {
    /// The file if it is an ELF file, or a copy of what can be trusted of it.
    pub(super) fn open(handle: Option<OwnedFd>) -> Option<Self> {
        let opened = Opened::new(handle?)?;
        let elf = Elf::read(&opened.file)?;
        let file = if opened.is_trusted { opened.file } else { copy::copy(&opened.file, &elf)? };
        Some(Self { file, elf })
    }
}

/// A regular file.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) owner: u32,
    /// Only root or this user can write it.
    is_trusted: bool,
}

impl Opened {
    /// Opens for reading what a handle of `O_PATH` names. To get such a handle opens nothing: no device and no pipe.
    pub(super) fn new(handle: OwnedFd) -> Option<Self> {
        const FUSE: i128 = 0x6573_5546; // its files are answers of a process, which may never come
        let file_system = rustix::fs::fstatfs(&handle).ok()?;
        let metadata = File::from(handle.try_clone().ok()?).metadata().ok()?;
        if !metadata.is_file() || metadata.len() > LARGEST || i128::from(file_system.f_type) == FUSE {
            return None;
        }
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(at(&handle)).ok()?;
        let own = rustix::process::geteuid().as_raw();
        let is_trusted = [0, own].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0;
        Some(Self { file, owner: metadata.uid(), is_trusted })
    }
}

/// The path of an open file.
pub(super) fn at(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// A handle of what is at a path.
pub(super) fn handle(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The same as the process sees it: no link leads out of its root directory.
pub(super) fn handle_in(pid: u32, path: &Path, flags: OFlags) -> Option<OwnedFd> {
    let root = handle(Path::new(&format!("/proc/{pid}/root")))?;
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()
}

/// Where a file was seen.
#[derive(Clone)]
enum Origin {
    Path(PathBuf),
    /// In the root directory of a process.
    In(u32, PathBuf),
}

impl Origin {
    fn handle(&self) -> Option<OwnedFd> {
        match self {
            Self::Path(path) => handle(path),
            Self::In(pid, path) => handle_in(*pid, path, OFlags::empty()),
        }
    }
}

pub(super) struct Files {
    debug_dirs: Vec<PathBuf>,
    seen: HashMap<BuildId, Vec<(Origin, String)>>,
    /// Devices and inodes of files that were looked at.
    checked: HashSet<(u64, u64)>,
    /// Paths, and whether they were looked at.
    offered: HashMap<PathBuf, bool>,
}

impl Files {
    /// Also looks into these directories: for files by build id as in `/usr/lib/debug`, and for files of any name.
    pub(super) fn new(debug_dirs: &[PathBuf]) -> Self {
        let mut files = Self {
            debug_dirs: debug_dirs.to_vec(),
            seen: HashMap::new(),
            checked: HashSet::new(),
            offered: HashMap::new(),
        };
        for dir in debug_dirs {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten().take(MOST) {
                let name = entry.file_name().to_string_lossy().into_owned();
                files.see(Origin::Path(entry.path()), name.trim_end_matches(".debug"));
            }
        }
        files.debug_dirs.push(DEBUG.into());
        files
    }

    pub(super) fn debug_dirs(&self) -> &[PathBuf] {
        &self.debug_dirs
    }

    /// Remembers the files that a process executes.
    pub(super) fn scan(&mut self, space: &Space) {
        for mapping in space.files().filter(|mapping| mapping.is_code) {
            // By its inode where this process may do that: the path can be another file by now, or none.
            let name = mapping.name();
            if !self.see(Origin::Path(space.map_file(mapping)), &name) {
                self.see(Origin::In(space.pid, mapping.path().into()), &name);
            }
        }
    }

    /// Remembers a file that an event names. It is opened when a build id is looked for.
    pub(super) fn offer(&mut self, path: &Path) {
        if self.offered.len() < MOST && path.is_absolute() {
            self.offered.entry(path.to_owned()).or_insert(false);
        }
    }

    fn see_offered(&mut self) {
        let mut offered = std::mem::take(&mut self.offered);
        for (path, is_seen) in offered.iter_mut().filter(|(_, is_seen)| !**is_seen) {
            *is_seen = true;
            self.see(Origin::Path(path.clone()), &path.file_name().unwrap_or_default().to_string_lossy());
        }
        self.offered = offered;
    }

    /// Whether it could be looked at.
    fn see(&mut self, origin: Origin, name: &str) -> bool {
        let Some(opened) = origin.handle().and_then(Opened::new) else { return false };
        let Ok(metadata) = opened.file.metadata() else { return false };
        if self.checked.len() < MOST
            && self.checked.insert((metadata.dev(), metadata.ino()))
            && let Some(id) = Elf::read(&opened.file).and_then(|elf| elf.build_id)
        {
            self.seen.entry(id).or_default().push((origin, shown(name.as_bytes())));
        }
        true
    }

    /// The files with this build id, and what the program or library is called: one with what a debugger needs first, then one with
    /// code.
    pub(super) fn find(&mut self, id: &BuildId) -> (Vec<Image>, Option<String>) {
        self.see_offered();
        let hex = hex(id);
        let (first, rest) = hex.split_at(2);
        let file = format!(".build-id/{first}/{rest}.debug");
        let debug = self.debug_dirs.iter().map(|dir| Origin::Path(dir.join(&file)));
        let seen = self.seen.get(id).map_or(&[][..], Vec::as_slice);
        let mut found: [Option<Image>; 2] = [None, None];
        for origin in debug.chain(seen.iter().map(|(origin, _)| origin.clone())) {
            let image = Image::open(origin.handle()).filter(|image| image.elf.build_id == Some(*id));
            let Some(image) = image else { continue };
            let kind = usize::from(!image.elf.is_debug());
            found[kind].get_or_insert(image);
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        (found.into_iter().flatten().collect(), seen.first().map(|(_, name)| name.clone()))
    }
}

/// The file that is mapped there, whatever its build id is.
pub(super) fn mapped(space: &Space, mapping: &super::maps::Mapping) -> Option<Image> {
    Image::open(handle(&space.map_file(mapping)))
}
