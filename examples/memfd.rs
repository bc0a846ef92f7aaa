//! Two processes share a ring, without BPF and without privilege. The child publishes its own scheduling statistics
//! from the kernel; the parent reads them.
//!
//! `memfd [records]`

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, io, thread};

use anyhow::{Context, Result, ensure};
use bytemuck::{Pod, Zeroable};
use mapring::{OpenOptions, Record, Ring};

#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Life {
    /// Nanoseconds on a CPU, and nanoseconds waiting for one.
    ran: u64,
    waited: u64,
    /// How often the process was given a CPU.
    turns: u64,
}

fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        Some("child") => child(),
        records => parent(records.map_or(Ok(10), str::parse)?),
    }
}

fn parent(records: u64) -> Result<()> {
    let ring = Ring::<Life>::create_memfd(1024, 1)?; // sealed: nobody can shrink it under a reader
    let fd = ring.region().as_fd().try_clone_to_owned()?;
    // The child gets the ring as its standard input.
    let mut child = Command::new(env::current_exe()?).arg("child").stdin(Stdio::from(fd)).spawn()?;

    let mut reader = ring.reader();
    let mut read = 0;
    while read < records {
        let Some(event) = reader.poll() else {
            ensure!(child.try_wait()?.is_none(), "the child is gone");
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let Life { ran, waited, turns } = event.record;
        println!("{:>4} ran {ran} ns, waited {waited} ns, in {turns} turns", event.ticket);
        read += 1;
    }
    println!("lost {}, read {}", reader.lost(), ring.access());
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn child() -> Result<()> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    let ring = Ring::<Life>::from_region(OpenOptions::new().write(true).open(fd)?)?;
    let writer = ring.writer(0)?;
    loop {
        let text = fs::read_to_string("/proc/self/schedstat")?;
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let &[ran, waited, turns] = &numbers[..] else { anyhow::bail!("/proc/self/schedstat: {text:?}") };
        writer.push(&Life { ran, waited, turns }).context("no room: can't be with one writer")?;
        thread::sleep(Duration::from_millis(5));
    }
}
