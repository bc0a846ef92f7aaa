//! The losses of a reader: how many records it did not get, by cause, with their place among the tickets and in time.

use core::fmt;
use core::ops::Range;

/// Why a reader did not get records. [`ReadStats`](super::ReadStats) has a count of each cause, with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossCause {
    /// Overwritten before they were read.
    Lapped,
    /// Reserved, and not ended while later tickets had ended.
    Skipped,
    /// The tail was overwritten before it was read.
    TailLost,
    /// Dropped by a program: no slot that it tried was free.
    NoSlot,
    /// Dropped by a program: a required reader had not read the oldest records.
    Full,
    /// Dropped by a program: its CPU has no shard, or the ring was not initialized.
    NoShard,
    /// Dropped by a program: there was no space for the tail.
    NoTail,
    /// Refused: the tail was longer than the longest.
    TooLong,
}

impl LossCause {
    /// All causes: those of a reader, then those of programs.
    pub const ALL: &[Self] = &[
        Self::Lapped,
        Self::Skipped,
        Self::TailLost,
        Self::NoSlot,
        Self::Full,
        Self::NoShard,
        Self::NoTail,
        Self::TooLong,
    ];

    /// Whether programs dropped the records: no reader gets them.
    pub fn is_drop(self) -> bool {
        !matches!(self, Self::Lapped | Self::Skipped | Self::TailLost)
    }

    /// A few words, as in the text of [`ReadStats`](super::ReadStats).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lapped => "overwritten",
            Self::Skipped => "skipped",
            Self::TailLost => "tail overwritten",
            Self::NoSlot => "no free slot",
            Self::Full => "held back by a reader",
            Self::NoShard => "no shard for the CPU",
            Self::NoTail => "no space for the tail",
            Self::TooLong => "tail too long",
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Records that a reader did not get, all for one cause. Times are nanoseconds of `CLOCK_MONOTONIC`, the clock of
/// `bpf_ktime_get_ns()` and of `Clock::Monotonic`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The shard. `None` if the records have none, or if losses of several shards were merged.
    pub shard: Option<usize>,
    /// Why they are missing.
    pub cause: LossCause,
    /// Their tickets: they are missing between the records before and after. If losses were merged, these are the
    /// tickets among which they are missing, and `count` is less. `None` for records without a ticket.
    pub tickets: Option<Range<u64>>,
    /// How many records.
    pub count: u64,
    /// None was lost before this time. `None` if that is not known. The first entry of a reader with what programs dropped
    /// is an exception: `since` is then when the latest spell of drops began, and the entry includes all earlier ones.
    ///
    /// It is a reading of the clock after which the reader read the whole shard: the time of the sweep before, or a
    /// millisecond or two before for a reader that polls all the time. It is `None` with
    /// [`Start::First`](super::Start::First), and in a ring that replaced another, until the reader was at the end. A
    /// merged reader finds a lost tail when it delivers the record: `since` is then before it read the record. If a
    /// program is interrupted in the middle of its claim for a whole lap, the shard seems to end there.
    ///
    /// For drops by programs, it is when the latest spell began, or the reader's last check if that was later, or if it
    /// was more than a second before the spell. On weakly ordered machines a reader can see a count before its time,
    /// and then takes the present.
    pub since: Option<u64>,
    /// None was lost after this time. For losses that only the reader sees, this is when it noticed them: the coarse clock
    /// plus two ticks of the kernel, 2 to 20 ms.
    pub until: u64,
}

impl Loss {
    /// `count` records, lost at an unknown time.
    pub fn new(shard: Option<usize>, cause: LossCause, tickets: Option<Range<u64>>, count: u64) -> Self {
        Self { shard, cause, tickets, count, since: None, until: 0 }
    }

    /// The same, lost between these times.
    #[must_use]
    pub fn between(self, since: Option<u64>, until: u64) -> Self {
        Self { since, until, ..self }
    }

    /// Whether `next` is the same gap, found later.
    fn goes_on(&self, next: &Self) -> bool {
        let ends = self.tickets.as_ref().map(|tickets| tickets.end);
        self.is_like(next) && ends.is_some() && ends == next.tickets.as_ref().map(|tickets| tickets.start)
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.shard, self.cause) == (other.shard, other.cause)
    }

    /// Adds a later loss of the same cause.
    fn add(&mut self, later: Self) {
        let one_shard = self.shard == later.shard;
        self.tickets = match (self.tickets.take(), later.tickets) {
            (Some(a), Some(b)) if one_shard => Some(a.start..b.end),
            _ => None,
        };
        self.shard = self.shard.filter(|_| one_shard);
        self.count = self.count.wrapping_add(later.count);
        self.since = self.since.min(later.since);
        self.until = self.until.max(later.until);
    }
}

/// `shard 1: 12 overwritten, tickets 100 to 111, within 3.2ms`
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shard) = self.shard {
            write!(f, "shard {shard}: ")?;
        }
        write!(f, "{} {}", self.count, self.cause)?;
        if let Some(tickets) = &self.tickets {
            write!(f, ", tickets {} to {}", tickets.start, tickets.end.wrapping_sub(1))?;
        }
        match self.since {
            Some(since) => {
                let within = core::time::Duration::from_nanos(self.until.saturating_sub(since));
                write!(f, ", within {within:.1?}")
            }
            None => Ok(()),
        }
    }
}

/// A list of losses with room for some. When it is full, the two oldest of one shard and cause become one, so that the
/// sum of their counts stays exact.
#[derive(Debug, PartialEq, Eq)]
pub struct Losses {
    list: Vec<Loss>,
    most: usize,
}

impl Losses {
    /// The room of a cursor's list.
    pub const OF_CURSOR: usize = 9;
    /// The room of a list of losses of several shards.
    pub const OF_READER: usize = 32;

    /// An empty list with room for `most` losses. Later calls allocate nothing.
    ///
    /// # Panics
    /// If there is not room for each cause.
    pub fn new(most: usize) -> Self {
        assert!(most > LossCause::ALL.len());
        Self { list: Vec::with_capacity(most), most }
    }

    /// Appends a loss, which was found after all others in the list. A gap that goes on is one loss.
    pub fn push(&mut self, loss: Loss) {
        if loss.count == 0 {
            return;
        }
        if let Some(last) = self.list.last_mut().filter(|last| last.goes_on(&loss)) {
            last.add(loss);
            return;
        }
        if self.list.len() == self.most {
            self.merge_two();
        }
        self.list.push(loss);
    }

    /// Makes one loss of two: of one shard and cause, or else of one cause, as there is more room than causes.
    fn merge_two(&mut self) {
        let pair = |same: fn(&Loss, &Loss) -> bool| {
            (1..self.list.len()).find_map(|later| {
                let earlier = (0..later).find(|&at| same(&self.list[at], &self.list[later]))?;
                Some((earlier, later))
            })
        };
        if let Some((earlier, later)) = pair(Loss::is_like).or_else(|| pair(|a, b| a.cause == b.cause)) {
            let later = self.list.remove(later);
            self.list[earlier].add(later);
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Empties the list, oldest first.
    pub fn take(&mut self) -> impl Iterator<Item = Loss> {
        self.list.drain(..)
    }
}

/// With the same room.
impl Clone for Losses {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.most);
        clone.list.extend_from_slice(&self.list);
        clone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(shard: usize, cause: LossCause, tickets: Range<u64>) -> Loss {
        let (count, until) = (tickets.end - tickets.start, tickets.end * 10);
        Loss {
            shard: Some(shard),
            cause,
            since: Some(tickets.start * 10),
            until,
            count,
            tickets: Some(tickets),
        }
    }

    #[test]
    fn a_gap_that_goes_on_is_one_loss() {
        let mut losses = Losses::new(Losses::OF_CURSOR);
        losses.push(loss(0, LossCause::Lapped, 3..5));
        losses.push(loss(0, LossCause::Lapped, 5..5));
        losses.push(loss(0, LossCause::Lapped, 5..9));
        losses.push(loss(0, LossCause::Skipped, 9..10));
        losses.push(loss(1, LossCause::Skipped, 10..11));
        let expected = [
            loss(0, LossCause::Lapped, 3..9),
            loss(0, LossCause::Skipped, 9..10),
            loss(1, LossCause::Skipped, 10..11),
        ];
        assert!(!losses.is_empty());
        assert_eq!(losses.take().collect::<Vec<_>>(), expected);
        assert!(losses.is_empty() && losses.take().count() == 0);
        let between = Loss::new(None, LossCause::NoShard, None, 3).between(Some(1), 2);
        assert_eq!((between.count, between.since, between.until), (3, Some(1), 2));
    }

    #[test]
    fn a_full_list_keeps_the_sums() {
        let mut losses = Losses::new(9);
        let mut sums = [0; 2];
        for (n, at) in (0..1000_u64).zip(0_usize..) {
            let cause = [LossCause::Lapped, LossCause::Skipped][at % 2];
            losses.push(loss(at % 3, cause, 10 * n..10 * n + 1 + n % 5));
            sums[at % 2] += 1 + n % 5;
        }
        let list: Vec<_> = losses.take().collect();
        assert_eq!(list.len(), 9);
        for (cause, sum) in [LossCause::Lapped, LossCause::Skipped].into_iter().zip(sums) {
            let of = list.iter().filter(|loss| loss.cause == cause);
            assert_eq!(of.map(|loss| loss.count).sum::<u64>(), sum);
        }
        let first = &list[0];
        assert_eq!((first.shard, first.cause, first.since), (Some(0), LossCause::Lapped, Some(0)));
        assert!(list.iter().all(|loss| loss.since < Some(loss.until) && loss.shard.is_some()), "{list:?}");
        // The last one is as it was.
        assert_eq!(list[8], loss(0, LossCause::Skipped, 9990..9995));
    }

    #[test]
    fn losses_of_many_shards_are_merged_by_cause() {
        let mut losses = Losses::new(9);
        (0..10).for_each(|shard| losses.push(loss(shard, LossCause::Lapped, 1..2)));
        let list: Vec<_> = losses.take().collect();
        let merged = Loss { shard: None, tickets: None, count: 2, ..list[1].clone() };
        assert_eq!((list.len(), &list[0]), (9, &merged));
    }

    #[test]
    fn it_says_what_where_and_when() {
        let mut one = loss(1, LossCause::Lapped, 100..112);
        assert_eq!(one.to_string(), "shard 1: 12 overwritten, tickets 100 to 111, within 120.0ns");
        (one.shard, one.tickets, one.since) = (None, None, None);
        assert_eq!(one.to_string(), "12 overwritten");
    }
}
