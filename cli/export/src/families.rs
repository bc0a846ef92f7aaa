//! Which families a region's values become: by default, or as the configuration says.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use mapring_kit::text::{one_line, printable};

use crate::config::Metric;
use crate::series::{Family, Kind, Labels, Number, name_of};
use crate::sink::Kept;
use crate::source::{Source, Values};

/// All families, in order.
#[derive(Default)]
pub(crate) struct Families {
    list: Vec<(Family, Vec<Part>)>,
    /// The series there are, so that none is there twice.
    known: HashSet<(String, String)>,
}

/// The series of a family from one region.
pub(crate) struct Part {
    /// The index of the source.
    pub(crate) source: usize,
    pub(crate) what: What,
    pub(crate) scale: Option<f64>,
    /// Where each value is in the source's list.
    pub(crate) series: Vec<(usize, Labels)>,
    pub(crate) kept: Kept,
}

/// Which of a source's values.
pub(crate) enum What {
    /// Those at the places of the series.
    Values,
    /// This one of the fields of each value.
    Field(usize),
    /// The keys of a table of top keys, which are known only when it is read.
    Keys { label: String, labels: Labels },
    /// The tickets of each shard of a ring.
    Shards(Labels),
}

/// The three values of a gauge, in their order.
const EXTREMES: [&str; 3] = ["min", "max", "last"];

impl Families {
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut (Family, Vec<Part>)> {
        self.list.iter_mut()
    }

    /// Adds all values of a source, under names made of its map's. Adds to `notes` what is left out.
    pub(crate) fn defaults(
        &mut self,
        index: usize,
        source: &Source,
        labels: &Labels,
        notes: &mut Vec<String>,
    ) {
        let map = source.target.map_name();
        let kind = source.target.kind().map(|kind| kind.to_string());
        let name = format!("mapring_{}", name_of(&map.or(kind).unwrap_or_else(|| "array".to_owned())));
        let count = source.count();
        let label = if count > 1 { Some("index") } else { None };
        let total = |name: &str| format!("{}_total", name.strip_suffix("_total").unwrap_or(name));
        let all = |stride, offset| {
            series(source, labels, label, (0..count).map(|at| (at, at.to_string())), stride, offset)
        };
        let mut add = |name: String, help: &str, kind, what, series| {
            let family = Family { name, help: help.to_owned(), kind, unit: String::new() };
            if let Err(e) =
                self.add(family, Part { source: index, what, scale: None, series, kept: Kept::default() })
            {
                notes.push(format!("{}: left out: {}", source.target.location, one_line(&e)));
            }
        };
        match &source.values {
            Values::Counters { .. } => add(total(&name), "Counters.", Kind::Counter, What::Values, all(1, 0)),
            Values::Histograms { .. } => {
                let help = "A histogram. Its sum is exact to 6.25 %.";
                add(name, help, Kind::Histogram, What::Values, all(1, 0));
            }
            Values::Gauges { .. } => {
                for (at, extreme) in EXTREMES.iter().enumerate() {
                    let help = "In the last 1024 milliseconds in which it was set.";
                    add(format!("{name}_{extreme}"), help, Kind::Gauge, What::Values, all(3, at));
                }
            }
            Values::Top { .. } => {
                let what = What::Keys { label: "key".to_owned(), labels: labels.clone() };
                add(total(&name), "The keys with the largest counts.", Kind::Counter, what, Vec::new());
            }
            Values::Ring { .. } => {
                let what = What::Shards(labels.clone());
                let help = "Records reserved by programs, also those that they discarded.";
                add(format!("{name}_records_total"), help, Kind::Counter, what, Vec::new());
            }
            Values::Table { .. } => {
                for (at, field) in source.fields().iter().enumerate() {
                    let name = format!("{name}_{}", name_of(field).trim_end_matches('_'));
                    let help = format!("The field {} of the values.", printable(field));
                    let name = name.trim_end_matches('_').to_owned();
                    add(name, &help, Kind::Gauge, What::Field(at), all(1, 0));
                }
            }
        }
    }

    /// Adds a metric of the configuration.
    pub(crate) fn configured(
        &mut self,
        metric: &Metric,
        index: usize,
        source: &Source,
        region: &Labels,
    ) -> Result<()> {
        use Kind::{Counter, Gauge, Histogram};
        let mut labels = region.clone();
        metric.labels.iter().for_each(|(name, value)| labels.push(name, value.clone()));
        let (mut what, possible, mut stride, mut offset) = match &source.values {
            Values::Counters { .. } => (What::Values, &[Counter, Gauge][..], 1, 0),
            Values::Histograms { .. } => (What::Values, &[Histogram][..], 1, 0),
            Values::Gauges { .. } => (What::Values, &[Gauge][..], 3, 2),
            Values::Top { .. } => {
                let label = metric.label.clone().unwrap_or_else(|| "key".to_owned());
                (What::Keys { label, labels: labels.clone() }, &[Counter][..], 1, 0)
            }
            Values::Ring { .. } => (What::Shards(labels.clone()), &[Counter][..], 1, 0),
            Values::Table { .. } => (What::Field(0), &[Gauge, Counter][..], 1, 0),
        };
        let kind = metric.kind_of(possible)?;
        match (&source.values, &metric.field) {
            (Values::Gauges { .. }, Some(field)) => {
                let at = EXTREMES.iter().position(|extreme| extreme == field);
                offset = at.with_context(|| format!("field: {field:?}: a gauge has min, max and last"))?;
                stride = 3;
            }
            (Values::Table { .. }, field) => {
                let (field, fields) = (field.clone().unwrap_or_default(), source.fields());
                if let Err(why) = source.target.ty() {
                    bail!("the fields are not known: {why}");
                }
                let known = fields.iter().map(|field| printable(field)).collect::<Vec<_>>().join(", ");
                let at = fields.iter().position(|known| *known == field);
                let at =
                    at.with_context(|| format!("field: {field:?}: the fields with numbers are: {known}"))?;
                what = What::Field(at);
            }
            (_, Some(field)) => bail!("field: {field:?}: the values of this region have no fields"),
            _ => {}
        }
        let count = source.count();
        let entries: Vec<_> = match metric.entries.is_empty() {
            true => (0..count).map(|at| (at, at.to_string())).collect(),
            false => {
                let entry = |(at, name): (&String, &String)| Ok((at.parse::<usize>()?, name.clone()));
                metric.entries.iter().map(entry).collect::<Result<_>>()?
            }
        };
        if let Some((at, _)) = entries.iter().find(|(at, _)| *at >= count) {
            bail!("entries: {at}: the region has {count}, and they begin with 0");
        }
        let label =
            metric.label.as_deref().or((entries.len() > 1 || !metric.entries.is_empty()).then_some("index"));
        let series = series(source, &labels, label, entries.into_iter(), stride, offset);
        let family = Family {
            name: metric.name.clone(),
            help: metric.help.clone().unwrap_or_else(|| format!("Of {}.", source.target.name())),
            kind,
            unit: metric.unit.clone().unwrap_or_default(),
        };
        self.add(family, Part { source: index, what, scale: metric.scale, series, kept: Kept::default() })
    }

    /// Adds series to the family with this name, or a family.
    fn add(&mut self, family: Family, part: Part) -> Result<()> {
        let own = ["mapring_up", "mapring_dropped_total", "mapring_loader_alive", "mapring_idle_seconds"];
        ensure!(!own.contains(&family.name.as_str()), "mapring has a metric of this name");
        let dynamic = match &part.what {
            What::Keys { labels, .. } | What::Shards(labels) => Some(labels),
            _ => None,
        };
        for labels in part.series.iter().map(|(_, labels)| labels).chain(dynamic) {
            let is_new = self.known.insert((family.name.clone(), labels.text.clone()));
            ensure!(is_new, "{}{{{}}}: two values have this name and these labels", family.name, labels.text);
        }
        match self.list.iter_mut().find(|(known, _)| known.name == family.name) {
            Some((known, parts)) => {
                ensure!(known.kind == family.kind, "{}: a {} elsewhere", family.name, known.kind.as_str());
                parts.push(part);
            }
            None => self.list.push((family, vec![part])),
        }
        Ok(())
    }
}

/// A series for each entry and CPU: its place in the source's list, and its labels.
fn series(
    source: &Source,
    labels: &Labels,
    label: Option<&str>,
    entries: impl Iterator<Item = (usize, String)>,
    stride: usize,
    offset: usize,
) -> Vec<(usize, Labels)> {
    let (cpus, count) = (source.cpus(), source.count());
    let mut all = Vec::new();
    for (at, name) in entries {
        let labels = label.map_or_else(|| labels.clone(), |label| labels.with(label, name));
        for (nth, cpu) in cpus.iter().enumerate() {
            let location = match source.values {
                Values::Counters { .. } => nth * count + at,
                _ => at * cpus.len() + nth,
            };
            all.push((location, labels.with("cpu", cpu.to_string())));
        }
        if cpus.is_empty() {
            all.push((at * stride + offset, labels));
        }
    }
    all
}

/// The number at this place of a source's list, if it was written.
pub(crate) fn value_of(values: &Values, what: &What, at: usize) -> Option<Number> {
    match (values, what) {
        (Values::Gauges { read, .. }, _) => {
            let extremes = read.get(at / 3).copied().flatten()?;
            extremes.get(at % 3).copied().map(Number::Unsigned)
        }
        (Values::Table { fields, read, .. }, What::Field(field)) => {
            read.get(at * fields.len() + field).copied().flatten()
        }
        _ => None,
    }
}
