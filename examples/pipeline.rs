//! A pipeline of three programs, `receive` → `weigh` → `emit`. Userspace swaps the middle stage all the time, and
//! sometimes removes it, while packets pass.
//!
//! `pipeline [seconds]`. At the end every packet is accounted for: it came out once, weighed by one of the two
//! versions, or it was counted as a missed jump.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Result, ensure};
use libbpf_rs::ProgramInput as Input;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mapring::{Counters, Ring, dispatch::Dispatch};
use skel::types::parcel as Parcel;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/pipeline.skel.rs"));
}

// The record type that libbpf-cargo generated from `pipeline.bpf.c`: no second definition is needed.
mapring::skeleton_records!("pipeline.skel.rs": skel::types::{parcel});

/// As in `pipeline.bpf.c`.
const WEIGH: usize = 0;
const EMIT: usize = 1;

/// Packets per system call: enough that many swaps happen during one call.
const BATCH: u32 = 500_000;

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(2.0), |seconds| seconds.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::PipelineSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?;
    let skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let stages = Dispatch::open(&skel.maps.stages)?;
    let misses = Counters::open(&skel.maps.stages_misses)?;
    let ring = Ring::<Parcel>::open(&skel.maps.parcels)?;
    let mut reader = ring.reader();

    stages.insert(WEIGH, &skel.progs.weigh_one)?;
    stages.insert(EMIT, &skel.progs.emit)?;
    for slot in stages.iter() {
        let (slot, id) = slot?;
        let program = stages.get(slot)?.map_or_else(String::new, |program| program.name);
        println!("stage {slot}: program {id} {program}");
    }

    let fds = [skel.progs.weigh_one.as_fd(), skel.progs.weigh_two.as_fd()];
    let (stop, end) = (AtomicBool::new(false), Instant::now() + Duration::from_secs_f64(seconds));
    let (swaps, seen) = thread::scope(|scope| {
        let swapping = scope.spawn(|| swap(&stages, fds, &stop));
        let reading = scope.spawn(|| {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                reader.for_each(usize::MAX, |event| seen.add(event.shard, event.record));
            }
            seen
        });
        let packet = [0; 64];
        while Instant::now() < end {
            let input = Input { data_in: Some(&packet), repeat: BATCH, ..Input::default() };
            skel.progs.receive.test_run(input).expect("it can be run");
        }
        stop.store(true, Ordering::Relaxed);
        (swapping.join().expect("it does not panic"), reading.join().expect("it does not panic"))
    });
    let (swaps, mut seen) = (swaps?, seen);
    while reader.for_each(usize::MAX, |event| seen.add(event.shard, event.record)) > 0 {}

    let sent = skel.maps.bss_data.as_deref().map_or(0, |data| data.sent);
    let (missed, lost) = (misses.sum(WEIGH)?, reader.stats().lost() + reader.stats().dropped());
    println!("{swaps} swaps while {sent} packets were sent");
    println!("came out: {} weighed by one, {} by two; {} wrong", seen.by[0], seen.by[1], seen.wrong);
    println!("found nobody to weigh them: {missed}; lost by a slow reader: {lost}");
    ensure!(seen.wrong == 0, "a packet was weighed by both, or came twice");
    ensure!(seen.by[0] + seen.by[1] + missed + lost == sent, "a packet is not accounted for");
    println!("{} + {missed} + {lost} = {sent}: none is missing, none came twice", seen.by[0] + seen.by[1]);
    Ok(())
}

/// Installs the two programs in turn as the middle stage, and leaves it empty for a moment in between.
fn swap(stages: &Dispatch, [one, two]: [BorrowedFd<'_>; 2], stop: &AtomicBool) -> mapring::Result<u64> {
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        match swaps % 10 {
            9 => _ = stages.remove(WEIGH)?,
            n if n % 2 == 0 => stages.insert(WEIGH, two)?,
            _ => stages.insert(WEIGH, one)?,
        }
        swaps += 1;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(swaps)
}

/// Counts of the packets that came out.
#[derive(Default)]
struct Seen {
    by: [u64; 2],
    wrong: u64,
    /// The lowest number that each CPU can send next.
    next: BTreeMap<usize, u64>,
}

impl Seen {
    fn add(&mut self, cpu: usize, parcel: &Parcel) {
        let next = self.next.entry(cpu).or_default();
        let later = parcel.number >= *next;
        *next = parcel.number + 1;
        match parcel.weighed_by {
            by @ (1 | 2) if later && parcel.weight == parcel.number * by => {
                self.by[usize::from(by == 2)] += 1
            }
            _ => self.wrong += 1,
        }
    }
}
