//! BPF programs as the source: loads them, sets the reader's thread id, and attaches them.

use std::fs;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use mapring::any::AnyMap;
use mapring::{Cells, Counters, Ring};
use mapring_kit::privilege;
use mapring_view::find::Location;
use mapring_view::rates::Meter;
use mapring_view::target::Target;

use super::{Producer, Source, meter};

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/demo.skel.rs"));
}

impl Producer for skel::DemoSkel<'static> {}

/// Loads and attaches the programs.
pub(super) fn start(reader_tid: u32) -> Result<Source> {
    privilege::listen();
    load(reader_tid).map_err(|error| privilege::explained(error, "demo"))
}

fn load(reader_tid: u32) -> Result<Source> {
    // The programs live until they are dropped or the process ends, and this must live as long.
    let storage = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = skel::DemoSkelBuilder::default().open(storage).context("the compiled programs")?;
    mapring_loader::prepare(&mut open)?;
    let namespace = fs::metadata("/proc/self/ns/pid").context("/proc/self/ns/pid")?;
    let constants = open.maps.rodata_data.as_mut().context("the programs have no constants")?;
    constants.reader_tid = reader_tid;
    constants.pidns_dev = namespace.dev();
    constants.pidns_ino = namespace.ino();

    let mut skel = open.load().context("the kernel does not load the programs")?;
    mapring_loader::initialize(&skel)?;
    let maps = &skel.maps;
    let (events, cells) = (Ring::open(&maps.events)?, Cells::open(&maps.cpus)?);
    let reader_calls = Some(Counters::open(&maps.reader_calls)?);
    let meters =
        vec![shown("calls", &maps.calls)?, shown("events", &maps.events)?, shown("cpus", &maps.cpus)?];
    let (map, key) = (MapHandle::try_from(&maps.cpus)?, u32::try_from(cells.region().geometry().first())?);
    let mut value = vec![0; map.value_size().try_into()?];
    let mut lookup = move || map.lookup_into(&key.to_ne_bytes(), &mut value, MapFlags::ANY);
    ensure!(lookup()?, "no cell is at {key}");
    let lookup = Some(Box::new(move || drop(black_box(lookup()))) as _);
    skel.attach().context("the kernel does not attach the programs")?;
    Ok(Source { producer: Box::new(skel), events, reader_calls, cells, lookup, meters })
}

/// By its descriptor: to open it by its id, this process would need CAP_SYS_ADMIN.
fn shown(name: &str, map: &impl MapCore) -> Result<Meter> {
    let id = AnyMap::open(map.as_fd())?.facts().id;
    meter(name, Target::of(Location::Id(id), || Ok(map.as_fd().into()))?)
}
