//! Regions between processes: no BPF, and no privilege.

use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, RwLock};

use mapring_kernel_tests::prelude::*;

use super::reader::{Progress, Reader, Report};

/// Output lines of the reader before the writers stop: enough to show that it read while they wrote.
const LINES: usize = 1_000;
/// 32-bit words of a value: enough that copies are overwritten midway, and an odd number, so that the last 64-bit word
/// is half full.
const WORDS: usize = 1001;

/// The reader's argument: this process's descriptor.
pub(crate) fn locator(region: &Region) -> String {
    format!("memfd:/proc/{}/fd/{}", std::process::id(), region.as_fd().as_raw_fd())
}

/// Two threads call `write` while `command` reads, until it has printed enough.
pub(crate) fn read_until(
    command: &str,
    region: &Region,
    write: impl Fn(usize) + Sync,
    enough: impl Fn(Progress) -> bool,
) -> Report {
    let reader = Reader::start(&[command, &locator(region)]);
    assert_eq!(reader.access, "mapped");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        for thread in 0..2 {
            let (stop, write) = (&stop, &write);
            scope.spawn(move || {
                loop {
                    (0..64).for_each(|_| write(thread));
                    if stop.load(Ordering::Relaxed) {
                        break; // but not before each thread has written
                    }
                    std::thread::yield_now();
                }
            });
        }
        reader.wait_until(enough);
        drop(stopping);
    });
    reader.stop()
}

fn read_meanwhile(command: &str, region: &Region, write: impl Fn(usize) + Sync) -> Report {
    read_until(command, region, write, |now| now.lines >= LINES)
}

/// A record that contains its writer, and shows whether it is whole.
fn record(writer: u32, number: u32) -> Filled<WORDS> {
    let mut record = words_of(u64::from(number) << 1 | u64::from(writer));
    [record[0], record[1]] = [writer, number];
    record
}

fn decoded(bytes: &[u8]) -> Filled<WORDS> {
    bytemuck::pod_read_unaligned(bytes)
}

#[test]
fn a_ring() {
    for slots in [1, 4, 64] {
        let ring = Ring::<Filled<WORDS>>::create_memfd(slots, 2).unwrap();
        let mut mine = ring.reader_from(Start::First);
        let next = [const { AtomicU32::new(0) }; 2];
        let published = AtomicU64::new(0);
        let fresh = |thread: usize| {
            let number = next[thread].fetch_add(1, Ordering::Relaxed);
            (number, record(u32::try_from(thread).unwrap(), number))
        };
        // Both threads write both shards. One may pause the other.
        let turns = RwLock::new(());
        let write = |thread| {
            let (number, record) = fresh(thread);
            let holds = slots == 64 && number % 1024 == 1;
            let _alone = holds.then(|| turns.write().unwrap());
            let _beside = (!holds).then(|| turns.read().unwrap());
            let writer = ring.writer(number as usize % 2).unwrap();
            let Some(mut slot) = writer.reserve() else { return };
            slot.write(&record);
            match number % 64 {
                0 => slot.discard(),
                1 => {
                    // More than a lap is written before this ticket ends. Or a bit less, and then nothing until a reader has
                    // come to it: the reader skips it, since so many are after it.
                    let later = if holds { slots - 4 } else { 2 * slots };
                    let more = (0..later).filter(|_| writer.push(&fresh(thread).1).is_some()).count();
                    if holds {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    slot.commit();
                    published.fetch_add(1 + more as u64, Ordering::Relaxed);
                }
                _ => {
                    slot.commit();
                    published.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        // Each way to lose a record occurs: copies are overwritten midway where there is one slot, and tickets that do
        // not end are skipped where there are many.
        let report = read_until("ring", &ring.region(), write, |Progress { lines, stats, .. }| {
            let rare = if slots == 1 { stats.torn } else { stats.skipped };
            lines >= LINES && stats.lapped > 0 && stats.discarded > 0 && (rare > 0 || slots == 4)
        });
        // A reader looks past an unfinished ticket only from time to time.
        (0..EMPTY).for_each(|_| while mine.for_each(usize::MAX, |_| ()) > 0 {});
        let published = published.into_inner();
        let mut seen = [const { BTreeSet::new() }; 2];
        let mut tickets = [0; 2];
        for (shard, ticket, bytes) in &report.records {
            let [writer, number, ..] = decoded(bytes);
            assert_eq!(decoded(bytes), record(writer, number));
            assert!(seen[writer as usize].insert(number), "{number} came twice");
            let at = &mut tickets[usize::try_from(*shard).unwrap()];
            assert!(*ticket >= *at, "{ticket} after {at}");
            *at = ticket + 1;
        }
        let stats = report.stats;
        assert!(stats.delivered > 0 && stats.delivered == report.records.len() as u64);
        assert!(published - stats.delivered <= stats.lost(), "{published} published: {stats:?}");
        // Both passed the same tickets: all of them.
        let passed = |t: ReadStats| t.passed();
        assert_eq!(
            (passed(stats), report.dropped),
            (passed(mine.stats()), mine.stats().dropped()),
            "{slots} slots"
        );
    }
}

/// Each value found is whole and later than the one before; the last one found is the last one written.
fn check_values(report: &Report, count: usize, snapshot: impl Fn(usize) -> (u64, Filled<WORDS>)) {
    let mut versions = vec![0; count];
    for (_, index, version, bytes) in &report.values {
        let at = &mut versions[usize::try_from(*index).unwrap()];
        assert!(version > at, "{version} after {at}");
        *at = *version;
        let first = u32::from_ne_bytes(bytes[..4].try_into().unwrap());
        let whole: Filled<WORDS> =
            std::array::from_fn(|i| first.wrapping_add(u32::try_from(i).expect("a small number")));
        assert_eq!(bytes, bytemuck::bytes_of(&whole));
    }
    for (index, &version) in versions.iter().enumerate() {
        let (right, value) = snapshot(index);
        assert_eq!(version, right, "of value {index}");
        let last = report.values.iter().rfind(|(_, of, ..)| *of == index as u64);
        assert!(version > 0 && last.is_some_and(|(.., bytes)| bytes == bytemuck::bytes_of(&value)));
    }
}

#[test]
fn cells() {
    let cells = Cells::<Filled<WORDS>>::create_memfd(3).unwrap();
    let writer = cells.writer().unwrap();
    let number = AtomicU64::new(0);
    let report = read_meanwhile("cells", cells.region(), |_| {
        let n = number.fetch_add(1, Ordering::Relaxed);
        let _ = writer.set(usize::try_from(n % 3).unwrap(), &words_of(n)).unwrap();
    });
    check_values(&report, 3, |index| {
        let snapshot = cells.snapshot(index).unwrap();
        (snapshot.version, snapshot.value)
    });
    assert_eq!(report.dropped, cells.region().dropped().unwrap());
}

#[test]
fn latches() {
    let latches = Latches::<Filled<WORDS>>::create_memfd(1).unwrap();
    let writer = Mutex::new((latches.writer().unwrap(), 0));
    let report = read_meanwhile("latches", latches.region(), |_| {
        let mut writer = writer.lock().unwrap();
        let n = writer.1;
        writer.0.set(0, &words_of(n)).unwrap();
        writer.1 += 1;
    });
    check_values(&report, 1, |index| {
        let snapshot = latches.snapshot(index).unwrap();
        (snapshot.version, snapshot.value)
    });
}

#[test]
fn counters() {
    let counters = Counters::create_memfd(9, 2).unwrap();
    let writers = [0, 1].map(|shard| counters.writer(shard).unwrap());
    let report = read_meanwhile("counters", counters.region(), |thread| {
        (0..9).for_each(|index| writers[thread].add(index, index as u64 + 1).unwrap());
    });
    for shard in 0..2 {
        for index in 0..9 {
            let found = report.counters[&(shard as u64, index as u64)];
            assert!(found > 0 && found == counters.get(shard, index).unwrap());
        }
    }
}
