//! Traces for Perfetto, decoded by its schema.

use serde_json::{Value, json};

use super::super::super::event::tests::{comm, event};
use super::super::Format;
use super::super::tests::{events, gap, written};
use super::*;

#[test]
fn each_event_is_one_of_the_schema() {
    let packets = schema::packets(&written(Format::Perfetto, &events(), &[]));
    let found = schema::events(&packets);
    let names: Vec<_> = found
        .iter()
        .flat_map(|(_, event)| event.as_object().unwrap().keys())
        .filter(|key| !["timestamp", "pid"].contains(&key.as_str()))
        .collect();
    println!("{names:?}");
    // One softirq is unknown. An exec is also a rename.
    assert_eq!(names.len(), events().len());
    let all = |name: &'static str| {
        found.iter().map(move |(_, event)| &event[name]).filter(|event| !event.is_null())
    };
    let first = |name: &'static str| all(name).next().unwrap().clone();
    assert_eq!(first("sys_enter"), json!({"id": u32::MAX, "args": [u64::MAX, u64::MAX, u64::MAX]}));
    assert_eq!(first("sys_exit"), json!({"id": u32::MAX, "ret": i64::MIN}));
    assert_eq!(first("sched_waking"), json!({"comm": "child", "pid": 8, "prio": 120, "target_cpu": 1}));
    let flags: Vec<_> = all("task_newtask").map(|event| &event["clone_flags"]).collect();
    assert_eq!(flags, [&json!(0), &json!(0x1_0000)]);
    assert_eq!(first("task_rename")["newcomm"], "\\u{1b}[31m\"a,\\n\\u{9b}");
    assert_eq!(first("block_rq_issue")["rwbs"], "WS");
    assert_eq!(first("block_rq_complete")["error"], -5);
    assert_eq!(first("generic")["field"][0], json!({"name": "address", "uint_value": u64::MAX}));
    let switches: Vec<_> = all("sched_switch").collect();
    assert_eq!(switches[0]["next_comm"], "\\u{1b}[31m\"a,\\n\\u{9b}");
    assert_eq!(
        (&switches[1]["prev_comm"], &switches[1]["next_comm"]),
        (&switches[0]["next_comm"], &json!("swapper/0"))
    );
    assert_eq!(switches[2]["next_comm"], "a\\xff");
    // A time that Perfetto's signed times can't have, on a CPU that its trace processor refuses.
    let last = found.last().unwrap();
    assert_eq!((last.0, &last.1["timestamp"]), (1023, &json!(i64::MAX)));
}

#[test]
fn the_machine_and_the_threads_come_first() {
    let switch = What::Switch { state: 0, prio: 1, next: 8, next_prio: 1, next_comm: comm("eight") };
    let trace = written(Format::Perfetto, &[Event { pid: 5, ..event(9, 7, switch) }], &[]);
    let packets = schema::packets(&trace);
    assert_eq!(packets[0]["clock_snapshot"]["primary_trace_clock"], "BUILTIN_CLOCK_BOOTTIME");
    let uname = rustix::system::uname();
    assert_eq!(packets[1]["system_info"]["utsname"]["machine"], uname.machine().to_str().unwrap());
    let tree = packets.iter().find(|packet| !packet["process_tree"].is_null()).unwrap();
    // The process of thread 8 is not known.
    assert_eq!(tree["process_tree"]["threads"], json!([{"tid": 7, "tgid": 5, "name": ""}]));
    let all = schema::events(&packets);
    assert_eq!(all[0].1["timestamp"], tree["timestamp"]);
    assert!(packets.iter().all(|packet| packet["trusted_packet_sequence_id"] == 1));
}

#[test]
fn losses_are_slices_that_do_not_overlap() {
    let gaps = [gap(Some(5), 9), gap(Some(7), 20), gap(None, 30), gap(Some(u64::MAX), 40)];
    let packets = schema::packets(&written(Format::Perfetto, &[], &gaps));
    let slices: Vec<&Value> = packets.iter().filter(|packet| !packet["track_event"].is_null()).collect();
    let start = slices[0]["timestamp"].as_u64().unwrap() - 5;
    let times: Vec<_> = slices.iter().map(|slice| slice["timestamp"].as_u64().unwrap() - start).collect();
    assert_eq!(times, [5, 9, 9, 20, 30, 30, 40, 40]);
    let kinds: Vec<_> = slices.iter().map(|slice| slice["track_event"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["TYPE_SLICE_BEGIN", "TYPE_SLICE_END"].repeat(4));
    assert_eq!(slices[0]["track_event"]["name"], format!("{} records lost: overwritten", u64::MAX));
    let tracks: Vec<_> = packets.iter().filter(|packet| !packet["track_descriptor"].is_null()).collect();
    assert_eq!(tracks.len(), 1);
    assert_eq!(tracks[0]["track_descriptor"]["name"], "Lost: sched, CPU 3: overwritten");
}

#[test]
fn a_bundle_after_a_loss_says_so() {
    let mut names = Names::of_events();
    let out = super::super::tests::Shared::default();
    let mut sink = Perfetto::new(Box::new(out.clone()), &mut names, &[]).unwrap();
    let irq = |ns| Event { cpu: 3, ..event(ns, 7, What::IrqEnter { irq: 1 }) };
    sink.event(&irq(1), &mut names).unwrap();
    sink.gap(&gap(None, 2)).unwrap();
    sink.event(&irq(3), &mut names).unwrap();
    sink.finish(&mut names).unwrap();
    let packets = schema::packets(&out.bytes());
    let bundles = packets.iter().map(|packet| &packet["ftrace_events"]).filter(|bundle| !bundle.is_null());
    assert_eq!(bundles.map(|bundle| bundle["lost_events"] == true).collect::<Vec<_>>(), [false, true]);
}
