//! Loads and runs the BPF programs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Result, ensure};
use libbpf_rs::{ProgramInput, ProgramMut, ProgramType, libbpf_sys};

use crate::peers::Sink;

/// The bindings that libbpf-cargo generated.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
#[allow(missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
pub(crate) mod skel {
    macro_rules! skeletons {
        ($($(#[$when:meta])? $name:ident)*) => {
            $($(#[$when])? pub(crate) mod $name {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
            })*
        };
    }
    skeletons! {
        read merge produce sharded stream latency loss histogram top axes others commands numa resizable sizes
        waking tails portable clock
        #[cfg(has_arena)]
        arena
    }
}

/// Loads a skeleton, with its maps prepared for this machine: `load!(read::ReadSkelBuilder)`. It can be changed before:
/// `load!(read::ReadSkelBuilder, |open| …)`.
macro_rules! load {
    ($module:ident::$builder:ident) => {
        $crate::programs::load!($module::$builder, |_open| {})
    };
    ($module:ident::$builder:ident, |$open:ident| $change:expr) => {{
        use libbpf_rs::skel::{OpenSkel, SkelBuilder};
        // Benchmarks load only a few objects, which then live until the end.
        let storage = Box::leak(Box::new(std::mem::MaybeUninit::uninit()));
        let mut open = $crate::programs::skel::$module::$builder::default().open(storage)?;
        mapring_loader::prepare(&mut open)?;
        {
            let $open = &mut open;
            $change;
        }
        let skel = open.load()?;
        mapring_loader::initialize(&skel)?;
        skel
    }};
}
pub(crate) use load;

/// Records per run of a producing program: `RECORDS` in `bpf/producers.h`.
pub(crate) const RECORDS: u64 = 1024;

/// 56 bytes: with the sequence, or with the ring buffer's header, a cache line.
pub(crate) type Record = [u64; 7];

/// Runs a program once, on this CPU, with `context`, which it may change.
pub(crate) fn run<const N: usize>(program: &ProgramMut<'_>, mut context: [u64; N]) -> Result<[u64; N]> {
    let bytes = bytemuck::bytes_of_mut(&mut context);
    let output = program.test_run(ProgramInput { context_in: Some(bytes), ..ProgramInput::default() })?;
    anyhow::ensure!(output.return_value == 0, "{:?} returned {}", program.name(), output.return_value);
    Ok(context)
}

/// A program that any thread may run, on that thread's CPU.
#[derive(Clone, Copy)]
pub(crate) struct Program<'p> {
    fd: BorrowedFd<'p>,
    packet: bool,
}

impl<'p> Program<'p> {
    pub(crate) fn new(program: &'p ProgramMut<'p>) -> Self {
        Self { fd: program.as_fd(), packet: program.prog_type() == ProgramType::Xdp }
    }

    /// Runs it once with `words` as its context, or as its packet if it takes packets. It may change them.
    pub(crate) fn run<const N: usize>(&self, mut words: [u64; N]) -> Result<[u64; N]> {
        let (input, output) = (words, words.as_mut_ptr());
        let size = u32::try_from(size_of_val(&words))?;
        let mut opts = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        if self.packet {
            (opts.data_in, opts.data_size_in) = (input.as_ptr().cast(), size);
            (opts.data_out, opts.data_size_out) = (output.cast(), size);
            opts.repeat = 1;
        } else {
            (opts.ctx_in, opts.ctx_size_in) = (output.cast(), size);
        }
        // SAFETY: the program is open, and `opts` contains the lengths of the buffers that it points to.
        let ret = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.fd.as_raw_fd(), &raw mut opts) };
        ensure!(ret == 0, "bpf_prog_test_run_opts: {}", io::Error::from_raw_os_error(-ret));
        ensure!(opts.retval == 0, "a program returned {}", opts.retval);
        Ok(words)
    }
}

/// A program of `bpf/stream.h`.
#[derive(Clone, Copy)]
pub(crate) struct Streamer<'p>(pub(crate) Program<'p>);

/// Records per chunk: `CHUNK` in `bpf/stream.h`.
pub(crate) const CHUNK: u64 = 256;

/// The result of a [`Streamer`]; the times are from `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streamed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Records that found no room.
    pub(crate) failed: u64,
}

impl Streamer<'_> {
    /// Produces `chunks` chunks of records with the numbers from `first` on, starting at `at`.
    pub(crate) fn run(&self, first: u64, chunks: u64, at: u64) -> Result<Streamed> {
        let [.., start, end, failed] = self.0.run([first, chunks, at, 0, 0, 0])?;
        Ok(Streamed { start, end, failed })
    }
}

/// A program of `bpf/latency.bpf.c`.
#[derive(Clone, Copy)]
pub(crate) struct Pacer<'p>(pub(crate) Program<'p>);

/// The result of a [`Pacer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    /// Nanoseconds of all records together, including a clock read for each.
    pub(crate) ns: u64,
    /// Records that found no room.
    pub(crate) failed: u64,
}

impl Pacer<'_> {
    /// Produces `count` records with the numbers from `first` on, `gap` nanoseconds (and up to 511 more) apart,
    /// starting at `at`.
    pub(crate) fn run(&self, first: u64, count: u64, gap: u64, at: u64) -> Result<Paced> {
        let [.., ns, failed] = self.0.run([first, count, gap, at, 0, 0])?;
        Ok(Paced { ns, failed })
    }
}

/// The clock that programs read by `bpf_ktime_get_ns()`.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A producing program, and the records that it must have produced.
pub(crate) struct Producer<'p> {
    program: &'p ProgramMut<'p>,
    next: u64,
}

impl<'p> Producer<'p> {
    pub(crate) fn new(program: &'p ProgramMut<'p>) -> Self {
        Self { program, next: 1 }
    }

    /// Produces [`RECORDS`] records. Returns the nanoseconds of the loop, and the expected [`Seen`].
    pub(crate) fn run(&mut self) -> Result<(f64, Seen)> {
        let first = self.next;
        self.next += RECORDS;
        let [_, ns] = run(self.program, [first, 0])?;
        let mut expected = Seen::default();
        (first..self.next).for_each(|n| expected.add(&record(n)));
        Ok((ns as f64, expected))
    }
}

/// Record number `n`: `fill` in `bpf/producers.h`.
#[inline]
pub(crate) fn record(n: u64) -> Record {
    std::array::from_fn(|i| n + i as u64)
}

/// The records that a consumer has seen: their number, and the sum of all their words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)] // `benches/c/read.c` has the same
pub(crate) struct Seen {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Sink for Seen {
    #[inline]
    fn add(&mut self, record: &Record) {
        self.count += 1;
        // Each record's own sum first: otherwise all words of all records form one dependent chain of additions.
        self.sum = self.sum.wrapping_add(record.iter().fold(0, |sum, word| sum.wrapping_add(*word)));
    }
}
