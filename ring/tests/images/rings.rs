//! Rings with every set of options, and rings with every kind of loss.

use mapring::abi::seq::PENDING;
use mapring::abi::{Gate, Kind, Tails};
use mapring::writers::MemfdOptions;
use mapring::{Ring, Writer};

use super::make::{
    END, FULL, GATE, GATE_OF_SHARD, HEAD, Image, KEEP_OLDEST, LIMIT, NO_SHARD, PER_CPU_MAPS, RESIZABLE,
    TAILS, WAKEABLE,
};
use super::seen::{COUNTS, Read, Record, Seen};

const SLOTS: usize = 8;
/// Bytes of the longest tail, and of the area.
const LONGEST: u8 = 64;
const AREA: u64 = 256;

type Event = [u64; 2];
type Named = (String, Image, Seen);

/// How a ticket ends.
#[derive(Clone, Copy)]
enum End {
    Commit,
    Discard,
    Abandon,
}

pub(crate) fn images() -> Vec<Named> {
    let sets = (0..32).filter(|bits| {
        let is_possible = bits & KEEP_OLDEST == 0 || bits & WAKEABLE != 0;
        is_possible && (bits & RESIZABLE == 0 || bits & !(RESIZABLE | WAKEABLE) == 0)
    });
    let others = [
        retired(),
        empty(),
        odd_size(),
        one_slot(),
        tickets_up_to("ring_2_32_tickets", (1 << 32) + 3),
        tickets_up_to("ring_2_62_tickets", (1 << 62) + 3),
        unended(),
        stepped_over(),
        dropped(),
        guarded(),
        stale_heads(),
        forged_slot(),
        forged_tails(),
        tagged(),
    ];
    sets.map(of_options).chain(others.map(|(name, image, seen)| (name.to_owned(), image, seen))).collect()
}

/// The record of a ticket. Its first word is a time stamp.
fn record(shard: usize, ticket: u64) -> Event {
    let stamp = if shard == 0 { ticket.wrapping_mul(1000) + 1 } else { ticket * 3000 + 500 };
    [stamp, ticket ^ 0x0123_4567_89ab_cdef]
}

/// The tail of a ticket: bytes that count up from 16 times the ticket.
fn tail(ticket: u64) -> Vec<u8> {
    let ticket = u8::try_from(ticket).unwrap();
    let lengths = [0, 1, 16, 33, LONGEST];
    (0..lengths[usize::from(ticket % 5)]).map(|at| (16 * ticket).wrapping_add(at)).collect()
}

fn delivered(shard: usize, ticket: u64) -> Record {
    Record { shard, ticket, record: bytemuck::bytes_of(&record(shard, ticket)).to_vec(), tail: Vec::new() }
}

/// A reader that finds these records. `counts` are the others that aren't 0.
fn read(start: &'static str, records: Vec<Record>, counts: &[(&str, u64)]) -> Read {
    let mut read = Read { start, ..Read::default() };
    for (name, count) in counts.iter().copied().chain([("delivered", records.len() as u64)]) {
        read.counts[COUNTS.iter().position(|it| *it == name).unwrap()] = count;
    }
    Read { records, ..read }
}

fn of_shard(shard: usize, tickets: impl IntoIterator<Item = u64>) -> Vec<Record> {
    tickets.into_iter().map(|ticket| delivered(shard, ticket)).collect()
}

fn ring(options: &str, image: &Image) -> Seen {
    let geometry = &image.geometry;
    Seen::region("ring", options, geometry.record(), geometry.capacity(), geometry.shards())
}

fn write(writer: &Writer<Event>, shard: usize, first: u64, ends: impl IntoIterator<Item = End>) {
    for (ticket, end) in (first..).zip(ends) {
        let mut slot = writer.reserve().unwrap();
        slot.write(&record(shard, ticket));
        match end {
            End::Commit => assert_eq!(slot.commit(), Some(ticket)),
            End::Discard => slot.discard(),
            End::Abandon => std::mem::forget(slot),
        }
    }
}

/// A ring with these options. In shard 0, 11 records in 8 slots: the first 3 are overwritten. In shard 1, the second of 3
/// tickets was discarded.
fn of_options(bits: u64) -> Named {
    let has = |option| bits & option != 0;
    let shards = if has(PER_CPU_MAPS) { 1 } else { 2 };
    let mut options = MemfdOptions::default();
    if has(TAILS) {
        options = options.tails(Tails::new(LONGEST.into(), AREA).unwrap());
    }
    let made = Ring::<Event>::create_memfd_with(SLOTS, shards, options).unwrap();
    let writer = made.writer(0).unwrap();
    for ticket in 0..11 {
        let tail = if has(TAILS) { tail(ticket) } else { Vec::new() };
        assert_eq!(writer.push_with_tail(&record(0, ticket), &tail), Some(ticket));
    }
    if shards == 2 {
        write(&made.writer(1).unwrap(), 1, 0, [End::Commit, End::Discard, End::Commit]);
    }
    let mut image = Image::of(&made.region());
    image.set_options(bits);
    let header = image.header(0);
    if has(KEEP_OLDEST) {
        image.words[header + LIMIT] = 11;
        image.drop(header + FULL, 3, 0);
        image.require(3, 3);
    }
    if has(KEEP_OLDEST) && has(TAILS) {
        let tails = image.tails(0);
        // All has ended, and no record was read: `read`, the mark, `ended`.
        image.words[tails + 6..tails + 9].copy_from_slice(&[0, 3, 11]);
    }
    // The sum of the claims of 64 bytes, of which each gives back what it does not need, makes `high` 352 in the end. So positions
    // before 96 are overwritten: those of the tickets up to 4, which is at 80.
    let first_whole = if has(TAILS) { 5 } else { 0 };
    let others = if shards == 2 { of_shard(1, [0, 2]) } else { Vec::new() };
    let found = |start, next: u64, lapped| {
        let mut records = of_shard(0, next.max(first_whole)..11);
        if has(TAILS) {
            records.iter_mut().for_each(|it| it.tail = tail(it.ticket));
        }
        let mut counts = vec![("lapped", lapped), ("tail_lost", first_whole.saturating_sub(next))];
        counts.extend([("discarded", shards as u64 - 1), ("full", if has(KEEP_OLDEST) { 3 } else { 0 })]);
        read(start, [records, others.clone()].concat(), &counts)
    };
    let oldest = found("oldest", 3, 0);
    let mut order: Vec<_> = oldest.records.iter().map(|it| (it.shard, it.ticket)).collect();
    order.sort_by_key(|(shard, ticket)| record(*shard, *ticket)[0]);
    let now = read("now", Vec::new(), &[("full", if has(KEEP_OLDEST) { 3 } else { 0 })]);
    let named = [
        (WAKEABLE, "WAKEABLE"),
        (KEEP_OLDEST, "KEEP_OLDEST"),
        (TAILS, "TAILS"),
        (PER_CPU_MAPS, "PER_CPU_MAPS"),
        (RESIZABLE, "RESIZABLE"),
    ];
    let named = named.iter().filter(|(bit, _)| has(*bit) && !(*bit == WAKEABLE && has(KEEP_OLDEST)));
    let named: Vec<_> = named.map(|(_, name)| *name).collect();
    // A lapped reader goes on with the last ticket + 1 - (8 - 1).
    let seen = ring(&named.join(", "), &image).reads(&[oldest, found("first", 4, 4), now]).merged(&order);
    (["ring", &named.join("_").to_lowercase()].join("_").trim_end_matches('_').to_owned(), image, seen)
}

/// A resizable ring that another one has replaced. A reader by a descriptor ends with its last record.
fn retired() -> (&'static str, Image, Seen) {
    let (_, mut image, seen) = of_options(RESIZABLE);
    image.words[GATE] = Gate::Retired.encode(SLOTS);
    for (shard, tickets) in [(0, 11), (1, 3)] {
        let header = image.header(shard);
        image.words[header + END] = tickets;
        image.words[header + GATE_OF_SHARD] =
            Gate::Closing.encode_shard(&image.geometry, shard, Default::default());
    }
    ("ring_resizable_retired", image, seen)
}

/// All bytes after the preamble are 0.
fn empty() -> (&'static str, Image, Seen) {
    let image = Image::new(Kind::Ring, 16, 8, 2);
    let nothing = ["oldest", "first", "now"].map(|start| read(start, Vec::new(), &[]));
    let seen = ring("", &image).reads(&nothing);
    ("ring_empty", image, seen)
}

/// Records of 13 bytes: 8 elements are the shortest distance between two that start on a line.
fn odd_size() -> (&'static str, Image, Seen) {
    let made = Ring::<[u8; 13]>::create_memfd(4, 2).unwrap();
    let bytes = |shard: usize, ticket: u64| [u8::try_from(16 * ticket + shard as u64).unwrap(); 13];
    for shard in 0..2 {
        let writer = made.writer(shard).unwrap();
        (0..3).for_each(|ticket| assert_eq!(writer.push(&bytes(shard, ticket)), Some(ticket)));
    }
    let image = Image::of(&made.region());
    let record = |shard, ticket| Record { record: bytes(shard, ticket).to_vec(), ..delivered(shard, ticket) };
    let all: Vec<_> = (0..2).flat_map(|shard| (0..3).map(move |ticket| record(shard, ticket))).collect();
    let seen = ring("", &image).reads(&[
        read("oldest", all.clone(), &[]),
        read("first", all, &[]),
        read("now", Vec::new(), &[]),
    ]);
    ("ring_odd_size", image, seen)
}

fn one_slot() -> (&'static str, Image, Seen) {
    let mut image = Image::new(Kind::Ring, 16, 1, 1);
    (0..3).for_each(|ticket| image.lay(0, ticket, &record(0, ticket)));
    let seen = ring("", &image).reads(&[
        read("oldest", of_shard(0, [2]), &[]),
        read("first", of_shard(0, [2]), &[("lapped", 2)]),
        read("now", Vec::new(), &[]),
    ]);
    ("ring_one_slot", image, seen)
}

/// The last lap before this ticket.
fn tickets_up_to(name: &'static str, end: u64) -> (&'static str, Image, Seen) {
    let mut image = Image::new(Kind::Ring, 16, 8, 1);
    (end - 8..end).for_each(|ticket| image.lay(0, ticket, &record(0, ticket)));
    let seen = ring("", &image).reads(&[
        read("oldest", of_shard(0, end - 8..end), &[]),
        read("first", of_shard(0, end - 7..end), &[("lapped", end - 7)]),
        read("now", Vec::new(), &[]),
    ]);
    (name, image, seen)
}

/// Tickets 1 and 5 are still being written: the reader skips the first, and waits for the second.
fn unended() -> (&'static str, Image, Seen) {
    use End::{Abandon, Commit, Discard};
    let made = Ring::<Event>::create_memfd(SLOTS, 1).unwrap();
    write(&made.writer(0).unwrap(), 0, 0, [Commit, Abandon, Commit, Discard, Commit, Abandon]);
    let image = Image::of(&made.region());
    let found = |start| {
        let read = read(start, of_shard(0, [0, 2, 4]), &[("skipped", 1), ("discarded", 1)]);
        Read { unended: vec![(0, 1)], ..read }
    };
    let seen = ring("", &image).reads(&[found("oldest"), found("first"), read("now", Vec::new(), &[])]);
    ("ring_unended", image, seen)
}

/// Ticket 1 never ended, so no writer could claim ticket 9 in its slot.
fn stepped_over() -> (&'static str, Image, Seen) {
    let made = Ring::<Event>::create_memfd(SLOTS, 1).unwrap();
    let writer = made.writer(0).unwrap();
    let ends = (0..9).map(|ticket| if ticket == 1 { End::Abandon } else { End::Commit });
    write(&writer, 0, 0, ends);
    write(&writer, 0, 10, [End::Commit; 3]);
    let image = Image::of(&made.region());
    let found = |start, next, lapped| {
        let tickets = (next..13).filter(|ticket| *ticket != 9);
        let read = read(start, of_shard(0, tickets), &[("lapped", lapped), ("stepped_over", 1)]);
        Read { unended: vec![(0, 1)], ..read }
    };
    let seen =
        ring("", &image).reads(&[found("oldest", 5, 0), found("first", 6, 6), read("now", Vec::new(), &[])]);
    ("ring_stepped_over", image, seen)
}

/// No writer has ended its record, so 3 others were dropped; 2 more, because their CPU has no shard.
fn dropped() -> (&'static str, Image, Seen) {
    let made = Ring::<Event>::create_memfd(4, 1).unwrap();
    let writer = made.writer(0).unwrap();
    write(&writer, 0, 0, [End::Abandon; 4]);
    (0..3).for_each(|_| assert_eq!(writer.push(&record(0, 0)), None));
    let mut image = Image::of(&made.region());
    image.words[NO_SHARD] = 2;
    let counts = [("no_slot", 3), ("no_shard", 2)];
    let seen =
        ring("", &image).reads(&["oldest", "first", "now"].map(|start| read(start, Vec::new(), &counts)));
    ("ring_dropped", image, seen)
}

/// A program was interrupted in a guarded claim of ticket 3. The one that interrupted it wrote ticket 4.
fn guarded() -> (&'static str, Image, Seen) {
    let mut image = Image::new(Kind::Ring, 16, 8, 1);
    [0, 1, 2, 4].into_iter().for_each(|ticket| image.lay(0, ticket, &record(0, ticket)));
    let header = image.header(0);
    image.words[header + HEAD] = 5 | PENDING;
    let found = |start| read(start, of_shard(0, [0, 1, 2, 4]), &[("skipped", 1)]);
    let seen = ring("", &image).reads(&[found("oldest"), found("first"), read("now", Vec::new(), &[])]);
    ("ring_guarded", image, seen)
}

/// `head` is only a hint: here it is 0 in one shard, and far ahead in the other.
fn stale_heads() -> (&'static str, Image, Seen) {
    let mut image = Image::new(Kind::Ring, 16, 8, 2);
    for (shard, head) in [(0, 0), (1, 123_456_789)] {
        (0..5).for_each(|ticket| image.lay(shard, ticket, &record(shard, ticket)));
        let header = image.header(shard);
        image.words[header + HEAD] = head;
    }
    let all = [of_shard(0, 0..5), of_shard(1, 0..5)].concat();
    let seen = ring("", &image).reads(&[
        read("oldest", all.clone(), &[]),
        read("first", all, &[]),
        read("now", Vec::new(), &[]),
    ]);
    ("ring_stale_heads", image, seen)
}

/// Tickets 0 to 7, but somebody forged the slot of ticket 3: it has ended a ticket of lap 1000, 8003. So ticket 11 is taken, and the
/// last one; nobody has 8 to 10.
fn forged_slot() -> (&'static str, Image, Seen) {
    let mut image = Image::new(Kind::Ring, 16, 8, 1);
    (0..8).for_each(|ticket| image.lay(0, ticket, &record(0, ticket)));
    let slot = image.slot(0, 3);
    image.words[slot] = image.ended(8003);
    let counts = |lapped| [("lapped", lapped), ("stepped_over", 3)];
    let seen = ring("", &image).reads(&[
        read("oldest", of_shard(0, 4..8), &counts(1)),
        // From 3 on with 12 - 7 = 5.
        read("first", of_shard(0, [0, 1, 2, 5, 6, 7]), &counts(3)),
        read("now", Vec::new(), &[]),
    ]);
    ("ring_forged_slot", image, seen)
}

/// Ticket 0 says that its tail is longer than the longest, and ticket 1 that it is where nothing was written yet. The position of
/// ticket 2 is no multiple of 16, and wraps: it is at byte 240.
fn forged_tails() -> (&'static str, Image, Seen) {
    let options = MemfdOptions::default().tails(Tails::new(LONGEST.into(), AREA).unwrap());
    let made = Ring::<Event>::create_memfd_with(SLOTS, 1, options).unwrap();
    let writer = made.writer(0).unwrap();
    (0..4).for_each(|ticket| {
        assert_eq!(writer.push_with_tail(&record(0, ticket), &tail(ticket)), Some(ticket))
    });
    assert_eq!(writer.push_with_tail(&record(0, 4), &vec![0; usize::from(LONGEST) + 1]), None); // too long
    let mut image = Image::of(&made.region());
    let (tails, area) = (image.tails(0), image.slot(0, 7) + 5);
    image.drop(tails + 3, 2, 0); // no space
    let high = image.words[tails + 1];
    let [first, second, third] = [0, 1, 2].map(|ticket| image.slot(0, ticket));
    image.words[first + 2] = u64::from(LONGEST) + 1;
    image.words[second + 1] = high + 16;
    image.words[third + 1] = u64::MAX;
    image.words[area + 30..area + 32].copy_from_slice(&[0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
    let tails =
        [(2, (0..16).collect()), (3, tail(3))].map(|(ticket, tail)| Record { tail, ..delivered(0, ticket) });
    let counts = [("no_tail", 2), ("too_long", 1)];
    let found = |start| read(start, tails.to_vec(), &[&counts[..], &[("tail_lost", 2)]].concat());
    let seen =
        ring("TAILS", &image).reads(&[found("oldest"), found("first"), read("now", Vec::new(), &counts)]);
    ("ring_forged_tails", image, seen)
}

/// The first word of each record is the tag of its variant.
fn tagged() -> (&'static str, Image, Seen) {
    let records = [[7, 0x0303, 0], [0xffff_ffff, u64::MAX, 5], [9, 1, 2]];
    let made = Ring::<[u64; 3]>::create_memfd(4, 1).unwrap();
    let writer = made.writer(0).unwrap();
    (0..).zip(&records).for_each(|(ticket, record)| assert_eq!(writer.push(record), Some(ticket)));
    let image = Image::of(&made.region());
    let record = |(ticket, record): (u64, &[u64; 3])| Record {
        record: bytemuck::bytes_of(record).to_vec(),
        ..delivered(0, ticket)
    };
    let all: Vec<_> = (0..).zip(&records).map(record).collect();
    let seen = ring("", &image).reads(&[
        read("oldest", all.clone(), &[]),
        read("first", all, &[]),
        read("now", Vec::new(), &[]),
    ]);
    ("ring_tagged", image, seen)
}
