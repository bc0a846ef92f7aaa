//! Files: how they are opened, what is refused, and what nobody's library made.

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;

#[test]
fn a_region_is_opened_by_its_descriptor_for_reading() {
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    ring.writer(0).unwrap().push(&Record::new(0)).unwrap();
    let other = Ring::<Record>::open(fd_of(&ring.region())).unwrap();
    assert_eq!(other.reader().poll().unwrap().record, Record::new(0));
    assert_eq!(other.region().writable(), Err(Refusal::NotAsked));
    let refused = other.writer(0).unwrap_err();
    assert!(
        (refused.kind(), refused.refusal()) == (ErrorKind::NotWritable, Some(Refusal::NotAsked)),
        "{refused}"
    );
    let written = OpenOptions::new().write(true).open(fd_of(&ring.region())).unwrap();
    let written = Ring::<Record>::from_region(written).unwrap();
    assert_eq!(written.writer(0).unwrap().push(&Record::new(1)), Some(1));
    assert_eq!(ring.region().preamble(), other.region().preamble());
}

#[test]
fn sealed_against_writes() {
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    ring.region().seal_future_writes().unwrap();
    let other = OpenOptions::new().write(true).open(fd_of(&ring.region())).unwrap();
    assert_eq!((other.writable(), other.access()), (Err(Refusal::Sealed), Access::Mapped));
    assert_eq!(ring.writer(0).unwrap().push(&Record::new(0)), Some(0));
    let other = Ring::<Record>::from_region(other).unwrap();
    let sealed = other.writer(0).unwrap_err();
    assert!((sealed.kind(), sealed.refusal()) == (ErrorKind::Sealed, Some(Refusal::Sealed)), "{sealed}");
    assert!(sealed.to_string().contains("ask the creator"), "{sealed}");
    assert_eq!(other.reader().drain().count(), 1, "nothing is lost");
}

#[test]
fn mistakes_get_errors_that_name_both_sides() {
    let message = |e: Error| e.to_string();
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    let wrong_size = Ring::<[u64; 3]>::from_region(ring.region().clone()).unwrap_err();
    assert!(
        wrong_size.to_string().contains("records of 56 bytes") && wrong_size.to_string().ends_with("has 24")
    );
    let wrong_size = message(wrong_size);
    assert!(wrong_size.contains("56") && wrong_size.contains("24"), "{wrong_size}");
    let wrong_kind = message(Cells::<Record>::from_region(ring.region().clone()).unwrap_err());
    assert!(wrong_kind.contains("holds ring, expected cells"), "{wrong_kind}");
    for slots in [0, 3] {
        let error = message(Ring::<Record>::create_memfd(slots, 1).unwrap_err());
        assert!(error.contains("power of two") && error.contains(&slots.to_string()), "{error}");
    }
    assert_eq!(message_of(ring.writer(1), ErrorKind::OutOfRange), "no shard 1: there are 1");
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = Region::open(file).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType && error.to_string().contains(" is not a"), "{error}");

    let cells = Geometry::new(Kind::PerCpuCells, 56, 1, 1).unwrap();
    let error = message(Region::create_memfd(cells, "").unwrap_err());
    assert!(error.contains("memfd is not a BPF map") && error.contains("exist in BPF maps only"), "{error}");
    let error = message(Geometry::new(Kind::Counters, 24, 1, 1).unwrap_err().into());
    assert_eq!(error, "counters of 24 bytes: a counter has 8 bytes");
}

/// Files of a tmpfs answer as memfds that nobody sealed, but can't be sealed.
#[test]
fn files_that_can_not_be_sealed() {
    let path = format!("/dev/shm/mapring-test-{}", std::process::id());
    std::fs::write(&path, [0; 4096]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = Region::open(file).unwrap_err();
    assert!(error.kind() == ErrorKind::Untrusted, "{error}");
    let output = error.to_string();
    assert!(output.contains("files of a tmpfs (/dev/shm)") && output.contains("use a memfd"), "{output}");
    let plain = memfd_create("plain", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let output = Region::open(plain).unwrap_err().to_string();
    assert!(output.contains("have its creator seal it"), "{output}");
}

mod forged {
    //! Memory files that nobody's library made.

    use std::io::Write;

    use mapring::abi::{Preamble, PreambleError};
    use rustix::fs::{SealFlags, fcntl_add_seals, ftruncate};

    use super::*;

    fn preamble() -> [u64; Preamble::WORDS] {
        let geometry = Geometry::new(Kind::Ring, 56, 8, 1).unwrap();
        Preamble { geometry, generation: 1, name: "forged".into() }.encode()
    }

    fn memfd(words: &[u64], bytes: u64, seal: bool) -> OwnedFd {
        let fd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let mut file = std::fs::File::from(fd);
        file.write_all(bytemuck::cast_slice(words)).unwrap();
        let fd = OwnedFd::from(file);
        ftruncate(&fd, bytes).unwrap();
        if seal {
            fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK).unwrap();
        }
        fd
    }

    #[test]
    fn unsealed_is_refused_by_default() {
        let refused = Region::open(memfd(&preamble(), 4096, false)).unwrap_err();
        assert!(refused.kind() == ErrorKind::Untrusted, "{refused}");
        let region = OpenOptions::new().allow_unsealed(true).open(memfd(&preamble(), 4096, false)).unwrap();
        assert_eq!(region.preamble().name, "forged");
    }

    #[test]
    fn truncated_says_how_much() {
        let refused = Region::open(memfd(&preamble()[..3], 24, true)).unwrap_err();
        assert!(refused.to_string().contains("has 24 bytes, expected at least 128"), "{refused}");
        let refused = Region::open(memfd(&preamble(), 200, true)).unwrap_err();
        assert!(refused.to_string().contains("has 200 bytes, expected at least 704"), "{refused}");
    }

    #[test]
    fn no_preamble_or_one_of_another_world() {
        let open = |at: usize, word| {
            let mut words = preamble();
            words[at] = word;
            let error = Region::open(memfd(&words, 4096, true)).unwrap_err();
            error.preamble_error().unwrap_or_else(|| panic!("{error}")).clone()
        };
        assert_eq!(open(0, 0), PreambleError::Magic { found: 0 });
        assert_eq!(open(1, 1), PreambleError::Version { found: 1 });
        assert_eq!(open(2, 0), PreambleError::Kind { found: 0 });
        assert!(matches!(open(4, 7), PreambleError::Geometry(_)));
    }
}
