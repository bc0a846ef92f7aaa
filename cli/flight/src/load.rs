//! Loads the programs of a group of events, from the object that has its number of slots.

use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::btf::types::{FuncProto, Ptr, Typedef};
use libbpf_rs::btf::{Btf, BtfType, ReferencesType};
use libbpf_rs::{Map, MapCore, Object, ObjectBuilder, OpenObject};
use mapring::cpus::online_cpus;
use mapring::loader::PinOptions;
use mapring::{ErrorKind, Region};
use mapring_kit::exit::Refused;
use mapring_kit::privilege;
use mapring_loader::{initialize_object, prepare_object};
use mapring_sys::PinDir;

use crate::rings::{Group, MARKS};
use crate::triggers::{Constants, Trigger, nanoseconds};
use crate::{pins, sampling};

/// The objects, by the binary logarithm of their slots.
type Objects = &'static [(u32, &'static [u8])];
static OBJECTS: Objects = include!(concat!(env!("OUT_DIR"), "/flight_objects.rs"));
static STACKS: Objects = include!(concat!(env!("OUT_DIR"), "/stacks_objects.rs"));

fn objects(group: &Group) -> Objects {
    if group.has_stacks { STACKS } else { OBJECTS }
}

/// The first Linux that takes values of more than 4 MiB.
pub(crate) const LONG_VALUES: (u32, u32) = (6, 0);

/// The numbers of slots that the ring of a group can have.
pub(crate) fn log2_slots(group: &Group) -> RangeInclusive<u32> {
    let log2 = |object: Option<&(u32, &[u8])>| object.map_or(0, |(log2, _)| *log2);
    let most = log2(objects(group).last());
    // A shard is one value. With 512 bytes of tails for each slot, 2^12 slots take more than 2 MiB, and 2^13 more than 4.
    let most = if group.has_stacks && release() < LONG_VALUES { most.min(12) } else { most };
    log2(objects(group).first())..=most
}

/// The numbers of the running Linux.
pub(crate) fn release() -> (u32, u32) {
    let name = release_name();
    let mut numbers = name.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Why nothing of a group is recorded: this kernel has none of its events.
pub(crate) fn nothing_of(group: &Group) -> String {
    /// The first Linux with events of contended locks.
    const LOCKS: (u32, u32) = (5, 19);
    if group.name == "locks" && release() < LOCKS {
        return format!("group locks needs Linux 5.19 or newer, and this is {}", release_name());
    }
    format!("group {} is not recorded: this kernel has none of its events", group.name)
}

/// As `uname -r` shows it.
fn release_name() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Programs for older kernels: the program for newer ones, and the arguments that its tracepoint then has.
/// sched_switch passes the state of the task (5.18), mark_victim the task itself (6.9).
const OLDER: [(&str, &str, usize); 2] =
    [("sched_old_switch", "sched_switch", 4), ("marks_old_oom", "marks_oom", 2)];

/// Where a thread that was off its CPU is the running one again. Before Linux 6.15 a probe of a function is instead of it.
const CAME_BACK: &str = "sched_exit_tp";

/// What all groups share: the ring of marks, the end of the recording, and what tells of it.
const SHARED: [&str; 3] = [MARKS.name, pins::STOP, pins::BELL];

/// The waits of threads, for triggers that are about a time.
const WAITS: &str = ".bss.since";

/// What the programs of a group are loaded for.
pub(crate) struct Wanted<'a> {
    pub(crate) group: &'static Group,
    /// The binary logarithm of the ring's slots.
    pub(crate) log2: u32,
    /// Whether the events are recorded. Otherwise only programs that find triggers are loaded.
    pub(crate) is_recorded: bool,
    pub(crate) triggers: &'a [Trigger],
    pub(crate) after: Duration,
    pub(crate) stacks: Stacks,
}

/// When stacks are recorded.
#[derive(Clone, Copy)]
pub(crate) struct Stacks {
    /// Samples of each CPU in a second, if it is sampled.
    pub(crate) hz: Option<u32>,
    /// Shorter waits, and waits for locks, are not recorded.
    pub(crate) waits: Duration,
    pub(crate) locks: Duration,
}

impl Wanted<'_> {
    fn wants(&self, program: &str) -> bool {
        let is_of_group = program.split_once('_').is_some_and(|(prefix, _)| prefix == self.group.name);
        let finds = || self.triggers.iter().any(|trigger| trigger.kind.programs.contains(&program));
        let watches_cpus = || program == "marks_offline" && self.stacks.hz.is_some();
        is_of_group && ((self.is_recorded && self.group.name != MARKS.name) || finds() || watches_cpus())
    }
}

/// The constants of `stacks.bpf.c`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Limits {
    /// Nanoseconds.
    waits: u64,
    locks: u64,
    /// The most frames that the kernel shows. It refuses to change them while programs use them.
    deepest: u32,
    unused: u32,
}

impl Limits {
    fn new(stacks: Stacks) -> Result<Self> {
        const FILE: &str = "/proc/sys/kernel/perf_event_max_stack";
        let text = fs::read_to_string(FILE).context(FILE)?;
        let deepest = text.trim().parse().context(FILE)?;
        let [waits, locks] = [stacks.waits, stacks.locks].map(nanoseconds);
        Ok(Self { waits, locks, deepest, unused: 0 })
    }
}

/// The kernel on which programs are loaded.
pub(crate) struct Kernel(Btf<'static>);

/// A group whose programs are loaded and not attached yet.
pub(crate) struct Loaded {
    group: &'static Group,
    object: Object,
    is_recorded: bool,
    hz: Option<u32>,
    /// Tracepoints that this kernel does not have.
    pub(crate) lacking: Vec<String>,
}

impl Kernel {
    pub(crate) fn new() -> Result<Self> {
        privilege::listen();
        let btf = Btf::from_vmlinux().map_err(|error| {
            Refused(format!("/sys/kernel/btf/vmlinux: {error}: use a kernel with CONFIG_DEBUG_INFO_BTF=y"))
        })?;
        Ok(Self(btf))
    }

    /// The number of arguments of a tracepoint, if the kernel has it.
    fn arguments(&self, tracepoint: &str) -> Option<usize> {
        let named: Typedef<'_> = self.0.type_by_name(&format!("btf_trace_{tracepoint}"))?;
        let pointer = Ptr::try_from(named.referenced_type()).ok()?;
        let function = FuncProto::try_from(pointer.referenced_type() as BtfType<'_>).ok()?;
        // The first argument is the tracepoint's own.
        function.len().checked_sub(1)
    }

    /// Refuses what this kernel can't find.
    ///
    /// # Errors
    /// [`Refused`], with what is missing.
    pub(crate) fn check(&self, trigger: &Trigger) -> Result<()> {
        let Some(arguments) = self.arguments(trigger.kind.tracepoint) else {
            return Err(Refused(format!(
                "this kernel has no event {}, so `{trigger}` can't stop the recording: `mapring flight start --help` lists what \
                 it has",
                trigger.kind.tracepoint
            ))
            .into());
        };
        let is_old = OLDER.iter().any(|(_, new, since)| *new == "marks_oom" && arguments < *since);
        if is_old && trigger.comm.is_some() && trigger.kind.programs.contains(&"marks_oom") {
            return Err(Refused(format!(
                "`{trigger}`: before Linux 6.9 the event {} has no name of the process: leave out comm",
                trigger.kind.tracepoint
            ))
            .into());
        }
        Ok(())
    }

    /// Loads programs. All groups but the one of marks share the maps of marks.
    pub(crate) fn load(&self, wanted: &Wanted<'_>, marks: Option<&Loaded>) -> Result<Loaded> {
        self.try_load(wanted, marks).map_err(|error| {
            let unsupported = |e: &mapring::Error| e.kind() == ErrorKind::Unsupported;
            if error.chain().filter_map(|e| e.downcast_ref()).any(unsupported) {
                return Refused(format!(
                    "the flight recorder needs Linux 5.15 or newer, and this is {}",
                    release_name()
                ))
                .into();
            }
            privilege::explained(error, "flight start").context(format!("group {}", wanted.group.name))
        })
    }

    fn try_load(&self, wanted: &Wanted<'_>, marks: Option<&Loaded>) -> Result<Loaded> {
        let bytes = objects(wanted.group)
            .iter()
            .find(|(slots, _)| *slots == wanted.log2)
            .context("no such object")?
            .1;
        let mut open = ObjectBuilder::default().name("flight")?.open_memory(bytes).context("its object")?;
        let lacking = self.select(&mut open, wanted, marks)?;
        prepare_object(&mut open)?;
        let object = open.load().context("the kernel does not load its programs")?;
        let &Wanted { group, is_recorded, stacks: Stacks { hz, .. }, .. } = wanted;
        let loaded = Loaded { group, object, is_recorded, hz, lacking };
        initialize_object(&loaded.object)?;
        Ok(loaded)
    }

    /// Leaves only what is wanted and exists in this kernel. Returns what does not exist.
    fn select(
        &self,
        open: &mut OpenObject,
        wanted: &Wanted<'_>,
        marks: Option<&Loaded>,
    ) -> Result<Vec<String>> {
        let mut lacking = Vec::new();
        for mut program in open.progs_mut() {
            let (name, section) = (program.name().to_string_lossy(), program.section().to_string_lossy());
            let is_wanted = wanted.wants(&name);
            let Some(tracepoint) = section.strip_prefix("tp_btf/") else {
                // The program of `hold`, `resume` and `mark`, or one that takes samples, or the probe if it is needed.
                let is_needed = section != "kprobe" || self.arguments(CAME_BACK).is_none();
                program.set_autoload(wanted.group.name == MARKS.name || (is_wanted && is_needed));
                continue;
            };
            let arguments = self.arguments(tracepoint).filter(|_| is_wanted);
            if is_wanted && arguments.is_none() && tracepoint != CAME_BACK {
                lacking.push(tracepoint.to_owned());
            }
            let fits = |arguments| {
                OLDER.iter().all(|(old, new, since)| {
                    (*old != name || arguments < *since) && (*new != name || arguments >= *since)
                })
            };
            program.set_autoload(arguments.is_some_and(fits));
        }
        let has_waits = wanted.triggers.iter().any(|trigger| {
            trigger.kind.is_time && trigger.kind.programs.iter().any(|program| wanted.wants(program))
        });
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let is_shared = SHARED.contains(&&*name);
            // Also if nothing is recorded: before 6.8 the kernel verifies functions that are never called, too.
            let is_ring = name == wanted.group.name;
            map.set_autocreate(
                is_shared
                    || is_ring
                    || name.contains(".rodata")
                    || (name == WAITS && has_waits)
                    || name.strip_prefix(".bss.") == Some(wanted.group.name),
            )?;
            if let Some(marks) = marks.filter(|_| is_shared) {
                map.reuse_fd(marks.map(&name)?.as_fd())?;
            }
            let constants = match &*name {
                ".rodata.triggers" => {
                    let only = !wanted.is_recorded;
                    bytemuck::bytes_of(&Constants::new(wanted.triggers, wanted.after, only)).to_vec()
                }
                ".rodata.limits" => bytemuck::bytes_of(&Limits::new(wanted.stacks)?).to_vec(),
                _ => continue,
            };
            let to = map.initial_value_mut().context("its constants")?;
            to.get_mut(..constants.len()).context("its constants")?.copy_from_slice(&constants);
        }
        Ok(lacking)
    }
}

impl Loaded {
    fn map(&self, name: &str) -> Result<Map<'_>> {
        self.object
            .maps()
            .find(|map| map.name() == name)
            .with_context(|| format!("the object has no map {name}"))
    }

    /// Freezes its maps, so that only programs can write them, and pins them.
    pub(crate) fn pin_maps(&self, dir: &Path, options: PinOptions) -> Result<()> {
        let ring = [self.group.name];
        let names = if self.group.name == MARKS.name { &SHARED[..] } else { &ring };
        for name in names.iter().filter(|name| self.is_recorded && **name != pins::BELL) {
            let region = Region::open(&self.map(name)?)?;
            region.freeze_and_pin(dir.join(name), options).map_err(|error| match error.kind() {
                ErrorKind::CannotSeal => Refused(error.to_string()).into(),
                _ => anyhow::Error::from(error),
            })?;
        }
        Ok(())
    }

    /// Pins the bell. Its readers need not write it.
    pub(crate) fn pin_bell(&self, recording: &PinDir, readers: Option<u32>) -> Result<()> {
        recording.pin(&self.map(pins::BELL)?, pins::BELL)?;
        Ok(recording.set_access_of(pins::BELL.as_ref(), pins::read_only(readers))?)
    }

    /// Attaches the programs, and pins their links in this directory: then the kernel records. Pins the program of `hold` beside it.
    pub(crate) fn attach(&self, recording: &PinDir, links: &PinDir) -> Result<()> {
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            let name = program.name();
            let what = || format!("the kernel does not attach {}", name.to_string_lossy());
            if program.section() == "raw_tp" {
                recording.pin(&program, pins::CONTROL).with_context(what)?;
                continue;
            }
            if program.section() == "perf_event" {
                recording.pin(&program, pins::SAMPLER).with_context(what)?;
                let (cpus, hz) = (online_cpus()?, self.hz.context("no rate of samples")?);
                sampling::attach(recording, links, &cpus, hz).with_context(what)?;
                continue;
            }
            let link = if program.section() == "kprobe" {
                let attached = probed().and_then(|name| Ok(program.attach_kprobe(false, name)?));
                attached.map_err(|error| {
                    Refused(format!(
                        "group waits needs Linux 6.15 or newer, or a kernel with kprobes: {error:#}"
                    ))
                })?
            } else {
                program.attach().with_context(what)?
            };
            links.pin(&link, name).with_context(what)?;
        }
        Ok(())
    }

    /// How many programs it has.
    pub(crate) fn programs(&self) -> usize {
        self.object.progs().filter(|program| program.autoload()).count()
    }
}

/// The function that a thread runs when it comes back. Compilers add to its name.
fn probed() -> Result<String> {
    const FILE: &str = "/proc/kallsyms";
    let symbols = fs::read_to_string(FILE).context(FILE)?;
    let mut names = symbols.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    let name = names.find(|name| name.split('.').next() == Some("finish_task_switch"));
    Ok(name.context("it has no finish_task_switch")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel may queue a wakeup: then sched_wakeup fires on another CPU, in whatever thread runs there.
    #[test]
    fn wakers_are_recorded_where_they_run() {
        for (_, bytes) in OBJECTS {
            let mut open = ObjectBuilder::default().open_memory(bytes).unwrap();
            let sections: Vec<_> = open.progs_mut().map(|program| program.section().to_owned()).collect();
            let has = |tracepoint: &str| sections.iter().any(|section| *section == *tracepoint);
            assert!(has("tp_btf/sched_waking") && !has("tp_btf/sched_wakeup"), "{sections:?}");
        }
    }
}
