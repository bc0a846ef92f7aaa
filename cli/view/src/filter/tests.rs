//! What expressions hold of, and which are refused.

use super::*;
use crate::value::tests::{ARRAY, ENUM, STRUCT, base, btf, field, string, ty};
use crate::value::{Chars, decode};

fn record() -> Value {
    Value::Struct(vec![
        ("pid".to_owned(), Value::Unsigned(12)),
        ("ret".to_owned(), Value::Signed(-2)),
        ("comm".to_owned(), Value::Text(Chars::array(b"bash"))),
        ("state".to_owned(), Value::Name("RUNNING".to_owned(), 7)),
        ("ok".to_owned(), Value::Bool(false)),
        ("load".to_owned(), Value::Float(1.5)),
        ("big".to_owned(), Value::Unsigned(u64::MAX)),
        ("args".to_owned(), Value::List(vec![Value::Unsigned(0), Value::Unsigned(7)])),
        ("at".to_owned(), Value::Struct(vec![("x".to_owned(), Value::Unsigned(3))])),
    ])
}

fn holds(text: &str, value: &Value) -> bool {
    Expr::parse(text).unwrap().holds(Names { value, tail: None, ty: None })
}

fn refused(text: &str, value: &Value) -> Option<String> {
    let checked = Expr::parse(text).unwrap().check(&[Names { value, tail: None, ty: None }]);
    checked.err().map(|e| e.to_string())
}

#[test]
fn expressions_hold_or_not() {
    for (text, expected) in [
        ("pid == 12", true),
        ("pid==12&&comm~\"ba.*\"", true),
        ("comm ~ \"ba\"", false),
        ("comm !~ \"ba\"", true),
        ("comm == \"bash\" && comm < \"c\"", true),
        ("pid != 12 || ret < 0", true),
        ("pid > 12 || ret >= 0 || ret <= -3", false),
        ("!(pid == 12)", false),
        ("!ok && load > 1.25 && load == 1.5 && pid < 12.5", true),
        ("ok == false && ok == 0 && !args[0] && args[1] == 7", true),
        ("state == RUNNING && state ~ \"RUN.*\" && state != STOPPED", true),
        ("big == 0xffffffffffffffff && big > 9223372036854775807", true),
        ("pid == 1 && pid == 2 || pid == 12", true),
        ("pid == 1 && (pid == 2 || pid == 12)", false),
        ("at.x == 3 && at.y != 1", false),
        ("missing || !missing", true),
        ("pid == \"12\"", false),
        ("pid ~ \"1.\"", true),
    ] {
        assert_eq!(holds(text, &record()), expected, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    let deep = "(".repeat(100_000);
    for text in [
        "",
        "pid ==",
        "== 3",
        "pid = 3",
        "(pid",
        "pid)",
        "comm ~ \"[\"",
        "comm ~ x",
        "comm == \"x",
        "a &&",
        deep.as_str(),
        "!",
        "a b",
    ] {
        assert!(Expr::parse(text).is_err(), "{text:.20}");
    }
    let error = Expr::parse("pid = 3").unwrap_err().to_string();
    assert!(error.ends_with("at character 5, not: = 3"), "{error}");
    let nots = "!".repeat(1000) + "a";
    assert!(Expr::parse(&nots).unwrap_err().to_string().contains("deeper"));
}

#[test]
fn comparisons_that_never_hold_are_refused() {
    for (text, why) in [
        ("!(pid == 12 || pid == \"bash\")", "pid is a number, and is compared with a text"),
        ("comm > 5", "comm is a text, and is compared with a number"),
        ("at == 3", "at is a struct: compare one of its fields"),
        ("args != 3", "args is an array: compare one of its elements"),
        ("pid == -1", "pid is a number, from 0 to 18446744073709551615"),
        ("pid < 0", "pid is a number, from 0 to 18446744073709551615"),
        ("pid == 1.5", "pid is a number, a whole number"),
        ("pid < -0.5", "pid is a number, from 0 to 18446744073709551615"),
    ] {
        assert_eq!(refused(text, &record()), Some(format!("--where: {why}")));
    }
    for text in ["state == STOPPED && ok == 0 && load < 1 && comm ~ \"1\"", "pid < 0.5 || pid >= 0.5"] {
        assert_eq!(refused(text, &record()), None);
    }
}

#[test]
fn unknown_fields_are_named() {
    let error = refused("pid == 12 && !(pdi > 2)", &record()).unwrap();
    assert!(error.starts_with("--where: no field pdi; the fields are pid, ret, "), "{error}");
}

#[test]
fn quotes_and_escapes() {
    let text = |bytes: &[u8]| Value::Struct(vec![("t".to_owned(), Value::Text(Chars::array(bytes)))]);
    assert!(holds(r#"t ~ ".*\"\.c""#, &text(b"a \"b\".c")));
    // What is printed, for people and as JSON, is a literal.
    for bytes in [&b"a \"b\".c"[..], b"\x1b\n\t\\x1b", b"caf\xe9", b"\xc3\xa9 \xf0\x9f\x98\x80", b"", b" a "]
    {
        let record = text(bytes);
        assert!(holds(&record.to_string().replace('=', " == "), &record), "{record}");
        if let (Ok(_), false) = (str::from_utf8(bytes), bytes.contains(&0)) {
            let json = record.json()["t"].to_string();
            assert!(holds(&format!("t == {json}"), &record), "{json}");
        }
    }
    for text in [r#"t == "\y""#, r#"t == "\x4""#, r#"t == "\u{110000}""#, r#"t == "\ud800""#, r#"t == "\é""#]
    {
        assert!(Expr::parse(text).is_err(), "{text}");
    }
}

#[test]
fn bytes_and_tails_are_compared_whole() {
    let value = Value::Struct(vec![
        ("args".to_owned(), Value::Text(Chars::array(b"ls\0-l\0\0"))),
        ("mac".to_owned(), Value::Bytes(vec![2, 0xff, 0, 3, 1, 4])),
        ("sk".to_owned(), Value::Pointer(0xffff_8881_04a2_c000)),
        ("err".to_owned(), Value::Code(-2)),
        ("state".to_owned(), Value::Name("IDLE".to_owned(), 5)),
    ]);
    let names = Names { value: &value, tail: Some(b"cat\0\xff\n\0"), ty: None };
    for (text, expected) in [
        ("args == \"ls\" && args != \"ls\\0-l\\0x\" && args ~ \"ls\"", true),
        ("args == \"ls\\0-l\" && args.bytes == \"ls\\x00-l\" && args.bytes == 0x6c73002d6c0000", true),
        ("args.bytes == \"0x6c73002d6c0000\" && args.bytes ~ \".*-l\"", true),
        ("args ~ \".*-l\" || args.bytes == 0x6c73", false),
        ("tail == \"cat\\0\\xff\\n\\0\" && tail ~ \"cat.*\" && tail.bytes == 0x63617400ff0a00", true),
        ("tail == \"cat\" || tail ~ \"cat\"", false),
        ("mac == 0x02ff00030104 && mac == \"0x02ff_00030104\" && mac[1] == 255 && mac ~ \"0x02ff.*\"", true),
        ("sk == 0xffff888104a2c000 && sk == \"0xffff888104a2c000\" && sk > 0 && sk", true),
        ("err == -2 && err < 0 && err != 4294967294", true),
        ("state == 5 && state != 4294967301", true),
    ] {
        let expr = Expr::parse(text).unwrap();
        assert_eq!(expr.holds(names), expected, "{text}");
        assert!(expr.check(&[names]).is_ok(), "{text}");
    }
    for text in [
        "mac[1] == 256",
        "args.bytes == 0x0102030405060708",
        "mac == 0x02ff",
        "mac == 2",
        "mac[6] == 1",
        "tail == 3",
        "args.bytes == 3",
    ] {
        assert!(Expr::parse(text).unwrap().check(&[names]).is_err(), "{text}");
    }
}

/// Types: 9 is `char[4]`, 10 `char[2][4]`, 12 an enum, 13 a struct with these and others.
fn types() -> Vec<Vec<u32>> {
    let array = |of, count| ty("", ARRAY, 0, 0, &[of, 1, count]);
    let mut types = base();
    types.extend([ty("", 1, 0, 1, &[1 << 24 | 8]), array(6, 2), array(5, 2), array(3, 4), array(9, 2)]);
    types.push(ty("", 2, 0, 2, &[]));
    types.push(ty("state", ENUM, 2, 4, &[string("IDLE"), 0, string("STOPPED"), u32::MAX]));
    let fields = [
        field("args", 7, 0),
        field("ok", 8, 16),
        field("comm", 9, 32),
        field("list", 10, 64),
        field("next", 11, 128),
        field("state", 12, 192),
        field("low", 5, 1 << 24 | 224),
    ];
    types.push(ty("rec", STRUCT, 7 | 1 << 31, 32, &fields.concat()));
    types
}

/// Whether it holds of these bytes, or why it is refused.
fn typed(types: &[Vec<u32>], id: u32, bytes: &[u8], text: &str) -> Result<bool, String> {
    let btf = btf(types);
    let ty = btf.get(id).unwrap();
    let names = |value| Names { value, tail: None, ty: Some(ty) };
    let expr = Expr::parse(text).unwrap();
    let [empty, value] = [&vec![0; bytes.len()], bytes].map(|bytes| decode(ty, bytes));
    expr.check(&[names(&empty)]).map_err(|e| e.to_string())?;
    Ok(expr.holds(names(&value)))
}

/// Of several types, one must have the field, and the comparison must make sense for one.
#[test]
fn a_filter_of_several_types_names_fields_of_each() {
    let record = |name: &str, value| {
        Value::Struct(vec![("ns".to_owned(), Value::Unsigned(1)), (name.to_owned(), value)])
    };
    let text = || Value::Text(Chars::array(b"sh"));
    let values = [record("pid", Value::Unsigned(1)), record("comm", text()), record("pid", text())];
    let all = values.each_ref().map(|value| Names { value, tail: None, ty: None });
    let check = |text: &str, of: &[Names<'_>]| {
        Expr::parse(text).unwrap().check(of).map_err(|e| e.to_string().replace("--where: ", ""))
    };
    for text in ["pid == 1 || comm == \"sh\"", "ns > 0 && pid == 1", "comm == \"sh\""] {
        assert_eq!(check(text, &all[..2]), Ok(()), "{text}");
    }
    assert_eq!(check("pdi", &all), Err("no field pdi; the fields are ns, pid, comm".to_owned()));
    assert!(check("pid == \"sh\"", &all[..2]).unwrap_err().contains("pid is a number"));
    assert_eq!(check("pid == \"sh\" || pid == 1", &all), Ok(()));
}

#[test]
fn types_say_what_the_elements_of_arrays_are() {
    let bytes = b"\x01\xff\0\x01l\0b\0ab\0cxyz\0\x08\0\0\0\0\0\0\0\xff\xff\xff\xff\x01\0\0\0";
    let of_record = |text| typed(&types(), 13, bytes, text);
    for text in [
        "args[1] == -1 && args[1] < 0 && args[1] ~ \"-1\" && args[0] > 0",
        "ok[1] == true && !ok[0] && ok[0] == false && ok[1] == 1",
        "comm[0] == 108 && comm[2] == 98 && list[0][1] == 98 && list[0][3] == 99",
        "comm.bytes == 0x6c0062 && comm.bytes == 0x6c00620000 && comm.bytes ~ \"0x6c00.*\"",
        "list[0].bytes == 0x61620063 && comm.bytes ~ \"l.*\"",
        "state == -1 && state == 4294967295 && state == STOPPED && state < 0",
        "next >= 0 && next < 9 && next != -1",
    ] {
        #[cfg(target_endian = "little")]
        assert_eq!(of_record(text), Ok(true), "{text}");
    }
    for (text, why) in [
        ("args[1] == 255", "args[1] is a number, from -128 to 127; its type is (no name)"),
        ("ok[2]", "no field ok[2]; the fields are args, ok, comm, list, next, state, low"),
        (
            "next < 0",
            "next is a pointer: compare it with a number such as 0xffff888100000000; its type is u64 *",
        ),
        ("low == 2", "low is a boolean, from 0 to 1; its type is bool:1"),
        (
            "comm.bytes == 0x0102030405",
            "comm.bytes is the bytes of a text, of which there are 4; its type is char[4]",
        ),
        (
            "comm == \"\u{fffd}\"",
            "comm is a text, and U+FFFD stands for other bytes: compare its .bytes; its type is char[4]",
        ),
        ("comm == \"a\\0bcd\"", "comm is a text, of at most 4 bytes; its type is char[4]"),
        ("state == 4294967294", "state is an enum, from -2147483648 to 2147483647; its type is enum state"),
    ] {
        assert_eq!(of_record(text), Err(format!("--where: {why}")));
    }
}

#[test]
fn a_record_without_fields_is_the_value() {
    for (id, bytes, text) in [
        (9, &b"l\0b\0"[..], "value == \"l\" && value[2] == 98 && value.bytes == 0x6c0062"),
        (10, b"ab\0cxyz\0", "value[0] == \"ab\" && value[0][1] == 98 && value[1] ~ \"x.*\""),
        (8, &[0, 1], "value[1] == true && value == 0x0001"),
        (5, &[1], "value == true && value"),
        (12, &[0xff; 4], "value == STOPPED"),
        (11, &[0; 8], "value == 0"),
    ] {
        assert_eq!(typed(&types(), id, bytes, text), Ok(true), "{text}");
        assert_eq!(
            typed(&types(), id, bytes, "pid == 1"),
            Err("--where: no field pid; the fields are value".to_owned())
        );
    }
}

#[test]
fn numbers_of_large_enums_are_whole() {
    const ENUM64: u32 = 19;
    let constants = [string("IDLE"), 1, 0, string("STOPPED"), u32::MAX, u32::MAX];
    let unsigned = ["18446744073709551615", "0xffffffffffffffff"].map(|number| (0, number));
    for (flags, number) in unsigned.into_iter().chain([(1 << 31, "-1")]) {
        let mut types = types();
        types.push(ty("large", ENUM64, 2 | flags, 8, &constants)); // 14
        for text in
            [format!("value == {number}"), format!("value == {number} && value == STOPPED && value != 1")]
        {
            assert_eq!(typed(&types, 14, &[0xff; 8], &text), Ok(true), "{text}");
        }
    }
    // As of clang 14.
    let mut types = types();
    types.push(ty("large", ENUM, 2, 8, &[string("IDLE"), 1, string("STOPPED"), u32::MAX])); // 14
    for text in ["value == 18446744073709551615", "value == STOPPED", "value == -1"] {
        assert_eq!(typed(&types, 14, &[0xff; 8], text), Ok(true), "{text}");
    }
}

#[test]
fn variants_are_named_and_not_all_of_very_many_fields() {
    let mut types = types();
    types.push(ty("open", STRUCT, 1, 4, &field("comm", 9, 0))); // 14
    types.extend([ty("", ARRAY, 0, 0, &[4, 1, 1]), ty("", ARRAY, 0, 0, &[15, 1, 0])]);
    types.push(ty("", 5, 2, 4, &[field("open", 14, 0), field("mapring_tag__open", 16, 0)].concat())); // 17: a union
    types.push(ty("rec", STRUCT, 2, 16, &[field("tag", 2, 0), field("", 17, 64)].concat())); // 18
    types.push(ty("rec", STRUCT, 60, 8, &field("pid", 2, 0).repeat(60))); // 19
    let bytes = [&1_u64.to_ne_bytes()[..], b"l\0b\0\0\0\0\0"].concat();
    assert_eq!(typed(&types, 18, &bytes, "open.comm.bytes == 0x6c0062 && open.comm[2] == 98"), Ok(true));
    let error = typed(&types, 18, &bytes, "close == 1").unwrap_err();
    assert_eq!(error, "--where: no field close; the fields are tag, open");
    let error = typed(&types, 19, &bytes, "ns == 1").unwrap_err();
    assert!(error.ends_with("pid, pid and 10 others") && error.len() < 400, "{error}");
}
