//! The readers in C (`bindings/c`), compiled with sanitizers: they read the same forged regions to the end, and refuse what the
//! library refuses.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use mapring::OpenOptions;
use mapring::abi::{Geometry, Kind, Preamble, Tails, WORD};
use mapring_hostile_tests::{forge, hostile_word};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::images::{contents, spoilt_preambles, with_images};

/// Live regions, and how often each is read while it changes.
const LIVE: usize = 60;
const READS: usize = 5;

/// `bindings/c/tests/hostile.c`, compiled with the sanitizers of addresses and of undefined behaviour.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let c = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bindings/c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-c-{}", std::process::id()));
    let mut compile = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    compile.args(["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    compile.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]).arg(c.join("include"));
    compile.arg(c.join("tests/hostile.c")).arg("-o").arg(&program);
    assert!(compile.status().expect("a C compiler").success(), "{compile:?}");
    program
});

/// The program, which reads one region after the other.
struct Reader {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn start() -> Self {
        let mut child = Command::new(&*PROGRAM).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, ask, answers: BufReader::new(answers) }
    }

    /// How much it read in a memfd, or why it refuses it. Fails if a sanitizer, or anything else, ended the program.
    fn read(&mut self, file: &impl AsRawFd) -> Result<u64, String> {
        let mut answer = String::new();
        let asked = writeln!(self.ask, "/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        self.answers.read_line(&mut answer).unwrap();
        if asked.is_err() || answer.is_empty() {
            let ended = self.child.wait().unwrap();
            *self = Self::start();
            panic!("the reader in C ended: {ended}");
        }
        match answer.trim_end().split_once(' ') {
            Some(("read", count)) => Ok(count.parse().unwrap()),
            Some(("refused", why)) => Err(why.to_owned()),
            _ => panic!("{answer:?}"),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn contents_of_any_kind_are_read_to_the_end() {
    let (reader, sum) = (RefCell::new(Reader::start()), Cell::new(0));
    with_images("contents, read in C", &contents(), |image| {
        let file = forge(bytemuck::cast_slice(&image.words), true);
        sum.set(sum.get() + reader.borrow_mut().read(&file).unwrap());
    });
    println!("{} records and values", sum.get());
    assert!(sum.get() > 0);
}

#[test]
fn it_refuses_what_the_library_refuses() {
    let (reader, count) = (RefCell::new(Reader::start()), Cell::new([0_u64; 2]));
    let same = |bytes: &[u8], sealed| {
        let library = OpenOptions::new().open(forge(bytes, sealed)).map(drop);
        let found = reader.borrow_mut().read(&forge(bytes, sealed));
        assert_eq!(library.is_ok(), found.is_ok(), "the library: {library:?}; in C: {found:?}");
        let mut sum = count.get();
        sum[usize::from(found.is_ok())] += 1;
        count.set(sum);
    };
    with_images("preambles, read in C", &spoilt_preambles(), |(image, tail, sealed)| {
        let mut bytes = bytemuck::cast_slice::<u64, u8>(&image.words).to_vec();
        let len = bytes.len().saturating_add_signed(isize::try_from(tail.min(0)).unwrap());
        bytes.resize(len.saturating_add_signed(isize::try_from(tail.max(0)).unwrap()), 0xa5);
        same(&bytes, sealed);
    });
    with_images("bytes, read in C", &(vec(any::<u8>(), 0..1024), any::<bool>()), |(bytes, sealed)| {
        same(&bytes, sealed);
    });
    let [refused, read] = count.get();
    println!("{refused} refused, {read} read");
    assert!(refused > 0 && read > 0);
}

/// While another thread writes all words, those of the preamble last.
#[test]
fn regions_that_change_are_read_to_the_end() {
    let (mut reader, mut runner) = (Reader::start(), TestRunner::default());
    for _ in 0..LIVE {
        let image = contents().new_tree(&mut runner).unwrap().current();
        let file = File::from(forge(bytemuck::cast_slice(&image.words), true));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rng = Rng::new();
                while !stop.load(Ordering::Relaxed) {
                    let at = rng.usize(16.min(image.words.len() - 1)..image.words.len());
                    file.write_all_at(&hostile_word(&mut rng).to_ne_bytes(), at as u64 * 8).unwrap();
                }
                let at = rng.u64(0..16);
                file.write_all_at(&hostile_word(&mut rng).to_ne_bytes(), at * 8).unwrap();
            });
            for _ in 0..READS {
                reader.read(&file).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let _ = reader.read(&file);
    }
}

/// Positions, lengths and headers of tails that are forged.
#[test]
fn tails_at_any_place_are_read_to_the_end() {
    const WORDS: usize = 2 + 2; // the position, the length and the record
    let images = std::env::var("MAPRING_HOSTILE_IMAGES").map_or(1000, |n| n.parse().expect("a number"));
    let tails = Tails::new(100, 1024).unwrap();
    let ring =
        Geometry::new(Kind::Ring, 8 * WORDS as u64, 16, 2).and_then(|it| it.with_tails(tails)).unwrap();
    let (element, header, slots) = (ring.element() / WORD, 16 + 8, 16 + 8 + 32);
    let preamble = Preamble { geometry: ring, generation: 1, name: "tails".into() }.encode();
    let (mut reader, mut sum) = (Reader::start(), 0);
    for seed in 0..images {
        let mut rng = Rng::with_seed(seed);
        let mut words = vec![0; ring.bytes() / WORD];
        if rng.bool() {
            words.fill_with(|| hostile_word(&mut rng));
        }
        words[..preamble.len()].copy_from_slice(&preamble);
        for shard in 0..2 {
            words[shard * element + 16] = 16;
            words[shard * element + header + 1] = if rng.bool() { 1024 } else { hostile_word(&mut rng) };
            for slot in 0..16 {
                let at = shard * element + slots + slot * (1 + WORDS);
                words[at] = if rng.u8(..8) == 0 { hostile_word(&mut rng) } else { 2 };
                words[at + 1] = if rng.bool() { rng.u64(..2048) } else { hostile_word(&mut rng) };
                words[at + 2] = if rng.bool() { rng.u64(..104) } else { hostile_word(&mut rng) };
            }
        }
        sum += reader.read(&forge(bytemuck::cast_slice(&words), true)).unwrap();
    }
    println!("tails, read in C: {images} images, {sum} records");
    assert!(sum > 0);
}
