//! What the commands print as lines of JSON is what docs/ndjson.schema.json says.

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use mapring::{Cells, Counters, Ring};
use serde_json::Value;

/// Runs a command that prints lines of JSON, and checks each against a definition. Returns how many there are.
fn checked(definition: &str, args: &[&str]) -> usize {
    let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ndjson.schema.json"));
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    assert!(schema["$defs"][definition].is_object());
    schema["$ref"] = format!("#/$defs/{definition}").into();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_mapring")).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Err(e) = schema.validate(&line) {
            panic!("{args:?}: {e} at {}: {line}", e.instance_path());
        }
    }
    text.lines().count()
}

/// The path by which another process opens a file of this one.
fn path(fd: &impl AsFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_fd().as_raw_fd())
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

    let dir = std::env::temp_dir().join(format!("mapring-schema-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for (from, lines, definition) in [(&region, 10, "tail"), (&values, 1, "inspect_samples")] {
        let file = dir.join(definition).to_str().unwrap().to_owned();
        checked("tail", &["record", from, "--no-follow", "--out", &file]); // prints nothing
        assert_eq!(checked(definition, &["inspect", "--format", "ndjson", &file]), lines);
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn all_maps_of_this_machine_are_as_the_schema_says() {
    checked("ls", &["ls", "--json"]);
    checked("clean", &["clean", "--json"]);
}
