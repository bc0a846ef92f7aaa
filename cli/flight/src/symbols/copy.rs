//! A copy of the symbols in an ELF file of another user. Its owner can't cut it short while it is mapped, which would end this
//! process with SIGBUS, and it neither leads to other files nor unpacks to more than it is.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::elf::{Elf, Section};

/// No more of a file is copied.
const MOST: u64 = 256 << 20;

const SHT_PROGBITS: u32 = 1;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;
const SHF_COMPRESSED: u64 = 0x800;

/// Sections that name other files.
const LINKS: [&[u8]; 3] = [b".gnu_debuglink", b".gnu_debugaltlink", b".debug_sup"];

/// The copy: headers and sections at their places, without code and data. `None` if it can't be made.
pub(super) fn copy(file: &File, elf: &Elf) -> Option<File> {
    let names = elf.sections.get(usize::from(elf.header.names))?;
    let names = range(names)?;
    let table =
        elf.header.sections_at..elf.header.sections_at.checked_add(size_of_val(&*elf.sections) as u64)?;
    if names.start < table.end && table.start < names.end {
        return None;
    }
    let fd = memfd_create("symbols", MemfdFlags::CLOEXEC).ok()?;
    ftruncate(&fd, file.metadata().ok()?.len()).ok()?;
    let to = File::from(fd);
    let mut left = MOST;
    let mut part = |range: Range<u64>| {
        left = left.checked_sub(range.end - range.start)?;
        copy_range(file, &to, range)
    };
    part(0..size_of_val(&elf.header) as u64)?;
    let segments = size_of_val(&*elf.segments) as u64;
    part(elf.header.segments_at..elf.header.segments_at.checked_add(segments)?)?;
    let mut sections = elf.sections.clone();
    for section in &mut sections {
        let is_code_or_data = section.kind == SHT_PROGBITS && section.flags & SHF_ALLOC != 0;
        if is_code_or_data || section.flags & SHF_COMPRESSED != 0 {
            section.kind = SHT_NOBITS;
        }
        if section.kind != SHT_NOBITS {
            part(range(section)?)?;
        }
    }
    // Last: what was copied before can overlap with it.
    let mut text =
        vec![0; usize::try_from(names.end - names.start).ok().filter(|&size| size as u64 <= MOST)?];
    to.read_exact_at(&mut text, names.start).ok()?;
    hide_links(&mut text);
    to.write_all_at(&text, names.start).ok()?;
    to.write_all_at(bytemuck::cast_slice(&sections), table.start).ok()?;
    Some(to)
}

fn range(section: &Section) -> Option<Range<u64>> {
    Some(section.offset..section.offset.checked_add(section.size)?)
}

fn copy_range(file: &File, to: &File, range: Range<u64>) -> Option<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut at = range.start;
    while at < range.end {
        let size = (buffer.len() as u64).min(range.end - at);
        let piece = buffer.get_mut(..usize::try_from(size).ok()?)?;
        file.read_exact_at(piece, at).ok()?;
        to.write_all_at(piece, at).ok()?;
        at += size;
    }
    Some(())
}

/// Gives sections that name other files another name.
fn hide_links(names: &mut [u8]) {
    for at in 0..names.len() {
        if LINKS.iter().any(|link| names[at..].starts_with(link)) {
            names[at] = b'-';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_symbols_and_leads_nowhere() {
        let own = File::open("/proc/self/exe").unwrap();
        let elf = Elf::read(&own).unwrap();
        let copy = copy(&own, &elf).unwrap();
        let copied = Elf::read(&copy).unwrap();
        assert_eq!(copied.build_id, elf.build_id);
        assert_eq!((copied.loads(), copied.is_debug()), (elf.loads(), false));
        let size = std::os::unix::fs::MetadataExt::blocks(&copy.metadata().unwrap());
        assert!(size < std::os::unix::fs::MetadataExt::blocks(&own.metadata().unwrap()));
        let mut names = b"\0.text\0x.gnu_debuglink\0.gnu_debugaltlink\0.debug_sup".to_vec();
        hide_links(&mut names);
        assert_eq!(names, b"\0.text\0x-gnu_debuglink\0-gnu_debugaltlink\0-debug_sup");
    }

    #[test]
    fn hostile_sections_are_refused() {
        let own = File::open("/proc/self/exe").unwrap();
        let of = |change: &dyn Fn(&mut Elf)| {
            let mut elf = Elf::read(&own).unwrap();
            change(&mut elf);
            copy(&own, &elf)
        };
        assert!(of(&|elf| elf.header.names = u16::MAX).is_none());
        assert!(of(&|elf| elf.sections.last_mut().unwrap().size = u64::MAX).is_none());
        // Each section is the whole file.
        let len = own.metadata().unwrap().len();
        assert!(
            of(&|elf| elf.sections.iter_mut().for_each(|section| (section.offset, section.size) = (0, len)))
                .is_none()
        );
    }
}
