//! Replaces a pin while another process traces it: `kernel-tests-replace FROM TO` opens the ring pinned at FROM, stops itself,
//! pins the ring at TO in place of the existing pin, and stops itself again.

use anyhow::{Result, bail};
use mapring_kernel_tests::prelude::*;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [from, to] = &args[..] else { bail!("kernel-tests-replace FROM TO") };
    let ring = Region::open(from.as_str())?;
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    ring.pin(to, PinOptions::new(0o666).replace(true))?;
    raise(Signal::SIGSTOP)?;
    Ok(())
}
