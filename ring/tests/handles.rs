//! What each handle can do: be shared between threads, cloned, printed, and give its descriptor.
#![allow(missing_docs)]

use std::fmt::Debug;
use std::os::fd::AsFd;

use mapring::reading::{Drain, GaugeReader};
use mapring::writers::{
    CellsWriter, CountersWriter, GaugesWriter, HistogramsWriter, LatchesWriter, TopKeysWriter,
};
use mapring::{
    Cells, Counters, Error, Event, Gauges, Histogram, Histograms, Latches, OpenOptions, ReadError, ReadStats,
    Reader, Region, Ring, Source, TopKeys, Writer,
};

fn shared<T: Send + Sync + Debug>() {}
fn handle<T: Send + Sync + Debug + Clone>() {}
fn descriptor<T: AsFd>() {}

#[test]
fn handles_are_shared_cloned_and_printed() {
    handle::<Region>();
    handle::<Ring<u64>>();
    handle::<Cells<u64>>();
    handle::<Latches<u64>>();
    handle::<Counters>();
    handle::<Gauges>();
    handle::<GaugeReader>();
    handle::<Histograms>();
    handle::<TopKeys>();
    handle::<Histogram>();
    handle::<OpenOptions>();
    handle::<Event<u64>>();
    handle::<ReadStats>();
    shared::<Reader<u64>>();
    shared::<Drain<'_, u64>>();
    shared::<Writer<u64>>();
    shared::<CellsWriter<u64>>();
    shared::<LatchesWriter<u64>>();
    shared::<CountersWriter>();
    shared::<GaugesWriter>();
    shared::<HistogramsWriter>();
    shared::<TopKeysWriter>();
    shared::<Source>();
    shared::<Error>();
    shared::<ReadError>();
    descriptor::<Region>();
    descriptor::<Cells<u64>>();
    descriptor::<Latches<u64>>();
    descriptor::<Counters>();
    descriptor::<Gauges>();
    descriptor::<TopKeys>();
    descriptor::<Histograms>();
}

#[test]
fn handles_of_maps_are_shared_cloned_and_printed() {
    use mapring::dispatch::Dispatch;
    use mapring::globals::{Global, Globals, Variable};
    use mapring::table::{Seqlock, TwoCopies};
    use mapring::{Array, PerCpuCells};

    handle::<PerCpuCells<u64>>();
    handle::<Globals>();
    shared::<Array<u64>>();
    shared::<Dispatch>();
    shared::<Variable<u64>>();
    shared::<Global<u64, Seqlock>>();
    shared::<Global<u64, TwoCopies>>();
    descriptor::<PerCpuCells<u64>>();
    descriptor::<Dispatch>();
}
