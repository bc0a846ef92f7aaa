//! The BPF programs: loaded, and run.

use anyhow::Result;
use libbpf_rs::{ProgramInput, ProgramMut};

/// The bindings that libbpf-cargo made.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
#[allow(missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
pub(crate) mod skel {
    pub(crate) mod read {
        include!(concat!(env!("OUT_DIR"), "/read.skel.rs"));
    }
    pub(crate) mod produce {
        include!(concat!(env!("OUT_DIR"), "/produce.skel.rs"));
    }
    pub(crate) mod portable {
        include!(concat!(env!("OUT_DIR"), "/portable.skel.rs"));
    }
}

/// Loads a skeleton, its maps fitted to the machine: `load!(read::ReadSkelBuilder)`.
macro_rules! load {
    ($module:ident::$builder:ident) => {{
        use libbpf_rs::skel::{OpenSkel, SkelBuilder};
        // Benchmarks load a handful of objects, which then live until the end.
        let storage = Box::leak(Box::new(std::mem::MaybeUninit::uninit()));
        let mut open = $crate::programs::skel::$module::$builder::default().open(storage)?;
        mapring::fit_to_machine(&mut open)?;
        open.load()?
    }};
}
pub(crate) use load;

/// Records that a run of a producing program makes: `RECORDS` in `bpf/producers.h`.
pub(crate) const RECORDS: u64 = 2048;

/// 56 bytes: with the sequence, or with the ring buffer's header, a cache line.
pub(crate) type Record = [u64; 7];

/// Runs a program once, on this CPU, with `context`, which it may change.
pub(crate) fn run<const N: usize>(program: &ProgramMut<'_>, mut context: [u64; N]) -> Result<[u64; N]> {
    let bytes = bytemuck::bytes_of_mut(&mut context);
    let output = program.test_run(ProgramInput { context_in: Some(bytes), ..ProgramInput::default() })?;
    anyhow::ensure!(output.return_value == 0, "{:?} returned {}", program.name(), output.return_value);
    Ok(context)
}

/// A producing program, and what it has to have produced.
pub(crate) struct Producer<'p> {
    program: &'p ProgramMut<'p>,
    next: u64,
}

impl<'p> Producer<'p> {
    pub(crate) fn new(program: &'p ProgramMut<'p>) -> Self {
        Self { program, next: 1 }
    }

    /// Produces [`RECORDS`] records: the nanoseconds of the loop, and what [`Seen`] must come to.
    pub(crate) fn run(&mut self) -> Result<(f64, Seen)> {
        let first = self.next;
        self.next += RECORDS;
        let [_, ns] = run(self.program, [first, 0])?;
        let mut expected = Seen::default();
        (first..self.next).for_each(|n| expected.add(&std::array::from_fn(|i| n + i as u64)));
        Ok((ns as f64, expected))
    }
}

/// What a consumer has seen: how many records, and a sum over every word of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    count: u64,
    sum: u64,
}

impl Seen {
    #[inline]
    pub(crate) fn add(&mut self, record: &Record) {
        self.count += 1;
        // Each record's own sum first: else all words of all records form one chain of additions.
        self.sum = self.sum.wrapping_add(record.iter().fold(0, |sum, word| sum.wrapping_add(*word)));
    }
}
