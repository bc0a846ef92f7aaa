//! The clock of each CPU by which the group `profile` takes samples: links of perf events, pinned by CPU, which go on when
//! this process has ended.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result, bail};
use aya::programs::PerfEvent;
use aya::programs::links::FdLink;
use aya::programs::perf_event::{
    HardwareEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use mapring::cpus::online_cpus;
use mapring::time::{Clock, WallClock};
use mapring_kit::exit::Refused;
use mapring_sys::PinDir;

use crate::event::What;
use crate::pins::{self, Lock};
use crate::recording::{Recording, within};
use crate::rings::{self, GroupRings};

/// The pins of the links.
const PREFIX: &str = "profile_cpu";

/// The CPUs that are online and not sampled: they were offline when the links were made, or since then. `None` if no CPU is
/// sampled, or this process may not see the links.
pub(crate) fn missing(recording: &Recording, marks: &GroupRings) -> Option<Vec<usize>> {
    recording.hz()?;
    let (links, wall) = (recording.links().ok()?, WallClock::new(Clock::Monotonic).ok()?);
    let mut offline = HashMap::new();
    marks.scan(0..u64::MAX, &mut |event| {
        if let What::Offline { cpu } = event.what {
            let last = offline.entry(usize::try_from(cpu).unwrap_or(usize::MAX)).or_insert(event.ns);
            *last = event.ns.max(*last);
        }
    });
    let is_missing = |cpu: &usize| {
        let made =
            fs::symlink_metadata(within(&links, &format!("{PREFIX}{cpu}"))).and_then(|pin| pin.modified());
        let ended = offline.get(cpu).map(|ns| wall.to_wall(*ns).value);
        !made.is_ok_and(|made| ended.is_none_or(|ended| ended <= made))
    };
    Some(online_cpus().ok()?.into_iter().filter(is_missing).collect())
}

/// Samples these CPUs again. Returns how many there are.
///
/// # Errors
/// If this process may not sample them.
pub(crate) fn again(dir: &Path, recording: &Recording) -> Result<usize> {
    let missing =
        || missing(recording, rings::open(recording).ok()?.iter().find(|ring| !ring.is_of_events())?);
    let (Some(cpus), Some(hz)) = (missing().filter(|cpus| !cpus.is_empty()), recording.hz()) else {
        return Ok(0);
    };
    let _lock = Lock::take(dir)?;
    attach(recording.dir(), &recording.links()?, &cpus, hz)?;
    Ok(cpus.len())
}

/// Samples these CPUs, so often in a second. The program is pinned in `recording`, and the links in `links`.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn attach(recording: &PinDir, links: &PinDir, cpus: &[usize], hz: u32) -> Result<()> {
    if let Some(why) = too_often(hz) {
        bail!(Refused(why));
    }
    let mut program = PerfEvent::from_pin(within(recording, pins::SAMPLER)).context(pins::SAMPLER)?;
    for cpu in cpus {
        let cpu = u32::try_from(*cpu)?;
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

/// Why the kernel does not take so many samples in a second. It lowers its limit by itself when they take long.
pub(crate) fn too_often(hz: u32) -> Option<String> {
    const LIMIT: &str = "kernel.perf_event_max_sample_rate";
    let limit = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok()?;
    let limit: u32 = limit.trim().parse().ok()?;
    (hz > limit).then(|| {
        format!("the kernel takes at most {limit} samples a second, not {hz}: use --hz {limit}, or raise {LIMIT} (sysctl)")
    })
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
