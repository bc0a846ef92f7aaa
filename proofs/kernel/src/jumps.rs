//! The part of the child whose clock jumps: it enters time namespaces. Its merged readers assume the offsets with which it
//! began. So their clock jumps as after a suspend, while the clock of other readers goes on.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use mapring::reading::ByTime;
use mapring::time::Clock;
use mapring::{Reader, Ring};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The longest wait for a record whose turn should come soon.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// In seconds: longer than the delay of an hour.
const DAY: u64 = 24 * 3600;

/// Stamp, and what it is.
type Item = [u64; 2];

/// CLOCK_BOOTTIME of this process is `seconds` ahead from here on. This process has one thread.
fn jump_to(seconds: u64) -> Result<()> {
    // SAFETY: this flag does not affect file descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME) }?;
    fs::write("/proc/self/timens_offsets", format!("boottime {seconds} 0\n"))?;
    let namespace = File::open("/proc/self/ns/time_for_children")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Time)).context("setns")
}

/// The clock of programs that stamp with `bpf_ktime_get_boot_ns()`.
fn now() -> u64 {
    Clock::Boottime.now()
}

/// The next record, when its turn has come.
fn next<F: FnMut(&Item) -> u64>(merged: &mut Reader<Item, ByTime<Item, F>>) -> u64 {
    assert!(merged.wait(PATIENCE).unwrap(), "{}", merged.stats());
    merged.poll().expect("its turn has come").record[1]
}

/// Checks merged readers of CLOCK_BOOTTIME while it jumps.
///
/// # Errors
/// Fails without privilege.
///
/// # Panics
/// Panics if a reader orders, counts or holds a record in a wrong way.
pub fn jumps() -> Result<()> {
    let ring = Ring::<Item>::create_memfd(64, 3)?;
    let writers = [0, 1, 2].map(|shard| ring.writer(shard).unwrap());
    let push = |shard: usize, stamp: u64, what: u64| _ = writers[shard].push(&[stamp, what]).unwrap();
    let by = |clock: Clock| ring.reader().merged(|item: &Item| item[0]).with_clock(clock);
    // Idle shards hold nothing back: without this, a reader with an endless delay would deliver nothing.
    let mut boottime = by(Clock::Boottime).with_delay(Duration::MAX);
    let (mut hour, mut monotonic) = (by(Clock::Boottime).with_delay(HOUR), by(Clock::Monotonic));
    let asleep = now();
    push(0, asleep, 0);
    assert_eq!([&mut boottime, &mut hour].map(next), [0, 0]);
    assert_eq!(next(&mut monotonic), 0);
    let ahead = monotonic.stats().ahead;

    // Forward, as after a suspend.
    jump_to(DAY)?;
    assert!(now() - asleep >= DAY * 1_000_000_000, "the clock did not jump");
    push(1, now(), 1);
    assert_eq!([&mut boottime, &mut hour].map(next), [1, 1]);
    // For another clock the stamp is in the future.
    assert_eq!((next(&mut monotonic), monotonic.stats().ahead), (1, ahead + 1));
    // A program that read the clock without this suspend.
    push(2, asleep, 2);
    assert_eq!([&mut boottime, &mut hour].map(next), [2, 2]);
    assert_eq!([&boottime, &hour].map(|merged| merged.stats().late), [1, 1]);

    // A record that is being written holds back later ones for the delay. A jump ends the delay, not an endless one.
    let mut slow = writers[0].reserve().unwrap();
    let before = now();
    push(1, before, 3);
    for _ in 0..100 {
        assert_eq!([&mut boottime, &mut hour].map(|merged| merged.poll()), [None, None]);
    }
    jump_to(2 * DAY)?;
    assert_eq!((next(&mut hour), boottime.poll()), (3, None));
    slow.write(&[before - 1, 4]);
    slow.commit();
    assert_eq!((next(&mut hour), next(&mut boottime), next(&mut boottime)), (4, 4, 3));
    assert_eq!([&boottime, &hour].map(|merged| merged.stats().late), [1, 2]);

    // Backward, which no kernel does: records are late, and wait for nothing.
    jump_to(0)?;
    let back = now();
    assert!(back < before, "the clock did not jump");
    push(1, back + 1, 6);
    push(2, back, 5);
    for merged in [&mut boottime, &mut hour] {
        assert_eq!(merged.drain().map(|event| event.record[1]).collect::<Vec<_>>(), [5, 6]);
    }
    assert_eq!([&boottime, &hour].map(|merged| merged.stats().late), [3, 4]);

    // And later than ever before.
    jump_to(3 * DAY)?;
    push(0, now(), 7);
    push(1, now(), 8);
    for merged in [&mut boottime, &mut hour] {
        assert_eq!([next(merged), next(merged)], [7, 8]);
        let stats = merged.stats();
        assert_eq!((stats.ahead, stats.held, stats.delivered, stats.lost()), (0, 0, 9, 0), "{stats}");
    }
    assert_eq!([&boottime, &hour].map(|merged| merged.stats().late), [3, 4]);
    Ok(())
}
