//! A record as a line of JSON, the same from `tail` and `inspect`.

use std::time::SystemTime;

use mapring::record;
use serde_json::json;

use super::text::json_line;
use super::untyped::Item;
use super::value::Value;

/// The time stamp at this offset, if the record has one.
pub(crate) fn stamp(item: &Item<'_>, at: Option<usize>) -> Option<u64> {
    Some(u64::from_ne_bytes(*item.bytes.get(at?..)?.first_chunk()?))
}

/// A time as text, in UTC.
pub(crate) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

/// The line, without its end.
pub(crate) fn json(item: &Item<'_>, time: Option<&str>, value: &Value) -> String {
    json_line(&json!({ "shard": item.shard, "ticket": item.ticket, "time": time,
        "record": value.json(), "tail": item.tail.map(record::string) }))
}
