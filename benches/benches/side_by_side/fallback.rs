//! Reading by system calls, where the kernel refuses the mapping: compared with the system calls alone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libbpf_rs::MapCore;
use mapring::{Access, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{Lookup, Run, Sink};
use crate::programs::{Producer, RECORDS, Record, Seen, load};

/// Elements that the library fetches per call.
const BATCH: usize = 64;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    // Without BPF_F_MMAPABLE, which the header sets.
    let skel = load!(produce::ProduceSkelBuilder, |open| open.maps.ours.set_map_flags(0)?);
    let map = &skel.maps.ours;
    let ring = Ring::<Record>::open(map)?;
    ensure!(ring.access() != Access::Mapped, "it was meant to be read by system calls");
    let (geometry, cpu) = (*ring.region().geometry(), *crate::threads::all().last().expect("this one"));

    let records = usize::try_from(RECORDS)?;
    let next_slot = || -> Result<usize> {
        let next = ring.reader_from(Start::Now).position(cpu).context("a shard for this CPU")?;
        Ok(usize::try_from(next)? % geometry.capacity())
    };

    let mut producer = Producer::new(&skel.progs.produce_mapring);
    let mut ours = || {
        let mut reader = ring.reader_from(Start::Now);
        let (_, expected) = producer.run()?;
        let (start, mut seen) = (Instant::now(), Seen::default());
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        let ns = start.elapsed().as_nanos() as f64;
        ensure!(seen == expected && reader.lost() == 0, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    };
    // The same records, without checking whether they are whole.
    let mut producer = Producer::new(&skel.progs.produce_mapring);
    let mut raw = Run::new(map, BATCH)?;
    let mut batches = || {
        let from = next_slot()?;
        let (_, expected) = producer.run()?;
        let (start, mut seen) = (Instant::now(), Seen::default());
        for batch in 0..records / BATCH {
            let slot = (from + batch * BATCH) % geometry.capacity();
            raw.look(geometry.slots(cpu) + slot)?;
            for element in raw.values.chunks_exact(geometry.element_words()) {
                seen.add(element[1..].try_into()?);
            }
        }
        let ns = start.elapsed().as_nanos() as f64;
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    };
    let mut producer = Producer::new(&skel.progs.produce_mapring);
    let lookup = Lookup::new(map)?;
    let mut lookups = || {
        let from = next_slot()?;
        let (_, expected) = producer.run()?;
        let (start, mut seen, mut value) = (Instant::now(), Seen::default(), [0; 8]);
        for record in 0..records {
            let slot = (from + record) % geometry.capacity();
            lookup.look(u32::try_from(geometry.slots(cpu) + slot)?, &mut value)?;
            seen.add(value[1..].try_into()?);
        }
        let ns = start.elapsed().as_nanos() as f64;
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    };
    let [ours, batches, lookups] = interleave(plan, [&mut ours, &mut batches, &mut lookups])?;
    // The kernel copies by `memcpy`, which guarantees no order on any machine. So the library copies three times, and
    // the target includes that.
    report.add([
        Row::new(
            "56 B by the fallback (3 looks at 64 each)",
            &ours,
            "one `LOOKUP_BATCH` of 64, torn or not",
            &batches,
        )
        .target("fallback_batch", 3.1)
        .tried("Three copies are three of the peer's system calls; the rest compares them."),
        Row::new("56 B by the fallback", &ours, "`bpf_map_lookup_elem`, torn or not", &lookups),
    ]);
    ensure!(map.max_entries() as usize == geometry.entries());
    Ok(())
}
