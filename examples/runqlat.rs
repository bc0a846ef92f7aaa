//! How long tasks wait for a CPU, as a histogram of each interval.
//!
//! `runqlat [seconds [times]]`

use std::mem::MaybeUninit;
use std::time::Duration;
use std::{env, thread};

use anyhow::Result;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::Histograms;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/runqlat.skel.rs"));
}

fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(1.0), |seconds| seconds.parse())?;
    let times = env::args().nth(2).map_or(Ok(usize::MAX), |times| times.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::RunqlatSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?; // a histogram for each possible CPU
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let waits = Histograms::open(&skel.maps.waits)?;
    skel.attach()?;

    let mut before = waits.snapshot(0)?;
    for _ in 0..times {
        thread::sleep(Duration::from_secs_f64(seconds)); // the only system call
        let now = waits.snapshot(0)?;
        let new = now.since(&before).unwrap_or_default();
        before = now;
        print!("{} waits, in µs:\n{new}", new.count());
        let percentiles = [50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| {
            let range = new.percentile(percent).unwrap_or(0..=0);
            format!("{percent} %: {}–{} µs", range.start(), range.end())
        });
        println!("{}\n", percentiles.join(", "));
    }
    println!("read {}", waits.access());
    Ok(())
}
