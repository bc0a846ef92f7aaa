//! What a recording says of the region or array that it comes from.

use anyhow::{Result, bail};
use mapring::abi::{Kind as RegionKind, Tails};

use super::format::{BYTE_ORDER, Clock, Source};
use super::source_kind::SourceKind;
use super::summaries;
use crate::content::Content;
use crate::stamp::{Stamp, StampClock};
use crate::target::{Layout, Target, of_kernel};

/// The description of a target, and the BTF of its map; empty if there is none.
pub(super) fn of(target: &Target, stamp: Option<Stamp>, every: Option<u64>) -> Result<(Source, Vec<u8>)> {
    let location = &target.location;
    let kind = match target.content()? {
        Content::Ring => SourceKind::Ring,
        Content::Table(..) => match target.kind() {
            Some(RegionKind::Cells) => SourceKind::Cells,
            Some(RegionKind::Latches) => SourceKind::Latches,
            _ => SourceKind::PerCpuCells,
        },
        Content::Counters(_) => SourceKind::Counters,
        Content::Histograms(_) => SourceKind::Histograms,
        Content::Gauges(_) => SourceKind::Gauges,
        Content::TopKeys(_) => SourceKind::TopKeys,
        Content::Array(_) => SourceKind::Array,
        Content::Globals(_) => SourceKind::Globals,
        Content::Internal(kind) => {
            bail!("{location}: {kind} can't be recorded; `mapring show --json` prints their content")
        }
        Content::Ringbuf => {
            bail!("{location}: a BPF ringbuf can't be recorded; `mapring tail --json` prints its records")
        }
        Content::Other => bail!("{location}: not a ring, table, array or global data"),
        Content::Damaged(e) => bail!("{e}"),
    };
    let (btf, value_type, no_types) = match kind.layout() {
        Some(_) => (Vec::new(), None, None),
        None => types_of(target),
    };
    let facts = target.map.as_ref().map(mapring::any::AnyMap::facts);
    let mut source = Source {
        name: target.name(),
        kind,
        record: facts.as_ref().map_or(0, |map| map.value_size),
        entries: facts.as_ref().map_or(0, |map| map.max_entries),
        shards: target.map.as_ref().and_then(mapring::any::AnyMap::cpus).map_or(1, <[usize]>::len),
        tails: None,
        stamp: stamp.map(|stamp| stamp.at),
        stamp_clock: stamp.map(|stamp| stamp.clock).filter(|clock| *clock != StampClock::Monotonic),
        boot_ahead: 0,
        stamp_since: stamp.map_or(0, |stamp| stamp.since),
        value_type,
        no_types,
        byte_order: BYTE_ORDER.to_owned(),
        every,
        clock: Clock { monotonic: 0, wall: 0 },
        host: of_kernel("hostname").unwrap_or_default(),
        kernel: of_kernel("osrelease").unwrap_or_default(),
        boot_id: of_kernel("random/boot_id").unwrap_or_default(),
    };
    if let Some(region) = target.region() {
        let geometry = region.geometry();
        let tails = geometry.tails();
        source.record = geometry.record().saturating_sub(tails.map_or(0, |_| Tails::PREFIX));
        source.tails = tails.map(|tails| [tails.longest() as u64, tails.bytes() as u64]);
        (source.entries, source.shards) = (geometry.capacity(), geometry.shards());
    }
    if let Some(words) = summaries::words(kind) {
        // A sample has the values of all CPUs.
        (source.record, source.shards) = (8 * words, 1);
        source.entries = if kind == SourceKind::TopKeys { 1 } else { source.entries };
    }
    if let Layout::RingInMaps(regions) = &target.layout {
        let ends = regions.iter().map(|(first, region)| first + region.geometry().shards());
        source.shards = ends.max().unwrap_or(1);
    }
    if let Err(why) = source.check() {
        bail!("{location}: too large to be recorded: {why}");
    }
    Ok((source, btf))
}

/// The BTF and the id of the values' type there, or why there are none.
fn types_of(target: &Target) -> (Vec<u8>, Option<u32>, Option<String>) {
    match target.ty().and_then(|_| target.types()) {
        Ok((btf, value)) => (btf.as_bytes().to_vec(), Some(value), None),
        Err(why) => (Vec::new(), None, Some(why.to_owned())),
    }
}
