//! Events as rows of a table: NDJSON, CSV or Parquet.

use anyhow::Result;
use mapring_kit::table::{Format, Out, Table};

use super::super::event::{Event, Gap};
use super::super::machine::Wall;
use super::super::names::Names;
use super::Sink;
use super::rows::{COLUMNS, Rows};

pub(super) struct Events {
    out: Table,
    rows: Rows,
}

impl Events {
    pub(super) fn new(format: Format, out: Out, zero: Option<u64>, wall: Wall) -> Result<Self> {
        Ok(Self { out: Table::new(format, COLUMNS, out)?, rows: Rows::new(zero, wall) })
    }
}

impl Sink for Events {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        self.out.row(self.rows.event(event, names))
    }

    fn gap(&mut self, gap: &Gap) -> Result<()> {
        self.out.row(self.rows.gap(gap))
    }

    fn flush(&mut self) -> Result<()> {
        self.rows.update();
        self.out.flush()
    }

    fn finish(&mut self, _: &mut Names) -> Result<()> {
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Format;
    use super::super::tests::{events, gap, written};

    #[test]
    fn each_event_is_a_line_of_json() {
        let text =
            String::from_utf8(written(Format::Ndjson, &events(), &[gap(Some(5), 9), gap(None, 9)])).unwrap();
        println!("{text}");
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), events().len() + 2);
        let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ndjson.schema.json"));
        let mut schema: Value = serde_json::from_str(schema).unwrap();
        schema["$ref"] = "#/$defs/flight_dump".into();
        let schema = jsonschema::validator_for(&schema).unwrap();
        for line in &lines {
            assert!(schema.is_valid(line), "{line}");
        }
        let find = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
        let unknown = find("sys_enter");
        assert_eq!((&unknown["arg0"], &unknown["syscall"]), (&"0xffffffffffffffff".into(), &Value::Null));
        assert_eq!((&unknown["nr"], &find("sched_switch")["next_prio"]), (&(-1).into(), &(-1).into()));
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

    #[test]
    fn each_event_is_a_line_of_values() {
        let file = written(Format::Csv, &events(), &[gap(None, 9)]);
        let mut reader = csv::Reader::from_reader(&file[..]);
        let header = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect(); // fails if a row has another length
        assert_eq!(rows.len(), events().len() + 1);
        let at = |name| header.iter().position(|column| column == name).unwrap();
        let value = |row: usize, name| &rows[row][at(name)];
        assert_eq!(
            [value(0, "event"), value(0, "child_pid"), value(0, "ret")],
            ["sched_process_fork", "8", ""]
        );
        assert_eq!([value(3, "arg2"), value(4, "ret")], ["0xffffffffffffffff", "-9223372036854775808"]);
        assert_eq!(value(12, "file"), "/bin/\\u{1b}[31m\"a,\\n\\u{9b}");
        let last = rows.len() - 1;
        assert_eq!([value(last, "event"), value(last, "group"), value(last, "since")], ["lost", "sched", ""]);
    }

    #[test]
    #[cfg(feature = "parquet")]
    fn each_event_is_a_row() {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        use parquet::record::RowAccessor;

        use super::COLUMNS;

        let file = written(Format::Parquet, &events(), &[gap(Some(5), 9)]);
        let reader = SerializedFileReader::new(prost::bytes::Bytes::from(file)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), events().len() + 1);
        let at = |name| COLUMNS.iter().position(|(column, _)| *column == name).unwrap();
        assert_eq!(rows[0].get_string(at("event")).unwrap(), "sched_process_fork");
        assert_eq!(rows[0].get_ulong(at("child_pid")).unwrap(), 8);
        assert_eq!(rows[3].get_ulong(at("arg0")).unwrap(), u64::MAX);
        assert_eq!(rows[4].get_long(at("ret")).unwrap(), i64::MIN);
        assert_eq!(rows[12].get_string(at("file")).unwrap(), "/bin/\\u{1b}[31m\"a,\\n\\u{9b}");
        assert_eq!(rows.last().unwrap().get_ulong(at("lost")).unwrap(), u64::MAX);
        assert!(rows[0].get_string(at("cause")).is_err(), "absent");
    }
}
