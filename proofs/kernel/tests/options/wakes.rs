//! Rings that wake their readers: once for each sleep, never too late, and nobody who does not sleep.

use std::os::fd::BorrowedFd;

use mapring::abi::readers::{self, ASLEEP, LOOK, NEVER, SEATS};

use super::*;

/// A word that the readers of a ring share.
fn shared(ring: &Subject<'_>, word: usize) -> u64 {
    let Some(object) = ring.object() else {
        let (handle, mut bytes) = (ring.open(), [0; 8]);
        let (first, _) = readers::in_memfd(handle.region().geometry()).unwrap();
        let at = (first + word) as u64 * 8;
        rustix::io::pread(handle.region().as_fd(), &mut bytes, at).unwrap();
        return u64::from_ne_bytes(bytes);
    };
    word_at(&map(object, &format!("{}__readers", ring.name)), 0, word)
}

/// The readers that sleep, one bit for each.
fn asleep(ring: &Subject<'_>) -> u64 {
    shared(ring, ASLEEP)
}

fn rung(bell: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&NOW)).unwrap() == 1
}

fn has_rung(reader: &mut Reader<Rec>) -> bool {
    rung(reader.bell().unwrap())
}

/// Runs `test` for each ring with bells, with a reader, on one CPU.
fn for_each_with_bells(test: impl Fn(&Subject<'_>, &Ring<Rec>, Reader<Rec>)) {
    for_each_waking(|ring, handle, reader| {
        // Readers of a memfd have no descriptor to ring: they sleep in `Reader::wait` alone.
        if ring.object().is_some() {
            test(ring, handle, reader);
        }
    });
}

/// The same for all rings that wake readers.
fn for_each_waking(test: impl Fn(&Subject<'_>, &Ring<Rec>, Reader<Rec>)) {
    for_each_ring(|ring, options| {
        if options.wakes_readers() {
            on_cpu(cpus()[0]);
            assert_eq!(shared(ring, LOOK) & NEVER, NEVER, "{}: there are no readers", ring.name);
            let handle = ring.open();
            let reader = handle.reader_from(Start::Now);
            test(ring, &handle, reader);
        }
    });
}

fn numbers(reader: &mut Reader<Rec>) -> Vec<u64> {
    read(reader).into_iter().map(|(_, n)| n).collect()
}

#[test]
fn a_reader_is_woken_once_for_each_sleep() {
    require_bpf!();
    for_each_with_bells(|ring, handle, mut reader| {
        let mut other = handle.reader_from(Start::Now);
        ring.push(0, 3);
        assert_eq!(reader.arm(), None, "{}: there are records", ring.name);
        assert_eq!(numbers(&mut reader), [0, 1, 2]);
        assert!(!has_rung(&mut reader) && asleep(ring) == 0, "{}: nobody slept", ring.name);
        for round in 0..100 {
            assert!(reader.arm().is_some(), "{}", ring.name);
            assert_eq!((has_rung(&mut reader), asleep(ring)), (false, 1), "{}", ring.name);
            ring.push(round, 1);
            assert_eq!(
                (has_rung(&mut reader), asleep(ring)),
                (true, 0),
                "{}: rung, and no more from now on",
                ring.name
            );
            ring.push(round + 1, SLOTS - 1);
            assert!(reader.wait(Duration::ZERO).unwrap());
            assert_eq!(numbers(&mut reader), (round..round + SLOTS).collect::<Vec<_>>(), "{}", ring.name);
            assert!(has_rung(&mut reader), "{}: the bell is not silenced before the next sleep", ring.name);
        }
        // Each reader has a bell of its own; a discarded record wakes too, because others may be behind it.
        numbers(&mut other);
        assert!(reader.arm().is_some() && other.arm().is_some(), "{}", ring.name);
        assert_eq!(asleep(ring), 0b11, "{}", ring.name);
        ring.write(0, 1, DISCARD);
        assert!(has_rung(&mut reader) && has_rung(&mut other) && asleep(ring) == 0, "{}", ring.name);
        // One that is gone leaves its seat, and its bell.
        drop(reader);
        assert!(other.arm().is_none(), "{}: a discarded ticket is to be passed", ring.name);
        assert_eq!(numbers(&mut other), []);
        assert!(other.arm().is_some() && asleep(ring) == 0b10, "{}", ring.name);
        drop(other);
        assert_eq!(asleep(ring), 0, "{}", ring.name);
        ring.push(0, 1);
    });
}

#[test]
fn a_merged_reader_is_woken() {
    require_bpf!();
    for_each_with_bells(|ring, _, reader| {
        let mut merged = reader.merged(|rec| rec.n);
        for n in 0..100 {
            assert!(merged.arm().is_some(), "{}", ring.name);
            assert_eq!((rung(merged.bell().unwrap()), asleep(ring)), (false, 1), "{}", ring.name);
            ring.push(n, 1);
            assert!(rung(merged.bell().unwrap()) && asleep(ring) == 0, "{}", ring.name);
            assert!(merged.wait(FOREVER).unwrap());
            assert_eq!(merged.poll().unwrap().record.n, n, "{}", ring.name);
            assert!(merged.poll().is_none());
        }
    });
}

#[test]
fn a_watermark_wakes_for_many_or_for_old_ones() {
    require_bpf!();
    for_each_with_bells(|ring, _, reader| {
        let mut reader = reader.with_watermark(8, FOREVER);
        assert!(reader.arm().is_some(), "{}", ring.name);
        for n in 0..8 {
            assert!(!has_rung(&mut reader), "{}: before record {n}", ring.name);
            ring.push(n, 1);
        }
        assert!(has_rung(&mut reader) && reader.wait(Duration::ZERO).unwrap(), "{}", ring.name);
        assert_eq!(numbers(&mut reader), (0..8).collect::<Vec<_>>(), "{}", ring.name);
        // One that is there before the sleep counts as well.
        ring.push(8, 1);
        assert!(reader.arm().is_some());
        ring.push(9, 6);
        assert!(!has_rung(&mut reader), "{}", ring.name);
        ring.push(15, 1);
        assert!(has_rung(&mut reader) && numbers(&mut reader).len() == 8, "{}", ring.name);

        let mut reader = reader.with_watermark(8, Duration::from_millis(1));
        ring.push(16, 1);
        assert!(reader.wait(FOREVER).unwrap(), "{}: after a millisecond", ring.name);
        assert_eq!(numbers(&mut reader), [16]);
        // More than half a lap is not possible.
        let mut reader = reader.with_watermark(u64::MAX, FOREVER);
        ring.push(0, 40);
        assert!(reader.wait(FOREVER).unwrap(), "{}", ring.name);
    });
}

#[test]
fn a_record_that_is_being_written_holds_a_reader_back_for_its_patience() {
    require_bpf!();
    for_each_waking(|ring, _, reader| {
        if ring.never_abandons() {
            return;
        }
        let mut reader = reader.with_patience(Duration::from_millis(50));
        ring.write(0, 1, ABANDON);
        assert!(!reader.wait(Duration::ZERO).unwrap(), "{}: no ticket has ended", ring.name);
        ring.push(1, 1);
        let started = Instant::now();
        while numbers(&mut reader) != [1] {
            assert!(reader.wait(FOREVER).unwrap());
            assert!(started.elapsed() < FOREVER, "{}: {}", ring.name, reader.stats());
        }
        assert_eq!(reader.stats().skipped, 1, "{}", ring.name);
    });
}

/// A ring is replaced while its readers sleep, by larger and smaller ones: the next record wakes them, in whichever ring it is, and
/// each record is read once, in order.
#[test]
fn a_reader_that_sleeps_is_woken_by_a_record_of_the_ring_that_replaced_its_own() {
    require_bpf!();
    for_each_with_bells(|ring, handle, mut reader| {
        if !handle.options().is_resizable() {
            return;
        }
        let mut many = handle.reader_from(Start::Now).with_watermark(8, FOREVER);
        let mut late = handle.reader_from(Start::Now);
        let mut n = 0;
        for slots in [128, 16, 1024, 8, 64, 32] {
            assert!(reader.arm().is_some() && many.arm().is_some(), "{}", ring.name);
            handle.resize(slots).unwrap();
            assert!(!has_rung(&mut reader) && !has_rung(&mut many) && asleep(ring) == 0b11, "{}", ring.name);
            assert_eq!(ring.push(n, 1), 1);
            let rung = [&mut reader, &mut many].map(has_rung);
            assert_eq!((rung, asleep(ring)), ([true; 2], 0), "{}: {slots} slots", ring.name);
            assert!(reader.wait(FOREVER).unwrap() && many.wait(FOREVER).unwrap(), "{}", ring.name);
            assert_eq!([&mut reader, &mut many].map(numbers), [[n]; 2], "{}: {slots} slots", ring.name);
            n += 1;
            // In the next ring, one waits for many again, as far as there is space for them.
            assert!(many.arm().is_some(), "{}", ring.name);
            assert_eq!(ring.push(n, 2), 2);
            assert!(!has_rung(&mut many), "{}: {slots} slots", ring.name);
            assert_eq!(ring.push(n + 2, 7), 7);
            assert!(has_rung(&mut many), "{}: {slots} slots", ring.name);
            assert_eq!(numbers(&mut reader).len(), numbers(&mut many).len());
            n += 9;
            // Another one finds the readers and bells, too.
            assert!(handle.reader_from(Start::Now).bell().is_ok(), "{}: {slots} slots", ring.name);
        }
        assert_eq!((reader.rings(), reader.take_error().map(|e| e.kind())), (7, None), "{}", ring.name);
        // One that still is in the first ring has no bell there, but in the last one.
        assert_eq!(late.bell().unwrap_err().kind(), ErrorKind::NotWakeable, "{}", ring.name);
        assert!(!numbers(&mut late).is_empty() && late.bell().is_ok(), "{}", ring.name);
    });
}

#[test]
fn no_more_readers_than_seats_can_sleep() {
    require_bpf!();
    for_each_with_bells(|ring, handle, mut last| {
        let mut readers: Vec<_> = (0..SEATS).map(|_| handle.reader_from(Start::Now)).collect();
        readers.iter_mut().for_each(|reader| _ = reader.bell().unwrap());
        says(last.bell().unwrap_err(), &["64 readers"]);
        assert!(!last.wait(Duration::ZERO).unwrap(), "{}: it looks from time to time", ring.name);
        assert!(readers.iter_mut().all(|reader| reader.arm().is_some()), "{}", ring.name);
        ring.push(0, 1);
        assert!(readers.iter_mut().all(has_rung), "{}: one record wakes all", ring.name);
    });
}
