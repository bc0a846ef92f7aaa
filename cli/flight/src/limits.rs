//! The limits of this process that a start can meet: file descriptors, and the memory of its cgroups.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use mapring_kit::output::bytes;

/// Descriptors that a group needs for its object, maps, programs and links, and those that are open anyway.
const OF_GROUP: u64 = 16;
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
    for cgroup in cgroups() {
        let Some((limit, free)) = memory(&cgroup) else { continue };
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

/// The memory cgroup of this process, and those above it, as far as they are mounted.
fn cgroups() -> Vec<PathBuf> {
    let file = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    directories(&file("cgroup"), &file("mountinfo"))
}

fn directories(cgroup: &str, mountinfo: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let is_memory = |options: &str| options.split(',').any(|option| option == "memory");
        if !controllers.is_empty() && !is_memory(controllers) {
            continue;
        }
        for mount in mountinfo.lines() {
            let Some((before, after)) = mount.split_once(" - ") else { continue };
            let mut before = before.split(' ').skip(3);
            let (Some(root), Some(at)) = (before.next(), before.next()) else { continue };
            let (mut kind, options) = (after.split(' '), after.rsplit(' ').next().unwrap_or_default());
            let fits = match kind.next() {
                Some("cgroup2") => controllers.is_empty(),
                Some("cgroup") => !controllers.is_empty() && is_memory(options),
                _ => false,
            };
            if !fits {
                continue;
            }
            let (at, root) = (Path::new(at), Path::new(root));
            let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            let all = below.ancestors().map(|above| at.join(above).components().collect());
            found.extend(all);
        }
    }
    found
}

/// The limit of a cgroup, and what of it is free or holds files only.
fn memory(cgroup: &Path) -> Option<(u64, u64)> {
    let read = |name: &str| fs::read_to_string(cgroup.join(name)).ok();
    let number = |name| read(name)?.trim().parse::<u64>().ok(); // `max` is no limit
    let (limit, used, files) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?, "file "),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?, "total_cache "),
    };
    let stat = read("memory.stat").unwrap_or_default();
    let files = stat.lines().find_map(|line| line.strip_prefix(files)?.parse().ok()).unwrap_or(0);
    Some((limit, limit.saturating_sub(used.saturating_sub(files))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroups_of_both_versions_are_found() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      31 23 0:27 /docker/a /mem rw - cgroup cgroup rw,memory\n\
                      32 23 0:28 / /cpu rw - cgroup cgroup rw,cpu\nx\n";
        let found = directories("3:cpu:/a\n4:memory:/docker/a/b\n0::/c/d\nx\n", mounts);
        let expected =
            ["/mem/b", "/mem", "/sys/fs/cgroup/c/d", "/sys/fs/cgroup/c", "/sys/fs/cgroup"].map(PathBuf::from);
        assert_eq!(found, expected);
    }

    #[test]
    fn this_process_may_load_something() {
        allow_descriptors(1).unwrap();
        check_cgroups(0).unwrap();
        assert!(check_cgroups(u64::MAX).is_err() || cgroups().iter().all(|cgroup| memory(cgroup).is_none()));
        let too_many = allow_descriptors(1 << 40).map(|()| getrlimit(Resource::Nofile).maximum);
        assert!(too_many.is_ok_and(|maximum| maximum.is_none()) || allow_descriptors(1 << 40).is_err());
    }
}
