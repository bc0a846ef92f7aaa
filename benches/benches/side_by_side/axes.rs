//! The effect of load: readers on a producer, writers on a reader, shards on a sweep; and the time from a map to its
//! first record.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mapring::{Access, Cells, Counters, Ring, Start};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave, interleave_all, pin_to};

use crate::peers::{Lookup, MappedRingBuffer, RawRingBuffer, Sink};
use crate::programs::{CHUNK, Producer, Program, Record, Seen, Streamer, load};
use crate::stream::Stream;
use crate::threads;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    match threads::other() {
        Some(cpu) => {
            producers(plan, report, cpu)?;
            cells(plan, report, cpu)?;
        }
        None => report.skip("producers with readers, cells with writers", "one CPU only"),
    }
    shards(plan, report)?;
    first_record(plan, report)
}

/// Chunks per block: about 100 µs.
const CHUNKS: u64 = 64;

/// The readers' activity while a program produces.
#[derive(Clone, Copy)]
enum Readers {
    Poll(usize),
    Sleep,
}

/// The cost of readers for the program.
fn producers(plan: Plan, report: &mut Report, cpu: usize) -> Result<()> {
    let skel = load!(stream::StreamSkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let streamer = Streamer(Program::new(&skel.progs.stream_mapring));
    let with = |readers: Readers| {
        let (ring, mut first) = (&ring, 1);
        move || with_readers(ring, streamer, &mut first, cpu, readers)
    };
    let mut none = with(Readers::Poll(0));
    let (mut one, mut two, mut four, mut eight) =
        (with(Readers::Poll(1)), with(Readers::Poll(2)), with(Readers::Poll(4)), with(Readers::Poll(8)));
    let mut asleep = with(Readers::Sleep);
    let streamer = Streamer(Program::new(&skel.progs.stream_ringbuf));
    let mut consumer = MappedRingBuffer::new(&skel.maps.ringbuf)?;
    let mut first = 1;
    let mut ringbuf = || {
        let begin = first;
        first += CHUNKS * CHUNK;
        let done = AtomicBool::new(false);
        let produce = || {
            let result = streamer.run(begin, CHUNKS, 0);
            done.store(true, Ordering::Release);
            result
        };
        let consume = || {
            let mut seen = Stream::from(begin);
            loop {
                let last = done.load(Ordering::Acquire);
                if consumer.consume(|record| seen.add(record)) == 0 && last {
                    return Ok(seen);
                }
            }
        };
        let (streamed, seen) = threads::both(cpu, produce, consume)?;
        ensure!(seen.is_right() && seen.count() + streamed.failed == CHUNKS * CHUNK, "{seen:?}");
        Ok((streamed.end - streamed.start) as f64 / (CHUNKS * CHUNK - streamed.failed) as f64)
    };
    let plan = plan.within(0.5);
    let [none, one, two, four, eight, asleep, ringbuf] =
        interleave(plan, [&mut none, &mut one, &mut two, &mut four, &mut eight, &mut asleep, &mut ringbuf])?;
    let what = |who: &str| format!("produce 56 B, {who}");
    let nobody = "the same without readers";
    report.add([
        Row::new(&what("a reader polls on the next CPU"), &one, nobody, &none),
        Row::new(&what("8 readers poll there"), &eight, nobody, &none),
        Row::new(&what("a reader sleeps, 1 ms between looks"), &asleep, nobody, &none),
        Row::new(&what("a reader polls"), &one, "ringbuf NO_WAKEUP, its consumer polls", &ringbuf),
    ]);
    let lines = [(0.0, none), (1.0, one), (2.0, two), (4.0, four), (8.0, eight)];
    let chart = Chart::new(
        "produce-readers",
        "What readers that poll on another CPU cost the program",
        ("readers", Scale::Linear),
        ("ns a record", Scale::Linear),
    );
    let lines = lines.map(|(readers, ns)| (readers, Spread::of(ns)));
    report.chart(chart.line("mapring", lines).line("BPF ringbuf", [(1.0, Spread::of(ringbuf))]));
    Ok(())
}

/// Nanoseconds per record of a program on CPU `cpu`, while readers run on this one. Each reader must account for every
/// record.
fn with_readers(
    ring: &Ring<Record>,
    streamer: Streamer<'_>,
    first: &mut u64,
    cpu: usize,
    readers: Readers,
) -> Result<f64> {
    let begin = *first;
    *first += CHUNKS * CHUNK;
    let done = AtomicBool::new(false);
    let (count, nap) = match readers {
        Readers::Poll(count) => (count, None),
        Readers::Sleep => (1, Some(Duration::from_millis(1))),
    };
    let read = || {
        let mut reader = ring.reader_from(Start::Now);
        let mut seen = Stream::from(begin);
        loop {
            let last = done.load(Ordering::Acquire);
            let found = reader.for_each(usize::MAX, |event| seen.add(event.record));
            if found == 0 && last {
                break;
            }
            if let Some(nap) = nap.filter(|_| !last) {
                thread::sleep(nap);
            }
        }
        (seen, reader.lost())
    };
    // Readers start before the program.
    let started = Barrier::new(count + 1);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    started.wait();
                    read()
                })
            })
            .collect();
        started.wait();
        let producer = scope.spawn(|| {
            let result = pin_to(cpu).and_then(|()| streamer.run(begin, CHUNKS, 0));
            done.store(true, Ordering::Release);
            result
        });
        let streamed = producer.join().expect("nothing in it panics")?;
        for reader in readers {
            let (seen, lost) = reader.join().expect("nothing in it panics");
            // A late reader can't check the records before its start.
            ensure!(seen.is_right() && seen.count() + lost <= CHUNKS * CHUNK, "{seen:?}, lost {lost}");
        }
        ensure!(streamed.failed == 0, "{} dropped", streamed.failed);
        Ok((streamed.end - streamed.start) as f64 / (CHUNKS * CHUNK) as f64)
    })
}

/// Reads a cell without writers, while it is written every microsecond, and while it is written without pause.
fn cells(plan: Plan, report: &mut Report, cpu: usize) -> Result<()> {
    let skel = load!(axes::AxesSkelBuilder);
    let map = &skel.maps.cells;
    let cells = Cells::<Record>::open(map)?;
    ensure!(cells.access() == Access::Mapped, "{}", cells.access());
    let writer = |program| Streamer(Program::new(program));
    let lookup = Lookup::new(map)?;
    let element = u32::try_from(cells.region().geometry().first())?;
    let right = |record: &Record| record.iter().zip(record[0]..).all(|(word, n)| *word == n);
    let plan = plan.within(0.4);
    writer(&skel.progs.set_always).run(1, 1, 0)?; // otherwise it is all zeros

    let rates: [(&str, Option<(Streamer<'_>, u64)>); 3] = [
        ("no writer is active", None),
        ("it is written each microsecond", Some((writer(&skel.progs.set_paced), 1000))),
        ("it is written without pause", Some((writer(&skel.progs.set_always), 100))),
    ];
    for (rate, writer) in rates {
        let first = std::cell::Cell::new(1);
        // `read` returns whether the value was whole, or `None` if no value was available.
        let while_written = |read: &dyn Fn() -> Result<Option<bool>>, at_once: u64| -> Result<[f64; 3]> {
            let done = AtomicBool::new(writer.is_none());
            let begin = first.get();
            first.set(begin + 1000 * CHUNK);
            let write = || {
                let result = writer.map(|(streamer, count)| streamer.run(begin, count, 0));
                done.store(true, Ordering::Release);
                result.transpose()
            };
            let measure = || {
                let (mut busy, mut torn, mut reads) = (0_u64, 0_u64, 0_u64);
                // Wait for the writer's thread.
                while !done.load(Ordering::Acquire) && cells.read(0).is_ok_and(|record| record[0] < begin) {
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                loop {
                    for _ in 0..at_once {
                        match read()? {
                            Some(true) => {}
                            Some(false) => torn += 1,
                            None => busy += 1,
                        }
                    }
                    reads += at_once;
                    if done.load(Ordering::Acquire) && reads >= 100 {
                        break;
                    }
                }
                let ns = start.elapsed().as_nanos() as f64;
                ensure!(reads > busy, "it could not be read once in {reads} times");
                Ok([ns / (reads - busy) as f64, torn as f64 / reads as f64, busy as f64 / reads as f64])
            };
            let (_, measured) = match writer {
                Some(_) => threads::both(cpu, write, measure)?,
                None => (None, measure()?),
            };
            Ok(measured)
        };
        let (torn, busy) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
        let mut ours = || {
            let [ns, wrong, missed] =
                while_written(&|| Ok(cells.read(black_box(0)).ok().map(|record| right(&record))), 100)?;
            ensure!(wrong == 0.0, "a torn value was delivered");
            busy.borrow_mut().push(missed * 100.0);
            Ok(ns)
        };
        let mut theirs = || {
            let look = || {
                let mut value = [0; 8];
                lookup.look(black_box(element), &mut value)?;
                Ok(Some(right(value[1..].try_into()?)))
            };
            let [ns, wrong, _] = while_written(&look, 5)?;
            torn.borrow_mut().push(wrong * 100.0);
            Ok(ns)
        };
        let [ours, theirs] = interleave(plan, [&mut ours, &mut theirs])?;
        let median = |samples: &[f64]| Spread::of(samples.iter().copied()).median;
        let what = format!("read a cell of 56 B while {rate}, {:.1} % busy", median(&busy.borrow()));
        let peer = format!("`bpf_map_lookup_elem`, {:.1} % torn", median(&torn.borrow()));
        report.add([Row::new(&what, &ours, &peer, &theirs)]);
    }
    Ok(())
}

/// Counters summed over 1 to 1024 shards, in a memfd.
fn shards(plan: Plan, report: &mut Report) -> Result<()> {
    const COUNTERS: usize = 64;
    let counts = [1_usize, 4, 16, 64, 256, 1024];
    let mut sides = Vec::new();
    for shards in counts {
        let counters = Counters::create_memfd(COUNTERS, shards)?;
        for shard in 0..shards {
            counters.writer(shard)?.add(shard % COUNTERS, 1 + shard as u64)?;
        }
        let mut expected = vec![0; COUNTERS];
        (0..shards).for_each(|shard| expected[shard % COUNTERS] += 1 + shard as u64);
        let mut sums = vec![0; COUNTERS];
        sides.push(move || {
            let times = u32::try_from(8192 / shards).unwrap_or(1);
            let start = Instant::now();
            for _ in 0..times {
                counters.sums(black_box(&mut sums))?;
            }
            let ns = start.elapsed().as_nanos() as f64 / f64::from(times);
            ensure!(sums == expected, "wrong sums");
            Ok(ns)
        });
    }
    let mut sides: Vec<_> = sides.iter_mut().map(|side| side as &mut dyn FnMut() -> Result<f64>).collect();
    let samples = interleave_all(plan.within(0.3), &mut sides)?;
    let points = counts.iter().zip(samples).map(|(shards, ns)| (*shards as f64, Spread::of(ns)));
    let chart = Chart::new(
        "counters-shards",
        "Summing 64 counters over all shards",
        ("shards", Scale::Log2),
        ("ns", Scale::Log),
    );
    report.chart(chart.line("mapring, mapped", points));
    Ok(())
}

/// From a map to its first record.
fn first_record(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let mut producer = Producer::new(&skel.progs.produce_mapring);
    let mut ours = || {
        let (_, expected) = producer.run()?;
        let start = Instant::now();
        let ring = Ring::<Record>::open(&skel.maps.ours)?;
        let mut reader = ring.reader();
        let first = reader.poll().context("a record")?;
        let ns = start.elapsed().as_nanos() as f64;
        ensure!(first.record[1] == first.record[0] + 1 && expected.count > 0, "{first:?}");
        Ok(ns)
    };
    let mut producer = Producer::new(&skel.progs.produce_ringbuf);
    let mut theirs = || {
        let (_, expected) = producer.run()?;
        let start = Instant::now();
        let mut consumer = RawRingBuffer::<First>::new(&skel.maps.ringbuf)?;
        consumer.consume()?;
        let first = consumer.sink().0.context("a record")?;
        let ns = (first - start).as_nanos() as f64;
        ensure!(consumer.sink().1 == expected, "wrong records");
        Ok(ns)
    };
    let [ours, theirs] = interleave(plan.within(0.2), [&mut ours, &mut theirs])?;
    let peer = "ringbuf, `ring_buffer__new` and `ring_buffer__consume`";
    report.add([Row::new("from a map to its first record", &ours, peer, &theirs)]);
    Ok(())
}

/// The time of the first record.
#[derive(Default)]
struct First(Option<Instant>, Seen);

impl Sink for First {
    fn add(&mut self, record: &Record) {
        self.0.get_or_insert_with(Instant::now);
        self.1.add(record);
    }
}
