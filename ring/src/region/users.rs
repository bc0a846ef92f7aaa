//! The programs that use a region.

use super::maps::users;
use super::{Identity, Region};
use crate::error::Result;

/// A loaded program that uses a region's map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapUser {
    /// Its id, as `bpftool prog` shows it.
    pub id: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The number of links by which it is attached. A pinned link stays when its loader has ended.
    ///
    /// Programs that are attached without a link seem to have none: by a perf event's ioctl (libbpf on kernels before
    /// 5.15), XDP and tc by netlink, cgroups and sockets by `BPF_PROG_ATTACH` or `setsockopt`. So do programs that
    /// others call by a tail call.
    pub links: usize,
}

impl Region {
    /// The loaded programs that use this region's map, or a map of maps that contains it, in the order of their ids.
    /// Empty for a memfd. Makes several system calls for each program and link of the machine.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System): it needs CAP_SYS_ADMIN, and Linux 5.8.
    pub fn programs(&self) -> Result<Vec<MapUser>> {
        match self.identity() {
            Identity::Map(id) => users(id),
            Identity::File(..) => Ok(Vec::new()),
        }
    }
}
