//! The program `bpf/regions.bpf.c`, loaded by a test, with a map of each kind.

use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, ProgramInput};

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
pub(crate) mod skel {
    include!(concat!(env!("OUT_DIR"), "/regions.skel.rs"));
}

/// The loaded program, with pins in a directory of its own.
pub(crate) struct Loaded {
    pub(crate) skel: skel::RegionsSkel<'static>,
    pub(crate) dir: PathBuf,
}

impl Loaded {
    /// `None`, after a loud message, if BPF is refused here.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/sys/fs/bpf/mapring-cli-{}-{number}", std::process::id()));
        let made = fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()));
        let pinned = || {
            let mut skel = Self::load()?;
            Self::pin(&mut skel, &dir).map(|()| skel)
        };
        match made.and_then(|()| pinned().map_err(|e| format!("{e:#}"))) {
            Ok(skel) => Some(Self { skel, dir }),
            Err(why) => {
                crate::skip::without_bpf(&why);
                let _ = fs::remove_dir_all(&dir);
                None
            }
        }
    }

    /// Loads the program once more, without pins.
    pub(crate) fn load() -> anyhow::Result<skel::RegionsSkel<'static>> {
        let storage = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = skel::RegionsSkelBuilder::default().open(storage)?;
        mapring_loader::prepare(&mut open)?;
        let skel = open.load()?;
        mapring_loader::initialize(&skel)?;
        Ok(skel)
    }

    fn pin(skel: &mut skel::RegionsSkel<'static>, dir: &Path) -> anyhow::Result<()> {
        let maps = &mut skel.maps;
        for map in [
            &mut maps.t_events,
            &mut maps.t_names,
            &mut maps.t_raw,
            &mut maps.t_spans,
            &mut maps.t_sized,
            &mut maps.t_nodes,
            &mut maps.t_loads,
            &mut maps.t_calls,
            &mut maps.t_waits,
            &mut maps.t_depths,
            &mut maps.t_keys,
            &mut maps.t_settings,
            &mut maps.t_each,
            &mut maps.t_kernel,
            &mut maps.data,
        ] {
            let name = map.name().to_string_lossy().replace('.', "_");
            map.pin(dir.join(name))?;
        }
        Ok(())
    }

    /// The program publishes this number of records, and sets the values.
    pub(crate) fn fill(&self, count: u64) {
        for program in [&self.skel.progs.fill, &self.skel.progs.fill_others] {
            let mut input = count.to_ne_bytes();
            let input = ProgramInput { context_in: Some(&mut input), ..ProgramInput::default() };
            program.test_run(input).unwrap();
        }
    }

    /// The program publishes 40 records with these times: the first one, and what is added to it.
    #[allow(dead_code)] // not each test uses it
    pub(crate) fn fill_spans(&self, first: u64, step: u64, modulo: u64) {
        let mut input: Vec<u8> = [first, step, modulo].into_iter().flat_map(u64::to_ne_bytes).collect();
        let input = ProgramInput { context_in: Some(&mut input), ..ProgramInput::default() };
        self.skel.progs.fill_spans.test_run(input).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
