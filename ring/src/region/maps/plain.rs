//! Arrays of plain values, of any loader.

use std::os::fd::AsFd;

use super::map_or_lookup;
use crate::abi::WORD;
use crate::access::Access;
use crate::bpf::MapFd;
use crate::bpf::compare::compare_with;
use crate::error::{Cause, Error, Result};
use crate::record::{Expected, LayoutCheck};
use crate::region::Memory;

/// An open array.
pub(crate) struct Plain {
    pub(crate) what: String,
    pub(crate) memory: Memory,
    pub(crate) entries: usize,
    /// Words from one value to the next.
    pub(crate) stride: usize,
    pub(crate) compared: LayoutCheck,
}

impl Plain {
    pub(crate) fn new(opened: MapFd, expected: &Expected) -> Result<Self> {
        opened.expect_array()?;
        let types = opened.types();
        let MapFd { fd, info, what, .. } = opened;
        let (size, entries) = (info.value_size as usize, info.max_entries as usize);
        let stride = size.div_ceil(WORD);
        let value = |btf| types.value(btf);
        let compared = compare_with(&types, value, &what, expected)?;
        if size != expected.layout.bytes() {
            return Err(Error::from(Cause::RecordSize {
                what,
                found: size,
                record: "values of its own".to_owned(),
                rust: expected.rust,
                expected: expected.layout.bytes(),
            }));
        }
        let (memory, _) = map_or_lookup(fd.as_fd(), &info, &what, false)?;
        Ok(Self { what, memory, entries, stride, compared })
    }

    pub(crate) fn access(&self) -> Access {
        self.memory.access()
    }
}
