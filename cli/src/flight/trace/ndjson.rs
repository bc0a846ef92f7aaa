//! A line of JSON for each event. Columns without a value are left out.

use std::io::{BufWriter, Write};

use anyhow::Result;
use serde::{Serialize, Serializer};

use super::super::event::{Event, Gap};
use super::super::names::Names;
use super::Sink;
use super::rows::{COLUMNS, Row, Rows, Value};

pub(super) struct Ndjson {
    out: BufWriter<Box<dyn Write + Send>>,
    rows: Rows,
}

struct Line<'r>(&'r Row);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let present = COLUMNS.iter().zip(self.0).filter(|(_, value)| **value != Value::Absent);
        serializer.collect_map(present.map(|((name, _), value)| (name, value)))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Hex(value) => serializer.collect_str(&format_args!("{value:#x}")),
        }
    }
}

impl Ndjson {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Result<Self> {
        Ok(Self { out: BufWriter::with_capacity(1 << 18, out), rows: Rows::new() })
    }
}

fn write(out: &mut impl Write, row: &Row) -> Result<()> {
    serde_json::to_writer(&mut *out, &Line(row)).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

impl Sink for Ndjson {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        write(&mut self.out, self.rows.event(event, names))
    }

    fn gap(&mut self, gap: &Gap) -> Result<()> {
        write(&mut self.out, self.rows.gap(gap))
    }

    fn flush(&mut self) -> Result<()> {
        self.rows.update();
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Format;
    use super::super::tests::{events, gap, written};

    #[test]
    fn each_event_is_a_line() {
        let text =
            String::from_utf8(written(Format::Ndjson, &events(), &[gap(Some(5), 9), gap(None, 9)])).unwrap();
        println!("{text}");
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), events().len() + 2);
        let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ndjson.schema.json"));
        let mut schema: Value = serde_json::from_str(schema).unwrap();
        schema["$ref"] = "#/$defs/flight_dump".into();
        let schema = jsonschema::validator_for(&schema).unwrap();
        for line in &lines {
            assert!(schema.is_valid(line), "{line}");
        }
        let find = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
        let unknown = find("sys_enter");
        assert_eq!((&unknown["arg0"], &unknown["syscall"]), (&"0xffffffffffffffff".into(), &Value::Null));
        let open = lines.iter().rfind(|line| line["event"] == "sys_exit").unwrap();
        assert_eq!((&open["syscall"], &open["error"]), (&"openat".into(), &"ENOENT".into()));
        assert_eq!(find("sys_exit")["ret"], i64::MIN);
        assert_eq!(find("sched_process_exec")["file"], "/bin/\\u{1b}[31m\"a,\\n\\u{9b}");
        assert_eq!(find("block_rq_issue")["device"], "8:1");
        assert_eq!(
            (&find("block_rq_complete")["error"], &find("block_rq_issue")["op"]),
            (&"EIO".into(), &"WS".into())
        );
        assert_eq!(find("sched_process_exit")["exit_status"], 1);
        let switched = lines.iter().filter(|line| line["event"] == "sched_switch");
        let names: Vec<_> = switched.map(|line| line["next_thread"].as_str().unwrap()).collect();
        assert_eq!(names[..3], ["\\u{1b}[31m\"a,\\n\\u{9b}", "swapper/0", "a\\xff"]);
        let lost = find("lost");
        assert_eq!((&lost["lost"], &lost["since"], &lost["cpu"]), (&u64::MAX.into(), &5.into(), &3.into()));
        assert_eq!(lines.last().unwrap()["since"], Value::Null);
    }
}
