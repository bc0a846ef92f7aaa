// src/main.rs
use std::mem::MaybeUninit;

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{Ring, record::string};

mod skel {
    include!(concat!(env!("OUT_DIR"), "/switches.skel.rs"));
}
mapring::skeleton_records!("switches.skel.rs": skel::types::{switch_event});

fn main() -> anyhow::Result<()> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::SwitchesSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?; // one shard per possible CPU
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?; // writes what other processes need to know
    skel.attach()?;

    let mut reader = Ring::<skel::types::switch_event>::open(&skel.maps.switches)?.reader();
    loop {
        reader.wait(std::time::Duration::from_secs(1))?; // until there are records
        for event in reader.drain() {
            println!("cpu {}: {} ({})", event.shard, string(&event.record.comm), event.record.pid);
        }
        println!("{}", reader.stats()); // delivered, lost and dropped, by cause
    }
}
