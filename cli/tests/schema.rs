//! What the commands print as lines of JSON is what docs/ndjson.schema.json says.

mod common;

use mapring::{Cells, Counters, Ring};
use serde_json::Value;

use self::common::{Dir, lines, mapring, path, text};

/// Runs a command that prints lines of JSON, and checks each against a definition. Returns how many there are.
fn checked(definition: &str, args: &[&str]) -> usize {
    let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ndjson.schema.json"));
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    assert!(schema["$defs"][definition].is_object());
    schema["$ref"] = format!("#/$defs/{definition}").into();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let lines = lines(text(&mapring(args)).as_bytes());
    for line in &lines {
        if let Err(e) = schema.validate(line) {
            panic!("{args:?}: {e} at {}: {line}", e.instance_path());
        }
    }
    lines.len()
}

#[test]
fn lines_are_as_the_schema_says() {
    let ring = Ring::<[u64; 2]>::create_memfd(16, 2).unwrap();
    let counters = Counters::create_memfd(3, 2).unwrap();
    let cells = Cells::<[u32; 4]>::create_memfd(2).unwrap();
    (0..10).for_each(|n| _ = ring.writer((n % 2) as usize).unwrap().push(&[n, n]).unwrap());
    counters.writer(1).unwrap().add(2, 5).unwrap();
    cells.writer().unwrap().set(1, &[1, 2, 3, 4]).unwrap();
    let (region, table, values) = (path(&ring.region()), path(&counters.region()), path(&cells.region()));

    assert_eq!(checked("ls", &["ls", "--json", &region, &table, &values]), 3);
    assert_eq!(
        checked("stat", &["stat", "--json", "--count", "1", "--interval", "50ms", &region, &table]),
        2
    );
    assert_eq!(checked("tail", &["tail", "--json", "--no-follow", &region]), 10);
    assert!(checked("doctor", &["doctor", "--json"]) > 10);

    let dir = Dir::new();
    for (from, lines, definition) in [(&region, 10, "tail"), (&values, 1, "inspect_samples")] {
        let file = dir.path(definition);
        checked("tail", &["record", from, "--no-follow", "--out", &file]); // prints nothing
        assert_eq!(checked(definition, &["inspect", "--format", "ndjson", &file]), lines);
    }
}

#[test]
fn all_maps_of_this_machine_are_as_the_schema_says() {
    checked("ls", &["ls", "--json"]);
    checked("clean", &["clean", "--json"]);
}
