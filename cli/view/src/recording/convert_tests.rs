//! Records and samples of a type with a field of each sort, as Parquet, read back and compared.

use std::fs::File;

use parquet::basic::{ConvertedType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};
use rustix::fs::{MemfdFlags, memfd_create};

use super::super::format::{BYTE_ORDER, Clock, Source};
use super::*;
use crate::value::tests::{STRUCT, base, btf, each_sort, field, ty};

struct Fields {
    pid: i32,
    state: u32,
    low: u64,
    float: f64,
    comm: [u8; 8],
    args: [i32; 2],
    ok: u8,
    time: u64,
}

impl Fields {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.pid.to_ne_bytes(), self.state.to_ne_bytes()].concat();
        bytes.extend(self.low.to_ne_bytes());
        bytes.extend(self.float.to_ne_bytes());
        bytes.extend(self.comm);
        bytes.extend(self.args.map(i32::to_ne_bytes).concat());
        bytes.extend([self.ok, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(self.time.to_ne_bytes());
        bytes
    }
}

const FIELDS: [Fields; 3] = [
    Fields {
        pid: i32::MIN,
        state: u32::MAX,
        low: u64::MAX,
        float: -1.5e300,
        comm: *b"\x1b[2J\n\"\0x",
        args: [-7, 8],
        ok: 1,
        time: u64::MAX,
    },
    Fields {
        pid: -1,
        state: 1,
        low: 1 << 63,
        float: f64::INFINITY,
        comm: [0; 8],
        args: [0; 2],
        ok: 0,
        time: 0,
    },
    Fields { pid: 7, state: 5, low: 0, float: 0.1, comm: [b'a'; 8], args: [i32::MAX; 2], ok: 255, time: 1 },
];

fn recorded(
    kind: SourceKind,
    value_type: Option<u32>,
    record: usize,
    tails: Option<[u64; 2]>,
) -> StoredSource {
    let clock = Clock { monotonic: 0, wall: 0 };
    let source = Source {
        name: "test".to_owned(),
        kind,
        record,
        entries: 8,
        shards: 1,
        tails,
        stamp: None,
        stamp_clock: None,
        boot_ahead: 0,
        stamp_since: 0,
        value_type,
        no_types: None,
        byte_order: BYTE_ORDER.to_owned(),
        every: None,
        clock,
        host: String::new(),
        kernel: String::new(),
        boot_id: String::new(),
    };
    StoredSource { source, btf: Some(each_sort()), btf_bytes: 0, clock }
}

/// What `visit` writes as Parquet.
fn written(of: &StoredSource, visit: impl FnOnce(&mut Convert)) -> SerializedFileReader<File> {
    let file = File::from(memfd_create("parquet", MemfdFlags::empty()).unwrap());
    let mut convert = Convert::new(Format::Parquet, None, Box::new(file.try_clone().unwrap()));
    convert.source(of).unwrap();
    visit(&mut convert);
    convert.finish().unwrap();
    SerializedFileReader::new(file).unwrap()
}

fn rows(file: &SerializedFileReader<File>) -> Vec<Row> {
    file.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn names(file: &SerializedFileReader<File>) -> Vec<String> {
    file.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.name().to_owned()).collect()
}

/// Compares the columns of the fields, of which the first is `at`.
fn expect_fields(row: &Row, at: usize, number: usize) {
    let fields = &FIELDS[number];
    assert_eq!(row.get_long(at).unwrap(), i64::from(fields.pid));
    assert_eq!(row.get_string(at + 1).unwrap(), ["STOPPED", "IDLE", "5"][number]);
    assert_eq!(row.get_ulong(at + 2).unwrap(), fields.low);
    assert_eq!(row.get_double(at + 3).unwrap().to_bits(), fields.float.to_bits());
    assert_eq!(row.get_string(at + 4).unwrap(), ["\\u{1b}[2J\\n\"", "", "aaaaaaaa"][number]);
    assert_eq!(row.get_string(at + 5).unwrap(), &format!("[{},{}]", fields.args[0], fields.args[1]));
    assert_eq!(row.get_bool(at + 6).unwrap(), fields.ok != 0);
    assert_eq!(row.get_ulong(at + 7).unwrap(), fields.time);
}

#[test]
fn records_with_tails_are_rows() {
    let of = recorded(SourceKind::Ring, Some(11), 56, Some([64, 4096]));
    let tails = [&b"a \x1b tail"[..], b"", b"x"];
    let file = written(&of, |convert| {
        for ((ticket, fields), tail) in (u64::MAX - 2..=u64::MAX).zip(&FIELDS).zip(tails) {
            let item = Item { shard: 1, ticket, bytes: &fields.bytes(), tail: Some(tail) };
            convert.record(&of, item, 0).unwrap();
        }
    });
    let expected = [
        "shard",
        "ticket",
        "time",
        "pid",
        "state",
        "low",
        "float",
        "comm",
        "args",
        "ok",
        "record.time",
        "tail",
        "comm.bytes",
        "tail.bytes",
    ];
    assert_eq!(names(&file), expected);
    let columns = file.metadata().file_metadata().schema_descr().columns().to_vec();
    let types: Vec<_> = columns.iter().map(|c| (c.physical_type(), c.converted_type())).collect();
    let (text, unsigned) =
        ((Physical::BYTE_ARRAY, ConvertedType::UTF8), (Physical::INT64, ConvertedType::UINT_64));
    let rest = [(Physical::BOOLEAN, ConvertedType::NONE), unsigned, text];
    let time = (Physical::INT64, ConvertedType::NONE); // of a timestamp in nanoseconds
    assert_eq!(types[..3], [unsigned, unsigned, time]);
    assert_eq!(types[3..6], [(Physical::INT64, ConvertedType::INT_64), text, unsigned]);
    assert_eq!(types[6..9], [(Physical::DOUBLE, ConvertedType::NONE), text, text]);
    assert_eq!(types[9..], [&rest[..], &[text; 2]].concat());
    let rows = rows(&file);
    assert_eq!(rows.len(), 3);
    for (number, row) in rows.iter().enumerate() {
        assert_eq!((row.get_ulong(0).unwrap(), row.get_ulong(1).unwrap()), (1, u64::MAX - 2 + number as u64));
        assert!(row.get_long(2).is_err(), "records without a stamp have no time");
        expect_fields(row, 3, number);
        assert_eq!(row.get_string(11).unwrap(), ["a \\u{1b} tail", "", "x"][number]);
        // The bytes of texts that are escaped, or end at a zero before other bytes.
        let bytes = |at: usize| row.get_string(at).ok().map(String::as_str);
        assert_eq!(bytes(12), ["0x1b5b324a0a220078"].get(number).copied());
        assert_eq!(bytes(13), ["0x61201b207461696c"].get(number).copied());
    }
}

#[test]
fn samples_are_rows() {
    let of = recorded(SourceKind::Array, Some(9), 56, None);
    let file = written(&of, |convert| {
        for (number, fields) in (0..).zip(&FIELDS) {
            let cpu = (number > 0).then_some(u32::MAX - 1);
            let time = u64::from(number) * 1_000_000_000;
            let bytes = &fields.bytes();
            convert.sample(&of, Sample { time, index: number, cpu, version: u64::MAX, bytes }).unwrap();
        }
    });
    assert_eq!(names(&file)[..5], ["index", "cpu", "version", "time", "pid"]);
    assert_eq!(names(&file)[11], "value.time");
    for (number, row) in rows(&file).iter().enumerate() {
        assert_eq!(row.get_ulong(0).unwrap(), number as u64);
        assert_eq!(row.get_ulong(1).ok(), (number > 0).then_some(u64::from(u32::MAX) - 1));
        assert_eq!(row.get_ulong(2).unwrap(), u64::MAX);
        assert_eq!(row.get_long(3).unwrap(), 1_000_000_000 * number as i64);
        expect_fields(row, 4, number);
    }
}

#[test]
fn another_type_ends_a_table_but_not_what_is_before() {
    let of = recorded(SourceKind::Array, Some(9), 56, None);
    let file = written(&of, |convert| {
        let bytes = FIELDS[..2].iter().map(Fields::bytes).collect::<Vec<_>>();
        let sample = |at: usize| Sample { time: 0, index: 0, cpu: None, version: 1, bytes: &bytes[at] };
        convert.sample(&of, sample(0)).unwrap();
        convert.source(&of).unwrap();
        convert.sample(&of, sample(1)).unwrap();
        let other = recorded(SourceKind::Array, Some(2), 8, None);
        assert!(convert.source(&other).unwrap_err().to_string().contains("another type"));
    });
    assert_eq!(rows(&file).len(), 2);
}

#[test]
fn each_column_has_a_name_of_its_own() {
    const COUNT: u32 = 10_000;
    let mut types = base();
    let fields: Vec<_> = (0..COUNT).flat_map(|at| field("time", 2, 64 * at)).collect();
    types.push(ty("rec", STRUCT, COUNT, 8 * COUNT, &fields)); // 6
    let mut of = recorded(SourceKind::Array, Some(6), 8 * COUNT as usize, None);
    of.btf = Some(btf(&types));
    let long = (0..16_000).map(|_| ("x".repeat(512), Value::Unsigned(0))).collect();
    let long = Value::Struct(vec![("x".repeat(1024), Value::Struct(long))]);
    let (few, is_long) = super::columns(&of, &long);
    assert_eq!((is_long, few.last().map(|(name, _)| name.as_str())), (true, Some(WHOLE)));
    let (columns, is_whole) = columns(&of, &of.decode(&[0; 8 * COUNT as usize]));
    let names: HashSet<_> = columns.iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), columns.len(), is_whole), (4 + COUNT as usize, 4 + COUNT as usize, false));
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[2..6], ["version", "time", "value.time", "value.time~1"]);
}
