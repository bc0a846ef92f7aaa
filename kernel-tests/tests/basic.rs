//! One of each kind, through a real kernel.
#![allow(missing_docs)]

use std::mem::MaybeUninit;

use libbpf_rs::ProgramInput;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mapring::{Access, Cells, Counters, Ring};

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/basic.skel.rs"));
}

type Record = [u64; 7];

#[test]
fn what_a_program_writes_is_read_mapped() {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::BasicSkelBuilder::default().open(&mut storage).unwrap();
    mapring::fit_to_machine(&mut open).unwrap();
    let skel = open.load().unwrap();
    let ring = Ring::<Record>::open(&skel.maps.records).unwrap();
    let cells = Cells::<Record>::open(&skel.maps.cells).unwrap();
    let counters = Counters::open(&skel.maps.counters).unwrap();
    assert_eq!(ring.access(), Access::Mapped);
    println!("{:?}", ring.region());
    println!("{:?}", cells.region());
    println!("{:?}", counters.region());
    for _ in 0..30 {
        skel.progs.write_all.test_run(ProgramInput::default()).unwrap();
    }
    let mut reader = ring.reader();
    let mut ns: Vec<_> = reader.drain().map(|e| { assert_eq!(e.record[1..], [e.record[0] * 3; 6]); e.record[0] }).collect();
    ns.sort();
    assert_eq!(ns, (0..30).collect::<Vec<_>>());
    assert_eq!(cells.snapshot(2).unwrap().value[0], 29);
    assert_eq!(cells.snapshot(2).unwrap().version, 10);
    assert_eq!(counters.sum(4).unwrap(), 6);
    assert_eq!(reader.dropped(), 0);
}
