//! The wall clock is set while programs stamp records, and the machine is suspended: stamps from before and after that
//! become the wall time that was then.
//!
//! This changes the clock of the machine. So it runs in the guests of `cargo xtask vm`, and elsewhere only with
//! `MAPRING_DISTURB=1`.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use mapring::time::{Basis, Clock, WallClock};
use mapring_kernel_tests::prelude::*;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const CLOCKS: [Clock; 2] = [Clock::Monotonic, Clock::Boottime];

/// The machine's clock is for one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The stamps of a program, by [`CLOCKS`], and the wall time before and after it.
#[derive(Debug)]
struct Stamped {
    stamps: [u64; 2],
    before: SystemTime,
    after: SystemTime,
}

impl Stamped {
    fn new(program: &Runner) -> Self {
        let (mut stamps, before) = ([0; 2], SystemTime::now());
        program.run(&mut stamps);
        Self { stamps, before, after: SystemTime::now() }
    }

    /// Its stamps become the wall time of then.
    fn check(&self, walls: &[WallClock; 2]) {
        for (wall, stamp) in walls.iter().zip(self.stamps) {
            let time = wall.to_wall(stamp);
            assert_eq!(time.basis, Basis::Compared, "{:?}: {self:?}", wall.clock());
            let is_within = time.value + time.error >= self.before && time.value - time.error <= self.after;
            assert!(is_within, "{:?}: {self:?} {time:?}", wall.clock());
        }
    }
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Sets the wall clock forward, by a little less than `seconds`: returns the nanoseconds at least and at most.
fn set_forward(seconds: i64) -> [i64; 2] {
    let before = clock_gettime(ClockId::Monotonic);
    let wall = clock_gettime(ClockId::Realtime);
    clock_settime(ClockId::Realtime, Timespec { tv_sec: wall.tv_sec + seconds, ..wall }).unwrap();
    let passed = nanoseconds(clock_gettime(ClockId::Monotonic)) - nanoseconds(before);
    [seconds * 1_000_000_000 - passed, seconds * 1_000_000_000]
}

#[test]
fn the_wall_clock_is_set_forward_and_back() {
    require_bpf!();
    if !may_disturb("the_wall_clock_is_set_forward_and_back") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let object = &bpf::CLOCKS.load_only(unfitted);
    let program = Runner::new(object, "stamp");
    let mut walls = CLOCKS.map(|clock| WallClock::new(clock).unwrap());
    let mut all = vec![Stamped::new(&program)];
    for seconds in [3600, -7200, 3600] {
        assert_eq!(walls.each_mut().map(WallClock::update), [None; 2]);
        let [least, most] = set_forward(seconds);
        for wall in &mut walls {
            let change = wall.update().expect("the clock was set");
            let error = i64::try_from(wall.to_wall(wall.clock().now()).error.as_nanos()).unwrap();
            assert!(
                (least - 2 * error..=most + 2 * error).contains(&change.stepped),
                "{least} {change:?} {most}"
            );
            assert_eq!(change.suspended, Duration::ZERO);
        }
        all.push(Stamped::new(&program));
    }
    assert_eq!(walls.each_mut().map(WallClock::update), [None; 2]);
    all.iter().for_each(|stamped| stamped.check(&walls));
    println!("explored {} stamps", 2 * all.len());
}

#[test]
fn the_machine_is_suspended() {
    require_bpf!();
    if !may_disturb("the_machine_is_suspended") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (states, alarm) = ("/sys/power/mem_sleep", "/sys/class/rtc/rtc0/wakealarm");
    let can_sleep = fs::read_to_string(states).is_ok_and(|states| states.contains("deep"));
    if !can_sleep || !fs::exists(alarm).unwrap() {
        return skipped("the_machine_is_suspended", "this machine can't be suspended, or not wake itself");
    }
    let object = &bpf::CLOCKS.load_only(unfitted);
    let program = Runner::new(object, "stamp");
    let mut walls = CLOCKS.map(|clock| WallClock::new(clock).unwrap());
    let before = Stamped::new(&program);
    assert_eq!(walls.each_mut().map(WallClock::update), [None; 2]);

    fs::write(states, "deep").unwrap();
    fs::write(alarm, "+3").unwrap();
    fs::write("/sys/power/state", "mem").unwrap();

    let [monotonic, boottime] = walls.each_mut().map(WallClock::update);
    println!("{monotonic:?} {boottime:?}");
    let change = monotonic.expect("CLOCK_MONOTONIC stood still");
    assert!(change.suspended > Duration::ZERO, "{change:?}");
    // The kernel knows from a clock of whole seconds how long it slept. Both clocks then go on together.
    assert_eq!(boottime.map(|change| change.suspended).unwrap_or_default(), Duration::ZERO);
    let after = Stamped::new(&program);
    assert_eq!(walls.each_mut().map(WallClock::update), [None; 2]);
    before.check(&walls);
    after.check(&walls);
    let [monotonic, boottime] = [0, 1].map(|at| after.stamps[at] - before.stamps[at]);
    assert!(monotonic < boottime, "{monotonic} {boottime}");
}
