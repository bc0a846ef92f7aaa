//! NUMA nodes: every page of a map is on the node that its loader requested.

use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::libbpf_sys::BPF_F_NUMA_NODE;
use mapring_kernel_tests::prelude::*;
use mapring_loader::{Prepare, place_on_node};

/// Only one test maps at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nodes of the pages of each map that this process has mapped, by address, if the kernel reports them.
fn mapped() -> Option<BTreeMap<String, Vec<usize>>> {
    let maps = fs::read_to_string("/proc/self/numa_maps").ok()?;
    let node = |word: &str| word.strip_prefix('N')?.split_once('=')?.0.parse().ok();
    let mapping = |line: &str| {
        let (address, rest) = line.split_once(' ')?;
        Some((address.to_owned(), rest.split_whitespace().filter_map(node).collect()))
    };
    Some(maps.lines().filter(|line| line.contains("anon_inode:bpf-map")).filter_map(mapping).collect())
}

/// The nodes of the pages that `map` maps, without earlier mappings (libbpf maps global data).
fn nodes_of_pages<T>(map: impl FnOnce() -> T) -> (T, Option<BTreeSet<usize>>) {
    let before = mapped();
    let held = map();
    let new = mapped().zip(before).map(|(now, before)| {
        let new = now.into_iter().filter(|(address, _)| !before.contains_key(address));
        new.flat_map(|(_, nodes)| nodes).collect()
    });
    if new.is_none() {
        eprintln!("no /proc/self/numa_maps: where the pages are is not looked at");
    }
    (held, new)
}

fn asked(object: &Object, name: &str) -> bool {
    raw::info(map(object, name).as_fd()).map_flags & BPF_F_NUMA_NODE != 0
}

#[test]
fn on_the_node_that_was_asked_for() {
    require_bpf!();
    let _alone = alone();
    for node in online_nodes().unwrap() {
        let object = &bpf::FLAGS.load(|object| {
            without_programs(object);
            Prepare::new().node(node).object(object).unwrap();
        });
        let open = || OpenOptions::new().write(true).open(&map(object, "pairs")).unwrap();
        let (region, nodes) = nodes_of_pages(open);
        let cells = Cells::<[u64; 2]>::from_region(region).unwrap();
        assert!(asked(object, "pairs") && asked(object, "hits"));
        assert!(nodes.is_none_or(|nodes| nodes == [node].into()), "not on node {node} alone");
        assert!(cells.writer().unwrap().set(3, &[node as u64, 1]).unwrap());
        assert_eq!(cells.read(3).unwrap(), [node as u64, 1]);
    }
    // Only one map of an object.
    let last = *online_nodes().unwrap().last().unwrap();
    let object = &bpf::FLAGS.load(|object| {
        without_programs(object);
        place_on_node(&mut object.maps_mut().find(|map| map.name() == "pairs").unwrap(), last).unwrap();
        Prepare::new().object(object).unwrap();
    });
    assert!(asked(object, "pairs") && !asked(object, "hits"));
    let (_pairs, nodes) = nodes_of_pages(|| OpenOptions::new().open(&map(object, "pairs")).unwrap());
    assert!(nodes.is_none_or(|nodes| nodes == [last].into()));
}

#[test]
fn a_node_that_is_not_there() {
    require_bpf!();
    let _alone = alone();
    let beyond = online_nodes().unwrap().last().unwrap() + 1;
    let mut open = bpf::FLAGS.open();
    let refused = Prepare::new().node(beyond).object(&mut open).unwrap_err();
    assert!(refused.to_string().starts_with(&format!("no NUMA node {beyond}: ")), "{refused}");
    let message = refused.to_string();
    assert!(
        message.contains(&format!("no NUMA node {beyond}")) && message.contains("choose one of them"),
        "{message}"
    );
}

/// Each CPU's shard is on its own node, and can't be moved.
#[test]
fn maps_of_each_cpu_have_no_node() {
    require_bpf!();
    let _alone = alone();
    let object = &bpf::PERCPU.load(|object| {
        without_programs(object);
        let refused = place_on_node(&mut object.maps_mut().find(|map| map.name() == "cells_56").unwrap(), 0)
            .unwrap_err();
        assert!(refused.kind() == ErrorKind::WrongType, "{refused}");
        assert!(
            refused.to_string().contains("map cells_56 is a map of type percpu_array, expected "),
            "{refused}"
        );
        Prepare::new().node(0).object(object).unwrap();
    });
    assert!(!asked(object, "cells_56"));
    Region::open(&map(object, "cells_56")).unwrap();
}

/// Maps of maps take only maps with the same flags.
#[test]
fn rings_that_are_replaced_stay_where_they_are() {
    require_bpf!();
    let _alone = alone();
    let object = &bpf::RESIZABLE.load(|object| {
        Prepare::new().node(0).object(object).unwrap();
    });
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    assert!(!asked(object, "numbers__first"));
    ring.resize(128).unwrap();
    assert_eq!(ring.slots(), 128);
}

/// Each shard's pages are on the node of its CPU, whatever node the other maps request.
#[test]
fn shards_on_the_nodes_of_their_cpus() {
    require_bpf!();
    let _alone = alone();
    let object = &bpf::NUMA.load(|object| {
        Prepare::new().node(*online_nodes().unwrap().last().unwrap()).object(object).unwrap();
    });
    let rings = map(object, "numbers");
    let nodes: BTreeSet<_> = {
        let ring = Ring::<Numbered>::open(&rings).unwrap();
        let of = |node| ring.reader_of_node(node, Start::Now).unwrap();
        let nodes = online_nodes().unwrap().into_iter();
        nodes.flat_map(|node| of(node).shards().map(|cpu| (cpu, node)).collect::<Vec<_>>()).collect()
    };
    assert_eq!(nodes.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>(), possible_cpus().unwrap());
    for (cpu, node) in &nodes {
        let no_nodes = !fs::exists("/sys/devices/system/node").unwrap();
        let link = format!("/sys/devices/system/cpu/cpu{cpu}/node{node}");
        assert!(no_nodes || fs::exists(link).unwrap(), "{nodes:?}");
        let key = u32::try_from(*cpu).unwrap().to_ne_bytes();
        let (_shard, on) = nodes_of_pages(|| Region::open(Source::inner(&rings, &key)).unwrap());
        assert!(on.is_none_or(|on| on == [*node].into()), "CPU {cpu}: {nodes:?}");
    }
    let there: BTreeSet<_> = nodes.iter().map(|(_, node)| *node).collect();
    eprintln!("{} shards on the nodes {there:?}", nodes.len());
}
