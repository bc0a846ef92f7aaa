//! Records by BPF programs: they are loaded, told who reads, and attached.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{ErrorKind, PrintLevel};
use mapring::{Cells, Counters, Ring};

use crate::Producer;
use crate::record::Feed;

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/demo.skel.rs"));
}

/// Attached programs. Dropping it detaches them; regions that are open stay.
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

/// What libbpf has to say, which is of use only if the reason is not plain.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Loads the programs and has them publish. An error means that this kernel, or the lack of
/// privilege, doesn't allow it.
pub(crate) fn start(reader_tid: u32) -> Result<(Programs, Feed)> {
    let listen = |_, text: String| SAID.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
    load(reader_tid).map_err(|error| {
        let denied = |e: &libbpf_rs::Error| e.kind() == ErrorKind::PermissionDenied;
        if error.chain().filter_map(|e| e.downcast_ref()).any(denied) {
            return error.context("BPF programs that trace take root, or CAP_BPF and CAP_PERFMON");
        }
        eprint!("{}", SAID.lock().unwrap_or_else(PoisonError::into_inner));
        error
    })
}

fn load(reader_tid: u32) -> Result<(Programs, Feed)> {
    // The programs live as long as the process, or until they are dropped; so does this.
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
    let machine = libbpf_rs::num_possible_cpus()?;
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
