//! Opens the regions once, reads them all, and hands their values to a sink. What all kinds of export of values share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mapring::any::AnyMap;

use super::config::Config;
use super::families::{Families, Part, What, value_of};
use super::series::{Family, Kind, Labels, Number, Sink};
use super::source::{Source, Values};
use crate::output;
use crate::regions::find::{self, All, Place};
use crate::regions::target::{Sort, Target};
use crate::regions::text::{printable, said};

/// The regions of an export, open, with what is exported of them.
pub(super) struct Sampler {
    /// As the user named them. Empty: all regions.
    names: Vec<String>,
    pub(super) config: Config,
    by_cpu: bool,
    open: Open,
}

/// What is open now.
#[derive(Default)]
struct Open {
    sources: Vec<(Source, Place, Labels)>,
    families: Families,
    /// Regions that were named, but could not be opened, and why.
    down: Vec<(String, anyhow::Error)>,
    /// What is left out, in words.
    notes: Vec<String>,
    /// One source of each region: a region can be open twice, by CPU and in sums.
    regions: Vec<usize>,
    /// All maps there were, if all regions are exported.
    maps: BTreeMap<u32, Vec<PathBuf>>,
    /// The tickets of each ring at the last reading, and when they last changed.
    last: Vec<(u64, Instant)>,
    /// Whether the loader of each region lived at the last look.
    loaders: Vec<Option<bool>>,
}

impl Sampler {
    /// Opens the regions with these names; without names, those of the configuration, or else all.
    pub(super) fn new(names: Vec<String>, config: Config, by_cpu: bool) -> Result<Self> {
        let mut new = Self { names, config, by_cpu, open: Open::default() };
        new.open = new.opened()?;
        new.open.notes.iter().for_each(|note| output::note(format_args!("mapring: {note}")));
        if let Some((_, why)) = new.open.down.pop() {
            return Err(why);
        }
        ensure!(
            !new.open.sources.is_empty() || new.wants_all(),
            "nothing to export: `mapring ls` lists the regions there are"
        );
        new.look_at_loaders();
        Ok(new)
    }

    fn wants_all(&self) -> bool {
        self.names.is_empty() && self.config.metrics.is_empty()
    }

    /// Opens what there is now. Only errors of the configuration are errors here.
    fn opened(&self) -> Result<Open> {
        let mut open = Open::default();
        let most = self.config.limits.series;
        let mut index_of = BTreeMap::new();
        for metric in &self.config.metrics {
            let by_cpu = metric.by_cpu || self.by_cpu;
            let key = (metric.region.as_str(), by_cpu);
            let index = *index_of.entry(key).or_insert_with(|| open.add(&metric.region, by_cpu, most));
            if let Some((source, _, labels)) = index.and_then(|index| open.sources.get(index)) {
                let index = index.unwrap_or_default();
                let added = open.families.configured(metric, index, source, labels);
                added.with_context(|| format!("metric {:?}", metric.name))?;
            }
        }
        for name in &self.names {
            if let Some(index) = open.add(name, self.by_cpu, most) {
                open.add_defaults(index);
            }
        }
        if self.wants_all() {
            open.add_all(self.by_cpu, most);
        }
        let mut known = Vec::new();
        for (index, (_, place, _)) in open.sources.iter().enumerate() {
            if !known.contains(&place) {
                known.push(place);
                open.regions.push(index);
            }
        }
        open.last = vec![(0, Instant::now()); open.sources.len()];
        Ok(open)
    }

    /// Opens again what was replaced, and what has come. Makes system calls; a server calls it between scrapes.
    pub(super) fn look(&mut self) {
        if !self.is_current() {
            match self.opened() {
                Ok(mut open) => {
                    for (name, why) in &open.down {
                        if !self.open.down.iter().any(|(known, _)| known == name) {
                            let name = printable(name);
                            eprintln!("mapring: {name}: no longer exported: {}", said(why));
                        }
                    }
                    for note in open.notes.iter().filter(|note| !self.open.notes.contains(note)) {
                        output::note(format_args!("mapring: {note}"));
                    }
                    for ((_, place, _), last) in open.sources.iter().zip(&mut open.last) {
                        let before = self.open.sources.iter().position(|(_, before, _)| before == place);
                        *last = before.and_then(|at| self.open.last.get(at)).copied().unwrap_or(*last);
                    }
                    self.open = open;
                }
                Err(e) => eprintln!("mapring: {}", said(&e)),
            }
        }
        self.look_at_loaders();
    }

    fn look_at_loaders(&mut self) {
        let of = |(source, ..): &(Source, Place, Labels)| {
            let loader = source.target.region().and_then(|region| region.loader().ok()).flatten();
            loader.map(mapring::liveness::Process::is_alive)
        };
        self.open.loaders = self.open.sources.iter().map(of).collect();
    }

    fn is_current(&self) -> bool {
        let open = &self.open;
        if self.wants_all() && All::find().maps != open.maps {
            return false;
        }
        let is_same = |(source, place, _): &(Source, Place, Labels)| match place {
            Place::Pin(pin) => {
                let id = source.target.map.as_ref().map(|map| map.facts().id);
                let moved = matches!(source.target.sort, Sort::RingInMaps(_))
                    && source.target.region().is_some_and(|region| !matches!(region.replaced(), Ok(None)));
                AnyMap::open(pin.as_path()).ok().map(|map| map.facts().id) == id && !moved
            }
            Place::File(path) => path.exists(),
            Place::Id(_) => true,
        };
        let is_down = |name: &str| find::find(name).and_then(Target::open).is_err();
        open.sources.iter().all(is_same) && open.down.iter().all(|(name, _)| is_down(name))
    }

    /// Reads all values. Of mapped regions it makes no system call.
    pub(super) fn read(&mut self) {
        let Open { sources, last, .. } = &mut self.open;
        for ((source, place, _), (tickets, changed)) in sources.iter_mut().zip(last) {
            let before = source.error.take();
            source.read();
            if let Some(e) = source.error.as_ref().filter(|e| before.as_ref() != Some(e)) {
                eprintln!("mapring: {place}: {}", printable(e));
            }
            if let Values::Ring { read } = &source.values {
                let now = read.iter().fold(0, |sum: u64, (_, next)| sum.wrapping_add(*next));
                if now != *tickets {
                    (*tickets, *changed) = (now, Instant::now());
                }
            }
        }
    }

    /// Hands what was read to a sink.
    pub(super) fn emit(&mut self, sink: &mut impl Sink) {
        let Open { sources, families, .. } = &mut self.open;
        for (family, parts) in families.iter_mut() {
            sink.family(family);
            for part in parts {
                if let Some((source, ..)) =
                    sources.get(part.source).filter(|(source, ..)| source.error.is_none())
                {
                    emit_part(source, part, sink);
                }
            }
        }
        self.emit_own(sink);
    }

    /// What mapring knows of the regions themselves.
    fn emit_own(&self, sink: &mut impl Sink) {
        let Open { sources, down, last, loaders, regions, .. } = &self.open;
        let each = || regions.iter().filter_map(|index| Some((*index, sources.get(*index)?)));
        sink.family(&own("mapring_up", "1 if the region is there and could be read.", Kind::Gauge));
        for (_, (source, _, labels)) in each() {
            sink.number(labels, Number::Unsigned(source.error.is_none().into()));
        }
        for (name, _) in down {
            sink.number(&Labels::of([("region", name.clone())]), Number::Unsigned(0));
        }
        let help = "Records and updates that programs dropped.";
        sink.family(&own("mapring_dropped_total", help, Kind::Counter));
        for (_, (source, _, labels)) in each() {
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
        for (index, (source, _, labels)) in each() {
            if let (Values::Ring { .. }, Some((_, changed))) = (&source.values, last.get(index)) {
                sink.number(labels, Number::Float(changed.elapsed().as_secs_f64()));
            }
        }
    }

    /// The number of regions that are exported.
    pub(super) fn regions(&self) -> usize {
        self.open.regions.len()
    }
}

impl Open {
    /// Opens a region by its name; returns its index. One that can't be opened is down.
    fn add(&mut self, name: &str, by_cpu: bool, most: usize) -> Option<usize> {
        let added = find::find(name).and_then(|place| self.add_place(place, by_cpu, most));
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

    fn add_place(&mut self, place: Place, by_cpu: bool, most: usize) -> Result<Option<usize>> {
        let target = Target::open(place.clone())?;
        if let Sort::Damaged(e) = target.sort {
            return Err(e.into());
        }
        let Some(source) = Source::open(target, by_cpu, most)? else { return Ok(None) };
        if source.count() < source.len() {
            let (count, all) = (source.count(), source.len());
            self.notes.push(format!(
                "{place}: {count} of its {all} values are exported: raise `series` in [limits]"
            ));
        }
        let labels = Labels::of([("region", place.to_string())]);
        self.sources.push((source, place, labels));
        Ok(Some(self.sources.len() - 1))
    }

    fn add_defaults(&mut self, index: usize) {
        let Self { sources, families, notes, .. } = self;
        if let Some((source, _, labels)) = sources.get(index) {
            families.defaults(index, source, labels, notes);
        }
    }

    /// Adds all regions that this process can read.
    fn add_all(&mut self, by_cpu: bool, most: usize) {
        let all = All::find();
        for (id, pins) in &all.maps {
            let place = pins.first().map_or(Place::Id(*id), |pin| Place::Pin(pin.clone()));
            // Other maps are exported only by name. A ring in a map of maps is exported as a whole.
            let is_region = |target: &Target| match &target.sort {
                Sort::Region(region) => !region.geometry().is_of_cpu() && !region.geometry().is_resizable(),
                Sort::RingInMaps(_) => true,
                _ => false,
            };
            // What ends meanwhile, and what this process can't read, is not exported.
            if Target::open(place.clone()).is_ok_and(|target| is_region(&target))
                && let Ok(Some(index)) = self.add_place(place, by_cpu, most)
            {
                self.add_defaults(index);
            }
        }
        self.notes.extend(all.hidden.iter().map(|why| printable(why).into_owned()));
        self.maps = all.maps;
    }
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
