//! Shapes that are possible, and those that are refused.

use super::*;

#[test]
fn a_56_byte_record_fills_a_line() {
    let g = Geometry::new(Kind::Ring, 56, 4096, 2).unwrap();
    assert_eq!((g.element(), g.first(), g.shard(1) - g.shard(0)), (64, 2, 4097));
    assert_eq!(g.entries(), 2 + 2 * 4097);
    assert_eq!(g.slots(1), 2 + 4097 + 1);
}

#[test]
fn shards_start_on_a_line_whatever_the_record() {
    for record in 1..200 {
        for slots in [1, 2, 4, 64] {
            let g = Geometry::new(Kind::Ring, record, slots, 5).unwrap();
            for shard in 0..5 {
                assert_eq!(g.shard(shard) * g.element() % LINE, 0, "record {record}");
                assert_eq!(g.slots(shard) * g.element() % LINE, 0, "record {record}");
                assert!(g.slots(shard) * g.element() >= g.shard(shard) * g.element() + LINE);
            }
            assert!(g.first() * g.element() >= Preamble::BYTES);
            assert_eq!(g.entries(), g.shard(5));
        }
    }
}

#[test]
fn banks_start_on_a_line() {
    let g = Geometry::new(Kind::Counters, 8, 9, 3).unwrap();
    assert_eq!((g.element(), g.first(), g.entries()), (128, 1, 4));
    let g = Geometry::new(Kind::Histograms, HISTOGRAM as u64, 3, 2).unwrap();
    assert_eq!((g.element(), g.first(), g.entries()), (3 * 4096, 1, 3));
    let g = Geometry::new(Kind::Gauges, GAUGE as u64, 3, 2).unwrap();
    assert_eq!((g.element(), g.first(), g.entries()), (3 * 16384, 1, 3));
}

#[test]
fn the_largest_regions_are_as_large_as_a_map_can_be() {
    let cells = |count| Geometry::new(Kind::Cells, 56, count, 1);
    let full = u64::from(u32::MAX) - 2;
    assert_eq!(cells(full).unwrap().entries(), u32::MAX as usize);
    assert_eq!(cells(full + 1), Err(GeometryError::Entries(1 << 32)));
    let counters = |shards| Geometry::new(Kind::Counters, 8, 1, shards);
    assert_eq!(counters(Geometry::SHARDS_MAX).unwrap().shards(), 1 << 16);
    assert_eq!(counters((1 << 16) + 1), Err(GeometryError::Shards((1 << 16) + 1)));
    let histograms = |count| Geometry::new(Kind::Histograms, HISTOGRAM as u64, count, 1);
    assert_eq!(histograms(131_071).unwrap().element(), 131_071 * HISTOGRAM);
    assert_eq!(histograms(131_072), Err(GeometryError::Entries(131_072)));
    // The kernel does not create values larger than 2^29 bytes.
    let record = |bytes| Geometry::new(Kind::Cells, bytes, 1, 1);
    assert_eq!(record((1 << 29) - 8).unwrap().element(), 1 << 29);
    assert_eq!(record((1 << 29) - 7), Err(GeometryError::Record((1 << 29) - 7)));
}

#[test]
fn a_resizable_ring_has_its_headers_first() {
    for record in 1..200 {
        let plain = Geometry::new(Kind::Ring, record, 64, 5).unwrap();
        let g = plain.resizable().unwrap();
        assert_eq!((g.entries(), g.shard(0)), (plain.entries(), plain.shard(0)));
        let larger = Geometry::new(Kind::Ring, record, 128, 5).unwrap().resizable().unwrap();
        for shard in 0..5 {
            assert_eq!(g.shard(shard), larger.shard(shard), "wherever the slots are");
            assert_eq!(g.shard(shard) * g.element() % LINE, 0, "record {record}");
            assert_eq!(g.slots(shard) * g.element() % LINE, 0, "record {record}");
            assert!((g.shard(shard + 1) - g.shard(shard)) * g.element() >= LINE);
            assert!(g.slots(shard) >= g.shard(5) && g.slots(shard) + 64 <= g.entries());
            assert!(shard == 0 || g.slots(shard) >= g.slots(shard - 1) + 64);
        }
    }
    let cells = Geometry::new(Kind::Cells, 56, 4, 1).unwrap();
    let (kind, options) = (Kind::Cells, RingOptions::RESIZABLE);
    assert_eq!(cells.resizable(), Err(GeometryError::Options { kind, options }));
}

#[test]
fn the_ring_of_a_cpu_is_as_large_as_any() {
    let one = Geometry::new(Kind::Ring, 56, 4, 1).unwrap();
    let of_cpu = one.of_cpu().unwrap();
    assert!(of_cpu.options().has_per_cpu_maps() && !one.options().has_per_cpu_maps());
    assert_eq!((of_cpu.entries(), of_cpu.slots(0)), (one.entries(), one.slots(0)));
    assert_eq!(of_cpu.resizable(), Err(impossible(RingOptions::PER_CPU_MAPS.with(RingOptions::RESIZABLE))));
    let two = Geometry::new(Kind::Ring, 56, 4, 2).unwrap();
    assert_eq!(two.of_cpu(), Err(GeometryError::OfCpu(2)));
}

fn impossible(options: RingOptions) -> GeometryError {
    GeometryError::Options { kind: Kind::Ring, options }
}

#[test]
fn commands_are_laid_out_like_a_ring_of_one_shard() {
    for record in 1..200 {
        let g = Geometry::new(Kind::Commands, record, 8, 1).unwrap();
        let ring = Geometry::new(Kind::Ring, record, 8, 1).unwrap();
        assert_eq!((g.element(), g.entries(), g.slots(0)), (ring.element(), ring.entries(), ring.slots(0)));
    }
    assert_eq!(Geometry::new(Kind::Commands, 8, 12, 1), Err(GeometryError::Slots(12)));
    assert_eq!(Geometry::new(Kind::Commands, 8, 8, 2), Err(GeometryError::Sharded(2)));
}

#[test]
fn a_shard_with_tails_is_one_element() {
    let tails = Tails::new(4096, 1 << 20).unwrap();
    for record in 17..200 {
        let plain = Geometry::new(Kind::Ring, record, 64, 5).unwrap();
        let g = plain.with_tails(tails).unwrap();
        assert_eq!((g.entries(), g.first(), g.tails()), (5, 0, Some(&tails)));
        for shard in 0..5 {
            let (header, slots) = g.shard_words(shard);
            assert_eq!((header * WORD % LINE, slots * WORD % LINE, g.area() * WORD % LINE), (0, 0, 0));
            assert!(
                header * WORD >= shard * g.element() + Preamble::BYTES
                    && slots * WORD >= header * WORD + 5 * LINE
            );
            assert!(slots + 64 * g.slot_words() <= shard * g.element_words() + g.area());
        }
        assert_eq!(g.area() * WORD + (1 << 20) + 4096, g.element());
        assert_eq!(g.resizable(), Err(impossible(RingOptions::TAILS.with(RingOptions::RESIZABLE))));
        assert!(g.keep_oldest().is_ok() && plain.keep_oldest().unwrap().with_tails(tails).is_ok());
    }
    let small = Geometry::new(Kind::Ring, 16, 64, 5).unwrap();
    assert_eq!(small.with_tails(tails), Err(GeometryError::Tailed(16)));
    let large = Geometry::new(Kind::Ring, 1 << 20, 1 << 10, 1).unwrap();
    assert!(matches!(large.with_tails(tails), Err(GeometryError::Shard(_))));
    let cells = Geometry::new(Kind::Cells, 56, 4, 1).unwrap();
    assert!(matches!(cells.with_tails(tails), Err(GeometryError::Options { kind: Kind::Cells, .. })));
}

#[test]
fn what_cannot_be_is_named() {
    let ring = |record, slots, shards| Geometry::new(Kind::Ring, record, slots, shards).unwrap_err();
    assert_eq!(ring(8, 0, 1), GeometryError::Slots(0));
    assert_eq!(ring(8, 12, 1), GeometryError::Slots(12));
    assert_eq!(ring(0, 1, 1), GeometryError::Record(0));
    assert_eq!(ring(1 << 40, 1, 1), GeometryError::Record(1 << 40));
    assert_eq!(ring(8, 1, 0), GeometryError::Empty { kind: Kind::Ring, capacity: 1, shards: 0 });
    assert!(matches!(ring(8, 1 << 31, 2), GeometryError::Entries(_)));
    assert_eq!(ring(8, 1 << 40, 2), GeometryError::Entries(1 << 40));
    assert_eq!(Geometry::new(Kind::Cells, 8, 1, 2), Err(GeometryError::Sharded(2)));
    assert_eq!(Geometry::new(Kind::Counters, 4, 1, 2), Err(GeometryError::Counter(4)));
    assert_eq!(Geometry::new(Kind::Histograms, 8, 1, 2), Err(GeometryError::Histogram(8)));
    assert_eq!(Geometry::new(Kind::Gauges, 4096, 1, 2), Err(GeometryError::Gauge(4096)));
}

#[test]
fn each_kind_has_its_element_and_its_places() {
    let new = |kind, record, capacity, shards| Geometry::new(kind, record, capacity, shards).unwrap();
    let latches = new(Kind::Latches, 12, 3, 1);
    assert_eq!(
        (latches.element(), latches.first(), latches.entries()),
        (40, 8, 11),
        "a sequence, two copies"
    );
    let readers = new(Kind::Readers, 8, 64, 5);
    assert_eq!((readers.element(), readers.first(), readers.shard(2), readers.entries()), (512, 4, 10, 19));
    let ring = new(Kind::Ring, 20, 4, 3);
    assert_eq!((ring.element(), ring.slot_words(), ring.shard_words(2)), (32, 4, (4 * 16, 4 * 18)));
}

#[test]
fn an_element_is_as_large_as_the_kernel_allows() {
    let tails = Tails::new(4096, 1 << 28).unwrap();
    let ring = |record| Geometry::new(Kind::Ring, record, 1, 1).unwrap().with_tails(tails);
    let small = ring(56).unwrap().element();
    let largest = 56 + (1 << 29) - small as u64;
    assert_eq!(ring(largest).unwrap().element(), 1 << 29);
    assert_eq!(ring(largest + 1), Err(GeometryError::Shard((1 << 29) + LINE as u64)));
}

#[test]
fn options_with_tails_need_their_numbers() {
    let ring = Geometry::new(Kind::Ring, 56, 4, 1).unwrap();
    let refused = GeometryError::Tails { longest: 0, bytes: 0 };
    assert_eq!(ring.with_options(RingOptions::TAILS, None), Err(refused));
    let tails = Tails::new(64, 128).unwrap();
    assert_eq!(ring.with_options(RingOptions::default(), Some(tails)), ring.with_tails(tails));
}
