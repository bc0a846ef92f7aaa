//! Recordings that are cut or changed at any place: read up to there.

use std::fs;

use mapring::Ring;
use serde_json::{Value, json};

use super::{Dir, inspect, lines, mapring, path, stderr};

/// A small recording of two blocks of records.
fn small(dir: &Dir) -> Vec<u8> {
    let ring = Ring::<[u64; 2]>::create_memfd(8, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    for number in 0..3 {
        writer.push(&[number, 9]).unwrap();
    }
    let file = dir.path("small");
    assert!(mapring(&["record", &path(&ring.region()), "--no-follow", "-o", &file]).status.success());
    fs::read(file).unwrap()
}

/// The records that can be read, and the exit code.
fn records(file: &str) -> (Vec<Value>, Option<i32>) {
    let output = mapring(&["inspect", file, "--format", "ndjson"]);
    (lines(&output.stdout), output.status.code())
}

#[test]
fn a_cut_recording_is_read_up_to_the_cut() {
    let dir = Dir::new();
    let (bytes, file) = (small(&dir), dir.path("cut"));
    fs::write(&file, &bytes).unwrap();
    let (whole, code) = records(&file);
    assert_eq!((whole.len(), code), (3, Some(0)));
    // The last block is the end, and the one before it has the records.
    let end = bytes.len() - 32;
    for len in 0..bytes.len() {
        fs::write(&file, &bytes[..len]).unwrap();
        let (found, code) = records(&file);
        assert_eq!(code, Some(1), "{len} bytes");
        assert_eq!(found, if len >= end { &whole[..] } else { &[] }, "{len} bytes");
    }
    fs::write(&file, &bytes[..end]).unwrap();
    assert!(stderr(&mapring(&["inspect", &file])).contains("has no end"));
    fs::write(&file, &bytes[..end - 1]).unwrap();
    let damage = &inspect(&file)["damage"];
    let block = end - 32 - 3 * 32; // a header, and three records of 16 bytes after 16 bytes
    assert_eq!(damage["offset"], block, "{damage}");
}

#[test]
fn a_changed_byte_is_noticed() {
    let dir = Dir::new();
    let (bytes, file) = (small(&dir), dir.path("changed"));
    let block = bytes.len() - 32 - 32 - 3 * 32;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&file, &changed).unwrap();
        let (found, code) = records(&file);
        assert_eq!(code, Some(1), "byte {at}");
        assert_eq!(found.len(), if at < block + 32 + 3 * 32 { 0 } else { 3 }, "byte {at}");
    }
}

/// A block with a right checksum.
fn block(kind: u32, number: u32, count: u32, payload: &[u8]) -> Vec<u8> {
    let mut block = b"MBLK".to_vec();
    for word in [kind, u32::try_from(payload.len()).unwrap(), count, 0, 0, number] {
        block.extend(word.to_le_bytes());
    }
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&block);
    checksum.update(payload);
    block.extend(checksum.finalize().to_le_bytes());
    block.extend(payload);
    block
}

#[test]
fn forged_blocks_do_no_harm() {
    let dir = Dir::new();
    let (bytes, file) = (small(&dir), dir.path("forged"));
    let json_len = u32::from_le_bytes(bytes[48..52].try_into().unwrap()) as usize;
    let source: Value = serde_json::from_slice(&bytes[52..52 + json_len]).unwrap();
    let start = &bytes[..16];
    let forge = |change: &dyn Fn(&mut Value), btf: &[u8], rest: &[Vec<u8>]| {
        let mut source = source.clone();
        change(&mut source);
        let json = serde_json::to_vec(&source).unwrap();
        let mut payload = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
        payload.extend(json);
        payload.extend(btf);
        [start.to_vec(), block(1, 0, 1, &payload), rest.concat()].concat()
    };
    let same = |_: &mut Value| {};
    let set = |name: &'static str, value: Value| move |source: &mut Value| source[name] = value.clone();
    let mut files = Vec::new();
    for huge in [0_u64, 1 << 32, u64::MAX] {
        for name in ["record", "shards", "entries"] {
            files.push(forge(&set(name, json!(huge)), &[], &[]));
        }
    }
    files.push(forge(&set("tails", json!([u64::MAX, 7])), &[], &[]));
    files.push(forge(&set("name", json!("\x1b[2J\u{202e}")), &[], &[block(6, 1, 1, &[])]));
    for name in ["kind", "clock", "stamp", "tails", "shards"] {
        files.push(forge(&set(name, json!("\x1b[2J\u{202e}\nmapring: all is well")), &[], &[]));
    }
    files.push(forge(&set("byte_order", json!("\x1b[2J")), &[], &[block(6, 1, 1, &[])]));
    files.push(forge(&set("value_type", json!(1)), &[0xff; 64], &[]));
    files.push(forge(&set("stamp", json!(u32::MAX)), &[], &[block(2, 1, 1, &[0xee; 32])]));
    files.push(forge(&same, &[], &[block(2, 1, u32::MAX, &[0; 33])]));
    files.push(forge(&same, &[], &[block(4, 1, 1, &[0xff; 48]), block(6, 2, 1, &[])]));
    files.push(forge(&same, &[], &[block(5, 1, 1, &[0xff; 16]), block(3, 2, 1, &[0xff; 40])]));
    for kind in ["counters", "histograms", "gauges", "top_keys"] {
        for size in [1_usize, 7, 24, 5000] {
            let change = |source: &mut Value| (source["kind"], source["record"]) = (json!(kind), json!(size));
            files.push(forge(&change, &[], &[block(3, 1, 1, &vec![0xff; 24 + size]), block(6, 2, 1, &[])]));
        }
    }
    files.push(forge(&same, &[], &[block(77, 1, 1, &[0; 8])]));
    files.push([start, &block(2, 0, 1, &[0; 32])].concat());
    files.push([start, &block(1, 0, 1, &u32::MAX.to_le_bytes())].concat());
    // A block that says it is large.
    let mut large = [start, &block(2, 0, 1, &[])].concat();
    large[24..28].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    files.push(large);
    for (number, bytes) in files.iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let table = dir.path("table.parquet");
        let parquet = if cfg!(feature = "parquet") { &["--out", &table][..] } else { &[] };
        for options in [&[][..], &["--json"], &["--format", "ndjson"], &["--format", "csv"], parquet] {
            let output = mapring(&[&["inspect", &file], options].concat());
            assert!(matches!(output.status.code(), Some(0 | 1)), "file {number}, {output:?}");
            for bytes in [&output.stdout, &output.stderr] {
                let text = str::from_utf8(bytes).unwrap();
                assert!(!text.contains(['\x1b', '\u{202e}']), "file {number}: {text:?}");
                assert!(!text.contains("\nmapring: all is well"), "file {number}: {text:?}");
            }
        }
        let output = mapring(&["replay", &file, "--speed", "max", "--exit"]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "file {number}, {output:?}");
    }
}

#[test]
fn what_is_no_recording_is_refused_with_its_name() {
    let dir = Dir::new();
    let file = dir.path("other");
    fs::write(&file, "[package]\nname = \"other\"\n").unwrap();
    let mut newer = b"MAPRINGR".to_vec();
    newer.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    fs::write(dir.path("newer"), newer).unwrap();
    for (name, why) in [
        (file, "not a recording"),
        (dir.path("newer"), "a recording of version 2"),
        (dir.path("none"), "No such file"),
        (dir.path(""), "Is a directory"),
    ] {
        for command in ["inspect", "replay"] {
            let output = mapring(&[command, &name]);
            let log = stderr(&output);
            assert!(output.status.code() == Some(1) && log.contains(why) && log.contains(&name), "{log}");
        }
    }
}
