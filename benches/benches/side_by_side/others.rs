//! Other ways out of a program and into it, each as its documentation recommends, compared with mapring.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, MapType, PerfBufferBuilder, ProgramMut, UserRingBuffer, libbpf_sys};
use mapring::{Latches, OpenOptions, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{MappedRingBuffer, SampledPerfBuffer, Sink};
use crate::programs::{Program, Record, Seen, load, record};

/// Records per run: `COUNT` in `bpf/others.bpf.c`.
const COUNT: u64 = 1024;
const ROOM: usize = 1024;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    // SAFETY: it takes no arguments and returns a number.
    let major = unsafe { libbpf_sys::libbpf_major_version() };
    // SAFETY: as above.
    let minor = unsafe { libbpf_sys::libbpf_minor_version() };
    let settings = [
        (
            "BPF ringbuf",
            "256 KiB, as much as our shard; reserve + submit with BPF_RB_NO_WAKEUP unless a row says otherwise",
        ),
        ("perf buffer", "64 pages a CPU; a wakeup for each record (libbpf's default), and one for 1024"),
        ("user ringbuf", "256 KiB; `bpf_user_ringbuf_drain` of 1024 records at once"),
        ("hash map", "2048 entries, preallocated; `BPF_MAP_LOOKUP_AND_DELETE_BATCH` of all at once"),
    ];
    for (peer, settings) in settings {
        report.peer(peer, format!("the kernel's, by libbpf {major}.{minor}"), settings);
    }
    out(plan, report)?;
    down(plan, report)?;
    missing(report);
    Ok(())
}

/// Runs `program`, whose records `read` must deliver. Returns nanoseconds per record for the program, and for the
/// reader.
fn block(
    program: &ProgramMut<'_>,
    first: &mut u64,
    read: impl FnOnce(&mut Seen) -> Result<()>,
) -> Result<[f64; 2]> {
    let begin = *first;
    *first += COUNT;
    let [_, ns] = Program::new(program).run([begin, 0])?;
    let (mut seen, mut expected) = (Seen::default(), Seen::default());
    (begin..*first).for_each(|n| expected.add(&record(n)));
    let start = Instant::now();
    read(&mut seen)?;
    let read = start.elapsed().as_nanos() as f64;
    ensure!(seen == expected, "{seen:?}, not {expected:?}");
    Ok([ns as f64, read].map(|ns| ns / COUNT as f64))
}

/// From programs to userspace. Also measures the cost of reading.
fn out(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(others::OthersSkelBuilder);
    let progs = &skel.progs;
    let readers: [std::cell::RefCell<Vec<f64>>; 6] = Default::default();
    let noted = |side: usize, [ns, read]: [f64; 2]| {
        readers[side].borrow_mut().push(read);
        Ok(ns)
    };

    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    let (mut reader, mut first) = (ring.reader_from(Start::Now), 1);
    let mut ours = || {
        let times = block(&progs.by_ring, &mut first, |seen| {
            let mut sum = Seen::default();
            reader.for_each(usize::MAX, |event| sum.add(event.record));
            *seen = sum;
            Ok(())
        })?;
        noted(0, times)
    };
    let ringbuf = |side: usize, program| -> Result<_> {
        let (mut consumer, mut first) = (MappedRingBuffer::new(&skel.maps.ringbuf)?, 1);
        Ok(move || {
            let times = block(program, &mut first, |seen| {
                let mut sum = Seen::default();
                consumer.consume(|record| sum.add(record));
                *seen = sum;
                Ok(())
            })?;
            noted(side, times)
        })
    };
    let (mut output, mut waking) = (ringbuf(1, &progs.by_ringbuf)?, ringbuf(2, &progs.by_ringbuf_waking)?);

    let (sum, lost) = (Cell::new(Seen::default()), Cell::new(0));
    let perf = PerfBufferBuilder::new(&skel.maps.perf)
        .pages(64)
        .sample_cb(|_, data: &[u8]| {
            let mut seen = sum.get();
            // The kernel pads the sample, with its length field, to a multiple of 8 bytes.
            seen.add(&bytemuck::pod_read_unaligned(&data[..size_of::<Record>()]));
            sum.set(seen);
        })
        .lost_cb(|_, count| lost.set(lost.get() + count))
        .build()?;
    let mut first = 1;
    let mut by_perf = || {
        let times = block(&progs.by_perf, &mut first, |seen| {
            perf.consume()?;
            *seen = sum.take();
            Ok(())
        })?;
        ensure!(lost.get() == 0, "the perf buffer lost {}", lost.get());
        noted(3, times)
    };

    let skel_sampled = load!(others::OthersSkelBuilder);
    let mut sampled = SampledPerfBuffer::new(&skel_sampled.maps.perf, 64, u32::try_from(COUNT)?)?;
    let mut first = 1;
    let mut by_sampled_perf = || {
        let times = block(&skel_sampled.progs.by_perf, &mut first, |seen| {
            let lost;
            (*seen, lost) = sampled.consume()?;
            ensure!(lost == 0, "the perf buffer lost {lost}");
            Ok(())
        })?;
        noted(5, times)
    };

    let mut keys = vec![0_u64; 2 * ROOM];
    let mut values = vec![Record::default(); 2 * ROOM];
    let mut first = 1;
    let mut by_hash = || {
        let times = block(&progs.by_hash, &mut first, |seen| {
            let count = drain(&skel.maps.hash, &mut keys, &mut values)?;
            values[..count].iter().for_each(|record| seen.add(record));
            Ok(())
        })?;
        noted(4, times)
    };
    let samples = interleave(
        plan,
        [&mut ours, &mut output, &mut waking, &mut by_perf, &mut by_hash, &mut by_sampled_perf],
    )?;

    let [ours, peers @ ..] = &samples;
    let reads = readers.each_ref().map(|reads| {
        let reads = reads.borrow();
        reads[reads.len() - ours.len()..].to_vec()
    });
    let names = [
        ("ringbuf `bpf_ringbuf_output`, NO_WAKEUP", "ringbuf, read over the mapping"),
        ("ringbuf reserve + submit, default wakeups, no reader asleep", ""),
        ("perf buffer, 64 pages, a wakeup each (libbpf's default)", "perf buffer, libbpf-rs `consume`"),
        ("hash map `bpf_map_update_elem`", "hash map, `LOOKUP_AND_DELETE_BATCH`"),
        ("perf buffer, 64 pages, a wakeup for 1024", "perf buffer, libbpf `perf_buffer__consume`"),
    ];
    for ((side, theirs), (produce, consume)) in (1..).zip(peers).zip(names) {
        report.add([Row::new("produce 56 B, `mapring_output`", ours, produce, theirs)]);
        if !consume.is_empty() {
            report.add([Row::new("consume 56 B, `for_each`", &reads[0], consume, &reads[side])]);
        }
    }
    Ok(())
}

/// Drains a hash map, usually in one call.
fn drain(map: &impl MapCore, keys: &mut [u64], values: &mut [Record]) -> Result<usize> {
    let (mut batch, mut count) = (0_u64, u32::try_from(keys.len())?);
    // SAFETY: `keys` and `values` have room for `count` elements; a batch's token takes 4 bytes.
    let ret = unsafe {
        libbpf_sys::bpf_map_lookup_and_delete_batch(
            map.as_fd().as_raw_fd(),
            null_mut(),
            (&raw mut batch).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    };
    // ENOENT means the end of the map.
    ensure!(
        ret == 0 || ret == -libc::ENOENT,
        "bpf_map_lookup_and_delete_batch: {}",
        io::Error::from_raw_os_error(-ret)
    );
    Ok(count as usize)
}

/// From userspace to programs.
fn down(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(others::OthersSkelBuilder);
    let sum = |n: u64| n + n + 6;
    mapring::Region::open(&skel.maps.latch)?;
    let fd = skel.maps.latch.as_fd().try_clone_to_owned()?;
    let latches = Latches::<Record>::from_region(OpenOptions::new().write(true).open(fd)?)?;
    let writer = latches.writer()?;
    let n = Cell::new(0);
    let sets = std::cell::RefCell::new([Vec::new(), Vec::new()]);
    let mut by_latch = || {
        n.set(n.get() + COUNT);
        let start = Instant::now();
        for i in 0..COUNT {
            writer.set(0, black_box(&record(n.get() + i)))?;
        }
        sets.borrow_mut()[0].push(start.elapsed().as_nanos() as f64 / COUNT as f64);
        let [seen, ns] = Program::new(&skel.progs.read_latch).run([0, 0])?;
        ensure!(seen == COUNT * sum(n.get() + COUNT - 1), "the program read something else");
        Ok(ns as f64 / COUNT as f64)
    };
    let handle = MapHandle::from_map_id(skel.maps.commands.info()?.info.id)?;
    let commands = UserRingBuffer::new(&handle)?;
    let mut by_ringbuf = || {
        n.set(n.get() + COUNT);
        let start = Instant::now();
        for i in 0..COUNT {
            let mut sample = commands.reserve(size_of::<Record>())?;
            sample.copy_from_slice(bytemuck::bytes_of(black_box(&record(n.get() + i))));
            commands.submit(sample)?;
        }
        sets.borrow_mut()[1].push(start.elapsed().as_nanos() as f64 / COUNT as f64);
        let [seen, ns] = Program::new(&skel.progs.drain_commands).run([0, 0])?;
        let expected = (n.get()..).take(ROOM).map(sum).sum::<u64>();
        ensure!(seen == expected, "the program drained something else");
        Ok(ns as f64 / COUNT as f64)
    };
    let [ours, theirs] = interleave(plan, [&mut by_latch, &mut by_ringbuf])?;
    let [our_sets, their_sets] = sets.take().map(|sets| sets[sets.len() - ours.len()..].to_vec());
    report.add([
        Row::new(
            "down: a program reads 56 B from a latch",
            &ours,
            "user ringbuf, `bpf_user_ringbuf_drain`",
            &theirs,
        ),
        Row::new(
            "down: userspace sets a latch of 56 B",
            &our_sets,
            "user ringbuf, reserve + submit",
            &their_sets,
        ),
    ]);
    Ok(())
}

/// Peers that this machine does not have.
fn missing(report: &mut Report) {
    const OVERWRITE: u32 = 1 << 19;
    let make = |kind: MapType, value: u32, max: u32, flags: u32| {
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: flags,
            ..Default::default()
        };
        MapHandle::create(kind, Some("probe"), 0, value, max, &opts).context("creating the map")
    };
    match make(MapType::RingBuf, 0, 1 << 16, OVERWRITE) {
        Err(error) => {
            let why = format!("this kernel doesn't have the flag, Linux 6.19 and later do: {error:#}");
            report.skip("BPF ringbuf with `BPF_F_RB_OVERWRITE`", why);
        }
        Ok(_) => report.skip(
            "BPF ringbuf with `BPF_F_RB_OVERWRITE`",
            "this kernel has the flag, but libbpf and libbpf-rs don't read such a buffer yet",
        ),
    }
}
