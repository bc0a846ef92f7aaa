//! Losses: each is listed once, with its tickets and a true interval, and their sums are the counts.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use mapring::abi::Tails;
use mapring::reading::LossCause;
use mapring::time::Clock;
use mapring::writers::MemfdOptions;
use mapring::{Loss, ReadStats, Reader, Ring, Start, Writer};

/// Nanoseconds of the coarse clock, which readers read. The bounds below hold exactly for it, also where ticks are late.
fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    u64::try_from(Duration::from(now).as_nanos()).unwrap()
}

/// What readers and writers take for the end of a loss that happens now, or later: two ticks, which take 10 ms at most.
fn soon() -> u64 {
    now() + 20_000_000
}

/// Claims a slot that nobody ends.
fn abandon(writer: &Writer<u64>) -> bool {
    writer.reserve().map(std::mem::forget).is_some()
}

fn push_all(writer: &Writer<u64>, values: impl IntoIterator<Item = u64>) {
    values.into_iter().for_each(|value| assert!(writer.push(&value).is_some()));
}

fn sums(losses: &[Loss]) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    losses.iter().for_each(|loss| *sums.entry(loss.cause.as_str()).or_insert(0) += loss.count);
    sums
}

fn counts(stats: ReadStats) -> BTreeMap<&'static str, u64> {
    let counts = [
        (LossCause::Lapped, stats.lapped),
        (LossCause::Skipped, stats.skipped),
        (LossCause::TailLost, stats.tail_lost),
        (LossCause::NoSlot, stats.no_slot),
        (LossCause::Full, stats.full),
        (LossCause::NoShard, stats.no_shard),
        (LossCause::NoTail, stats.no_tail),
        (LossCause::TooLong, stats.too_long),
    ];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(cause, count)| (cause.as_str(), count)).collect()
}

#[test]
fn an_overwritten_record_was_lost_after_the_reader_last_had_read_everything() {
    let ring = Ring::<u64>::create_memfd(8, 2).unwrap();
    let (writer, mut reader) = (ring.writer(1).unwrap(), ring.reader());
    push_all(&writer, 0..3);
    assert_eq!(reader.drain().count(), 3);
    let early = now();
    // Longer than a tick of the coarse clock; and more calls than there are between two readings of it.
    thread::sleep(Duration::from_millis(40));
    (0..200).for_each(|_| assert_eq!(reader.drain().count(), 0));
    let begun = now();
    push_all(&writer, 3..30);
    let written = now();
    let first = reader.drain().next().unwrap().ticket;
    assert!(first >= 22);
    let losses = reader.take_losses();
    let [Loss { shard, cause, tickets, count, since, until, .. }] = &losses[..] else { panic!("{losses:?}") };
    assert_eq!((*shard, *cause, tickets, *count), (Some(1), LossCause::Lapped, &Some(3..first), first - 3));
    assert!((Some(early)..=Some(begun)).contains(since), "{losses:?}: {early} {begun}");
    assert!((written..=soon()).contains(until), "{losses:?}: {written}");
    assert_eq!(reader.take_losses(), []);
}

#[test]
fn a_reader_from_the_first_record_does_not_know_since_when_records_are_lost() {
    let ring = Ring::<u64>::create_memfd(8, 1).unwrap();
    push_all(&ring.writer(0).unwrap(), 0..30);
    let mut reader = ring.reader_from(Start::First);
    let first = reader.drain().next().unwrap().ticket;
    let losses = reader.take_losses();
    assert_eq!((losses.len(), &losses[0].tickets, losses[0].since), (1, &Some(0..first), None));
}

#[test]
fn skipped_tickets_and_drops_are_listed() {
    let ring = Ring::<u64>::create_memfd(8, 1).unwrap();
    let start = now();
    let (writer, mut reader) = (ring.writer(0).unwrap(), ring.reader().with_patience(Duration::ZERO));
    assert!(abandon(&writer) && abandon(&writer));
    push_all(&writer, [7]);
    let read: Vec<_> = (0..10).filter_map(|_| reader.poll().map(|event| event.ticket)).collect();
    assert_eq!(read, [2]);
    (0..6).for_each(|_| assert!(abandon(&writer) || writer.push(&8).is_none()));
    let before = now();
    assert_eq!((writer.push(&9), writer.push(&9)), (None, None));
    let after = soon();
    let losses = reader.take_losses();
    let skipped = losses.iter().find(|loss| loss.cause == LossCause::Skipped).unwrap();
    assert_eq!((skipped.shard, &skipped.tickets, skipped.count), (Some(0), &Some(0..2), 2));
    assert!(skipped.until >= start && skipped.since <= Some(skipped.until));
    let dropped = losses.iter().find(|loss| loss.cause == LossCause::NoSlot).unwrap();
    assert_eq!((dropped.shard, &dropped.tickets), (Some(0), &None));
    assert!(dropped.since >= Some(start) && (before..=after).contains(&dropped.until), "{dropped:?}");
    assert_eq!(sums(&losses), counts(reader.stats()));
}

/// Writes and reads at random. `often` says how often losses are taken: with many between, they are merged.
fn random(seed: u64, often: u64) -> ReadStats {
    let mut state = seed;
    let mut below = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) % end
    };
    let ring = Ring::<u64>::create_memfd(8, 2).unwrap();
    let mut writers = [0, 1].map(|shard| ring.writer(shard).unwrap());
    let mut reader = ring.reader_from(Start::First).with_patience(Duration::ZERO);
    let (mut losses, mut read) = (Vec::new(), Vec::new());
    for _ in 0..3000 {
        let writer = &mut writers[usize::try_from(below(2)).unwrap()];
        match below(16) {
            0 => _ = abandon(writer),
            1 => drop(writer.reserve()),
            2 => (0..below(20)).for_each(|n| _ = writer.push(&n)),
            3 if below(8) == 0 => _ = writer.recover().unwrap(),
            4..8 => read.extend(reader.poll().map(|event| (event.shard, event.ticket))),
            8 => read.extend(reader.drain().map(|event| (event.shard, event.ticket))),
            _ => _ = writer.push(&1),
        }
        if below(often) == 0 {
            losses.append(&mut reader.take_losses());
        }
    }
    losses.append(&mut reader.take_losses());
    let stats = reader.stats();
    assert_eq!(sums(&losses), counts(stats), "seed {seed}");
    assert!(losses.iter().all(|loss| loss.since <= Some(loss.until)));
    if often > 1 {
        return stats;
    }
    // Tickets that were read or lost are all different, and the others were discarded or stepped over.
    let others = stats.discarded + stats.stepped_over;
    let passed: u64 = (0..2).map(|shard| reader.position(shard).unwrap()).sum();
    let lost = losses.iter().filter_map(|loss| Some((loss.shard?, loss.tickets.clone()?)));
    read.extend(lost.flat_map(|(shard, tickets)| tickets.map(move |ticket| (shard, ticket))));
    read.sort_unstable();
    let all = read.len();
    read.dedup();
    assert_eq!((read.len(), read.len() as u64 + others), (all, passed), "seed {seed}");
    stats
}

#[test]
fn the_sums_of_all_losses_are_the_counts() {
    let seeds = if cfg!(miri) { 1..2 } else { 1..40 };
    let mut sum = ReadStats::default();
    for (seed, often) in seeds.flat_map(|seed| [1, 200, 3001].map(|often| (seed, often))) {
        sum += random(seed, often);
    }
    assert!(
        sum.lapped > 0 && sum.skipped > 0 && sum.no_slot > 0 && sum.discarded > 0 && sum.stepped_over > 0,
        "{sum}"
    );
}

#[test]
fn a_tail_that_was_overwritten_is_a_loss() {
    let tails = Tails::new(32, 128).unwrap();
    let ring = Ring::<u64>::create_memfd_with(64, 1, MemfdOptions::default().tails(tails)).unwrap();
    let (writer, mut reader) = (ring.writer(0).unwrap(), ring.reader());
    let mut polls: Reader<u64> = ring.reader();
    let begun = now();
    (0..20).for_each(|n| assert_eq!(writer.push_with_tail(&n, &[7; 32]), Some(n)));
    let written = now();
    assert_eq!(writer.push_with_tail(&20, &[7; 33]), None);
    let mut whole = Vec::new();
    reader.for_each(100, |event| whole.push(event.ticket));
    let polled: Vec<_> = std::iter::from_fn(|| polls.poll().map(|event| event.ticket)).collect();
    assert_eq!(polled, whole);
    for reader in [&mut reader, &mut polls] {
        let losses = reader.take_losses();
        assert_eq!(sums(&losses), counts(reader.stats()));
        let lost = losses.iter().find(|loss| loss.cause == LossCause::TailLost).unwrap();
        assert_eq!((lost.shard, &lost.tickets, lost.count), (Some(0), &Some(0..whole[0]), whole[0]));
        assert!(lost.since.is_some_and(|since| since <= begun) && lost.until >= written, "{lost:?}");
        let long = losses.iter().find(|loss| loss.cause == LossCause::TooLong).unwrap();
        assert!(long.since >= Some(written) && long.count == 1, "{long:?}");
    }
}

/// The reader looks again many times after the tail was overwritten, before it delivers the record and finds the loss.
#[test]
fn a_tail_that_was_overwritten_while_a_merged_reader_held_its_record_was_lost_before_its_last_looks() {
    let tails = Tails::new(32, 128).unwrap();
    let ring = Ring::<u64>::create_memfd_with(64, 2, MemfdOptions::default().tails(tails)).unwrap();
    let writer = ring.writer(0).unwrap();
    let other = ring.writer(1).unwrap();
    let merged = ring.reader().with_patience(Duration::MAX).merged(|stamp| *stamp);
    let mut merged = merged.with_delay(Duration::MAX);
    for round in 0..3 {
        let open = other.reserve().unwrap();
        let begun = Clock::Monotonic.now();
        let push = || writer.push_with_tail(&Clock::Monotonic.now(), &[7; 32]).unwrap();
        push();
        assert!(merged.poll().is_none());
        (0..5).for_each(|_| _ = push());
        let overwritten = Clock::Monotonic.now();
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(1));
            assert!(merged.poll().is_none() && merged.stats().held == 6);
        }
        drop(open);
        // One by one, or all at once.
        let mut whole = if round == 2 { merged.for_each(usize::MAX, |_| ()) } else { 0 } as u64;
        whole += std::iter::from_fn(|| merged.poll().map(drop)).count() as u64;
        let losses = merged.take_losses();
        let [loss] = &losses[..] else { panic!("{losses:?}") };
        assert_eq!((loss.cause, loss.shard, loss.count), (LossCause::TailLost, Some(0), 6 - whole));
        assert_eq!(loss.tickets, Some(6 * round..6 * (round + 1) - whole));
        assert!(loss.since <= Some(begun) && loss.until >= overwritten, "{loss:?}: {begun} {overwritten}");
        assert!(loss.since.is_some());
        merged.poll(); // it holds nothing
        let stats = merged.stats();
        assert_eq!((stats.delivered, stats.tail_lost), ((round + 1) * whole, (round + 1) * (6 - whole)));
    }
}

#[test]
fn a_merged_reader_has_losses() {
    let ring = Ring::<u64>::create_memfd(8, 2).unwrap();
    let mut reader = ring.reader().merged(|stamp| *stamp);
    let writer = ring.writer(0).unwrap();
    assert_eq!(reader.drain().count(), 0);
    let now = || Clock::Monotonic.now();
    let begun = now();
    push_all(&writer, (0..30).map(|_| now()));
    thread::sleep(mapring::Reader::<()>::SETTLE);
    let read = reader.drain().count() as u64;
    let losses = reader.take_losses();
    assert_eq!((losses.len(), losses[0].cause, losses[0].count), (1, LossCause::Lapped, 30 - read));
    assert!(losses[0].since <= Some(begun) && losses[0].since.is_some());
}

#[test]
fn a_memfd_names_the_process_that_created_it() {
    let ring = Ring::<u64>::create_memfd(8, 1).unwrap();
    let mut reader = ring.reader();
    let live = reader.liveness();
    assert_eq!(live.loader.map(|loader| loader.pid), Some(std::process::id()));
    assert!(live.loader_lives && live.programs.as_ref().unwrap().is_empty());
    assert_eq!(live.attached(), Some(false), "{live}");
    // What is found ends the idle time, at the latest when the clock is read again.
    let begun = now();
    while now() < begun + 50_000_000 {
        thread::sleep(Duration::from_millis(10));
    }
    let idle = reader.liveness().idle;
    assert!(idle >= Duration::from_millis(50));
    let found = now();
    push_all(&ring.writer(0).unwrap(), [1]);
    assert_eq!(reader.drain().count(), 1);
    let idle = reader.liveness().idle;
    assert!(idle <= Duration::from_nanos(now() - found));
}

#[test]
fn a_reader_that_was_just_opened_finds_the_last_records() {
    let ring = Ring::<u64>::create_memfd(8, 3).unwrap();
    let last = || newest(&mut ring.reader());
    assert_eq!(last(), []);
    let writer = |shard| ring.writer(shard).unwrap();
    push_all(&writer(0), 0..30);
    push_all(&writer(2), [7]);
    assert_eq!(last(), [(0, 29, 29), (2, 0, 7)]);
    // Neither one that is being written, nor a discarded one.
    let first = writer(0);
    let mut held = first.reserve().unwrap();
    held.write(&100);
    drop(first.reserve().unwrap());
    assert_eq!(last(), [(0, 29, 29), (2, 0, 7)]);
    held.commit();
    let mut reader = ring.reader();
    let next = reader.poll().unwrap().ticket + 1;
    assert_eq!(newest(&mut reader), [(0, 30, 100), (2, 0, 7)]);
    assert_eq!(reader.poll().unwrap().ticket, next, "it reads on where it was");
    // Slots that are not there are none.
    let ring = Ring::<u64>::create_memfd(1, 1).unwrap();
    assert_eq!(newest(&mut ring.reader()), []);
    ring.writer(0).unwrap().push(&5);
    assert_eq!(newest(&mut ring.reader()), [(0, 0, 5)]);
}

/// The newest record of each shard: shard, ticket, number.
fn newest(reader: &mut Reader<u64>) -> Vec<(usize, u64, u64)> {
    let mut newest = Vec::new();
    reader.for_each_newest(|event| newest.push((event.shard, event.ticket, *event.record)));
    newest
}
