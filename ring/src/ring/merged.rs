//! Delivers the records of several rings in the order of their timestamps.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::Turn;

use super::Reader;
use super::bell::Bell;
use super::by_time::ByTime;
use super::event::Event;
use super::reader::{AnyReader, Turns};
use crate::error::Result;
use crate::time::Clock;

/// A reader of several rings, which may have different record types: it delivers all records in the order of their stamps. So
/// important records can have a ring of their own, which a flood of others does not overwrite.
///
/// Each ring has a reader that is [merged](Reader::merged), and a function that gets its records. The functions share a
/// context of type `C`:
///
/// ```
/// use mapring::time::Clock;
/// use mapring::{Event, Merged, Reader, Ring};
///
/// #[derive(Default)]
/// struct Log(Vec<String>);
///
/// impl Log {
///     fn on_switch(&mut self, event: Event<&[u64; 2], &[u8]>) {
///         self.0.push(format!("switch to {}", event.record[1]));
///     }
///     fn on_alert(&mut self, event: Event<&[u64; 3], &[u8]>) {
///         self.0.push(format!("alert {:?}", &event.record[1..]));
///     }
/// }
///
/// let (switches, alerts) = (Ring::<[u64; 2]>::create_memfd(64, 1)?, Ring::<[u64; 3]>::create_memfd(1024, 1)?);
/// let mut both = Merged::new(Clock::Monotonic)
///     .with(switches.reader().merged(|event| event[0]), Log::on_switch)
///     .with(alerts.reader().merged(|event| event[0]), Log::on_alert);
///
/// let now = Clock::Monotonic.now();
/// alerts.writer(0)?.push(&[now + 1, 5, 6]);
/// switches.writer(0)?.push(&[now, 7]);
/// # std::thread::sleep(Reader::<()>::SETTLE);
/// let mut log = Log::default();
/// assert_eq!(both.for_each(&mut log, usize::MAX), 2);
/// assert_eq!(log.0, ["switch to 7", "alert [5, 6]"]);
/// assert_eq!(both.reader(1).stats().lost(), 0);
/// # Ok::<(), mapring::Error>(())
/// ```
///
/// **Order.** What [`ByTime`] guarantees for the shards of a ring holds for all shards of all rings. A record is delivered
/// once no earlier one can come from any of the rings. Records with equal stamps come in the order of their rings. A record with
/// an earlier stamp than one that was delivered before it, of whichever ring, counts as [`late`](crate::ReadStats::late) in
/// its ring. A ring without records holds nothing back.
///
/// **Counts.** Each ring has a reader of its own, with its own counts, losses and errors: [`reader`](Self::reader).
///
/// **Space.** The rings are read at the pace of the slowest one. A ring loses nothing if it has room for the records that
/// programs write while the other rings are read: give it as much *time* as the others have, not as many slots.
///
/// **Cost.** A call reads the clock once for each ring. As for one ring, it makes no system call if the rings are mapped, and
/// allocates nothing.
pub struct Merged<'a, C> {
    clock: Clock,
    rings: Vec<Part<'a, C>>,
    /// The latest stamp that was delivered.
    last: u64,
}

/// A ring, with what it delivers next.
struct Part<'a, C> {
    ring: Box<dyn Turns<C> + Send + 'a>,
    turn: Turn,
    /// Whether the only round of this call has begun.
    begun: bool,
}

impl<'a, C> Merged<'a, C> {
    /// A merge of no rings yet. Programs read the stamps from this clock: the rings can only be merged if it is one.
    pub fn new(clock: Clock) -> Self {
        Self { clock, rings: Vec::new(), last: 0 }
    }

    /// Adds a ring. `f` gets its records. The options of the reader are those of its ring:
    /// [`with_delay`](Reader::with_delay), [`with_ticket_order`](Reader::with_ticket_order),
    /// [`of_the_past`](Reader::of_the_past), [`require`](Reader::require). Its clock becomes that of the merge.
    #[must_use]
    pub fn with<T, F, H>(mut self, reader: Reader<T, ByTime<T, F>>, f: H) -> Self
    where
        T: AnyBitPattern + Send,
        F: FnMut(&T) -> u64 + Send + 'a,
        H: FnMut(&mut C, Event<&T, &[u8]>) + Send + 'a,
    {
        let ring = Box::new((reader.with_clock(self.clock), f));
        self.rings.push(Part { ring, turn: Turn::default(), begun: false });
        self
    }

    /// Reads the ring of `other` in the place of this one, for example after its loader has started again. This drops the
    /// records that the old reader holds, and its counts: read them before.
    ///
    /// # Panics
    /// If there is no such ring, or if `other` does not have exactly one.
    pub fn replace(&mut self, ring: usize, other: Self) {
        let mut next = other.rings;
        self.rings[ring..=ring].swap_with_slice(&mut next);
    }

    /// Delivers up to `limit` records in the order of their stamps, each to the function of its ring, with this context.
    /// Ends even if programs are faster. Returns the number of records. May [stop early](Self::stopped_early).
    ///
    /// A record whose tail was overwritten is lost, and counts for the limit.
    pub fn for_each(&mut self, context: &mut C, limit: usize) -> usize {
        let most = self.rings.iter().fold(0, |most: usize, part| most.saturating_add(part.ring.most()));
        let (mut left, mut count) = (limit.min(most), 0);
        self.begin();
        while left > 0
            && let Some(first) = self.next()
        {
            let end = self.end(first);
            let Part { ring, turn, .. } = &mut self.rings[first];
            let [taken, delivered] = ring.deliver(context, end, left, &mut self.last);
            *turn = ring.turn(false);
            left -= taken;
            count += delivered;
        }
        count
    }

    /// True if any call since the last check stopped [early](Reader::STEPS). Read again before waiting: there may be a record
    /// further on.
    pub fn stopped_early(&mut self) -> bool {
        self.rings.iter_mut().map(|part| part.ring.stopped_early()).filter(|early| *early).count() > 0
    }

    /// The reader of a ring, in the order in which they were added: its counts.
    ///
    /// # Panics
    /// If there is no such ring.
    pub fn reader(&self, ring: usize) -> &dyn AnyReader {
        self.rings[ring].ring.reader()
    }

    /// The same, for its losses and errors.
    ///
    /// # Panics
    /// If there is no such ring.
    pub fn reader_mut(&mut self, ring: usize) -> &mut dyn AnyReader {
        self.rings[ring].ring.reader_mut()
    }

    /// Waits until there are records to deliver, at most for `timeout`. Returns whether there are some.
    ///
    /// It sleeps until a program rings the [bell](Reader::bell) of any ring, if each reader has one. Otherwise it naps between two
    /// checks, at most for [`NAP`](Reader::NAP), as it does while it holds records whose turn has not come. A ring in a memfd has no
    /// bell here.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) if the machine can't sleep on the bells.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        let mut nap = Reader::<()>::SETTLE;
        loop {
            if self.is_ready() {
                return Ok(true);
            }
            let rest = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(false);
            }
            if self.holds() {
                thread::sleep(nap.min(rest));
                nap = (2 * nap).min(Reader::<()>::NAP);
            } else if let Some(limit) = self.arm_all() {
                let bells = self.rings.iter().filter_map(|part| part.ring.armed());
                let slept = Bell::sleep_on_any(bells, limit.min(rest));
                self.disarm_all();
                slept?;
            } else {
                // Maybe a ring is being replaced, and the next one is not there yet.
                thread::sleep(nap.min(rest));
                nap = (2 * nap).min(Reader::<()>::NAP);
            }
        }
    }

    /// For event loops that watch the [bell](AnyReader::bell) of each reader: see [`Reader::arm`].
    #[must_use = "with `None` there are records to read, and maybe nobody rings"]
    pub fn arm(&mut self) -> Option<Duration> {
        if self.is_ready() {
            return None;
        }
        if self.holds() { Some(Reader::<()>::SETTLE) } else { self.arm_all() }
    }

    /// Arms the bells of all rings, unless there are records.
    fn arm_all(&mut self) -> Option<Duration> {
        let mut limit = Some(Duration::MAX);
        for part in &mut self.rings {
            limit = limit.and_then(|limit| Some(limit.min(part.ring.arm()?)));
        }
        if limit.is_none() {
            self.disarm_all();
        }
        limit
    }

    fn disarm_all(&mut self) {
        self.rings.iter_mut().for_each(|part| part.ring.disarm());
    }

    fn holds(&self) -> bool {
        self.rings.iter().any(|part| part.ring.holds())
    }

    fn is_ready(&mut self) -> bool {
        self.begin();
        self.next().is_some()
    }

    /// Begins a call.
    fn begin(&mut self) {
        for Part { ring, turn, begun } in &mut self.rings {
            (*turn, *begun) = (ring.turn(false), false);
        }
    }

    /// The ring whose record is next. A ring that may still get an earlier one begins a round, once in a call.
    fn next(&mut self) -> Option<usize> {
        loop {
            let (at, part) = self.rings.iter_mut().enumerate().min_by_key(|(_, part)| part.turn)?;
            if part.turn.has_record {
                return Some(at);
            }
            if std::mem::replace(&mut part.begun, true) {
                return None;
            }
            part.turn = part.ring.turn(true);
        }
    }

    /// The stamp before which all records of this ring come before those of the others.
    fn end(&self, first: usize) -> u64 {
        let others = self.rings.iter().enumerate().filter(|(at, _)| *at != first);
        // Of equal stamps, those of the first ring come first.
        let end = |(at, part): (usize, &Part<'_, C>)| {
            part.turn.stamp.saturating_add(u64::from(part.turn.has_record && first < at))
        };
        others.map(end).min().unwrap_or(u64::MAX)
    }
}

impl<C> fmt::Debug for Merged<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rings = self.rings.iter().map(|part| part.ring.reader().region());
        f.debug_struct("Merged")
            .field("clock", &self.clock)
            .field("rings", &rings.collect::<Vec<_>>())
            .finish()
    }
}
