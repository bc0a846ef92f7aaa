//! Reads rings, whose records are bytes, in the order of shards or of time.
//!
//! All work is done without the interpreter's lock. A reader has a lock of its own, taken only without the interpreter's: so two
//! threads that use one reader take turns, and nobody else waits for them.

use std::time::{Duration, Instant};

use mapring::liveness::Unended;
use mapring::reading::LossCause;
use mapring::time::Clock;
use mapring::{Loss, ReadStats, Region, Start};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};

use crate::error;
use crate::records::{self, ByStamp, Records, Setting};
use crate::turns::Turns;

/// How long a wait sleeps before it looks for signals of the interpreter: or as long as a watermark allows, if that is longer.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
/// More memory than this is not kept for the next read.
const KEPT: usize = 16 << 20;

struct State {
    /// `None` once it is closed.
    records: Option<Box<dyn Records>>,
    /// Kept between reads, so that its pages are.
    bytes: Vec<u8>,
    /// How long a wait sleeps before it looks for signals.
    slice: Duration,
}

impl State {
    fn records(&mut self) -> PyResult<&mut dyn Records> {
        match &mut self.records {
            Some(records) => Ok(&mut **records),
            None => Err(PyValueError::new_err("the ring is closed")),
        }
    }
}

/// A record that is not ended: shard, ticket, since how many seconds the reader knows, and all of it in words.
pub(crate) type UnendedParts = (usize, u64, f64, String);

/// A loss: shard, cause, whether programs dropped the records, the first ticket and the one after the last, how many, since and until
/// when, and all of it in words.
pub(crate) type LossParts =
    (Option<usize>, &'static str, bool, Option<(u64, u64)>, u64, Option<u64>, u64, String);

/// An event: shard, ticket, record, tail.
type Parts<'py> = (usize, u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// A reader of a ring.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct Reader {
    state: Turns<State>,
    pub(crate) size: usize,
    /// Of a merged reader.
    pub(crate) clock: Option<Clock>,
}

impl Reader {
    pub(crate) fn start(name: &str) -> PyResult<Start> {
        match name {
            "oldest" => Ok(Start::Oldest),
            "now" => Ok(Start::Now),
            "first" => Ok(Start::First),
            _ => Err(PyValueError::new_err("start is \"oldest\", \"now\" or \"first\"")),
        }
    }

    pub(crate) fn clock(name: &str) -> PyResult<Clock> {
        match name {
            "monotonic" => Ok(Clock::Monotonic),
            "boottime" => Ok(Clock::Boottime),
            _ => Err(PyValueError::new_err("clock is \"monotonic\" or \"boottime\"")),
        }
    }

    pub(crate) fn new(
        regions: &[(usize, Region)],
        size: usize,
        start: Start,
        by_stamp: Option<ByStamp>,
    ) -> PyResult<Self> {
        let records = Some(records::open(regions, size, start, by_stamp)?);
        let state = Turns::new(State { records, bytes: Vec::new(), slice: SLICE });
        Ok(Self { state, size, clock: by_stamp.map(|by| by.clock) })
    }

    /// Gives the reader away: this one is closed then. Only without the interpreter's lock.
    pub(crate) fn take(&self) -> PyResult<Box<dyn Records>> {
        let mut state = self.state.lock()?;
        state.records()?;
        Ok(state.records.take().expect("it is not closed"))
    }

    /// Does something with the reader, without the interpreter's lock.
    fn with<T: Send>(&self, py: Python<'_>, f: impl FnOnce(&mut dyn Records) -> T + Send) -> PyResult<T> {
        py.detach(|| self.state.lock()?.records().map(f))
    }

    /// The events that `read` finds.
    fn events<'py>(
        &self,
        py: Python<'py>,
        read: impl FnOnce(&mut dyn Records, &mut Vec<u8>, &mut Vec<(usize, u64, usize)>) + Send,
    ) -> PyResult<Vec<Parts<'py>>> {
        let (bytes, places) = py.detach(|| {
            let (mut bytes, mut places) = (Vec::new(), Vec::new());
            let mut state = self.state.lock()?;
            let records = state.records()?;
            read(records, &mut bytes, &mut places);
            match records.take_error_if(places.is_empty()) {
                Some(e) => Err(error(e)),
                None => Ok((bytes, places)),
            }
        })?;
        let mut rest = &bytes[..];
        let event = |(shard, ticket, len)| {
            let (record, others) = rest.split_at(self.size);
            let (tail, others) = others.split_at(len);
            rest = others;
            (shard, ticket, PyBytes::new(py, record), PyBytes::new(py, tail))
        };
        Ok(places.into_iter().map(event).collect())
    }

    fn set(&self, py: Python<'_>, setting: Setting) -> PyResult<()> {
        py.detach(|| {
            let mut state = self.state.lock()?;
            state.records()?;
            state.records = state.records.take().map(|records| records.with(setting));
            if let Setting::Watermark(_, age) = setting {
                state.slice = age.clamp(SLICE, Duration::from_secs(1));
            }
            Ok(())
        })
    }
}

/// A number of seconds.
pub(crate) fn seconds(what: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{what} is a number of seconds, from 0")))
}

/// Makes all bytes of texts zero that follow the first zero byte.
pub(crate) fn cut(records: &mut [u8], size: usize, texts: &[(usize, usize)]) {
    for record in records.chunks_exact_mut(size.max(1)) {
        for text in texts.iter().filter_map(|&(at, len)| Some(at..at.checked_add(len)?)) {
            let Some(text) = record.get_mut(text) else { continue };
            if let Some(end) = text.iter().position(|byte| *byte == 0) {
                text[end..].fill(0);
            }
        }
    }
}

/// Waits until `wait` finds records, at most for `timeout` seconds. Looks for signals after each slice.
pub(crate) fn wait(
    py: Python<'_>,
    timeout: Option<f64>,
    slice: Duration,
    mut wait: impl FnMut(Duration) -> PyResult<bool>,
) -> PyResult<bool> {
    let timeout = timeout.filter(|timeout| *timeout != f64::INFINITY);
    let timeout = timeout.map(|timeout| seconds("a timeout", timeout.max(0.0))).transpose()?;
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let found = wait(left.min(slice))?;
        py.check_signals()?;
        if found || left <= slice {
            return Ok(found);
        }
    }
}

/// The counts by name.
pub(crate) fn stats_of<'py>(py: Python<'py>, stats: &ReadStats) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    for (name, count) in [
        ("delivered", stats.delivered),
        ("lost", stats.lost()),
        ("dropped", stats.dropped()),
        ("lapped", stats.lapped),
        ("skipped", stats.skipped),
        ("tail_lost", stats.tail_lost),
        ("discarded", stats.discarded),
        ("stepped_over", stats.stepped_over),
        ("no_slot", stats.no_slot),
        ("full", stats.full),
        ("no_shard", stats.no_shard),
        ("no_tail", stats.no_tail),
        ("too_long", stats.too_long),
        ("torn", stats.torn),
        ("late", stats.late),
        ("ahead", stats.ahead),
        ("held", stats.held),
    ] {
        found.set_item(name, count)?;
    }
    Ok(found)
}

pub(crate) fn loss_parts(loss: Loss) -> LossParts {
    let (cause, drop, text) = (LossCause::as_str(loss.cause), loss.cause.is_drop(), loss.to_string());
    let tickets = loss.tickets.map(|tickets| (tickets.start, tickets.end));
    (loss.shard, cause, drop, tickets, loss.count, loss.since, loss.until, text)
}

pub(crate) fn unended_parts(it: Unended) -> UnendedParts {
    (it.shard, it.ticket, it.noticed.as_secs_f64(), it.to_string())
}

#[pymethods]
impl Reader {
    /// Up to `limit` events that are present.
    fn read<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Parts<'py>>> {
        self.events(py, |records, bytes, places| {
            records.each(limit, bytes, &mut |shard, ticket, tail| places.push((shard, ticket, tail)));
        })
    }

    /// Appends up to `limit` events that are present to a deque: no handler of a signal runs between reading and that. Returns their
    /// number.
    fn read_ahead(&self, ahead: &Bound<'_, PyAny>, limit: usize) -> PyResult<usize> {
        let events = self.read(ahead.py(), limit)?;
        let count = events.len();
        ahead.call_method1("extend", (events,)).map(|_| count)
    }

    /// The newest event of each shard, without its tail.
    fn newest<'py>(&self, py: Python<'py>) -> PyResult<Vec<Parts<'py>>> {
        self.events(py, |records, bytes, places| {
            records.newest(bytes, &mut |shard, ticket, tail| places.push((shard, ticket, tail)));
        })
    }

    /// The bytes of `first`, and after them up to `limit` records that are present. Each of the texts, by their places in a record, is
    /// zero from its first zero byte on.
    fn read_bytes<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        first: Vec<u8>,
        texts: Vec<(usize, usize)>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let (mut bytes, end) = py.detach(|| {
            let mut state = self.state.lock()?;
            let mut bytes = std::mem::take(&mut state.bytes);
            bytes.resize(bytes.len().max(first.len()), 0);
            bytes[..first.len()].copy_from_slice(&first);
            let records = state.records()?;
            let end = records.fill(limit, &mut bytes, first.len());
            match records.take_error_if(end == 0) {
                Some(e) => Err(error(e)),
                None => {
                    cut(&mut bytes[..end], self.size, &texts);
                    Ok((bytes, end))
                }
            }
        })?;
        let found = PyByteArray::new(py, &bytes[..end]);
        if bytes.capacity() > KEPT {
            bytes = Vec::new();
        }
        py.detach(|| self.state.lock().map(|mut state| state.bytes = bytes))?;
        Ok(found)
    }

    /// Waits until there are records, at most for `timeout` seconds. Signals interrupt it.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let slice = py.detach(|| self.state.lock().map(|state| state.slice))?;
        wait(py, timeout, slice, |slice| {
            py.detach(|| self.state.then_others(|state| state.records()?.wait(slice).map_err(error))?)
        })
    }

    /// Asks programs to ring, if they can. `None` if there are records, else how many seconds the caller may sleep.
    fn arm(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.with(py, |records| records.arm().map(|time| time.as_secs_f64()))
    }

    /// The descriptor that is readable once a program has rung, or why none rings for this reader. The reader owns it.
    fn bell(&self, py: Python<'_>) -> PyResult<i32> {
        self.with(py, |records| records.bell())?
    }

    fn require(&self, py: Python<'_>, lease: f64) -> PyResult<()> {
        let lease = seconds("a lease", lease)?;
        self.with(py, |records| records.require(lease))?.map_err(error)
    }

    fn set_patience(&self, py: Python<'_>, patience: f64) -> PyResult<()> {
        self.set(py, Setting::Patience(seconds("a patience", patience)?))
    }

    fn set_watermark(&self, py: Python<'_>, records: u64, age: f64) -> PyResult<()> {
        self.set(py, Setting::Watermark(records, seconds("an age", age)?))
    }

    /// Passes over records whose 8-byte number at an offset is less than `time`.
    fn skip_before(&self, py: Python<'_>, time: u64, at: usize) -> PyResult<()> {
        records::check_stamp(self.size, at)?;
        self.with(py, |records| records.skip_before(time, at))
    }

    /// The counts of all shards, or of one.
    #[pyo3(signature = (shard=None))]
    fn stats<'py>(&self, py: Python<'py>, shard: Option<usize>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.with(py, |records| records.stats(shard))?;
        let no_shard = || PyIndexError::new_err("this reader reads no such shard");
        let stats = stats.ok_or_else(no_shard)?;
        stats_of(py, &stats)
    }

    fn losses(&self, py: Python<'_>) -> PyResult<Vec<LossParts>> {
        self.with(py, |records| records.losses().into_iter().map(loss_parts).collect())
    }

    /// Records that no program has ended.
    fn unended(&self, py: Python<'_>) -> PyResult<Vec<UnendedParts>> {
        self.with(py, |records| records.unended().into_iter().map(unended_parts).collect())
    }

    /// Seconds without a record, the loader's pid, whether it lives, the programs or `None`, and all of it in words.
    #[expect(clippy::type_complexity)]
    fn liveness(
        &self,
        py: Python<'_>,
    ) -> PyResult<(f64, Option<u32>, bool, Option<Vec<(u32, String, usize)>>, String)> {
        self.with(py, |records| {
            let found = records.liveness();
            let text = found.to_string();
            let programs = found.programs.ok().map(|programs| {
                programs.into_iter().map(|program| (program.id, program.name, program.links)).collect()
            });
            (found.idle.as_secs_f64(), found.loader.map(|it| it.pid), found.loader_lives, programs, text)
        })
    }

    /// Whether another ring replaced this one, and this reader, which can't follow, has read all.
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |records| records.ended())
    }

    /// Gives the ring back, and its seat among the readers that programs know.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.state.lock().map(|mut state| state.records = None))
    }
}
