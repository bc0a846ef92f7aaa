//! Ringbufs in memory files, with any content in their pages.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::*;

const BYTES: usize = 4096;

/// The pages of a ringbuf, which the test writes as the kernel and a consumer do.
struct Forged(File);

impl Forged {
    fn new() -> Self {
        let file = memfd_create("forged", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, (2 * page_size() + BYTES) as u64).unwrap();
        Self(File::from(file))
    }

    fn observe(&self, start: Start) -> RingbufObserver {
        let pages = Mapping::new(self.0.as_fd(), 2 * page_size() + BYTES, false).unwrap();
        RingbufObserver::of(pages, BYTES, start)
    }

    fn store(&self, at: u64, word: u64) {
        self.0.write_all_at(&word.to_ne_bytes(), at).unwrap();
    }

    fn consumer(&self, at: u64) {
        self.store(0, at);
    }

    fn end(&self, at: u64) {
        self.store(page_size() as u64, at);
    }

    fn header(&self, at: u64, word: u32) {
        let data = 2 * page_size() as u64;
        self.0.write_all_at(&word.to_ne_bytes(), data + at % BYTES as u64).unwrap();
    }

    /// A record at a position; returns the next position.
    fn record(&self, at: u64, flags: u32, bytes: &[u8]) -> u64 {
        let data = 2 * page_size() as u64;
        self.header(at, flags | u32::try_from(bytes.len()).unwrap());
        for (byte, place) in bytes.iter().zip(at + 8..) {
            self.0.write_all_at(&[*byte], data + place % BYTES as u64).unwrap();
        }
        at + 8 + bytes.len().next_multiple_of(8) as u64
    }
}

fn all(observer: &mut RingbufObserver) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while observer.for_each(usize::MAX, |at, bytes| found.push((at, bytes.to_vec()))) > 0 {}
    found
}

#[test]
fn records_of_any_length_are_shown_in_order_up_to_one_that_is_being_written() {
    let forged = Forged::new();
    let start = 7 * BYTES as u64 - 24; // the second record goes around the end
    forged.consumer(start);
    let long = forged.record(start, 0, b"abc");
    let discarded = forged.record(long, 0, &[7; 100]);
    let empty = forged.record(discarded, Header::DISCARDED, b"discarded");
    let busy = forged.record(empty, 0, b"");
    let end = forged.record(busy, Header::BUSY, b"busy");
    forged.end(end);
    let mut observer = forged.observe(Start::Oldest);
    let mut one = Vec::new();
    assert_eq!(observer.for_each(1, |at, bytes| one.push((at, bytes.to_vec()))), 1);
    assert_eq!(one, [(start, b"abc".to_vec())]);
    assert_eq!(all(&mut observer), [(long, vec![7; 100]), (empty, Vec::new())]);
    assert_eq!((observer.position(), observer.end()), (busy, end));
    forged.record(busy, 0, b"done");
    assert_eq!(all(&mut observer), [(busy, b"done".to_vec())]);
    let expected = ObserverStats { delivered: 4, discarded: 1, lost_bytes: 0 };
    assert_eq!((observer.position(), observer.stats()), (end, expected));
    assert_eq!(forged.observe(Start::Now).position(), end);
}

/// The kernel keeps its position at most `BYTES - 8` before the consumer's, and writes one header there.
#[test]
fn a_record_is_lost_once_a_header_may_be_in_it() {
    let forged = Forged::new();
    let next = forged.record(0, 0, &[1; 24]);
    for (end, is_there) in [(BYTES as u64 - 8, true), (BYTES as u64, false)] {
        forged.consumer(next);
        forged.end(end);
        forged.header(next, Header::BUSY);
        let mut observer = forged.observe(Start::First);
        assert_eq!(all(&mut observer).len(), usize::from(is_there));
        assert_eq!(
            (observer.position(), observer.stats().lost_bytes),
            (next, if is_there { 0 } else { next })
        );
    }
}

#[test]
fn forged_positions_and_headers_end_in_a_count() {
    let forged = Forged::new();
    let end = 3 * BYTES as u64;
    let positions = [
        0,
        8,
        end - 8,
        end,
        end + 8,
        end - 4,
        1,
        u64::MAX,
        u64::MAX - 7,
        1 << 63,
        end - BYTES as u64,
        end / 2,
    ];
    let headers = [0, 8, 1, u32::MAX, Header::BUSY, Header::DISCARDED, Header::DISCARDED - 1, 4088, 4080];
    for (at, header) in (0..BYTES as u64).step_by(8).zip(headers.into_iter().cycle()) {
        forged.header(at, header);
    }
    for end in [end, 0, 8, 24, BYTES as u64 - 8, u64::MAX, u64::MAX - 7, 1 << 63, 13] {
        for start in [Start::Oldest, Start::First, Start::Now] {
            for first in positions {
                forged.consumer(first);
                forged.end(end);
                let mut observer = forged.observe(start);
                let from = observer.position();
                let mut bytes = 0_u64;
                for second in positions {
                    forged.consumer(second);
                    for _ in 0..2 {
                        observer.for_each(usize::MAX, |_, record| {
                            assert!(record.len() <= BYTES);
                            bytes += 8 + record.len().next_multiple_of(8) as u64;
                        });
                    }
                }
                let stats = observer.stats();
                let moved = observer.position().wrapping_sub(from);
                let known = bytes.wrapping_add(stats.lost_bytes);
                assert!(if stats.discarded == 0 { moved == known } else { moved >= known });
                forged.end(end.wrapping_add(BYTES as u64)); // the rest is lost
                assert_eq!(observer.for_each(usize::MAX, |_, _| ()), 0);
                assert!(observer.position() <= observer.end() || observer.end() < end);
            }
        }
    }
}
