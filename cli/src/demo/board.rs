//! Passes data from the reading thread to the thread that draws it, in memory private to this process. The memory is
//! created before the reader enters its sandbox. This also shows mapring between two threads.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use bytemuck::Zeroable;
use crossbeam_utils::atomic::AtomicCell;
use mapring::writers::CellsWriter;
use mapring::{Cells, Ring, Writer};

use super::record::{CALLS, Cpu, Event};

pub(crate) struct Board {
    pub(crate) stop: AtomicBool,
    records: AtomicCell<u64>,
    lost: AtomicCell<u64>,
    dropped: AtomicCell<u64>,
    calls: Box<[AtomicCell<u64>]>,
    cpus: Cells<Cpu>,
    cpus_writer: CellsWriter<Cpu>,
    latest: Ring<Event>,
    latest_writer: Writer<Event>,
}

/// The state at one time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Time on the monotonic clock.
    pub(crate) ns: u64,
    pub(crate) records: u64,
    pub(crate) lost: u64,
    pub(crate) dropped: u64,
    pub(crate) calls: Vec<u64>,
    pub(crate) cpus: Vec<Cpu>,
}

impl Board {
    pub(crate) fn new(cpus: usize) -> Result<Self> {
        let cpus = Cells::create_memfd(cpus)?;
        let latest = Ring::create_memfd(64, 1)?;
        Ok(Self {
            stop: AtomicBool::new(false),
            records: AtomicCell::new(0),
            lost: AtomicCell::new(0),
            dropped: AtomicCell::new(0),
            calls: (0..CALLS).map(|_| AtomicCell::new(0)).collect(),
            cpus_writer: cpus.writer()?,
            cpus,
            latest_writer: latest.writer(0)?,
            latest,
        })
    }

    /// For the reader. Makes no system call and never waits.
    pub(crate) fn set_totals(&self, records: u64, lost: u64, dropped: u64) {
        self.records.store(records);
        self.lost.store(lost);
        self.dropped.store(dropped);
    }

    /// For the reader.
    pub(crate) fn set_calls(&self, sums: &[u64; CALLS]) {
        for (cell, sum) in self.calls.iter().zip(sums) {
            cell.store(*sum);
        }
    }

    /// For the reader.
    pub(crate) fn set_cpu(&self, index: usize, cpu: &Cpu) {
        // This is the only writer, so the cell is never busy.
        let _ = self.cpus_writer.set(index, cpu);
    }

    /// For the reader.
    pub(crate) fn push(&self, event: &Event) {
        self.latest_writer.push(event);
    }

    /// For the drawing thread: everything except the events.
    pub(crate) fn sample(&self) -> Sample {
        let cpu = |index| self.cpus.read(index).unwrap_or(Cpu::zeroed());
        Sample {
            ns: now(),
            records: self.records.load(),
            lost: self.lost.load(),
            dropped: self.dropped.load(),
            calls: self.calls.iter().map(AtomicCell::load).collect(),
            cpus: (0..self.cpus.len()).map(cpu).collect(),
        }
    }

    /// For the drawing thread: a reader of the latest events.
    pub(crate) fn latest(&self) -> mapring::Reader<Event> {
        self.latest.reader()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A table of cells that has no writer once the reader has ended.
    pub(crate) fn cpus(&self) -> &Cells<Cpu> {
        &self.cpus
    }
}

/// The clock of the records' timestamps.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
