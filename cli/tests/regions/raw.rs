//! Fields and tails that are not plain text or numbers: no output hides a byte, and a filter can name each of them.

use std::time::SystemTime;

use mapring::Region;
use serde_json::{Value, json};

use super::common::{Dir, command};
use super::loaded::Loaded;
use super::{lines, mapring, stderr, text};

/// Bytes as in the outputs.
const ARGS: &str = "0x6c73002d6c002f74_6d70000000000000";
const TAIL: &str = "0x63617400ff225c00";

#[test]
fn no_byte_is_hidden() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(1);
    let path = loaded.path("t_raw");
    let tail = lines(&mapring(&["tail", &path, "--no-follow", "--json"]));
    let shown = lines(&mapring(&["show", &path, "--json"]));
    let tail_text = "cat\0\u{fffd}\"\\\0";
    assert_eq!((&tail[0]["record"]["args"], &tail[0]["tail"]), (&json!("ls"), &json!(tail_text)));
    assert_eq!((&tail[0]["record"]["args.bytes"], &tail[0]["tail.bytes"]), (&json!(ARGS), &json!(TAIL)));
    assert_eq!((&shown[1]["value"], &shown[1]["tail.bytes"]), (&tail[0]["record"], &json!(TAIL)));
    let people = text(&mapring(&["tail", &path, "--no-follow"]));
    assert!(people.contains("args=\"ls\" +args.bytes \"cat\\0\\xff\\\"\\\\\\0\"\n"), "{people}");
    // A text that says all of its bytes stands alone.
    let names = lines(&mapring(&["tail", &loaded.path("t_names"), "--no-follow", "--json"]));
    assert_eq!((&names[0]["tail"], names[0].get("tail.bytes")), (&json!("a tail"), None));
    let settings = lines(&mapring(&["show", &loaded.path("t_settings"), "--json"]));
    assert_eq!(settings[1]["value"], json!({ "number": 5, "text": "five" }));
}

#[test]
fn each_field_can_be_named_as_it_is_printed() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(1);
    let path = loaded.path("t_raw");
    let tail = |filter: &str| mapring(&["tail", &path, "--no-follow", "--where", filter]);
    let printed = text(&mapring(&["tail", &path, "--no-follow"]));
    let (fields, tail_text) = printed.trim_end().split_once("] ").unwrap().1.split_once(" \"cat").unwrap();
    let fields = fields
        .split(' ')
        .filter(|field| !field.starts_with('+'))
        .map(|field| field.replace('=', " == "))
        .collect::<Vec<_>>()
        .join(" && ");
    for filter in [fields.as_str(), &format!("tail == \"cat{tail_text}")] {
        assert_eq!(text(&tail(filter)).lines().count(), 1, "{filter}");
    }
    for (filter, count) in [
        ("error == DENIED && error == -1 && error == 4294967295 && error < 0 && error ~ \"DEN.*\"", 1),
        ("error > 0 || error == AGAIN || low == 0", 0),
        ("low == -1 && address > 0xffff000000000000 && mac[1] == 255 && args.bytes ~ \".*/tmp\"", 1),
        ("tail ~ \"cat.*\" && tail.bytes == 0x63617400ff225c00", 1),
        ("tail ~ \"cat\" || args ~ \"l\"", 0),
    ] {
        assert_eq!(text(&tail(filter)).lines().count(), count, "{filter}");
    }
    for (filter, why) in [
        (
            "error == DENEID",
            "error is an enum without this constant: it has DENIED, NONE, AGAIN; its type is enum error",
        ),
        ("error == 4294967294", "error is an enum, from -2147483648 to 2147483647; its type is enum error"),
        ("low == 15", "low is a number, from -8 to 7; its type is __s32:4"),
        ("pad > 65535", "pad is a number, from 0 to 65535; its type is __u16"),
        (
            "address == \"socket\"",
            "address is a pointer: compare it with a number such as 0xffff888100000000; its type is void *",
        ),
        (
            "mac == 0x02ff",
            "mac is bytes: compare them with 6 bytes such as 0x000000000000; its type is __u8[6]",
        ),
        ("mac == 17", "mac is bytes: compare them with 6 bytes such as 0x000000000000; its type is __u8[6]"),
        ("args == 3", "args is a text, and is compared with a number; its type is char[16]"),
        ("tail == 3", "tail is a text, and is compared with a number"),
        ("number == seven", "number is a number, and is compared with a text; its type is __u64"),
    ] {
        let output = tail(filter);
        assert_eq!(output.status.code(), Some(1), "{filter}");
        assert!(stderr(&output).contains(why), "{filter}: {}", stderr(&output));
    }
    let output = tail("sk == 1");
    assert!(stderr(&output).contains("the fields are number, address, mac, pad, error, low, args, tail"));
}

#[test]
fn maps_are_found_by_their_names_in_c() {
    let Some(mut loaded) = Loaded::new() else { return };
    loaded.fill_spans(0, 1, 1000);
    let (words, bytes, pin) = (loaded.path("w"), loaded.path("b"), format!("pin-{}", std::process::id()));
    loaded.skel.maps.t_name_of_many_words.pin(&words).unwrap();
    loaded.skel.maps.t_name_of_many_bytes.pin(&bytes).unwrap();
    Region::open(loaded.path("t_loads")).unwrap().pin(loaded.path(&pin), 0o600).unwrap();
    // Other tests may have loaded maps with the same name: then all of them are named.
    let shown = mapring(&["show", "t_name_of_many_words", "--json"]);
    let found = if shown.status.success() { text(&shown) } else { stderr(&shown) };
    assert!(found.contains(&words) && !found.contains(&bytes), "{found}");
    // Maps of maps have no types of their own.
    let (bells, ring, nodes) = (loaded.path("r__bells"), loaded.path("ring"), loaded.path("nodes"));
    loaded.skel.maps.t_ring_of_many_bytes.pin(&ring).unwrap();
    loaded.skel.maps.t_ring_of_many_bytes__bells.pin(&bells).unwrap();
    loaded.skel.maps.t_ring_of_many_words.pin(&nodes).unwrap();
    let of_maps = [("bytes", &ring), ("words", &nodes), ("bytes__bells", &bells)];
    for (name, pin) in of_maps {
        let shown = mapring(&["ls", &format!("t_ring_of_many_{name}"), "--json"]);
        let found = if shown.status.success() { text(&shown) } else { stderr(&shown) };
        assert!(
            of_maps.iter().all(|(_, other)| found.contains(*other) == (*other == pin)),
            "{name}: {found}"
        );
    }
    for name in ["t_name_of_many_letters", "t_ring_of_many_letters"] {
        assert!(stderr(&mapring(&["show", name])).contains("no map has the name"), "{name}");
    }
    // A file or a directory with the name of a map hides none.
    let dir = Dir::new();
    let in_dir = |args: &[&str]| command(args).current_dir(&dir.0).output().unwrap();
    for is_dir in [false, true] {
        let path = dir.0.join(&pin);
        let made = if is_dir { std::fs::create_dir(&path) } else { std::fs::write(&path, "") };
        made.unwrap();
        for args in [
            &["show", &pin, "--json"][..],
            &["ls", &pin, "--json"],
            &["stat", &pin, "-n", "1", "--json", "-i", "1ms"],
        ] {
            assert!(text(&in_dir(args)).contains("t_loads"), "{args:?}");
        }
        let removed = if is_dir { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap();
    }
    // A pin in the current directory is a pin.
    let pinned = command(&["show", &pin, "--json"]).current_dir(&loaded.dir).output().unwrap();
    assert_eq!(lines(&pinned)[0]["region"], pin);
}

/// Nanoseconds since 1970.
fn wall() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

#[test]
fn a_stamp_is_guessed_only_if_it_fits_a_clock() {
    let dir = Dir::new();
    let of_clock = |first: u64, step: u64, modulo: u64, options: &[&str]| {
        let loaded = Loaded::new()?;
        loaded.fill_spans(first, step, modulo);
        let path = loaded.path("t_spans");
        let tail = mapring(&[&["tail", &path, "--no-follow", "--json"], options].concat());
        let file = dir.path("spans.rec");
        let recorded =
            mapring(&[&["record", &path, "--no-follow", "--force", "-o", &file], options].concat());
        assert!(recorded.status.success());
        let records = lines(&tail);
        let mut inspected = lines(&mapring(&["inspect", &file, "--format", "ndjson"]));
        // The recording has the same order and the same times, but for the error of a comparison of clocks.
        for (line, other) in inspected.iter_mut().zip(&records) {
            let seconds = |line: &Value| line["time"].as_str().map(|time| time[..17].to_owned());
            assert_eq!(seconds(line), seconds(other));
            line["time"] = other["time"].clone();
        }
        assert_eq!(inspected, records);
        assert!((0..40).all(|at| records[at]["ticket"] == at), "the order of the tickets");
        let time = records[0]["time"].as_str().map(str::to_owned);
        Some((time, stderr(&tail), stderr(&recorded)))
    };
    let monotonic = mapring::time::Clock::Monotonic.now();
    for (first, step, modulo, options, has_time, why) in [
        (
            0,
            7919,
            1000,
            &[][..],
            false,
            "field time is not taken as the time stamp: its values do not fit CLOCK_MONOTONIC",
        ),
        (1, 7919, 1000, &["--stamp", "time"], true, ""),
        (
            monotonic,
            1,
            1000,
            &[],
            true,
            "field time is taken as the time stamp, in nanoseconds of CLOCK_MONOTONIC",
        ),
        (monotonic, 1, 1000, &["--stamp", "none"], false, ""),
        (wall(), 1, 1000, &[], true, "in nanoseconds of CLOCK_REALTIME"),
        (wall(), 1, 1000, &["--clock", "monotonic"], false, "do not fit CLOCK_MONOTONIC;"),
        (wall() / 1000, 1, 1000, &[], false, "field time is not taken"),
        (monotonic, 1, 1000, &["--stamp", "time", "--clock", "boottime"], true, ""),
    ] {
        let Some((time, tail, recorded)) = of_clock(first, step, modulo, options) else { return };
        assert_eq!(time.is_some(), has_time, "{first} {options:?}: {time:?}");
        assert!(tail.contains(why) && recorded.contains(why), "{options:?}: {tail} {recorded}");
        if first > 1 && has_time {
            let time = humantime::parse_rfc3339(&time.unwrap()).unwrap();
            assert!(time.elapsed().unwrap().as_secs() < 3600, "{options:?}: {time:?}");
        }
    }
}
