//! Resizes a ring while another process traces it: `kernel-tests-resize MAPS PIN SLOTS` opens the ring in the map of
//! maps pinned at MAPS, pins it at PIN in place of the existing pin, stops itself, resizes the ring, and stops itself
//! again.

use anyhow::{Result, bail};
use mapring_kernel_tests::prelude::*;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [maps, pin, slots] = &args[..] else { bail!("kernel-tests-resize MAPS PIN SLOTS") };
    let ring = Ring::<Numbered>::open(maps.as_str())?;
    ring.pin(pin, PinOptions::new(0o600).replace(true))?;
    let slots = slots.parse()?;
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    ring.resize(slots)?;
    raise(Signal::SIGSTOP)?;
    Ok(())
}
