//! The seed of the fuzz target `flight` in `proofs/fuzz`: a small file with records of each group. `MAPRING_BLESS=1` writes
//! it anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use mapring::Ring;
use mapring::abi::Tails;
use mapring::writers::MemfdOptions;

use super::file::{ABOUT, NAMES, SYMBOLS, Writer, input};
use super::*;
use crate::clocks::Clocks;
use crate::record::{
    Block, Exec, Faults, FlightRecord, Irq, Locks, MARK, Marks, Net, Profile, Sched, Syscalls, Waits,
};
use crate::rings::{GROUPS, MARKS};

/// A process that has a thread of the same number.
const PID: u64 = 7;
const IDS: u64 = PID << 32 | PID;
const COMM: u64 = u64::from_le_bytes(*b"bash\0\0\0\0");

/// A frame of the kernel, one of a file, and one of a process.
fn stack() -> Vec<u8> {
    let mut tail = 0xffff_ffff_8100_0000_u64.to_ne_bytes().to_vec();
    for (status, offset) in [(1_i32, 0x10_u64), (2, 0x40_0000)] {
        tail.extend(status.to_ne_bytes());
        tail.extend([9; 20]);
        tail.extend(offset.to_ne_bytes());
    }
    tail
}

/// The part of a group: the words of each record after its time and thread.
fn part<T: FlightRecord + Pod>(
    to: &mut Writer<&mut Vec<u8>>,
    group: &str,
    has_stacks: bool,
    records: &[&[u64]],
) {
    let mut options = MemfdOptions::default();
    if has_stacks {
        options = options.tails(Tails::new(256, 1024).unwrap());
    }
    let ring = Ring::<T>::create_memfd_with(4, 1, options).unwrap();
    let writer = ring.writer(0).unwrap();
    for (ns, words) in (1..).zip(records) {
        let mut all = vec![ns * 1_000_000, IDS];
        all.extend(*words);
        all.resize(size_of::<T>() / 8, 0);
        let record = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&all));
        match has_stacks {
            true => writer.push_with_tail(&record, &stack()).unwrap(),
            false => writer.push(&record).unwrap(),
        };
    }
    to.part(group, bytemuck::cast_slice(&ring.region().copy_ring().unwrap())).unwrap();
}

fn write() -> Vec<u8> {
    let machine = Machine {
        host: "host".to_owned(),
        clocks: Clocks { wall: 1 << 60, boot: 0 },
        is_here: false,
        ..Machine::here()
    };
    let about = About {
        machine,
        until: 100_000_000,
        since: 1 << 60,
        clocks: None,
        triggers: None,
        hz: Some(99),
        cost: None,
        stop: None,
        layouts: made_by::layouts(),
    };
    let high = |word: u64| word << 32;
    let mut bytes = Vec::new();
    let mut to = Writer::new(&mut bytes).unwrap();
    to.part(ABOUT, &serde_json::to_vec(&about).unwrap()).unwrap();
    let waking = 8 | 1 << 31;
    part::<Sched>(&mut to, "sched", false, &[&[waking, COMM, 0], &[8 | high(1), COMM, 0], &[PID, COMM, 0]]);
    part::<Irq>(&mut to, "irq", false, &[&[3], &[3 | 1 << 31], &[1 << 30], &[1 << 30 | 1 << 31]]);
    part::<Syscalls>(&mut to, "syscalls", false, &[&[0, 1, 2, 3], &[high(2), 5, 0, 0]]);
    let file = u64::from_le_bytes(*b"/bin/ls\0");
    part::<Exec>(
        &mut to,
        "exec",
        false,
        &[&[high(8), 8, COMM, 0], &[0, PID, COMM, 0, file], &[2, high(256)], &[3, high(11), COMM, 0]],
    );
    part::<Block>(&mut to, "block", false, &[&[1, 64, 8 | high(4096), high(1)], &[1, 64, 8 | high(4096), 1]]);
    part::<Net>(&mut to, "net", false, &[&[2 | high(60), 1], &[2 | 1 << 31 | high(60), 1]]);
    part::<Faults>(&mut to, "faults", false, &[&[0x1000, 0x40_0000]]);
    part::<Profile>(&mut to, "profile", true, &[&[8], &[8]]);
    part::<Waits>(&mut to, "waits", true, &[&[1000, 1 << 31 | 8 | high(1), 8]]);
    part::<Locks>(&mut to, "locks", true, &[&[0xffff_8881_0000_0000, 1000, 2, 8]]);
    part::<Marks>(&mut to, "marks", false, &[&[u64::from(MARK), 0, 0, COMM]]);
    to.part(SYMBOLS, br#"[[{"Kernel":18446744071578845184},false,{"names":["f"],"module":"[kernel]","build_id":null,"offset":0}]]"#).unwrap();
    let process = Process {
        comm: b"bash".to_vec(),
        pid: 7,
        parent: 1,
        uid: Some(0),
        cmdline: vec!["bash".to_owned()],
        ..Process::default()
    };
    let ended = vec![(9, process.clone())];
    let known = Known {
        processes: vec![(7, process)],
        ended,
        net_ns: 1,
        interfaces: vec![(2, "eth0".to_owned())],
        irqs: vec![(1, "i8042".to_owned())],
    };
    to.part(NAMES, &serde_json::to_vec(&known).unwrap()).unwrap();
    to.finish().unwrap();
    bytes
}

fn seed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proofs/fuzz/seeds/flight/all")
}

/// This version reads it: a record that changes takes a new seed.
#[test]
fn the_seed_is_a_whole_file_with_events_of_each_group() {
    let path = seed();
    if std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, write()).unwrap();
    }
    for input in [input(&write()[..]).unwrap(), input(File::open(path).unwrap()).unwrap()] {
        let counts: Vec<_> = input
            .rings
            .iter()
            .map(|ring| {
                let mut count = 0;
                ring.scan(0..u64::MAX, &mut |_| count += 1);
                (ring.name(), count)
            })
            .collect();
        let expected = [3, 4, 2, 4, 2, 2, 1, 2, 1, 1, 1];
        let names = GROUPS.iter().chain([&MARKS]).map(|group| group.name);
        assert!(counts.iter().copied().eq(names.zip(expected)), "{counts:?}");
    }
}
