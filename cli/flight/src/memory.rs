//! The memory that this process may take: of the machine, and of its cgroups.

use std::fs;
use std::path::{Path, PathBuf};

/// The memory that this process may still take, as far as it is known: of the machine, and of its cgroups.
pub(crate) fn free() -> u64 {
    let of_cgroups = cgroups().into_iter().filter_map(|cgroup| of(&cgroup)).map(|(_, free)| free);
    of_cgroups.chain(available()).min().unwrap_or(0)
}

/// The memory of the machine that is free, or can be freed.
pub(crate) fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let free = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(free.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The memory cgroup of this process, and those above it, as far as they are mounted.
pub(crate) fn cgroups() -> Vec<PathBuf> {
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
pub(crate) fn of(cgroup: &Path) -> Option<(u64, u64)> {
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
}
