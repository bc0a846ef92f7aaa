//! Splits a budget of memory over groups of events.

use anyhow::{Context, Result, bail};
use mapring::abi::{Geometry, Kind, Tails};
use mapring_kit::output::bytes;

use crate::rings::Group;

/// The ring of a group, for each CPU with 2^`log2` slots.
#[derive(Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) group: &'static Group,
    pub(crate) log2: u32,
    pub(crate) bytes: u64,
}

impl Planned {
    fn new(group: &'static Group, log2: u32, cpus: usize) -> Result<Self> {
        let shape = Self::shape(group, 1 << log2, cpus as u64)
            .with_context(|| format!("a ring of {} for {cpus} CPUs", group.name))?;
        Ok(Self { group, log2, bytes: shape.bytes() as u64 })
    }

    fn shape(group: &Group, slots: u64, cpus: u64) -> Result<Geometry> {
        /// As in `bpf/stacks.bpf.c`.
        const LONGEST: u64 = 65 * 8 + 127 * 32;
        if !group.has_stacks {
            return Ok(Geometry::new(Kind::Ring, group.record as u64, slots, cpus)?);
        }
        let record = (group.record + Tails::PREFIX) as u64;
        let ring = Geometry::new(Kind::Ring, record, slots, cpus)?;
        Ok(ring.with_tails(Tails::new(LONGEST, slots * 512)?)?)
    }
}

/// The largest rings that fit into `budget` together, nearly in the proportion of their weights. `log2` has the numbers
/// of slots that are possible for a group.
///
/// # Errors
/// With the numbers, if the budget is too small for the smallest rings.
pub(crate) fn split(
    budget: u64,
    groups: &[&'static Group],
    cpus: usize,
    log2: impl Fn(&Group) -> std::ops::RangeInclusive<u32>,
) -> Result<Vec<Planned>> {
    let smallest = groups.iter().map(|group| Planned::new(group, *log2(group).start(), cpus));
    let mut rings = smallest.collect::<Result<Vec<_>>>()?;
    let total = |rings: &[Planned]| rings.iter().map(|ring| ring.bytes).sum::<u64>();
    let least = total(&rings);
    if least > budget {
        bail!(
            "--size {} is too small: {} {} of events on {cpus} possible CPUs need at least {}: give a larger --size{}",
            bytes(budget),
            groups.len(),
            if groups.len() == 1 { "group" } else { "groups" },
            bytes(least.next_multiple_of(1 << 10)),
            if groups.len() == 1 { "" } else { ", or fewer groups with --events" },
        );
    }
    loop {
        let left = budget - total(&rings);
        let larger = rings.iter().enumerate().filter(|(_, ring)| ring.log2 < *log2(ring.group).end());
        let larger = larger.filter_map(|(at, ring)| {
            let larger = Planned::new(ring.group, ring.log2 + 1, cpus).ok()?;
            (larger.bytes - ring.bytes <= left).then_some((at, larger))
        });
        let Some((at, larger)) = larger.min_by_key(|(_, ring)| ring.bytes / ring.group.weight) else {
            return Ok(rings);
        };
        rings[at] = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::super::rings::GROUPS;
    use super::*;

    #[test]
    fn a_budget_is_nearly_used_up_and_never_exceeded() {
        let all: Vec<_> = GROUPS.iter().filter(|group| !group.has_stacks).collect();
        for cpus in [1, 2, 24, 512] {
            for budget in [64 << 20, 100 << 20, 1 << 30] {
                let rings = split(budget, &all, cpus, |_| 8..=22).unwrap();
                let total: u64 = rings.iter().map(|ring| ring.bytes).sum();
                assert!(total <= budget && rings.len() == all.len());
                let full = rings.iter().all(|ring| ring.log2 == 22);
                assert!(full || total > budget / 2, "{total} of {budget} on {cpus} CPUs");
            }
        }
    }

    #[test]
    fn one_group_gets_all() {
        let rings = split(64 << 20, &[&GROUPS[0]], 2, |_| 8..=22).unwrap();
        assert_eq!((rings.len(), rings[0].log2), (1, 19)); // 2 × 2^19 × 48 bytes = 48 MiB
    }

    #[test]
    fn too_little_is_refused_with_the_numbers() {
        let all: Vec<_> = GROUPS.iter().filter(|group| !group.has_stacks).collect();
        let refused = split(64 << 10, &all, 2, |_| 8..=22).map(|_| ()).unwrap_err().to_string();
        assert!(
            refused.starts_with("--size 64K is too small: 7 groups of events on 2 possible CPUs"),
            "{refused}"
        );
    }
}
