//! Strings of any length up to 4096 bytes: the cost of one for the program and for the reader.

use std::ffi::{c_int, c_ulong, c_void};
use std::time::Instant;

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, MapFlags, ProgramMut};
use mapring::{Access, Ring, Start};
use mapring_benches::{OFFSETS, Plan, Report, Row, Spread, best_place, interleave};

use crate::peers::RawRingBuffer;
use crate::programs::{Program, load};

/// `struct fixed` in `bpf/tails.bpf.c`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Fixed {
    n: u64,
    len: u64,
}
mapring::record!(Fixed { n, len });
const LONGEST: usize = 4096;
/// Records per run: `TAILS` there.
const RECORDS: u64 = 64;
/// Places for a string: each begins elsewhere in its page, and has two pages of the program's memory.
const PLACES: usize = OFFSETS.len();
/// Runs per block.
const RUNS: u64 = 4;

/// The strings that a consumer has seen: their number, and the sum of their bytes as words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Strings {
    count: u64,
    sum: u64,
}

impl Strings {
    #[inline]
    fn add(&mut self, n: u64, len: u64, tail: &[u8]) {
        self.count += 1;
        let words = tail.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        self.sum = self.sum.wrapping_add(words.fold(n ^ len, u64::wrapping_add));
    }
}

/// Adds a record of the ring buffer, whose tail may be longer than its string.
unsafe extern "C" fn on_string(context: *mut c_void, data: *mut c_void, size: c_ulong) -> c_int {
    // SAFETY: libbpf passes the pointer given to `with`, and nothing else uses it during the call.
    let sink = unsafe { &mut *context.cast::<Strings>() };
    let Some(space) = size.checked_sub(size_of::<Fixed>() as c_ulong) else { return -libc::EINVAL };
    // SAFETY: the size was checked; records are aligned to 8, and no program writes this one until it is consumed.
    let fixed = unsafe { data.cast::<Fixed>().read() };
    // SAFETY: still in the record.
    let tail = unsafe { data.cast::<u8>().add(size_of::<Fixed>()) };
    #[allow(clippy::cast_possible_truncation)] // the size of a record
    let len = space.min(fixed.len) as usize;
    // SAFETY: the record has this many bytes after the fixed part.
    let tail = unsafe { std::slice::from_raw_parts(tail, len) };
    sink.add(fixed.n, fixed.len, tail);
    0
}

/// What limits the program, from the nanoseconds of both sides and of the helper alone.
fn produce_tried([ours, theirs, helper]: [f64; 3], target: f64, claims: &str) -> String {
    let goal = target * theirs;
    let rest = if helper >= theirs {
        "The two sides differ by less than the helper varies.".to_owned()
    } else if helper >= goal {
        format!("The target is {goal:.1} ns, less than the helper alone: no program can reach it.")
    } else {
        format!(
            "The target leaves {:.1} ns for the rest, which takes {:.1} ns of ours and {:.1} ns of the peer's.",
            goal - helper,
            ours - helper,
            theirs - helper
        )
    };
    format!(
        "The helper that copies the string takes {helper:.1} ns of the peer's {theirs:.1} ns, and as much of our {ours:.1} ns. \
         {rest} Programs claimed records {claims}."
    )
}

/// How the programs of this run claim records: the loader chooses it for this machine.
fn claims(guard_is_slow: bool) -> &'static str {
    let kernel = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    if guard_is_slow {
        "by compare-and-swap, as this CPU's mitigations make the guard slower"
    } else if kernel.lines().any(|line| line.split(' ').nth(2) == Some("bpf_preempt_disable")) {
        "in the guard, without an atomic operation"
    } else {
        "by compare-and-swap, as this kernel has no guard"
    }
}

/// What limits the reader.
const CONSUME_TRIED: &str = "The reader copies the tail, and then checks that no program has overwritten it. libbpf copies nothing: it \
    passes a pointer into the buffer, and programs wait for the consumer or lose the newest records.";

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(tails::TailsSkelBuilder);
    let text: Vec<_> = (1..=251).cycle().take(LONGEST - 1).chain([0]).collect();
    let mut placed = vec![0; PLACES * 2 * LONGEST];
    for (pages, offset) in placed.chunks_exact_mut(2 * LONGEST).zip(OFFSETS) {
        pages[offset..][..LONGEST].copy_from_slice(&text);
    }
    skel.maps.data_text.update(&0_u32.to_ne_bytes(), &placed, MapFlags::ANY)?;
    let ring = Ring::<Fixed>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let (ringbuf, progs) = (&skel.maps.ringbuf, &skel.progs);
    let claims = claims(skel.maps.rodata_data.as_ref().is_some_and(|data| data.mapring__guard_is_slow != 0));
    for (key, len, target) in [("tail_16", 16, 0.5), ("tail_256", 256, 1.0), ("tail_4096", LONGEST, 1.0)] {
        let [produced, consumed] = [Cost::Produce, Cost::Consume];
        let side_at = |place| Side { text: &text[LONGEST - len..], place };
        let best = |side: &dyn Fn(Side<'_>) -> Result<f64>| {
            Ok::<_, anyhow::Error>(side_at(best_place(0..PLACES, |place| side(side_at(place)))?))
        };
        // All copy the same string, so each does at its best place.
        let mut ours = best(&|side| side.mapring(&ring, &progs.tails_mapring, produced)())?.mapring(
            &ring,
            &progs.tails_mapring,
            produced,
        );
        let buffered = |program| {
            best(&|side| side.ringbuf(ringbuf, program, produced)?())?.ringbuf(ringbuf, program, produced)
        };
        let mut reserve = buffered(&progs.tails_reserve)?;
        let mut output = buffered(&progs.tails_output)?;
        let mut dynptr = buffered(&progs.tails_dynptr)?;
        let mut helper = best(&|side| side.helper(&progs.tails_helper)())?.helper(&progs.tails_helper);
        let side = side_at(0);
        let [ours, reserve, output, dynptr, helper] =
            interleave(plan, [&mut ours, &mut reserve, &mut output, &mut dynptr, &mut helper])?;
        let what = format!("produce a string of {len} B, at most 4096");
        let peers = [
            ("ringbuf reserve of 4112 B", reserve),
            ("scratch + `bpf_ringbuf_output`", output),
            ("scratch + `bpf_ringbuf_reserve_dynptr`", dynptr),
        ];
        let median = |samples: &[f64]| Spread::of(samples.iter().copied()).median;
        let best = peers.iter().min_by(|a, b| median(&a.1).total_cmp(&median(&b.1))).expect("three");
        let tried = produce_tried([&ours, &best.1, &helper].map(|ns| median(ns)), target, claims);
        report.add([Row::new(&what, &ours, best.0, &best.1).target(key, target).tried(&tried)]);
        report.add([Row::new("… the helper alone, which copies the string", &helper, best.0, &best.1)]);
        for (name, theirs) in peers.iter().filter(|peer| peer.0 != best.0) {
            report.add([Row::new(&what, &ours, name, theirs)]);
        }

        let mut ours = side.mapring(&ring, &progs.tails_mapring, consumed);
        let mut theirs = side.ringbuf(ringbuf, &progs.tails_output, consumed)?;
        let [ours, theirs] = interleave(plan.within(0.5), [&mut ours, &mut theirs])?;
        let what = format!("consume a string of {len} B, `for_each`");
        let row = Row::new(&what, &ours, "libbpf `ring_buffer__consume`", &theirs);
        report.add([if len == 256 { row.target("tail_consume", 1.0).tried(CONSUME_TRIED) } else { row }]);
    }
    Ok(())
}

/// The side that is timed.
#[derive(Clone, Copy, PartialEq)]
enum Cost {
    Produce,
    Consume,
}

/// Strings of one length, in one place.
#[derive(Clone, Copy)]
struct Side<'t> {
    text: &'t [u8],
    place: usize,
}

impl<'t> Side<'t> {
    /// Where programs find the string.
    fn at(self) -> u64 {
        (self.place * 2 * LONGEST + OFFSETS[self.place] + LONGEST - self.text.len()) as u64
    }

    fn mapring<'p>(
        self,
        ring: &Ring<Fixed>,
        program: &'p ProgramMut<'p>,
        cost: Cost,
    ) -> impl FnMut() -> Result<f64> + use<'t, 'p> {
        let (mut reader, program) = (ring.reader_from(Start::Now), Program::new(program));
        move || {
            reader.for_each(usize::MAX, |_| {}); // of others
            let lost = reader.lost();
            let ns = self.block(program, cost, |seen| {
                reader.for_each(usize::MAX, |event| {
                    seen.add(event.record.n, event.record.len, event.tail);
                });
                Ok(())
            })?;
            ensure!(reader.lost() == lost, "lost {}", reader.lost() - lost);
            Ok(ns)
        }
    }

    fn helper<'p>(self, program: &'p ProgramMut<'p>) -> impl FnMut() -> Result<f64> + use<'t, 'p> {
        let program = Program::new(program);
        move || {
            let mut sum = 0;
            for _ in 0..RUNS {
                let [.., ns] = program.run([0, self.at(), 0])?;
                sum += ns;
            }
            Ok(sum as f64 / (RUNS * RECORDS) as f64)
        }
    }

    fn ringbuf<'p, M: MapCore>(
        self,
        map: &M,
        program: &'p ProgramMut<'p>,
        cost: Cost,
    ) -> Result<impl FnMut() -> Result<f64> + use<'t, 'p, M>> {
        let (mut consumer, program) = (RawRingBuffer::with(map, on_string)?, Program::new(program));
        Ok(move || {
            self.block(program, cost, |seen| {
                consumer.consume()?;
                *seen = consumer.take_seen();
                Ok(())
            })
        })
    }

    /// Nanoseconds for each record; `read` must see each.
    fn block(
        self,
        program: Program<'_>,
        cost: Cost,
        mut read: impl FnMut(&mut Strings) -> Result<()>,
    ) -> Result<f64> {
        let mut sum = 0.0;
        for run in 0..RUNS {
            let first = run * RECORDS;
            let [.., ns] = program.run([first, self.at(), 0])?;
            let (mut seen, mut expected) = (Strings::default(), Strings::default());
            let start = Instant::now();
            read(&mut seen)?;
            let read_ns = start.elapsed().as_nanos() as f64;
            (first..first + RECORDS).for_each(|n| expected.add(n, self.text.len() as u64, self.text));
            ensure!(seen == expected, "{seen:?}, not {expected:?}");
            sum += if cost == Cost::Produce { ns as f64 } else { read_ns };
        }
        Ok(sum / (RUNS * RECORDS) as f64)
    }
}
