//! The configuration file: which metrics there are, and the limits of the server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mapring_kit::output;
use mapring_kit::text::{Lines, printable_path};
use serde::{Deserialize, Deserializer, de};

use crate::series::{Kind, is_name};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) limits: Limits,
    #[serde(rename = "metric")]
    pub(crate) metrics: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// The largest response, in bytes.
    #[serde(deserialize_with = "size")]
    pub(crate) response: usize,
    /// The largest request, in bytes.
    #[serde(deserialize_with = "size")]
    pub(crate) request: usize,
    /// Clients at the same time.
    pub(crate) clients: usize,
    /// How long a client may take for its request and the response.
    #[serde(deserialize_with = "span")]
    pub(crate) time: Duration,
    /// Series of a metric and region.
    pub(crate) series: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            response: 16 << 20,
            request: 8 << 10,
            clients: 64,
            time: Duration::from_secs(10),
            series: 4096,
        }
    }
}

/// A metric, made of values of one region.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metric {
    pub(crate) region: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) help: Option<String>,
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
    /// The field of the values, such as `at[0].x`; of gauges `min`, `max` or `last`.
    #[serde(default)]
    pub(crate) field: Option<String>,
    /// The label that tells counters, histograms, gauges or values of one region apart.
    #[serde(default)]
    pub(crate) label: Option<String>,
    /// Its values by index. Only these are exported.
    #[serde(default)]
    pub(crate) entries: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) by_cpu: bool,
    #[serde(default)]
    pub(crate) unit: Option<String>,
    /// Each value is multiplied by this.
    #[serde(default)]
    pub(crate) scale: Option<f64>,
}

/// No configuration has more bytes.
const LARGEST: u64 = 1 << 20;

impl Config {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = printable_path(path);
        let file = File::open(path).with_context(|| name.clone())?;
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).with_context(|| name.clone())?;
        ensure!(text.len() as u64 <= LARGEST, "{name}: a configuration has at most {LARGEST} bytes");
        Self::parse(&text).with_context(|| name)
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| {
            Lines(e.to_string()) // it quotes the line
        })?;
        let Limits { response, request, clients, time, series } = config.limits;
        for (name, is_set) in [
            ("response", response > 0),
            ("request", request > 0),
            ("clients", clients > 0),
            ("time", !time.is_zero()),
            ("series", series > 0),
        ] {
            ensure!(is_set, "limits: {name} must be larger than 0");
        }
        for metric in &config.metrics {
            metric.check().with_context(|| format!("metric {:?}", metric.name))?;
        }
        Ok(config)
    }
}

impl Metric {
    fn check(&self) -> Result<()> {
        ensure!(
            is_name(&self.name, false),
            "not a name of a metric: use letters, digits and _, and begin with a letter"
        );
        let names = self.labels.keys().chain(&self.label);
        for name in names {
            ensure!(is_name(name, true), "{name:?}: not a name of a label: use letters, digits and _");
            ensure!(
                !["le", "cpu", "region"].contains(&name.as_str()),
                "{name:?}: mapring sets this label itself"
            );
        }
        if let Some(label) = &self.label {
            ensure!(!self.labels.contains_key(label), "{label:?}: also in labels");
        }
        for index in self.entries.keys() {
            ensure!(index.parse::<usize>().is_ok(), "entries: {index:?}: not an index: use 0, 1, 2, …");
        }
        if let Some(scale) = self.scale {
            ensure!(scale.is_finite() && scale > 0.0, "scale: {scale}: must be larger than 0");
        }
        Ok(())
    }

    /// The kind, which must be one of those that the region's values can be.
    pub(crate) fn kind_of(&self, possible: &[Kind]) -> Result<Kind> {
        let Some(&first) = possible.first() else { bail!("the region has no values to export") };
        let kind = self.kind.unwrap_or(first);
        let names: Vec<_> = possible.iter().map(|kind| kind.as_str()).collect();
        ensure!(possible.contains(&kind), "kind: {}: this region has {}", kind.as_str(), names.join(" or "));
        let total = self.name.ends_with("_total");
        ensure!(
            total == (kind == Kind::Counter),
            "names of counters end with _total, and no other names: this is a {}",
            kind.as_str()
        );
        Ok(kind)
    }
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = output::size(&text).map_err(de::Error::custom)?;
    usize::try_from(bytes).map_err(de::Error::custom)
}

fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    output::span(&String::deserialize(from)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_configuration_is_read() {
        let config = Config::parse(
            r#"
            [limits]
            response = "1M"
            time = "3s"
            [[metric]]
            region = "/sys/fs/bpf/x"
            name = "calls_total"
            label = "call"
            entries = { 0 = "read", 1 = "write" }
            labels = { host = "a" }
            scale = 0.5
            "#,
        )
        .unwrap();
        assert_eq!((config.limits.response, config.limits.clients), (1 << 20, 64));
        assert_eq!(
            (config.limits.time, config.metrics[0].entries["1"].as_str()),
            (Duration::from_secs(3), "write")
        );
        assert_eq!(config.metrics[0].kind_of(&[Kind::Counter]).unwrap(), Kind::Counter);
        assert!(config.metrics[0].kind_of(&[Kind::Histogram]).is_err());
    }

    #[test]
    fn errors_say_where_and_what() {
        let metric = "[[metric]]\nregion = \"x\"\nname = \"y\"\n";
        for (text, message) in [
            ("[limits]\nclient = 1", "line 2"),
            ("[limits]\nclient = 1", "`response`, `request`, `clients`, `time`, `series`"),
            ("[limits]\ntime = \"10\"", "write it as 500ms"),
            ("[limits]\ntime = \"300000000000y\"", "the longest time is 100 years"),
            ("[limits]\nclients = 0", "clients must be larger than 0"),
            ("[limits]\nclients = -1", "line 2"),
            ("[[metric]]\nregion = \"x\"", "missing field `name`"),
            (&format!("{metric}kind = \"summary\""), "`counter`, `gauge`, `histogram`"),
            (&format!("{metric}labels = {{ \"a-b\" = \"\" }}"), "not a name of a label"),
            (&format!("{metric}labels = {{ le = \"\" }}"), "sets this label itself"),
            (&format!("{metric}entries = {{ a = \"\" }}"), "not an index"),
            (&format!("{metric}scale = 0.0"), "larger than 0"),
            (&metric.replace('y', "é"), "not a name of a metric"),
            ("\u{1b}[2J = 1", "line 1"),
        ] {
            let error = mapring_kit::text::one_line(&Config::parse(text).unwrap_err());
            assert!(error.contains(message) && !error.contains('\u{1b}'), "{text}: {error}");
        }
    }
}
