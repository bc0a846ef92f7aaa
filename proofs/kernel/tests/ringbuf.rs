//! An observer of the kernel's own ring buffer, while programs on two CPUs write it and a consumer takes its records.

use libbpf_rs::RingBufferBuilder;
use libbpf_rs::libbpf_sys::BPF_F_RDONLY;
use mapring::any::RingbufObserver;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::{RawMap, SysResult, by_id, info};

const WRITERS: usize = 2;
const CAPACITY: u64 = 4096;
/// Records to observe, at least.
const RECORDS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// The length of the record `n` of a writer; `None` if the program discards it.
fn length(n: u64) -> Option<u64> {
    (n % 7 != 3).then_some(16 + n * 37 % 128)
}

/// Its bytes in the ring buffer, with the header.
fn bytes(n: u64) -> u64 {
    8 + length(n).unwrap_or(16).next_multiple_of(8)
}

/// The next number of each writer.
#[derive(Default)]
struct Order([u64; WRITERS]);

impl Order {
    /// Checks that a record is whole, and later than the last one of its writer. Returns its bytes in the ring buffer.
    fn check(&mut self, record: &[u8]) -> u64 {
        let word = |at: usize| u64::from_ne_bytes(record[8 * at..8 * at + 8].try_into().unwrap());
        let (writer, n) = (usize::try_from(word(0)).unwrap(), word(1));
        assert!(n >= self.0[writer], "record {n} of writer {writer} after {}", self.0[writer]);
        assert_eq!(Some(record.len() as u64), length(n), "record {n}");
        assert!(record[16..].iter().all(|byte| u64::from(*byte) == n & 0xff), "{n}: {record:?}");
        self.0[writer] = n + 1;
        bytes(n)
    }
}

/// Takes all records, as libbpf does.
struct Consumer(MapHandle);

impl Consumer {
    fn of(object: &Object) -> Self {
        let id = map(object, "observed").info().unwrap().info.id;
        Self(MapHandle::from_map_id(id).unwrap())
    }

    /// Takes records until `done`, and returns how many.
    fn take(&self, order: &mut Order, done: impl Fn() -> bool) -> u64 {
        let mut count = 0;
        let mut builder = RingBufferBuilder::new();
        let check = |record: &[u8]| {
            let before = order.0;
            order.check(record);
            // Nothing was taken from the consumer.
            let skipped = (0..WRITERS).flat_map(|writer| before[writer]..order.0[writer]);
            count += 1;
            assert_eq!(skipped.filter(|n| length(*n).is_some()).count(), 1);
            0
        };
        builder.add(&self.0, check).unwrap();
        let ring = builder.build().unwrap();
        loop {
            let is_last = done();
            if ring.consume_raw_n(usize::MAX) == 0 && is_last {
                break;
            }
            std::thread::yield_now();
        }
        drop(ring);
        count
    }
}

/// What an observer saw.
#[derive(Default)]
struct Seen {
    order: Order,
    bytes: u64,
    position: u64,
}

impl Seen {
    fn look(&mut self, observer: &mut RingbufObserver, limit: usize) {
        observer.for_each(limit, |at, record| {
            assert!(at >= self.position && at.is_multiple_of(8));
            self.position = at + 8;
            self.bytes += self.order.check(record);
        });
    }
}

#[test]
fn whole_records_in_order_and_every_byte_counted() {
    require_bpf!();
    let object = &bpf::RINGBUF.load_only(unfitted);
    let ringbuf = map(object, "observed");
    let place = |writer: u64| {
        let mut args = [writer, 64];
        Runner::new(object, "place").run(&mut args);
        args[1]
    };
    let consumer = Consumer::of(object);
    let mut observer = RingbufObserver::open(ringbuf.as_fd(), Start::Oldest).unwrap();
    let mut seen = Seen::default();

    // The consumer takes nothing: the observer shows all that there is, any number of times.
    let filled = place(0);
    seen.look(&mut observer, usize::MAX);
    assert_eq!(observer.position(), (0..filled).map(bytes).sum::<u64>());
    assert_eq!(observer.position(), observer.end());
    let mut again = RingbufObserver::open(ringbuf.as_fd(), Start::Oldest).unwrap();
    Seen::default().look(&mut again, usize::MAX);
    assert_eq!(again.stats(), observer.stats());
    assert_eq!(observer.stats().delivered, (0..filled).filter_map(length).count() as u64);
    // Records that the consumer has taken remain until they are overwritten.
    let mut taken_in_order = Order::default();
    let mut taken = consumer.take(&mut taken_in_order, || true);
    let mut all = RingbufObserver::open(ringbuf.as_fd(), Start::First).unwrap();
    Seen::default().look(&mut all, usize::MAX);
    assert_eq!(all.stats(), observer.stats());
    let rest = RingbufObserver::open(ringbuf.as_fd(), Start::Oldest).unwrap();
    assert_eq!(rest.position(), rest.end());

    // Both writers write, the consumer takes, the observer reads: until it has seen enough, and was overtaken ten times.
    let (stop, ended) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut overtaken = 0;
    std::thread::scope(|scope| {
        let at_end = Stop(&stop);
        for writer in 0..WRITERS {
            let (stop, ended, place) = (&stop, &ended, Runner::new(object, "place"));
            scope.spawn(move || {
                on_cpu(cpus()[writer % cpus().len()]);
                while !stop.load(Ordering::Relaxed) {
                    place.run(&mut [writer as u64, 64]);
                    std::thread::yield_now(); // it may be full
                }
                ended.fetch_add(1, Ordering::Release);
            });
        }
        let (consumer, order, ended) = (&consumer, &mut taken_in_order, &ended);
        let consumer =
            scope.spawn(move || consumer.take(order, || ended.load(Ordering::Acquire) == WRITERS as u64));
        let start = Instant::now();
        while observer.stats().delivered < RECORDS || overtaken < 10 {
            assert!(start.elapsed() < PATIENCE, "{observer:?}");
            seen.look(&mut observer, 64);
            if observer.stats().delivered > RECORDS / 10 * overtaken && overtaken < 10 {
                overtaken += 1;
                // The kernel is never more than `CAPACITY` ahead of the consumer, so at least that much is lost.
                while observer.end() - observer.position() <= 2 * CAPACITY {
                    assert!(start.elapsed() < PATIENCE && !consumer.is_finished(), "{observer:?}");
                    std::thread::yield_now();
                }
            }
        }
        drop(at_end);
        taken += consumer.join().unwrap();
    });
    everywhere();
    while observer.position() != observer.end() {
        seen.look(&mut observer, usize::MAX);
    }
    let stats = observer.stats();
    println!("{stats:?}, {taken} taken");
    let placed = taken_in_order.0;
    // The program counts what it places. The last one of a writer may be discarded.
    let placed = std::array::from_fn::<_, WRITERS, _>(|writer| {
        let next = place_nothing(object, writer as u64);
        assert!(next >= placed[writer] && next - placed[writer] <= 1);
        next
    });
    let in_all: u64 = placed.into_iter().flat_map(|next| (0..next).map(bytes)).sum();
    assert_eq!(observer.end(), in_all);
    assert_eq!(seen.bytes + stats.discarded * bytes(3) + stats.lost_bytes, in_all, "{stats:?}");
    assert!(stats.lost_bytes > 10 * CAPACITY / 2 && stats.delivered >= RECORDS);
    let numbers = placed.into_iter().flat_map(|next| 0..next);
    assert_eq!(taken, numbers.filter_map(length).count() as u64, "nothing was taken from the consumer");
}

/// How many records a writer has placed.
fn place_nothing(object: &Object, writer: u64) -> u64 {
    let mut args = [writer, 0];
    Runner::new(object, "place").run(&mut args);
    args[1]
}

fn made(ty: MapType, key: u32, value: u32, entries: u32) -> SysResult<OwnedFd> {
    RawMap { ty, key, value, entries, flags: 0, node: 0, btf: (0, 0, 0) }.make()
}

fn observer(fd: &impl AsFd) -> mapring::Result<RingbufObserver> {
    RingbufObserver::open(fd.as_fd(), Start::Now)
}

#[test]
fn what_can_not_be_observed_is_refused_with_a_reason() {
    require_bpf!();
    let array = made(MapType::Array, 4, 8, 1).unwrap();
    assert_error(observer(&array), ErrorKind::WrongType, "is a map of type array, expected a BPF ringbuf");
    let ringbuf = made(MapType::RingBuf, 0, 0, 4096).unwrap();
    let read_only = by_id(info(&ringbuf).id, BPF_F_RDONLY).unwrap();
    assert_error(observer(&read_only), ErrorKind::System, "ask the owner of the pin for write permission");
    assert!(observer(&ringbuf).is_ok());
}

/// A process writes its records, and could change them at any time.
#[test]
fn a_user_ringbuf_is_refused() {
    require_bpf!();
    match made(MapType::UserRingBuf, 0, 0, 4096) {
        Err(libc::EINVAL) => skipped("a_user_ringbuf_is_refused", "user ring buffers need Linux 6.1"),
        user => assert_error(observer(&user.unwrap()), ErrorKind::WrongType, "is a map of type user_ringbuf"),
    }
}
