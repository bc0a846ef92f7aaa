//! The headers of an ELF file of 64 bits. The file may be hostile: what is read is bounded, and never mapped.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytemuck::{Pod, Zeroable};

use super::BuildId;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const SHT_NOTE: u32 = 7;
const NT_GNU_BUILD_ID: u32 = 3;

/// Longer notes are not read.
const NOTES: u64 = 64 << 10;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    pub(super) segments_at: u64,
    pub(super) sections_at: u64,
    flags: u32,
    size: u16,
    segment_size: u16,
    segments: u16,
    section_size: u16,
    sections: u16,
    /// The section with the names of sections.
    pub(super) names: u16,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Section {
    name: u32,
    pub(super) kind: u32,
    pub(super) flags: u64,
    address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_size: u64,
}

pub(super) struct Elf {
    pub(super) header: Header,
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    pub(super) build_id: Option<BuildId>,
}

impl Elf {
    /// `None` if the file is not ELF with 64 bits, or is damaged.
    pub(super) fn read(file: &File) -> Option<Self> {
        const IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, if cfg!(target_endian = "big") { 2 } else { 1 }];
        let mut header = Header::zeroed();
        file.read_exact_at(bytemuck::bytes_of_mut(&mut header), 0).ok()?;
        if !header.ident.starts_with(&IDENT) {
            return None;
        }
        let segments = table(file, header.segments_at, header.segments, header.segment_size)?;
        let sections = table(file, header.sections_at, header.sections, header.section_size)?;
        let build_id = build_id(file, &segments, &sections);
        Some(Self { header, segments, sections, build_id })
    }

    /// Whether it only has what a debugger needs.
    pub(super) fn is_debug(&self) -> bool {
        let is_code = |segment: &Segment| segment.kind == PT_LOAD && segment.flags & PF_X != 0;
        !self.segments.iter().any(|segment| is_code(segment) && segment.file_size > 0)
    }

    /// The segments that are loaded, by their addresses, with their offsets in the file as it is loaded.
    ///
    /// A file that only has what a debugger needs keeps the addresses of segments, not their offsets. All linkers (GNU ld, gold,
    /// lld, mold) put the next segment at the first offset after the last one that agrees with its address modulo the size of a
    /// page.
    pub(super) fn loads(&self) -> Vec<Load> {
        let is_load = |segment: &&Segment| segment.kind == PT_LOAD;
        let mut segments: Vec<_> = self.segments.iter().filter(is_load).collect();
        segments.sort_by_key(|segment| segment.address);
        let is_debug = self.is_debug();
        let mut end = 0_u64;
        let load = |segment: &Segment| {
            let (mut offset, mut size) = (segment.offset, segment.file_size);
            if is_debug {
                let align = segment.align.max(1);
                let ahead = segment.address.wrapping_sub(end) % align;
                (offset, size) = (end.saturating_add(ahead), segment.memory_size);
                end = offset.saturating_add(size);
            }
            Load { offset, size, address: segment.address, is_code: segment.flags & PF_X != 0 }
        };
        segments.into_iter().map(load).collect()
    }
}

/// A part of a file that is loaded to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) address: u64,
    pub(super) is_code: bool,
}

fn table<T: Pod>(file: &File, at: u64, count: u16, size: u16) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let mut table = vec![T::zeroed(); count.into()];
    let is_known = usize::from(size) == size_of::<T>();
    is_known.then(|| file.read_exact_at(bytemuck::cast_slice_mut(&mut table), at).ok())??;
    Some(table)
}

fn build_id(file: &File, segments: &[Segment], sections: &[Section]) -> Option<BuildId> {
    let segments = segments.iter().filter(|segment| segment.kind == PT_NOTE);
    let sections = sections.iter().filter(|section| section.kind == SHT_NOTE);
    let segments = segments.map(|segment| (segment.offset, segment.file_size));
    let mut notes = segments.chain(sections.map(|section| (section.offset, section.size)));
    notes.find_map(|(offset, size)| {
        let mut notes = vec![0; usize::try_from(size.min(NOTES)).ok()?];
        file.read_exact_at(&mut notes, offset).ok()?;
        in_notes(&notes)
    })
}

/// A build id has at most 20 bytes in what the kernel records.
fn in_notes(mut notes: &[u8]) -> Option<BuildId> {
    while let Some((sizes, rest)) = notes.split_at_checked(12) {
        let [name, size, kind]: [u32; 3] = bytemuck::pod_read_unaligned(sizes);
        let [name, size] = [name, size].map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let (owner, rest) = rest.split_at_checked(name.checked_next_multiple_of(4)?)?;
        if kind == NT_GNU_BUILD_ID && owner == b"GNU\0" {
            let mut id = BuildId::default();
            id.get_mut(..size)?.copy_from_slice(rest.get(..size)?);
            return (size > 0).then_some(id);
        }
        notes = rest.get(size.checked_next_multiple_of(4)?..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn hostile_headers_and_notes_are_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(Elf::read(&File::open("/proc/self/exe").unwrap()).unwrap().build_id.is_some());
        // Each byte of the header damaged: never a panic, nor much memory.
        for at in 0..64 {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&own[..4096]).unwrap();
            file.write_all_at(&[0xff], at).unwrap();
            let _ = Elf::read(&file).map(|elf| elf.loads());
        }
        let note = |name: u32, size: u32| {
            let mut note: Vec<u8> =
                [name, size, NT_GNU_BUILD_ID].iter().flat_map(|n| n.to_ne_bytes()).collect();
            note.extend(b"GNU\0");
            note.extend([7; 21]);
            note
        };
        assert_eq!(in_notes(&note(4, 20)), Some([7; 20]));
        assert_eq!(in_notes(&note(4, 1)).map(|id| (id[0], id[1])), Some((7, 0)));
        for (name, size) in [(4, 0), (4, 21), (4, u32::MAX), (u32::MAX, 20), (0, 20), (8, 20)] {
            assert_eq!(in_notes(&note(name, size)), None, "{name} {size}");
        }
    }

    #[test]
    fn offsets_are_those_that_linkers_choose() {
        let segment = |flags, offset, address, file_size, memory_size| Segment {
            kind: PT_LOAD,
            flags,
            offset,
            address,
            physical: address,
            file_size,
            memory_size,
            align: 0x1000,
        };
        let elf = |segments| Elf { header: Header::zeroed(), segments, sections: Vec::new(), build_id: None };
        let offsets = |segments| elf(segments).loads().iter().map(|load| load.offset).collect::<Vec<_>>();
        // GNU ld with separate code; then lld.
        let gnu = vec![
            segment(4, 0, 0, 0x39c, 0x618),
            segment(5, 0, 0x1000, 0, 0x1b1),
            segment(4, 0, 0x2000, 0, 9),
        ];
        assert_eq!(offsets(gnu), [0, 0x1000, 0x2000]);
        let lld = vec![segment(4, 0, 0x20_0000, 0, 0x6d0), segment(5, 0, 0x20_16d0, 0, 0x100)];
        assert_eq!(offsets(lld), [0, 0x6d0]);
        // A file that is loaded says it itself.
        assert_eq!(offsets(vec![segment(5, 0x5000, 0x1000, 1, 1)]), [0x5000]);
    }
}
