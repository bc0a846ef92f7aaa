//! Runs of records: tickets that follow each other in one lap.

use bytemuck::AnyBitPattern;

use super::{Cursor, SlotSource, Step};

/// The tickets from a cursor's next one to the end of its lap, or fewer of them. They have the same states, and their
/// slots follow each other, so a reader needs few instructions to get from one to the next. The cursor learns of what
/// was taken [afterwards](Cursor::end_run).
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    start: u64,
    /// The ticket after the last one.
    end: u64,
    /// The number of tickets from the next one to `end`.
    left: u64,
    /// The slot of the next ticket, and the distance to the one after it.
    slot: usize,
    stride: usize,
    published: u64,
}

/// Why a run has no next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRecord {
    /// It ends here.
    End,
    /// The slot has another sequence, this one.
    Not(u64),
    /// The slot was overwritten during the copy.
    Torn,
}

impl Run {
    /// The run of `left` tickets from `start` on, which are in one lap.
    #[inline]
    fn new(source: &impl SlotSource, start: u64, left: usize) -> Self {
        let (slot, stride) = (source.slot(start), source.stride());
        let left = left as u64;
        Self {
            start,
            end: start.wrapping_add(left),
            left,
            slot,
            stride,
            published: source.slots().published(start),
        }
    }

    #[inline]
    fn next(&self) -> u64 {
        self.end.wrapping_sub(self.left)
    }

    /// The number of records that were taken.
    #[inline]
    pub fn taken(&self) -> u64 {
        self.next().wrapping_sub(self.start)
    }

    /// Whether all its tickets were taken.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Copies the next record to `out` and returns its ticket.
    #[inline(always)] // so that the record need not go through memory
    pub fn take<T: AnyBitPattern>(
        &mut self,
        source: &mut impl SlotSource,
        out: &mut T,
    ) -> Result<u64, NoRecord> {
        if self.left == 0 {
            return Err(NoRecord::End);
        }
        source.take::<T, false>(self.slot, self.published, out)?;
        let t = self.next();
        self.slot = self.slot.wrapping_add(self.stride);
        self.left -= 1;
        Ok(t)
    }
}

impl Cursor {
    /// A run of the next tickets, at most `limit`.
    #[inline]
    pub fn begin_run(&self, source: &impl SlotSource, limit: usize) -> Run {
        Run::new(source, self.next, source.slots().rest_of_lap(self.next).min(limit))
    }

    /// Counts what was taken of the run that this cursor began last, and continues after it.
    #[inline]
    pub fn end_run(&mut self, run: &Run) {
        self.delivered_to(run.start, run.next());
    }

    #[inline(always)]
    fn delivered_to(&mut self, start: u64, next: u64) {
        if next != start {
            self.stats.delivered = self.stats.delivered.wrapping_add(next.wrapping_sub(start));
            self.move_to(next);
        }
    }

    /// One bounded step: loads the sequence of the next ticket's slot, and delivers the record, passes the ticket, or
    /// finds the slot empty. Takes a few dozen loads at most, whatever the memory contains.
    #[inline(always)] // so that the copy need not go through memory
    pub fn step<T: AnyBitPattern>(&mut self, source: &mut impl SlotSource, out: &mut T) -> Step {
        let mut run = Run::new(source, self.next, 1);
        let taken = run.take(source, out);
        self.end_run(&run);
        match taken {
            Ok(t) => Step::Record(t),
            Err(no) => self.without(source, no),
        }
    }

    /// Steps until a step gives no record, at most `limit` times and to the end of the lap, and calls `f` for each
    /// record. Returns the number of records, and the result of the last step if it gave none.
    #[inline(always)]
    pub fn run<T: AnyBitPattern, R: Room<T> + ?Sized>(
        &mut self,
        source: &mut impl SlotSource,
        room: &mut R,
        limit: usize,
        mut f: impl FnMut(u64, &T),
    ) -> (usize, Step) {
        let Run { start, mut slot, stride, published, left, .. } = self.begin_run(source, limit);
        let mut passed = Passed { start, next: start, cursor: self };
        let (mut count, mut no) = (0, NoRecord::End);
        while (count as u64) < left {
            let out = room.place_of(count);
            if let Err(found) = source.take::<T, true>(slot, published, out) {
                no = found;
                break;
            }
            let t = passed.next;
            passed.next = t.wrapping_add(1);
            (count, slot) = (count + 1, slot.wrapping_add(stride));
            f(t, out);
        }
        drop(passed);
        (count, self.without(source, no))
    }
}

/// Keeps a cursor's position in registers while it delivers records. Dropping it stores the position in the cursor,
/// also after a panic: no record is delivered twice.
struct Passed<'c> {
    cursor: &'c mut Cursor,
    start: u64,
    next: u64,
}

impl Drop for Passed<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.cursor.delivered_to(self.start, self.next);
    }
}

/// Where a run of records is copied to.
pub trait Room<T> {
    /// The place of the record after `count` others.
    fn place_of(&mut self, count: usize) -> &mut T;
}

/// Each record replaces the one before.
impl<T> Room<T> for T {
    #[inline(always)]
    fn place_of(&mut self, _count: usize) -> &mut T {
        self
    }
}

/// A place for each.
impl<T> Room<T> for [T] {
    #[inline(always)]
    fn place_of(&mut self, count: usize) -> &mut T {
        &mut self[count]
    }
}
