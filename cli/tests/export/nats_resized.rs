//! `mapring export nats` of a ring that is resized while it is exported, and between two exports.

use std::fs;

use mapring::Ring;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use super::loaded::Loaded;
use super::nats::{Server, once};
use super::{Running, until_some};

/// `struct sized`
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Sized {
    ns: u64,
    number: u64,
}

/// The first CPU, on which this thread stays: its shard has all records.
fn on_one_cpu() -> usize {
    let all = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    cpu
}

/// The tickets that were published, and the counts of lost records at the beginnings of rings.
fn published(server: &Server, cpu: usize) -> [Vec<u64>; 2] {
    let all = server.messages();
    assert!(all.keys().all(|subject| *subject == "r.0" || *subject == format!("r.{cpu}")));
    let (beginnings, records): (Vec<_>, Vec<_>) =
        all.into_values().flatten().partition(|message| message["until"] == 0);
    let numbers = |of: Vec<Value>, name: &str| of.iter().map(|one| one[name].as_u64().unwrap()).collect();
    [numbers(records, "ticket"), numbers(beginnings, "lost")]
}

#[test]
fn each_record_of_each_ring_is_published_once_and_what_is_missing_is_counted() {
    let (Some(loaded), Some(server)) = (Loaded::new(), Server::start()) else { return };
    let server = server.with_stream(json!({ "duplicate_window": 100_000_000 }));
    let cpu = on_one_cpu();
    let (region, to) = (loaded.path("t_sized"), server.address());
    let ring = Ring::<Sized>::open(&loaded.skel.maps.t_sized).unwrap();
    let fill = |count: u64| (0..count).for_each(|_| loaded.fill(0));
    let all = |tickets: &[u64], lost: &[u64]| {
        let found = until_some("all messages", || {
            let found = published(&server, cpu);
            (found[0].len() >= tickets.len() && found[1].len() >= lost.len()).then_some(found)
        });
        assert_eq!(found, [tickets, lost]);
    };

    let args = server.export(&region, &to, &[]);
    let mut exporter = Running::mapring(&args);
    exporter.wait_for("publishing to stream s");
    fill(3);
    all(&[0, 1, 2], &[]);
    ring.resize(64).unwrap();
    exporter.wait_for("the ring was resized");
    fill(2);
    all(&[0, 1, 2, 0, 1], &[0]);
    // It is stopped for two more resizes: of the ring in the middle it finds nothing.
    let pid = Pid::from_child(&exporter.child.0);
    kill_process(pid, Signal::STOP).unwrap();
    let status = format!("/proc/{}/stat", exporter.child.0.id());
    until_some("its stop", || fs::read_to_string(&status).unwrap().contains(") T ").then_some(()));
    fill(2);
    ring.resize(16).unwrap();
    fill(5);
    ring.resize(32).unwrap();
    fill(1);
    kill_process(pid, Signal::CONT).unwrap();
    all(&[0, 1, 2, 0, 1, 2, 3, 0], &[0, 5]);
    drop(exporter); // killed

    // Without an export, the rest of this ring and all of the next one are lost, and a part of the last one.
    fill(4);
    ring.resize(64).unwrap();
    fill(2);
    ring.resize(16).unwrap();
    fill(20);
    assert!(once(&server, &region, &["--from", "now"]).contains("10 lost, and published as lost"));
    // The first four tickets of the last ring are a message, as records that were overwritten.
    let tickets = [&[0, 1, 2, 0, 1, 2, 3, 0, 0][..], &Vec::from_iter(4..20)].concat();
    all(&tickets, &[0, 5, 6]);
    assert!(once(&server, &region, &[]).contains("0 records published"));
    let mut exporter = Running::mapring(&args);
    exporter.wait_for("publishing to stream s");
    assert_eq!(exporter.interrupt(), Some(0));
    all(&tickets, &[0, 5, 6]);
}
