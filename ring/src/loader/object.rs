//! The types and maps of an object that this process has loaded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mapring_sys::btf::Btf;

use crate::bpf::MapFd;
use crate::error::{Error, Result};

/// The types of a loaded object, and some of its maps. Its loader has descriptors of them, so opening them takes no privilege,
/// as opening by id does.
pub struct LoadedObject {
    id: u32,
    fd: OwnedFd,
    btf: Arc<Btf>,
    maps: Vec<MapFd>,
}

impl LoadedObject {
    /// An object with these types, of which a loader has a descriptor. Makes system calls.
    ///
    /// # Errors
    /// Those of the kernel; if the descriptor is none of BTF.
    pub fn new(btf: OwnedFd) -> io::Result<Self> {
        let (id, types) = Btf::read(btf.as_fd())?;
        Ok(Self { id, fd: btf, btf: Arc::new(types), maps: Vec::new() })
    }

    /// Adds a map, which the readers of this object's rings may need: their readers, bells and first maps. Duplicates the
    /// descriptor.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System);
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) if it is not a BPF map.
    pub fn add(&mut self, map: BorrowedFd<'_>, name: &str) -> Result<()> {
        let fd = map.try_clone_to_owned().map_err(|e| Error::system("dup", e))?;
        self.maps.push(MapFd::loaded(fd, name, None)?);
        Ok(())
    }

    /// Its types.
    pub fn btf(&self) -> &Arc<Btf> {
        &self.btf
    }

    /// Opens the map with this id, if it is one of them.
    pub(crate) fn map(self: &Arc<Self>, id: u32) -> Option<Result<MapFd>> {
        let map = self.maps.iter().find(|map| map.info.id == id)?;
        Some(map.try_clone().map(|map| MapFd { object: Some(self.clone()), ..map }))
    }

    /// Whether a map was created with these types.
    pub(crate) fn made(&self, map: &MapFd) -> bool {
        self.id == map.info.btf_id
    }

    /// Its types, if they have this id.
    pub(crate) fn btf_of(&self, id: u32) -> Option<&Arc<Btf>> {
        (self.id == id).then_some(&self.btf)
    }

    /// A descriptor of the types, if they have this id.
    pub(crate) fn types(&self, id: u32) -> Option<BorrowedFd<'_>> {
        (self.id == id).then(|| self.fd.as_fd())
    }
}
