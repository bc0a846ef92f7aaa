//! Loads the programs of a group of events, from the object that has its number of slots.

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::btf::types::{FuncProto, Ptr, Typedef};
use libbpf_rs::btf::{Btf, BtfType, ReferencesType};
use libbpf_rs::{Map, MapCore, Object, ObjectBuilder, OpenObject};
use mapring::loader::{PinOptions, initialize_object, prepare_object};
use mapring::{ErrorKind, PinDir, Region};

use super::rings::Group;
use crate::exit::Refused;
use crate::privilege;

/// The objects, by the binary logarithm of their slots.
static OBJECTS: &[(u32, &[u8])] = include!(concat!(env!("OUT_DIR"), "/flight_objects.rs"));

/// The numbers of slots that a ring can have.
pub(crate) fn log2_slots() -> RangeInclusive<u32> {
    let log2 = |object: Option<&(u32, &[u8])>| object.map_or(0, |(log2, _)| *log2);
    log2(OBJECTS.first())..=log2(OBJECTS.last())
}

/// The arguments of sched_switch in kernels that pass the state of the task (5.18).
const WITH_STATE: usize = 4;

/// The kernel on which programs are loaded.
pub(crate) struct Kernel(Btf<'static>);

/// A group whose programs are loaded and not attached yet.
pub(crate) struct Loaded {
    group: &'static Group,
    object: Object,
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

    /// Loads the programs of a group with 2^`log2` slots for each CPU.
    pub(crate) fn load(&self, group: &'static Group, log2: u32) -> Result<Loaded> {
        self.try_load(group, log2).map_err(|error| {
            let unsupported = |e: &mapring::Error| e.kind() == ErrorKind::Unsupported;
            if error.chain().filter_map(|e| e.downcast_ref()).any(unsupported) {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                return Refused(format!(
                    "the flight recorder needs Linux 5.15 or newer, and this is {release}"
                ))
                .into();
            }
            privilege::explained(error, "flight start").context(format!("group {}", group.name))
        })
    }

    fn try_load(&self, group: &'static Group, log2: u32) -> Result<Loaded> {
        let bytes = OBJECTS.iter().find(|(slots, _)| *slots == log2).context("no such object")?.1;
        let mut open = ObjectBuilder::default().name("flight")?.open_memory(bytes).context("its object")?;
        let lacking = self.select(&mut open, group)?;
        prepare_object(&mut open)?;
        let object = open.load().context("the kernel does not load its programs")?;
        let loaded = Loaded { group, object, lacking };
        initialize_object(&loaded.object)?;
        Ok(loaded)
    }

    /// Leaves only what belongs to the group and exists in this kernel. Returns what does not exist.
    fn select(&self, open: &mut OpenObject, group: &Group) -> Result<Vec<String>> {
        let mut lacking = Vec::new();
        for mut program in open.progs_mut() {
            let (name, section) = (program.name().to_string_lossy(), program.section().to_string_lossy());
            let of_group = name.split_once('_').is_some_and(|(prefix, _)| prefix == group.name);
            let tracepoint = section.strip_prefix("tp_btf/").unwrap_or(&section);
            let arguments = self.arguments(tracepoint).filter(|_| of_group);
            if of_group && arguments.is_none() {
                lacking.push(tracepoint.to_owned());
            }
            let fits = match &*name {
                "sched_switch" => arguments >= Some(WITH_STATE),
                "sched_old_switch" => arguments.is_some_and(|arguments| arguments < WITH_STATE),
                _ => arguments.is_some(),
            };
            program.set_autoload(fits);
        }
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            map.set_autocreate(name == group.name || name.ends_with(".rodata"))?;
        }
        Ok(lacking)
    }
}

impl Loaded {
    fn map(&self) -> Result<Map<'_>> {
        let mut maps = self.object.maps();
        maps.find(|map| map.name() == self.group.name).context("the object has no ring")
    }

    /// Freezes the ring, so that only the programs can write it, and pins it.
    pub(crate) fn pin_ring(&self, dir: &Path, options: PinOptions) -> Result<()> {
        let ring = Region::open(&self.map()?)?;
        ring.freeze_and_pin(dir.join(self.group.name), options).map_err(|error| match error.kind() {
            ErrorKind::CannotSeal => Refused(error.to_string()).into(),
            _ => error.into(),
        })
    }

    /// Attaches the programs, and pins their links: then the kernel records.
    pub(crate) fn attach(&self, dir: &PinDir) -> Result<()> {
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            let name = program.name();
            let what = || format!("the kernel does not attach {}", name.to_string_lossy());
            let link = program.attach().with_context(what)?;
            dir.pin(&link, name).with_context(what)?;
        }
        Ok(())
    }

    /// How many programs it has.
    pub(crate) fn programs(&self) -> usize {
        self.object.progs().filter(|program| program.autoload()).count()
    }
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
