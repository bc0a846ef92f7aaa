//! Every way of reading, busy CPUs, and records that are never ended.

use mapring::reading::LossCause;
use mapring::time::Clock;
use rustix::time::{ClockId, clock_gettime};

use super::*;

/// Polls, drains and calls of a few records get each record once, in order; so does a merged reader, across CPUs.
#[test]
fn every_way_of_reading_gets_the_same() {
    require_bpf!();
    for_each_ring(|ring, options| {
        let handle = ring.open();
        let [mut polls, mut drains, mut calls] = [(); 3].map(|()| handle.reader_from(Start::Now));
        let mut merged = handle.reader_from(Start::Now).merged(|rec| rec.n).with_delay(Duration::MAX);
        let mut next = 1;
        for _ in 0..4 {
            let mut expected = Vec::new();
            for &cpu in cpus() {
                on_cpu(cpu);
                assert_eq!(ring.push(next, 15), 15, "{}", ring.name);
                expected.extend((next..next + 15).map(|n| (cpu, n)));
                next += 15;
            }
            let mut found = [const { Vec::new() }; 4];
            while let Some(event) = polls.poll() {
                found[0].push((event.shard, event.record.n));
            }
            found[1].extend(drains.drain().map(|event| (event.shard, event.record.n)));
            while calls.for_each(4, |event| found[2].push(whole(&event, options.has_tails()))) > 0 {}
            merged.for_each(usize::MAX, |event| found[3].push(whole(&event, options.has_tails())));
            assert_eq!(found[3], expected, "{}: merged", ring.name);
            for found in &mut found {
                found.sort_by_key(|(shard, _)| *shard); // which keeps the order within a shard
                assert_eq!(*found, expected, "{}", ring.name);
            }
        }
        // More than a lap on each CPU, one after the other: a merged reader loses the first ones, and counts them.
        let before = merged.stats();
        for &cpu in cpus() {
            on_cpu(cpu);
            assert_eq!(ring.push(next, 3 * SLOTS), 3 * SLOTS, "{}", ring.name);
            next += 3 * SLOTS;
        }
        let mut last = (0, 0);
        merged.for_each(usize::MAX, |event| {
            assert!((event.shard, event.record.n) > last, "{}: {event:?} after {last:?}", ring.name);
            last = (event.shard, event.record.n);
        });
        let stats = merged.stats();
        assert_eq!((stats.late, stats.held, last.1), (0, 0, next - 1), "{}: {stats}", ring.name);
        let passed = stats.delivered + stats.lost() - before.delivered;
        assert_eq!(passed, 3 * SLOTS * cpus().len() as u64, "{}: {stats}", ring.name);
        assert!(stats.lapped >= 2 * SLOTS * cpus().len() as u64, "{}: {stats}", ring.name);
    });
}

/// One CPU keeps writing: polls still reach the others.
#[test]
fn busy_cpus_leave_the_others_their_turn() {
    require_bpf!();
    for_each_ring(|ring, _| {
        let mut reader = ring.open().reader_from(Start::Now);
        for &cpu in cpus() {
            on_cpu(cpu);
            assert_eq!(ring.push(0, SLOTS), SLOTS, "{}", ring.name);
        }
        let (&busy, others) = cpus().split_first().unwrap();
        on_cpu(busy);
        let mut from = BTreeSet::new();
        for _ in 0..SLOTS * (cpus().len() as u64 + 1) {
            from.extend(reader.poll().map(|event| event.shard));
            assert_eq!(ring.push(0, 1), 1, "{}", ring.name);
        }
        assert!(others.iter().all(|cpu| from.contains(cpu)), "{}: {from:?}", ring.name);
    });
}

/// Tickets step over slots that are never given back. Once all of them are lost, records are dropped, with an interval.
#[test]
fn records_that_are_never_ended_cost_their_slots() {
    require_bpf!();
    for_each_ring(|ring, options| {
        if ring.never_abandons() {
            return;
        }
        let (handle, cpu) = (ring.open(), *cpus().last().unwrap());
        let mut reader = handle.reader_from(Start::Now).with_patience(Duration::ZERO);
        on_cpu(cpu);
        assert_eq!((ring.push(0, 3), ring.write(0, 2, ABANDON)), (3, 2), "{}", ring.name);
        let mut found = Vec::new();
        for lap in 0..20 {
            assert_eq!(ring.push(3 + 16 * lap, 16), 16, "{}", ring.name);
            (0..20).for_each(|_| found.extend(read(&mut reader)));
        }
        assert_eq!(found, (0..323).map(|n| (cpu, n)).collect::<Vec<_>>(), "{}", ring.name);
        // Two records of the first lap; the slots of these in five more laps.
        let stats = reader.stats();
        let passed = (stats.delivered, stats.skipped, stats.lost(), stats.stepped_over, stats.dropped());
        assert_eq!(passed, (323, 2, 2, 2 * 5, 0), "{}: {stats}", ring.name);
        let losses = reader.take_losses();
        let skipped = losses.iter().map(|loss| (loss.shard, loss.cause, loss.count));
        assert_eq!(skipped.map(|of| of.2).sum::<u64>(), 2, "{}: {losses:?}", ring.name);
        assert!(
            losses.iter().all(|loss| (loss.shard, loss.cause) == (Some(cpu), LossCause::Skipped)),
            "{losses:?}"
        );

        if options.has_tails() {
            return; // its bytes are lost before its slots: `tails.rs`, `liveness.rs`
        }
        assert_eq!(ring.write(0, 2 * SLOTS, ABANDON), SLOTS - 2, "{}", ring.name);
        reader.take_losses();
        let mut other = handle.reader_from(Start::Now);
        // Writers of a memfd read the coarse clock, and say two of its ticks later: at most 10 ms each.
        let (in_memfd, coarse) = (ring.object().is_none(), clock_gettime(ClockId::MonotonicCoarse));
        let coarse = u64::try_from(Duration::try_from(coarse).unwrap().as_nanos()).unwrap();
        let before = if in_memfd { coarse } else { Clock::Monotonic.now() };
        assert_eq!(ring.push(0, 3), 0, "{}", ring.name);
        let after = Clock::Monotonic.now() + if in_memfd { 20_000_000 } else { 0 };
        for reader in [&mut reader, &mut other] {
            let losses = reader.take_losses();
            let dropped: Vec<_> = losses.iter().filter(|loss| loss.cause == LossCause::NoSlot).collect();
            let [loss] = dropped[..] else { panic!("{}: {losses:?}", ring.name) };
            assert_eq!((loss.shard, &loss.tickets), (Some(cpu), &None), "{}: {loss:?}", ring.name);
            assert!(
                loss.count >= 3 && before <= loss.until && loss.until <= after,
                "{}: {loss:?}",
                ring.name
            );
        }
    });
}
