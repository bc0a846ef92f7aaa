//! The clock of each CPU by which the group `profile` takes samples: links of perf events, pinned by CPU, which go on when
//! this process has ended.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::programs::PerfEvent;
use aya::programs::links::FdLink;
use aya::programs::perf_event::{
    HardwareEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use mapring::PinDir;
use mapring::cpus::online_cpus;

use super::pins;

/// The pins of the links.
const PREFIX: &str = "profile_cpu";

/// Samples each CPU that is online, so often in a second. The program is pinned in `recording`, and the links in `links`.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn attach(recording: &PinDir, links: &PinDir, hz: u32) -> Result<()> {
    let mut program = PerfEvent::from_pin(within(recording, pins::SAMPLER)).context(pins::SAMPLER)?;
    for cpu in online_cpus()? {
        let cpu = u32::try_from(cpu)?;
        match event(&mut program, cpu, hz) {
            Err(error) if is_offline(&error) => {} // since the kernel has listed it
            link => {
                let link = link.with_context(|| format!("the kernel does not sample CPU {cpu}"))?;
                let name = format!("{PREFIX}{cpu}");
                links.remove_all(&name)?; // of an event that ended when the CPU went offline
                link.pin(within(links, &name)).context(name)?;
            }
        }
    }
    Ok(())
}

/// An entry of a directory that is open: its path may have been exchanged.
fn within(dir: &PinDir, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", dir.as_fd().as_raw_fd()).into()
}

/// Counts the cycles of the CPU if it can: their interrupts also come where others are off. Otherwise the kernel's clock.
fn event(program: &mut PerfEvent, cpu: u32, hz: u32) -> Result<FdLink> {
    let mut attach = |config| {
        let scope = PerfEventScope::AllProcessesOneCpu { cpu };
        program.attach(config, scope, SamplePolicy::Frequency(hz.into()), false)
    };
    let link = attach(PerfEventConfig::Hardware(HardwareEvent::CpuCycles))
        .or_else(|_| attach(PerfEventConfig::Software(SoftwareEvent::CpuClock)))?;
    Ok(program.take_link(link)?.try_into()?)
}

fn is_offline(error: &anyhow::Error) -> bool {
    let number = |error: &(dyn Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
    error.chain().filter_map(number).any(|number| number == libc::ENODEV)
}
