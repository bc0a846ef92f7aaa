//! Decodes values of types that a compiler made, and of types that none would make.

use mapring_sys::btf::Btf;

use super::*;

const STRINGS: &str = "\0int\0u64\0char\0u8\0bool\0float\0node\0next\0state\0IDLE\0STOPPED\0rec\0pid\0comm\0args\0\
    low\0high\0ok\0tag\0mapring_tag__open\0open\0close\0mapring_tag__close\0list\0record\0time\0\x1b[2J\0ns\0";

pub(crate) fn string(name: &str) -> u32 {
    let at = STRINGS.find(&format!("\0{name}\0")).map_or(0, |at| at + 1);
    u32::try_from(at).unwrap()
}

/// A type: its name, kind, number of members, size or reference, and the words after that.
pub(crate) fn ty(name: &str, kind: u32, members: u32, size: u32, rest: &[u32]) -> Vec<u32> {
    [&[string(name), kind << 24 | members, size], rest].concat()
}

pub(crate) fn btf(types: &[Vec<u32>]) -> Btf {
    let types = types.concat();
    let len = u32::try_from(4 * types.len()).unwrap();
    let words = [&[24, 0, len, len, u32::try_from(STRINGS.len()).unwrap()], &types[..]].concat();
    let mut bytes = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0]].concat();
    bytes.extend(words.into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend(STRINGS.as_bytes());
    Btf::new(bytes).unwrap()
}

const INT: u32 = 1;
const PTR: u32 = 2;
pub(crate) const ARRAY: u32 = 3;
pub(crate) const STRUCT: u32 = 4;
const UNION: u32 = 5;
pub(crate) const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
pub(crate) const FLOAT: u32 = 16;
const ENUM64: u32 = 19;
/// Marks a struct with bit fields.
const BITS: u32 = 1 << 31;

pub(crate) fn field(name: &str, ty: u32, at: u32) -> Vec<u32> {
    vec![string(name), ty, at]
}

/// `int`, `u64`, `char`, `u8`, `bool`: types 1 to 5.
pub(crate) fn base() -> Vec<Vec<u32>> {
    vec![
        ty("int", INT, 0, 4, &[1 << 24 | 32]),
        ty("u64", INT, 0, 8, &[64]),
        ty("char", INT, 0, 1, &[1 << 24 | 8]),
        ty("u8", INT, 0, 1, &[8]),
        ty("bool", INT, 0, 1, &[4 << 24 | 8]),
    ]
}

/// A type with a field of each sort; the type 9. A ring with tails has it in the type 11.
pub(crate) fn each_sort() -> Btf {
    let mut types = base();
    types.extend([
        ty("", ARRAY, 0, 0, &[3, 1, 8]), // 6: char[8]
        ty("", ARRAY, 0, 0, &[1, 1, 2]), // 7: int[2]
        ty("state", ENUM, 2, 4, &[string("IDLE"), 1, string("STOPPED"), u32::MAX]), // 8
    ]);
    let fields = [
        field("pid", 1, 0),
        field("state", 8, 32),
        field("low", 2, 64),
        field("float", 12, 128),
        field("comm", 6, 192),
        field("args", 7, 256),
        field("ok", 5, 320),
        field("time", 2, 384),
    ];
    types.push(ty("rec", STRUCT, 8, 56, &fields.concat())); // 9
    types.push(ty("rec", STRUCT, 1, 64, &field("record", 9, 0))); // 10
    types.push(ty("rec", STRUCT, 1, 64, &field("record", 10, 0))); // 11
    types.push(ty("float", FLOAT, 0, 8, &[])); // 12
    btf(&types)
}

fn decoded(types: &[Vec<u32>], id: u32, bytes: &[u8]) -> Value {
    let btf = btf(types);
    decode(btf.get(id).unwrap(), bytes)
}

#[test]
fn a_record_is_decoded_field_by_field() {
    let mut types = base();
    types.extend([
        ty("", ARRAY, 0, 0, &[3, 1, 8]), // 6: char[8]
        ty("", ARRAY, 0, 0, &[1, 1, 2]), // 7: int[2]
        ty("state", ENUM, 2, 4, &[string("IDLE"), 0, string("STOPPED"), u32::MAX]), // 8
        ty("", PTR, 0, 2, &[]),          // 9
        ty("float", FLOAT, 0, 8, &[]),   // 10
        ty("state", TYPEDEF, 0, 8, &[]), // 11
    ]);
    let fields = [
        field("pid", 1, 0),
        field("state", 11, 32),
        field("comm", 6, 64),
        field("args", 7, 128),
        field("low", 1, 4 << 24 | 192),
        field("high", 2, 12 << 24 | 196),
        field("ok", 5, 224),
        field("next", 9, 256),
        field("float", 10, 320),
    ];
    types.push(ty("rec", STRUCT, 9 | BITS, 48, &fields.concat())); // 12
    let mut bytes = Vec::new();
    bytes.extend((-12_i32).to_ne_bytes());
    bytes.extend((-1_i32).to_ne_bytes());
    bytes.extend(b"ba\x1bsh\0xx");
    bytes.extend([7_i32, -8].iter().flat_map(|n| n.to_ne_bytes()));
    bytes.extend((0x12c_u32 << 4 | 0xe).to_ne_bytes());
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(0xffff_8000_1234_5678_u64.to_ne_bytes());
    bytes.extend(1.5_f64.to_ne_bytes());
    let value = decoded(&types, 12, &bytes);
    #[cfg(target_endian = "little")]
    assert_eq!(
        value.to_string(),
        "pid=-12 state=STOPPED comm=\"ba\\u{1b}sh\" args=[7, -8] low=-2 high=300 ok=true \
         next=0xffff800012345678 float=1.5 +comm.bytes"
    );
    assert_eq!(value.json()["comm"], "ba\x1bsh");
    assert_eq!((value.at("args[1]"), value.at("args[2]")), (Some(&Value::Signed(-8)), None));
    assert_eq!((value.at("pid.x"), value.at("nothing"), value.at("args[x]")), (None, None, None));
    // Bytes that end early: what is there is shown.
    for len in 0..bytes.len() {
        assert_eq!(decoded(&types, 12, &bytes[..len]), Value::Cut);
    }
    let btf = btf(&types);
    assert_eq!(type_name(btf.get(12).unwrap()), "struct rec");
    assert_eq!(stamps(btf.get(12).unwrap(), None), []);
}

#[test]
fn a_tagged_record_shows_its_variant() {
    let mut types = base();
    let tags = |number| ty("", ARRAY, 0, 0, &[4, 1, number]);
    let none = |of| ty("", ARRAY, 0, 0, &[of, 1, 0]);
    types.extend([tags(1), none(6), tags(2), none(8)]); // 6 to 9
    let variants = [
        field("open", 1, 0),
        field("mapring_tag__open", 7, 0),
        field("close", 2, 0),
        field("mapring_tag__close", 9, 0),
    ];
    types.push(ty("", UNION, 4, 8, &variants.concat())); // 10
    types.push(ty("rec", STRUCT, 2, 16, &[field("tag", 2, 0), field("", 10, 64)].concat())); // 11
    let bytes = |tag: u64| [tag.to_ne_bytes(), 5_u64.to_ne_bytes()].concat();
    #[cfg(target_endian = "little")]
    assert_eq!(decoded(&types, 11, &bytes(1)).to_string(), "tag=1 open=5");
    assert_eq!(decoded(&types, 11, &bytes(2)).to_string(), "tag=2 close=5");
    assert!(decoded(&types, 11, &bytes(3)).to_string().starts_with("tag=3 (unknown tag)=0x"));
}

#[test]
fn variants_have_a_stamp_if_it_is_at_one_place() {
    for (other, expected) in [(64, vec![("ns".to_owned(), 16)]), (0, vec![])] {
        let mut types = base();
        let tags = |number| ty("", ARRAY, 0, 0, &[4, 1, number]);
        let none = |of| ty("", ARRAY, 0, 0, &[of, 1, 0]);
        types.extend([tags(1), none(6), tags(2), none(8)]); // 6 to 9
        types.push(ty("open", STRUCT, 1, 16, &field("ns", 2, 64))); // 10
        types.push(ty("close", STRUCT, 1, 16, &field("ns", 2, other))); // 11
        let variants = [
            field("open", 10, 0),
            field("mapring_tag__open", 7, 0),
            field("close", 11, 0),
            field("mapring_tag__close", 9, 0),
        ];
        types.push(ty("", UNION, 4, 16, &variants.concat())); // 12
        types.push(ty("rec", STRUCT, 2, 24, &[field("tag", 2, 0), field("", 12, 64)].concat())); // 13
        let btf = btf(&types);
        let rec = btf.get(13).unwrap();
        assert_eq!((stamps(rec, None), stamps(rec, Some("ns"))), (expected.clone(), expected));
    }
}

#[test]
fn what_follows_a_text_is_named() {
    let mut types = base();
    types.extend([ty("", ARRAY, 0, 0, &[3, 1, 4]), ty("", ARRAY, 0, 0, &[6, 1, 2])]); // 6, 7: char[4], char[2][4]
    types.push(ty("rec", STRUCT, 1, 8, &field("list", 7, 0))); // 8
    types.push(ty("", ARRAY, 0, 0, &[8, 1, 1])); // 9
    for (id, shown) in [
        (6, "\"ls\" +value.bytes"),
        (7, "[\"ls\", \"cat\"] +value.bytes"),
        (8, "list=[\"ls\", \"cat\"] +list.bytes"),
        (9, "[{list=[\"ls\", \"cat\"] +list.bytes}]"),
    ] {
        assert_eq!(decoded(&types, id, b"ls\0lcat\0").to_string(), shown);
    }
    assert_eq!(decoded(&types, 7, b"ls\0\0cat\0").to_string(), "[\"ls\", \"cat\"]");
}

#[test]
fn enums_of_8_bytes_and_unknown_constants() {
    let mut types = base();
    types.push(ty("state", ENUM64, 1, 8, &[string("STOPPED"), 1, 2]));
    assert_eq!(
        decoded(&types, 6, &(2_u64 << 32 | 1).to_ne_bytes()),
        Value::Name("STOPPED".to_owned(), 2 << 32 | 1)
    );
    assert_eq!(decoded(&types, 6, &7_u64.to_ne_bytes()), Value::Code(7));
}

#[test]
fn negative_enums_are_negative_in_any_width() {
    let mut types = base();
    let constants = [string("IDLE"), 1, string("STOPPED"), u32::MAX];
    types.extend([
        ty("state", ENUM, 2, 4, &constants), // 6: as of a compiler that does not mark signed enums
        ty("state", ENUM, 2 | BITS, 4, &[string("IDLE"), 1, string("STOPPED"), 7]), // 7
        ty("state", ENUM, 1, 4, &[string("IDLE"), 0x8000_0000]), // 8: without a negative value
        ty("rec", STRUCT, 1 | BITS, 4, &field("state", 6, 4 << 24)), // 9
    ]);
    let number = |id, value: i32| decoded(&types, id, &value.to_ne_bytes());
    assert_eq!([number(6, -2), number(7, -2), number(8, -2)], [-2, -2, 0xffff_fffe].map(Value::Code));
    assert_eq!(number(6, -1), Value::Name("STOPPED".to_owned(), -1));
    assert_eq!(number(6, -2).json(), -2);
    #[cfg(target_endian = "little")]
    assert_eq!([number(9, -1), number(9, -2)].map(|value| value.to_string()), ["state=STOPPED", "state=-2"]);
}

#[test]
fn hostile_types_end_soon_and_touch_nothing_else() {
    let bytes = vec![0xff; 1 << 16];
    let mut types = base();
    types.extend([
        ty("node", STRUCT, 2, 16, &[field("next", 6, 0), field("next", 6, 64)].concat()), // 6: itself, twice
        ty("", ARRAY, 0, 0, &[7, 1, 2]),                                                  // 7: of itself
        ty("", ARRAY, 0, 0, &[1, 1, u32::MAX]),                                           // 8: 16 GiB
        ty("list", STRUCT, 0, 0, &[]),                                                    // 9: no bytes
        ty("", ARRAY, 0, 0, &[9, 1, u32::MAX]), // 10: 4 billion of these
        ty("state", TYPEDEF, 0, 11, &[]),       // 11: itself
        ty(
            "rec",
            STRUCT,
            3,
            64,
            &[field("pid", 1, u32::MAX), field("args", 99, 0), field("", 6, 0)].concat(),
        ),
        ty("rec", STRUCT, 1 | BITS, 8, &field("low", 1, 0xffff_ffff)), // 13
        ty("\x1b[2J", STRUCT, 1, 8, &field("\x1b[2J", 2, 0)),          // 14
        ty("", UNION, 1, 8, &field("", 15, 0)),                        // 15: itself, without a name
        ty("", ARRAY, 0, 0, &[16, 1, 4]),                              // 16
    ]);
    for id in 0..=17 {
        let btf = btf(&types);
        let Some(ty) = btf.get(id) else { continue };
        for len in [0, 1, 7, 8, 64, bytes.len()] {
            let value = decode(ty, &bytes[..len]);
            assert!(value.to_string().len() < 1 << 21, "type {id}");
            let _ = (value.json(), value.is_zero(), type_name(ty), stamps(ty, None), stamps(ty, Some("pid")));
            assert!(!value.to_string().contains('\x1b') && !type_name(ty).contains('\x1b'));
        }
        let _ = record_type(&btf, id).map(type_name);
    }
}

#[test]
fn the_stamp_of_a_record_is_found() {
    let mut types = base();
    let fields = |time: &str, ns: &str| {
        let fields = [field("low", 1, 0), field("high", 2, 64), field(time, 2, 128), field(ns, 2, 192)];
        ty("rec", STRUCT, 4, 32, &fields.concat())
    };
    types.extend([fields("args", "list"), fields("time", "ns")]);
    let btf = btf(&types);
    let [rec, timed] = [6, 7].map(|id| btf.get(id).unwrap());
    assert_eq!(stamps(rec, Some("high")), [("high".to_owned(), 8)]);
    assert!([Some("low"), Some("none"), None].iter().all(|wanted| stamps(rec, *wanted).is_empty()));
    assert_eq!(stamps(timed, None), [("ns".to_owned(), 24), ("time".to_owned(), 16)]);
}

/// The parts of a value, and the bytes of its names and texts.
fn cost(value: &Value) -> (usize, usize) {
    let sum = |all: &mut dyn Iterator<Item = (usize, usize)>| {
        all.fold((1, 0), |(parts, bytes), (more, longer)| (parts + more, bytes + longer))
    };
    match value {
        Value::Struct(fields) => sum(&mut fields.iter().map(|(name, value)| {
            let (parts, bytes) = cost(value);
            (parts, bytes + name.len())
        })),
        Value::List(list) => sum(&mut list.iter().map(cost)),
        Value::Text(text) => (1, text.bytes().len()),
        Value::Name(text, _) => (1, text.len()),
        Value::Bytes(bytes) => (1, bytes.len()),
        _ => (1, 0),
    }
}

#[test]
fn a_value_costs_no_more_than_its_bytes_allow() {
    let id = |types: &[Vec<u32>]| u32::try_from(types.len()).unwrap();
    let top = |types: &mut Vec<Vec<u32>>, name, of| {
        types.push(ty("rec", STRUCT, 2, 8, &[field(name, of, 0), field("pid", 2, 0)].concat()));
    };
    // Structs in structs, then four billion elements without bytes.
    let mut deep = base();
    deep.push(ty("list", STRUCT, 0, 0, &[]));
    deep.push(ty("", ARRAY, 0, 0, &[id(&deep), 1, u32::MAX]));
    for _ in 0..14 {
        deep.push(ty("node", STRUCT, 1, 0, &field("next", id(&deep), 0)));
    }
    let last = id(&deep);
    top(&mut deep, "args", last);
    // Arrays of arrays.
    let mut arrays = base();
    arrays.push(ty("list", STRUCT, 0, 0, &[]));
    for _ in 0..14 {
        arrays.push(ty("", ARRAY, 0, 0, &[id(&arrays), 1, 100]));
    }
    let last = id(&arrays);
    top(&mut arrays, "args", last);
    // Each has the one before twice, with and without a name.
    let [named, unnamed] = ["next", ""].map(|name| {
        let mut wide = base();
        wide.push(ty("", STRUCT, 0, 0, &[]));
        for _ in 0..29 {
            wide.push(ty("", STRUCT, 2, 0, &field(name, id(&wide), 0).repeat(2)));
        }
        let last = id(&wide);
        top(&mut wide, name, last);
        wide
    });
    // The same text in very many members of a union.
    let mut union = base();
    union.push(ty("", ARRAY, 0, 0, &[3, 1, 8]));
    union.push(ty("", UNION, 60_000, 8, &field("comm", 6, 0).repeat(60_000)));
    top(&mut union, "args", 7);
    for types in [deep, arrays, named, unnamed, union] {
        let btf = btf(&types);
        let top = btf.get(id(&types)).unwrap();
        let value = decode(top, &[0x61; 8]);
        let (parts, bytes) = cost(&value);
        assert!(parts <= 1000 && bytes <= 8192, "{parts} parts, {bytes} bytes");
        assert!(value.to_string().contains('…'), "what is left out is marked");
        let _ = (stamps(top, None), stamps(top, Some("pid")), type_name(top));
    }
}

#[test]
fn a_large_value_costs_little_more_than_its_bytes() {
    const LEN: u32 = 1 << 20;
    for (of, is_cut) in [
        (ty("", ARRAY, 0, 0, &[3, 1, LEN]), false),
        (ty("", ARRAY, 0, 0, &[4, 1, LEN]), false),
        (ty("int", INT, 0, LEN, &[0]), true),
        (ty("state", ENUM, 0, LEN, &[]), true),
        (ty("float", FLOAT, 0, LEN, &[]), true),
    ] {
        let mut types = base();
        types.push(of); // 6
        types.push(ty("rec", UNION, 64, LEN, &field("args", 6, 0).repeat(64))); // 7
        let value = decoded(&types, 7, &vec![0x61; LEN as usize]);
        let (_, bytes) = cost(&value);
        assert!(bytes <= 3 << 20, "{bytes} bytes");
        assert_eq!(value.at("args") == Some(&Value::Cut), is_cut, "no number has so many bytes");
    }
    let mut types = base();
    types.push(ty("int", INT, 0, 16, &[128]));
    let digits: Vec<u8> = (1..=16).collect();
    #[cfg(target_endian = "little")]
    assert_eq!(decoded(&types, 6, &digits).to_string(), "0x100f0e0d0c0b0a09_0807060504030201");
}
