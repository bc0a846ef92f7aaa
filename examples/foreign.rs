//! Reads a ring that another program created and pinned. This program has only the path and the record's layout, which
//! it compares with the ring's BTF if it may read the BTF. It needs no privilege if the mode of the pin allows that.
//!
//! `foreign <pin> [records]`, while `switches 60 <pin>` runs.

use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};
use bytemuck::{Pod, Zeroable};
use mapring::{OpenOptions, Record, Ring, Start};

/// The other program's record.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct SwitchEvent {
    ns: u64,
    prev: u32,
    next: u32,
    comm: [u8; 16],
}

fn main() -> Result<()> {
    let pin = env::args().nth(1).context("usage: foreign <pin> [records]")?;
    let records = env::args().nth(2).map_or(Ok(10), |records| records.parse())?;

    let ring = Ring::<SwitchEvent>::open(pin.as_str())?;
    let region = ring.region();
    let preamble = region.preamble();
    println!("{pin}: {} shards of {} {}", ring.shards(), ring.slots(), preamble.name);
    println!("read: {}", ring.access());
    println!("compared: {}", ring.layout_check());

    // If the ring can't be written, this is an error with the reason. Reading then falls back to another way.
    match OpenOptions::new().write(true).open(pin.as_str())?.writable() {
        Ok(()) => println!("written: possible"),
        Err(refusal) => println!("written: not by this process: {refusal}"),
    }
    if let Err(e) = Ring::<[u64; 2]>::open(pin.as_str()) {
        println!("as another type: {e}");
    }

    let mut reader = ring.reader_from(Start::Now);
    let end = Instant::now() + Duration::from_secs(10);
    for n in 1..=records {
        let event = loop {
            match reader.poll() {
                Some(event) => break event,
                None if Instant::now() > end => bail!("nothing was written for a long time"),
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let SwitchEvent { ns, prev, next, comm } = event.record;
        let comm = String::from_utf8_lossy(&comm);
        let comm = comm.trim_end_matches('\0').escape_debug(); // a thread can choose any name
        println!("{n:>4} {:14.6} cpu {} {comm}[{prev}] -> [{next}]", ns as f64 / 1e9, event.shard);
    }
    println!("lost {}", reader.lost());
    Ok(())
}
