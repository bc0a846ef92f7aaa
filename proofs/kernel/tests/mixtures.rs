//! Values of several cache lines, written by a program on one CPU while others read them: mapped, by system call, and
//! by a program. Every word of a value is its number, so that a torn value is always detected.

use mapring_kernel_tests::prelude::*;

/// Whether the programs can be loaded. Prints a skip if not.
fn can_be_loaded(test: &str) -> bool {
    let can = kernel() >= (6, 12);
    if !can {
        skipped(
            test,
            "the verifier gives up on programs that fill 4095 bytes one by one: seen on 6.1, not on 6.12",
        );
    }
    can
}

fn writers_cpu() -> usize {
    *cpus().last().unwrap()
}

/// Runs `program` on the last CPU in bursts of `many` values, until `read`, on the first CPU, returns `true`. Returns
/// the number of values written.
fn beside(program: &Runner, many: u64, pause: Duration, mut read: impl FnMut() -> bool) -> u64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            on_cpu(writers_cpu());
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut args = [0, many, n, 0];
                program.run(&mut args);
                assert!(args[3] > 0 || many == 0, "nothing was written");
                n += args[3];
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
            n
        });
        let stop_at_end = Stop(&stop);
        on_cpu(cpus()[0]);
        while !read() && !writer.is_finished() {}
        drop(stop_at_end);
        writer.join().unwrap()
    })
}

/// Whether writers and readers can run in the middle of each other's work. Prints a skip if not.
fn can_meet(test: &str) -> bool {
    let why_not = if cpus().len() < 2 {
        "with one CPU readers hardly ever meet a writer"
    } else if std::env::var_os("MAPRING_CPUS_TAKE_TURNS").is_some() {
        "the emulator runs one CPU at a time, and seldom leaves it in the midst of a copy"
    } else {
        return true;
    };
    eprintln!("NOT SHOWN by {test}: {why_not}");
    false
}

/// A region, mapped and by system call.
fn both(object: &Object, name: &str) -> [Region; 2] {
    let map = map(object, name);
    let mapped = Region::open(&map).unwrap();
    let looked_up = Region::open(read_only(&map)).unwrap();
    assert!(mapped.access() != looked_up.access());
    [mapped, looked_up]
}

fn rings_and_cells<const W: usize>(object: &Object) {
    let meets = can_meet("rings and cells");
    let size = W * 8;
    let program = Runner::new(object, &format!("stream_{size}"));
    let mut rings = both(object, &format!("wide_ring_{size}"))
        .map(|region| Ring::<[u64; W]>::from_region(region).unwrap().reader());
    let cells = both(object, &format!("wide_cells_{size}"))
        .map(|region| Cells::<[u64; W]>::from_region(region).unwrap());
    let (mut reads, mut versions, mut changes, mut busy) = ([0_u64; 2], [0; 2], [0_u64; 2], 0_u64);
    let mut turn = 0_u32;
    // Small bursts with pauses, so that readers by system call get whole values.
    let total = beside(&program, 16, Duration::from_micros(20), || {
        turn += 1;
        for (reader, reads) in rings.iter_mut().zip(&mut reads) {
            let mut check = |ticket: u64, record: &[u64; W]| {
                assert!(*record == [ticket; W], "ticket {ticket} of {size} bytes is a mixture: {record:?}");
                *reads += 1;
            };
            match turn % 3 {
                0 => _ = reader.for_each(64, |event| check(event.ticket, event.record)),
                1 => reader.drain().take(64).for_each(|event| check(event.ticket, &event.record)),
                _ => (0..64).for_each(|_| {
                    if let Some(event) = reader.poll() {
                        check(event.ticket, &event.record);
                    }
                }),
            }
        }
        for ((cells, version), changes) in cells.iter().zip(&mut versions).zip(&mut changes) {
            let found = match cells.snapshot(1) {
                Ok(Snapshot { version: 0, .. }) => continue,
                Ok(found) => found,
                Err(ReadError::Busy { .. }) => {
                    busy += 1;
                    continue;
                }
                Err(e) => panic!("{e}"),
            };
            let Snapshot { version: now, value } = found;
            assert!(value == [now - 1; W], "version {now} of {size} bytes is a mixture: {value:?}");
            assert!(now >= *version);
            *changes += u64::from(now > *version);
            *version = now;
        }
        let met = !meets || rings[0].stats().torn > 0 && rings[0].stats().lapped > 0;
        met && reads.iter().chain(&changes).all(|&count| count > 2000)
    });
    println!(
        "{total} of {size} bytes: {reads:?} records, {changes:?} values, {busy} busy, {:?}",
        rings[0].stats()
    );
}

#[test]
fn rings_and_cells_are_no_mixtures() {
    require_bpf!();
    if !can_be_loaded("rings_and_cells_are_no_mixtures") {
        return;
    }
    let object = &bpf::COPIES.load(fitted);
    rings_and_cells::<25>(object);
    rings_and_cells::<125>(object);
}

/// Reads the whole section three times while the cell and the latch are written.
#[test]
fn global_variables_by_system_call_are_no_mixtures() {
    require_bpf!();
    if !can_be_loaded("global_variables_by_system_call_are_no_mixtures") {
        return;
    }
    can_meet("global variables");
    let object = &bpf::COPIES.load(fitted);
    let bss = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).unwrap();
    let globals = Globals::open(read_only(&bss)).unwrap();
    let mapped = Globals::open_with(&bss, OpenOptions::new().write(true)).unwrap();
    let cell = globals.cell::<[u8; 1000]>("cell_1000").unwrap();
    let [latch, set] = [&globals, &mapped].map(|globals| globals.latch::<[u8; 1000]>("latch_1000").unwrap());
    let words = |value: [u8; 1000]| bytemuck::pod_read_unaligned::<[u64; 125]>(&value);
    let (mut cells, mut latches, mut busy, stop) = (0, 0, 0_u64, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stop_at_end = Stop(&stop);
        scope.spawn(|| {
            on_cpu(writers_cpu());
            for n in 1_u64.. {
                set.set(bytemuck::cast_ref::<[u64; 125], [u8; 1000]>(&[n; 125])).unwrap();
                if n % 4 == 0 {
                    std::thread::sleep(Duration::from_micros(20));
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        beside(&Runner::new(object, "stream"), 4, Duration::from_micros(20), || {
            match cell.snapshot() {
                Ok(Snapshot { version, value }) => {
                    assert!(
                        version == 0 || words(value) == [version - 1; 125],
                        "version {version} of the cell is a mixture"
                    );
                    cells += 1;
                }
                Err(ReadError::Busy { .. }) => busy += 1,
                Err(e) => panic!("{e}"),
            }
            match latch.snapshot() {
                Ok(Snapshot { version, value }) => {
                    assert!(words(value) == [version; 125], "version {version} of the latch is a mixture");
                    latches += 1;
                }
                Err(ReadError::Busy { .. }) => busy += 1,
                Err(e) => panic!("{e}"),
            }
            cells > 3000 && latches > 3000
        });
        drop(stop_at_end);
    });
    println!("{cells} values of the cell, {latches} of the latch, {busy} busy");
}

/// `mapring_cell_read` of a cell that another CPU writes.
#[test]
fn programs_read_no_mixtures() {
    require_bpf!();
    if !can_be_loaded("programs_read_no_mixtures") {
        return;
    }
    if kernel() < (5, 19) {
        eprintln!("NOT SHOWN: programs can't read other CPUs' cells before Linux 5.19");
        return;
    }
    let meets = can_meet("programs");
    let object = &bpf::COPIES.load(fitted);
    let cells = PerCpuCells::<[u8; 1000]>::open(&map(object, "percpu_1000")).unwrap();
    let watch = Runner::new(object, "watch");
    let (mut whole, mut busy) = (0, 0);
    let total = beside(&Runner::new(object, "stream"), 64, Duration::ZERO, || {
        let mut args = [writers_cpu() as u64, 0, 0, 0];
        watch.run(&mut args);
        let [_, overtaken, read, mixtures] = args;
        assert_eq!(mixtures, 0, "beside {read} that were whole");
        (whole, busy) = (whole + read, busy + overtaken);
        whole > 500_000 && (busy > 0 || !meets)
    });
    assert_eq!(cells.region().dropped().unwrap(), 0);
    println!("{total} values: {whole} read, {busy} times too often overtaken");
}
