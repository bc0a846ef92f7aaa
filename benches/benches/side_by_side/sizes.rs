//! The cost of a record for the program, from 8 bytes to 4 KiB.

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, ProgramMut};
use mapring::{Access, Ring, Start};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave};

use crate::peers::MappedRingBuffer;
use crate::programs::{Program, load};

/// Records per run: `SIZED_RECORDS` in `bpf/sizes.bpf.c`.
const RECORDS: u64 = 64;
/// Runs per block.
const RUNS: u64 = 16;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(sizes::SizesSkelBuilder, |open| open.maps.ringbuf.set_max_entries(1 << 20)?);
    let plan = plan.within(0.25);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    macro_rules! sizes {
        ($($words:literal $map:ident $mapring:ident $ringbuf:ident),* $(,)?) => {$(
            let [a, b] = size::<[u64; $words]>(
                plan, &skel.maps.$map, &skel.maps.ringbuf, [&skel.progs.$mapring, &skel.progs.$ringbuf],
            )?;
            let what = format!("produce {} B", $words * 8);
            report.add([Row::new(&what, &a, "ringbuf reserve + submit, NO_WAKEUP", &b)]);
            ours.push((f64::from($words * 8), Spread::of(a)));
            theirs.push((f64::from($words * 8), Spread::of(b)));
        )*};
    }
    sizes!(
        1 ring_1 mapring_1 ringbuf_1,
        3 ring_3 mapring_3 ringbuf_3,
        7 ring_7 mapring_7 ringbuf_7,
        15 ring_15 mapring_15 ringbuf_15,
        31 ring_31 mapring_31 ringbuf_31,
        63 ring_63 mapring_63 ringbuf_63,
        127 ring_127 mapring_127 ringbuf_127,
        511 ring_511 mapring_511 ringbuf_511,
    );
    let chart = Chart::new(
        "produce-size",
        "What a record costs the program",
        ("bytes", Scale::Log2),
        ("ns a record", Scale::Log),
    );
    report.chart(chart.line("mapring", ours).line("BPF ringbuf, NO_WAKEUP", theirs));
    Ok(())
}

/// Measures both sides for records of type `T`, whose words are consecutive numbers.
fn size<T: mapring::Record + bytemuck::NoUninit>(
    plan: Plan,
    map: &impl MapCore,
    ringbuf: &impl MapCore,
    programs: [&ProgramMut<'_>; 2],
) -> Result<[Vec<f64>; 2]> {
    let [ours, theirs] = programs.map(Program::new);
    let ring = Ring::<T>::open(map.as_fd())?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut reader = ring.reader_from(Start::Now);
    let mut consumer = MappedRingBuffer::new(ringbuf)?;
    let mut ours = || {
        block(ours, |check| {
            reader
                .for_each(usize::MAX, |event| check(bytemuck::cast_slice(bytemuck::bytes_of(event.record))));
        })
    };
    let mut theirs = || {
        block(theirs, |check| {
            consumer.consume_words(check);
        })
    };
    interleave(plan, [&mut ours, &mut theirs])
}

/// Nanoseconds per record; `read` must deliver each record.
fn block(program: Program<'_>, mut read: impl FnMut(&mut dyn FnMut(&[u64]))) -> Result<f64> {
    let mut sum = 0;
    for run in 0..RUNS {
        let first = run * RECORDS + 1;
        let [_, ns] = program.run([first, 0])?;
        sum += ns;
        let mut next = first;
        let mut wrong = 0;
        read(&mut |words| {
            wrong += u64::from(!(next..).zip(words).all(|(n, word)| n == *word));
            next += 1;
        });
        ensure!(wrong == 0 && next == first + RECORDS, "{wrong} wrong records of {}", next - first);
    }
    Ok(sum as f64 / (RUNS * RECORDS) as f64)
}
