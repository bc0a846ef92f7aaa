//! The errors of preambles, with holes for their numbers. The texts are those of the library.

use mapring_core::abi::{GeometryError, Kind, Preamble, PreambleError, RingOptions};

/// Numbers that no text has.
const FIRST: u64 = 777_001;
const SECOND: u64 = 777_002;

/// How a language writes a hole.
#[derive(Clone, Copy)]
pub(crate) enum Holes {
    C,
    Go,
}

/// Each error by a word, in the order of its numbers.
pub(crate) fn texts(holes: Holes) -> Vec<(&'static str, String)> {
    use GeometryError as G;
    use PreambleError as P;
    let options = RingOptions::WAKEABLE;
    let second = usize::try_from(SECOND).unwrap();
    let version = P::Version { found: FIRST }.to_string();
    let older = P::Version { found: 1 }.to_string().replace("version 1", &format!("version {FIRST}"));
    let older = older.strip_prefix(&version).unwrap().to_owned();
    let all = [
        ("MAGIC", P::Magic { found: FIRST }.to_string()),
        ("VERSION", version),
        ("VERSION_OLDER", older),
        ("KIND", P::Kind { found: FIRST }.to_string()),
        ("OPTIONS", P::Options { found: FIRST }.to_string()),
        // Its state is the low byte.
        ("GATE", P::Gate { found: 0xee }.to_string().replace("238", &FIRST.to_string())),
        ("SLOTS", G::Slots(FIRST).to_string()),
        ("EMPTY", G::Empty { kind: Kind::Cells, capacity: FIRST, shards: SECOND }.to_string()),
        ("RECORD", G::Record(FIRST).to_string()),
        ("READERS", G::Readers(FIRST).to_string()),
        ("COUNTER", G::Counter(FIRST).to_string()),
        ("HISTOGRAM", G::Histogram(FIRST).to_string()),
        ("GAUGE", G::Gauge(FIRST).to_string()),
        ("BUCKET", G::Bucket(FIRST).to_string()),
        ("ENTRIES", G::Entries(FIRST).to_string()),
        ("SHARDS", G::Shards(FIRST).to_string()),
        ("ELEMENT", G::Element { found: FIRST, expected: second }.to_string()),
        ("SHARDED", G::Sharded(FIRST).to_string()),
        ("OPTIONS_OF", G::Options { kind: Kind::Cells, options }.to_string()),
        ("OF_CPU", G::OfCpu(FIRST).to_string()),
        ("TAILS", G::Tails { longest: FIRST, bytes: SECOND }.to_string()),
        ("TAILED", G::Tailed(FIRST).to_string()),
        ("SHARD", G::Shard(FIRST).to_string()),
    ];
    all.map(|(name, text)| (name, with_holes(name, &text, holes))).into()
}

fn with_holes(name: &str, text: &str, holes: Holes) -> String {
    assert!(!text.contains('%'), "{text}");
    let (number, hex, word) = match holes {
        Holes::C => ("%llu", "0x%llx", "0x%016llx"),
        Holes::Go => ("%d", "%#x", "0x%016x"),
    };
    let mut text = text.to_owned();
    for sentinel in [FIRST, SECOND, Preamble::MAGIC] {
        text = text.replace(&format!("{sentinel:#018x}"), word).replace(&format!("{sentinel:#x}"), hex);
        text = text.replace(&sentinel.to_string(), number);
    }
    if matches!(name, "EMPTY" | "OPTIONS_OF") {
        text =
            text.replacen(&Kind::Cells.to_string(), "%s", 1).replacen("options WAKEABLE:", "options %s:", 1);
    }
    text
}
