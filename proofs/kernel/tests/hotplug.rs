//! A CPU goes offline while its ring, its cells and its counters are read: its data stays, sums include it, all other
//! CPUs continue, and the CPU continues where it stopped when it is back.
//!
//! Other programs of the machine are moved off that CPU, and programs bound to it lose their affinity. So this runs in
//! the guests of `cargo xtask vm`, and elsewhere only with `MAPRING_DISTURB=1`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mapring::Array;
use mapring::cpus::online_cpus;
use mapring_kernel_tests::prelude::*;

/// A CPU that is offline until this is dropped.
struct Offline(usize);

impl Offline {
    fn take(cpu: usize) -> std::io::Result<Self> {
        fs::write(switch(cpu), "0").map(|()| Self(cpu))
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        fs::write(switch(self.0), "1").unwrap_or_else(|e| panic!("CPU {} stays offline: {e}", self.0));
    }
}

fn switch(cpu: usize) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/online")
}

/// The CPU to take offline, for one test at a time, unless that is not allowed here.
fn victim(test: &str) -> Option<(usize, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    if !may_disturb(test) {
        return None;
    }
    let cpu = *cpus().last().unwrap();
    assert!(cpus().len() > 1 && fs::exists(switch(cpu)).unwrap(), "no CPU here can go offline");
    Some((cpu, ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

#[test]
fn cpus_that_go_offline() {
    require_bpf!();
    let Some((gone, _alone)) = victim("cpus_that_go_offline") else { return };
    let stays = cpus()[0];
    let object = &bpf::FOREIGN.load(fitted);
    let packets = |cpu: usize, times: i32| {
        on_cpu(cpu);
        send(program(object, "on_packet").as_fd(), &[0; 64], times);
    };
    let ring = Ring::<Sample>::open(&map(object, "ring")).unwrap();
    let cells = PerCpuCells::<Sample>::open(&map(object, "percpu_cells")).unwrap();
    let plain = Array::<Sample>::open(&map(object, "percpu_samples")).unwrap();
    let counters =
        [Counters::open(&map(object, "counters")), Counters::open(&map(object, "percpu_counters"))];
    let counters = counters.map(Result::unwrap);
    let sums = || counters.each_ref().map(|counters| counters.sum(2).unwrap());
    let of = |cpu: usize| cells.snapshot(cpu, 1).unwrap();

    let mut reader = ring.reader();
    packets(gone, 5);
    packets(stays, 2);
    assert_eq!(reader.poll().map(|event| event.shard), Some(stays.min(gone)));
    let (before, possible, read_before) = (of(gone), possible_cpus().unwrap(), reader.stats().delivered);
    assert_eq!((before.version, before.value.cpu as usize, sums()), (5, gone, [7; 2]));

    on_cpu(stays);
    let offline = Offline::take(gone).unwrap();
    // It is still a possible CPU with its copies, but no longer online.
    assert!(!online_cpus().unwrap().contains(&gone));
    assert_eq!((possible_cpus().unwrap(), cells.cpus()), (possible.clone(), &*possible));
    assert_eq!((of(gone), sums()), (before, [7; 2]), "what it wrote stays");
    let at = possible.iter().position(|&cpu| cpu == gone).unwrap();
    assert_eq!(cells.snapshots(1).unwrap()[at], before);
    assert_eq!(plain.each(1).unwrap()[at], before.value);
    // A reader from before gets the rest of its shard, and the new records of others.
    packets(stays, 3);
    let rest: Vec<_> = reader.drain().collect();
    assert_eq!(rest.len() as u64 + read_before, 10);
    assert_eq!(rest.iter().filter(|event| event.shard == gone).count() as u64, 5 - u64::from(gone < stays));
    assert_eq!((reader.lost(), reader.stats().dropped(), sums(), of(stays).version), (0, 0, [10; 2], 5));
    // A new handle finds the same.
    let late = PerCpuCells::<Sample>::open(&map(object, "percpu_cells")).unwrap();
    assert_eq!((late.cpus(), late.snapshot(gone, 1).unwrap()), (&*possible, before));
    assert_eq!(ring.reader().drain().count(), 10);

    drop(offline);
    assert!(online_cpus().unwrap().contains(&gone));
    packets(gone, 1);
    everywhere();
    let back = reader.poll().unwrap();
    assert_eq!((back.shard, back.ticket, back.record.number), (gone, 5, 11));
    assert_eq!((of(gone).version, sums()), (6, [11; 2]));
}

/// It has no shard: its records are dropped and counted, until the ring is initialized again.
#[test]
fn a_cpu_that_is_offline_when_its_ring_is_made() {
    require_bpf!();
    let Some((gone, _alone)) = victim("a_cpu_that_is_offline_when_its_ring_is_made") else { return };
    on_cpu(cpus()[0]);
    let offline = Offline::take(gone).unwrap();
    let object = &bpf::NUMA.load(fitted);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    drop(offline);
    let packets = || {
        on_cpu(gone);
        send(program(object, "on_packet").as_fd(), &[0; 64], 5);
        everywhere();
    };
    let mut reader = ring.reader();
    packets();
    assert!(reader.shards().all(|cpu| cpu != gone));
    assert_eq!((reader.drain().count(), reader.stats().no_shard), (0, 5));

    initialize_object(object).unwrap();
    packets();
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let mut reader = ring.reader();
    let found: Vec<_> = reader.drain().map(|event| (event.shard, event.record)).collect();
    assert_eq!(found, (0..5).map(|n| (gone, Numbered::new(gone as u64, n))).collect::<Vec<_>>());
    assert_eq!((reader.lost(), reader.stats().no_shard), (0, 5));
}
