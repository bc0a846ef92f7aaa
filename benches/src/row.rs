//! One comparison of a report.

use serde_json::{Map, Value, json};

use crate::Spread;

/// The targets that a full run must have rows for.
pub const KEYS: &[&str] = &[
    "cell_read_lookup",
    "cell_read_memcpy",
    "counters_batch",
    "counters_percpu",
    "histogram_add",
    "histogram_read",
    "produce_one",
    "produce_all",
    "produce_sharded",
    "produce_sleeping",
    "wake",
    "wake_watermark",
    "wake_first",
    "asleep",
    "asleep_watermark",
    "asleep_latency",
    "nap_cpu",
    "stream",
    "keep_stream",
    "consume_small",
    "consume_large",
    "c_small",
    "c_large",
    "c_idle",
    "merge_2",
    "merge_growth_2",
    "latency_p50",
    "latency_p99",
    "latency_commit_p50",
    "latency_limit",
    "tail_16",
    "tail_256",
    "tail_4096",
    "tail_consume",
    "fallback_batch",
    "idle_shard",
    "command",
    "flight_event",
    "flight_event_armed",
    "flight_event_perf",
    "flight_call",
    "flight_call_perf",
    "flight_stopped",
    "flight_slowdown",
    "flight_profile",
    "flight_dump",
    "flight_dump_trace_cmd",
    "top_refresh",
    "export_scrape",
];

/// The unit of a target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Our time divided by theirs, within a round; theirs in nanoseconds.
    Ratio { ratio: Spread, theirs: Spread },
    /// Our nanoseconds.
    Ns,
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Row {
    /// The operation, as text.
    pub(crate) what: String,
    /// The name under which a target is tracked; without one, the row is only for information.
    pub(crate) key: Option<&'static str>,
    /// The peer.
    pub(crate) peer: String,
    /// Our nanoseconds.
    pub(crate) ours: Spread,
    pub(crate) measure: Measure,
    /// The target.
    pub(crate) target: Option<f64>,
    /// Attempts to reach it.
    pub(crate) tried: Option<String>,
    /// Measurements from the same time that explain the row.
    pub(crate) beside: Vec<(String, Spread)>,
}

impl Row {
    /// A comparison of measurements by [`interleave`](crate::interleave): smaller is better.
    pub fn new(what: &str, ours: &[f64], peer: &str, theirs: &[f64]) -> Self {
        let measure = Measure::Ratio {
            ratio: Spread::of_ratios(ours, theirs),
            theirs: Spread::of(theirs.iter().copied()),
        };
        Self { peer: peer.to_owned(), measure, ..Self::absolute(what, ours) }
    }

    /// Nanoseconds without a peer.
    pub fn absolute(what: &str, ours: &[f64]) -> Self {
        Self {
            what: what.to_owned(),
            key: None,
            peer: String::new(),
            ours: Spread::of(ours.iter().copied()),
            measure: Measure::Ns,
            target: None,
            tried: None,
            beside: Vec::new(),
        }
    }

    /// With a key from [`KEYS`], and the ratio (or nanoseconds) to reach.
    ///
    /// # Panics
    /// Panics if the key is not in [`KEYS`].
    #[must_use]
    pub fn target(self, key: &'static str, target: f64) -> Self {
        assert!(KEYS.contains(&key), "{key} is none of the keys");
        Self { key: Some(key), target: Some(target), ..self }
    }

    /// With the attempts to reach the target, which are printed if it isn't met.
    #[must_use]
    pub fn tried(self, what: &str) -> Self {
        Self { tried: Some(what.to_owned()), ..self }
    }

    /// With a measurement that explains the row: the time of a [`ping_pong`](crate::ping_pong) at the same time.
    #[must_use]
    pub fn beside(mut self, name: &str, samples: &[f64]) -> Self {
        self.beside.push((name.to_owned(), Spread::of(samples.iter().copied())));
        self
    }

    /// The value that the target applies to.
    pub(crate) fn value(&self) -> Spread {
        match self.measure {
            Measure::Ratio { ratio, .. } => ratio,
            Measure::Ns => self.ours,
        }
    }

    pub(crate) fn met(&self) -> Option<bool> {
        self.target.map(|target| self.value().median <= target)
    }

    pub(crate) fn json(&self) -> Value {
        let value = self.value();
        let beside: Map<_, _> =
            self.beside.iter().map(|(name, spread)| (name.clone(), spread.json())).collect();
        let mut row = json!({
            "key": self.key,
            "what": self.what,
            "peer": self.peer,
            "low": value.low,
            "high": value.high,
            "sure": value.sure,
            "blocks": value.count,
            "target": self.target,
            "met": self.met(),
            "ours_ns": self.ours.json(),
            "beside": beside,
        });
        match self.measure {
            Measure::Ratio { ratio, theirs } => {
                row["ratio"] = ratio.median.into();
                row["peer_ns"] = theirs.json();
            }
            Measure::Ns => row["ns"] = self.ours.median.into(),
        }
        if let (Some(false), Some(tried)) = (self.met(), &self.tried) {
            row["tried"] = tried.as_str().into();
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_or_not() {
        let row =
            |ours| Row::new("read", &[ours], "lookup", &[500.0]).target("cell_read_lookup", 1.0 / 200.0);
        assert_eq!(row(2.0).met(), Some(true));
        let missed = row(3.0).tried("everything").json();
        assert_eq!(missed["met"], false);
        assert_eq!(missed["tried"], "everything");
        assert_eq!(row(2.0).tried("everything").json()["tried"], Value::Null);
        assert_eq!(Row::new("read", &[1.0], "lookup", &[2.0]).met(), None);
    }

    #[test]
    fn nanoseconds_are_a_target_too() {
        let row = Row::absolute("an idle shard", &[1.0, 1.5, 9.0]).target("idle_shard", 2.0).json();
        assert_eq!(row["ns"], 1.5);
        assert_eq!(row["met"], true);
        assert_eq!(row["ratio"], Value::Null);
    }

    #[test]
    fn what_explains_a_row_is_recorded() {
        let row = Row::new("a", &[1.0], "b", &[2.0]).beside("ping-pong", &[40.0, 41.0, 50.0]).json();
        assert_eq!(row["beside"]["ping-pong"]["median"], 41.0);
    }
}
