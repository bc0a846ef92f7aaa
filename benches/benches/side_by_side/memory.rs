//! What an open ring and a reader take, beside the region itself.

use std::fs;

use anyhow::{Context, Result, ensure};
use mapring::{Reader, Ring};
use mapring_benches::{Plan, Report};
use serde_json::json;

use crate::programs::{Record, load};

/// Beside the region: what the project promises.
const LIMIT: usize = 64 << 10;
/// Opened at once, so that what is shared between them and rounding do not hide what each takes.
const MANY: usize = 16;

pub(crate) fn run(_: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let open = || -> Result<(Ring<Record>, Reader<Record>)> {
        let ring = Ring::open(&skel.maps.ours)?;
        let reader = ring.reader();
        Ok((ring, reader))
    };
    // What is allocated once for the whole process is not the reader's.
    drop(open()?);
    let (heap, private, mapped) = (heap(), status("RssAnon")?, status("VmSize")?);
    let opened = (0..MANY).map(|_| open()).collect::<Result<Vec<_>>>()?;
    let each = |after: usize, before: usize| after.saturating_sub(before) / MANY;
    let (heap, private, mapped) =
        (each(self::heap(), heap), each(status("RssAnon")?, private), each(status("VmSize")?, mapped));
    let region = opened[0].0.region().geometry().bytes();
    let beside = heap.max(private).max(mapped.saturating_sub(region.next_multiple_of(4096)));
    println!(
        "memory: a ring of {region} B and its reader map {mapped} B and take {heap} B of heap ({private} B \
         more of private pages): {beside} B beside the region, at most {LIMIT} B allowed"
    );
    report.note(
        "memory",
        json!({ "region": region, "mapped": mapped, "heap": heap, "private": private, "beside": beside,
                "limit": LIMIT, "met": beside <= LIMIT }),
    );
    ensure!(mapped >= region, "{mapped} B mapped for a region of {region} B");
    Ok(())
}

/// Bytes that this process has from malloc, C libraries included.
fn heap() -> usize {
    // SAFETY: it takes no arguments and returns numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// A number of bytes in /proc/self/status.
fn status(field: &str) -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).with_context(|| format!("no {field}"))?;
    Ok(kib.trim().parse::<usize>()? << 10)
}
