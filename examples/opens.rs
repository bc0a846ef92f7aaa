//! Each file that is opened, by whom, and with which result. The reader sleeps until a program wakes it, and programs
//! drop new records rather than overwrite those that it has not read. Names are whole, up to 4096 bytes. Like `opensnoop` of bcc's libbpf-tools.
//!
//! `opens [seconds]`

use std::env;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::record::string;
use mapring::{Record, Ring};

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/opens.skel.rs"));
}

/// As in `opens.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct OpenEvent {
    ns: u64,
    flags: u64,
    pid: u32,
    uid: u32,
    ret: i32,
    pad: u32,
    comm: [u8; 16],
}

/// How long the reader may hold programs back.
const LEASE: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(3.0), |seconds| seconds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::OpensSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?;
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let mut reader = Ring::<OpenEvent>::open(&skel.maps.opens)?.reader();
    reader.require(LEASE)?;
    skel.attach()?;

    let end = Instant::now() + Duration::from_secs_f64(seconds);
    println!("    pid    uid    ret      flags  what");
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        reader.wait(left)?;
        reader.for_each(usize::MAX, |event| {
            let OpenEvent { flags, pid, uid, ret, comm, .. } = event.record;
            let [comm, name] = [&comm[..], event.tail].map(|text| string(text).escape_debug().to_string());
            println!("{pid:>7} {uid:>6} {ret:>6} {flags:>#10o}  {comm} \"{name}\"");
        });
        if let Some(error) = reader.take_error() {
            eprintln!("{error}");
            reader.require(LEASE)?;
        }
    }
    println!("{}; read {}", reader.stats(), reader.region().access());
    Ok(())
}
