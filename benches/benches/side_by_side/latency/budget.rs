//! Where the nanoseconds of a record's way go: the parts of the latency, each measured in the same rounds.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use anyhow::{Context, Result};
use mapring::Ring;
use mapring::abi::seq::Slots;
use mapring_benches::{Report, Spread};
use memmap2::{MmapOptions, MmapRaw};

use crate::programs::Record;

/// The least that can read a ring: a loop over the next slot of one shard, without the library. It notices no loss.
pub(super) struct Bare {
    words: MmapRaw,
    /// The shard's hint of the next ticket, and the word where its first slot begins.
    head: usize,
    first: usize,
    slots: Slots,
    ticket: u64,
}

/// Words of a slot.
const SLOT: usize = 1 + size_of::<Record>() / 8;

impl Bare {
    /// Reads what programs on CPU `cpu` write.
    pub(super) fn new(ring: &Ring<Record>, map: &impl std::os::fd::AsRawFd, cpu: usize) -> Result<Self> {
        let region = ring.region();
        let geometry = region.geometry();
        Ok(Self {
            words: MmapOptions::new().len(geometry.bytes()).map_raw_read_only(map.as_raw_fd())?,
            head: geometry.shard(cpu) * SLOT,
            first: geometry.slots(cpu) * SLOT,
            slots: Slots::new(u32::try_from(geometry.capacity())?).context("no power of two")?,
            ticket: 0,
        })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.words.len() / 8);
        // SAFETY: the word is inside the mapping, as checked above.
        let word = unsafe { self.words.as_ptr().cast::<AtomicU64>().add(at) };
        // SAFETY: it is mapped as long as `self` is, aligned, and only accessed atomically.
        unsafe { &*word }
    }

    /// The next record, if it is there.
    #[inline]
    pub(super) fn poll(&mut self) -> Option<Record> {
        let slot = self.first + self.slots.of(self.ticket) * SLOT;
        let published = self.slots.free(self.ticket) + 2;
        if self.word(slot).load(Ordering::Acquire) != published {
            return None;
        }
        let record = std::array::from_fn(|i| self.word(slot + 1 + i).load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if self.word(slot).load(Ordering::Relaxed) != published {
            return None;
        }
        self.ticket += 1;
        Some(record)
    }

    /// Continues at the end of the ring. The hint is exact only while no program writes.
    pub(super) fn skip(&mut self) {
        self.ticket = self.word(self.head).load(Ordering::Acquire);
    }
}

/// The measured times, a sample for each round.
pub(super) struct Parts<'s> {
    /// A cache line's way from CPU to CPU.
    pub(super) line: &'s [f64],
    /// A clock read in a program, and one in a reader.
    pub(super) clocks: [&'s [f64]; 2],
    /// A program claims, writes and publishes a record, without a reader.
    pub(super) produce: &'s [f64],
    /// The whole way to the bare reader, and to the library's.
    pub(super) bare: &'s [f64],
    pub(super) ours: &'s [f64],
}

impl Parts<'_> {
    /// Adds the budget to the report.
    pub(super) fn report(&self, report: &mut Report) {
        let Self { line, clocks: [there, here], produce, bare, ours } = *self;
        let sum = |round: usize| line[round] + there[round] + here[round] + produce[round];
        let rest: Vec<f64> = (0..bare.len()).map(|round| bare[round] - sum(round)).collect();
        let library: Vec<f64> = (0..bare.len()).map(|round| ours[round] - bare[round]).collect();
        let mut text = String::from(
            "The way of 56 bytes from a clock read in a program to a clock read in a reader on another CPU, p50 \
             (`latency_limit`). Medians of the rounds, with the range of nine tenths. A clock is read in the midst of its \
             call and stores leave the CPU while it goes on, so the parts take longer than the whole: the rest is \
             negative where this weighs more than what the loop adds.\n\n| part | ns | how it was measured |\n|---|--:|---|\n",
        );
        let rows: [(&str, &[f64], &str); 7] = [
            ("the clock of the program", there, "a program that only reads it"),
            ("claim, write and publish", produce, "the same program without a reader, less its clock"),
            ("a cache line from CPU to CPU", line, "ping-pong"),
            ("the clock of the reader", here, "a loop that only reads it"),
            (
                "the rest: turns of the loop and lines that go to and fro, less what overlaps",
                &rest,
                "a bare loop over the slot, without the library, less the lines above",
            ),
            ("the library's reader, which looks at all shards", &library, "`poll`, less the bare loop"),
            ("all together", ours, "`latency_p50`"),
        ];
        for (part, samples, how) in rows {
            let Spread { median, low, high, .. } = Spread::of(samples.iter().copied());
            text += &format!("| {part} | {median:.1} ({low:.1}–{high:.1}) | {how} |\n");
        }
        report.section("Where the nanoseconds go", &text);
    }
}
