//! Scenarios over memfds.

use std::os::fd::AsFd;

use mapring::{Cells, Counters, Latches, OpenOptions, Region, Ring};

use super::{Act, Scenario, scenario};

pub(super) const ALL: &[Scenario] = &[
    scenario("memfd-create", || Box::new(|| Ok(create()?.1))),
    scenario("memfd-open", || {
        let (region, _) = create().expect("memory");
        let fd = region.as_fd().try_clone_to_owned().expect("a descriptor");
        Box::new(move || {
            let ring = Ring::<[u64; 3]>::open(fd)?;
            Ok(format!("{:?}", ring.reader().drain().map(|event| event.record).collect::<Vec<_>>()))
        })
    }),
    scenario("memfd-write", || {
        let (region, _) = create().expect("memory");
        let fd = region.as_fd().try_clone_to_owned().expect("a descriptor");
        Box::new(move || {
            let ring = Ring::<[u64; 3]>::from_region(OpenOptions::new().write(true).open(fd)?)?;
            let ticket = ring.writer(0)?.push(&[3; 3]);
            Ok(format!("{ticket:?} {}", ring.reader().drain().count()))
        })
    }),
    scenario("memfd-seal", || {
        let (region, _) = create().expect("memory");
        let fd = region.as_fd().try_clone_to_owned().expect("a descriptor");
        Box::new(move || {
            region.seal_future_writes()?;
            let other = OpenOptions::new().write(true).open(fd)?;
            // A writable mapping refused for another reason would be a different result.
            Ok(format!("{:?}", other.writable().is_err()))
        })
    }),
    scenario("memfd-kinds", values),
];

/// A ring of two records, and what a reader gets from it.
fn create() -> mapring::Result<(Region, String)> {
    let ring = Ring::<[u64; 3]>::create_memfd(8, 1)?;
    let writer = ring.writer(0)?;
    for n in 0..2 {
        writer.push(&[n; 3]);
    }
    let read: Vec<_> = ring.reader().drain().map(|event| event.record).collect();
    Ok((ring.region().clone(), format!("{read:?}")))
}

fn values() -> Act {
    Box::new(|| {
        let cells = Cells::<[u64; 3]>::create_memfd(2)?;
        cells.writer()?.set(1, &[7; 3])?;
        let latches = Latches::<[u64; 3]>::create_memfd(2)?;
        latches.writer()?.set(1, &[8; 3])?;
        let counters = Counters::create_memfd(2, 2)?;
        counters.writer(1)?.add(1, 9)?;
        Ok(format!("{:?} {:?} {}", cells.read(1)?, latches.read(1)?, counters.sum(1)?))
    })
}
