//! Reads and writes the preamble of a map, through a mapping or by system calls.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

use mapring_core::protocol::{Words, ring};
use mapring_sys::MapInfo;
use mapring_sys::bpf::Elements;

use super::memory::unreadable;
use crate::abi::{Preamble, PreambleError, Process, WORD};
use crate::bpf::lookup;
use crate::error::{Cause, Error, Result};
use crate::region::{Mapping, Memory, this_process, with_loader, write_preamble};

const NO_PREAMBLE: &str = "; its loader writes one with mapring_loader::initialize once the map is loaded, and a loader \
                           without libbpf-rs with mapring::loader::initialize_map; open a map of another loader with OpenOptions::assume_layout, and one of plain values as an Array";

const NOT_OURS: &str = "; mapring's macros did not declare this map: Globals reads the global variables of programs \
                        (.data, .bss, .rodata), Array reads arrays of plain values";

const TOO_SMALL: &str = "; such a map holds no region: Array reads arrays of plain values";

/// Reads the preamble.
pub(super) fn read_preamble(memory: &Memory, bytes: usize, what: &str) -> Result<Preamble> {
    if bytes < Preamble::BYTES {
        return Err(Error::from(Cause::Truncated {
            what: what.to_owned(),
            found: bytes as u64,
            expected: Preamble::BYTES as u64,
            hint: TOO_SMALL,
        }));
    }
    let words = match memory {
        Memory::Mapped(mapping) => preamble_words(mapping.words()),
        Memory::Lookup(lookup, refusal) => lookup.preamble().map_err(|e| unreadable(e, *refusal, what))?,
    };
    fence(Ordering::Acquire);
    Preamble::decode(&words).map_err(|error| {
        Error::from(Cause::Preamble {
            what: what.to_owned(),
            hint: match error {
                PreambleError::Magic { found: 0 } => NO_PREAMBLE,
                PreambleError::Magic { .. } => NOT_OURS,
                _ => "",
            },
            error,
        })
    })
}

/// The first words of a mapped region.
fn preamble_words(words: Words<'_>) -> [u64; Preamble::WORDS] {
    let first = words.load(0, Ordering::Relaxed);
    fence(Ordering::Acquire); // SYNC preamble: pairs with the fence in `write_preamble`
    std::array::from_fn(|at| if at == 0 { first } else { words.load(at, Ordering::Relaxed) })
}

/// Makes this process the loader of a region that has a preamble, if the region can be mapped for writing.
pub(super) fn adopt(fd: BorrowedFd<'_>, bytes: usize) {
    let Ok(mapping) = Mapping::new(fd, bytes, true) else { return };
    let (Some(words), Ok(me)) = (mapping.words_mut(), this_process()) else { return };
    words.store(Preamble::LOADER, Process::encode(me), Ordering::Relaxed);
}

/// Writes the preamble of a region that has none, through a mapping if possible, to each copy of a
/// per-CPU map.
pub(super) fn initialise(fd: BorrowedFd<'_>, info: &MapInfo, what: &str, preamble: &Preamble) -> Result<()> {
    let element = info.value_size as usize;
    let bytes = element * info.max_entries as usize;
    match Mapping::new(fd, bytes, true) {
        Ok(mapping) => {
            if let Some(words) = mapping.words_mut() {
                write_preamble(words, preamble);
                if preamble.geometry.options().is_resizable() {
                    ring::open(words, &preamble.geometry);
                }
            }
            return Ok(());
        }
        // With a preamble and closed gates the ring would drop every record.
        Err(error) if preamble.geometry.options().is_resizable() => {
            return Err(Error::from(Cause::NoPreamble { what: what.to_owned(), error }));
        }
        Err(_) => {}
    }
    let mut image = vec![0; preamble.geometry.first() * element / WORD];
    image[..Preamble::WORDS].copy_from_slice(&with_loader(preamble));
    let failed = |error| Error::from(Cause::NoPreamble { what: what.to_owned(), error });
    let map = Elements::of_array(fd, info).map_err(failed)?;
    // The element with the magic number comes last.
    for (index, value) in image.chunks(element / WORD).enumerate().rev() {
        lookup::update(&map, index, &value.repeat(map.copies())).map_err(failed)?;
    }
    Ok(())
}
