//! Features of rings that do not combine: each operation on each sort of ring works, or gives a typed error that says
//! which map it is about. The table in docs/guide.md, *What combines*, says the same.
#![allow(missing_docs)]

use std::fmt::Debug;
use std::mem::MaybeUninit;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use libbpf_rs::Object;
use libbpf_rs::skel::Skel;
use mapring::{ErrorKind, Record, Result, Ring, Tailed};
use mapring_kernel_tests::skel::{
    ConformanceSkelBuilder, KeepSkelBuilder, NumaSkelBuilder, ResizableSkelBuilder, TailsSkelBuilder,
    WakeableSkelBuilder,
};
use mapring_kernel_tests::tails::{Item, loaded};
use mapring_kernel_tests::{
    Numbered, PinDir, assert_error, fitted, load, load_only, map, read_only, require_bpf,
};

/// `struct rec` of the wakeable rings.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

/// The result of each operation: `None` if it works.
#[derive(Debug, PartialEq, Eq)]
struct Works {
    resize: Option<ErrorKind>,
    bell: Option<ErrorKind>,
    require: Option<ErrorKind>,
    seal: Option<ErrorKind>,
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    let error = result.err()?;
    assert!(error.to_string().contains("map"), "{error}");
    Some(error.kind())
}

/// Does everything to a ring; seals it in the end.
fn works<T: Record + AnyBitPattern + Debug>(object: &Object, name: &str) -> Works {
    let ring = Ring::<T>::open(&map(object, name)).unwrap();
    let (pins, mut reader) = (PinDir::new(), ring.reader());
    // No ring refuses to wait or to be merged: without a bell the reader looks from time to time.
    assert!(!reader.wait(Duration::ZERO).unwrap());
    assert!(ring.reader().merged(|_| 0).poll().is_none());
    let resize = kind(ring.resize(128));
    let bell = match reader.bell() {
        Ok(_) => None,
        Err(error) => {
            assert!(error.to_string().contains("map"), "{error}");
            Some(error.kind())
        }
    };
    let require = kind(reader.require(Duration::from_secs(3600)));
    Works { resize, bell, require, seal: kind(ring.freeze_and_pin(pins.path("sealed"), 0o600)) }
}

#[test]
fn each_operation_works_or_is_refused() {
    use ErrorKind::{NotKeepOldest, NotResizable, NotWakeable};
    require_bpf!();
    let mut storages = [const { MaybeUninit::uninit() }; 6];
    let [ordinary, wakeable, keeping, tails, resizable, numa] = &mut storages;
    let ordinary = load::<ConformanceSkelBuilder>(ordinary, fitted);
    let wakeable = load::<WakeableSkelBuilder>(wakeable, fitted);
    let keeping = load::<KeepSkelBuilder>(keeping, fitted);
    let tails = loaded::<TailsSkelBuilder>(tails);
    let resizable = load::<ResizableSkelBuilder>(resizable, fitted);
    let numa = load::<NumaSkelBuilder>(numa, fitted);

    let of_none = || Works {
        resize: Some(NotResizable),
        bell: Some(NotWakeable),
        require: Some(NotKeepOldest),
        seal: None,
    };
    assert_eq!(works::<Numbered>(ordinary.object(), "numbers"), of_none());
    assert_eq!(works::<Rec>(wakeable.object(), "events"), Works { bell: None, ..of_none() });
    assert_eq!(works::<Tailed<Rec>>(wakeable.object(), "tailed"), Works { bell: None, ..of_none() });
    assert_eq!(works::<Rec>(keeping.object(), "events"), Works { bell: None, require: None, ..of_none() });
    assert_eq!(works::<Tailed<Item>>(tails.object(), "deep"), of_none());
    assert_eq!(
        works::<Tailed<Item>>(tails.object(), "kept"),
        Works { bell: None, require: None, ..of_none() }
    );
    assert_eq!(works::<Numbered>(resizable.object(), "numbers"), Works { resize: None, ..of_none() });
    assert_eq!(works::<Numbered>(numa.object(), "numbers"), of_none());

    // By system call: all but tails. Records with tails are others than those without.
    for (object, name) in [(wakeable.object(), "events"), (keeping.object(), "events")] {
        assert!(Ring::<Rec>::open(read_only(&map(object, name))).is_ok());
    }
    let by_call = Ring::<Tailed<Item>>::open(read_only(&map(tails.object(), "deep")));
    assert_eq!(by_call.unwrap_err().kind(), ErrorKind::NotReadable);
    // The messages name what differs, not the fields of a tail, which nobody wrote.
    let said =
        "has records with tails, and mapring_kernel_tests::tails::Item has none: open it as Ring<Tailed<T>>";
    assert_error(Ring::<Item>::open(&map(tails.object(), "deep")), ErrorKind::WrongType, said);
    let said = "has no tails: read and write its records without Tailed; a ring with tails is declared with";
    assert_error(Ring::<Tailed<Rec>>::open(&map(wakeable.object(), "events")), ErrorKind::WrongType, said);
}

/// The loader has not linked the maps of a wakeable ring: the message does not say that its macro is the wrong one, and has a
/// remedy for loaders without libbpf.
#[test]
fn wakeable_rings_that_are_not_linked() {
    require_bpf!();
    let mut storages = [const { MaybeUninit::uninit() }; 2];
    let [wakeable, keeping] = &mut storages;
    let wakeable = load_only::<WakeableSkelBuilder>(wakeable, fitted);
    let keeping = load_only::<KeepSkelBuilder>(keeping, fitted);
    for object in [wakeable.object(), keeping.object()] {
        let mut reader = Ring::<Rec>::open(&map(object, "events")).unwrap().reader();
        let said = reader.bell().unwrap_err().to_string();
        assert!(said.contains("its loader has not linked it to its maps __readers and __bells"), "{said}");
        assert!(said.contains("mapring::loader::initialize_wakeable"), "{said}");
        assert!(
            !said.contains("neither WAKEABLE nor KEEP_OLDEST"),
            "the ring says how it was declared: {said}"
        );
    }
}
