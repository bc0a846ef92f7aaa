//! The reading thread: from its first record to its last it makes no system call.

use std::hint;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytemuck::Zeroable;
use mapring::{Access, ReadStats};

use super::board::Board;
use super::record::{CALLS, Event, Feed};
use super::sandbox::Sandbox;

/// Rounds between two updates of the board: about a millisecond.
const ROUNDS: u32 = 512;
/// Pause instructions after a round without records: about a microsecond.
const PAUSES: u32 = 32;
/// How long the reader waits for a record whose writer was preempted. The ring is large enough to hold all others for
/// that long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything that the thread needs. Others own it as well, since the thread must not free memory or close files at its
/// end: that takes system calls.
struct Job {
    feed: Arc<Feed>,
    board: Arc<Board>,
    events: Mutex<mapring::Reader<Event>>,
    sandbox: Option<Sandbox>,
}

/// A started thread that waits for a source to read.
pub(crate) struct Waiting {
    /// The thread's id.
    pub(crate) tid: u32,
    start: mpsc::Sender<Arc<Job>>,
    thread: JoinHandle<Result<Outcome>>,
}

/// A thread that is reading.
pub(crate) struct Reading {
    job: Arc<Job>,
    thread: JoinHandle<Result<Outcome>>,
}

/// The result of the reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) stats: ReadStats,
    /// System calls that the producer counted for the thread while it read; `None` if the producer can't count them.
    pub(crate) seen_calls: Option<u64>,
    /// The thread read under the seccomp filter.
    pub(crate) sandboxed: bool,
}

/// Starts the thread early, so that its id is known before anything is published.
pub(crate) fn spawn() -> Result<Waiting> {
    let (start, job) = mpsc::channel::<Arc<Job>>();
    let (tell, tid) = mpsc::channel();
    let body = move || {
        let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned());
        let read_this = job.recv().context("nothing to read")?;
        drop((tell, job));
        Ok(read(&read_this))
    };
    let thread = thread::Builder::new().name("mapring-reader".into()).spawn(body)?;
    Ok(Waiting { tid: tid.recv().context("the reader did not start")?, start, thread })
}

impl Waiting {
    /// Makes the thread read `feed`.
    pub(crate) fn read(self, feed: Arc<Feed>, board: Arc<Board>) -> Result<Reading> {
        // Reading without a mapping takes system calls, which are counted.
        let mapped = feed.regions().all(|region| region.access() == Access::Mapped);
        let sandbox = if mapped { Sandbox::new().ok() } else { None };
        let events = Mutex::new(feed.events.reader().with_patience(PATIENCE));
        let job = Arc::new(Job { feed, board, events, sandbox });
        self.start.send(job.clone()).map_err(|_| anyhow!("the reader has ended before it read"))?;
        Ok(Reading { job, thread: self.thread })
    }
}

impl Reading {
    /// Stops the thread, and waits for it.
    pub(crate) fn stop(self) -> Result<Outcome> {
        self.job.board.stop();
        self.thread.join().map_err(|_| anyhow!("the reader panicked"))?
    }

    /// Whether the thread has ended without being stopped.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

/// The body of the thread: no allocation, no output, no clock, no shared lock.
fn read(job: &Job) -> Outcome {
    let Job { feed, board, events, sandbox } = job;
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    // A producer that counts the thread's calls must count this one.
    rustix::thread::sched_yield();
    let sandboxed = sandbox.as_ref().is_some_and(|sandbox| sandbox.enter().is_ok());
    let before = seen_calls(feed);

    let mut latest = [Event::zeroed(); Event::KINDS];
    let mut seen = [false; Event::KINDS];
    let mut round = 0_u32;
    while !board.stop.load(Ordering::Relaxed) {
        let count = events.for_each(4096, |event| {
            let kind = usize::from(event.record.kind).min(Event::KINDS - 1);
            latest[kind] = *event.record;
            seen[kind] = true;
        });
        round = round.wrapping_add(1);
        if round.is_multiple_of(ROUNDS) {
            update(board, feed, &mut events);
            for (event, seen) in latest.iter().zip(&mut seen) {
                if std::mem::take(seen) {
                    board.push(event);
                }
            }
        }
        if count == 0 {
            (0..PAUSES).for_each(|_| hint::spin_loop());
        }
    }
    update(board, feed, &mut events);

    let seen_calls = match (before, seen_calls(feed)) {
        (Some(before @ 1..), Some(after)) => Some(after - before),
        _ => None,
    };
    Outcome { stats: events.stats(), seen_calls, sandboxed }
}

/// Copies counters and cells as they are: they hold the latest values.
fn update(board: &Board, feed: &Feed, events: &mut mapring::Reader<Event>) {
    let stats = events.stats();
    board.set_totals(stats.delivered, stats.lost(), stats.dropped());
    let mut sums = [0; CALLS];
    if feed.calls.sums(&mut sums).is_ok() {
        board.set_calls(&sums);
    }
    for index in 0..board.cpus().len() {
        // A busy cell is read in the next round.
        if let Ok(cpu) = feed.cpus.read(index) {
            board.set_cpu(index, &cpu);
        }
    }
}

/// System calls of this thread, counted by the producer.
fn seen_calls(feed: &Feed) -> Option<u64> {
    feed.reader_calls.as_ref()?.sum(0).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::demo::record::Cpu;
    use crate::demo::record::tests::feed;

    /// The reader's filter kills the whole test process if the reader makes a system call.
    #[test]
    fn everything_published_is_read_without_a_system_call() {
        let feed = Arc::new(feed(2));
        let board = Arc::new(Board::new(feed.cells).unwrap());
        let writer = feed.events.writer(0).unwrap();
        let event = |n: u32| Event { ns: 1, kind: Event::CALL, value: n, ..Event::zeroed() };
        (0..100).for_each(|n| assert!(writer.push(&event(n)).is_some()));
        feed.calls.writer(0).unwrap().add(5, 100).unwrap();
        feed.cpus.writer().unwrap().set(1, &Cpu { ns: 9, switches: 3, ..Cpu::zeroed() }).unwrap();

        let reading = spawn().unwrap().read(feed.clone(), board.clone()).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while board.sample().records < 100 {
            assert!(Instant::now() < end && !reading.is_over());
            thread::sleep(Duration::from_millis(1));
        }
        let latest = loop {
            if let Some(latest) = board.latest().drain().last() {
                break latest.record;
            }
            assert!(Instant::now() < end);
        };
        let outcome = reading.stop().unwrap();
        let sample = board.sample();
        assert_eq!((outcome.stats.delivered, outcome.stats.lost(), outcome.stats.dropped()), (100, 0, 0));
        assert!(outcome.sandboxed);
        assert_eq!((outcome.seen_calls, outcome.syscalls()), (None, Some(0)));
        assert_eq!((latest.kind, latest.value), (Event::CALL, 99));
        assert_eq!((sample.calls[5], sample.cpus[1].switches, sample.cpus[0].ns), (100, 3, 0));
    }
}
