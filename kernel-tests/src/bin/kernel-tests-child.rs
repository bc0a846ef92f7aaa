//! The other process of the tests: `kernel-tests-child [nobody] ring|cells|counters PIN` opens a
//! region of 56-byte records, or of counters, and prints what it holds; `… write PIN` tries to
//! write a region in every way there is, and prints what the kernel says; `… compared PIN` says what a cell's
//! type was compared with; `quiet HOW RING LARGE CELLS
//! LATCHES COUNTERS [GLOBALS]` reads without system calls: see `src/quiet.rs`.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use anyhow::{Result, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use mapring::{Cells, Counters, Options, Region, Ring};
use mapring_kernel_tests::skel::layouts_types;
use mapring_kernel_tests::{Filled, become_nobody, quiet};
use memmap2::MmapOptions;
use rustix::mm::MprotectFlags;

type Record = Filled<14>;

fn main() -> Result<()> {
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "nobody") {
        args.remove(0);
        become_nobody()?;
    }
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ring", pin] => {
            let ring = Ring::<Record>::open_pinned(pin)?;
            about(ring.region());
            let mut reader = ring.reader();
            for event in reader.drain() {
                println!("{} {} {:x?}", event.cpu, event.ticket, event.record);
            }
            println!("{:?} dropped {}", reader.tally(), reader.dropped());
        }
        ["cells", pin] => {
            let cells = Cells::<Record>::open_pinned(pin)?;
            about(cells.region());
            for index in 0..cells.len() {
                println!("{:x?}", cells.snapshot(index)?);
            }
        }
        ["counters", pin] => {
            let counters = Counters::open_pinned(pin)?;
            about(counters.region());
            for index in 0..counters.len() {
                println!("{}", counters.sum(index)?);
            }
        }
        ["compared", pin] => {
            let cells = Cells::<layouts_types::pair>::open_pinned(pin)?;
            println!("{:?} {}", cells.access(), cells.compared());
        }
        ["write", pin] => write(pin)?,
        ["quiet", how, ring, large, cells, latches, counters, ref globals @ ..] => {
            quiet(how, [ring, large, cells, latches, counters], globals.first().copied())?;
        }
        _ => bail!(
            "kernel-tests-child [nobody] ring|cells|counters|compared|write PIN; \
             or quiet HOW RING LARGE CELLS LATCHES COUNTERS [GLOBALS]"
        ),
    }
    Ok(())
}

fn write(pin: &str) -> Result<()> {
    let region = Options::new().write(true).open_pinned(pin)?;
    println!("open: {:?}", region.writable());
    let handle = MapHandle::from_pinned_path(pin)?;
    let value = vec![0; handle.value_size() as usize];
    println!("update: {:?}", handle.update(&[0; 4], &value, MapFlags::ANY).map_err(|e| e.kind()));
    println!("mmap: {:?}", MmapOptions::new().len(4096).map_raw(&handle.as_fd()).map_err(|e| e.kind()));
    let mapping = MmapOptions::new().len(4096).map_raw_read_only(&handle.as_fd())?;
    // SAFETY: the mapping is ours, and nothing relies on its pages staying read-only.
    let made_writable = unsafe {
        rustix::mm::mprotect(mapping.as_mut_ptr().cast(), 4096, MprotectFlags::READ | MprotectFlags::WRITE)
    };
    println!("mprotect: {made_writable:?}");
    Ok(())
}

fn about(region: &Region) {
    println!("{:?} {:?}", region.access(), region.preamble());
}
