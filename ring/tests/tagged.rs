//! Tagged records: each variant refers to the reader's copy, unknown tags come as bytes and are counted, and larger
//! records of newer programs are read.
#![cfg(feature = "derive")]
#![allow(missing_docs)]

use std::os::fd::{AsFd, OwnedFd};

use bytemuck::{Pod, Zeroable};
use mapring::record::{LayoutCheck, TypeLayout, UncheckedReason};
use mapring::tagged::Unknown;
use mapring::writers::MemfdOptions;
use mapring::{ErrorKind, OpenOptions, Record, Region, Ring, Tagged, abi::Tails};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Record)]
#[repr(C)]
struct Small {
    byte: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Record)]
#[repr(C)]
struct Large {
    words: [u32; 5],
}

#[derive(Debug, PartialEq, Tagged)]
enum Either<'r> {
    #[tag(7)]
    Small(&'r Small),
    #[tag(0xffff_ffff)]
    Large(&'r Large),
}

type Record4 = Tagged<Either<'static>>;

fn record(words: [u64; 4]) -> Record4 {
    bytemuck::pod_read_unaligned(bytemuck::bytes_of(&words))
}

/// A ring whose records have `N` words, with these records.
fn written<const N: usize>(records: &[[u64; N]]) -> OwnedFd {
    let ring = Ring::<[u64; N]>::create_memfd(1024, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    records.iter().for_each(|record| assert!(writer.push(record).is_some()));
    ring.region().as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn a_variant_refers_to_the_record() {
    let small = record([7, u64::from_ne_bytes([3; 8]), 0, 0]);
    assert_eq!(small.variant(), Ok(Either::Small(&Small { byte: 3 })));
    let Ok(Either::Small(found)) = small.variant() else { panic!() };
    let [found, small] = [(&raw const *found).addr(), (&raw const small).addr()];
    assert_eq!(found, small + 8, "not a copy");
    let large = record([0xffff_ffff, u64::MAX, u64::MAX, u64::MAX]);
    assert_eq!(large.variant(), Ok(Either::Large(&Large { words: [u32::MAX; 5] })));
    assert_eq!(format!("{large:?}"), format!("{:?}", Either::Large(&Large { words: [u32::MAX; 5] })));
}

#[test]
fn any_other_tag_gives_its_bytes() {
    for tag in [0, 6, 8, 0x1_0000_0007, 0xffff_fffe, u64::MAX] {
        let unknown = record([tag, 1, 2, 3]);
        assert_eq!(unknown.variant(), Err(Unknown { tag, bytes: bytemuck::bytes_of(&[1_u64, 2, 3]) }));
        assert_eq!(unknown.variant().unwrap_err().to_string(), format!("tag {tag}, 24 bytes"));
    }
}

#[test]
fn the_layout_is_that_of_c() {
    assert_eq!(size_of::<Record4>(), 32);
    let TypeLayout::Tagged(32, [small, large]) = Record4::LAYOUT else { panic!() };
    assert_eq!((small.tag, small.name, small.layout), (7, "Small", Small::LAYOUT));
    assert_eq!((large.tag, large.name, large.layout), (0xffff_ffff, "Large", Large::LAYOUT));
}

#[test]
fn unknown_tags_are_counted_and_nothing_else() {
    // Any word can be a tag, and all bytes can be anything.
    let tags = [7, 0, 0xffff_ffff, u64::MAX, 7, 8];
    let records: Vec<_> = (0..600).map(|n| [tags[n % 6], n as u64, u64::MAX, !(n as u64)]).collect();
    let mut reader = Ring::<Record4>::open(written(&records)).unwrap().reader();
    let (mut known, mut unknown) = (0, 0);
    let mut next = 0;
    let count = reader.for_each(usize::MAX, |event| {
        assert_eq!((event.shard, event.ticket), (0, next));
        let [tag, payload @ ..] = records[usize::try_from(next).unwrap()];
        match event.record.variant() {
            Ok(Either::Small(small)) => assert_eq!((tag, small.byte), (7, payload[0].to_ne_bytes()[0])),
            Ok(Either::Large(large)) => {
                let first = u64::from(large.words[0]) | u64::from(large.words[1]) << 32;
                assert_eq!((tag, first), (0xffff_ffff, payload[0]));
            }
            Err(found) => assert_eq!(found, Unknown { tag, bytes: bytemuck::bytes_of(&payload) }),
        }
        known += u64::from(event.record.variant().is_ok());
        unknown += u64::from(event.record.variant().is_err());
        next += 1;
    });
    let stats = reader.stats();
    assert_eq!((count, known, unknown), (600, 300, 300));
    assert_eq!(stats.to_string(), "600 delivered, 0 lost, 0 dropped");
}

#[test]
fn records_of_newer_programs_may_be_larger_but_never_smaller() {
    let fd = written(&[[7, 1, 2, 3, 4, 5], [9, 11, 12, 13, 14, 15], [0xffff_ffff, 1, 2, 3, 4, 5]]);
    let ring = Ring::<Record4>::open(fd.try_clone().unwrap()).unwrap();
    assert_eq!(ring.layout_check(), LayoutCheck::Size(UncheckedReason::Memfd));
    let mut reader = ring.reader();
    let mut seen = Vec::new();
    reader.for_each(usize::MAX, |event| seen.push(format!("{:?}", event.record.variant())));
    let bytes = bytemuck::bytes_of(&[11_u64, 12, 13]);
    let expected = [
        format!("{:?}", Ok::<_, ()>(Either::Small(&Small { byte: 1 }))),
        format!("{:?}", Err::<(), _>(Unknown { tag: 9, bytes })),
        format!("{:?}", Ok::<_, ()>(Either::Large(&Large { words: [1, 0, 2, 0, 3] }))),
    ];
    assert_eq!(seen, expected);
    // The other functions of readers return records of the same size.
    let mut polled = Ring::<Record4>::open(fd.try_clone().unwrap()).unwrap().reader();
    assert_eq!(polled.poll().unwrap().record.variant(), Ok(Either::Small(&Small { byte: 1 })));
    assert_eq!(polled.drain().filter(|event| event.record.variant().is_err()).count(), 1);
    // By a region, only if it was opened for this type.
    let region = |options: OpenOptions| options.open(fd.try_clone().unwrap()).unwrap();
    let expects = |options: OpenOptions| Ring::<Record4>::from_region(region(options)).map(drop);
    expects(OpenOptions::new().expect_record::<Record4>()).unwrap();
    for options in [OpenOptions::new(), OpenOptions::new().expect_record::<[u64; 4]>()] {
        assert_eq!(expects(options).unwrap_err().kind(), ErrorKind::Layout);
    }

    let refused = Ring::<Record4>::open(written(&[[7, 1, 2]])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Layout);
    assert!(refused.to_string().contains("records of 24 bytes"), "{refused}");
    // Cells must have the size of their type.
    let geometry = mapring::abi::Geometry::new(mapring::abi::Kind::Cells, 48, 1, 1).unwrap();
    let cells = Region::create_memfd(geometry, "larger").unwrap().as_fd().try_clone_to_owned().unwrap();
    assert_eq!(mapring::Cells::<Record4>::open(cells).unwrap_err().kind(), ErrorKind::Layout);
}

#[test]
fn tagged_records_have_tails_too() {
    let tails = Tails::new(64, 4096).unwrap();
    let ring = Ring::<[u64; 5]>::create_memfd_with(64, 1, MemfdOptions::default().tails(tails)).unwrap();
    let writer = ring.writer(0).unwrap();
    let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
    let mut reader = Ring::<Record4>::open(fd).unwrap().reader();
    for (tag, tail) in [(7_u64, &b"seven"[..]), (8, b"unknown"), (0xffff_ffff, b"")] {
        writer.push_with_tail(&bytemuck::cast([tag, 1, 2, 3, 4]), tail).unwrap();
    }
    let mut seen = Vec::new();
    let count = reader.for_each(2, |event| {
        seen.push((event.record.variant().map(|_| ()).map_err(|unknown| unknown.tag), event.tail.to_vec()));
    });
    assert_eq!((count, seen), (2, vec![(Ok(()), b"seven".to_vec()), (Err(8), b"unknown".to_vec())]));
    let event = reader.poll().unwrap();
    assert_eq!(event.record.variant(), Ok(Either::Large(&Large { words: [1, 0, 2, 0, 3] })));
    assert!(event.tail.is_empty());
    let stats = reader.stats();
    assert_eq!((stats.delivered, stats.lost()), (3, 0));
}

#[test]
fn an_unknown_record_whose_tail_is_overwritten_is_lost() {
    let tails = Tails::new(64, 128).unwrap();
    let ring = Ring::<[u64; 4]>::create_memfd_with(64, 1, MemfdOptions::default().tails(tails)).unwrap();
    let fd = ring.region().as_fd().try_clone_to_owned().unwrap();
    let mut reader = Ring::<Record4>::open(fd).unwrap().reader();
    let writer = ring.writer(0).unwrap();
    for n in 0..20 {
        writer.push_with_tail(&bytemuck::cast([8, n, 0, 0_u64]), &[1; 64]).unwrap();
    }
    let count = reader.for_each(usize::MAX, |event| assert!(event.record.variant().is_err()));
    let stats = reader.stats();
    assert!(count > 0 && stats.tail_lost > 0, "{stats}");
    assert_eq!(stats.delivered, count as u64, "{stats}");
    assert_eq!(stats.delivered + stats.lost(), 20);
}

/// The first byte of any variant, as its stamp.
fn stamp(record: &Record4) -> u64 {
    match record.variant() {
        Ok(Either::Small(small)) => small.byte.into(),
        Ok(Either::Large(large)) => large.words[0].into(),
        Err(unknown) => unknown.bytes[0].into(),
    }
}

#[test]
fn a_merged_reader_delivers_variants_and_unknown_tags_in_order() {
    let tails = Tails::new(64, 4096).unwrap();
    let plain = Ring::<[u64; 4]>::create_memfd(64, 2).unwrap();
    let tailed = Ring::<[u64; 4]>::create_memfd_with(64, 2, MemfdOptions::default().tails(tails)).unwrap();
    // Stamps 0 to 59: in each shard in order, two of three tags unknown.
    for n in 0..60 {
        let (record, shard) = ([[7, 8, 9][n % 3], n as u64, 0, 0], n / 2 % 2);
        plain.writer(shard).unwrap().push(&record).unwrap();
        tailed.writer(shard).unwrap().push_with_tail(&record, &[u8::try_from(n).unwrap(); 9]).unwrap();
    }
    let fd = |region: Region| region.as_fd().try_clone_to_owned().unwrap();
    let mut plain = Ring::<Record4>::open(fd(plain.region())).unwrap().reader().merged(stamp);
    let tailed = Ring::<Record4>::open(fd(tailed.region())).unwrap();
    let mut tailed = tailed.reader().merged(stamp);
    let number = |record: Result<Either<'_>, Unknown<'_>>| match record {
        Ok(Either::Small(small)) => (7, small.byte),
        Ok(Either::Large(_)) => panic!("no such tag"),
        Err(unknown) => (unknown.tag, unknown.bytes[0]),
    };
    let expected: Vec<_> = (0..60).map(|n| ([7, 8, 9][n % 3], u8::try_from(n).unwrap())).collect();
    let (mut seen, mut with_tails) = (Vec::new(), Vec::new());
    while plain.for_each(7, |event| seen.push(number(event.record.variant()))) > 0 {
        assert_eq!(plain.stats().delivered, seen.len() as u64);
    }
    while tailed.for_each(7, |event| {
        let (tag, n) = number(event.record.variant());
        assert_eq!(event.tail, [n; 9]);
        with_tails.push((tag, n));
    }) > 0
    {}
    assert_eq!((&seen, &with_tails), (&expected, &expected));
    let text = "60 delivered, 0 lost, 0 dropped";
    assert_eq!([plain.stats(), tailed.stats()].map(|stats| stats.to_string()), [text, text]);
}
