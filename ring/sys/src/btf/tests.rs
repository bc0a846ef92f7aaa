//! Parses BTF that is valid, truncated, circular or has changed bytes.

use super::*;

const STRINGS: &str = "\0int\0flags\0outer\0first\0second\0low\0.data\0counter\0";

fn string(name: &str) -> u32 {
    let at = STRINGS.find(&format!("\0{name}\0")).map_or(0, |at| at + 1);
    u32::try_from(at).unwrap()
}

/// A type: its name, its kind and number of members, its size or reference, and the words after that.
fn ty(name: &str, info: u32, size: u32, rest: &[u32]) -> Vec<u32> {
    [&[string(name), info, size], rest].concat()
}

fn blob(types: &[Vec<u32>]) -> Vec<u8> {
    let types = types.concat();
    let sizes = [0, 4 * types.len(), 4 * types.len(), STRINGS.len()].map(|n| u32::try_from(n).unwrap());
    let words = [&[24], &sizes[..], &types].concat();
    let mut bytes = [&MAGIC.to_ne_bytes()[..], &[1, 0]].concat();
    bytes.extend(words.into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend(STRINGS.as_bytes());
    bytes
}

fn kind(kind: Kind) -> u32 {
    u32::try_from(KINDS.iter().position(|k| *k == kind).unwrap()).unwrap() << 24
}

/// `struct outer { int first[3]; union { int second; const int low : 5; }; }`, and `counter` of it in `.data`.
fn sample() -> Vec<u8> {
    let field = |name, ty, at| [string(name), ty, at];
    blob(&[
        ty("int", kind(Kind::Int), 4, &[0x0100_0020]),
        ty("", kind(Kind::Array), 0, &[1, 1, 3]),
        ty("", kind(Kind::Const), 1, &[]),
        ty(
            "",
            kind(Kind::Union) | 1 << 31 | 2,
            4,
            &[field("second", 1, 0), field("low", 3, 5 << 24 | 8)].concat(),
        ),
        ty("outer", kind(Kind::Struct) | 2, 16, &[field("first", 2, 0), field("", 4, 96)].concat()),
        ty("counter", kind(Kind::Var), 5, &[1]),
        ty(".data", kind(Kind::DataSec) | 1, 16, &[6, 0, 16]),
        ty("flags", kind(Kind::Enum64) | 1, 8, &[string("low"), 1, 0]),
    ])
}

#[test]
fn types_are_found_with_their_sizes_and_fields() {
    let btf = Btf::new(sample()).unwrap();
    let outer = btf.types().find(|ty| ty.name() == b"outer").unwrap();
    assert_eq!((outer.id, outer.kind(), outer.bytes()), (5, Kind::Struct, Some(16)));
    let fields = outer.fields_within(|field| field.name.is_empty());
    let found: Vec<_> = fields.iter().map(|f| (f.name, f.from, f.bits, f.choice)).collect();
    let expected: [(&[u8], _, _, _); 4] =
        [(b"first", 0, 0, false), (b"", 96, 0, false), (b"second", 96, 0, true), (b"low", 104, 5, true)];
    assert_eq!(found, expected);
    let first = outer.field("first").unwrap().ty;
    assert_eq!((first.array().unwrap().1, first.bytes(), first.first_name()), (3, Some(12), None));
    assert_eq!(fields[3].ty.resolved().name(), b"int");
    let section = btf.get(7).unwrap();
    let variables: Vec<_> = section.variables().map(|v| (v.name, v.ty.id, v.offset, v.size)).collect();
    assert_eq!(variables, [(&b"counter"[..], 5, 0, 16)]);
    assert_eq!(btf.get(8).unwrap().bytes(), Some(8));
    assert_eq!((btf.get(0).unwrap().kind(), btf.get(9).map(|ty| ty.id)), (Kind::Void, None));
}

#[test]
fn types_that_refer_to_each_other_in_circles_end() {
    let circles = [
        ty("", kind(Kind::Typedef), 2, &[]),
        ty("", kind(Kind::Const), 1, &[]),
        ty("", kind(Kind::Array), 0, &[3, 3, 1]),
        ty("", kind(Kind::Struct) | 2, 0, &[string(""), 4, 0, string(""), 4, 0]),
    ];
    let btf = Btf::new(blob(&circles)).unwrap();
    btf.types().for_each(look_at);
    assert_eq!(btf.get(4).unwrap().fields_within(|_| true).len(), FIELDS);
    assert_eq!(btf.get(3).unwrap().bytes(), None);
}

/// Calls all methods of a type.
fn look_at(ty: Type<'_>) {
    let _ = (ty.kind(), ty.name(), ty.first_name(), ty.resolved(), ty.bytes(), ty.array(), ty.field("low"));
    let _ = (ty.fields_within(|field| field.name.is_empty()), ty.variables().count());
}

#[test]
fn members_without_a_type_cost_as_much_as_fields() {
    let (missing, nested) = (60_000_u32, 100);
    let field = |name, ty| [string(name), ty, 0];
    let members = (0..missing).flat_map(|_| field("", 99)).chain(field("low", 1)).collect::<Vec<_>>();
    let btf = Btf::new(blob(&[
        ty("int", kind(Kind::Int), 4, &[0x0100_0020]),
        ty("", kind(Kind::Struct) | (missing + 1), 4, &members),
        ty(
            "outer",
            kind(Kind::Struct) | nested,
            4,
            &(0..nested).flat_map(|_| field("first", 2)).collect::<Vec<_>>(),
        ),
    ]));
    let outer = btf.as_ref().unwrap().get(3).unwrap();
    let found = outer.fields_within(|_| true);
    let of = |name: &[u8]| found.iter().filter(|field| field.name == name).count();
    assert_eq!((of(b"first"), of(b"low")), (nested as usize, MEMBERS / (missing as usize + 1)));
}

#[test]
fn bytes_that_are_cut_off_are_no_btf() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(Btf::new(whole[..len].to_vec()).is_none(), "{len}");
    }
    assert_eq!(Btf::new(whole).unwrap().types().count(), 8);
}

/// Makes this number of rounds of changes, of up to 4 words each.
fn change(whole: &[u8], rounds: u32) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below
    };
    for _ in 0..rounds {
        let mut bytes = whole.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len() - 4);
            let value = [0, 1, 0x7f, 0xff, random(256)][random(5)];
            let len = [1, 4][random(2)];
            bytes[at..at + len].fill(u8::try_from(value).unwrap());
        }
        if let Some(btf) = Btf::new(bytes) {
            let step = 1 + btf.types.len() / 1000;
            btf.types().step_by(step).for_each(look_at);
        }
    }
}

#[test]
fn changed_bytes_cost_no_more_than_the_types() {
    change(&sample(), 20_000);
    if let Ok(kernel) = std::fs::read("/sys/kernel/btf/vmlinux") {
        change(&kernel, 20);
    }
}
