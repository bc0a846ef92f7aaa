//! Each process that ends, until Ctrl-C: an async program that sleeps until a BPF program wakes it.
//!
//! `async`

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{Record, Ring};
use tokio::signal;
use tokio_stream::StreamExt;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/async.skel.rs"));
}

/// As in `async.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct ExitEvent {
    ns: u64,
    pid: u32,
    code: u32,
    comm: [u8; 16],
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::AsyncSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?;
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let mut exits = Ring::<ExitEvent>::open(&skel.maps.exits)?.reader().into_stream()?;
    let mut interrupts = signal::unix::signal(signal::unix::SignalKind::interrupt())?; // from here on
    skel.attach()?;
    println!("attached");

    loop {
        tokio::select! {
            Some(event) = exits.next() => {
                let ExitEvent { ns, pid, code, comm } = event.record;
                let comm = String::from_utf8_lossy(&comm);
                let comm = comm.trim_end_matches('\0').escape_debug(); // a process can choose any name
                let how = match (code >> 8 & 0xff, code & 0x7f) {
                    (status, 0) => format!("with status {status}"),
                    (_, signal) => format!("by signal {signal}"),
                };
                println!("{comm}[{pid}] ended {how} after {:?}", Duration::from_nanos(ns));
            }
            _ = interrupts.recv() => break,
        }
    }
    println!("{}; read {}", exits.reader().stats(), exits.reader().region().access());
    Ok(())
}
