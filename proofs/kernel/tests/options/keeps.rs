//! Rings that keep their oldest records while a reader is required, and readers that hold programs back for too long.

use mapring::abi::readers::SEATS;

use super::*;

/// Runs `test` for each ring that keeps its oldest records, with a reader that is required, on one CPU.
fn for_each_keeping(lease: Duration, test: impl Fn(&Subject<'_>, &Ring<Rec>, Reader<Rec>)) {
    for_each_ring(|ring, options| {
        if options.keeps_oldest() {
            on_cpu(cpus()[0]);
            let handle = ring.open();
            let mut reader = handle.reader_from(Start::Now);
            assert!(!reader.is_required());
            reader.require(lease).unwrap();
            test(ring, &handle, reader);
        }
    });
}

#[test]
fn required_readers_alone_hold_programs_back_and_the_slowest_of_them_counts() {
    require_bpf!();
    for_each_keeping(FOREVER, |ring, handle, mut reader| {
        let (cpu, before) = (cpus()[0], reader.stats().full);
        let mut observer = handle.reader_from(Start::Now);
        assert!(reader.is_required() && !observer.is_required());
        assert_eq!((ring.push(1000, 100), ring.push(2000, 1)), (SLOTS, 0), "{}", ring.name);
        // An observer does not hold programs back, nor do its reads help.
        assert_eq!(read(&mut observer).len() as u64, SLOTS);
        assert_eq!(ring.push(2000, 1), 0, "{}: still full", ring.name);
        let oldest: Vec<_> = (1000..1000 + SLOTS).map(|n| (cpu, n)).collect();
        assert_eq!(read(&mut reader), oldest, "{}: the oldest, in order", ring.name);
        assert_eq!((reader.lost(), reader.stats().full - before), (0, 100 - SLOTS + 2), "{}", ring.name);
        assert!(reader.stats().to_string().contains(" held back by a reader"), "{}", reader.stats());

        let mut slow = handle.reader_from(Start::Now);
        slow.require(FOREVER).unwrap();
        for n in 0..SLOTS {
            assert_eq!(ring.push(n, 1), 1, "{}", ring.name);
            assert_eq!(read(&mut reader), [(cpu, n)]);
        }
        assert_eq!(ring.push(0, 1), 0, "{}", ring.name);
        drop(slow);
        assert_eq!((ring.push(0, 2), read(&mut reader).len()), (2, 2), "{}", ring.name);
        drop(reader);
        assert_eq!(ring.push(0, 200), 200, "{}", ring.name);
    });
}

#[test]
fn any_way_of_reading_tells_programs_how_far() {
    require_bpf!();
    for_each_keeping(FOREVER, |ring, handle, mut reader| {
        let eighth = usize::try_from(SLOTS).unwrap() / 8 + 2;
        assert_eq!((ring.push(0, SLOTS), ring.push(0, 1)), (SLOTS, 0), "{}", ring.name);
        assert_eq!(reader.for_each(1, |_| ()), 1);
        assert_eq!(ring.push(0, 2), 1, "{}: there is room for one", ring.name);
        // In the midst of a long read, programs go on.
        let mut more = 0;
        reader.for_each(2 * eighth, |_| more += ring.push(0, 1));
        assert!(more > 0, "{}", ring.name);
        assert!(reader.drain().take(2 * eighth).map(|_| ring.push(0, 1)).sum::<u64>() > 0, "{}", ring.name);
        while reader.poll().is_some() {}
        let polled = (0..1000).take_while(|n| ring.push(*n, 1) == 1 && reader.poll().is_some());
        assert_eq!(polled.count(), 1000, "{}: nothing is dropped while it keeps up", ring.name);
        assert!(reader.poll().is_none() && reader.lost() == 0, "{}", ring.name);

        let mut merged = reader.merged(|rec| rec.n);
        for _ in 0..10 {
            assert_eq!(ring.push(0, SLOTS), SLOTS, "{}", ring.name);
            // A tail is read when its record is delivered, so the next call tells programs of the last ones.
            let found = [(); 2].map(|()| merged.for_each(usize::MAX, |_| ()) as u64);
            assert_eq!(found, [SLOTS, 0], "{}", ring.name);
        }
        drop(merged);
        if ring.never_abandons() {
            return;
        }
        // A record that no program ends is passed after the reader's patience, and programs go on.
        let mut reader = handle.reader_from(Start::Now).with_patience(Duration::ZERO);
        reader.require(FOREVER).unwrap();
        assert_eq!(ring.write(0, 1, ABANDON), 1);
        while reader.poll().is_some() {}
        for _ in 0..2 {
            assert_eq!(
                ring.push(7, SLOTS),
                SLOTS - 1,
                "{}: all but the slot that is still being written",
                ring.name
            );
            assert_eq!(read(&mut reader).len() as u64, SLOTS - 1, "{}", ring.name);
        }
        assert_eq!((reader.stats().skipped, reader.lost()), (1, 1), "{}", ring.name);
    });
}

#[test]
fn a_reader_that_holds_programs_back_for_longer_than_its_lease_loses_its_seat() {
    require_bpf!();
    let lease = Duration::from_millis(20);
    for_each_keeping(lease, |ring, handle, mut reader| {
        let longer = || thread::sleep(Duration::from_millis(50));
        // It sleeps for longer than its lease, and nothing happens: it does not hold anything back.
        longer();
        assert_eq!(ring.push(0, SLOTS), SLOTS, "{}", ring.name);
        assert!(reader.is_required());
        let [known] = handle.readers().unwrap()[..] else { panic!("one reader") };
        let behind = known.required.unwrap();
        assert_eq!(
            (known.pid, known.alive, known.asleep),
            (std::process::id(), true, false),
            "{}",
            ring.name
        );
        assert_eq!((behind.lease, behind.unread, behind.holds), (lease, SLOTS, None), "{}", ring.name);
        // Now it does, but for less than its lease if it reads in time, again and again.
        assert_eq!(ring.push(100, 1), 0, "{}", ring.name);
        assert!(handle.readers().unwrap()[0].required.unwrap().holds.is_some(), "{}", ring.name);
        assert_eq!(read(&mut reader).len() as u64, SLOTS);
        longer();
        assert_eq!(ring.push(200, SLOTS + 1), SLOTS, "{}: the lease runs from here", ring.name);
        assert!(reader.is_required() && reader.take_error().is_none());
        // It does not.
        longer();
        assert_eq!(ring.push(300, 10), 10, "{}", ring.name);
        assert!(!reader.is_required());
        let found = read(&mut reader);
        assert_eq!(found.last(), Some(&(cpus()[0], 309)), "{}: {found:?}", ring.name);
        assert_eq!(reader.lost() + found.len() as u64, SLOTS + 10, "{}: {}", ring.name, reader.stats());
        assert_eq!(reader.take_error().unwrap().kind(), ErrorKind::LeaseEnded, "{}", ring.name);
        assert!(reader.take_error().is_none());
        assert_eq!(handle.readers().unwrap()[0].required, None, "{}", ring.name);

        reader.require(FOREVER).unwrap();
        assert_eq!(ring.push(400, 100), SLOTS, "{}", ring.name);
        assert_eq!(read(&mut reader).first(), Some(&(cpus()[0], 400)), "{}", ring.name);
    });
}

#[test]
fn no_more_readers_than_seats_can_be_required() {
    require_bpf!();
    for_each_keeping(FOREVER, |ring, handle, reader| {
        drop(reader);
        let mut readers: Vec<_> = (0..SEATS).map(|_| handle.reader_from(Start::Now)).collect();
        for reader in &mut readers {
            reader.require(FOREVER).unwrap();
            reader.require(Duration::from_secs(1)).unwrap(); // a second time: another lease
        }
        let mut one_more = handle.reader_from(Start::Now);
        let error = one_more.require(FOREVER).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSeat, "{}: {error}", ring.name);
        says(error, &["64 readers"]);
        assert_eq!(handle.readers().unwrap().len(), SEATS, "{}", ring.name);
        readers.pop();
        one_more.require(FOREVER).unwrap();
    });
}

#[test]
fn rings_of_one_slot_and_rings_in_a_memfd() {
    let object = &require_bpf!(KEEP);
    let error = Ring::<[u64; 2]>::create_memfd(8, 1).unwrap().reader().require(FOREVER).unwrap_err();
    assert_error::<()>(Err(error), ErrorKind::NotKeepOldest, "MemfdOptions::keep_oldest");
    // Records of one byte, one slot.
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "publish_small");
    let publish = |n: u64| {
        let mut args = [n, 0];
        program.run(&mut args);
        args[1] >> 32
    };
    let mut small = Ring::<u8>::open(&map(object, "small")).unwrap().reader();
    small.require(FOREVER).unwrap();
    for n in 0..3 {
        assert_eq!((publish(n), publish(n)), (1, 0));
        assert_eq!(small.poll().map(|event| u64::from(event.record)), Some(n));
        assert!(small.poll().is_none());
    }
    assert_eq!(small.stats().full, 3);
}
