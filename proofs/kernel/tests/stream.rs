//! Streams of readers and merged readers in a runtime of tokio: woken for each record, nothing lost, cancelled at any time.
//!
//! The clock of these runtimes is paused. It goes on by itself while all tasks sleep, but not while a blocking task runs:
//! then only a bell can wake a stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake};

use mapring::time::Clock;
use mapring_kernel_tests::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use tokio_stream::{Stream, StreamExt};

/// The longest real time for what should happen at once.
const FOREVER: Duration = Duration::from_secs(60);
/// Less than the reader sleeps at most.
const SHORT: Duration = Duration::from_millis(10);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn events(object: &Object) -> Ring<Rec> {
    Ring::open(&map(object, "events")).unwrap()
}

/// The readers that sleep, one bit for each.
fn asleep(object: &Object) -> u64 {
    word_at(&map(object, "events__readers"), 0, mapring::abi::readers::ASLEEP)
}

async fn next(events: &mut (impl Stream<Item = Event<Rec, Vec<u8>>> + Unpin)) -> u64 {
    events.next().await.expect("it never ends").record.n
}

/// Reads `ROUNDS` bursts with the stream of a reader from the first record. The writer publishes only while it sleeps: 1, 2,
/// … 5 records for each sleep.
fn woken_for_each<S: Stream<Item = Event<Rec, Vec<u8>>> + Unpin>(
    stream: impl FnOnce(Reader<Rec>) -> S,
    stats: impl FnOnce(&mut S) -> ReadStats,
) {
    require_bpf!();
    const ROUNDS: u64 = 200;
    let object = &bpf::WAKEABLE.load(fitted);
    let publish = Runner::new(object, "publish");
    let ring = events(object);
    let waiters = MapHandle::try_from(&map(object, "events__readers")).unwrap();
    runtime().block_on(async {
        let mut stream = stream(ring.reader_from(Start::First));
        let writer = tokio::task::spawn_blocking(move || {
            on_cpu(cpus()[0]);
            let mut written = 0;
            for round in 0..ROUNDS {
                let start = Instant::now();
                while word_at(&waiters, 0, mapring::abi::readers::ASLEEP) == 0 {
                    assert!(
                        start.elapsed() < FOREVER,
                        "round {round}: the stream was not woken, or does not sleep"
                    );
                    std::thread::yield_now();
                }
                let count = 1 + round % 5;
                publish.run(&mut [written, count]);
                written += count;
            }
            written
        });
        let all = (0..ROUNDS).map(|round| 1 + round % 5).sum();
        // The clock goes on when the writer has ended, or has given up.
        let read = timeout(FOREVER, async {
            for n in 0..all {
                assert_eq!(next(&mut stream).await, n);
            }
        });
        read.await.expect("the stream was woken each time");
        assert_eq!(writer.await.unwrap(), all);
        let stats = stats(&mut stream);
        assert_eq!((stats.delivered, stats.lost(), stats.no_slot), (all, 0, 0), "{stats}");
        println!("explored {all} records in {ROUNDS} sleeps");
    });
    assert_eq!(asleep(object), 0);
}

#[test]
fn a_stream_is_woken_by_its_bell_and_loses_nothing() {
    woken_for_each(
        |reader| reader.into_stream().unwrap(),
        |stream| {
            assert!(stream.reader_mut().take_error().is_none());
            stream.reader().stats()
        },
    );
}

#[test]
fn a_merged_stream_is_woken_by_its_bell_and_loses_nothing() {
    woken_for_each(
        |reader| reader.merged(|record| record.n).into_stream().unwrap(),
        |stream| {
            assert!(stream.reader_mut().take_error().is_none());
            let stats = stream.reader().stats();
            assert_eq!((stats.late, stats.ahead, stats.held), (0, 0, 0), "{stats}");
            stats
        },
    );
}

#[test]
fn a_stream_can_be_dropped_while_it_sleeps() {
    let object = &require_bpf!(WAKEABLE);
    on_cpu(cpus()[0]);
    let publish = Runner::new(object, "publish");
    runtime().block_on(async {
        let mut stream = events(object).reader().into_stream().unwrap();
        assert!(timeout(SHORT, next(&mut stream)).await.is_err());
        // Only the wait was dropped: the stream still is asleep, and goes on.
        assert_eq!(asleep(object), 1);
        publish.run(&mut [7, 1]);
        assert_eq!((next(&mut stream).await, asleep(object)), (7, 0));

        assert!(timeout(SHORT, next(&mut stream)).await.is_err());
        assert_eq!(asleep(object), 1);
        drop(stream);
        assert_eq!(asleep(object), 0, "nobody rings for a stream that is gone");
        publish.run(&mut [8, 1]);

        // Another takes its seat, with a bell of its own.
        let mut stream = events(object).reader().into_stream().unwrap();
        assert_eq!((next(&mut stream).await, next(&mut stream).await), (7, 8));
        assert!(timeout(SHORT, next(&mut stream)).await.is_err());
        assert_eq!(asleep(object), 1);
        publish.run(&mut [9, 1]);
        assert_eq!(next(&mut stream).await, 9);
    });
    assert_eq!(asleep(object), 0);
}

#[test]
fn select_takes_turns_with_a_timeout() {
    let object = &require_bpf!(WAKEABLE);
    on_cpu(cpus()[0]);
    let publish = Runner::new(object, "publish");
    runtime().block_on(async {
        let mut stream = events(object).reader().into_stream().unwrap();
        let (mut timeouts, mut read) = (0, Vec::new());
        while read.len() < 100 {
            tokio::select! {
                n = next(&mut stream) => read.push(n),
                () = sleep(SHORT) => {
                    publish.run(&mut [2 * timeouts, 2]);
                    timeouts += 1;
                }
            }
        }
        assert_eq!((timeouts, read), (50, (0..100).collect()));
    });
}

#[test]
fn a_busy_stream_lets_other_tasks_run() {
    let object = &require_bpf!(WAKEABLE);
    on_cpu(cpus()[0]);
    let publish = Runner::new(object, "publish");
    runtime().block_on(async {
        let mut stream = events(object).reader().into_stream().unwrap();
        let other = tokio::spawn(async {});
        // There always is a record. A task may take 128 steps before others run.
        for n in 0..1000 {
            publish.run(&mut [n, 1]);
            assert_eq!(next(&mut stream).await, n);
        }
        assert!(other.is_finished());
    });
}

#[test]
fn a_stream_without_a_bell_looks_from_time_to_time() {
    require_bpf!();
    on_cpu(cpus()[0]);
    let object = &bpf::WAKEABLE.load_only(fitted);
    let publish = Runner::new(object, "publish");
    mapring::loader::initialize_map(&map(object, "events")).unwrap();
    runtime().block_on(async {
        let mut stream = events(object).reader().into_stream().unwrap();
        assert_eq!(stream.reader_mut().bell().unwrap_err().kind(), ErrorKind::NotWakeable);
        for n in 0..10 {
            assert!(timeout(SHORT, next(&mut stream)).await.is_err());
            publish.run(&mut [n, 1]);
            assert_eq!(next(&mut stream).await, n);
        }
    });
}

/// The reader holds a record because another one is being written. Its bell has rung, and cannot say when the turn comes.
#[test]
fn a_merged_stream_naps_while_it_holds_a_record() {
    let object = &require_bpf!(WAKEABLE);
    on_cpu(cpus()[0]);
    let publish = Runner::new(object, "publish");
    runtime().block_on(async {
        let reader = events(object).reader().with_patience(Duration::MAX);
        let merged = reader.merged(|_| Clock::Monotonic.now()).with_delay(Duration::MAX);
        let mut stream = merged.into_stream().unwrap();
        assert!(timeout(SHORT, next(&mut stream)).await.is_err());
        assert_eq!(asleep(object), 1);
        publish.run(&mut [7, 1]);
        assert_eq!(asleep(object), 0, "the bell has rung");
        Runner::new(object, "leave_open").run(&mut [8, 0]);
        let wakes = Arc::new(Wakes(AtomicU64::new(0)));
        for naps in 0..10 {
            let waker = Arc::clone(&wakes).into();
            assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!((stream.reader().stats().held, wakes.0.load(Ordering::Relaxed)), (1, naps));
            sleep(SHORT).await;
            assert_eq!(wakes.0.load(Ordering::Relaxed), naps + 1);
        }
    });
}

/// How often a task was woken.
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_stream_needs_a_runtime_with_drivers() {
    let object = &require_bpf!(WAKEABLE);
    let error = events(object).reader().into_stream().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains("tokio"), "{error}");
    let bare = Builder::new_current_thread().build().unwrap();
    let _inside = bare.enter();
    let stream = catch_unwind(AssertUnwindSafe(|| events(object).reader().into_stream()));
    assert!(stream.is_err(), "tokio panics without its drivers");
    assert_eq!(asleep(object), 0);
}
