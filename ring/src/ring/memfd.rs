//! Rings between ordinary processes, and what they can do beyond what every ring does.

use bytemuck::AnyBitPattern;

use super::Ring;
use crate::abi::{Geometry, Kind, RingOptions, Tails};
use crate::error::Result;
use crate::record::Tailed;
use crate::region::Region;

/// The options of a ring in a memfd: those of `MAPRING_RING` that mean something between processes. Without any, a ring wakes
/// nobody, overwrites its oldest records, and has no tails.
///
/// With [`wakeable`](Self::wakeable) or [`keep_oldest`](Self::keep_oldest), readers write to the memfd too: a reader that has only
/// a descriptor for reading, or opens the memfd after [`Region::seal_future_writes`](crate::Region::seal_future_writes), can't
/// be required, and naps instead of sleeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemfdOptions {
    options: RingOptions,
    tails: Option<Tails>,
}

impl MemfdOptions {
    /// Writers wake readers that [wait](crate::Reader::wait).
    #[must_use]
    pub fn wakeable(self) -> Self {
        Self { options: self.options.with(RingOptions::WAKEABLE), ..self }
    }

    /// Writers drop new records rather than overwrite what a [required](crate::Reader::require) reader has not read. They also
    /// wake readers. Not together with [`tails`](Self::tails).
    #[must_use]
    pub fn keep_oldest(self) -> Self {
        Self { options: self.options.with(RingOptions::KEEP_OLDEST), ..self }
    }

    /// Records have [tails](crate::Writer::push_with_tail).
    #[must_use]
    pub fn tails(self, tails: Tails) -> Self {
        Self { options: self.options.with(RingOptions::TAILS), tails: Some(tails) }
    }
}

impl<T: AnyBitPattern> Ring<T> {
    /// Creates a ring with options between ordinary processes in a memfd. See [`create_memfd`](Self::create_memfd).
    ///
    /// ```
    /// use mapring::writers::{Dropped, MemfdOptions};
    ///
    /// let ring = mapring::Ring::<u64>::create_memfd_with(2, 1, MemfdOptions::default().keep_oldest())?;
    /// let (writer, mut reader) = (ring.writer(0)?, ring.reader());
    /// reader.require(std::time::Duration::from_secs(5))?; // in any process that has the memfd
    /// assert_eq!([1, 2, 3].map(|n| writer.push(&n)), [Some(0), Some(1), None]);
    /// assert_eq!(writer.try_reserve().unwrap_err(), Dropped::Full);
    /// assert_eq!(reader.drain().map(|event| event.record).collect::<Vec<_>>(), [1, 2]);
    /// # Ok::<(), mapring::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers and options that no ring in a memfd can have,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd_with(slots: usize, shards: usize, options: MemfdOptions) -> Result<Self> {
        let MemfdOptions { options, tails } = options;
        let record = if tails.is_some() { size_of::<Tailed<T>>() } else { size_of::<T>() };
        let geometry = Geometry::new(Kind::Ring, record as u64, slots as u64, shards as u64)?;
        let geometry = geometry.with_options(options, tails)?;
        Self::from_region(Region::create_memfd(geometry, std::any::type_name::<T>())?)
    }
}
