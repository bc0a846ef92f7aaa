//! The kinds of sources in a recording.

use serde::{Deserialize, Serialize};

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceKind {
    Ring,
    Cells,
    Latches,
    PerCpuCells,
    Counters,
    Histograms,
    Gauges,
    TopKeys,
    Array,
    Globals,
}

impl SourceKind {
    /// What a value is, if the library's headers and not the map's types say so.
    pub(super) fn layout(self) -> Option<&'static str> {
        match self {
            Self::Counters => Some("u64"),
            Self::Histograms => Some("count, buckets"),
            Self::Gauges => Some("ns, min, max, missed"),
            Self::TopKeys => Some("total, other, unlisted, keys"),
            _ => None,
        }
    }
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::Cells => "cells",
            Self::Latches => "latches",
            Self::PerCpuCells => "per-CPU cells",
            Self::Counters => "counters",
            Self::Histograms => "histograms",
            Self::Gauges => "gauges",
            Self::TopKeys => "top keys",
            Self::Array => "array",
            Self::Globals => "global data",
        })
    }
}
