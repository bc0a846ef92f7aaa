//! Who was present when the recording started. Their names, command lines and cgroups are kept with it: a process may end without an
//! event that names it, and a thread without one at all.

use std::io::Read;

use flate2::read::ZlibDecoder;
use mapring::Array;

use crate::pins;
use crate::procfs::Process;
use crate::recording::Recording;

/// An element of the map.
type Page = [u8; 4096];

/// All of them take at most so many bytes of JSON. Command lines are left out first.
const MOST: usize = 8 << 20;

/// Those that `start` kept. None if this process may not know, or a killed `start` left only a part.
pub(crate) fn read(recording: &Recording) -> Vec<(u32, Process)> {
    let found = || {
        let map = recording.dir().open_pin(pins::PRESENT).ok()?;
        let pages = Array::<Page>::open(map).ok()?;
        let bytes: Vec<_> = (0..pages.len()).map_while(|at| pages.get(at).ok()).flatten().collect();
        serde_json::from_reader(ZlibDecoder::new(&*bytes).take(MOST as u64)).ok()
    };
    found().unwrap_or_default()
}

/// Keeps all that are present now in a map, which is pinned here, and which nobody can change.
#[cfg(feature = "bpf")]
pub(crate) fn keep(new: &mapring_sys::PinDir, readers: Option<u32>) -> anyhow::Result<()> {
    use anyhow::Context;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut packed, &crate::procfs::all(MOST).all)?;
    let packed = packed.finish()?;
    let mut pages: Vec<Page> = vec![[0; 4096]; packed.len().div_ceil(size_of::<Page>())];
    pages.as_flattened_mut()[..packed.len()].copy_from_slice(&packed);

    let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as u64,
        ..Default::default()
    };
    let (size, count) = (u32::try_from(size_of::<Page>())?, u32::try_from(pages.len())?);
    let map = MapHandle::create(MapType::Array, Some(pins::PRESENT), 4, size, count, &options)?;
    for (at, page) in (0..count).zip(&pages) {
        map.update(&at.to_ne_bytes(), page, MapFlags::ANY)?;
    }
    map.freeze()?;
    new.pin(&map, pins::PRESENT)?;
    new.set_access_of(pins::PRESENT.as_ref(), pins::read_only(readers))
        .with_context(|| new.path().display().to_string())
}
