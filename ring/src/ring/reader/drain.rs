//! Iterates over the records that are present.

use bytemuck::AnyBitPattern;

use super::Reader;
use crate::protocol::ring::NoRecord;
use crate::ring::Event;
use crate::ring::sweep::{Pass, Search};

/// The iterator of [`Reader::drain`].
#[derive(Debug)]
pub struct Drain<'r, T> {
    reader: &'r mut Reader<T>,
    pass: Pass,
    search: Search,
}

impl<T: AnyBitPattern> Iterator for Drain<'_, T> {
    type Item = Event<T>;

    #[inline(always)] // as in `poll`
    fn next(&mut self) -> Option<Event<T>> {
        loop {
            match self.reader.sweep.take() {
                Ok(event) => return Some(event),
                Err(no) if self.find(no) => {}
                Err(_) => return None,
            }
        }
    }
}

impl<'r, T: AnyBitPattern> Drain<'r, T> {
    pub(super) fn new(reader: &'r mut Reader<T>) -> Self {
        Self { pass: reader.sweep.pass(), search: Search::new(&reader.sweep), reader }
    }

    /// As [`Reader::find`].
    #[inline(never)]
    fn find(&mut self, no: NoRecord) -> bool {
        let Self { reader, pass, search } = self;
        if reader.sweep.find_in(pass, no, search) {
            return true;
        }
        let followed = reader.follow() && search.go_on(&reader.sweep);
        if followed {
            *pass = reader.sweep.pass();
        }
        followed
    }
}
