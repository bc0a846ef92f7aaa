//! A page that is written over the one before.

use std::io;

use crate::format::Format;

#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    bytes: Vec<u8>,
    /// How much is written. The bytes after it are those of the page before.
    length: usize,
    /// Nothing is written after this number of bytes, and a little more.
    limit: usize,
    format: Format,
    /// The number of this page, and of the page before in the same bytes; 0 if there was none in this format.
    number: u64,
    before: u64,
}

impl Page {
    /// Begins the page with this number, which no other page has.
    pub(crate) fn begin(&mut self, number: u64, format: Format, limit: usize) {
        let before = if format == self.format { self.number } else { 0 };
        let bytes = std::mem::take(&mut self.bytes);
        *self = Self { bytes, length: 0, limit, format, number, before };
    }

    /// Ends it; returns whether it is within the limit.
    pub(crate) fn end(&mut self) -> bool {
        self.bytes.truncate(self.length);
        self.length <= self.limit
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The number of the page before in the same bytes; 0 if there was none in this format.
    pub(crate) fn before(&self) -> u64 {
        self.before
    }

    /// Takes over what the page before has up to `length`.
    pub(crate) fn take_over(&mut self, length: usize) {
        self.length = length;
    }

    /// How much is written.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_full(&self) -> bool {
        self.length > self.limit
    }

    pub(crate) fn put(&mut self, new: &[u8]) {
        let end = self.length + new.len();
        match self.bytes.get_mut(self.length..end) {
            Some(old) => old.copy_from_slice(new),
            None => {
                self.bytes.truncate(self.length);
                self.bytes.extend_from_slice(new);
            }
        }
        self.length = end;
    }

    /// Writes over these bytes; returns whether there are as many.
    pub(crate) fn put_at(&mut self, at: usize, new: &[u8]) -> bool {
        let old = self.bytes.get_mut(at..at + new.len());
        old.map(|old| old.copy_from_slice(new)).is_some()
    }

    /// Takes back what was written after `length`.
    pub(crate) fn cut(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl From<String> for Page {
    fn from(text: String) -> Self {
        Self { bytes: text.into_bytes(), ..Self::default() }
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
