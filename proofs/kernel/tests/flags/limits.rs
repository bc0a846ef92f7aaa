//! Properties that no map can have, with any flags: keys, values, nodes; and ways in which no map can be mapped.

use std::fmt::Write;

use libbpf_rs::libbpf_sys::{
    BPF_F_CLONE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, BPF_F_NUMA_NODE, BPF_F_RDONLY, BPF_F_STACK_BUILD_ID,
    BPF_F_WRONLY, BPF_F_ZERO_SEED,
};
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::{RawMap, SysResult};
use rustix::mm::{MapFlags, ProtFlags};

use crate::kernel::Kernel;

/// The largest value before Linux 6.0, in bytes: the size of one kernel allocation.
const OLD_VALUE: u32 = 4 << 20;
/// The largest value since then.
const VALUE: u32 = i32::MAX as u32;
/// The largest per-CPU value: the smallest unit of the per-CPU allocator.
const PER_CPU_VALUE: u32 = 32 << 10;

pub(crate) fn text(kernel: &Kernel) -> String {
    let array = |value| RawMap::array(value, 1, BPF_F_MMAPABLE);
    let made = |map: RawMap| map.make().map(drop);
    let refused = |maps: &[RawMap]| {
        let all: Vec<SysResult> = maps.iter().map(|map| made(*map)).collect();
        assert!(all[0].is_err() && all.iter().all(|result| *result == all[0]), "{maps:?}: {all:?}");
        raw::errno(all[0].unwrap_err())
    };
    let keys = refused(&[0, 2, 8].map(|key| RawMap { key, ..array(8) }));
    let nothing = refused(&[array(0), RawMap { entries: 0, ..array(8) }]);
    let too_large = refused(&[array(VALUE + 1)]);
    assert_eq!(made(array(OLD_VALUE)), Ok(()));
    let larger = made(array(OLD_VALUE + 1));
    if kernel.before(6, 0) {
        assert_eq!(larger.map_err(raw::errno), Err(too_large.clone()));
    } else {
        assert_eq!((larger, made(array(64 << 20))), (Ok(()), Ok(())));
    }
    let per_cpu = |value| RawMap { ty: MapType::PercpuArray, ..RawMap::array(value, 1, 0) };
    assert_eq!(made(per_cpu(PER_CPU_VALUE)), Ok(()));
    let no_copies = made(per_cpu(PER_CPU_VALUE + 1)).unwrap_err();
    // Some kernels return the error at once, others only when they run out of memory.
    assert!([libc::E2BIG, libc::ENOMEM].contains(&no_copies), "{no_copies}");
    let node = refused(&[7, 1000].map(|node| RawMap { flags: BPF_F_NUMA_NODE, node, ..array(8) }));

    let both = refused(&[RawMap { flags: BPF_F_RDONLY | BPF_F_WRONLY, ..array(8) }]);
    // Flags in `linux/bpf.h` for other maps, at the time when arrays got their last one.
    let others = [BPF_F_NO_PREALLOC, BPF_F_NO_COMMON_LRU, BPF_F_STACK_BUILD_ID, BPF_F_ZERO_SEED, BPF_F_CLONE]
        .map(|flags| RawMap { flags, ..array(8) });
    let others = refused(&others);

    let map = array(8).make().unwrap();
    let (read, shared) = (ProtFlags::READ, MapFlags::SHARED);
    let way = |offset, protection, flags| raw::map_as(&map, offset, protection, flags);
    let private = raw::errno(way(0, read, MapFlags::PRIVATE).expect_err("refused"));
    let beyond = raw::errno(way(4096, read, shared).expect_err("refused"));
    // A property of all anonymous files, which stable kernels got later.
    let executable = way(0, read | ProtFlags::EXEC, shared);
    assert!(executable == Err(libc::EPERM) || executable == Ok(()) && kernel.before(6, 16));
    let busy = {
        let _writable = memmap2::MmapOptions::new().len(8).map_raw(&map).unwrap();
        raw::errno(raw::freeze(&map).expect_err("refused"))
    };
    let delete = raw::errno(raw::delete(&map, 0).expect_err("refused"));

    let mut text = String::from("Whatever the flags:\n\n| what | refused |\n|---|---|\n");
    for (what, errno) in [
        ("`RDONLY` with `WRONLY`", both),
        ("flags of other maps", others),
        ("keys of other than 4 bytes", keys),
        ("values of 0 bytes, or no values", nothing),
        (&format!("values of more than {VALUE} bytes; before Linux 6.0 more than {OLD_VALUE}"), too_large),
        (&format!("values of a `PERCPU_ARRAY` of more than {PER_CPU_VALUE} bytes"), "E2BIG or ENOMEM".into()),
        ("a node that does not exist", node),
        ("mapping it `MAP_PRIVATE`", private),
        ("mapping it `PROT_EXEC`, since Linux 6.16 and in some before", "EPERM".into()),
        ("mapping pages beyond its end", beyond),
        ("freezing a map that a process has mapped for writing", busy),
        ("deleting an element, by userspace or by programs", delete),
    ] {
        writeln!(text, "| {what} | {errno} |").unwrap();
    }
    text
}
