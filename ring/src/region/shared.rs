//! Views of a region's memory that keep it mapped.
#![allow(unsafe_code)]

use mapring_core::protocol::{Element, Rows, Words, WordsMut};

use super::region::{Memory, Region};
use crate::access::Refusal;
use crate::error::{Error, Result};

impl Region {
    /// Its words for reading. `None` if it is not mapped.
    pub(crate) fn shared(&self) -> Option<Shared> {
        let Memory::Mapped(mapping) = self.memory() else { return None };
        // SAFETY: the `Region` next to them owns the mapping, and keeps it for as long as the view exists; `Shared` hands the
        // words out for no longer than its own lifetime.
        let words = unsafe { mapping.words_kept() };
        Some(Shared { words, region: self.clone() })
    }

    /// Its words for writing.
    pub(crate) fn shared_mut(&self) -> Result<SharedMut> {
        let refused = |refusal| Error::not_writable(self.what(), refusal);
        self.writable().map_err(refused)?;
        match self.memory() {
            Memory::Mapped(mapping) => {
                // SAFETY: as for `shared`.
                let words = unsafe { mapping.words_mut_kept() }.ok_or(refused(Refusal::NotAsked))?;
                Ok(SharedMut { words, region: self.clone() })
            }
            Memory::Lookup(_, refusal) => Err(refused(*refusal)),
        }
    }
}

/// A region's words, with the region, which keeps them mapped.
#[derive(Clone)]
pub(crate) struct Shared {
    words: Words<'static>,
    region: Region,
}

impl Shared {
    #[inline]
    pub(crate) fn words(&self) -> Words<'_> {
        self.words
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }
}

/// The elements of a mapped region, with the region. Empty if it isn't mapped.
pub(crate) struct SharedRows<E> {
    rows: Rows<'static, E>,
    _region: Region,
}

impl<E> Clone for SharedRows<E> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), _region: self._region.clone() }
    }
}

impl<E: Element> SharedRows<E> {
    /// `count` elements of `stride` words from word `first` on.
    ///
    /// # Panics
    /// If the mapping does not contain all of them, or an element has another number of words.
    pub(crate) fn of(region: &Region, first: usize, count: usize, stride: usize) -> Self {
        let rows =
            region.shared().map_or_else(Rows::none, |shared| Rows::new(shared.words, first, count, stride));
        Self { rows, _region: region.clone() }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Words<'_>> {
        self.rows.get(index)
    }
}

/// A region's words for writing, with the region, which keeps them mapped.
#[derive(Clone)]
pub(crate) struct SharedMut {
    words: WordsMut<'static>,
    region: Region,
}

impl SharedMut {
    #[inline]
    pub(crate) fn words(&self) -> WordsMut<'_> {
        self.words
    }

    /// Only the `len` words from `at`.
    ///
    /// # Panics
    /// If the mapping does not contain all of them.
    pub(crate) fn slice(self, at: usize, len: usize) -> Self {
        Self { words: self.words.slice(at, len), ..self }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }
}
