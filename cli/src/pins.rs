//! `mapring pin`, `freeze` and `clean`: the pins of regions.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use mapring::abi::Kind;
use mapring::any::AnyMap;
use mapring::liveness::is_alive;
use mapring::loader::{BELLS, PinOptions, READERS};
use mapring::{ErrorKind, Region};
use mapring_kit::exit::{self, Refused};
use mapring_kit::lookup;
use mapring_kit::output::{bytes, note};
use mapring_kit::text::{one_line, printable, printable_path};
use mapring_sys::PinDir;
use mapring_sys::stage::{Stage, with_suffix};
use mapring_view::find::{All, Location, find, is_pinned};
use mapring_view::target::{Layout, Target};
use mapring_view::untyped;
use serde_json::json;

use mapring_flight::pins::{self as recorder, Lock};

/// Pin a region, so that it stays when its loader ends
#[derive(clap::Args)]
pub(crate) struct Pin {
    /// The region: a pin, id:NUMBER, or a map's name
    region: String,
    /// The new pin, in a BPF file system
    path: PathBuf,
    /// The permissions of the pin, in octal
    #[arg(long, value_parser = mode, default_value = "600")]
    mode: u32,
}

/// Make a region readable without privilege. Then only BPF programs can write it, which can't be undone
#[derive(clap::Args)]
#[command(after_help = "Without --yes it only explains what it would do.")]
pub(crate) struct Freeze {
    /// The region: a pin, id:NUMBER, or a map's name
    region: String,
    /// The new pin, in a BPF file system
    path: PathBuf,
    /// Let only the members of this group (a name or a number) read it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// List pins of regions without writers, and remove them with --yes
#[derive(clap::Args)]
pub(crate) struct Clean {
    /// Remove them
    #[arg(long)]
    yes: bool,
    /// Print one JSON object in each line, for each pin
    #[arg(long)]
    json: bool,
    /// Look only below these directories [default: all BPF file systems]
    directories: Vec<PathBuf>,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "write it as 600, 640 or 666".to_owned())
}

pub(crate) fn pin(args: &Pin) -> Result<ExitCode> {
    let (location, regions) = open(&args.region)?;
    untyped::pin(&regions, &args.path, args.mode.into(), false).map_err(|e| refused(e, &args.path))?;
    note(format_args!("{location} is pinned at {}", printable_path(&args.path)));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn freeze(args: &Freeze) -> Result<ExitCode> {
    let (location, regions) = open(&args.region)?;
    let kind = regions[0].1.geometry().kind();
    if is_written_by_processes(kind) {
        bail!("{location}: userspace writes {kind}, and freezing would stop that");
    }
    let options = for_readers(args.group.as_deref())?;
    let readers = args
        .group
        .as_ref()
        .map_or_else(|| "Every user".to_owned(), |name| format!("Each member of {}", printable(name)));
    if !args.yes {
        eprintln!(
            "{location} would be frozen. This can't be undone.\n\
             - No process can write it any more, not even as root. BPF programs still write\n  \
             it.\n\
             - {readers} can map it through the new pin, and read it without a system call:\n  \
             {}\n\
             - Each user that can open the pin and load BPF programs (CAP_BPF) can still\n  \
             overwrite it by a program.\n\
             - Removing the pin takes nothing back: a process that opened it keeps it, and\n  \
             can pin it again.",
            printable_path(&args.path)
        );
        bail!("nothing was changed: add --yes to do it");
    }
    untyped::pin(&regions, &args.path, options, true).map_err(|e| refused(e, &args.path))?;
    note(format_args!("{location} is frozen. {readers} can read it at {}", printable_path(&args.path)));
    Ok(ExitCode::SUCCESS)
}

/// Whether freezing such a region would stop those that write it.
pub(crate) fn is_written_by_processes(kind: Kind) -> bool {
    matches!(kind, Kind::Latches | Kind::Commands | Kind::Readers)
}

/// Access to a frozen region: for every user, or for a group.
pub(crate) fn for_readers(group: Option<&str>) -> Result<PinOptions> {
    Ok(match group {
        None => PinOptions::new(0o666),
        Some(name) => PinOptions::new(0o660).group(lookup::group(name)?),
    })
}

/// The region with this name, or those of a ring with several: at least one, each with the number of its first shard.
fn open(name: &str) -> Result<(Location, Vec<(usize, Region)>)> {
    let location = find(name)?;
    if let Location::Pin(pin) = &location {
        // It may be a link of another user, to a region that he may not read.
        let ours = match pin.is_dir() {
            true => PinDir::open(pin).map(drop),
            false => PinDir::of(pin).and_then(|(dir, name)| dir.open_our_pin(name)).map(drop),
        };
        match ours {
            Err(e) if e.kind() == io::ErrorKind::Other => bail!("{e}; or name the map itself, as id:NUMBER"),
            _ => {} // what can't be opened is said below
        }
    }
    let target = Target::open(location)?;
    let region = match &target.layout {
        Layout::Region(region) => region.clone(),
        Layout::RingInMaps(all) if all[0].1.geometry().options().has_per_cpu_maps() => {
            return Ok((target.location, all.clone()));
        }
        // The ring in use.
        Layout::RingInMaps(all) => all[0].1.clone(),
        Layout::Damaged(_) => Region::open(target.location.source()?)?,
        Layout::Array | Layout::Globals | Layout::Ringbuf | Layout::Other => {
            bail!("{} is not a region, but of kind {}", target.location, target.facts(&[], false).kind)
        }
    };
    Ok((target.location, vec![(0, region)]))
}

/// The library's error, with what may be missing.
fn refused(error: anyhow::Error, path: &Path) -> anyhow::Error {
    error.downcast().map_or_else(|other| other, |error| denied(error, path))
}

fn denied(error: mapring::Error, path: &Path) -> anyhow::Error {
    let at = printable_path(path);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() && !is_pinned(dir) {
        return anyhow!("{at} is not in a BPF file system, such as /sys/fs/bpf");
    }
    if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
        return Refused(format!("{at}: {error}: run as root")).into();
    }
    match error.kind() {
        ErrorKind::CannotSeal => Refused(format!("{at}: {error}")).into(),
        _ => anyhow::Error::from(error).context(at),
    }
}

/// What `clean` removes.
pub(crate) struct Stale {
    /// A pin, or a directory of pins.
    pin: PathBuf,
    kind: StaleKind,
    pub(crate) bytes: usize,
    what: String,
    pub(crate) why: String,
}

enum StaleKind {
    /// The pin of the map with this id, whose region has no writers.
    Pin(u32),
    /// The pins of a flight recorder in this directory, whose start was killed.
    Recorder(PathBuf),
    /// The directory beside this pin, in which a process was killed that changed the pin.
    Beside(PathBuf),
}

pub(crate) fn clean(args: &Clean) -> Result<ExitCode> {
    let mut all = All::default();
    match &args.directories[..] {
        [] => all = All::find(),
        some => some.iter().for_each(|dir| all.add_dir(dir)),
    }
    let mut found = Vec::new();
    let mut unfinished = Vec::new();
    for dir in &all.dirs {
        if let Some(recorder) = recorder::of_unfinished(dir) {
            let kind = StaleKind::Recorder(recorder.to_owned());
            let is_killed = recorder::is_at_work(recorder) == Some(false);
            let why = "its `mapring flight start` was killed";
            unfinished.push((dir, is_killed.then_some((kind, "flight recorder", why))));
        } else if let Some(pin) = mapring_sys::stage::abandoned(dir) {
            let why = "the process that pinned it was killed";
            unfinished.push((dir, Some((StaleKind::Beside(pin), "unfinished pin", why))));
        }
    }
    let mut bytes_of = BTreeMap::<_, usize>::new();
    for pin in all.maps.values().flatten() {
        match unfinished.iter().find(|(dir, _)| pin.starts_with(dir)) {
            Some((dir, _)) => *bytes_of.entry(*dir).or_default() += memory(pin),
            None => found.extend(stale(pin)?),
        }
    }
    for (dir, killed) in unfinished {
        if let Some((kind, what, why)) = killed {
            let bytes = bytes_of.get(dir).copied().unwrap_or_default();
            let (pin, what, why) = (dir.clone(), what.to_owned(), why.to_owned());
            found.push(Stale { pin, kind, bytes, what, why });
        }
    }
    // The bells are judged by the readers.
    found.sort_by_key(|stale| without(&stale.pin, BELLS).is_none());
    all.hidden.iter().for_each(|why| eprintln!("mapring: {why}"));
    let mut out = io::stdout().lock();
    // So must all, as far as descriptors allow.
    let (mut removed, mut failed) = (0, all.short || !args.directories.is_empty() && !all.hidden.is_empty());
    for stale in &found {
        let remove = args.yes
            && stale.remove().unwrap_or_else(|error| {
                eprintln!("mapring: {} is not removed: {}", printable_path(&stale.pin), one_line(&error));
                failed = true;
                false
            });
        let Stale { pin, bytes: size, what, why, .. } = stale;
        removed += usize::from(remove);
        if args.json {
            let line = json!({ "pin": printable_path(pin), "region": what, "bytes": size, "why": why, "removed": remove });
            writeln!(out, "{line}")?;
        } else {
            let size = bytes(*size as u64);
            writeln!(
                out,
                "{}{}: {what}, {size}; {why}",
                if remove { "removed " } else { "" },
                printable_path(pin)
            )?;
        }
    }
    match (found.len(), removed) {
        (0, _) => note(if failed { "No pin that was looked at is stale." } else { "No pin is stale." }),
        (_, 0) if !args.yes => note("To remove these: mapring clean --yes"),
        (all, removed) => note(format_args!("Removed {removed} of {all} pins.")),
    }
    Ok(if failed { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS })
}

impl Stale {
    /// Returns whether it was removed: it may have come to life since.
    fn remove(&self) -> Result<bool> {
        let id = match &self.kind {
            StaleKind::Recorder(dir) => return Lock::take(dir)?.clear_unfinished().map(|()| true),
            StaleKind::Beside(pin) => return Ok(Stage::beside(pin).map(|_| true)?),
            StaleKind::Pin(id) => *id,
        };
        // The process that pins a ring also pins its readers and bells.
        let ring = [BELLS, READERS].iter().find_map(|suffix| without(&self.pin, suffix));
        let _lock = ring.map(|ring| Stage::beside(&ring)).transpose()?;
        let stage = Stage::beside(&self.pin)?;
        if !stale(&self.pin)?.is_some_and(|now| matches!(now.kind, StaleKind::Pin(now) if now == id)) {
            return Ok(false);
        }
        // Another process may exchange the pin after this check: what counts is what was taken away.
        stage.remove_if(|map| {
            let is_same = AnyMap::open(map)?.facts().id == id;
            Ok(is_same && stale_at(Location::Id(id), &self.pin)?.is_some())
        })
    }
}

/// The memory of the map that is pinned there.
fn memory(pin: &Path) -> usize {
    Target::open(Location::Pin(pin.to_owned())).map_or(0, |target| target.facts(&[], false).bytes)
}

/// The region that is pinned there, if nothing writes it any more: its loader has ended, and no program uses it. Latches
/// and commands never are: their writer may be any process.
pub(crate) fn stale(pin: &Path) -> Result<Option<Stale>> {
    stale_at(Location::Pin(pin.to_owned()), pin)
}

fn stale_at(location: Location, pin: &Path) -> Result<Option<Stale>> {
    let Ok(target) = Target::open(location) else { return Ok(None) };
    let Some(region) = target.region() else { return stale_bells(&target, pin) };
    if matches!(region.geometry().kind(), Kind::Latches | Kind::Commands) {
        return Ok(None);
    }
    // A region that names no loader may still have one.
    let Some(loader) = region.loader()?.filter(|loader| !is_alive(*loader)) else { return Ok(None) };
    let programs = region.programs().map_err(|e| Refused(format!("{}: {e}", printable_path(pin))))?;
    let facts = target.facts(&[], false);
    let Some(id) = facts.id.filter(|_| programs.is_empty()) else { return Ok(None) };
    Ok(Some(Stale {
        pin: pin.to_owned(),
        kind: StaleKind::Pin(id),
        bytes: facts.bytes,
        what: format!("{} of {}", facts.kind, facts.ty),
        why: format!("its loader (process {}) has ended, and no program uses it", loader.pid),
    }))
}

/// The bells of a ring that are pinned there, if its readers are stale, or not pinned any more.
fn stale_bells(target: &Target, pin: &Path) -> Result<Option<Stale>> {
    let facts = target.facts(&[], false);
    let (Some(ring), Some(map), Some(id)) = (without(pin, BELLS), &target.map, facts.id) else {
        return Ok(None);
    };
    if map.facts().kind != "array_of_maps" {
        return Ok(None);
    }
    let readers = with_suffix(&ring, READERS);
    let why = if readers.exists() {
        stale(&readers)?.map(|readers| readers.why)
    } else {
        let programs = map.programs().map_err(|e| Refused(format!("{}: {e}", printable_path(pin))))?;
        programs.is_empty().then(|| "its readers aren't pinned any more, and no program uses it".to_owned())
    };
    let what = "bells of a ring".to_owned();
    Ok(why.map(|why| Stale { pin: pin.to_owned(), kind: StaleKind::Pin(id), bytes: facts.bytes, what, why }))
}

/// The pin of the ring beside which this one is.
fn without(pin: &Path, suffix: &str) -> Option<PathBuf> {
    let name = pin.file_name()?.as_bytes().strip_suffix(suffix.as_bytes())?;
    Some(pin.with_file_name(OsStr::from_bytes(name)))
}
