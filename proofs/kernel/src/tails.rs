//! Programs that write tails (`bpf/tails.bpf.c`), and the bytes that each tail must have.

use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::{Pod, Zeroable};
use libbpf_rs::{Link, Map, MapCore, MapFlags, Object, OpenObject, ProgramInput};
use mapring::Record;
use mapring_loader::initialize_object;

use crate::{Compiled, Runner, Stop, bpf, cpus, fitted, kernel, on_cpu, program, ticks};

/// `struct item`
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Record)]
#[repr(C)]
pub struct Item {
    /// Its writer.
    pub writer: u64,
    /// The writer's count of its records.
    pub n: u64,
    /// Bytes of the tail.
    pub len: u64,
}

/// The length of the [`pattern`], without its last byte.
pub const PATTERN: usize = 65536 + 4096;
/// The rings with tails.
pub const RINGS: [&str; 5] = ["tiny", "small", "deep", "long_", "kept"];
/// The one that keeps its oldest records.
pub const KEPT: usize = 4;
/// The longest tail of each ring.
pub const LONGEST: [u64; 5] = [64, 256, 4000, 65536, 256];
/// The bytes of each ring's area.
pub const AREA: [u64; 5] = [128, 4096, 1 << 20, 1 << 19, 4096];
const WRITERS: usize = 5;
/// The writer that sleeps in a tail.
pub const SLEEPER: u64 = 4;

/// The bytes that the programs copy: none is zero.
pub fn pattern() -> Vec<u8> {
    let byte = |i: usize| u8::try_from((i * 89 + i / 251 * 31 + i / 7919) % 255 + 1).unwrap();
    (0..PATTERN).map(byte).chain([0]).collect()
}

/// The tail of a writer's record with this number.
///
/// # Panics
/// Panics if the record has a longer tail than any writer wrote.
pub fn expected<'p>(pattern: &'p [u8], item: &Item) -> &'p [u8] {
    let from = usize::try_from((item.n * 7 + item.writer * 1031) % 4096).unwrap();
    &pattern[from..][..usize::try_from(item.len).unwrap()]
}

/// The programs of [`written_by_all`].
pub const ALL: [&str; 3] = ["on_tick", "on_enter", "on_packet"];
/// The program of [`write_one`].
pub const ONE: [&str; 1] = ["write_one"];

/// Leaves out the other programs, which the kernel verifies for a second each, and those with helpers that it lacks.
fn only(open: &mut OpenObject, programs: &[&str]) {
    for mut program in open.progs_mut() {
        let name = program.name().to_str().unwrap();
        let since = match name {
            "write_packet" => (5, 18),
            "write_dynptr" => (5, 19),
            _ => (0, 0),
        };
        let is_used = programs.contains(&name) && kernel() >= since;
        program.set_autoload(is_used);
    }
    fitted(open);
}

/// A map of global data, whose name starts with the object's.
fn section<'o>(object: &'o Object, name: &str) -> Map<'o> {
    object.maps().find(|map| map.name().to_string_lossy().ends_with(name)).unwrap()
}

/// Loads these programs of an object, and gives it the pattern.
///
/// # Panics
/// Panics if this fails.
pub fn load(compiled: &Compiled, programs: &[&str]) -> Object {
    let object = load_only(compiled, programs);
    initialize_object(&object).unwrap();
    object
}

/// The same without initializing its maps for readers.
///
/// # Panics
/// Panics if this fails.
pub fn load_only(compiled: &Compiled, programs: &[&str]) -> Object {
    let object = compiled.load_only(|open| only(open, programs));
    section(&object, ".data.pattern").update(&0_u32.to_ne_bytes(), &pattern(), MapFlags::ANY).unwrap();
    object
}

/// Tests these programs, compiled for this machine, and for any machine.
pub fn both(programs: &[&str], test: impl Fn(&Object)) {
    test(&load(&bpf::TAILS, programs));
    test(&load(&bpf::TAILS_PORTABLE, programs));
}

/// What the writers did, on all CPUs: published, dropped, begun, each by ring and writer; nested, by ring.
#[derive(Debug)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// Those of an object.
    ///
    /// # Panics
    /// Panics if they can't be read.
    pub fn of(object: &Object) -> Self {
        let map = section(object, ".data.counts");
        let bytes = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
        Self(bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect())
    }

    fn sum(&self, part: usize, ring: usize) -> u64 {
        let all = RINGS.len() * WRITERS;
        self.0[part * all + ring * WRITERS..][..WRITERS].iter().sum()
    }

    /// Records that writers published in a ring.
    pub fn published(&self, ring: usize) -> u64 {
        self.sum(0, ring)
    }

    /// Records that writers dropped.
    pub fn dropped(&self, ring: usize) -> u64 {
        self.sum(1, ring)
    }

    /// Records that writers began.
    pub fn begun(&self, ring: usize) -> u64 {
        self.sum(2, ring)
    }

    /// Writers that found another one of their CPU between reserve and commit.
    pub fn nested(&self, ring: usize) -> u64 {
        self.0[3 * RINGS.len() * WRITERS + ring]
    }
}

/// Writes a record with `len` bytes to a ring. Returns whether it was published.
pub fn write_one(write: &Runner, ring: usize, len: u64) -> bool {
    let mut args = [ring as u64, len, 0];
    write.run(&mut args);
    args[2] == 1
}

/// Runs the program of `raw_tp` with this argument.
///
/// # Panics
/// Panics if the object has no such program.
pub fn run(object: &Object, program: &str, how: u64) -> i32 {
    let program = self::program(object, program);
    let mut how = how.to_ne_bytes();
    let input = ProgramInput { context_in: Some(&mut how), ..ProgramInput::default() };
    program.test_run(input).unwrap().return_value.cast_signed()
}

/// A tail from a string, of `enum how`.
pub const STRING: u64 = 0;
/// A stack.
pub const TRACE: u64 = 1;
/// A tail that is longer than the longest.
pub const TOO_LONG: u64 = 2;
/// The same, cut.
pub const CUT: u64 = 3;
/// A discarded record.
pub const DISCARD: u64 = 4;
/// A helper that fails.
pub const FAILED: u64 = 5;
/// A record that is never ended.
pub const ABANDON: u64 = 6;

/// Makes packets, system calls and a clock's interrupts write to all rings until `meanwhile` returns.
///
/// # Panics
/// Panics if the programs can't be attached, or `meanwhile` panics.
pub fn written_by_all(object: &Object, meanwhile: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let links = attach(object);
        for &cpu in cpus() {
            let (stop, packets) = (&stop, Runner::new(object, "on_packet"));
            scope.spawn(move || {
                on_cpu(cpu);
                while !stop.load(Ordering::Relaxed) {
                    packets.packets(50);
                }
            });
        }
        meanwhile();
        drop((links, stopping));
    });
}

fn attach(object: &Object) -> Vec<Link> {
    let enters = program(object, "on_enter").attach_raw_tracepoint("sys_enter").unwrap();
    ticks(object, "on_tick", 50_000).into_iter().chain([enters]).collect()
}
