//! The seeds of the fuzz targets in `proofs/fuzz`: types, filters, and a recording of all kinds of blocks.
//! `MAPRING_BLESS=1` writes them anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mapring::{Loss, Ring, Start};

use super::format::{BYTE_ORDER, Clock, Sample, Source, kind};
use super::source_kind::SourceKind;
use super::writer::Writer;
use super::{End, summarize};
use crate::filter::{Filter, Names};
use crate::untyped::Item;
use crate::value::decode;
use crate::value::tests::each_sort;

/// A record of the type 9, and the types 10 and 11 around it.
const RECORD: usize = 56;
const TYPE: u32 = 9;

const FILTERS: [&str; 8] = [
    "pid == 12 && (comm ~ \"ba.*\" || !ok)",
    "low >= 0xffffffffffffffff || pid < -1 && float <= 1.5e3",
    "state == STOPPED || state != 7",
    "args[1] > 2 || !args[0] && time",
    "comm !~ \"[^a-z]{2,}\" && comm < \"c\\n\\x00\"",
    "comm.bytes == 0x6261_7368 || comm[3] == 104",
    "tail ~ \"x+\" || tail.bytes == 0x00",
    "!(ok == true) && (((low)))",
];

fn folder(target: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proofs/fuzz/seeds").join(target);
    if is_writing() {
        fs::create_dir_all(&folder).unwrap();
    }
    folder
}

fn is_writing() -> bool {
    std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1")
}

/// The seed, written anew if that is asked for.
fn seed(target: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder(target).join(name);
    if is_writing() {
        fs::write(&path, bytes).unwrap();
    }
    fs::read(path).unwrap()
}

#[test]
fn seeds_are_types_and_filters_of_them() {
    let types = each_sort();
    assert_eq!(seed("btf", "record", types.as_bytes()), types.as_bytes());
    let ty = types.get(TYPE).unwrap();
    for (number, filter) in FILTERS.iter().enumerate() {
        let text = format!("{filter}\n{}", "bash\0\u{1}".repeat(RECORD / 6 + 1));
        assert_eq!(seed("filter", &number.to_string(), text.as_bytes()), text.as_bytes());
        let empty = Names { value: &decode(ty, &[0; RECORD]), tail: Some(&[]), ty: Some(ty) };
        Filter::parse(filter).unwrap().check(&[empty]).unwrap();
    }
}

fn source(of: SourceKind, record: usize, tails: Option<[u64; 2]>, value_type: Option<u32>) -> Vec<u8> {
    let source = Source {
        name: "seed".to_owned(),
        kind: of,
        record,
        entries: 8,
        shards: 2,
        tails,
        stamp: value_type.map(|_| 48),
        stamp_clock: None,
        boot_ahead: 0,
        stamp_since: 0,
        value_type,
        no_types: None,
        byte_order: BYTE_ORDER.to_owned(),
        every: None,
        clock: Clock { monotonic: 5, wall: 1_795_000_000_000_000_000 },
        host: "host".to_owned(),
        kernel: "6.12".to_owned(),
        boot_id: String::new(),
    };
    let json = serde_json::to_vec(&source).unwrap();
    let mut payload = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
    payload.extend(json);
    payload.extend(value_type.map(|_| each_sort()).iter().flat_map(|btf| btf.as_bytes().to_vec()));
    payload
}

/// Losses of a ring that was overwritten.
fn losses() -> Vec<Loss> {
    let ring = Ring::<[u64; 2]>::create_memfd(4, 1).unwrap();
    let mut reader = ring.reader_from(Start::First);
    let writer = ring.writer(0).unwrap();
    (0..9).for_each(|n| _ = writer.push(&[n, n]));
    reader.for_each(usize::MAX, |_| ());
    reader.take_losses()
}

fn write(path: &Path) {
    let mut to = Writer::new(File::create(path).unwrap()).unwrap();
    let record: [u8; RECORD] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    for (tails, ty) in [(None, 10), (Some([64, 4096]), 11)] {
        to.block(kind::SOURCE, &[&source(SourceKind::Ring, RECORD, tails, Some(ty))]).unwrap();
        for ticket in 0..2 {
            let tail = tails.map(|_| &b"a tail"[..]);
            to.record(&Item { shard: 1, ticket, bytes: &record, tail }).unwrap();
        }
        losses().iter().for_each(|loss| to.loss(loss).unwrap());
    }
    for (kind, record) in [
        (SourceKind::Counters, 8),
        (SourceKind::Histograms, 512),
        (SourceKind::Gauges, 64),
        (SourceKind::TopKeys, 96),
    ] {
        to.block(kind::SOURCE, &[&source(kind, record, None, None)]).unwrap();
        to.sample(&Sample { time: 6, index: 3, cpu: Some(1), version: 2, bytes: &vec![1; record] }).unwrap();
    }
    to.block(kind::SOURCE, &[&source(SourceKind::Cells, RECORD, None, Some(10))]).unwrap();
    to.sample(&Sample { time: 6, index: 3, cpu: None, version: 2, bytes: &record }).unwrap();
    to.block(kind::CLOCK, &[&[1; 16]]).unwrap();
    to.block(kind::END, &[]).unwrap();
}

#[test]
fn the_seed_is_a_whole_recording() {
    let path = folder("recording").join("all");
    if is_writing() {
        write(&path);
    }
    let mut out = Vec::new();
    assert_eq!(summarize(("seed", File::open(path).unwrap()), true, &mut out).unwrap(), End::Whole);
    let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let parts = found["parts"].as_array().unwrap();
    let counts: Vec<_> =
        parts.iter().map(|part| [&part["records"], &part["samples"]].map(|n| n.as_u64().unwrap())).collect();
    assert_eq!(parts[0]["losses"].as_array().unwrap().len(), 1);
    assert_eq!(counts, [[2, 0], [2, 0], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]);
    assert!(parts[0]["type"].is_string() && parts[1]["type"].is_string() && parts[6]["type"].is_string());
}
