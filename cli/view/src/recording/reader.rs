//! Reads a recording, which can have any content, up to its end or to the first damage.

use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};
use mapring_sys::btf::Btf;

use super::format::*;
use crate::untyped::Item;

/// The reader of a recording calls these functions in the order of the file.
pub(super) trait Visit {
    /// What follows comes from this source.
    fn source(&mut self, of: &StoredSource) -> Result<()>;
    /// A record. `arrived` is CLOCK_MONOTONIC when the first record of its block was read.
    fn record(&mut self, of: &StoredSource, item: Item<'_>, arrived: u64) -> Result<()>;
    fn sample(&mut self, of: &StoredSource, sample: Sample<'_>) -> Result<()>;
    fn lost(&mut self, lost: Lost) -> Result<()>;
}

/// How a recording ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Whole,
    /// It ends with a whole block, but not with an end: the recorder was killed, or still writes.
    Open,
    /// From this offset on it can't be read, for this reason.
    Damaged(u64, String),
}

/// Reads a recording; returns its end and the bytes before that. Fails if it is not a recording, if the file can't be
/// read, or if `visit` fails.
pub(super) fn read(input: impl Read, visit: &mut dyn Visit) -> Result<(End, u64)> {
    let mut reader = Reader { input, at: 0, payload: Vec::new(), of: None };
    let mut start = [0; START];
    let len = reader.fill(&mut start)?;
    let magic = start.get(..len.min(8)).unwrap_or_default();
    ensure!(!magic.is_empty() && MAGIC.starts_with(magic), "not a recording of mapring");
    if len < START {
        return Ok((End::Damaged(0, "it ends inside its first 16 bytes".to_owned()), 0));
    }
    let [version, zero] = [8, 12].map(|at| half(&start, at));
    ensure!(
        version <= VERSION,
        "a recording of version {version}; this mapring reads version {VERSION}: update it"
    );
    if (version, zero) != (VERSION, 0) {
        return Ok((End::Damaged(8, format!("version {version}, {zero}")), 0));
    }
    for number in 0_u32.. {
        let from = reader.at;
        let header = match reader.block(number)? {
            Ok(Some(header)) => header,
            Ok(None) => return Ok((End::Open, from)),
            Err(why) => return Ok((End::Damaged(from, why), from)),
        };
        if header.kind == kind::END {
            let mut more = [0];
            return Ok(match reader.fill(&mut more)? {
                0 => (End::Whole, from + HEADER as u64),
                _ => (End::Damaged(from + HEADER as u64, "bytes after the end".to_owned()), reader.at),
            });
        }
        if let Err(why) = reader.entries(&header, visit)? {
            return Ok((End::Damaged(from, why), from));
        }
    }
    Ok((End::Damaged(reader.at, "too many blocks".to_owned()), reader.at))
}

struct Reader<R> {
    input: R,
    at: u64,
    payload: Vec<u8>,
    of: Option<StoredSource>,
}

struct Header {
    kind: u32,
    count: u32,
    time: u64,
}

/// Text for damage: the file can be read, but not its content.
type Checked<T> = Result<T, String>;

impl<R: Read> Reader<R> {
    /// Reads as many bytes as there are.
    fn fill(&mut self, to: &mut [u8]) -> Result<usize> {
        let mut len = 0;
        while let Some(rest) = to.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).with_context(|| format!("at byte {}", self.at)),
            }
        }
        self.at += len as u64;
        Ok(len)
    }

    /// The next block; its payload is in `self`. `None` at the end of the file.
    fn block(&mut self, number: u32) -> Result<Checked<Option<Header>>> {
        let mut header = [0; HEADER];
        match self.fill(&mut header)? {
            0 => return Ok(Ok(None)),
            HEADER => {}
            len => return Ok(Err(format!("{len} of the {HEADER} bytes of a block's header"))),
        }
        let [magic, kind, len, count] = [0, 4, 8, 12].map(|at| half(&header, at));
        if magic != BLOCK {
            return Ok(Err("no block starts here".to_owned()));
        }
        let len = len as usize;
        if len > PAYLOAD_MAX {
            return Ok(Err(format!("a block of {len} bytes; the most is {PAYLOAD_MAX}")));
        }
        // The memory grows only with the bytes that are there.
        self.payload.clear();
        let mut input = self.input.by_ref().take(len as u64);
        input.read_to_end(&mut self.payload).with_context(|| format!("at byte {}", self.at))?;
        self.at += self.payload.len() as u64;
        if self.payload.len() < len {
            return Ok(Err(format!("{} of the {len} bytes of a block", self.payload.len())));
        }
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header[..28]);
        checksum.update(&self.payload);
        if checksum.finalize() != half(&header, 28) {
            return Ok(Err("a block with a wrong checksum".to_owned()));
        }
        if half(&header, 24) != number {
            return Ok(Err(format!("block {} where block {number} should be", half(&header, 24))));
        }
        Ok(Ok(Some(Header { kind, count, time: word(&header, 16) })))
    }

    /// Visits the entries of a block.
    fn entries(&mut self, header: &Header, visit: &mut dyn Visit) -> Result<Checked<()>> {
        let mut rest = &self.payload[..];
        if header.kind == kind::SOURCE {
            let of = match recorded(rest) {
                Ok(of) => of,
                Err(why) => return Ok(Err(format!("an impossible source: {why:#}"))),
            };
            visit.source(&of)?;
            self.of = Some(of);
            return Ok(Ok(()));
        }
        let Some(of) = &mut self.of else { return Ok(Err("no source before the first records".to_owned())) };
        for entry in 0..header.count {
            let left = rest.len();
            let next = match header.kind {
                kind::RECORDS => record(&mut rest, of).map(|item| visit.record(of, item, header.time)),
                kind::SAMPLES => sample(&mut rest, of).map(|sample| visit.sample(of, sample)),
                kind::LOSSES => take(&mut rest, LOSS)
                    .and_then(|bytes| bytes.first_chunk())
                    .map(|bytes| visit.lost(Lost::decode(bytes))),
                kind::CLOCK => take(&mut rest, 16).map(|bytes| {
                    of.clock = Clock { monotonic: word(bytes, 0), wall: word(bytes, 8) };
                    Ok(())
                }),
                kind => return Ok(Err(format!("a block of the unknown kind {kind}"))),
            };
            match next {
                Some(visited) => visited?,
                None => return Ok(Err(format!("entry {entry} of its block, {left} bytes before the end"))),
            }
        }
        Ok(if rest.is_empty() {
            Ok(())
        } else {
            Err(format!("{} bytes after a block's entries", rest.len()))
        })
    }
}

fn recorded(payload: &[u8]) -> Result<StoredSource> {
    let mut rest = payload;
    let len = take(&mut rest, 4).map_or(0, |bytes| half(bytes, 0)) as usize;
    let Some(json) = take(&mut rest, len) else { bail!("it is cut") };
    let source: Source = serde_json::from_slice(json)?;
    source.check()?;
    let btf = (!rest.is_empty()).then(|| Btf::new(rest.to_vec())).flatten();
    Ok(StoredSource { clock: source.clock, source, btf, btf_bytes: rest.len() })
}

fn record<'a>(rest: &mut &'a [u8], of: &StoredSource) -> Option<Item<'a>> {
    let head = take(rest, RECORD_HEAD)?;
    let shard = Some(half(head, 0) as usize).filter(|shard| *shard < of.source.shards)?;
    let (tail, ticket) = (half(head, 4), word(head, 8));
    let bytes = take(rest, of.source.record)?;
    let tail = match of.source.tails {
        None => (tail == NONE).then_some(None)?,
        Some([longest, _]) => (u64::from(tail) <= longest).then(|| take(rest, tail as usize))?.map(Some)?,
    };
    Some(Item { shard, ticket, bytes, tail })
}

fn sample<'a>(rest: &mut &'a [u8], of: &StoredSource) -> Option<Sample<'a>> {
    let head = take(rest, SAMPLE_HEAD)?;
    let cpu = Some(half(head, 12)).filter(|cpu| *cpu != NONE);
    let bytes = take(rest, of.source.record)?;
    Some(Sample { time: word(head, 0), index: half(head, 8), cpu, version: word(head, 16), bytes })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |half| u32::from_le_bytes(*half))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}
