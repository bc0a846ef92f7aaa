//! A ring that grows until its slow reader loses nothing, while BPF programs write to it.
//!
//! `resizable [rounds]`: a BPF program records every system call of the machine; the reader polls every 20 ms. After
//! each loss, a ring of twice the size replaces the ring. No record is read twice, and lost records are counted across
//! all rings.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, process, thread};

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{Event, Record, Ring};

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/resizable.skel.rs"));
}

/// As in `resizable.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Call {
    ns: u64,
    pid: u32,
    number: u32,
}

/// The largest ring to try, in slots per CPU of 24 bytes each.
const MAX: usize = 1 << 20;

fn main() -> Result<()> {
    let rounds = env::args().nth(1).map_or(Ok(50), |rounds| rounds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::ResizableSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?; // shards = possible CPUs
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let ring = Ring::<Call>::open(&skel.maps.calls)?;
    let mut reader = ring.reader(); // continues with each ring that replaces the last
    skel.attach()?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| make_calls(&stop));
        let done = (0..rounds).try_for_each(|round| {
            thread::sleep(Duration::from_millis(20)); // slow
            let (lost, mut ours) = (reader.lost(), 0);
            let mut count = |call: Event<&Call, &[u8]>| ours += u32::from(call.record.pid == process::id());
            while reader.region().retired()? {
                reader.for_each(usize::MAX, &mut count); // drains the previous ring
                reader.take_error().map_or(Ok(()), Err)?;
            }
            reader.for_each(usize::MAX, &mut count);
            let (lost, slots) = (reader.lost() - lost, ring.slots());
            println!("round {round:3}: {slots:7} slots, {ours:6} calls of our own, lost {lost}");
            if lost > 0 && slots < MAX {
                ring.resize(slots * 2)?;
            }
            Ok::<_, anyhow::Error>(())
        });
        stop.store(true, Ordering::Relaxed);
        done
    })?;
    println!("{} rings, of {} slots a CPU at last", reader.rings(), ring.slots());
    println!("{}; read {}", reader.stats(), ring.access());
    Ok(())
}

/// Makes some thousands of system calls per second.
fn make_calls(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        (0..200).for_each(|_| thread::yield_now());
        thread::sleep(Duration::from_millis(1));
    }
}
