//! Reads rings, whose records are bytes, in the order of shards or of time.
//!
//! All work is done without the interpreter's lock. A reader has a lock of its own, taken only without the interpreter's: so two
//! threads that use one reader wait for each other, and nobody else waits for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use mapring::any::AnyRecord;
use mapring::reading::{LossCause, Order};
use mapring::time::Clock;
use mapring::{Event, Loss, ReadStats, Region, Ring, Start};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use rustix::fd::AsRawFd;

use crate::error;

/// How long a wait sleeps before it looks for signals of the interpreter.
const SLICE: Duration = Duration::from_millis(100);
/// More memory than this is not kept for the next read.
const KEPT: usize = 16 << 20;

/// Evaluates an expression with `N` of the smallest [`AnyRecord`] that holds this many bytes.
macro_rules! with_size {
    ($bytes:expr, $N:ident => $do:expr) => {
        $crate::reader::with_size!(@ $bytes, $N, $do, 4 32 1024)
    };
    (@ $bytes:expr, $N:ident, $do:expr, $($n:literal)*) => {
        match $bytes {
            $(0..=mapring::any::AnyRecord::<$n>::MAX => {
                const $N: usize = $n;
                $do
            })*
            bytes => Err($crate::wrong(mapring::ErrorKind::Layout, format!(
                "records of {bytes} bytes: this package reads up to {}", mapring::any::AnyRecord::<1024>::MAX
            ))),
        }
    };
}
pub(crate) use with_size;

/// A reader of a ring of any record type.
trait Records: Send {
    /// Appends up to `limit` records and their tails to `bytes`, and calls `found` with shard, ticket and length of the tail.
    fn each(&mut self, limit: usize, bytes: &mut Vec<u8>, found: &mut dyn FnMut(usize, u64, usize)) -> usize;
    /// Writes up to `limit` records without their tails to `bytes` from `at` on, which grows as needed. Returns where they end.
    fn fill(&mut self, limit: usize, bytes: &mut Vec<u8>, at: usize) -> usize;
    fn wait(&mut self, timeout: Duration) -> mapring::Result<bool>;
    fn arm(&mut self) -> Option<Duration>;
    fn bell(&mut self) -> Option<i32>;
    fn require(&mut self, lease: Duration) -> mapring::Result<()>;
    fn stats(&self) -> ReadStats;
    fn losses(&mut self) -> Vec<Loss>;
    fn liveness(&self) -> mapring::liveness::Liveness;
    fn ended(&mut self) -> bool;
    /// The last error, if nothing was read. Otherwise the next read that finds nothing has it.
    fn take_error_if(&mut self, nothing: bool) -> Option<mapring::Error>;
}

/// Records whose bytes can be read.
trait Row: AnyBitPattern + Send {
    /// How many bytes to copy of a record of `size` bytes. A number that the compiler knows is copied faster; then the next record
    /// overwrites what is too much.
    fn copied(size: usize) -> usize;
    /// Its first bytes.
    fn bytes(&self, len: usize) -> &[u8];
}

impl<const N: usize> Row for AnyRecord<N> {
    #[inline]
    fn copied(size: usize) -> usize {
        if N <= 4 { Self::MAX } else { size }
    }

    #[inline]
    fn bytes(&self, len: usize) -> &[u8] {
        self.bytes(len)
    }
}

/// The usual records: readers of a size that the compiler knows are twice as fast.
impl<const N: usize> Row for [u64; N] {
    #[inline]
    fn copied(_: usize) -> usize {
        8 * N
    }

    #[inline]
    fn bytes(&self, len: usize) -> &[u8] {
        &bytemuck::cast_slice(self)[..len]
    }
}

struct Typed<T, O> {
    reader: mapring::Reader<T, O>,
    size: usize,
}

impl<T: Row, O: Order<T> + Send> Records for Typed<T, O> {
    fn each(&mut self, limit: usize, bytes: &mut Vec<u8>, found: &mut dyn FnMut(usize, u64, usize)) -> usize {
        let size = self.size;
        self.reader.for_each(limit, |Event { shard, ticket, record, tail }| {
            bytes.extend_from_slice(record.bytes(size));
            bytes.extend_from_slice(tail);
            found(shard, ticket, tail.len());
        })
    }

    fn fill(&mut self, limit: usize, bytes: &mut Vec<u8>, mut at: usize) -> usize {
        let size = self.size;
        let copied = T::copied(size);
        self.reader.for_each(limit, |event| {
            if bytes.len() - at < copied {
                bytes.resize(2 * bytes.len() + copied, 0);
            }
            bytes[at..][..copied].copy_from_slice(event.record.bytes(copied));
            at += size;
        });
        at
    }

    fn wait(&mut self, timeout: Duration) -> mapring::Result<bool> {
        self.reader.wait(timeout)
    }

    fn arm(&mut self) -> Option<Duration> {
        self.reader.arm()
    }

    fn bell(&mut self) -> Option<i32> {
        self.reader.bell().ok().map(|bell| bell.as_raw_fd())
    }

    fn require(&mut self, lease: Duration) -> mapring::Result<()> {
        self.reader.require(lease)
    }

    fn stats(&self) -> ReadStats {
        self.reader.stats()
    }

    fn losses(&mut self) -> Vec<Loss> {
        self.reader.take_losses()
    }

    fn liveness(&self) -> mapring::liveness::Liveness {
        self.reader.liveness()
    }

    fn ended(&mut self) -> bool {
        self.reader.ended().is_some()
    }

    fn take_error_if(&mut self, nothing: bool) -> Option<mapring::Error> {
        if nothing { self.reader.take_error() } else { None }
    }
}

struct State {
    /// `None` once it is closed.
    records: Option<Box<dyn Records>>,
    /// Kept between reads, so that its pages are.
    bytes: Vec<u8>,
}

impl State {
    fn records(&mut self) -> PyResult<&mut dyn Records> {
        match &mut self.records {
            Some(records) => Ok(&mut **records),
            None => Err(PyValueError::new_err("the ring is closed")),
        }
    }
}

/// A loss: shard, cause, whether programs dropped the records, the first ticket and the one after the last, how many, since and until
/// when.
type LossParts = (Option<usize>, &'static str, bool, Option<(u64, u64)>, u64, Option<u64>, u64);

/// An event: shard, ticket, record, tail.
type Parts<'py> = (usize, u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// A reader of a ring.
#[pyclass(frozen, module = "mapring._mapring")]
pub(crate) struct Reader {
    state: Mutex<State>,
    size: usize,
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

    /// A reader of the ring in these regions, merged by the number at an offset if there is a `stamp`.
    pub(crate) fn new(
        regions: &[(usize, Region)],
        size: usize,
        start: Start,
        stamp: Option<(usize, Clock)>,
    ) -> PyResult<Self> {
        if let Some((at, _)) = stamp
            && at.checked_add(8).is_none_or(|end| end > size)
        {
            return Err(PyValueError::new_err("the time stamp is not inside of the record"));
        }
        let records: PyResult<Box<dyn Records>> = with_size!(size, N => {
            Ok(match stamp {
                None => by_shard(regions, size, start).unwrap_or_else(|| read::<AnyRecord<N>>(regions, size, start))?,
                Some((at, clock)) => {
                    let stamp = move |record: &AnyRecord<N>| {
                        record.bytes(size)[at..].first_chunk().copied().map_or(0, u64::from_ne_bytes)
                    };
                    let reader = ring(regions)?.reader_from(start).merged(stamp).with_clock(clock);
                    Box::new(Typed { reader, size })
                }
            })
        });
        let state = Mutex::new(State { records: Some(records?), bytes: Vec::new() });
        Ok(Self { state, size })
    }

    /// Only without the interpreter's lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the reader, without the interpreter's lock.
    fn with<T: Send>(&self, py: Python<'_>, f: impl FnOnce(&mut dyn Records) -> T + Send) -> PyResult<T> {
        py.detach(|| self.lock().records().map(f))
    }
}

/// A reader by shard for a usual size.
fn by_shard(regions: &[(usize, Region)], size: usize, start: Start) -> Option<PyResult<Box<dyn Records>>> {
    macro_rules! of_words {
        ($($words:literal)*) => {
            match size {
                $(size if size == 8 * $words => Some(read::<[u64; $words]>(regions, size, start)),)*
                _ => None,
            }
        };
    }
    of_words!(2 3 4 5 6 7 8)
}

fn read<T: Row + 'static>(
    regions: &[(usize, Region)],
    size: usize,
    start: Start,
) -> PyResult<Box<dyn Records>> {
    let reader = ring::<T>(regions)?.reader_from(start);
    Ok(Box::new(Typed { reader, size }))
}

fn ring<T: AnyBitPattern>(regions: &[(usize, Region)]) -> PyResult<Ring<T>> {
    let ring = match regions {
        [(0, region)] if !region.geometry().options().has_per_cpu_maps() => Ring::from_region(region.clone()),
        _ => Ring::from_regions(regions.iter().cloned()),
    };
    ring.map_err(error)
}

#[pymethods]
impl Reader {
    /// Up to `limit` events that are present.
    fn read<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Parts<'py>>> {
        let (bytes, places) = py.detach(|| {
            let (mut bytes, mut places) = (Vec::new(), Vec::new());
            let mut state = self.lock();
            let records = state.records()?;
            records.each(limit, &mut bytes, &mut |shard, ticket, tail| places.push((shard, ticket, tail)));
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

    /// The bytes of `first`, and after them up to `limit` records that are present.
    fn read_bytes<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        first: Vec<u8>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let (mut bytes, end) = py.detach(|| {
            let mut state = self.lock();
            let mut bytes = std::mem::take(&mut state.bytes);
            bytes.resize(bytes.len().max(first.len()), 0);
            bytes[..first.len()].copy_from_slice(&first);
            let records = state.records()?;
            let end = records.fill(limit, &mut bytes, first.len());
            match records.take_error_if(end == 0) {
                Some(e) => Err(error(e)),
                None => Ok((bytes, end)),
            }
        })?;
        let found = PyByteArray::new(py, &bytes[..end]);
        if bytes.capacity() > KEPT {
            bytes = Vec::new();
        }
        py.detach(|| self.lock().bytes = bytes);
        Ok(found)
    }

    /// Waits until there are records, at most for `timeout` seconds. Signals interrupt it.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = timeout.filter(|seconds| *seconds != f64::INFINITY).map(|seconds| {
            Duration::try_from_secs_f64(seconds.max(0.0))
                .map_err(|_| PyValueError::new_err("a timeout is a number of seconds"))
        });
        let end = timeout.transpose()?.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            let found = self.with(py, |records| records.wait(left.min(SLICE)))?.map_err(error)?;
            py.check_signals()?;
            if found || left <= SLICE {
                return Ok(found);
            }
        }
    }

    /// Asks programs to ring, if they can. `None` if there are records, else how many seconds the caller may sleep.
    fn arm(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.with(py, |records| records.arm().map(|time| time.as_secs_f64()))
    }

    /// The descriptor that is readable once a program has rung; `None` if none rings for this reader. The reader owns it.
    fn bell(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        self.with(py, |records| records.bell())
    }

    fn require(&self, py: Python<'_>, lease: f64) -> PyResult<()> {
        let lease = Duration::try_from_secs_f64(lease)
            .map_err(|_| PyValueError::new_err("a lease is a number of seconds"))?;
        self.with(py, |records| records.require(lease))?.map_err(error)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.with(py, |records| records.stats())?;
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

    fn losses(&self, py: Python<'_>) -> PyResult<Vec<LossParts>> {
        let parts = |loss: Loss| {
            let tickets = loss.tickets.map(|tickets| (tickets.start, tickets.end));
            let (cause, drop) = (LossCause::as_str(loss.cause), loss.cause.is_drop());
            (loss.shard, cause, drop, tickets, loss.count, loss.since, loss.until)
        };
        self.with(py, |records| records.losses().into_iter().map(parts).collect())
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

    /// Gives the ring back, and its place among the readers that programs know.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.lock().records = None);
    }
}
