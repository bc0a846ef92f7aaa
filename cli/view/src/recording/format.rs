//! The format of recordings: docs/recording.md describes it for other programs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use mapring::abi::{Geometry, Tails};
use mapring::reading::LossCause;
use mapring::{Histogram, Loss};
use mapring_kit::text::printable;
use mapring_sys::btf::{Btf, Type};
use serde::{Deserialize, Serialize};

use super::source_kind::SourceKind;
use super::summaries;
use crate::stamp::{self, StampClock};
use crate::untyped::Item;
use crate::value::{self, Value};

/// The first bytes of a recording.
pub(super) const MAGIC: [u8; 8] = *b"MAPRINGR";
pub(super) const VERSION: u32 = 1;
/// Bytes before the first block.
pub(super) const START: usize = 16;
/// The first word of a block.
pub(super) const BLOCK: u32 = u32::from_le_bytes(*b"MBLK");
/// Bytes of a block before its payload.
pub(super) const HEADER: usize = 32;
/// The largest payload.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;
/// Bytes of a record's entry before the record.
pub(super) const RECORD_HEAD: usize = 16;
/// Bytes of a sample's entry before the value.
pub(super) const SAMPLE_HEAD: usize = 24;
/// Bytes of a loss.
pub(super) const LOSS: usize = 48;
/// No shard, CPU or tail.
pub(super) const NONE: u32 = u32::MAX;

/// The kinds of blocks.
pub(super) mod kind {
    pub(in super::super) const SOURCE: u32 = 1;
    pub(in super::super) const RECORDS: u32 = 2;
    pub(in super::super) const SAMPLES: u32 = 3;
    pub(in super::super) const LOSSES: u32 = 4;
    pub(in super::super) const CLOCK: u32 = 5;
    pub(in super::super) const END: u32 = 6;
}

/// Where records or samples come from: the JSON in a source block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) kind: SourceKind,
    /// The bytes of a record without its tail, or of a value.
    pub(super) record: usize,
    /// The slots of each shard, or the values.
    pub(super) entries: usize,
    pub(super) shards: usize,
    /// The longest tail and the bytes of a shard's tails.
    pub(super) tails: Option<[u64; 2]>,
    /// The offset of the field with the time, in nanoseconds.
    pub(super) stamp: Option<usize>,
    /// The clock of the stamps, if it is not CLOCK_MONOTONIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamp_clock: Option<StampClock>,
    /// By how much CLOCK_BOOTTIME was ahead of CLOCK_MONOTONIC, if stamps are of that clock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) boot_ahead: u64,
    /// No record has an earlier stamp: earlier numbers are of another kind.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) stamp_since: u64,
    /// The id of the type of the map's values in the BTF, or why there is no BTF.
    pub(super) value_type: Option<u32>,
    pub(super) no_types: Option<String>,
    /// `little` or `big`: the byte order of records, values and BTF.
    pub(super) byte_order: String,
    /// The time between two samples, in nanoseconds.
    pub(super) every: Option<u64>,
    pub(super) clock: Clock,
    pub(super) host: String,
    pub(super) kernel: String,
    pub(super) boot_id: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The same moment by CLOCK_MONOTONIC and as wall time since 1970, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    pub(super) monotonic: u64,
    pub(super) wall: u64,
}

impl Clock {
    /// The wall time when CLOCK_MONOTONIC was `ns`.
    pub(super) fn to_wall(self, ns: u64) -> SystemTime {
        let wall = u128::from(self.wall) + u128::from(ns);
        let wall = wall.saturating_sub(self.monotonic.into());
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(wall).unwrap_or(u64::MAX))
    }
}

/// The byte order of this machine.
pub(super) const BYTE_ORDER: &str = if cfg!(target_endian = "big") { "big" } else { "little" };

impl Source {
    /// Refuses numbers that no region has, so that what follows can trust them.
    pub(super) fn check(&self) -> Result<()> {
        let max = PAYLOAD_MAX - RECORD_HEAD - SAMPLE_HEAD;
        ensure!((1..=max).contains(&self.record), "records of {} bytes", self.record);
        ensure!((1..=Geometry::SHARDS_MAX).contains(&(self.shards as u64)), "{} shards", self.shards);
        ensure!(self.entries <= u32::MAX as usize, "{} entries", self.entries);
        self.tails()?;
        Ok(())
    }

    pub(super) fn tails(&self) -> Result<Option<Tails>> {
        let tails = self.tails.map(|[longest, bytes]| Tails::new(longest, bytes)).transpose()?;
        let longest = tails.map_or(0, |tails| tails.longest());
        ensure!(longest < PAYLOAD_MAX - RECORD_HEAD - self.record, "tails of {longest} bytes");
        Ok(tails)
    }

    fn has_records(&self) -> bool {
        !matches!(self.kind, SourceKind::Array | SourceKind::Globals)
    }
}

/// A source as it was read from a file.
pub(super) struct StoredSource {
    pub(super) source: Source,
    pub(super) btf: Option<Btf>,
    /// The bytes of the BTF.
    pub(super) btf_bytes: usize,
    /// The last comparison of the clocks.
    pub(super) clock: Clock,
}

impl StoredSource {
    /// The type of its records or values, or why it is not known.
    pub(super) fn ty(&self) -> Result<Type<'_>, String> {
        let why = || self.source.no_types.clone().unwrap_or_else(|| "the BTF is damaged".to_owned());
        if self.source.byte_order != BYTE_ORDER {
            return Err(format!("recorded on a {}-endian machine", printable(&self.source.byte_order)));
        }
        let btf = self.btf.as_ref().ok_or_else(why)?;
        let value = self.source.value_type.unwrap_or_default();
        value::described(btf, value, self.source.has_records(), self.source.tails.is_some())
            .ok_or_else(|| "its BTF does not describe its values".to_owned())
    }

    /// The stamp of a record that arrived at this time, by its clock and by CLOCK_MONOTONIC; unless the clock can't have it.
    fn stamps(&self, item: &Item<'_>, arrived: u64) -> Option<(u64, u64)> {
        let source = &self.source;
        let bytes = item.bytes.get(source.stamp?..)?.first_chunk()?;
        let ns = u64::from_ne_bytes(*bytes);
        let ahead = match source.stamp_clock {
            None | Some(StampClock::Monotonic) => 0,
            Some(StampClock::Boottime) => source.boot_ahead,
            Some(StampClock::Realtime) => self.clock.wall.saturating_sub(self.clock.monotonic),
        };
        let monotonic = ns.saturating_sub(ahead);
        let is_possible =
            ns >= source.stamp_since.max(1) && monotonic <= arrived.saturating_add(stamp::SLACK);
        is_possible.then_some((ns, monotonic))
    }

    /// The time of a record by CLOCK_MONOTONIC: by its stamp, or else when it arrived.
    pub(super) fn monotonic(&self, item: &Item<'_>, arrived: u64) -> u64 {
        self.stamps(item, arrived).map_or(arrived, |(_, monotonic)| monotonic)
    }

    /// The wall time of a record by its stamp, if it has a possible one.
    pub(super) fn time(&self, item: &Item<'_>, arrived: u64) -> Option<SystemTime> {
        let (ns, monotonic) = self.stamps(item, arrived)?;
        Some(match self.source.stamp_clock {
            Some(StampClock::Realtime) => stamp::wall(ns),
            _ => self.clock.to_wall(monotonic),
        })
    }

    /// The histogram in a sample, if it is one that this machine can read.
    pub(super) fn histogram(&self, bytes: &[u8]) -> Option<Histogram> {
        let is_one = self.source.kind == SourceKind::Histograms && self.source.byte_order == BYTE_ORDER;
        is_one.then(|| summaries::histogram(&summaries::words_in(bytes)))
    }

    /// Decodes a record or value: by its type, or else as bytes.
    pub(super) fn decode(&self, bytes: &[u8]) -> Value {
        let kind = self.source.kind;
        if kind.layout().is_none() || self.source.byte_order != BYTE_ORDER {
            return self.ty().map_or_else(|_| Value::bytes(bytes), |ty| value::decode(ty, bytes));
        }
        let words = summaries::words_in(bytes);
        match kind {
            SourceKind::Counters => Value::Unsigned(words.first().copied().unwrap_or_default()),
            kind => summaries::decode(kind, &words),
        }
    }
}

/// A value at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub(super) time: u64,
    pub(super) index: u32,
    pub(super) cpu: Option<u32>,
    pub(super) version: u64,
    pub(super) bytes: &'a [u8],
}

/// Records that are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Lost {
    pub(super) shard: Option<u32>,
    pub(super) cause: &'static str,
    pub(super) count: u64,
    /// The tickets among which they are missing: the first, and the one after the last.
    pub(super) tickets: Option<[u64; 2]>,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub(super) since: Option<u64>,
    pub(super) until: u64,
}

const CAUSES: [LossCause; 8] = [
    LossCause::Lapped,
    LossCause::Skipped,
    LossCause::TailLost,
    LossCause::NoSlot,
    LossCause::Full,
    LossCause::NoShard,
    LossCause::NoTail,
    LossCause::TooLong,
];

impl Lost {
    /// Appends the entry of a loss.
    pub(super) fn encode(loss: &Loss, to: &mut Vec<u8>) {
        let cause = CAUSES.iter().position(|cause| *cause == loss.cause).map_or(0, |at| at + 1);
        let shard = loss.shard.and_then(|shard| u32::try_from(shard).ok()).unwrap_or(NONE);
        let tickets = loss.tickets.clone().unwrap_or(u64::MAX..u64::MAX);
        to.extend(shard.to_le_bytes());
        to.extend(u32::try_from(cause).unwrap_or_default().to_le_bytes());
        for word in [loss.count, tickets.start, tickets.end, loss.since.unwrap_or(u64::MAX), loss.until] {
            to.extend(word.to_le_bytes());
        }
    }

    pub(super) fn decode(bytes: &[u8; LOSS]) -> Self {
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let half = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let cause = (half(4) as usize).checked_sub(1).and_then(|at| CAUSES.get(at));
        Self {
            shard: Some(half(0)).filter(|shard| *shard != NONE),
            cause: cause.map_or("unknown cause", |cause| cause.as_str()),
            count: word(8),
            tickets: Some([word(16), word(24)]).filter(|tickets| *tickets != [u64::MAX; 2]),
            since: Some(word(32)).filter(|since| *since != u64::MAX),
            until: word(40),
        }
    }
}

/// `shard 1: 12 overwritten, tickets 100 to 111`
impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(shard) = self.shard {
            write!(f, "shard {shard}: ")?;
        }
        write!(f, "{} {}", self.count, self.cause)?;
        match self.tickets {
            Some([first, end]) => write!(f, ", tickets {first} to {}", end.wrapping_sub(1)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_time_only_if_its_clock_could_have_its_stamp() {
        let json = |more: &str| {
            let text = format!(
                r#"{{"name": "r", "kind": "ring", "record": 8, "entries": 8, "shards": 1, "stamp": 0, "byte_order": "",
                "clock": {{"monotonic": 5000000000, "wall": 1795000005000000000}}, "host": "", "kernel": "", "boot_id": ""{more}}}"#
            );
            serde_json::from_str::<Source>(&text).unwrap()
        };
        let (start, arrived) = (1_795_000_000_000_000_000, 9_000_000_000);
        let realtime = r#", "stamp_clock": "realtime", "stamp_since": 1795000004000000000"#;
        let boottime = r#", "stamp_clock": "boottime", "boot_ahead": 1000000000, "stamp_since": 5000000000"#;
        let since = r#", "stamp_since": 4000000000"#;
        for (more, ns, expected) in [
            ("", 5, Some(5)), // a file of an older recorder
            ("", 0, None),
            ("", u64::MAX, None),
            (since, 5, None),
            (since, 4_000_000_000, Some(4_000_000_000)),
            (since, 10_000_000_000, Some(10_000_000_000)),
            (since, 10_000_000_001, None),
            (boottime, 4_999_999_999, None),
            (boottime, 11_000_000_000, Some(10_000_000_000)),
            (boottime, 11_000_000_001, None),
            (realtime, start, None),
            (realtime, start + 7, None),
            (realtime, start + 4_000_000_000, Some(4_000_000_000)),
            (realtime, start + 10_000_000_001, None),
        ] {
            let source = json(more);
            let of = StoredSource { clock: source.clock, source, btf: None, btf_bytes: 0 };
            let item = Item { shard: 0, ticket: 0, bytes: &u64::to_ne_bytes(ns), tail: None };
            let wall = expected.map(|ns: u64| stamp::wall(start + ns));
            let found = (of.time(&item, arrived), of.monotonic(&item, arrived));
            assert_eq!(found, (wall, expected.unwrap_or(arrived)), "{more} {ns}");
        }
    }
}
