//! Traces for Perfetto, decoded by its schema.

use serde_json::{Value, json};

use super::super::super::event::tests::{comm, event};
use super::super::super::event::{Interface, What};
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
    let instants = packets.iter().map(|packet| &packet["track_event"]);
    let instants = instants.filter(|event| event["type"] == "TYPE_INSTANT");
    let shown: Vec<_> = instants.map(|event| event["name"].as_str().unwrap()).collect();
    let others = packets.iter().filter(|packet| {
        !packet["perf_sample"].is_null() || packet["track_event"]["type"] == "TYPE_SLICE_BEGIN"
    });
    assert_eq!(names.len(), events().len() - shown.len() - others.count());
    assert_eq!(shown[0], "exit of 7 (\\u{1b}[31m\"a,\\n\\u{9b}) by SIGSEGV");
    assert_eq!(shown[2..], ["\\u{1b}[31m\"a,\\n\\u{9b}", "CPU 4294967295 goes offline", "hold", "resume"]);
    let all = |name: &'static str| {
        found.iter().map(move |(_, event)| &event[name]).filter(|event| !event.is_null())
    };
    let first = |name: &'static str| all(name).next().unwrap().clone();
    assert_eq!(first("sys_enter"), json!({"id": -1, "args": [u64::MAX, u64::MAX, u64::MAX]}));
    assert_eq!(first("sys_exit"), json!({"id": -1, "ret": i64::MIN}));
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
fn no_slice_of_a_call_stays_open() {
    let enter = |ns, tid, nr| event(ns, tid, What::SyscallEnter { nr, is_32bit: false, args: [0; 3] });
    let exit = |ns, tid, nr| event(ns, tid, What::SyscallExit { nr, is_32bit: false, ret: 0 });
    let program = What::Exec { file: b"/bin/true".to_vec(), is_cut: false, old_tid: 8, comm: comm("true") };
    let events = [
        enter(1, 7, 15), // rt_sigreturn
        exit(2, 7, -1),
        exit(3, 7, -1), // of a call before the first event
        enter(4, 7, 20),
        enter(5, 7, 21), // the exit before is missing
        enter(6, 8, 59), // executes a program: the other threads end, and it takes the number of the first one
        event(7, 7, What::Exit { code: 0, process: Some(0) }),
        Event { pid: 7, ..event(8, 7, program) },
        exit(9, 7, 59),
    ];
    let packets = schema::packets(&written(Format::Perfetto, &events, &[]));
    let found = schema::events(&packets);
    let mut open = std::collections::HashMap::new();
    for (_, event) in &found {
        if let Some(id) = event["sys_enter"]["id"].as_i64() {
            assert_eq!(open.insert(event["pid"].as_u64(), id), None, "{event}");
        } else if let Some(id) = event["sys_exit"]["id"].as_i64() {
            assert!(open.remove(&event["pid"].as_u64()).is_none_or(|entered| entered == id), "{event}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let of = |tid: u64, name: &'static str| {
        found.iter().filter(move |(_, event)| event["pid"] == tid && !event[name].is_null()).count()
    };
    assert_eq!((of(7, "sched_process_exit"), of(8, "sched_process_exit"), of(8, "task_newtask")), (1, 1, 1));
    let exec = found.iter().find(|(_, event)| !event["sched_process_exec"].is_null()).unwrap();
    assert_eq!(exec.1["sched_process_exec"], json!({"filename": "/bin/true", "pid": 7, "old_pid": 8}));
}

#[test]
fn interfaces_of_other_namespaces_have_other_names() {
    let packet =
        |ns, net_ns| event(ns, 7, What::NetSend { interface: Interface { index: 2, net_ns }, bytes: 1 });
    let packets =
        schema::packets(&written(Format::Perfetto, &[packet(1, 0), packet(2, 5), packet(3, 6)], &[]));
    let names: Vec<_> =
        schema::events(&packets).iter().map(|(_, event)| event["net_dev_xmit"]["name"].clone()).collect();
    assert_eq!(names, ["if2", "if2 in net namespace 5", "if2 in net namespace 6"]);
}

#[test]
fn the_machine_and_the_threads_come_first() {
    let switch = What::Switch {
        state: 0,
        is_killable: false,
        prio: 1,
        next: 8,
        next_prio: 1,
        next_comm: comm("eight"),
        quota: 0,
    };
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
fn stacks_are_written_once_and_waits_are_slices() {
    let stack = || super::super::tests::stack(false);
    let sample = |ns, stack| event(ns, 7, What::Sample { stack });
    let wait = What::Wait { ns: 90, state: 2, is_throttled: false, waker: Some(8), stack: stack() };
    let other = super::super::super::stack::Stack { kernel: vec![u64::MAX], ..Default::default() };
    let events = [
        sample(1, stack()),
        sample(2, stack()),
        sample(3, other),
        sample(4, Default::default()),
        event(100, 7, wait),
    ];
    let packets = schema::packets(&written(Format::Perfetto, &events, &[]));
    let samples: Vec<_> = packets.iter().filter(|packet| !packet["perf_sample"].is_null()).collect();
    let ids: Vec<_> = samples.iter().map(|packet| &packet["perf_sample"]["callstack_iid"]).collect();
    assert_eq!(ids, [&json!(1), &json!(1), &json!(2), &Value::Null]);
    let first = &samples[0]["interned_data"];
    assert_eq!(first["callstacks"], json!([{"iid": 1, "frame_ids": [1, 2, 3, 4]}]));
    assert_eq!(
        first["frames"][1],
        json!({"iid": 2, "function_name_id": 2, "mapping_id": 2, "rel_pc": u64::MAX})
    );
    assert_eq!(
        (first["mappings"].as_array().unwrap().len(), first["build_ids"].as_array().unwrap().len()),
        (3, 1)
    );
    // Its bytes in base64: `[build id abab…]+0xffffffffffffffff`.
    let name =
        "W2J1aWxkIGlkIGFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJdKzB4ZmZmZmZmZmZmZmZmZmZmZg==";
    assert_eq!(first["function_names"][1]["str"], name);
    assert_eq!((&samples[1]["interned_data"], &samples[3]["interned_data"]), (&Value::Null, &Value::Null));
    assert_eq!(samples[2]["interned_data"], json!({"callstacks": [{"iid": 2, "frame_ids": [4]}]}));
    let slices: Vec<_> = packets.iter().filter(|packet| !packet["track_event"].is_null()).collect();
    let time = |packet: &Value| packet["timestamp"].as_u64().unwrap();
    assert_eq!((slices.len(), time(slices[1]) - time(slices[0])), (2, 90));
    let details = &slices[0]["track_event"]["debug_annotations"];
    assert_eq!((&details[0]["name"], &details[1]["name"]), (&json!("waker"), &json!("stack")));
    assert!(details[1]["string_value"].as_str().unwrap().ends_with("\n0x7f00"), "{details}");
    let track = |uuid: &Value| {
        &packets.iter().find(|packet| packet["track_descriptor"]["uuid"] == *uuid).unwrap()["track_descriptor"]
    };
    let own = track(&slices[0]["track_event"]["track_uuid"]);
    assert_eq!(track(&own["parent_uuid"])["thread"], json!({"pid": 7, "tid": 7}));
}

#[test]
fn a_bundle_after_a_loss_says_so() {
    let mut names = Names::of_events();
    let out = super::super::tests::Shared::default();
    let mut sink = Perfetto::new(Box::new(out.clone()), &mut names, &[], Symbols::new(&[])).unwrap();
    let irq = |ns| Event { cpu: 3, ..event(ns, 7, What::IrqEnter { irq: 1 }) };
    sink.event(&irq(1), &mut names).unwrap();
    sink.gap(&gap(None, 2)).unwrap();
    sink.event(&irq(3), &mut names).unwrap();
    sink.finish(&mut names).unwrap();
    let packets = schema::packets(&out.bytes());
    let bundles = packets.iter().map(|packet| &packet["ftrace_events"]).filter(|bundle| !bundle.is_null());
    assert_eq!(bundles.map(|bundle| bundle["lost_events"] == true).collect::<Vec<_>>(), [false, true]);
}
