//! One reader on each NUMA node, for the records of that node's CPUs. No record crosses between nodes.
//!
//! `nodes [seconds]`: a BPF program records every system call of the machine, in memory of the node of the calling CPU.
//! On each node a thread reads the records of that node.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{
    Reader, Record, Ring, Start,
    cpus::{cpus_of_node, online_nodes},
};
use rustix::thread::{CpuSet, sched_setaffinity};

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/nodes.skel.rs"));
}

/// As in `nodes.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Call {
    ns: u64,
    pid: u32,
    number: u32,
}

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(3), |seconds| seconds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::NodesSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?;
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let ring = Ring::<Call>::open(&skel.maps.calls)?; // creates each CPU's shard on its node
    let nodes = online_nodes()?;
    let readers = nodes
        .iter()
        .map(|&node| ring.reader_of_node(node, Start::Oldest))
        .collect::<mapring::Result<Vec<_>>>()?;
    skel.attach()?;

    thread::scope(|scope| {
        let threads: Vec<_> = std::iter::zip(nodes, readers)
            .map(|(node, reader)| {
                (node, scope.spawn(move || read(node, reader, Duration::from_secs(seconds))))
            })
            .collect();
        for (node, thread) in threads {
            let reader = thread.join().expect("readers do not panic")?;
            println!("node {node}: {} CPUs, {}", reader.shards().count(), reader.stats());
        }
        println!("read {}", ring.access());
        Ok(())
    })
}

/// Reads on `node` itself, for `time`.
fn read(node: usize, mut reader: Reader<Call>, time: Duration) -> Result<Reader<Call>> {
    let mut cpus = CpuSet::new();
    cpus_of_node(node)?.into_iter().for_each(|cpu| cpus.set(cpu));
    if cpus.count() > 0 {
        sched_setaffinity(None, &cpus)?; // a node without CPUs has no reader
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        reader.for_each(usize::MAX, |_call| ());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(reader)
}
