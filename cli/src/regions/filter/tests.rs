//! What expressions hold of, and which are refused.

use super::*;
use crate::regions::value::Chars;

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
    Expr::parse(text).unwrap().holds(Names { value, tail: None })
}

fn refused(text: &str, value: &Value) -> Option<String> {
    let checked = Expr::parse(text).unwrap().check(Names { value, tail: None }, None);
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
    ]);
    let names = Names { value: &value, tail: Some(b"cat\0\xff\n\0") };
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
    ] {
        let expr = Expr::parse(text).unwrap();
        assert_eq!(expr.holds(names), expected, "{text}");
        assert!(expr.check(names, None).is_ok(), "{text}");
    }
    for text in ["mac == 0x02ff", "mac == 2", "mac[6] == 1", "tail == 3", "args.bytes == 3"] {
        assert!(Expr::parse(text).unwrap().check(names, None).is_err(), "{text}");
    }
}
