//! Writes a recording: blocks with a checksum, each by one system call.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use mapring::Loss;
use mapring::time::Clock;

use super::format::{BLOCK, HEADER, Lost, MAGIC, NONE, Sample, VERSION, kind};
use crate::untyped::Item;

/// A block of this size is written.
const FULL: usize = 256 << 10;
/// A block of this age is written, so that little is missing after a crash.
const OLD: Duration = Duration::from_millis(100);

/// A recording that is being written.
pub(super) struct Writer {
    out: File,
    /// The block that is being filled, with room for its header.
    block: Vec<u8>,
    kind: u32,
    count: u32,
    /// CLOCK_MONOTONIC when its first entry came.
    time: u64,
    began: Instant,
    /// The number of the block.
    number: u32,
    /// The bytes of the whole blocks that were written, with the start of the file.
    pub(super) bytes: u64,
}

impl Writer {
    /// Begins a recording.
    pub(super) fn new(mut out: File) -> io::Result<Self> {
        let mut start = [0; super::format::START];
        start[..8].copy_from_slice(&MAGIC);
        start[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out.write_all(&start)?;
        Ok(Self {
            out,
            block: vec![0; HEADER],
            kind: 0,
            count: 0,
            time: 0,
            began: Instant::now(),
            number: 0,
            bytes: start.len() as u64,
        })
    }

    /// Writes a block of its own.
    pub(super) fn block(&mut self, kind: u32, payload: &[&[u8]]) -> io::Result<()> {
        self.flush()?;
        self.begin(kind)?;
        payload.iter().for_each(|part| self.block.extend_from_slice(part));
        self.flush()
    }

    pub(super) fn record(&mut self, item: &Item<'_>) -> io::Result<()> {
        let size = |len: usize| u32::try_from(len).map_err(|_| io::ErrorKind::InvalidData);
        let tail = item.tail.map_or(Ok(NONE), |tail| size(tail.len()))?;
        let shard = size(item.shard)?;
        self.begin(kind::RECORDS)?;
        self.block.extend_from_slice(&shard.to_le_bytes());
        self.block.extend_from_slice(&tail.to_le_bytes());
        self.block.extend_from_slice(&item.ticket.to_le_bytes());
        self.block.extend_from_slice(item.bytes);
        self.block.extend_from_slice(item.tail.unwrap_or_default());
        self.flush_if_full()
    }

    pub(super) fn sample(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        self.begin(kind::SAMPLES)?;
        self.block.extend_from_slice(&sample.time.to_le_bytes());
        self.block.extend_from_slice(&sample.index.to_le_bytes());
        self.block.extend_from_slice(&sample.cpu.unwrap_or(NONE).to_le_bytes());
        self.block.extend_from_slice(&sample.version.to_le_bytes());
        self.block.extend_from_slice(sample.bytes);
        self.flush_if_full()
    }

    pub(super) fn loss(&mut self, loss: &Loss) -> io::Result<()> {
        self.begin(kind::LOSSES)?;
        Lost::encode(loss, &mut self.block);
        self.flush_if_full()
    }

    /// Makes room for an entry of a block of this kind.
    #[inline]
    fn begin(&mut self, kind: u32) -> io::Result<()> {
        if kind != self.kind || self.count == 0 {
            self.flush()?;
            (self.kind, self.time, self.began) = (kind, Clock::Monotonic.now(), Instant::now());
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.block.len() < FULL { Ok(()) } else { self.flush() }
    }

    /// Writes the block if its first entry is some time old.
    pub(super) fn flush_if_old(&mut self) -> io::Result<()> {
        if self.count > 0 && self.began.elapsed() > OLD { self.flush() } else { Ok(()) }
    }

    /// Writes the block, if it has an entry.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let payload = u32::try_from(self.block.len() - HEADER).map_err(|_| io::ErrorKind::InvalidData)?;
        for (at, word) in [BLOCK, self.kind, payload, self.count].into_iter().enumerate() {
            self.block[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
        }
        self.block[16..24].copy_from_slice(&self.time.to_le_bytes());
        self.block[24..28].copy_from_slice(&self.number.to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&self.block[..28]);
        checksum.update(&self.block[HEADER..]);
        self.block[28..HEADER].copy_from_slice(&checksum.finalize().to_le_bytes());
        let written = self.out.write_all(&self.block);
        if written.is_ok() {
            self.bytes += self.block.len() as u64;
            self.number = self.number.wrapping_add(1);
        } else if self.out.metadata().is_ok_and(|file| file.is_file()) {
            let _ = self.out.set_len(self.bytes); // the file ends with a whole block
        }
        self.block.truncate(HEADER);
        self.count = 0;
        written
    }

    /// Writes the end.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.block(kind::END, &[])
    }
}
