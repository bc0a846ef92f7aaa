//! Several files that declare the same maps: libbpf's linker makes one object of them, and one map of each.

use libbpf_rs::{Linker, ObjectBuilder};
use mapring_kernel_tests::prelude::*;
use mapring_loader::{map, prepare_object};

static FILES: [&[u8]; 2] = [
    include_bytes!(concat!(env!("OUT_DIR"), "/linked_one.bpf.o")),
    include_bytes!(concat!(env!("OUT_DIR"), "/linked_two.bpf.o")),
];

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Event {
    file: u64,
    number: u64,
}

#[test]
fn two_files_write_the_same_maps() {
    require_bpf!();
    on_one_cpu();
    let linked = std::env::temp_dir().join(format!("mapring-linked-{}.bpf.o", std::process::id()));
    let mut linker = Linker::new(&linked).unwrap();
    FILES.iter().for_each(|file| linker.add_buf(file).unwrap());
    linker.link().unwrap();
    let mut object = ObjectBuilder::default().open_file(&linked).unwrap();
    std::fs::remove_file(&linked).unwrap();
    prepare_object(&mut object).unwrap();
    let object = object.load().unwrap();
    initialize_object(&object).unwrap();

    let mut ring = Ring::<Event>::open(map(&object, "ring").unwrap()).unwrap().reader();
    let mut kept = Ring::<Event>::open(map(&object, "kept").unwrap()).unwrap().reader();
    let mut tailed = Ring::<Event>::open(map(&object, "tailed").unwrap()).unwrap().reader();
    let counters = Counters::open(map(&object, "counters").unwrap()).unwrap();
    kept.bell().expect("its maps of readers and bells are linked too");
    Runner::new(&object, "one").run(&mut [0]);
    Runner::new(&object, "two").run(&mut [0]);

    let events = [1, 2].map(|file| Event { file, number: 7 });
    assert_eq!(ring.drain().map(|event| event.record).collect::<Vec<_>>(), events);
    assert_eq!(kept.drain().map(|event| event.record).collect::<Vec<_>>(), events);
    for event in events {
        let read = tailed.poll().unwrap();
        assert_eq!((read.record, read.tail), (event, &event.file.to_ne_bytes()[..]));
    }
    assert_eq!(counters.sum(1).unwrap(), 2);
    let globals = Globals::open(section(&object, ".bss").unwrap()).unwrap();
    assert_eq!(globals.cell::<Event>("latest").unwrap().read().unwrap(), events[1]);
}
