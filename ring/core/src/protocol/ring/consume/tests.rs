//! What a cursor does at each state of a slot: what it delivers, waits for, passes and counts, and how many loads that takes.

use std::thread;
use std::time::Duration;

use super::super::memory::Memory;
use super::*;

/// Never skips a ticket that may still end.
const NEVER: u64 = u64::MAX;

fn step(cursor: &mut Cursor, memory: &Memory) -> Step {
    cursor.step(&mut memory.source(), &mut 0_u64)
}

/// The step that checks later tickets.
fn check(cursor: &mut Cursor, memory: &Memory) -> Step {
    cursor.look_past();
    step(cursor, memory)
}

#[test]
fn a_cursor_starts_at_the_oldest_ticket_the_next_one_or_the_first() {
    for (records, oldest, now) in [(0, 0, 0), (3, 0, 3), (4, 0, 4), (11, 7, 11)] {
        let memory = Memory::with(4, records);
        let at = |start| Cursor::new(&mut memory.source(), start, 5).next();
        assert_eq!([Start::Oldest, Start::Now, Start::First].map(at), [oldest, now, 0], "{records} records");
    }
    let mut cursor = Cursor::at(9, 5);
    assert_eq!((cursor.next(), cursor.patience()), (9, 5));
    cursor.set_patience(6);
    assert_eq!(cursor.patience(), 6);
}

#[test]
fn one_step_of_sixteen_without_a_record_checks_later_tickets() {
    let memory = Memory::new(8);
    memory.write(0);
    memory.publish(1);
    let mut cursor = Cursor::at(0, NEVER);
    let mut source = memory.source();
    for round in 1..=3 {
        for _ in 0..15 {
            let before = source.loads;
            assert_eq!(cursor.step(&mut source, &mut 0_u64), Step::Empty);
            assert_eq!((source.loads, cursor.cost()), (before, 1));
        }
        let before = source.loads;
        assert_eq!(cursor.step(&mut source, &mut 0_u64), Step::Empty);
        assert!((1..=16).contains(&(source.loads - before)) && cursor.cost() == 1, "round {round}");
    }
    cursor.look_past();
    let before = source.loads;
    assert_eq!(cursor.step(&mut source, &mut 0_u64), Step::Empty);
    assert!(source.loads > before, "the next step checks");
    assert_eq!((cursor.next(), cursor.stats()), (0, ReadStats::default()), "its patience lasts for ever");
}

#[test]
fn a_ticket_that_is_being_written_is_skipped_after_the_patience_and_named_until_it_ends() {
    let memory = Memory::new(8);
    memory.write(0);
    memory.publish(1);
    let mut cursor = Cursor::at(0, 20_000_000);
    assert_eq!(check(&mut cursor, &memory), Step::Empty, "the wait begins");
    let moved = (0..5_000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        check(&mut cursor, &memory) == Step::Moved
    });
    assert!(moved, "it waits for as long as it should, from the first check on");
    assert_eq!(cursor.stats(), ReadStats { skipped: 1, ..ReadStats::default() });
    let lost: Vec<_> = cursor.take_losses().map(|loss| (loss.cause, loss.tickets, loss.count)).collect();
    assert_eq!(lost, [(LossCause::Skipped, Some(0..1), 1)]);
    assert_eq!(cursor.take_losses().count(), 0, "they are listed once");
    assert_eq!(step(&mut cursor, &memory), Step::Record(1));
    assert_eq!(cursor.unended(&mut memory.source()).map(|(ticket, _)| ticket), Some(0));
    memory.publish(0);
    assert_eq!(cursor.unended(&mut memory.source()), None);
}

#[test]
fn who_waited_for_one_ticket_has_waited_for_those_claimed_before_the_end_of_that_wait() {
    let memory = Memory::new(16);
    memory.write(0);
    memory.write(1);
    memory.publish(2);
    let mut cursor = Cursor::at(0, 0);
    assert_eq!(check(&mut cursor, &memory), Step::Moved);
    cursor.set_patience(NEVER);
    assert_eq!(check(&mut cursor, &memory), Step::Empty, "another patience");
    cursor.set_patience(0);
    // The step after a skipped ticket checks the next one at once.
    assert_eq!(check(&mut cursor, &memory), Step::Moved);
    assert_eq!(step(&mut cursor, &memory), Step::Record(2));
    assert_eq!(cursor.stats(), ReadStats { delivered: 1, skipped: 2, ..ReadStats::default() });
}

#[test]
fn patience_ends_when_three_quarters_of_the_slots_follow() {
    for (later, expected) in [(5, Step::Empty), (6, Step::Moved), (7, Step::Moved)] {
        let memory = Memory::new(8);
        memory.write(0);
        (1..=later).for_each(|t| memory.publish(t));
        memory.set_head(later + 1);
        let mut cursor = Cursor::at(0, NEVER);
        assert_eq!(check(&mut cursor, &memory), expected, "{later} later tickets");
    }
}

#[test]
fn a_free_slot_before_later_tickets_is_stepped_over_unless_a_claim_goes_on() {
    const PENDING: u64 = 1 << 63; // as in docs/abi.md
    let memory = Memory::new(8);
    memory.publish(1);
    memory.set_head(2 | PENDING);
    let mut cursor = Cursor::at(0, NEVER);
    assert_eq!(check(&mut cursor, &memory), Step::Empty, "a guarded claim may still take it");
    memory.set_head(2);
    assert_eq!(check(&mut cursor, &memory), Step::Moved);
    assert_eq!(cursor.stats(), ReadStats { stepped_over: 1, ..ReadStats::default() });
    assert_eq!(cursor.unended(&mut memory.source()), None, "nobody has it");
    assert_eq!(cursor.take_losses().count(), 0);

    // The slot of ticket 8 is still that of ticket 0, whose writer died.
    let memory = Memory::new(8);
    memory.write(0);
    memory.publish(9);
    memory.set_head(10);
    let mut cursor = Cursor::at(8, NEVER);
    assert_eq!(check(&mut cursor, &memory), Step::Moved);
    assert_eq!(cursor.stats(), ReadStats { stepped_over: 1, ..ReadStats::default() });
    assert_eq!(cursor.unended(&mut memory.source()).map(|(ticket, _)| ticket), Some(0));
}

#[test]
fn a_lap_is_lost_and_costs_a_search() {
    let memory = Memory::with(8, 21);
    let mut cursor = Cursor::at(2, NEVER);
    assert_eq!(
        (step(&mut cursor, &memory), cursor.next()),
        (Step::Moved, 14),
        "an eighth of a lap after the oldest"
    );
    // Two walks, each with a bisection of 31 loads and 6 more; in units of 16 loads, and one more.
    assert_eq!(cursor.cost(), 6);
    assert_eq!(cursor.stats(), ReadStats { lapped: 12, ..ReadStats::default() });
    let lost: Vec<_> = cursor.take_losses().map(|loss| (loss.cause, loss.tickets)).collect();
    assert_eq!(lost, [(LossCause::Lapped, Some(2..14))]);
}

#[test]
fn a_torn_copy_is_counted_and_the_end_of_a_run_is_not() {
    let memory = Memory::new(8);
    let mut cursor = Cursor::at(0, NEVER);
    assert_eq!(cursor.without(&mut memory.source(), NoRecord::End), Step::Moved);
    assert_eq!(cursor.stats().torn, 0);
    for torn in 1..=2 {
        assert_eq!(cursor.without(&mut memory.source(), NoRecord::Torn), Step::Moved);
        assert_eq!(cursor.stats().torn, torn);
    }
}

#[test]
fn a_ring_ends_where_no_slot_is_claimed() {
    let at_end = |cursor: &mut Cursor, memory: &Memory| cursor.at_end(&mut memory.source());
    assert!(at_end(&mut Cursor::at(0, NEVER), &Memory::new(8)), "an empty one");
    let memory = Memory::with(8, 11);
    assert!(!at_end(&mut Cursor::at(10, NEVER), &memory), "a record comes");
    assert!(!at_end(&mut Cursor::at(2, NEVER), &memory), "a lap was missed");
    assert!(at_end(&mut Cursor::at(11, NEVER), &memory));

    // A ticket that is being written: the end comes after it, once the cursor has waited.
    memory.write(11);
    let mut cursor = Cursor::at(11, NEVER);
    assert!(!at_end(&mut cursor, &memory) && cursor.next() == 11);
    cursor.set_patience(0);
    assert!(!at_end(&mut cursor, &memory));
    assert_eq!((cursor.next(), cursor.stats().skipped), (12, 1));
    assert_eq!(cursor.unended(&mut memory.source()).map(|(ticket, _)| ticket), Some(11));
    assert!(at_end(&mut cursor, &memory));

    // One that was stepped over: later ones come after it.
    let memory = Memory::with(8, 8);
    memory.publish(9);
    memory.set_head(10);
    let mut cursor = Cursor::at(8, NEVER);
    assert!(!at_end(&mut cursor, &memory) && cursor.next() == 8);
    cursor.set_patience(0);
    assert!(!at_end(&mut cursor, &memory));
    assert_eq!((cursor.next(), cursor.stats().stepped_over), (9, 1));
}

#[test]
fn a_run_delivers_tickets_of_one_lap_up_to_a_limit() {
    let memory = Memory::with(8, 13);
    for (from, limit, records, step) in [
        (6, 9, 6..8, Step::Moved), // to the end of the lap
        (6, 1, 6..7, Step::Moved),
        (8, 3, 8..11, Step::Moved),
        (8, 9, 8..13, Step::Empty),
        (13, 9, 13..13, Step::Empty),
        (8, 0, 8..8, Step::Moved),
    ] {
        let mut cursor = Cursor::at(from, NEVER);
        let (mut room, mut found) = ([0_u64; 8], vec![]);
        let (count, last) =
            cursor.run(&mut memory.source(), &mut room[..], limit, |t, value: &u64| found.push((t, *value)));
        let expected: Vec<_> = records.clone().map(|t| (t, t)).collect();
        assert_eq!((&found, count, last), (&expected, expected.len(), step), "from {from}, at most {limit}");
        assert!(room[..count].iter().copied().eq(records.clone()), "each in a place of its own");
        let delivered = count as u64;
        assert_eq!((cursor.next(), cursor.stats().delivered), (records.end, delivered));
    }
    // A panic of the caller does not bring a record again.
    let mut cursor = Cursor::at(8, NEVER);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cursor.run(&mut memory.source(), &mut 0_u64, 9, |t, _| assert_eq!(t, 8));
    }));
    assert!(caught.is_err());
    assert_eq!((cursor.next(), cursor.stats().delivered), (10, 2));
}

#[test]
fn a_run_says_what_was_taken_and_whether_it_is_over() {
    let memory = Memory::with(8, 13);
    let mut cursor = Cursor::at(9, NEVER);
    let mut run = cursor.begin_run(&memory.source(), 3);
    let mut source = memory.source();
    let mut value = 0_u64;
    for taken in 0..3 {
        assert_eq!((run.taken(), run.is_over()), (taken, false));
        assert_eq!((run.take(&mut source, &mut value), value), (Ok(9 + taken), 9 + taken));
    }
    assert_eq!((run.taken(), run.is_over()), (3, true));
    assert_eq!(run.take(&mut source, &mut value), Err(NoRecord::End));
    cursor.end_run(&run);
    assert_eq!((cursor.next(), cursor.stats().delivered), (12, 3));
}

#[test]
fn what_a_reader_would_find_is_nothing_held_some_or_many() {
    let unread = |cursor: &mut Cursor, memory: &Memory, many| cursor.unread(&mut memory.source(), many);
    let memory = Memory::with(16, 20);
    assert_eq!(unread(&mut Cursor::at(20, NEVER), &memory, 1), Unread::Nothing);
    assert_eq!(unread(&mut Cursor::at(19, NEVER), &memory, 1), Unread::Many);
    assert_eq!(unread(&mut Cursor::at(3, NEVER), &memory, 8), Unread::Many, "a whole lap");
    // The watermark of 8 records from ticket 16 on is ticket 23.
    let mut cursor = Cursor::at(16, NEVER);
    assert_eq!(unread(&mut cursor, &memory, 8), Unread::Some);
    (20..23).for_each(|t| assert_eq!(memory.writer().push(&t), Some(t)));
    assert_eq!(unread(&mut cursor, &memory, 8), Unread::Some);
    assert_eq!(memory.writer().push(&23_u64), Some(23));
    assert_eq!(unread(&mut cursor, &memory, 8), Unread::Many);

    // Behind one that is being written.
    let memory = Memory::new(8);
    memory.write(0);
    assert_eq!(unread(&mut Cursor::at(0, NEVER), &memory, 1), Unread::Nothing);
    memory.publish(1);
    assert_eq!(unread(&mut Cursor::at(0, NEVER), &memory, 1), Unread::Held);
    assert_eq!(unread(&mut Cursor::at(0, 0), &memory, 1), Unread::Many, "the wait is over");
    // Behind one that never ends.
    memory.put(0, 0);
    assert_eq!(unread(&mut Cursor::at(0, NEVER), &memory, 1), Unread::Many);
}

#[test]
fn whether_a_ticket_is_claimed_is_said_of_the_next_one_and_all_later_ones() {
    const PENDING: u64 = 1 << 63;
    let is_free = |t, memory: &Memory| Cursor::at(t, NEVER).nothing_claimed(&mut memory.source());
    let memory = Memory::with(8, 11);
    assert!(is_free(11, &memory) && !is_free(10, &memory));
    let mut source = memory.source();
    assert!(Cursor::at(11, NEVER).nothing_claimed(&mut source));
    assert_eq!(source.loads, 2, "the slot and the hint are enough");
    memory.set_head(11 | PENDING);
    assert!(is_free(11, &memory), "a claim that goes on, of a ticket from now on");
    memory.write(11);
    assert!(!is_free(11, &memory));
    // A claim that was interrupted between `head` and the slot.
    let memory = Memory::with(8, 8);
    memory.set_head(10);
    assert!(is_free(8, &memory), "nobody has come to a slot");
    memory.publish(9);
    assert!(!is_free(8, &memory));
    let memory = Memory::new(8);
    assert!(is_free(0, &memory));
    memory.set_head(3);
    assert!(is_free(0, &memory), "a hint alone claims nothing");
}

#[test]
fn losses_happen_between_two_times_at_which_all_was_read() {
    let memory = Memory::with(8, 3);
    let mut cursor = Cursor::at(3, NEVER);
    assert_eq!(cursor.whole_before(), None);
    assert_eq!(step(&mut cursor, &memory), Step::Empty);
    cursor.caught_up(100);
    assert_eq!(cursor.whole_before(), None, "the time before is not known");
    cursor.caught_up(200);
    assert_eq!(cursor.whole_before(), Some(100));
    // Behind a ticket that is being written, later ones may be lost.
    memory.write(3);
    assert_eq!(step(&mut cursor, &memory), Step::Empty);
    cursor.caught_up(300);
    assert_eq!(cursor.whole_before(), Some(100));
    cursor.read_all(400);
    assert_eq!(cursor.whole_before(), Some(200));
    (3..30).for_each(|t| memory.publish(t));
    memory.set_head(30);
    assert_eq!(step(&mut cursor, &memory), Step::Moved);
    let times: Vec<_> = cursor.take_losses().map(|loss| (loss.since, loss.until >= 400)).collect();
    assert_eq!(times, [(Some(400), true)]);
}

#[test]
fn the_newest_record_is_the_last_that_was_not_discarded() {
    let newest = |memory: &Memory| {
        let mut value = 77_u64;
        newest_record(&mut memory.source(), &mut value).map(|ticket| (ticket, value))
    };
    assert_eq!(newest(&Memory::new(8)), None);
    assert_eq!(newest(&Memory::new(1)), None);
    for records in [1, 2, 8, 13] {
        assert_eq!(newest(&Memory::with(8, records)), Some((records - 1, records - 1)), "{records}");
    }
    let memory = Memory::with(8, 5);
    memory.put(4, memory.place.slots().published(4) | DISCARDED);
    memory.write(5);
    assert_eq!(newest(&memory), Some((3, 3)));
    // All of it was discarded.
    let memory = Memory::with(2, 2);
    (0..2).for_each(|t| memory.put(t, memory.place.slots().published(t) | DISCARDED));
    assert_eq!(newest(&memory), None);
}

#[test]
fn the_end_is_found_from_any_hint() {
    let memory = Memory::with(16, 41);
    for hint in [0, 3, 30, 41, 42, 57, 1 << 62, u64::MAX, 41 | 1 << 63] {
        memory.set_head(hint);
        for t in 26..=41 {
            assert_eq!(last_taken(&mut memory.source(), t), Some(40), "hint {hint}, from {t}");
        }
    }
    // A writer that died laps ago keeps its slot, and its `head`.
    memory.write(25);
    memory.put(25, memory.place.slots().writing(9));
    memory.set_head(10);
    assert_eq!(last_taken(&mut memory.source(), 26), Some(40));
    assert_eq!(last_taken(&mut Memory::new(8).source(), 0), None);
    // A hint that its slot confirms is enough, where the slot of `t` was never taken.
    for end in [Memory::write, Memory::publish] {
        let memory = Memory::new(64);
        end(&memory, 40);
        memory.set_head(41);
        assert_eq!(last_taken(&mut memory.source(), 0), Some(40));
    }
}

#[test]
fn a_cursor_skips_to_the_last_record_that_is_early_enough() {
    let skipped = |memory: &Memory, from, before: u64| {
        let mut cursor = Cursor::at(from, NEVER);
        cursor.skip_before(&mut memory.source(), &mut 0_u64, |value| *value < before);
        cursor.next()
    };
    for (slots, records) in [(1, 5), (8, 5), (8, 8), (8, 29), (256, 700)] {
        let memory = Memory::with(slots, records);
        let oldest = records - slots.min(records);
        for before in 0..=records + 1 {
            let last = before.min(records).checked_sub(1).filter(|last| *last >= oldest);
            assert_eq!(
                skipped(&memory, oldest, before),
                last.unwrap_or(oldest),
                "{slots}, {records}, {before}"
            );
        }
        assert_eq!(skipped(&memory, records, records), records, "nothing is after the end");
    }
    // Those without a record are passed.
    let memory = Memory::with(256, 256);
    (100..150).for_each(|t| memory.put(t, memory.place.slots().published(t) | DISCARDED));
    for (before, expected) in [(100, 99), (140, 99), (151, 150), (205, 204), (50, 49)] {
        assert_eq!(skipped(&memory, 0, before), expected, "before {before}");
    }
    assert_eq!(skipped(&Memory::new(8), 0, 5), 0);
}

#[test]
fn a_search_goes_on_after_what_is_overwritten_meanwhile() {
    // Programs write 194 more records when the first one is copied.
    let skipped = |memory: &Memory, from, before: u64| {
        let flood = || (256..450).for_each(|t| assert_eq!(memory.writer().push(&t), Some(t)));
        let mut source = memory.source();
        source.before_take = Some(&flood);
        let mut cursor = Cursor::at(from, NEVER);
        cursor.skip_before(&mut source, &mut 0_u64, |value| *value < before);
        assert!(source.before_take.is_none());
        cursor.next()
    };
    // Three quarters of the tickets are gone, and what is searched for is in the last one.
    for (before, expected) in [(200, 199), (256, 255)] {
        assert_eq!(skipped(&Memory::with(256, 256), 0, before), expected, "before {before}");
    }
    // All of it is gone.
    assert_eq!(skipped(&Memory::with(64, 256), 192, 220), 192);
}
