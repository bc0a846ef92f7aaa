//! Recordings as Parquet: written by the command, read back by another library's reader, and compared with the NDJSON.

use std::fs::File;
use std::time::UNIX_EPOCH;

use mapring::{Counters, Ring};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};

use super::{Dir, lines, mapring, path, stderr, text};

/// The rows of a recording as Parquet: each as a JSON object, with numbers as they are.
fn rows(dir: &Dir, file: &str, options: &[&str]) -> Vec<Value> {
    let table = dir.path("table.parquet");
    assert_eq!(text(&mapring(&[&["inspect", file, "--force", "--out", &table], options].concat())), "");
    let reader = SerializedFileReader::new(File::open(table).unwrap()).unwrap();
    let object = |row: Row| row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect();
    reader.get_row_iter(None).unwrap().map(|row| Value::Object(object(row.unwrap()))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Long(value) => json!(value),
        Field::ULong(value) => json!(value),
        Field::Double(value) => json!(value),
        Field::Str(text) => json!(text),
        other => panic!("{other:?}"),
    }
}

/// The same records as NDJSON, with times as in Parquet: nanoseconds since 1970.
fn expected(file: &str, options: &[&str]) -> Vec<Value> {
    let mut all =
        lines(text(&mapring(&[&["inspect", file, "--format", "ndjson"], options].concat())).as_bytes());
    for line in &mut all {
        if let Value::String(time) = &line["time"] {
            let since = humantime::parse_rfc3339(time).unwrap().duration_since(UNIX_EPOCH).unwrap();
            line["time"] = json!(u64::try_from(since.as_nanos()).unwrap());
        }
    }
    all
}

#[test]
fn a_ring_without_types_is_bytes() {
    let (ring, dir) = (Ring::<[u64; 2]>::create_memfd(8, 2).unwrap(), Dir::new());
    for number in 0..5 {
        ring.writer((number % 2) as usize).unwrap().push(&[number, u64::MAX]).unwrap();
    }
    let file = dir.path("ring.rec");
    assert!(mapring(&["record", &path(&ring.region()), "--no-follow", "-o", &file]).status.success());
    let (found, expected) = (rows(&dir, &file, &[]), expected(&file, &[]));
    assert_eq!(found, expected.into_iter().map(without_tail).collect::<Vec<_>>());
    assert_eq!(found.len(), 5);
}

fn without_tail(mut line: Value) -> Value {
    assert_eq!(line.as_object_mut().unwrap().remove("tail"), Some(Value::Null));
    line
}

#[test]
fn samples_of_counters_are_numbers() {
    let (counters, dir) = (Counters::create_memfd(4, 2).unwrap(), Dir::new());
    counters.writer(1).unwrap().add(3, u64::MAX).unwrap();
    counters.writer(0).unwrap().add(0, 7).unwrap();
    let file = dir.path("counters.rec");
    assert!(mapring(&["record", &path(counters.region()), "--no-follow", "-o", &file]).status.success());
    let found = rows(&dir, &file, &[]);
    assert_eq!(found, expected(&file, &[]));
    assert_eq!((found.len(), &found[1]["value"], &found[1]["cpu"]), (2, &json!(u64::MAX), &json!(1)));
    assert_eq!(rows(&dir, &file, &["--where", "value > 7"]), found[1..]);

    // To a pipe, and with wrong options.
    let piped = mapring(&["inspect", &file, "--format", "parquet"]);
    assert!(piped.status.success() && piped.stdout.starts_with(b"PAR1") && piped.stdout.ends_with(b"PAR1"));
    let unknown = mapring(&["inspect", &file, "--out", &dir.path("table.txt")]);
    assert!(unknown.status.code() == Some(2) && stderr(&unknown).contains("add --format"));
    assert_eq!(mapring(&["inspect", &file, "--where", "value > 7"]).status.code(), Some(2));
    assert_eq!(mapring(&["inspect", &file, "--json", "--out", "x.csv"]).status.code(), Some(2));
}

#[cfg(feature = "bpf")]
mod of_programs {
    use super::super::loaded::Loaded;
    use super::*;

    /// A decoded value as the columns of a row: the fields of structs by their paths, lists as JSON.
    fn flattened(value: &Value, path: &str, to: &mut serde_json::Map<String, Value>) {
        match value {
            Value::Object(fields) => {
                let inner = |name: &str| if path.is_empty() { name.into() } else { format!("{path}.{name}") };
                fields.iter().for_each(|(name, value)| flattened(value, &inner(name), to));
            }
            list @ Value::Array(_) => _ = to.insert(path.to_owned(), json!(list.to_string())),
            Value::String(text) => {
                let text: String = text.chars().flat_map(char::escape_debug).collect();
                to.insert(path.to_owned(), json!(text));
            }
            value => _ = to.insert(path.to_owned(), value.clone()),
        }
    }

    #[test]
    fn records_and_samples_have_a_column_for_each_field() {
        let Some(loaded) = Loaded::new() else { return };
        loaded.fill(50);
        let dir = Dir::new();
        for (name, field, count) in [
            ("t_events", "record", 50),
            ("t_names", "record", 1),
            ("t_loads", "value", 1),
            ("t_settings", "value", 1),
        ] {
            let file = dir.path(name);
            assert!(mapring(&["record", &loaded.path(name), "--no-follow", "-o", &file]).status.success());
            let mut lines = expected(&file, &[]);
            for line in &mut lines {
                let line = line.as_object_mut().unwrap();
                let value = line.remove(field).unwrap();
                flattened(&value, "", line);
                if name != "t_names" {
                    line.remove("tail");
                }
            }
            let mut found = rows(&dir, &file, &[]);
            for row in &mut found {
                // What NDJSON leaves out, because the text says all bytes, is empty here.
                row.as_object_mut()
                    .unwrap()
                    .retain(|name, value| !(name.ends_with(".bytes") && value.is_null()));
            }
            assert_eq!((&found, found.len()), (&lines, count), "{name}");
        }
        let found = rows(&dir, &dir.path("t_events"), &["--where", "pid == 2"]);
        assert_eq!(found[0]["comm"], "x\\u{1b}[2Jy");
        assert_eq!((&found[0]["state"], &found[0]["ok"]), (&json!("STOPPED"), &json!(true)));
        assert_eq!(found[0]["at"], "[{\"x\":0,\"y\":0},{\"x\":0,\"y\":-5}]");
        assert_eq!(rows(&dir, &dir.path("t_loads"), &[])[0]["at.x"], -1);
        assert_eq!(rows(&dir, &dir.path("t_names"), &[])[0]["tail"], "a tail");
    }
}
