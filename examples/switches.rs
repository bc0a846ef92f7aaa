//! Every context switch of this machine, in order on each CPU, and the number of missed ones.
//!
//! `switches [seconds [pin]]`; with a pin (`/sys/fs/bpf/switches`), other programs can read the same ring at the same
//! time, without privilege: see `foreign`.

use std::fs;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{Record, Ring};

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/switches.skel.rs"));
}

/// As in `switches.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct SwitchEvent {
    ns: u64,
    prev: u32,
    next: u32,
    comm: [u8; 16],
}

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(3.0), |seconds| seconds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::SwitchesSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?; // shards = possible CPUs
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let ring = Ring::<SwitchEvent>::open(&skel.maps.switches)?;
    let mut reader = ring.reader(); // as many as you like, in any process
    skel.attach()?;

    let pin = env::args().nth(2);
    if let Some(pin) = &pin {
        ring.region().freeze_and_pin(pin, 0o666)?; // from now on only BPF programs can write it; any process can map it
    }

    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        for event in reader.drain() {
            let SwitchEvent { ns, prev, next, comm } = event.record;
            let comm = String::from_utf8_lossy(&comm);
            let comm = comm.trim_end_matches('\0').escape_debug(); // a thread can choose any name
            println!("{:14.6} cpu {} {comm}[{prev}] -> [{next}]", ns as f64 / 1e9, event.shard);
        }
        thread::sleep(Duration::from_millis(10)); // the reader's only system call
    }
    println!("{}; read {}", reader.stats(), ring.access());
    if let Some(pin) = pin {
        fs::remove_file(pin)?;
    }
    Ok(())
}
