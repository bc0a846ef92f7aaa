//! Opens the regions once, reads them all, and hands their values to a sink. What all kinds of export of values share.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::any::AnyMap;
use mapring_kit::output;
use mapring_kit::text::printable;
use mapring_view::find::{self, All, Location};
use mapring_view::shortage;
use mapring_view::target::{Layout, Target};

use crate::config::Config;
use crate::families::{Families, Part, What, value_of};
use crate::series::{Family, Kind, Labels, Number};
use crate::sink::Sink;
use crate::source::{Source, Values};

/// The regions of an export, open, with what is exported of them.
pub(crate) struct Sampler {
    /// As the user named them. Empty: all regions.
    names: Vec<String>,
    pub(crate) config: Config,
    by_cpu: bool,
    open: Open,
}

type Opened = (Source, Location, Labels);

/// File descriptors kept free for clients and for checking pins, while regions are opened.
const RESERVE: usize = 4;

/// What is open now.
#[derive(Default)]
struct Open {
    sources: Vec<Opened>,
    families: Families,
    /// Regions that were named, but could not be opened, and why.
    down: Vec<(String, anyhow::Error)>,
    /// What is left out, in words.
    notes: Vec<String>,
    /// One source of each region: a region can be open twice, by CPU and in sums.
    regions: Vec<usize>,
    /// All maps there were, if all regions are exported.
    maps: BTreeMap<u32, Vec<PathBuf>>,
    /// The sources of an earlier round that are still right: none is opened twice.
    earlier: Vec<Opened>,
    /// Whether the loader of each region lived at the last check.
    loaders: Vec<Option<bool>>,
}

impl Sampler {
    /// Opens the regions with these names; without names, those of the configuration, or else all.
    pub(crate) fn new(names: Vec<String>, config: Config, by_cpu: bool) -> Result<Self> {
        let mut new = Self { names, config, by_cpu, open: Open::default() };
        let all = new.wants_all().then(All::find);
        new.open = new.opened(Vec::new(), all);
        new.open.notes.iter().for_each(|note| output::note(format_args!("mapring: {note}")));
        if new.wants_all() {
            new.open.down.iter().for_each(|(name, e)| {
                eprintln!("mapring: {}", shortage::left_out(&printable(name), e));
            });
        } else if !new.open.down.is_empty() {
            return Err(new.open.down.swap_remove(0).1);
        }
        ensure!(
            !new.open.sources.is_empty() || new.wants_all(),
            "nothing to export: `mapring ls` lists the regions there are"
        );
        new.check_loaders();
        Ok(new)
    }

    fn wants_all(&self) -> bool {
        self.names.is_empty() && self.config.metrics.is_empty()
    }

    /// Opens what there is now, and takes what is open already.
    fn opened(&self, earlier: Vec<Opened>, all: Option<All>) -> Open {
        let reserve: Vec<_> = (0..RESERVE).map_while(|_| File::open("/dev/null").ok()).collect();
        let mut open = Open { earlier, ..Open::default() };
        let most = self.config.limits.series;
        let mut index_of = BTreeMap::new();
        for metric in &self.config.metrics {
            let by_cpu = metric.by_cpu || self.by_cpu;
            let key = (metric.region.as_str(), by_cpu);
            let index = *index_of.entry(key).or_insert_with(|| open.add(&metric.region, by_cpu, most));
            if let Some((source, _, labels)) = index.and_then(|index| open.sources.get(index)) {
                let index = index.unwrap_or_default();
                if let Err(e) = open.families.configured(metric, index, source, labels) {
                    let e = e.context(format!("metric {:?}", metric.name));
                    open.down.push((metric.region.clone(), e));
                }
            }
        }
        for name in &self.names {
            if let Some(index) = open.add(name, self.by_cpu, most) {
                open.add_defaults(index);
            }
        }
        if let Some(all) = all {
            open.add_all(all, self.by_cpu, most);
        }
        drop(reserve);
        open.earlier.clear();
        let mut known = Vec::new();
        for (index, (_, location, _)) in open.sources.iter().enumerate() {
            if !known.contains(&location) {
                known.push(location);
                open.regions.push(index);
            }
        }
        open
    }

    /// Opens again what was replaced, and what has come. Makes system calls; a server calls it between scrapes.
    pub(crate) fn reopen(&mut self) {
        let all = self.wants_all().then(All::find);
        // Without descriptors, nothing new can be opened, and nothing is known of what is open.
        let is_new = all.as_ref().is_some_and(|all| !all.short && all.maps != self.open.maps);
        let is_same: Vec<_> = self.open.sources.iter().map(is_same).collect();
        let is_down = |name: &str| find::find(name).and_then(Target::open).is_err();
        let is_back = || self.open.down.iter().any(|(name, _)| !is_down(name));
        if is_new || is_same.contains(&false) || is_back() {
            let before = std::mem::take(&mut self.open);
            let mut is_same = is_same.into_iter();
            let mut earlier = before.sources;
            earlier.retain(|_| is_same.next() == Some(true));
            self.open = self.opened(earlier, all);
            for (name, e) in &self.open.down {
                if !before.down.iter().any(|(known, _)| known == name) {
                    let name = format!("{}: no longer exported", printable(name));
                    eprintln!("mapring: {}", shortage::left_out(&name, e));
                }
            }
            for note in self.open.notes.iter().filter(|note| !before.notes.contains(note)) {
                output::note(format_args!("mapring: {note}"));
            }
        }
        self.check_loaders();
    }

    fn check_loaders(&mut self) {
        let of = |(source, ..): &(Source, Location, Labels)| {
            let loader = source.target.region().and_then(|region| region.loader().ok()).flatten();
            loader.map(mapring::liveness::is_alive)
        };
        self.open.loaders = self.open.sources.iter().map(of).collect();
    }

    /// Reads all values. Of mapped regions it makes no system call.
    pub(crate) fn read(&mut self) {
        for (source, location, _) in &mut self.open.sources {
            let before = source.error.take();
            source.read();
            if let Some(e) = source.error.as_ref().filter(|e| before.as_ref() != Some(e)) {
                eprintln!("mapring: {location}: {}", printable(e));
            }
            if let Values::Ring { read } = &source.values {
                let now = read.iter().fold(0, |sum: u64, (_, next)| sum.wrapping_add(*next));
                if now != source.last.0 {
                    source.last = (now, Instant::now());
                }
            }
        }
    }

    /// Hands what was read to a sink.
    pub(crate) fn emit(&mut self, sink: &mut impl Sink) {
        let Open { sources, families, .. } = &mut self.open;
        for (family, parts) in families.iter_mut() {
            sink.family(family);
            for part in parts {
                if let Some((source, ..)) =
                    sources.get(part.source).filter(|(source, ..)| source.error.is_none())
                {
                    sink.start(source.start);
                    emit_part(source, part, sink);
                }
            }
        }
        self.emit_own(sink);
    }

    /// What mapring knows of the regions themselves.
    fn emit_own(&self, sink: &mut impl Sink) {
        let Open { sources, down, loaders, regions, .. } = &self.open;
        let each = || regions.iter().filter_map(|index| Some((*index, sources.get(*index)?)));
        sink.family(&own("mapring_up", "1 if the region is there and could be read.", Kind::Gauge));
        for (_, (source, _, labels)) in each() {
            sink.number(labels, Number::Unsigned(source.error.is_none().into()));
        }
        let is_open = |name: &str| sources.iter().any(|(_, location, _)| location.to_string() == name);
        for (name, _) in down.iter().filter(|(name, _)| !is_open(name)) {
            sink.number(&Labels::of([("region", name.clone())]), Number::Unsigned(0));
        }
        let help = "Records and updates that programs dropped.";
        sink.family(&own("mapring_dropped_total", help, Kind::Counter));
        for (_, (source, _, labels)) in each() {
            sink.start(source.start);
            for (cause, count) in &source.dropped {
                sink.number(&labels.with("cause", (*cause).to_owned()), Number::Unsigned(*count));
            }
        }
        let help = "1 if the process that initialized the region lives. Attached programs write without it.";
        sink.family(&own("mapring_loader_alive", help, Kind::Gauge));
        for (index, (_, _, labels)) in each() {
            if let Some(lives) = loaders.get(index).copied().flatten() {
                sink.number(labels, Number::Unsigned(lives.into()));
            }
        }
        let help = "How long no scrape has found a new record in the ring.";
        sink.family(&own("mapring_idle_seconds", help, Kind::Gauge));
        for (_, (source, _, labels)) in each() {
            if let Values::Ring { .. } = &source.values {
                sink.number(labels, Number::Float(source.last.1.elapsed().as_secs_f64()));
            }
        }
    }

    /// The number of regions that are exported.
    pub(crate) fn regions(&self) -> usize {
        self.open.regions.len()
    }
}

impl Open {
    /// Opens a region by its name; returns its index. One that can't be opened is down.
    fn add(&mut self, name: &str, by_cpu: bool, most: usize) -> Option<usize> {
        let added = find::find(name).and_then(|location| self.add_location(location, by_cpu, most));
        match added {
            Ok(Some(index)) => return Some(index),
            Ok(None) => {
                let why = anyhow::anyhow!("{}: it has no values to export", printable(name));
                self.down.push((name.to_owned(), why));
            }
            Err(e) => self.down.push((name.to_owned(), e)),
        }
        None
    }

    fn add_location(&mut self, location: Location, by_cpu: bool, most: usize) -> Result<Option<usize>> {
        let is_it = |(source, of, _): &Opened| *of == location && source.by_cpu == by_cpu;
        let source = match self.earlier.iter().position(is_it) {
            Some(at) => self.earlier.swap_remove(at).0,
            None => {
                let target = Target::open(location.clone())?;
                if let Layout::Damaged(e) = target.layout {
                    return Err(e.into());
                }
                let Some(source) = Source::open(target, by_cpu, most)? else { return Ok(None) };
                source
            }
        };
        if source.count() < source.len() {
            let (count, all) = (source.count(), source.len());
            self.notes.push(format!(
                "{location}: {count} of its {all} values are exported: raise `series` in [limits]"
            ));
        }
        let labels = Labels::of([("region", location.to_string())]);
        self.sources.push((source, location, labels));
        Ok(Some(self.sources.len() - 1))
    }

    fn add_defaults(&mut self, index: usize) {
        let Self { sources, families, notes, .. } = self;
        if let Some((source, _, labels)) = sources.get(index) {
            families.defaults(index, source, labels, notes);
        }
    }

    /// Adds all regions that this process can read.
    fn add_all(&mut self, all: All, by_cpu: bool, most: usize) {
        for (id, pins) in &all.maps {
            let location = pins.first().map_or(Location::Id(*id), |pin| Location::Pin(pin.clone()));
            let added = match self.is_exported(&location) {
                Ok(true) => self.add_location(location.clone(), by_cpu, most),
                Ok(false) => Ok(None),
                Err(e) => Err(e),
            };
            match added {
                Ok(Some(index)) => self.add_defaults(index),
                Err(e) if shortage::of_chain(&e) => self.down.push((location.to_string(), e)),
                // What ends meanwhile, and what this process can't read, is not exported.
                Ok(None) | Err(_) => {}
            }
        }
        self.notes.extend(all.hidden.iter().map(|why| printable(why).into_owned()));
        self.maps = all.maps;
    }

    /// Whether a map is exported without being named: regions are; a ring in a map of maps as a whole.
    fn is_exported(&self, location: &Location) -> Result<bool> {
        Ok(self.earlier.iter().any(|(_, of, _)| of == location)
            || match Target::open(location.clone())?.layout {
                Layout::Region(region) => {
                    let options = region.geometry().options();
                    !options.has_per_cpu_maps() && !options.is_resizable()
                }
                Layout::RingInMaps(_) => true,
                _ => false,
            })
    }
}

/// Whether a source is still what is there. Of what can't be looked at for want of descriptors, nothing else is known.
fn is_same((source, location, _): &Opened) -> bool {
    match location {
        Location::Pin(_) => {}
        Location::File(path) => return path.exists(),
        Location::Id(_) => return true,
    }
    let id = source.target.map.as_ref().map(|map| map.facts().id);
    let moved = match source.target.region() {
        Some(region) if matches!(source.target.layout, Layout::RingInMaps(_)) => match region.replaced() {
            Ok(now) => now.is_some(),
            Err(e) => !shortage::of_library(&e),
        },
        _ => false,
    };
    !moved
        && location.map().is_ok_and(|map| match AnyMap::open(map) {
            Ok(map) => Some(map.facts().id) == id,
            Err(e) => shortage::of_library(&e),
        })
}

fn own(name: &str, help: &str, kind: Kind) -> Family {
    Family { name: name.to_owned(), help: help.to_owned(), kind, unit: String::new() }
}

fn emit_part(source: &Source, part: &mut Part, sink: &mut impl Sink) {
    match (&source.values, &part.what) {
        (Values::Histograms { read, .. }, _) => {
            for (at, labels) in &part.series {
                if let Some(histogram) = read.get(*at) {
                    sink.histogram(labels, histogram, part.scale.unwrap_or(1.0));
                }
            }
        }
        (Values::Top { read, .. }, What::Keys { label, labels }) => {
            for top in read {
                let number = Number::Unsigned(top.count).scaled(part.scale);
                sink.number(&labels.with(label, top.key.to_string()), number);
            }
        }
        (Values::Ring { read }, What::Shards(labels)) => {
            for (shard, next) in read {
                let number = Number::Unsigned(*next).scaled(part.scale);
                sink.number(&labels.with("shard", shard.to_string()), number);
            }
        }
        (Values::Counters { read, .. }, _) => {
            let Part { scale, series, kept, .. } = part;
            sink.numbers(series, kept, |at| Some(Number::Unsigned(*read.get(at)?).scaled(*scale)));
        }
        _ => {
            let Part { what, scale, series, kept, .. } = part;
            let number = |at| Some(value_of(&source.values, what, at)?.scaled(*scale));
            sink.numbers(series, kept, number);
        }
    }
}
