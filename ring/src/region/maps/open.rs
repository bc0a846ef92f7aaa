//! Opens the maps of any loader as regions, and checks them against the kernel's information and BTF.

use std::os::fd::AsFd;

use mapring_sys::MapInfo;
use mapring_sys::kinds::MapType;

use super::map_or_lookup;
use super::preamble::{adopt, initialise, read_preamble};
use crate::abi::{Geometry, Kind, Preamble, PreambleError, WORD};
use crate::access::Refusal;
use crate::bpf::MapFd;
use crate::bpf::compare::compare_record;
use crate::bpf::describe::{Shape, Types};
use crate::cpus::possible_cpus;
use crate::error::{Cause, Error, Result};
use crate::record::Compared;
use crate::region::{Identity, Memory, OpenOptions, Region, generation};

/// Opens a map as a region.
pub(super) fn open(opened: MapFd, options: OpenOptions) -> Result<Region> {
    opened.expect_array()?;
    let types = opened.types();
    let MapFd { fd, info, what, .. } = opened;
    let element = info.value_size as usize;
    if !element.is_multiple_of(WORD) {
        return Err(Error::from(Cause::ValueSize { what, found: element }));
    }
    let entries = info.max_entries as usize;
    let bytes = element * entries;

    let (memory, writable) = map_or_lookup(fd.as_fd(), &info, &what, options.write)?;
    if matches!(memory, Memory::Lookup(_, Refusal::SpecialFields)) {
        nothing_hidden(&types, element, &what)?;
    }
    let check = |preamble: &Preamble| {
        agrees(preamble, &info, &what)?;
        let contradicted = types.region().and_then(|described| described.contradicts(&preamble.geometry));
        contradicted.map_or(Ok(()), |(preamble, btf)| {
            let (preamble, btf) = (preamble.to_string(), btf.to_string());
            Err(Error::from(Cause::BtfMismatch { what: what.clone(), preamble, btf }))
        })
    };
    let found = read_preamble(&memory, bytes, &what);
    if let (Ok(found), true) = (&found, options.write_preamble) {
        if let Some(layout) = options.layout {
            same_shape(&layout, &found.geometry, &what)?;
        }
        adopt(fd.as_fd(), bytes);
    }
    let preamble = found.or_else(|e| match e.cause() {
        // No preamble was written yet. The map's BTF may describe the region; the loader writes the preamble.
        Cause::Preamble { error: PreambleError::Magic { found: 0 }, .. } => {
            let described = options.layout.map(|geometry| {
                let name = options.expected.as_ref().map_or("", |expected| expected.rust).to_owned();
                Preamble { geometry, generation: generation(), name }
            });
            let declared = types.region();
            let assumed = described.is_some();
            let described =
                described.or_else(|| declared.as_ref().and_then(|d| d.preamble(entries, generation())));
            let Some(preamble) = described else {
                let nearest = declared.and_then(|declared| declared.nearest(entries));
                let nearest = nearest.ok_or_else(|| match types.are_denied() && options.write_preamble {
                    true => Error::from(Cause::NoTypes { what: what.clone() }),
                    false => e,
                })?;
                return Err(Error::from(Cause::Contradiction {
                    what: what.clone(),
                    source_of_shape: "its BTF",
                    property: "number of entries",
                    preamble: nearest.entries() as u64,
                    kernel: entries as u64,
                    hint: "; leave max_entries to mapring's macros and mapring_loader::prepare",
                }));
            };
            if !assumed {
                a_shard_for_each_cpu(&preamble.geometry, &what)?;
            }
            if options.write_preamble {
                check(&preamble)?;
                initialise(fd.as_fd(), &info, &what, &preamble)?;
            }
            Ok(preamble)
        }
        _ => Err(e),
    })?;
    check(&preamble)?;
    if let (Memory::Lookup(_, refusal), Some(_)) = (&memory, preamble.geometry.tails()) {
        return Err(Error::from(Cause::TailsByCall { what, refusal: *refusal }));
    }
    let compared = compare_record(&types, &preamble.geometry, &what, options.expected.as_ref())?;
    let compared = Compared { any: options.any_record, ..compared };
    Ok(Region::new(what, preamble, memory, writable, compared, Identity::Map(info.id), fd))
}

/// Refuses the preamble of an earlier loader whose map has another shape than this loader describes.
fn same_shape(described: &Geometry, found: &Geometry, what: &str) -> Result<()> {
    let shape = |geometry: &Geometry| (Shape::of(geometry), geometry.shards());
    let ((mut described, shards), found) = (shape(described), shape(found));
    described.other_slots(&found.0);
    let shown = |(shape, shards): (Shape, usize)| format!("{shape}, {shards} shards");
    if (described, shards) == found {
        return Ok(());
    }
    Err(Error::mismatch(what, shown(found), shown((described, shards))))
}

/// Checks that every CPU has a shard. A loader that does not prepare its object creates only one shard.
fn a_shard_for_each_cpu(geometry: &Geometry, what: &str) -> Result<()> {
    let sharded = geometry.kind().is_sharded() && !geometry.options().has_per_cpu_maps();
    let (shards, last) = (geometry.shards(), possible_cpus()?.last().copied().unwrap_or_default());
    if sharded && shards <= last {
        return Err(Error::from(Cause::NotFitted { what: what.to_owned(), shards, last }));
    }
    Ok(())
}

/// Checks a preamble against the kernel's information about the map.
fn agrees(preamble: &Preamble, info: &MapInfo, what: &str) -> Result<()> {
    let says = |property, preamble: usize, kernel: usize| match preamble == kernel {
        true => Ok(()),
        false => Err(Error::from(Cause::Contradiction {
            what: what.to_owned(),
            source_of_shape: "its preamble or description",
            property,
            preamble: preamble as u64,
            kernel: kernel as u64,
            hint: "",
        })),
    };
    let per_cpu = info.ty == MapType::PERCPU_ARRAY;
    if preamble.geometry.kind().is_per_cpu() != per_cpu {
        let expected = if per_cpu { "array" } else { "percpu_array" };
        let hint = "; its preamble or description says so";
        return Err(Error::from(Cause::MapType {
            what: what.to_owned(),
            found: info.ty.to_string(),
            expected,
            hint,
        }));
    }
    says("value size", preamble.geometry.element(), info.value_size as usize)?;
    says("number of entries", preamble.geometry.entries(), info.max_entries as usize)
}

/// Lookups show zeros in place of a lock or timer. Checks that these do not hide the region's own words.
fn nothing_hidden(types: &Types, element: usize, what: &str) -> Result<()> {
    for (field, offset, size) in types.hidden_fields() {
        let hides = |words: std::ops::Range<usize>| {
            // The place of these words in their elements, which may be several.
            words.map(|word| word * WORD).any(|at| {
                let at = at % element;
                offset < at + WORD && at < offset + size
            })
        };
        // The identity of the region, the count of writes that went nowhere, links and gates; the words between are for people.
        let identity = hides(0..Preamble::IDENTITY) || hides(Preamble::DROPPED..Preamble::WORDS);
        let hidden = match types.region().map(|described| described.kind) {
            _ if identity => "preamble",
            Some(Kind::Ring) if hides(0..8) => "header of a shard",
            _ => continue,
        };
        return Err(Error::from(Cause::Hidden { what: what.to_owned(), field, offset, hidden }));
    }
    Ok(())
}
