//! The names of the frames of stacks. Most processes of a recording belong to other users, and some have ended: a name is shown only
//! if it comes from the file with the frame's build id, from what is mapped in the process, or from the kernel.

mod copy;
mod elf;
mod files;
mod kernel;
mod maps;
mod module;
mod perf_map;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use self::files::Files;
use self::kernel::Kernel;
use self::maps::Space;
use self::module::Module;
use self::perf_map::PerfMap;
use self::saved::Known;
pub(crate) use self::saved::Saved;
use super::event::{Event, What};
use super::procfs::Process;
use super::stack::{Stack, UserFrame};
use super::text::escape;

/// As the kernel records it: zeros at its end if it is shorter.
pub(crate) type BuildId = [u8; 20];

/// A frame of a stack, or what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// The function, after those that are inlined in it there, the innermost one first. Where no function is known: the file and the
    /// offset. Names are demangled and escaped.
    pub(crate) names: Vec<String>,
    /// The file: its name, `[build id …]`, `[kernel]`, or what else is there. Escaped. Empty if nothing is known.
    pub(crate) module: String,
    pub(crate) build_id: Option<BuildId>,
    /// In the file, or the address.
    pub(crate) offset: u64,
    /// There is no code at that place.
    #[serde(default)]
    pub(crate) is_data: bool,
}

/// A stack with names, the innermost frames first.
#[derive(Default)]
pub(crate) struct Named {
    pub(crate) kernel: Vec<Rc<Frame>>,
    pub(crate) user: Vec<Rc<Frame>>,
    /// Outer frames are missing.
    pub(crate) is_cut: bool,
}

impl Named {
    /// All frames, and one more that says so if others are missing.
    pub(crate) fn frames(self) -> Vec<Rc<Frame>> {
        let cut = || Rc::new(frame(vec!["[cut]".to_owned()], String::new(), None, 0));
        let is_cut = self.is_cut.then(cut);
        self.kernel.into_iter().chain(self.user).chain(is_cut).collect()
    }
}

/// Where code is. It has a name as long as the recording is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum CodeAddress {
    Kernel(u64),
    File(BuildId, u64),
    /// Of a process, by its number and its start.
    Process(u32, u64, u64),
}

/// A file by its build id, or by its device and inode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Id(BuildId),
    File(u32, u32, u64),
}

/// What finds the names of frames.
pub(crate) struct Symbols {
    kernel: Kernel,
    files: Files,
    spaces: HashMap<(u32, u64), Rc<Space>>,
    /// Those that are open, the latest one last, with their names.
    modules: Vec<(Key, Module, Option<String>)>,
    perf_maps: Vec<((u32, u64), Option<PerfMap>)>,
    frames: Known,
    noted: HashSet<(CodeAddress, bool)>,
    /// The recording is in a file: its frames, as the machine that made it knew them. Nothing is looked up here but debug files.
    saved: Option<Known>,
}

/// How much is kept: files that are open (megabytes each), maps of JIT compilers, processes, frames.
const MODULES: usize = 8;
const PERF_MAPS: usize = 4;
const SPACES: usize = 1024;
const FRAMES: usize = 1 << 18;

impl Symbols {
    /// Also looks for debug files in these directories.
    pub(crate) fn new(debug_dirs: &[PathBuf]) -> Self {
        Self {
            kernel: Kernel::default(),
            files: Files::new(debug_dirs),
            spaces: HashMap::new(),
            modules: Vec::new(),
            perf_maps: Vec::new(),
            frames: HashMap::default(),
            noted: HashSet::new(),
            saved: None,
        }
    }

    /// For a recording in a file.
    pub(crate) fn with_saved(self, saved: Option<&Saved>) -> Self {
        Self { saved: saved.map(Saved::known), ..self }
    }

    /// The frames that were asked for, with their names: the latest [`FRAMES`] at most.
    pub(crate) fn to_save(&self) -> Saved {
        Saved::of(&self.frames)
    }

    /// Remembers a file that a process executed: it may have ended when its name is needed.
    pub(crate) fn learn(&mut self, event: &Event) {
        if let What::Exec { file, is_cut: false, .. } = &event.what
            && self.saved.is_none()
        {
            self.files.offer(Path::new(OsStr::from_bytes(file)));
        }
    }

    /// Remembers the files that a process uses: another one that has ended may have used them.
    pub(crate) fn see(&mut self, process: &Process) {
        if self.saved.is_none() {
            self.space(process);
        }
    }

    /// Notes the frames of a stack that are in files, for [`name_noted`](Self::name_noted).
    pub(crate) fn note(&mut self, stack: &Stack) {
        for (at, frame) in stack.user.iter().enumerate() {
            if let UserFrame::File { build_id, offset } = *frame
                && self.noted.len() < FRAMES / 2
            {
                self.noted.insert((CodeAddress::File(build_id, offset), at > 0));
            }
        }
    }

    /// Finds the names of the frames that were noted, one file after the other: few are open at a time.
    pub(crate) fn name_noted(&mut self) {
        let mut all: Vec<_> = std::mem::take(&mut self.noted).into_iter().collect();
        all.sort_unstable();
        all.into_iter().for_each(|code| _ = self.frame(code, None));
    }

    /// The names of a stack's frames. `process` is the process that it is of, if that is still present. Reads its files when they are
    /// needed first. Code without frame pointers leaves numbers that are no addresses of code: the stack ends at the first one.
    pub(crate) fn frames(&mut self, stack: &Stack, process: Option<&Process>) -> Named {
        let id = process.map_or((0, 0), |process| (process.pid, process.start));
        let process = process.filter(|_| self.saved.is_none());
        // All but the innermost one are addresses to return to, behind the call.
        let kernel = stack.kernel.iter().enumerate();
        let kernel = kernel
            .map(|(at, &address)| self.frame((CodeAddress::Kernel(address), at > 0), process))
            .collect();
        let mut named = Named { kernel, user: Vec::new(), is_cut: stack.is_cut };
        for (at, frame) in stack.user.iter().enumerate() {
            let code = match *frame {
                UserFrame::File { build_id, offset } => CodeAddress::File(build_id, offset),
                UserFrame::Address(address) => CodeAddress::Process(id.0, id.1, address),
            };
            let frame = self.frame((code, at > 0), process);
            // The innermost one is where the thread ran.
            if frame.is_data && at > 0 {
                named.is_cut = true;
                break;
            }
            named.user.push(frame);
        }
        named
    }

    /// The same for a thread that waited: without the innermost frames that are of the program which recorded the stack.
    pub(crate) fn frames_of_wait(&mut self, stack: &Stack, process: Option<&Process>) -> Named {
        const TRACING: [&str; 4] = ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"];
        let mut named = self.frames(stack, process);
        let is_tracing = |frame: &&Rc<Frame>| {
            frame.names.iter().all(|name| TRACING.iter().any(|begin| name.starts_with(begin)))
        };
        let tracing = named.kernel.iter().take_while(is_tracing).count();
        named.kernel.drain(..tracing);
        named
    }

    fn frame(&mut self, (code, is_return): (CodeAddress, bool), process: Option<&Process>) -> Rc<Frame> {
        if let Some(frame) = self.frames.get(&(code, is_return)) {
            return frame.clone();
        }
        let back = u64::from(is_return);
        let known = self.saved.as_ref().and_then(|saved| saved.get(&(code, is_return)).cloned());
        let found = match (code, &known) {
            (_, Some(known)) if known.has_function() => None,
            (CodeAddress::Kernel(address), _) => {
                let is_here = self.saved.is_none();
                let found = is_here.then(|| self.kernel.functions(address.wrapping_sub(back)));
                Some(frame(found.unwrap_or_default(), "[kernel]".to_owned(), None, address))
            }
            // A debug file may name what had no name there.
            (CodeAddress::File(id, offset), _) => Some(self.in_file(id, offset, back, process)),
            (CodeAddress::Process(.., address), _) => Some(self.in_process(address, back, process)),
        };
        let is_better = |found: &Frame| known.is_none() || found.is_data || found.has_function();
        let better = found.filter(is_better).map(Rc::new);
        let frame = better.or(known).expect("one of them is there");
        if self.frames.len() >= FRAMES {
            self.frames.clear();
        }
        self.frames.insert((code, is_return), frame.clone());
        frame
    }

    fn in_file(&mut self, id: BuildId, offset: u64, back: u64, process: Option<&Process>) -> Frame {
        process.into_iter().for_each(|process| self.see(process));
        let (functions, name) =
            self.functions(Key::Id(id), offset.wrapping_sub(back), |symbols| symbols.files.find(&id));
        let name = name.unwrap_or_else(|| format!("[build id {}]", hex(&id)));
        let is_data = functions.is_none();
        Frame { is_data, ..frame(functions.unwrap_or_default(), name, Some(id), offset) }
    }

    fn in_process(&mut self, address: u64, back: u64, process: Option<&Process>) -> Frame {
        let unknown = frame(Vec::new(), String::new(), None, address);
        let Some(process) = process else { return unknown };
        let space = self.space(process);
        let mapping = space.find(address.wrapping_sub(back));
        let Some(mapping) = mapping else { return Frame { is_data: space.is_known(), ..unknown } };
        let offset = address.wrapping_sub(mapping.start).wrapping_add(mapping.offset);
        let (major, minor, inode) = mapping.file;
        let mut functions = Vec::new();
        if mapping.is_file() {
            let images = |_: &mut Self| (Vec::from_iter(files::mapped(&space, mapping)), None);
            let found = self.functions(Key::File(major, minor, inode), offset.wrapping_sub(back), images).0;
            functions = found.unwrap_or_default();
        }
        if functions.is_empty() {
            let map = self.perf_map(process);
            functions.extend(map.and_then(|map| map.find(address.wrapping_sub(back))).map(str::to_owned));
        }
        let name = shown(mapping.name().as_bytes());
        let offset = if name.is_empty() { address } else { offset };
        Frame { is_data: !mapping.is_code, ..frame(functions, name, None, offset) }
    }

    /// The functions at an offset of a file, as [`Module::functions`], and the file's name. Opens it unless it is open.
    fn functions(
        &mut self,
        key: Key,
        offset: u64,
        images: impl FnOnce(&mut Self) -> (Vec<files::Image>, Option<String>),
    ) -> (Option<Vec<String>>, Option<String>) {
        let open = self.modules.iter().position(|(open, ..)| *open == key);
        let mut module = match open {
            Some(at) => self.modules.remove(at),
            None => {
                let (images, name) = images(self);
                (key, Module::new(images, self.files.debug_dirs()), name)
            }
        };
        let found = (module.1.functions(offset), module.2.clone());
        if self.modules.len() >= MODULES {
            self.modules.remove(0);
        }
        self.modules.push(module);
        found
    }

    fn space(&mut self, process: &Process) -> Rc<Space> {
        if self.spaces.len() >= SPACES {
            self.spaces.clear();
        }
        let id = (process.pid, process.start);
        if let Some(space) = self.spaces.get(&id) {
            return space.clone();
        }
        let space = Rc::new(Space::of(process));
        self.files.scan(&space);
        self.spaces.insert(id, space.clone());
        space
    }

    fn perf_map(&mut self, process: &Process) -> Option<&PerfMap> {
        let id = (process.pid, process.start);
        if !self.perf_maps.iter().any(|(of, _)| *of == id) {
            if self.perf_maps.len() >= PERF_MAPS {
                self.perf_maps.remove(0);
            }
            self.perf_maps.push((id, PerfMap::of(process)));
        }
        self.perf_maps.iter().find(|(of, _)| *of == id)?.1.as_ref()
    }
}

impl Frame {
    fn has_function(&self) -> bool {
        self.names != frame(Vec::new(), self.module.clone(), None, self.offset).names
    }
}

fn frame(names: Vec<String>, module: String, build_id: Option<BuildId>, offset: u64) -> Frame {
    let names = match (names.is_empty(), &*module) {
        (false, _) => names,
        (true, "" | "[kernel]") => vec![format!("{offset:#x}")],
        (true, module) => vec![format!("{module}+{offset:#x}")],
    };
    Frame { names, module, build_id, offset, is_data: false }
}

/// A build id as tools show it.
pub(crate) fn hex(id: &BuildId) -> String {
    significant(id).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a build id without the zeros that fill it up: of SHA-1, MD5 or UUID, or xxHash.
fn significant(id: &BuildId) -> &[u8] {
    let len = [8, 16].into_iter().find(|&len| id[len..].iter().all(|&byte| byte == 0));
    &id[..len.unwrap_or(id.len())]
}

/// The name of a function or a file, for people: escaped, and not longer than they read.
fn shown(name: &[u8]) -> String {
    const MOST: usize = 512;
    let mut name = escape(name);
    if let Some((end, _)) = name.char_indices().nth(MOST) {
        name.truncate(end);
        name.push('…');
    }
    name
}
