//! Records of any type, as bytes.

use bytemuck::{Pod, Zeroable};
use mapring_core::protocol::is_any;

/// A record or value of any type, as bytes: for tools that learn the types at run time.
///
/// It holds up to 16 × `N` bytes. `Ring<AnyRecord<N>>`, `Cells<AnyRecord<N>>` and the other
/// handles of records take every region whose records are not larger, if the region was opened with
/// [`OpenOptions::any_record`](crate::OpenOptions::any_record), and copy as many bytes as its records have. The choice of
/// `N` is one of speed: readers keep records of up to 256 bytes in registers and caches, and return copies of all 16 × `N`
/// bytes where they return records by value.
///
/// ```
/// use mapring::any::AnyRecord;
/// use mapring::{OpenOptions, Ring};
///
/// # let ring = Ring::<[u32; 3]>::create_memfd(8, 1)?;
/// # ring.writer(0)?.push(&[1, 2, 3]);
/// # let fd = std::os::fd::AsFd::as_fd(&ring.region()).try_clone_to_owned().unwrap();
/// let region = OpenOptions::new().any_record().open(fd)?;
/// let bytes = region.geometry().record();
/// let mut reader = Ring::<AnyRecord<4>>::from_region(region)?.reader();
/// let mut sum = 0;
/// reader.for_each(usize::MAX, |event| sum += event.record.bytes(bytes).len());
/// assert_eq!(sum, 12);
/// # Ok::<(), mapring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct AnyRecord<const N: usize>([u128; N]);

const _: () = assert!(is_any::<AnyRecord<1>>() && is_any::<crate::record::Tailed<AnyRecord<1>>>());

impl<const N: usize> AnyRecord<N> {
    /// The most bytes that it holds.
    pub const MAX: usize = size_of::<Self>();

    /// A record of these bytes, followed by zeros. `None` if they are more than [`MAX`](Self::MAX).
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut record = Self::zeroed();
        bytemuck::bytes_of_mut(&mut record).get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(record)
    }

    /// The first `len` bytes, or [`MAX`](Self::MAX) if `len` is more. What follows the bytes of the region's record
    /// ([`Geometry::record`](crate::abi::Geometry::record)) can have any value.
    pub fn bytes(&self, len: usize) -> &[u8] {
        &bytemuck::bytes_of(self)[..len.min(Self::MAX)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Geometry, Kind, Tails};
    use crate::{Cells, ErrorKind, Latches, OpenOptions, Region, Ring, Start};

    /// Bytes that differ from their neighbours.
    fn bytes(len: usize, n: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from((at * 7 + n * 13 + at / 31) % 255 + 1).unwrap()).collect()
    }

    fn any(region: &Region) -> Region {
        let fd = std::os::fd::AsFd::as_fd(region).try_clone_to_owned().unwrap();
        OpenOptions::new().write(true).any_record().open(fd).unwrap()
    }

    fn region(kind: Kind, record: usize) -> Region {
        any(&Region::create_memfd(Geometry::new(kind, record as u64, 4, 1).unwrap(), "bytes").unwrap())
    }

    fn every_size<const N: usize>(sizes: impl Iterator<Item = usize>) {
        for len in sizes {
            let record = |n| AnyRecord::<N>::new(&bytes(len, n)).unwrap();
            let ring = Ring::<AnyRecord<N>>::from_region(region(Kind::Ring, len)).unwrap();
            let writer = ring.writer(0).unwrap();
            (0..4).for_each(|n| assert_eq!(writer.push(&record(n)), Some(n as u64)));
            let mut reader = ring.reader_from(Start::First);
            let mut next = 0;
            reader.for_each(2, |event| {
                assert_eq!(event.record.bytes(len), bytes(len, next), "{len} bytes");
                next += 1;
            });
            assert_eq!(reader.poll().unwrap().record.bytes(len), bytes(len, 2));
            assert_eq!(reader.drain().next().unwrap().record.bytes(len), bytes(len, 3));

            let cells = Cells::<AnyRecord<N>>::from_region(region(Kind::Cells, len)).unwrap();
            let latches = Latches::<AnyRecord<N>>::from_region(region(Kind::Latches, len)).unwrap();
            let (cell, latch) = (cells.writer().unwrap(), latches.writer().unwrap());
            for n in 0..3 {
                assert!(cell.set(3, &record(n)).unwrap());
                latch.set(3, &record(n)).unwrap();
                assert_eq!(cells.read(3).unwrap().bytes(len), bytes(len, n), "{len} bytes");
                assert_eq!(latches.read(3).unwrap().bytes(len), bytes(len, n), "{len} bytes");
            }
            assert_eq!(latches.read(2).unwrap().bytes(len), vec![0; len]);
        }
    }

    #[test]
    fn every_byte_of_every_size_is_copied() {
        every_size::<2>(1..=32);
        every_size::<32>((1..=512).step_by(13).chain(255..=264).chain(504..=512));
        every_size::<1024>([511, 512, 519, 4096, 5000, 16376, 16383, 16384].into_iter());
    }

    #[test]
    fn records_with_tails_are_copied() {
        for len in [1, 8, 12, 40, 64] {
            let tails = Tails::new(64, 1024).unwrap();
            let geometry = Geometry::new(Kind::Ring, (Tails::PREFIX + len) as u64, 4, 1).unwrap();
            let region = Region::create_memfd(geometry.with_tails(tails).unwrap(), "bytes").unwrap();
            let ring = Ring::<AnyRecord<4>>::from_region(any(&region)).unwrap();
            let writer = ring.writer(0).unwrap();
            for n in 0..3 {
                writer.push_with_tail(&AnyRecord::new(&bytes(len, n)).unwrap(), &bytes(n, 1)).unwrap();
            }
            let mut reader = ring.reader();
            for n in 0..3 {
                let event = reader.poll().unwrap();
                assert_eq!((event.record.bytes(len), event.tail), (&bytes(len, n)[..], &bytes(n, 1)[..]));
            }
        }
    }

    #[test]
    fn larger_records_and_regions_that_were_not_asked_for_are_refused() {
        let wrong = |region| Ring::<AnyRecord<2>>::from_region(region).unwrap_err().kind();
        assert_eq!(wrong(region(Kind::Ring, 33)), ErrorKind::Layout);
        let typed = Region::create_memfd(Geometry::new(Kind::Ring, 16, 4, 1).unwrap(), "bytes").unwrap();
        assert_eq!(wrong(typed), ErrorKind::Layout);
        assert_eq!(
            Ring::<[u64; 2]>::from_region(region(Kind::Ring, 8)).unwrap_err().kind(),
            ErrorKind::Layout
        );
        assert!(AnyRecord::<2>::new(&[0; 33]).is_none());
    }
}
