//! Regions that this process writes by system calls.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use mapring_sys::bpf::Elements;
use mapring_sys::fdinfo::is_frozen;

use crate::access::Refusal;
use crate::bpf::lookup::update_run;
use crate::bpf::map_info;
use crate::error::{Cause, Error, Result};
use crate::region::{Memory, Region};

/// A region that this process writes by system calls.
pub(crate) struct ByCall {
    region: Region,
    map: Elements<Region>,
}

impl ByCall {
    /// `None` for a region that is mapped for writing, or that can't be written at all. Makes system calls.
    pub(crate) fn new(region: &Region) -> Result<Option<Self>> {
        if !matches!(region.writable(), Err(Refusal::ReadOnlyForPrograms | Refusal::NotMmapable)) {
            return Ok(None);
        }
        let info = map_info(region.as_fd())?;
        Ok(Some(Self { region: region.clone(), map: Elements::new(region.clone(), &info) }))
    }

    /// Copies elements from `first` on, as many as fit into `out`, for their only writer: in no order. Makes a system
    /// call if the region is not mapped.
    pub(crate) fn elements(&self, first: usize, out: &mut [u64]) -> Result<()> {
        let words = self.region.geometry().element_words();
        match self.region.memory() {
            Memory::Mapped(mapping) => {
                let from = mapping.words().slice(first * words, out.len());
                out.iter_mut().enumerate().for_each(|(at, word)| *word = from.load(at, Ordering::Relaxed));
                Ok(())
            }
            Memory::Lookup(lookup, _) => lookup
                .run(first, out.len() / words, out)
                .map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e)),
        }
    }

    /// Writes elements from `first` on, one after the other; one system call writes many.
    pub(crate) fn update(&self, first: usize, elements: &[u64]) -> Result<()> {
        update_run(&self.map, first, self.region.geometry().element_words(), elements)
            .map_err(|e| self.not_updated("bpf(BPF_MAP_UPDATE_ELEM)", e))
    }

    /// Why an update was refused.
    fn not_updated(&self, call: &'static str, error: io::Error) -> Error {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        if denied && is_frozen(self.region.as_fd()) == Some(true) {
            return Error::not_writable(self.region.what(), Refusal::Frozen);
        }
        let hint = if denied { "; the descriptor is read-only: its loader can write it" } else { "" };
        Error::from(Cause::System { call, error, hint })
    }
}
