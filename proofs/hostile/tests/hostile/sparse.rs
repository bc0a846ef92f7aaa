//! Memfds that cost their creator nothing: mostly holes, or of huge pages. Opening one must neither cost much memory
//! nor kill the process.

use std::fs::read_to_string;
use std::io::Write;
use std::os::fd::OwnedFd;

use mapring::abi::{Geometry, GeometryError, Kind, Preamble, PreambleError};
use mapring::{Counters, Error, ErrorKind, OpenOptions, Region, Ring};
use mapring_hostile_tests::{HugePage, forge_sparse, read_all};
use rustix::fs::{MemfdFlags, fstat};

const GIB: u64 = 1 << 30;

fn sparse(name: &str, words: &[u64], bytes: u64) -> OwnedFd {
    forge_sparse(name, MemfdFlags::empty(), words, bytes).unwrap()
}

/// The words of a preamble; an invalid one, if no valid one exists.
fn preamble(kind: Kind, record: u64, capacity: u64, shards: u64) -> [u64; Preamble::WORDS] {
    let geometry = Geometry::new(kind, record, capacity, 1).unwrap();
    let mut words = Preamble { geometry, generation: 1, name: "hostile".into() }.encode();
    words[5] = shards;
    words
}

/// Bytes that the kernel has allocated for a file.
fn allocated(fd: &OwnedFd) -> u64 {
    fstat(fd).unwrap().st_blocks.cast_unsigned() * 512
}

/// Bytes of this process's mappings of the memfd called `name`.
fn mapped(name: &str) -> u64 {
    let maps = read_to_string("/proc/self/maps").unwrap();
    let name = format!("/memfd:{name} ");
    let of = |line: &str| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap()
    };
    maps.lines().filter(|line| line.contains(&name)).map(of).sum()
}

#[test]
fn a_small_region_in_a_huge_sparse_file_costs_a_page() {
    // The small one first: an open that populates it shows there, and is not killed.
    for (name, file) in [("sparse-small", 64 << 20), ("sparse-large", 64 * GIB)] {
        let ring = preamble(Kind::Ring, 24, 8, 1);
        let fd = sparse(name, &ring, file);
        for write in [false, true] {
            let region = OpenOptions::new().write(write).open(fd.try_clone().unwrap()).unwrap();
            assert_eq!(region.geometry().bytes(), 448);
            assert_eq!(mapped(name), 4096, "of {file} bytes");
            read_all(&region, None);
            assert_eq!(allocated(&fd), 4096, "of {file} bytes");
        }
        assert_eq!(mapped(name), 0);
    }
}

#[test]
fn a_sparse_region_is_refused_and_costs_nothing() {
    // Records of 1 MiB, cells, latches, counters: 128 MiB and more, all holes.
    let shapes = [
        (Kind::Ring, 1 << 20, 128, 1),
        (Kind::Ring, 24, 1 << 22, 1),
        (Kind::Ring, 8, 1 << 12, 1 << 16),
        (Kind::Cells, 4000, 1 << 16, 1),
        (Kind::Latches, 4000, 1 << 16, 1),
        (Kind::Counters, 8, 1 << 20, 1 << 10),
    ];
    for (kind, record, capacity, shards) in shapes {
        let bytes = Geometry::new(kind, record, capacity, shards).unwrap().bytes() as u64;
        let fd = sparse("sparse-region", &preamble(kind, record, capacity, shards), bytes);
        let refused = Region::open(fd.try_clone().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Untrusted, "{kind}");
        let message =
            format!("is sparse: of the {bytes} bytes of its region {} are not allocated", bytes - 4096);
        assert!(refused.to_string().contains(&message), "{kind}: {refused}");
        // A process that trusts its creator can open it; that alone allocates no memory either.
        let region = OpenOptions::new().allow_unsealed(true).open(fd.try_clone().unwrap()).unwrap();
        assert_eq!(region.geometry().bytes() as u64, bytes);
        assert_eq!(allocated(&fd), 4096, "{kind}");
    }
}

#[test]
fn a_small_sparse_region_is_an_empty_one() {
    // As from a creator that only calls `ftruncate`, and writes a preamble.
    for (kind, record, capacity, shards) in
        [(Kind::Ring, 24, 1 << 16, 4), (Kind::Cells, 24, 1000, 1), (Kind::Counters, 8, 1000, 4)]
    {
        let geometry = Geometry::new(kind, record, capacity, shards).unwrap();
        let fd = sparse("sparse-empty", &preamble(kind, record, capacity, shards), geometry.bytes() as u64);
        let region = Region::open(fd).unwrap();
        assert_eq!(*region.geometry(), geometry);
        read_all(&region, None);
    }
}

#[test]
fn more_shards_than_cpus_can_be_are_refused() {
    for kind in [Kind::Ring, Kind::Counters] {
        for shards in [Geometry::SHARDS_MAX + 1, 1 << 20, 1 << 26] {
            // The file is long enough, so only the number of shards is wrong.
            let fd = sparse("sparse-shards", &preamble(kind, 8, 1, shards), 256 * shards);
            let refused = OpenOptions::new().allow_unsealed(true).open(fd).unwrap_err();
            let error = PreambleError::Geometry(GeometryError::Shards(shards));
            assert_eq!(refused.preamble_error(), Some(&error), "{kind} with {shards} shards: {refused}");
        }
    }
}

#[test]
fn as_many_shards_as_there_can_be_are_read() {
    let shards = usize::try_from(Geometry::SHARDS_MAX).unwrap();
    let ring = Ring::<u64>::create_memfd(1, shards).unwrap();
    assert_eq!(ring.writer(shards - 1).unwrap().push(&7), Some(0));
    // A call ends after a fixed number of steps; the next one continues.
    let mut reader = ring.reader();
    let event = (0..shards).find_map(|_| reader.drain().next()).unwrap();
    assert_eq!((event.shard, event.record), (shards - 1, 7));
    let counters = Counters::create_memfd(1, shards).unwrap();
    counters.writer(shards - 1).unwrap().add(0, 7).unwrap();
    assert_eq!(counters.sum(0).unwrap(), 7);
}

#[test]
fn what_is_made_here_is_not_sparse_and_no_larger_than_memory() {
    let ring = Ring::<u64>::create_memfd(1 << 20, 5).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&ring.region()).try_clone_to_owned().unwrap();
    assert!(ring.region().geometry().bytes() > 64 << 20);
    assert!(allocated(&fd) >= ring.region().geometry().bytes() as u64);
    Ring::<u64>::open(fd).unwrap();
    // 2^60 bytes, and 2^50.
    for (element, slots) in [(1 << 29, 1 << 31), (1 << 20, 1 << 30)] {
        let geometry = Geometry::new(Kind::Ring, element - 8, slots, 1).unwrap();
        let refused = Region::create_memfd(geometry, "hostile").unwrap_err();
        assert!(refused.to_string().starts_with("memfd_create: "), "{refused}");
    }
}

#[test]
fn huge_pages_are_refused_unless_asked_for() {
    let name = "huge-pages";
    // This works without any huge pages.
    let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let empty = match forge_sparse(name, flags, &[], HugePage::BYTES as u64) {
        Ok(empty) => empty,
        Err(e) => return skip("huge_pages_are_refused_unless_asked_for", &format!("memfd_create: {e}")),
    };
    let refused = Region::open(empty).unwrap_err();
    assert!(has_huge_pages(&refused), "{refused}");

    let page = HugePage::borrow();
    let forged = page.and_then(|page| Ok((page.forge(name, &preamble(Kind::Ring, 24, 8, 1))?, page)));
    let (fd, _page) = match forged {
        Ok(forged) => forged,
        Err(why) => return skip("huge_pages_are_refused_unless_asked_for", &why),
    };
    let refused = Region::open(fd.try_clone().unwrap()).unwrap_err();
    assert!(has_huge_pages(&refused), "{refused}");
    let region = OpenOptions::new().allow_unsealed(true).open(fd.try_clone().unwrap()).unwrap();
    assert_eq!(mapped(name), HugePage::BYTES as u64);
    read_all(&region, None);
    drop(region);
    assert_eq!(mapped(name), 0, "a mapping of huge pages is unmapped whole");
}

fn has_huge_pages(error: &Error) -> bool {
    error.kind() == ErrorKind::Untrusted && error.to_string().contains(" has huge pages (MFD_HUGETLB): ")
}

/// Prints that `test` did not run completely, past the test harness's capture.
fn skip(test: &str, why: &str) {
    std::io::stderr().write_all(format!("SKIPPED {test}: needs a huge page ({why})\n").as_bytes()).unwrap();
}
