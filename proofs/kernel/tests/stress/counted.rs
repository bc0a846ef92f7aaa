//! The programs' own counts in `bpf/stress.bpf.c`, independent of the library.

use mapring_kernel_tests::prelude::*;

/// The rings' slots, in the programs' numbering of the rings.
pub(crate) const SLOTS: [u64; 4] = [1, 2, 4, 4096];
/// The indices of the two cells' counts, of the three counters', and of the programs' own latch's.
const CELLS: u32 = 4;
const COUNTERS: u32 = 6;
const LATCH: u32 = 9;
/// Tickets that the programs keep track of, for each ring and CPU.
const WINDOW: usize = 16384;

/// `enum context`: where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    Call,
    Probe,
    Sleeper,
    Switch,
    Softirq,
    Clock,
}

pub(crate) const CONTEXTS: [Context; 6] =
    [Context::Call, Context::Probe, Context::Sleeper, Context::Switch, Context::Softirq, Context::Clock];

/// One number for each context.
type Each = [u64; CONTEXTS.len()];

/// `struct count`, for one CPU.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Count {
    pub(crate) committed: u64,
    pub(crate) discarded: u64,
    pub(crate) dropped: u64,
    pub(crate) doubled: u64,
    pub(crate) nested: u64,
}

/// `struct state`, for one CPU.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct State {
    pub(crate) running: u64,
    pub(crate) claiming: u64,
    pub(crate) runs: Each,
    pub(crate) nested: [Each; CONTEXTS.len()],
    pub(crate) midway: [Each; CONTEXTS.len()],
    pub(crate) looks: Each,
    pub(crate) busy: Each,
    pub(crate) torn: u64,
    pub(crate) back: u64,
    pub(crate) seen: Each,
    pub(crate) begun: u64,
    pub(crate) slow: u64,
    pub(crate) interrupted: u64,
}

/// The counts of one ring, cell, counter or latch, summed over all CPUs.
pub(crate) fn total(object: &Object, index: u32) -> Count {
    per_cpu::<Count>(object, "counts", index).into_iter().fold(Count::default(), |sum, count| Count {
        committed: sum.committed + count.committed,
        discarded: sum.discarded + count.discarded,
        dropped: sum.dropped + count.dropped,
        doubled: sum.doubled + count.doubled,
        nested: sum.nested + count.nested,
    })
}

pub(crate) fn ring(object: &Object, ring: u32, cpu: usize) -> Count {
    per_cpu::<Count>(object, "counts", ring)[cpu]
}

pub(crate) fn cell(object: &Object, cell: u32) -> Count {
    total(object, CELLS + cell)
}

pub(crate) fn counter(object: &Object, counter: u32) -> u64 {
    total(object, COUNTERS + counter).committed
}

/// The number of the programs' writes to their latch.
pub(crate) fn latch(object: &Object) -> u64 {
    total(object, LATCH).committed
}

pub(crate) fn states(object: &Object) -> Vec<State> {
    per_cpu(object, "states", 0)
}

fn per_cpu<T: bytemuck::Pod>(object: &Object, name: &str, index: u32) -> Vec<T> {
    let values = map(object, name).lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    values.iter().map(|value| bytemuck::pod_read_unaligned(&value[..size_of::<T>()])).collect()
}

/// A shard for each CPU, and room for each CPU's data.
pub(crate) fn prepare(object: &mut OpenObject) {
    fitted(object);
    let cpus = u32::try_from(libbpf_rs::num_possible_cpus().unwrap()).unwrap();
    let mut claimed = object.maps_mut().find(|map| map.name() == "claimed").unwrap();
    let each = claimed.max_entries();
    claimed.set_max_entries(each * cpus).unwrap();
}

/// The ticket after the last claimed one, for each ring and CPU: `ends[ring][cpu]`.
pub(crate) fn ends(object: &Object) -> Vec<Vec<u64>> {
    let map = map(object, "claimed");
    let notes: Vec<u64> = map
        .lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY)
        .unwrap()
        .map(|(_, value)| u64::from_ne_bytes(value.try_into().unwrap()))
        .collect();
    assert_eq!(notes.len(), map.max_entries() as usize);
    let last = |ring: usize| move |cpu: &[u64]| cpu[ring * WINDOW..][..WINDOW].iter().copied().max().unwrap();
    let cpus = notes.chunks(SLOTS.len() * WINDOW);
    (0..SLOTS.len()).map(|ring| cpus.clone().map(last(ring)).collect()).collect()
}
