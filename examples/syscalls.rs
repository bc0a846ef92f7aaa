//! The busiest system calls of this machine each second, and their last callers.
//!
//! `syscalls [seconds]`

use std::cmp::Reverse;
use std::mem::MaybeUninit;
use std::time::Duration;
use std::{env, thread};

use anyhow::Result;
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{Cells, Counters, ReadError, Record};
use syscalls::Sysno;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/syscalls.skel.rs"));
}

/// As in `syscalls.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Caller {
    ns: u64,
    pid: u32,
    cpu: u32,
    comm: [u8; 16],
}

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(3), |seconds| seconds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::SyscallsSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?; // one bank of counters per possible CPU
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let calls = Counters::open(&skel.maps.calls)?;
    let callers = Cells::<Caller>::open(&skel.maps.callers)?;
    skel.attach()?;

    let mut before = [0; 512];
    for second in 1..=seconds {
        thread::sleep(Duration::from_secs(1));
        let mut now = [0; 512];
        calls.sums(&mut now)?; // sums 512 counters over all CPUs with loads only, no system call
        let mut busiest: Vec<_> = (0..512).map(|nr| (now[nr] - before[nr], nr)).collect();
        busiest.sort_by_key(|&(count, _)| Reverse(count));
        before = now;

        println!("second {second}, read {}", calls.access());
        for (count, nr) in busiest.into_iter().take(8).filter(|(count, _)| *count > 0) {
            let name = Sysno::new(nr).map_or("?", |call| call.name());
            let last = match callers.read(nr) {
                Ok(Caller { pid, cpu, comm, .. }) => {
                    let comm = String::from_utf8_lossy(&comm);
                    format!("{}[{pid}] on cpu {cpu}", comm.trim_end_matches('\0').escape_debug())
                }
                Err(ReadError::Busy { .. }) => "being written".to_owned(),
                Err(e) => return Err(e.into()),
            };
            println!("{count:>10} {name:<20} last by {last}");
        }
    }
    println!("updates given up: {}", callers.region().dropped()?);
    Ok(())
}
