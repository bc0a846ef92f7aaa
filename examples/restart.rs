//! A loader that ends and starts again, also with another ring, and a reader that goes on meanwhile.
//!
//! `restart load PIN [larger]` records each process that starts; `restart read PIN` prints what was recorded.

use std::mem::MaybeUninit;
use std::time::Duration;
use std::{env, thread};

use anyhow::{Result, bail};
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::loader::PinOptions;
use mapring::{Record, Ring};
use mapring_loader::Reuse;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/restart.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod larger {
    include!(concat!(env!("OUT_DIR"), "/restart_larger.skel.rs"));
}

/// As in `restart.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Start {
    ns: u64,
    pid: u32,
    parent: u32,
}

fn main() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let mut storage = MaybeUninit::uninit();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["load", pin] => load(skel::RestartSkelBuilder::default().open(&mut storage)?, pin),
        ["load", pin, "larger"] => load(larger::RestartLargerSkelBuilder::default().open(&mut storage)?, pin),
        ["read", pin] => read(pin),
        _ => bail!("restart load PIN [larger], or restart read PIN"),
    }
}

fn load<'o>(mut open: impl OpenSkel<'o>, pin: &str) -> Result<()> {
    match mapring_loader::reuse(open.open_object_mut(), "starts", pin)? {
        Reuse::Pinned => println!("the pinned ring"),
        Reuse::Nothing => println!("a new ring"),
        Reuse::Unfit(why) => println!("a new ring, as {why}"),
    }
    mapring_loader::prepare(&mut open)?;
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let ring = Ring::<Start>::open(mapring_loader::map(skel.object(), "starts")?)?;
    ring.pin(pin, PinOptions::new(0o600).replace(true))?; // in any case
    skel.attach()?;
    println!("recording");
    loop {
        thread::park();
    }
}

fn read(pin: &str) -> Result<()> {
    let mut ring = Ring::<Start>::open(pin)?;
    let mut reader = ring.reader();
    loop {
        let next = ring.replaced()?; // None if the same ring is pinned, or none for now
        while let Some(event) = reader.poll() {
            println!("{} started {}", event.record.parent, event.record.pid);
        }
        match next {
            Some(next) => {
                println!("the ring was read to its end: {}", reader.stats());
                (reader, ring) = (next.reader(), next);
            }
            None => drop(reader.wait(Duration::from_secs(1))?),
        }
    }
}
