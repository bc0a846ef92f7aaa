//! The CPUs that have copies of a per-CPU map's values, counted as the kernel counts them.
//!
//! A lookup writes a copy for each possible CPU, whatever the length of the buffer. No system call returns their number,
//! and the file of sysfs can be wrong: a container may have another file mounted over it. So it is measured.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use crate::bpf;
use crate::cpus::listed_cpus;
use crate::uapi::MapInfo;

/// The most CPUs of the kernels that distributions build.
const USUAL: usize = 1 << 13;
/// More CPUs than any kernel can have.
const MOST: usize = 1 << 16;

/// The CPUs that have copies of a map's values, in ascending order. Their number is measured; it is never 0.
pub(crate) struct Copies(Vec<usize>);

impl Copies {
    /// Makes a few system calls. `info` must be about this per-CPU map.
    pub(crate) fn of(map: BorrowedFd<'_>, info: &MapInfo) -> io::Result<Self> {
        let listed = listed_cpus().unwrap_or_default();
        let count = least(listed.len().clamp(1, USUAL), |copies| bpf::lookup_fits(map, info, copies))?;
        Ok(Self(numbered(listed, count)))
    }

    pub(crate) fn cpus(&self) -> &[usize] {
        &self.0
    }
}

/// The CPUs in `listed` if there are `count` of them; otherwise the list is wrong, and CPUs are numbered from 0.
pub(crate) fn numbered(listed: Vec<usize>, count: usize) -> Vec<usize> {
    if listed.len() == count { listed } else { (0..count).collect() }
}

/// The number of possible CPUs, measured with a small map. `None` if this process may not create one.
pub(crate) fn possible_count() -> Option<usize> {
    static COUNT: OnceLock<Option<usize>> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let map = bpf::create_per_cpu_array().ok()?;
        let info = bpf::map_info(map.as_fd()).ok()?;
        Some(Copies::of(map.as_fd(), &info).ok()?.0.len())
    })
}

/// The least number that fits, where all greater ones fit as well. Two calls of `fits` if it is `guess`.
fn least(guess: usize, mut fits: impl FnMut(usize) -> io::Result<bool>) -> io::Result<usize> {
    let (mut below, mut enough) = (0, guess);
    while !fits(enough)? {
        (below, enough) = (enough, 2 * enough);
        if below > MOST {
            return Err(io::Error::other("a lookup returns more copies than a kernel has CPUs"));
        }
    }
    let mut next = enough - 1;
    while below < next {
        if fits(next)? {
            enough = next;
        } else {
            below = next;
        }
        next = below.midpoint(enough);
    }
    Ok(enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_number_is_found_from_any_guess() {
        for count in 1..=40 {
            for guess in 1..=100 {
                let mut calls = 0;
                let found = least(guess, |copies| {
                    calls += 1;
                    Ok(copies >= count)
                });
                assert_eq!(found.unwrap(), count, "from {guess}");
                assert!(calls <= if guess == count { 2 } else { 16 }, "{count} from {guess}: {calls}");
            }
        }
        assert!(least(1, |_| Ok(false)).is_err());
        assert!(least(1, |_| Err(io::ErrorKind::PermissionDenied.into())).is_err());
    }

    #[test]
    fn a_list_of_another_length_is_not_believed() {
        assert_eq!(numbered(vec![0, 2], 2), [0, 2]);
        assert_eq!(numbered(vec![0], 2), [0, 1]);
        assert_eq!(numbered((0..8).collect(), 2), [0, 1]);
        assert_eq!(numbered(vec![], 1), [0]);
    }
}
