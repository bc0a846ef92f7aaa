//! BPF programs as the source: loads them, sets the reader's thread id, and attaches them.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{ErrorKind, PrintLevel};
use mapring::{Cells, Counters, Ring};

use super::Producer;
use super::record::Feed;
use crate::privilege::why_denied;

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/demo.skel.rs"));
}

/// Attached programs. Dropping it detaches them; open regions stay open.
pub(crate) struct Programs(
    #[expect(dead_code, reason = "held for what dropping it does")] skel::DemoSkel<'static>,
);

impl Producer for Programs {
    fn name(&self) -> &'static str {
        "BPF programs"
    }

    fn writes_maps(&self) -> bool {
        true
    }

    fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

/// libbpf's messages, printed only if the cause of a failure is unclear.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Loads and attaches the programs. Fails if the kernel or the privileges don't allow it.
pub(crate) fn start(reader_tid: u32) -> Result<(Programs, Feed)> {
    let listen = |_, text: String| SAID.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
    load(reader_tid).map_err(|error| {
        let denied = |e: &libbpf_rs::Error| e.kind() == ErrorKind::PermissionDenied;
        if error.chain().filter_map(|e| e.downcast_ref()).any(denied) {
            return anyhow!("{error:#}: {}", why_denied("demo"));
        }
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        said.lines().for_each(|line| eprintln!("{}", crate::regions::text::escaped(line)));
        error
    })
}

fn load(reader_tid: u32) -> Result<(Programs, Feed)> {
    // The programs live until they are dropped or the process ends, and this must live as long.
    let storage = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = skel::DemoSkelBuilder::default().open(storage).context("the compiled programs")?;
    mapring::loader::prepare(&mut open)?;
    let namespace = fs::metadata("/proc/self/ns/pid").context("/proc/self/ns/pid")?;
    let constants = open.maps.rodata_data.as_mut().context("the programs have no constants")?;
    constants.reader_tid = reader_tid;
    constants.pidns_dev = namespace.dev();
    constants.pidns_ino = namespace.ino();

    let mut skel = open.load().context("the kernel does not load the programs")?;
    mapring::loader::initialize(&skel)?;
    let machine = mapring::cpus::possible_cpus()?.len();
    let feed = Feed {
        events: Ring::open(&skel.maps.events)?,
        calls: Counters::open(&skel.maps.calls)?,
        cpus: Cells::open(&skel.maps.cpus)?,
        reader_calls: Some(Counters::open(&skel.maps.reader_calls)?),
        machine,
        cells: machine,
    };
    skel.attach().context("the kernel does not attach the programs")?;
    Ok((Programs(skel), feed))
}
