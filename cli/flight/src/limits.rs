//! The limits of this process that a start can meet: file descriptors, and the memory of its cgroups.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use mapring_kit::output::bytes;

use crate::memory;

/// Descriptors that a group needs for its object, maps, programs and links, and those that are open anyway.
const OF_GROUP: u64 = 24;
const OF_PROCESS: u64 = 16;

/// The memory that a start takes besides the rings.
const OWN: u64 = 16 << 20;

/// Lets this process open the descriptors that a start needs.
///
/// # Errors
/// If its limit is too low, with the limit.
pub(crate) fn allow_descriptors(groups: usize) -> Result<()> {
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let needed = open as u64 + OF_PROCESS + groups as u64 * OF_GROUP;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        bail!(
            "RLIMIT_NOFILE: this process may have {maximum} open files, and the start needs {needed}: \
             `ulimit -n {needed}` as root, or fewer groups with --events"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).context("RLIMIT_NOFILE")
}

/// Checks that the memory cgroups of this process allow rings of these bytes: the kernel counts them as its memory.
///
/// # Errors
/// If a cgroup does not, with its limit.
pub(crate) fn check_cgroups(rings: u64) -> Result<()> {
    for cgroup in memory::cgroups() {
        let Some((limit, free)) = memory::of(&cgroup) else { continue };
        if free < rings.saturating_add(OWN) {
            bail!(
                "the rings take {}, and the start {}: the memory cgroup {} has a limit of {}, of which {} are free: \
                 give a smaller --size, or raise the limit",
                bytes(rings),
                bytes(OWN),
                cgroup.display(),
                bytes(limit),
                bytes(free >> 10 << 10)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_load_something() {
        allow_descriptors(1).unwrap();
        check_cgroups(0).unwrap();
        assert!(
            check_cgroups(u64::MAX).is_err()
                || memory::cgroups().iter().all(|cgroup| memory::of(cgroup).is_none())
        );
        let too_many = allow_descriptors(1 << 40).map(|()| getrlimit(Resource::Nofile).maximum);
        assert!(too_many.is_ok_and(|maximum| maximum.is_none()) || allow_descriptors(1 << 40).is_err());
    }
}
