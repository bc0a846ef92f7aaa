//! What this process may lack to open a region: file descriptors or memory. Then nothing is known of the region.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use mapring_kit::text::one_line;

/// Whether a call failed for want of file descriptors or memory, and may succeed later.
pub fn is_short(e: &io::Error) -> bool {
    of_errno(e.raw_os_error().unwrap_or_default())
}

pub(crate) fn of_errno(errno: i32) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS].iter().any(|e| e.raw_os_error() == errno)
}

/// The same of an error of the library.
pub fn of_library(e: &mapring::Error) -> bool {
    e.io_error().is_some_and(is_short)
}

/// The same of an error with causes.
pub fn of_chain(e: &anyhow::Error) -> bool {
    e.chain().any(|e| errno_of(e).is_some_and(of_errno))
}

/// Says that a region is left out, and why, with the command that fixes it.
pub fn left_out(location: &impl std::fmt::Display, e: &anyhow::Error) -> String {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fix = match e.chain().any(|e| errno_of(e) == Some(Errno::MFILE.raw_os_error())) {
        true => format!(
            ": this process may have {most} open files: ulimit -n {}",
            most.saturating_mul(2).max(1024)
        ),
        false => String::new(),
    };
    format!("{location}: left out: {}{fix}", one_line(e))
}

fn errno_of(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let of_library = e.downcast_ref::<mapring::Error>().and_then(mapring::Error::io_error);
    of_library.or_else(|| e.downcast_ref()).and_then(io::Error::raw_os_error)
}

/// Takes as many file descriptors as this process may have. Each region needs some of them.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
