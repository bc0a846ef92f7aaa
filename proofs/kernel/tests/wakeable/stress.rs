//! Millions of sleeps beside a writer: no wakeup is lost.

use mapring::abi::readers::LOOK;
use mapring_kernel_tests::prelude::*;

use super::{EVENTS, FOREVER, Named, TAILED, has_rung, numbers, run, rung};

#[test]
fn no_wakeup_is_lost() {
    require_bpf!();
    sleep_often(EVENTS, None, None);
}

#[test]
fn no_wakeup_is_lost_where_records_have_tails() {
    require_bpf!();
    sleep_often(TAILED, None, Some("nobody_slept_in_tailed"));
}

/// Programs look at a few tickets for another reader, and while this one comes or goes.
#[test]
fn no_wakeup_is_lost_by_a_reader_that_comes_and_goes() {
    require_bpf!();
    sleep_often(EVENTS, Some(8), None);
}

/// At the end of each lap, programs stop looking for readers.
#[test]
fn no_wakeup_is_lost_where_programs_stop_looking() {
    require_bpf!();
    sleep_often(EVENTS, None, Some("nobody_slept_in_events"));
}

/// A writer publishes at random times, so that many records end just when a reader says that it sleeps. The reader changes
/// its bell after so many sleeps. Where programs `stop`, they find at the end of each lap that it has not slept for long.
fn sleep_often(ring: Named, change: Option<u64>, stop: Option<&str>) {
    let object = &bpf::WAKEABLE.load(fitted);
    let (ended, met, read) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let (publish, stop) =
        (Runner::new(object, ring.publish), stop.map(|program| Runner::new(object, program)));
    let mut reader = ring.open(object).reader_from(Start::First);
    reader.bell().unwrap();
    let mut many = ring.open(object).reader().with_watermark(32, FOREVER);
    many.bell().unwrap();
    let (mut sleeps, mut changes, mut next) = (0_u64, 0, 0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            on_cpu(cpus()[0]);
            let (end, mut seed, mut n) = (Instant::now() + stress_seconds(5.0), 1_u64, 0);
            // Longer on a slow machine: until the test has met its subject.
            while Instant::now() < end || (!met.load(Ordering::Relaxed) && Instant::now() < end + FOREVER) {
                // The reader must be asleep, or about to be, for each record.
                while n - read.load(Ordering::Relaxed) > 2 {
                    std::hint::spin_loop();
                }
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (0..seed >> 53).for_each(|_| std::hint::spin_loop());
                if let Some(nobody_slept) = stop.as_ref().filter(|_| n % 64 == 63) {
                    nobody_slept.run(&mut [0, 0]);
                }
                run(&publish, n, 1);
                n += 1;
            }
            ended.store(true, Ordering::Release);
            n
        });
        on_cpu(*cpus().last().unwrap());
        loop {
            if reader.arm().is_some() {
                sleeps += 1;
                if sleeps.is_multiple_of(16) {
                    let stopped = stop.is_none() || ring.shared(object, LOOK) >> 32 > 10;
                    met.store(sleeps > 20 && stopped, Ordering::Relaxed);
                }
                // Most rounds do not fall asleep, so that there are more of them.
                let bell = reader.bell().unwrap();
                if !(0..1000).any(|_| has_rung(bell, Duration::ZERO))
                    && !has_rung(bell, Duration::from_secs(2))
                {
                    if ended.load(Ordering::Acquire) && numbers(&mut reader).is_empty() {
                        break;
                    }
                    assert!(
                        reader.arm().is_some() || rung(&mut reader),
                        "record {next} is there, and nobody rang in 2 seconds"
                    );
                }
            }
            for n in numbers(&mut reader) {
                assert_eq!(n, next);
                next += 1;
            }
            read.store(next, Ordering::Relaxed);
            if change.is_some_and(|change| sleeps / change > changes) {
                changes += 1;
                assert_eq!(ring.look(object), 0);
                reader = reader.with_watermark(1, FOREVER);
                assert_eq!(ring.look(object), 7);
            }
            if ended.load(Ordering::Acquire) && reader.arm().is_some() {
                break;
            }
        }
        assert_eq!(next, writer.join().unwrap());
    });
    everywhere();
    let wanted = ring.shared(object, LOOK) >> 32;
    eprintln!(
        "explored {sleeps} sleeps, {next} records, {changes} other bells, {wanted} times that a reader said how often to look"
    );
    assert!(stop.is_none() || wanted > 10, "programs did not stop: {wanted}");
    assert_eq!(change.is_some(), changes > 2, "{changes}");
    assert!(sleeps > 20, "the test did not meet its subject: {sleeps} sleeps, {next} records");
}
