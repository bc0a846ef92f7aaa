//! What a reader finds in an image, as JSON: one entry on each line, in one order. So the same text is the same finding.

use std::fmt;

/// The members of the JSON object, each with its value as text.
#[derive(Clone, Default)]
pub(crate) struct Seen(Vec<(&'static str, String)>);

/// A record as a reader delivers it.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) shard: usize,
    pub(crate) ticket: u64,
    pub(crate) record: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

/// What one reader finds in a ring.
#[derive(Clone, Default)]
pub(crate) struct Read {
    /// Where it starts: `oldest`, `first` or `now`.
    pub(crate) start: &'static str,
    /// The records of shard 0, then those of shard 1: there is no order between shards.
    pub(crate) records: Vec<Record>,
    /// The counts, in the order of [`COUNTS`].
    pub(crate) counts: [u64; COUNTS.len()],
    /// Shard and ticket of records that no writer has ended, as far as the reader knows.
    pub(crate) unended: Vec<(usize, u64)>,
}

/// The names of the counts.
pub(crate) const COUNTS: [&str; 11] = [
    "delivered",
    "lapped",
    "skipped",
    "tail_lost",
    "discarded",
    "stepped_over",
    "no_slot",
    "full",
    "no_shard",
    "no_tail",
    "too_long",
];

/// A value of a cell or latch; `None` if a writer is in it for good.
pub(crate) type Value = Option<(u64, Vec<u8>)>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbers in brackets.
pub(crate) fn numbers(numbers: impl IntoIterator<Item = u64>) -> String {
    let all: Vec<_> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("[{}]", all.join(", "))
}

/// Values in brackets, each on a line of its own.
pub(crate) fn lines(values: impl IntoIterator<Item = String>, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let all: Vec<_> = values.into_iter().map(|value| format!("{indent}  {value}")).collect();
    if all.is_empty() { "[]".into() } else { format!("[\n{}\n{indent}]", all.join(",\n")) }
}

impl Seen {
    /// A region that is refused: the kind of error, and a part of its text.
    pub(crate) fn refused(error: &str, text: &str) -> Self {
        Self::default()
            .with("error", format!("{error:?}"))
            .with("text", format!("{:?}", text.replace('"', "'")))
    }

    /// A region: its kind, the options of a ring, and the numbers of its preamble.
    pub(crate) fn region(kind: &str, options: &str, record: usize, capacity: usize, shards: usize) -> Self {
        let seen = Self::default().with("kind", format!("{kind:?}")).with("options", format!("{options:?}"));
        seen.with("record", record).with("capacity", capacity).with("shards", shards)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.push((name, value.to_string()));
        self
    }

    pub(crate) fn reads(self, reads: &[Read]) -> Self {
        self.with("reads", lines(reads.iter().map(ToString::to_string), 2))
    }

    /// Shard and ticket of each record, in the order of the first word of the records.
    pub(crate) fn merged(self, records: &[(usize, u64)]) -> Self {
        self.with("merged", lines(records.iter().map(|(shard, ticket)| format!("[{shard}, {ticket}]")), 2))
    }

    pub(crate) fn values(self, values: &[Value]) -> Self {
        let one = |value: &Value| match value {
            Some((version, bytes)) => format!("{{\"version\": {version}, \"value\": \"{}\"}}", hex(bytes)),
            None => "{\"busy\": true}".into(),
        };
        self.with("values", lines(values.iter().map(one), 2))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.0.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
        writeln!(f, "{{\n{}\n}}", members.join(",\n"))
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> =
            COUNTS.iter().zip(self.counts).map(|(name, count)| format!("\"{name}\": {count}")).collect();
        writeln!(
            f,
            "{{\n      \"start\": \"{}\",\n      \"counts\": {{{}}},",
            self.start,
            counts.join(", ")
        )?;
        let unended: Vec<_> =
            self.unended.iter().map(|(shard, ticket)| format!("[{shard}, {ticket}]")).collect();
        writeln!(f, "      \"unended\": [{}],", unended.join(", "))?;
        let record = |Record { shard, ticket, record, tail }: &Record| {
            let (record, tail) = (hex(record), hex(tail));
            format!(
                "{{\"shard\": {shard}, \"ticket\": {ticket}, \"record\": \"{record}\", \"tail\": \"{tail}\"}}"
            )
        };
        write!(f, "      \"records\": {}\n    }}", lines(self.records.iter().map(record), 6))
    }
}
