//! Each program that is started, with its arguments, and each process that ends: two types of records in one ring.
//! Like `execsnoop` of bcc's libbpf-tools.
//!
//! `execs [seconds]`

use std::env;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::record::string;
use mapring::{Record, Ring, Tagged};

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/execs.skel.rs"));
}

/// As in `execs.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Exec {
    ns: u64,
    pid: u32,
    ppid: u32,
    uid: u32,
    ret: i32,
    comm: [u8; 16],
}

/// As in `execs.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Exit {
    ns: u64,
    age: u64,
    pid: u32,
    ppid: u32,
    uid: u32,
    code: i32,
}

#[derive(Tagged)]
enum Event<'r> {
    #[tag(1)]
    Exec(&'r Exec),
    #[tag(2)]
    Exit(&'r Exit),
}

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(3.0), |seconds| seconds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::ExecsSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?;
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let ring = Ring::<Tagged<Event<'_>>>::open(&skel.maps.events)?;
    let mut reader = ring.reader();
    skel.attach()?;

    let end = Instant::now() + Duration::from_secs_f64(seconds);
    println!("          time       pid      ppid       uid  what");
    while Instant::now() < end {
        reader.wait(Duration::from_millis(100))?;
        reader.for_each(usize::MAX, |event| match event.record.variant() {
            Ok(Event::Exec(&Exec { ns, pid, ppid, uid, ret, comm })) => {
                println!(
                    "{} exec {ret} {}{}",
                    process(ns, pid, ppid, uid),
                    shown(&comm),
                    arguments(event.tail)
                );
            }
            Ok(Event::Exit(&Exit { ns, age, pid, ppid, uid, code })) => {
                let [seconds, status, signal] =
                    [age as f64 / 1e9, (code >> 8 & 0xff).into(), (code & 0x7f).into()];
                println!(
                    "{} exit {status}, signal {signal}, after {seconds:.3} s",
                    process(ns, pid, ppid, uid)
                );
            }
            Err(unknown) => println!("from a newer program: {unknown}"),
        });
    }
    println!("{}; read {}", reader.stats(), ring.access());
    Ok(())
}

fn process(ns: u64, pid: u32, ppid: u32, uid: u32) -> String {
    format!("{:14.6} {pid:9} {ppid:9} {uid:9} ", ns as f64 / 1e9)
}

/// Processes can have any name and any arguments.
fn shown(text: &[u8]) -> String {
    string(text).escape_debug().to_string()
}

/// The arguments, of which each ends with a NUL.
fn arguments(tail: &[u8]) -> String {
    let arguments = tail.strip_suffix(b"\0").unwrap_or(tail);
    arguments.split(|&byte| byte == 0).map(|argument| format!(" {:?}", string(argument))).collect()
}
