//! A record as a line of JSON, the same from `tail` and `inspect`.

use std::time::SystemTime;

use mapring_kit::output;
use mapring_kit::text::json_line;
use serde_json::{Value as Json, json};

use crate::untyped::Item;
use crate::value::{Chars, Value};

/// In place of a time that no calendar has.
const UNKNOWN: &str = "unknown";

/// A time as text, in UTC, for people and for [`json()`].
pub fn time(time: SystemTime) -> String {
    output::wall(time, humantime::format_rfc3339_micros).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// The line, without its end. `ring` tells it from others, and is empty if there are none.
pub fn json(ring: &str, item: &Item<'_>, time: Option<&str>, value: &Value) -> String {
    let time = time.filter(|time| *time != UNKNOWN);
    let json = json!({ "shard": item.shard, "ticket": item.ticket, "time": time, "tail": null });
    let Json::Object(mut object) = json else { return String::new() };
    if !ring.is_empty() {
        object.insert("ring".to_owned(), ring.into());
    }
    value.put("record", &mut object);
    if let Some(tail) = item.tail {
        Value::Text(Chars::tail(tail)).put("tail", &mut object);
    }
    json_line(&Json::Object(object))
}
