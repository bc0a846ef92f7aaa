//! What `ls` and `show` say of a map.

use std::io;
use std::path::PathBuf;

use mapring::abi::RingOptions;
use mapring::any::AnyMap;
use mapring::liveness::is_alive;
use mapring::{Access, Region};
use mapring_kit::text::{printable, printable_path};
use serde::Serialize;

use crate::target::{Layout, Target, has_records};
use crate::value;

/// What `ls` and `show` say of a map. The names are those of the JSON output.
#[derive(Debug, Serialize)]
pub struct Facts {
    /// Where it was found.
    pub region: String,
    /// Its id; `None` for a memory file.
    pub id: Option<u32>,
    /// By which people know it.
    pub name: String,
    /// Of a region its kind and options, of other maps their type.
    pub kind: String,
    /// The type of the records or values.
    #[serde(rename = "type")]
    pub ty: String,
    /// The bytes of a record or value.
    pub size: usize,
    /// The slots of each shard, cells, counters or values.
    pub entries: usize,
    /// Shards of a region, or CPUs of a per-CPU array.
    pub shards: usize,
    /// The memory of its values.
    pub bytes: usize,
    /// Escaped paths.
    pub pins: Vec<String>,
    /// `mapped` or `syscall`; `null` for maps that are not read.
    pub access: Option<&'static str>,
    /// Why it is read by system call.
    pub refusal: Option<String>,
    /// Why its types are not known.
    pub no_types: Option<String>,
    /// The process that created it, if it says so.
    pub loader: Option<Loader>,
    /// The programs that use it, if they are known.
    pub programs: Option<Vec<Program>>,
    /// Why its programs are not known.
    pub no_programs: Option<String>,
    /// Records or updates that programs dropped.
    pub dropped: Option<u64>,
    /// Why it can't be read, if it is damaged.
    pub error: Option<String>,
}

/// The process that created a region.
#[derive(Debug, Serialize)]
pub struct Loader {
    /// Its number.
    pub pid: u32,
    /// Whether it still runs.
    pub lives: bool,
}

/// A program that uses a map.
#[derive(Debug, Serialize)]
pub struct Program {
    /// Its id.
    pub id: u32,
    /// Its name, escaped.
    pub name: String,
    /// How many links attach it.
    pub links: usize,
}

impl Target {
    /// What is known of it. With `writers`, also which programs write it: many system calls.
    pub fn facts(&self, pins: &[PathBuf], writers: bool) -> Facts {
        let of_map = self.map.as_ref().map(AnyMap::facts);
        let cpus = self.map.as_ref().and_then(AnyMap::cpus).map_or(1, <[usize]>::len);
        let mut facts = Facts {
            region: self.location.to_string(),
            id: of_map.as_ref().map(|map| map.id),
            name: self.name(),
            kind: of_map.as_ref().map_or_else(String::new, |map| map.kind.replace('_', " ")),
            ty: self.ty().map(value::type_name).unwrap_or_default(),
            size: of_map.as_ref().map_or(0, |map| map.value_size),
            entries: of_map.as_ref().map_or(0, |map| map.max_entries),
            shards: cpus,
            bytes: 0,
            pins: pins.iter().map(printable_path).collect(),
            access: self.access().map(|access| if access == Access::Mapped { "mapped" } else { "syscall" }),
            refusal: self.refusal().map(|refusal| refusal.to_string()),
            no_types: self.types().err().map(str::to_owned),
            loader: None,
            programs: None,
            no_programs: None,
            dropped: None,
            error: None,
        };
        facts.bytes = facts.size.next_multiple_of(8).saturating_mul(facts.entries).saturating_mul(cpus);
        match &self.layout {
            Layout::Damaged(e) => facts.error = Some(e.to_string()),
            Layout::Other if facts.kind.ends_with("of maps") => facts.kind = "map of maps".to_owned(),
            // Its entries are bytes.
            Layout::Ringbuf => (facts.size, facts.bytes) = (1, facts.entries),
            Layout::Other => {}
            Layout::Array if facts.kind == "percpu array" => facts.kind = "per-CPU array".to_owned(),
            Layout::Array => {}
            Layout::Globals => facts.kind = "global data".to_owned(),
            Layout::Region(region) => facts.of_region(region, &[], writers),
            Layout::RingInMaps(regions) => {
                if let Some((_, first)) = regions.first() {
                    facts.of_region(first, regions, writers);
                }
            }
        }
        let dropped = self.dropped().ok().flatten();
        facts.dropped = dropped.map(|dropped| dropped.iter().map(|(_, count)| count).sum());
        facts
    }
}

impl Facts {
    fn of_region(&mut self, region: &Region, all: &[(usize, Region)], writers: bool) {
        let geometry = region.geometry();
        let options = geometry.options();
        self.kind = match options == RingOptions::default() {
            true => geometry.kind().to_string(),
            false => format!("{} ({options})", geometry.kind()),
        };
        if options.has_per_cpu_maps() && all.is_empty() {
            self.kind.insert_str(0, "one CPU's ");
        }
        if !has_records(geometry.kind()) {
            self.no_types = None; // none are needed
        }
        if self.ty.is_empty() || !has_records(geometry.kind()) {
            self.ty = printable(&region.preamble().name).into_owned();
        }
        (self.size, self.entries) = (geometry.record(), geometry.capacity());
        match all {
            [] if geometry.kind().is_per_cpu() => self.bytes = geometry.bytes().saturating_mul(self.shards),
            [] => (self.shards, self.bytes) = (geometry.shards(), geometry.bytes()),
            all => {
                self.shards = all.iter().map(|(_, region)| region.geometry().shards()).sum();
                self.bytes = all.iter().map(|(_, region)| region.geometry().bytes()).sum();
            }
        }
        let loader = region.loader().ok().flatten();
        self.loader = loader.map(|loader| Loader { pid: loader.pid, lives: is_alive(loader) });
        if !writers || self.id.is_none() {
            return;
        }
        match region.programs() {
            Ok(programs) => {
                let programs = programs.into_iter();
                let program = |user: mapring::liveness::MapUser| Program {
                    id: user.id,
                    name: printable(&user.name).into_owned(),
                    links: user.links,
                };
                self.programs = Some(programs.map(program).collect());
            }
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied) => {
                self.no_programs = Some("programs are not known without CAP_SYS_ADMIN".to_owned());
            }
            Err(e) => self.no_programs = Some(e.to_string()),
        }
    }

    /// The loader and the programs in words, if there is something to say.
    pub(crate) fn writers(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(Loader { pid, lives }) = &self.loader {
            parts.push(format!("loader {pid} {}", if *lives { "lives" } else { "has ended" }));
        }
        match &self.programs {
            Some(programs) if programs.is_empty() => parts.push("no program uses it".to_owned()),
            Some(programs) => parts.extend(programs.iter().map(|program| {
                let Program { id, name, links } = program;
                match links {
                    0 => format!("{name} (program {id}, no link)"),
                    _ => format!("{name} (program {id}, attached)"),
                }
            })),
            None => parts.extend(self.no_programs.clone()),
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
