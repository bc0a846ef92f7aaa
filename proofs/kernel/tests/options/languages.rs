//! One contract for the readers in all languages: they print the same records, counts and errors as Rust's, for every ring that
//! `options.bpf.c` declares, mapped and by system call, as user nobody; and as root by the types, before there is a preamble.
//!
//! The program in C is always there. `MAPRING_READER` names another language and its command, whose words are separated by tabs:
//! `Python=/path/python<tab>/path/reads.py`. The step `go` and the method `python` set it, since they have those tools.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libbpf_rs::libbpf_sys::BPF_F_MMAPABLE;
use mapring::abi::Preamble;
use mapring_kernel_tests::raw::RawMap;

use super::*;

/// The name of each language, and the command that reads a pin. Rust's is the first one.
fn languages() -> Vec<(String, String)> {
    let rust = env!("CARGO_BIN_EXE_kernel-tests-reads").to_owned();
    let c = format!("{}\treads", env!("CARGO_BIN_EXE_kernel-tests-conformance"));
    let other = std::env::var("MAPRING_READER").ok();
    let other = other.map(|other| {
        let (name, command) = other.split_once('=').expect("MAPRING_READER is NAME=COMMAND");
        (name.to_owned(), command.to_owned())
    });
    [("Rust".to_owned(), rust), ("C".to_owned(), c)].into_iter().chain(other).collect()
}

/// A program that reads.
struct Reading {
    language: String,
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    /// Its first line: how it reads. Empty if it refuses.
    access: String,
}

impl Reading {
    fn start(language: &str, command: &str, pin: &Path, more: &[&str]) -> Self {
        let mut words = command.split('\t');
        let mut child = Command::new(words.next().unwrap());
        child.args(words).arg(pin).args(more);
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap_or_else(|e| panic!("{command}: {e}"));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut access = String::new();
        out.read_line(&mut access).unwrap();
        // The reason is in each language's words.
        let access = access.trim_end().split(" (").next().unwrap().to_owned();
        Self { language: language.to_owned(), child, out, access }
    }

    /// Lets it read.
    fn begins(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Its lines, or the error that ended it.
    fn ends(mut self) -> Result<Vec<String>, String> {
        self.begins();
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        let ended = self.child.wait_with_output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        match ended.status.code() {
            Some(0) => {
                assert_eq!(message, "", "{}", self.language);
                // Shards have no order among each other.
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort();
                Ok(lines)
            }
            Some(1) => Err(message.trim_end().to_owned()),
            _ => panic!("{}: {} {message}", self.language, ended.status),
        }
    }
}

/// Starts a reader of each language.
fn all(pin: &Path, more: &[&str]) -> Vec<Reading> {
    languages().iter().map(|(name, command)| Reading::start(name, command, pin, more)).collect()
}

#[test]
fn readers_in_all_languages_find_the_same_in_mapped_rings() {
    require_bpf!();
    for_each_ring(|ring, options| find_the_same(ring, options, 0o666, "mapped"));
}

#[test]
fn readers_in_all_languages_find_the_same_by_system_call() {
    require_bpf!();
    for_each_ring(|ring, options| find_the_same(ring, options, 0o444, "by system call"));
}

fn find_the_same(ring: &Subject<'_>, options: RingOptions, mode: u32, access: &str) {
    if ring.object().is_none() {
        return; // it has no pin: `readers_in_all_languages_find_the_same_by_the_types`
    }
    let (pins, handle) = (PublicPins::new(), ring.open());
    let (pin, how) = (pins.path("ring"), PinOptions::new(mode));
    match options.is_resizable() {
        true => handle.pin(&pin, how), // not frozen: resizing closes its gates
        false => handle.freeze_and_pin(&pin, how.allow_unprivileged_bpf(true)),
    }
    .unwrap_or_else(|e| panic!("{}: {e}", ring.name));
    let refused = options.has_tails() && access != "mapped"; // a lookup would copy a whole shard
    let mut readers = all(&pin, &[]);
    let right = if refused { "" } else { access };
    if let Some(wrong) = readers.iter().position(|reader| reader.access != right) {
        let Reading { language, access, .. } = &readers[wrong];
        let begins = format!("{language} of {}: {access:?} is not {right:?}", ring.name);
        panic!("{begins}: {:?}", readers.swap_remove(wrong).ends());
    }
    if !refused {
        write(ring, Some(&handle), options);
    }
    // The readers are in the first ring, and miss the second.
    for _ in 0..if options.is_resizable() { 2 } else { 0 } {
        handle.resize(2 * handle.slots()).unwrap();
        write(ring, Some(&handle), options);
    }
    everywhere();
    print_the_same(ring.name, readers, refused);
    if !refused {
        print_the_same(ring.name, all(&pin, &["oldest"]), false);
    }
    if !refused && options.wakes_readers() {
        let lacks =
            if access == "mapped" { "a bell of its own needs CAP_BPF" } else { "__readers can't be written" };
        refuse_the_same(&pin, &["bell"], lacks);
    }
}

fn print_the_same(ring: &str, mut readers: Vec<Reading>, refused: bool) {
    readers.iter_mut().for_each(Reading::begins);
    let mut right = None;
    for reader in readers {
        let name = format!("{} of {ring}", reader.language);
        let found = reader.ends();
        assert_eq!(found.is_err(), refused, "{name}: {found:?}");
        let found =
            found.map_err(|message| same_words(&message, ": freeze the map and pin it with mode 0666"));
        assert_eq!(found, *right.get_or_insert_with(|| found.clone()), "{name}");
    }
    println!("{}", right.unwrap().map_or_else(|error| error, |lines| lines[0].clone()));
}

#[test]
fn readers_in_all_languages_find_the_same_by_the_types() {
    require_bpf!();
    let object = &bpf::OPTIONS.load_only(by_hand);
    let is_one_map =
        |name: &&(&str, &str)| !["PER_CPU_MAPS", "RESIZABLE"].iter().any(|option| name.1.contains(option));
    for &(name, _) in RINGS.iter().filter(is_one_map) {
        let ring = Subject::new(object, name);
        let (pins, options) = (PublicPins::new(), ring.open().options());
        write(&ring, None, options);
        everywhere();
        let pin = pins.path("ring");
        MapHandle::try_from(&map(object, name)).unwrap().pin(&pin).unwrap();
        print_the_same(name, all(&pin, &["types"]), false);
    }
    for (ring, _) in memfds() {
        let handle = ring.open();
        write(&ring, Some(&handle), handle.options());
        everywhere();
        let file = format!("/proc/{}/fd/{}", std::process::id(), handle.region().as_fd().as_raw_fd());
        let mut readers = all(Path::new(&file), &["types"]);
        readers.truncate(2); // the others take a descriptor
        print_the_same(ring.name, readers, false);
    }
}

/// On each CPU: records, discarded ones, more than there is space for, one that is never ended. On the last CPU, all slots are lost
/// in the end, so that records are dropped.
fn write(ring: &Subject<'_>, initialized: Option<&Ring<Rec>>, options: RingOptions) {
    let mut next = 0;
    let mut run = |count: u64, end| {
        ring.write(next, count, end);
        next += count;
    };
    for (at, &cpu) in cpus().iter().enumerate() {
        on_cpu(cpu);
        run(10, COMMIT);
        run(3, DISCARD);
        run(1, ABANDON); // tickets step over its slot
        run(SLOTS + 30, COMMIT);
        if let Some(handle) = initialized.filter(|_| options.keeps_oldest()) {
            let mut required = handle.reader();
            required.require(FOREVER).unwrap();
            run(SLOTS, COMMIT);
            assert!(required.stats().full > 0, "{}", ring.name);
        }
        run(1, ABANDON);
        run(20, COMMIT);
        run(2, DISCARD);
        // At the end of a ring that was replaced, a reader waits for each of them.
        if at > 0 && at + 1 == cpus().len() && !options.is_resizable() {
            run(SLOTS + 6, ABANDON);
            run(3, COMMIT);
        }
    }
}

/// A text up to the part that is in each language's words, without case and without the numbers of errors that Rust adds.
fn same_words(message: &str, until: &str) -> String {
    let end = message.find(until).unwrap_or_else(|| panic!("{message:?} has no {until:?}")) + until.len();
    let (mut text, mut rest) = (String::new(), &message[..end]);
    while let Some((before, after)) = rest.split_once(" (os error ") {
        text += before;
        rest = after.split_once(')').expect("a number").1;
    }
    (text + rest).to_lowercase()
}

#[test]
fn readers_in_all_languages_refuse_in_the_same_words() {
    require_bpf!();
    let pins = PublicPins::new();
    let geometry = Geometry::new(Kind::Ring, 16, 8, 1).unwrap();
    let wakeable = geometry.wakeable().unwrap();
    let ring = || raw::region(geometry, "rec", BPF_F_MMAPABLE);
    // The preamble with another word; an element has three words.
    let forged_of = |geometry: Geometry, at: usize, word: u64| {
        let mut words = Preamble { geometry, generation: 1, name: "rec".into() }.encode();
        words[at] = word;
        let map = ring();
        (0..).zip(words.chunks_exact(3)).for_each(|(index, words)| raw::update(&map, index, words).unwrap());
        map
    };
    let forged = |at: usize, word: u64| forged_of(geometry, at, word);
    let array = |value, entries| RawMap::array(value, entries, BPF_F_MMAPABLE).make().unwrap();
    let hash = RawMap { ty: MapType::Hash, ..RawMap::array(24, 64, 0) }.make().unwrap();
    let cells = raw::region(Geometry::new(Kind::Cells, 16, 3, 1).unwrap(), "rec", BPF_F_MMAPABLE);
    let cases: Vec<(&str, OwnedFd, &str)> = vec![
        ("oldest", forged(1, 1), "pinned"),
        ("older", forged(1, 2), "pinned"),
        ("newer", forged(1, 4), "one version of mapring"),
        ("overwritten", forged(0, 77), "; mapring's macros did not declare this map"),
        ("kind", forged(2, 77), "77, this library knows 1 (ring)"),
        ("option", forged(2, 1 | 32 << 8), "a ring with unknown options 0x20"),
        ("options", forged(2, 1 | 20 << 8), "a ring with unknown options 0x14"),
        ("half_option", forged(2, 1 | 2 << 8), "a ring with unknown options 0x2"),
        ("bits", forged(2, 1 | 1 << 24), "a ring with unknown options 0x10000"),
        ("no_tails", forged(2, 1 | 4 << 8), "at least twice the longest tail"),
        ("short_tails", forged(2, 1 | 100 << 32 | 10 << 16 | 4 << 8), "more than 16 bytes, not 16"),
        ("gate", forged(14, 1), "any other region 0"),
        ("no_gate", forged(2, 1 | 16 << 8), "any other region 0"),
        ("slots", forged(4, 12), "(1, 2, 4, …), not 12"),
        ("no_slots", forged(4, 0), "(1, 2, 4, …), not 0"),
        ("many_slots", forged(4, 1 << 40), "1099511627776 elements: a map has at most 4294967295"),
        ("no_record", forged(3, 0), "records of 0 bytes: a record has 1 to 536870904 bytes"),
        ("record", forged(3, 1 << 40), "a record has 1 to 536870904 bytes"),
        ("no_shards", forged(5, 0), "ring with 8 entries in 0 shards: both must be at least 1"),
        ("shards", forged(5, 1 << 17), "131072 shards: a region has at most 65536"),
        (
            "shards_of_cpu",
            forged_of(geometry.of_cpu().unwrap(), 5, 2),
            "2 shards in the map of one CPU: it has 1",
        ),
        ("element", forged(6, 72), "elements of 72 bytes where the records make them 24"),
        ("histograms", forged(2, 7), "histograms of 16 bytes"),
        (
            "shard_of_cells",
            forged_of(Geometry::new(Kind::Cells, 16, 8, 1).unwrap(), 5, 2),
            ": 1 shard, not 2",
        ),
        ("more", forged(4, 16), "the kernel says"),
        ("other_size", forged(3, 24), "make them 32"),
        ("without", array(24, 64), "; its loader writes one with"),
        ("short", array(8, 1), "; such a map holds no region"),
        ("odd", array(12, 64), "a multiple of 8"),
        ("hash", hash, "array or percpu_array"),
        ("cells", cells, "expected ring"),
        ("program", raw::overwriting(ring().as_fd(), 0).unwrap(), "is not a BPF map"),
        ("closed", ring(), "chmod 0666, once the map is frozen"),
        ("wrong", ring(), " bytes"),
        ("bell", ring(), "MAPRING_RING declares it with neither WAKEABLE nor KEEP_OLDEST"),
        (
            "bell_not_linked",
            raw::region(wakeable, "rec", BPF_F_MMAPABLE),
            "linked it to its maps __readers and __bells",
        ),
        ("bell_not_pinned", forged_of(wakeable, Preamble::LINK, 1), "needs CAP_SYS_ADMIN: run as root"),
        ("require", ring(), "does not keep its oldest records: declare it with the option KEEP_OLDEST"),
        ("missing", ring(), "and the loader running?"),
    ];
    for (name, map, until) in cases {
        let pin = pins.path(name);
        if name != "missing" {
            mapring_sys::PinDir::open(&pins.path("")).unwrap().pin(&map, name).unwrap();
            let mode = if name == "closed" { 0o600 } else { 0o666 };
            std::fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        let how = name.split('_').next().unwrap();
        let more: &[&str] = if ["wrong", "bell", "require"].contains(&how) { &[how] } else { &[] };
        refuse_the_same(&pin, more, until);
    }
}

fn refuse_the_same(pin: &Path, more: &[&str], until: &str) {
    let name = pin.file_name().unwrap().to_str().unwrap();
    let mut right: Option<String> = None;
    for reader in all(pin, more) {
        // In Python, what is there is opened, whatever it is, and a reader without a bell naps.
        if (name == "cells" || more == ["bell"]) && reader.language == "Python" {
            continue;
        }
        let language = reader.language.clone();
        let message = reader.ends().expect_err(&format!("{language} opens {name}"));
        let found = same_words(&message, until);
        assert_eq!(found, *right.get_or_insert_with(|| found.clone()), "{language}: {message}");
        assert!(name != "wrong" || message.contains("24"), "{language}: {message}");
    }
    println!("{name}: {}", right.unwrap());
}
