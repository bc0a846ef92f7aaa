//! Crafted stacks in each format.

use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;

use super::super::super::event::tests::{comm, event};
use super::super::super::stack::UserFrame;
use super::*;
use crate::messages::perftools::profiles::Profile;

const HOSTILE: &str = "<script>alert(\"&;\"]]>";

fn stack(is_cut: bool) -> Stack {
    let user = vec![UserFrame::File { build_id: [0xab; 20], offset: 0x10 }, UserFrame::Address(0x7f00)];
    Stack { kernel: Vec::new(), user, is_cut, began: 0 }
}

/// What was added up of stacks with hostile names.
fn stacks() -> (Stacks, Names) {
    let mut names = Names::of_events();
    let mut stacks = Stacks::new();
    for (tid, comm_of) in [(7, "a;b 1"), (8, "# \n\x1b"), (9, "<&\"'>")] {
        names.seen(tid, 0, &comm(comm_of));
    }
    let mut add = |tid, ns, kind, time, stack: &Stack| {
        stacks.add(&event(ns, tid, What::Hold), kind, time, stack, &mut names);
    };
    add(7, 100, Kind::Running, 0, &stack(false));
    add(7, 200, Kind::Running, 0, &stack(false));
    add(8, 300, Kind::Running, 0, &stack(true));
    add(9, 400, Kind::Waiting, 1_999, &stack(false));
    add(9, 500, Kind::Waiting, 1_001, &stack(false));
    add(10, 600, Kind::Locks, u64::MAX, &stack(false));
    add(10, 700, Kind::Locks, u64::MAX, &stack(false));
    (stacks, names)
}

fn build_id() -> String {
    format!("[build id {}]+0x10", "ab".repeat(20))
}

#[test]
fn folded_lines_are_exact() {
    let ((stacks, mut names), symbols) = (stacks(), &mut Symbols::new(&[]));
    let id = build_id();
    let flames = stacks.flames(symbols, &mut names);
    let running = [format!("a:b_1;0x7f00;{id} 2"), format!("_# \\n\\u{{1b}};[cut];0x7f00;{id} 1")];
    assert_eq!(flames.running, running);
    assert_eq!(flames.waiting, [format!("<&\"'>;0x7f00;{id} 3")]);
    let locks = folded::lines(Kind::Locks, &stacks.summed(Kind::Locks, symbols, &mut names));
    assert_eq!(locks, [format!("[10];0x7f00;{id} {}", u64::MAX / 1000)]);
}

#[test]
fn an_svg_is_well_formed_whatever_the_names_are() {
    let frame = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Rc::new(Frame { names, ..Frame::default() })
    };
    let frames = vec![frame(&[HOSTILE, "f 12"]), frame(&["&lt;", "--> <!--"])];
    let summed = [1, 2].map(|pid| Summed {
        pid,
        tid: pid,
        comm: Bytes::from_static(HOSTILE.as_bytes()),
        frames: frames.clone(),
        is_cut: false,
        weight: Weight { count: 3, ..Weight::default() },
    });
    let lines = folded::lines(Kind::Running, &summed);
    assert_eq!(lines.len(), 1);
    let svg = svg(HOSTILE, "samples", &lines).unwrap();
    assert!(!svg.contains("<script>alert"));
    let mut reader = quick_xml::Reader::from_str(&svg);
    let mut titles = String::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Text(text) => titles.push_str(&String::from_utf8_lossy(&text)),
            _ => {}
        }
    }
    assert!(titles.contains("(6 samples, 100"), "{titles}");
    assert!(super::svg("none", "samples", &[]).is_err());
}

#[test]
fn a_profile_refers_to_what_it_has() {
    let ((stacks, mut names), symbols) = (stacks(), &mut Symbols::new(&[]));
    for (kind, hz, values) in [
        (Kind::Running, Some(100), vec![vec![2, 20_000_000], vec![1, 10_000_000]]),
        (Kind::Running, None, vec![vec![2], vec![1]]),
        (Kind::Waiting, None, vec![vec![2, 3_000]]),
        (Kind::Locks, Some(100), vec![vec![2, i64::MAX]]),
    ] {
        let summed = stacks.summed(kind, symbols, &mut names);
        let packed = pprof::profile(kind, hz, &summed, stacks.first..stacks.last).unwrap();
        let mut bytes = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        let profile = Profile::decode(&bytes[..]).unwrap();
        check(&profile);
        assert_eq!(profile.sample.iter().map(|sample| sample.value.clone()).collect::<Vec<_>>(), values);
        assert_eq!(profile.duration_nanos, 600);
        let text = |number: i64| &*profile.string_table[usize::try_from(number).unwrap()];
        let labels =
            profile.sample[0].label.iter().map(|label| (text(label.key), label.num, text(label.str)));
        let labels: Vec<_> = labels.collect();
        match kind {
            Kind::Running => assert_eq!(labels, [("pid", 7, ""), ("tid", 7, ""), ("comm", 0, "a;b 1")]),
            Kind::Waiting => assert_eq!(labels[2], ("comm", 0, "<&\"'>")),
            Kind::Locks => assert_eq!(labels.len(), 2),
        }
        let [mapping] = &profile.mapping[..] else { panic!("{:?}", profile.mapping) };
        assert_eq!((text(mapping.build_id), mapping.memory_limit), (&*"ab".repeat(20), 0x11));
    }
}

/// What `go tool pprof` checks.
fn check(profile: &Profile) {
    let texts = &profile.string_table;
    assert_eq!(texts[0], "");
    assert_eq!(texts.iter().collect::<std::collections::HashSet<_>>().len(), texts.len());
    let is_text = |number: i64| usize::try_from(number).is_ok_and(|number| number < texts.len());
    assert!(profile.sample_type.iter().all(|one| is_text(one.r#type) && is_text(one.unit)));
    assert!(is_text(profile.default_sample_type) && !profile.sample.is_empty());
    let ids = |ids: Vec<u64>| assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    ids(profile.mapping.iter().map(|one| one.id).collect());
    ids(profile.location.iter().map(|one| one.id).collect());
    ids(profile.function.iter().map(|one| one.id).collect());
    let within = |id: u64, len: usize| id <= len as u64;
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), profile.sample_type.len());
        assert!(sample.location_id.iter().all(|&id| id > 0 && within(id, profile.location.len())));
    }
    for location in &profile.location {
        assert!(within(location.mapping_id, profile.mapping.len()) && !location.line.is_empty());
        let functions = location.line.iter().map(|line| line.function_id);
        assert!(functions.into_iter().all(|id| id > 0 && within(id, profile.function.len())));
    }
    assert!(profile.function.iter().all(|one| is_text(one.name) && one.name != 0));
}
