//! `mapring load` and `unload`: an object with its regions and programs, pinned, so that no loader has to run.
//!
//! ```text
//! DIR/NAME            each map, also regions, by its name; .bss and others without the point
//! DIR/links/PROGRAM   each attached program
//! DIR/programs/NAME   each program that the user attaches
//! ```
//!
//! Nothing in `DIR` changes before all programs are loaded and attached.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::{ErrorKind, Link, Map, MapCore, MapType, Object, ObjectBuilder, OpenObject, ProgramMut};
use mapring::Region;
use mapring::loader::{BELLS, FIRST, PinOptions, READERS};
use mapring_kit::exit::Refused;
use mapring_kit::output::note;
use mapring_kit::privilege;
use mapring_kit::text::printable_path;
use mapring_loader::Reuse;
use mapring_sys::PinDir;
use mapring_sys::fdinfo::is_map;
use mapring_view::find::Location;
use mapring_view::target::{Layout, Target};
use mapring_view::untyped;

use crate::pins;

/// Load a BPF object, attach its programs, pin them with its regions, and end
#[derive(clap::Args)]
#[command(after_help = "`mapring unload DIR` detaches the programs and removes the pins.")]
pub(crate) struct Load {
    /// The object: what clang or rustc compiled for BPF
    object: PathBuf,
    /// Where the pins are, in a BPF file system. Each region has the name of its map there
    #[arg(long = "pin", value_name = "DIR")]
    dir: PathBuf,
    /// Go on with the regions that are pinned there, if they hold what the object declares
    #[arg(long)]
    reuse: bool,
    /// Put the object in the place of what is there
    #[arg(long)]
    replace: bool,
    /// Let every user read the regions, and no process write them. This can't be undone
    #[arg(long)]
    freeze: bool,
    /// Let only members of this group read them
    #[arg(long, value_name = "NAME", requires = "freeze")]
    group: Option<String>,
}

/// Detach the programs that `load` attached, and remove its pins
#[derive(clap::Args)]
pub(crate) struct Unload {
    /// The directory that was named with --pin
    dir: PathBuf,
}

const LINKS: &str = "links";
/// The links of a `load` that has not ended.
const NEW: &str = "links_new";
const PROGRAMS: &str = "programs";
/// The largest object.
const LARGEST: u64 = 256 << 20;

pub(crate) fn load(args: &Load) -> Result<ExitCode> {
    privilege::listen();
    let readers = pins::for_readers(args.group.as_deref())?;
    let is_new = !args.dir.try_exists().unwrap_or(false);
    // Others only pass through it; what they may open is said by each pin.
    let dir = PinDir::create(&args.dir, if args.freeze { 0o755 } else { 0o700 })
        .map_err(|e| unusable(e, &args.dir))?;
    let is_used = !dir.entries()?.is_empty();
    ensure!(
        !is_used || args.reuse || args.replace,
        "{0} is not empty: add --reuse to go on with its regions, --replace to make new ones, or end it first with mapring \
         unload {0}",
        printable_path(&args.dir)
    );
    ensure!(
        !is_used || !args.replace || is_ours(&dir)?,
        "{} has pins that `mapring load` did not make: name another directory",
        printable_path(&args.dir)
    );
    let done = Loading { args, dir: &dir, readers }.run();
    if done.is_err() && is_new {
        let _ = PinDir::of(&args.dir).and_then(|(above, name)| above.remove_all(name)); // the first error matters
    }
    note(done.map_err(|e| privilege::explained(e, "load"))?);
    Ok(ExitCode::SUCCESS)
}

/// A `load` that goes on.
struct Loading<'a> {
    args: &'a Load,
    dir: &'a PinDir,
    readers: PinOptions,
}

/// What is pinned under a map's name.
enum Pinned {
    /// The regions of a ring, or the only one, with the numbers of their first shards.
    Regions(Vec<(usize, Region)>),
    /// One map, and whether it is a ring.
    Map(OwnedFd, bool),
}

impl Loading<'_> {
    /// Returns a text for the user.
    fn run(&self) -> Result<String> {
        let mut open = opened(&self.args.object)?;
        if self.args.reuse {
            self.reuse(&mut open)?;
        }
        let wanted = open.progs().filter(|program| program.autoload());
        let wanted: BTreeSet<_> = wanted.map(|program| program.name().to_os_string()).collect();
        mapring_loader::prepare_object(&mut open)?;
        let object = open.load()?;
        mapring_loader::initialize_object(&object)?;
        let maps = maps(&object)?;
        let (mut links, mut programs) = (Vec::new(), Vec::new());
        for program in object.progs_mut().filter(|program| wanted.contains(program.name())) {
            let name = program.name().to_os_string();
            match program.attach() {
                Ok(link) => links.push((name, link)),
                Err(e) if e.kind() == ErrorKind::Unsupported => programs.push((name, program)),
                Err(e) => return Err(anyhow!(e).context(format!("program {}", text(&name)))),
            }
        }
        self.pin(&maps, &links, &programs)?;
        let is_region = |pinned: &Pinned| matches!(pinned, Pinned::Regions(_) | Pinned::Map(_, true));
        let regions = maps
            .iter()
            .filter(|(_, pinned)| is_region(pinned))
            .map(|(name, _)| printable_path(name))
            .collect();
        let attached = links.iter().map(|(name, _)| printable_path(name)).collect();
        let others = programs.iter().map(|(name, _)| printable_path(name)).collect();
        let below =
            format!("Programs below {}, for you to attach", printable_path(self.args.dir.join(PROGRAMS)));
        let lists: [(&str, Vec<_>); 3] = [("Regions", regions), ("Attached", attached), (&below, others)];
        let mut said = "Loaded.".to_owned();
        for (title, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            let _ = write!(said, "\n{title}: {}", names.join(", "));
        }
        Ok(format!("{said}\n`mapring unload {}` ends it.", printable_path(&self.args.dir)))
    }

    /// Gives the object the regions that are pinned, as far as they fit.
    fn reuse(&self, open: &mut OpenObject) -> Result<()> {
        let names: Vec<_> = open.maps().map(|map| map.name().to_os_string()).collect();
        for name in names.iter().filter(|name| is_named(name) && !text(name).contains('.')) {
            if !self.dir.has(name)? {
                continue;
            }
            let name = text(name);
            match mapring_loader::reuse(open, &name, self.args.dir.join(&*name)) {
                Ok(Reuse::Unfit(why)) if self.args.replace => {
                    eprintln!("mapring: {name} is a new one: {why}")
                }
                Ok(Reuse::Unfit(why)) => bail!("{name}: {why}; --replace --reuse makes a new one"),
                Ok(Reuse::Pinned | Reuse::Nothing) => {}
                Err(e) if e.kind() == mapring::ErrorKind::OutOfRange => {} // no region has this name
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Pins all. First what can fail without a trace; names that readers know change last.
    fn pin(
        &self,
        maps: &[(OsString, Pinned)],
        links: &[(OsString, Link)],
        programs: &[(OsString, ProgramMut<'_>)],
    ) -> Result<()> {
        let dir = self.dir;
        dir.remove_all(NEW)?;
        if let Err(e) = pin_links(&dir.make(NEW, 0o700)?, links) {
            let _ = dir.remove_all(NEW); // the first error matters
            return Err(e);
        }
        for (name, pinned) in maps {
            let path = dir.path().join(name);
            match pinned {
                Pinned::Map(map, _) => {
                    dir.remove_all(name)?; // an earlier ring of this name may have been a directory
                    dir.pin(map, name)?;
                }
                Pinned::Regions(regions) => {
                    let kind = regions[0].1.geometry().kind();
                    let is_frozen = self.args.freeze && !pins::is_written_by_processes(kind);
                    let access = if is_frozen { self.readers } else { PinOptions::new(0o600) };
                    untyped::pin(regions, &path, access.replace(true), is_frozen)?;
                }
            }
        }
        dir.remove_all(PROGRAMS)?;
        if !programs.is_empty() {
            let to = dir.make(PROGRAMS, 0o700)?;
            programs.iter().try_for_each(|(name, program)| to.pin(program.as_fd(), name))?;
        }
        if self.args.freeze {
            dir.set_access(None, 0o755)?;
        }
        if self.args.replace {
            let is_left = |name: &OsString| {
                maps.iter().all(|(map, _)| map != name)
                    && ![LINKS, NEW, PROGRAMS].iter().any(|ours| name == ours)
            };
            let left = dir.entries()?.into_iter().map(|(name, _)| name).filter(is_left);
            left.into_iter().try_for_each(|name| dir.remove_all(name))?;
        }
        dir.remove_all(LINKS)?; // the programs of an earlier `load` end
        dir.rename(NEW, dir, LINKS, false).map_err(Into::into)
    }
}

fn pin_links(dir: &PinDir, links: &[(OsString, Link)]) -> Result<()> {
    for (name, link) in links {
        dir.pin(link.as_fd(), name).with_context(|| {
            format!(
                "the link of {} can't be pinned (before Linux 5.15, not those of perf events)",
                text(name)
            )
        })?;
    }
    Ok(())
}

/// Reads the object once: others may change the file meanwhile.
fn opened(path: &Path) -> Result<OpenObject> {
    let file = File::open(path).with_context(|| printable_path(path))?;
    let found = file.metadata()?;
    ensure!(
        found.is_file() && found.mode() & 0o002 == 0,
        "{}: every user may write it, so it could be anything",
        printable_path(path)
    );
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).with_context(|| printable_path(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut builder = ObjectBuilder::default();
    builder.name(name.split('.').next().unwrap_or_default())?;
    builder.open_memory(&bytes).with_context(|| format!("{}: not a BPF object", printable_path(path)))
}

/// The maps to pin, by name. The library pins the readers and bells of a ring, and the maps in a map of maps, with it.
fn maps(object: &Object) -> Result<Vec<(OsString, Pinned)>> {
    let maps = object.maps().filter(|map| is_map(map.as_fd()) && is_named(map.name()));
    maps.map(|map| {
        // The kernel takes no points: the map of a section is named after the object and the section.
        let full = text(map.name()).into_owned();
        let name = full.split_once('.').map_or(&*full, |(_, section)| section).replace('.', "_");
        ensure!(
            ![LINKS, NEW, PROGRAMS].contains(&&*name),
            "a map is named {name}, as a directory of the pins"
        );
        Ok((name.into(), pinned(object, &map)?))
    })
    .collect()
}

fn pinned(object: &Object, map: &Map<'_>) -> Result<Pinned> {
    let fd = map.as_fd();
    let region = || Region::open(mapring_loader::map(object, &text(map.name()))?);
    Ok(match map.map_type() {
        MapType::Array | MapType::PercpuArray => match region() {
            Ok(region) => Pinned::Regions(vec![(0, region)]),
            Err(_) => Pinned::Map(fd.try_clone_to_owned()?, false), // an array without a preamble
        },
        MapType::ArrayOfMaps => match Target::open(Location::Id(map.info()?.info.id))?.layout {
            Layout::RingInMaps(all) if all[0].1.geometry().options().has_per_cpu_maps() => {
                Pinned::Regions(all)
            }
            layout => Pinned::Map(fd.try_clone_to_owned()?, matches!(layout, Layout::RingInMaps(_))), // a resizable ring is its map of maps
        },
        _ => Pinned::Map(fd.try_clone_to_owned()?, false),
    })
}

/// Whether it is a map that users name.
fn is_named(name: &OsStr) -> bool {
    ![FIRST, READERS, BELLS].iter().any(|suffix| name.as_encoded_bytes().ends_with(suffix.as_bytes()))
}

pub(crate) fn unload(args: &Unload) -> Result<ExitCode> {
    let (above, name) = PinDir::of(&args.dir).map_err(|e| unusable(e, &args.dir))?;
    let dir = above.dir(&name).map_err(|e| unusable(e, &args.dir))?;
    ensure!(
        is_ours(&dir)?,
        "{} has no links of `mapring load`: nothing was removed",
        printable_path(&args.dir)
    );
    // First those that write.
    [LINKS, NEW].iter().try_for_each(|links| dir.remove_all(links))?;
    above.remove_all(&name)?;
    note(format_args!("{} is gone. Processes that have a region open keep it.", printable_path(&args.dir)));
    Ok(ExitCode::SUCCESS)
}

/// Whether an earlier `load` used this directory.
fn is_ours(dir: &PinDir) -> io::Result<bool> {
    Ok(dir.has(LINKS)? || dir.has(NEW)?)
}

fn unusable(error: io::Error, dir: &Path) -> anyhow::Error {
    let why = match error.kind() {
        io::ErrorKind::InvalidInput => "name a directory below /sys/fs/bpf",
        io::ErrorKind::PermissionDenied => "run as root, or name a directory of yours in a BPF file system",
        _ => return anyhow!(error).context(printable_path(dir)),
    };
    let text = format!("{}: {error}: {why}", printable_path(dir));
    if error.kind() == io::ErrorKind::PermissionDenied { Refused(text).into() } else { anyhow!(text) }
}

fn text(name: &OsStr) -> Cow<'_, str> {
    name.to_string_lossy()
}
