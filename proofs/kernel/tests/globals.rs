//! Global variables by name, in every section, read and written whole.

use mapring_kernel_tests::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Pair {
    first: u32,
    second: u32,
}
mapring::record!(Pair { first, second });

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Large {
    words: Filled<14>,
}

fn run(program: &Runner, n: u64) -> [u64; 4] {
    let mut args = [0, 0, n, 0];
    program.run(&mut args);
    args
}

#[test]
fn variables_of_every_section() {
    let object = &require_bpf!(GLOBALS);
    let program = Runner::new(object, "run");
    let bss = Globals::open_with(section(object, ".bss").unwrap(), OpenOptions::new().write(true)).unwrap();
    let data = Globals::open_with(section(object, ".data").unwrap(), OpenOptions::new().write(true)).unwrap();
    let hot = Globals::open(section(object, ".data.hot").unwrap()).unwrap();
    let rodata =
        Globals::open_with(section(object, ".rodata").unwrap(), OpenOptions::new().write(true)).unwrap();
    for (globals, name) in [(&bss, ".bss"), (&data, ".data"), (&hot, ".data.hot"), (&rodata, ".rodata")] {
        assert_eq!((globals.section(), globals.access()), (name, Access::Mapped));
    }
    assert_eq!((bss.writable(), hot.writable()), (Ok(()), Err(Refusal::NotAsked)));
    assert_eq!(rodata.writable(), Err(Refusal::Frozen));
    assert!(bss.names().contains(&"counted".to_owned()) && hot.names() == ["hot"]);

    let counted = bss.variable::<u64>("counted").unwrap();
    let (heat, limit) = (hot.variable::<u64>("hot").unwrap(), rodata.variable::<u32>("limit").unwrap());
    assert_eq!((counted.get().unwrap(), heat.get().unwrap(), limit.get().unwrap()), (0, 5, 42));
    run(&program, 0);
    assert_eq!((counted.get().unwrap(), heat.get().unwrap()), (1, 47));
    assert_eq!(data.variable::<i64>("threshold").unwrap().get().unwrap(), 7);
    assert_eq!(data.variable::<u32>("mode").unwrap().get().unwrap(), 1);
    assert_eq!(data.variable::<f64>("unused").unwrap().get().unwrap(), 0.5);
    assert_eq!(data.variable::<Pair>("pair").unwrap().get().unwrap(), Pair { first: 3, second: 4 });

    // Programs see the written value, and neighbouring variables stay.
    bss.variable::<u32>("small").unwrap().set(0xdead_beef).unwrap();
    bss.variable::<u8>("byte").unwrap().set(0x7f).unwrap();
    assert_eq!(run(&program, 0)[..2], [0xdead_beef, 0x7f]);
    for neighbour in ["small_left", "small_right"] {
        assert_eq!(bss.variable::<u32>(neighbour).unwrap().get().unwrap(), 2, "{neighbour}");
    }
    for neighbour in ["bytes_left", "bytes_right"] {
        assert_eq!(bss.variable::<u8>(neighbour).unwrap().get().unwrap(), 2, "{neighbour}");
    }
    says(limit.set(1).unwrap_err(), &["frozen"]);
    says(heat.set(1).unwrap_err(), &["OpenOptions::write"]);
    assert_eq!((limit.get().unwrap(), heat.get().unwrap()), (42, 89));

    // A cell from the program, a latch from userspace.
    let cell = bss.cell::<Large>("cell").unwrap();
    assert_eq!(cell.snapshot().unwrap(), Snapshot { version: 2, value: Large { words: words_of(2) } });
    let latch = bss.latch::<Large>("latch").unwrap();
    assert!(latch.set(&Large { words: words_of(77) }).unwrap());
    let [.., n, whole] = run(&program, 0);
    assert_eq!((n, whole), (u64::from(words_of::<1>(77)[0]), 1));
    assert_eq!(latch.snapshot().unwrap(), Snapshot { version: 1, value: Large { words: words_of(77) } });
    assert!(cell.set(&Large { words: words_of(5) }).unwrap());
    assert_eq!(cell.read().unwrap(), Large { words: words_of(5) });
}

#[test]
fn any_way_in() {
    let object = &require_bpf!(GLOBALS);
    let bss = map(object, "globals_.bss");
    run(&Runner::new(object, "run"), 0);
    let pins = PinDir::new();
    MapHandle::try_from(&bss).unwrap().pin(pins.path("bss")).unwrap();
    let looked_up = Globals::open(read_only(&bss)).unwrap();
    assert_eq!(looked_up.access(), Access::Syscall(Refusal::ReadOnlyFd));
    for globals in [
        Globals::open(pins.path("bss")).unwrap(),
        Globals::open(Source::id(bss.info().unwrap().info.id)).unwrap(),
        Globals::open(bss.as_fd().try_clone_to_owned().unwrap()).unwrap(),
        Globals::open_with(&bss, OpenOptions::new()).unwrap(),
        looked_up.clone(),
    ] {
        assert_eq!(globals.section(), ".bss");
        assert_eq!(globals.variable::<u64>("counted").unwrap().get().unwrap(), 1);
        assert_eq!(globals.variable::<u8>("bytes_left").unwrap().get().unwrap(), 1);
        let right = Snapshot { version: 1, value: Large { words: words_of(1) } };
        assert_eq!(globals.cell::<Large>("cell").unwrap().snapshot().unwrap(), right);
        // Of a type that is not known.
        let any = globals.any_cell::<4>("cell").unwrap().snapshot().unwrap();
        assert_eq!((any.version, any.value.bytes(56)), (1, bytemuck::bytes_of(&right.value)));
        assert_eq!(globals.any_latch::<32>("latch").unwrap().read().unwrap().bytes(56), [0; 56]);
        says(globals.any_cell::<3>("cell").unwrap_err(), &["a sequence and 1 times 48"]);
        says(globals.any_cell::<4>("torn").unwrap_err(), &["torn is struct large (56 bytes)"]);
    }
    let refused = looked_up.variable::<u64>("counted").unwrap().set(1).unwrap_err();
    assert!(
        (refused.kind(), refused.refusal()) == (ErrorKind::NotWritable, Some(Refusal::NotAsked)),
        "{refused}"
    );
}

/// Each section by its pin and by its id, opened for writing if allowed.
#[test]
fn every_section_any_way_in() {
    let object = &require_bpf!(GLOBALS);
    let pins = PinDir::new();
    let options = OpenOptions::new().write(true);
    for (at, name) in [".data", ".bss", ".rodata", ".data.hot"].into_iter().enumerate() {
        let map = object
            .maps()
            .find(|map| Globals::open_with(map, options).is_ok_and(|globals| globals.section() == name));
        let map = map.unwrap_or_else(|| panic!("no map of {name}"));
        let pin = pins.path(&format!("section_{at}"));
        MapHandle::try_from(&map).unwrap().pin(&pin).unwrap();
        let by_id = Globals::open_with(Source::id(map.info().unwrap().info.id), options).unwrap();
        let by_name = Globals::open_with(section(object, name).unwrap(), options).unwrap();
        for globals in [Globals::open_with(pin.as_path(), options).unwrap(), by_id, by_name] {
            assert_eq!((globals.section(), globals.access()), (name, Access::Mapped));
            let (frozen, of) = (name == ".rodata", ["threshold", "counted", "limit", "hot"][at]);
            assert_eq!(globals.writable(), if frozen { Err(Refusal::Frozen) } else { Ok(()) }, "{name}");
            if frozen {
                let limit = globals.variable::<u32>(of).unwrap();
                says(limit.set(1).unwrap_err(), &["the map is frozen"]);
                assert_eq!(limit.get().unwrap(), 42);
                continue;
            }
            let variable = globals.variable::<u64>(of).unwrap();
            let next = variable.get().unwrap() + 1;
            variable.set(next).unwrap();
            // All of them are the same memory.
            let other = Globals::open_with(pin.as_path(), options).unwrap().variable::<u64>(of).unwrap();
            assert_eq!(other.get().unwrap(), next, "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let object = &require_bpf!(GLOBALS);
    let bss = Globals::open(section(object, ".bss").unwrap()).unwrap();
    let data = Globals::open(section(object, ".data").unwrap()).unwrap();
    says(section(object, ".data.cold").unwrap_err(), &["no section .data.cold", ".data.hot"]);
    says(
        bss.variable::<u64>("missing").unwrap_err(),
        &["no variable missing in .bss", "counted", "small_left"],
    );
    says(
        bss.variable::<u32>("counted").unwrap_err(),
        &["counted is unsigned long long", "(8 bytes) in C", "an integer of 4 bytes in Rust"],
    );
    says(data.variable::<u64>("unused").unwrap_err(), &["is double (8 bytes)", "an integer of 8 bytes"]);
    says(data.variable::<[u16; 4]>("pair").unwrap_err(), &["struct pair (8 bytes)", "4 times"]);
    says(bss.variable::<Large>("torn").unwrap_err(), &["1, 2, 4 or 8 bytes", "MAPRING_GLOBAL_CELL"]);
    says(
        bss.cell::<Large>("torn").unwrap_err(),
        &["torn is struct large (56 bytes)", "a sequence and 1 times 56"],
    );
    says(bss.latch::<Large>("cell").unwrap_err(), &["a sequence and 2 times 56"]);
    says(bss.cell::<Pair>("cell").unwrap_err(), &["cell.first", "no such field"]);
    says(
        Globals::open_with(&map(object, "ring"), OpenOptions::new()).unwrap_err(),
        &["an array without variables in its BTF", "expected global data"],
    );
    says(
        Globals::open_with(&map(object, "percpu"), OpenOptions::new()).unwrap_err(),
        &["percpu_array", "expected global data"],
    );
}

/// A program writes the cell and its own variables at full speed, and this process writes its variables between them:
/// no value is torn, no increment is lost.
#[test]
fn nothing_is_torn_and_no_neighbour_is_lost() {
    let object = &require_bpf!(GLOBALS);
    let program = Runner::new(object, "stream");
    let bss = Globals::open_with(section(object, ".bss").unwrap(), OpenOptions::new().write(true)).unwrap();
    let cell = bss.cell::<Large>("cell").unwrap();
    let (small, byte) = (bss.variable::<u32>("small").unwrap(), bss.variable::<u8>("byte").unwrap());
    let stop = AtomicBool::new(false);
    let mut rounds = 0_u64;
    std::thread::scope(|scope| {
        let stop_at_end = Stop(&stop);
        let writer = scope.spawn(|| {
            on_cpu(*cpus().last().unwrap());
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                run(&program, 1000);
                rounds += 1;
            }
            rounds
        });
        let (mut version, mut changes, mut turn) = (0, 0, 0_u32);
        while changes < 10_000 {
            turn = turn.wrapping_add(1);
            small.set(turn).unwrap();
            byte.set(turn.to_ne_bytes()[0]).unwrap();
            assert_eq!((small.get().unwrap(), byte.get().unwrap()), (turn, turn.to_ne_bytes()[0]));
            match cell.snapshot() {
                Ok(Snapshot { version: 0, .. }) | Err(ReadError::Busy { .. }) => {}
                Ok(now) => {
                    assert!(now.version >= version);
                    assert_eq!(now.value.words, words_of(now.version - 1));
                    changes += u32::from(now.version > version);
                    version = now.version;
                }
                Err(e) => panic!("{e}"),
            }
        }
        drop(stop_at_end);
        rounds = writer.join().unwrap();
    });
    let total = rounds * 1000;
    let low = |total: u64| (total.to_le_bytes(), u32::try_from(total & 0xffff_ffff).unwrap());
    for neighbour in ["small_left", "small_right"] {
        assert_eq!(bss.variable::<u32>(neighbour).unwrap().get().unwrap(), low(total).1, "{neighbour}");
    }
    for neighbour in ["bytes_left", "bytes_right"] {
        assert_eq!(bss.variable::<u8>(neighbour).unwrap().get().unwrap(), low(total).0[0], "{neighbour}");
    }
    assert_eq!(cell.snapshot().unwrap().version, total);
}
