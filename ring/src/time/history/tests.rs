use super::*;

/// The clocks of a machine, which the test sets.
#[derive(Clone, Copy)]
struct Machine {
    clock: u64,
    boot: u64,
    wall: i64,
    /// How long one read takes.
    read: u64,
}

impl Machine {
    fn new() -> Self {
        Self { clock: 1_000_000_000, boot: 3_000_000_000, wall: 1_700_000_000_000_000_000, read: 10 }
    }

    fn pass(&mut self, ns: u64) {
        self.clock += ns;
        self.boot += ns;
        self.wall += ns.cast_signed();
    }

    fn suspend(&mut self, ns: u64) {
        self.boot += ns;
        self.wall += ns.cast_signed();
    }

    fn read(&mut self) -> Reading {
        let mut reading = Reading { before: self.clock, boot: 0, wall: 0, after: 0 };
        self.pass(self.read);
        reading.boot = self.boot;
        self.pass(self.read);
        reading.wall = self.wall;
        self.pass(self.read);
        reading.after = self.clock;
        reading
    }

    fn update(&mut self, history: &mut History) -> Option<Change> {
        history.update(|| self.read())
    }
}

fn change(suspended: u64, stepped: i64) -> Option<Change> {
    Some(Change { suspended: Duration::from_nanos(suspended), stepped })
}

/// The true wall time is within the error of the estimate, and the reverse.
fn check(history: &History, clock: u64, wall: i64, expected: Basis) -> i128 {
    let (at, error, basis) = history.wall(clock);
    assert_eq!(basis, expected, "{clock}");
    assert!((at - i128::from(wall)).abs() <= error, "{at} ± {error}, but it was {wall}");
    let (at, back, _) = history.clock(wall.into());
    assert!((i128::from(at) - i128::from(clock)).abs() <= back, "{at} ± {back}, but it was {clock}");
    error
}

#[test]
fn an_offset_is_known_to_half_of_a_reading() {
    let (mut machine, mut history) = (Machine::new(), History::new());
    assert_eq!(machine.update(&mut history), None);
    let stamp = machine;
    assert_eq!(check(&history, stamp.clock, stamp.wall, Basis::After), 15);
    assert_eq!(machine.update(&mut history), None);
    assert_eq!(check(&history, stamp.clock, stamp.wall, Basis::Compared), 15);
    // Years later it is the same: rates change for all clocks alike.
    machine.pass(1 << 58);
    machine.update(&mut history);
    assert_eq!(check(&history, machine.clock - 30, machine.wall - 30, Basis::Compared), 15);
    assert_eq!(check(&history, 0, Machine::new().wall - 1_000_000_000, Basis::Before), 15);
    assert_eq!(history.0.len(), 1);
}

#[test]
fn steps_and_suspends_are_noticed() {
    let (mut machine, mut history) = (Machine::new(), History::new());
    machine.update(&mut history);
    let (second, hour) = (1_000_000_000, 3_600_000_000_000);
    // What happens, and what the update must say of it.
    let events: [(i64, u64, Option<Change>); 6] = [
        (hour, 0, change(0, hour)),
        (-hour, 0, change(0, -hour)),
        (-second, 0, change(0, -second)), // a leap second
        (0, 8 * 3600 * second.cast_unsigned(), change(8 * 3600 * second.cast_unsigned(), 0)),
        (1000, 0, change(0, 1000)),
        (hour, 1000, change(1000, hour)),
    ];
    let mut stamps = Vec::new();
    for (step, suspend, expected) in events {
        machine.pass(second.cast_unsigned());
        stamps.push((machine, Basis::Compared));
        machine.update(&mut history);
        machine.pass(1000);
        stamps.push((machine, Basis::Changed));
        machine.wall += step;
        machine.suspend(suspend);
        machine.pass(1000);
        stamps.push((machine, Basis::Changed));
        assert_eq!(machine.update(&mut history), expected);
        assert_eq!(machine.update(&mut history), None);
        for (stamp, basis) in &stamps {
            check(&history, stamp.clock, stamp.wall, *basis);
        }
    }
    // A step of less than the errors is part of them.
    machine.wall += 20;
    stamps.push((machine, Basis::Compared));
    assert_eq!(machine.update(&mut history), None);
    let (stamp, basis) = stamps[stamps.len() - 1];
    assert_eq!(check(&history, stamp.clock, stamp.wall, basis), 25);
}

#[test]
fn a_wall_time_that_was_shown_twice_or_never() {
    let (mut machine, mut history) = (Machine::new(), History::new());
    machine.update(&mut history);
    machine.pass(1_000_000);
    machine.update(&mut history);
    let twice = machine;
    machine.wall -= 500_000;
    machine.update(&mut history);
    machine.pass(1_000_000);
    machine.update(&mut history);
    // The second time, and the error reaches to the first.
    let (at, error, basis) = history.clock(i128::from(twice.wall) - 100_000);
    let (first, second) = (twice.clock - 100_000, twice.clock + 400_000);
    assert_eq!(basis, Basis::Changed);
    assert!(at.abs_diff(second) <= 20 && error >= i128::from(second - first), "{at} ± {error}");
    assert!(error < 500_100);

    let never = machine;
    machine.wall += 500_000;
    machine.update(&mut history);
    machine.pass(1_000_000);
    machine.update(&mut history);
    let (at, error, basis) = history.clock(i128::from(never.wall) + 250_000);
    assert_eq!(basis, Basis::Changed);
    assert!(i128::from(at.abs_diff(never.clock)) <= error && error < 1000, "{at} ± {error}");
}

#[test]
fn interrupted_readings_are_repeated() {
    let (mut machine, mut history) = (Machine::new(), History::new());
    // Each second reading takes long.
    let mut turn = 0;
    let mut read = |machine: &mut Machine| {
        turn += 1;
        machine.read = if turn % 2 == 1 { 1_000_000 } else { 10 };
        machine.read()
    };
    for _ in 0..10 {
        assert_eq!(history.update(|| read(&mut machine)), None);
    }
    assert_eq!(check(&history, machine.clock, machine.wall, Basis::After), 15);
    // If all are, then the error says so.
    machine.read = 1_000_000;
    let stamp = machine;
    assert_eq!(machine.update(&mut history), None);
    let error = check(&history, stamp.clock, stamp.wall, Basis::Compared);
    assert!((1_000_000..=3_000_000).contains(&error), "{error}");
    // It does not hide a step from a later reading.
    (machine.read, machine.wall) = (10, machine.wall + 100_000);
    assert_eq!(machine.update(&mut history), change(0, 100_000));
}

#[test]
fn clocks_that_go_backwards_and_extremes() {
    let (mut machine, mut history) = (Machine::new(), History::new());
    // Readings that are no order.
    assert_eq!(history.update(|| Reading { before: 2, boot: 0, wall: 0, after: 1 }), None);
    assert_eq!(history.wall(u64::MAX), (u64::MAX.into(), i128::MAX, Basis::Before));
    assert_eq!(history.clock(-1), (0, i128::MAX, Basis::Before));
    machine.update(&mut history);
    machine.pass(1_000_000);
    machine.update(&mut history);
    assert_eq!(history.update(|| Reading { before: 2, boot: 0, wall: 0, after: 1 }), None);
    check(&history, machine.clock - 1000, machine.wall - 1000, Basis::Compared);
    // The clock goes back: earlier comparisons were of another clock.
    machine.clock = 500;
    assert!(machine.update(&mut history).is_some());
    assert_eq!(history.0.len(), 1);
    check(&history, machine.clock, machine.wall, Basis::After);

    // Every value of the types gives a time: with clocks at both ends, and times at both ends.
    for (clock, wall) in [(0, i64::MIN), (u64::MAX, i64::MIN), (0, i64::MAX), (u64::MAX, i64::MAX), (7, -7)] {
        for boot in [0, u64::MAX] {
            history.update(|| Reading { before: clock, boot, wall, after: clock });
            for at in [0, 1, 1 << 63, u64::MAX] {
                let (wall, error, _) = history.wall(at);
                assert!(error >= 0);
                let (back, error, _) = history.clock(wall);
                assert!(i128::from(back.abs_diff(at)) <= error, "{at}: {back} ± {error}");
            }
            let seconds = i128::from(i64::MAX) * 1_000_000_000;
            for wall in [-seconds, seconds, i64::MIN.into(), i64::MAX.into(), 0] {
                let (at, error, _) = history.clock(wall);
                assert!(error >= 0 && (at != u64::MAX || error > 0 || wall > 0));
            }
        }
    }
}

#[test]
fn only_the_last_changes_are_remembered() {
    let (mut machine, mut history) = (Machine::new(), History::new());
    machine.update(&mut history);
    let mut stamps = Vec::new();
    for _ in 0..2 * History::CHANGES {
        machine.pass(1000);
        stamps.push(machine);
        machine.update(&mut history);
        machine.wall += 1_000_000;
        assert_eq!(machine.update(&mut history), change(0, 1_000_000));
    }
    assert_eq!(history.0.len(), History::CHANGES + 1);
    let known = |stamp: &&Machine| history.wall(stamp.clock).2 == Basis::Compared;
    assert_eq!(stamps.iter().filter(known).count(), History::CHANGES);
    stamps.iter().filter(known).for_each(|stamp| {
        check(&history, stamp.clock, stamp.wall, Basis::Compared);
    });
    assert_eq!(history.wall(stamps[0].clock).2, Basis::Before);
}

/// Random steps, suspends and interruptions: every estimate is within its error.
#[test]
fn estimates_are_within_their_errors() {
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut compared, mut changed) = (0, 0);
    for _ in 0..200 {
        let (mut machine, mut history) = (Machine::new(), History::new());
        machine.update(&mut history);
        let mut stamps = Vec::new();
        for _ in 0..100 {
            machine.pass(1000 + random(100_000));
            stamps.push(machine);
            // At most one event between two updates: of two that undo each other nothing would be seen.
            let size = 1 << random(40); // 18 minutes
            match random(8) {
                0 => machine.wall += random(size).cast_signed(),
                1 => machine.wall -= random(size).cast_signed(),
                2 => machine.suspend(random(size)),
                _ => {}
            }
            machine.pass(1000 + random(100_000));
            stamps.push(machine);
            let longest = 1 << random(12);
            machine.read = 1 + random(longest);
            machine.update(&mut history);
        }
        for stamp in &stamps {
            let (wall, error, basis) = history.wall(stamp.clock);
            match basis {
                Basis::Compared => compared += 1,
                Basis::Changed => changed += 1,
                Basis::Before | Basis::After => continue,
            }
            assert!((wall - i128::from(stamp.wall)).abs() <= error, "{wall} ± {error}: {}", stamp.wall);
            let (clock, error, _) = history.clock(stamp.wall.into());
            assert!(i128::from(clock.abs_diff(stamp.clock)) <= error, "{clock} ± {error}: {}", stamp.clock);
        }
    }
    assert!(compared > 10_000 && changed > 3_000, "{compared} {changed}");
}
