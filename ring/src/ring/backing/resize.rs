//! Resizable rings: a ring is replaced by a larger or smaller one while programs write to it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mapring_core::protocol::ring::{Whole, finish, give_up, is_replaced_by, replace, unfinished};
use parking_lot::Mutex;

use crate::abi::{Gate, Geometry, Kind, Preamble};
use crate::access::Refusal;
use crate::bpf::{MapLocator, MapOfMaps, is_gone};
use crate::error::{Error, Result};
use crate::region::maps::{Linked, PinOptions, publish, renew_pin};
use crate::region::{OpenOptions, Region, SharedMut, Source};

/// A ring in an `ARRAY_OF_MAPS` with one entry, so that another ring can replace it while programs write.
#[derive(Clone)]
pub(in crate::ring) struct Resizable(Arc<Mutex<State>>);

struct State {
    maps: MapOfMaps,
    /// The ring in use, by the last check of this handle.
    region: Region,
    options: OpenOptions,
    /// Each is renewed when the ring is replaced.
    pins: Vec<PathBuf>,
}

impl Resizable {
    pub(super) fn new(maps: MapOfMaps, region: Region, options: OpenOptions) -> Self {
        Self(Arc::new(Mutex::new(State { maps, region, options, pins: Vec::new() })))
    }

    /// The ring in use.
    pub(super) fn region(&self) -> Region {
        let mut state = self.0.lock();
        // Another process may have resized it.
        if let Ok(Some(now)) = state.region.replaced() {
            state.region = now;
        }
        state.region.clone()
    }

    /// See [`Ring::pin`](crate::Ring::pin).
    pub(super) fn publish(&self, path: &Path, how: PinOptions) -> Result<()> {
        let mut state = self.0.lock();
        publish(&[(None, &state.region)], path, how)?;
        if !how.freeze && !state.pins.iter().any(|pin| pin == path) {
            state.pins.push(path.to_owned());
        }
        Ok(())
    }

    /// See [`Ring::resize`](crate::Ring::resize).
    pub(super) fn resize(&self, slots: usize) -> Result<()> {
        let mut state = self.0.lock();
        let locator = MapLocator::Inner(state.maps.clone());
        // The mapping must be writable, to close the gate.
        let region = state.options.write(true).find(locator.clone())?;
        let (old, geometry) = (region.shared_mut()?, *region.geometry());
        finish_earlier(&old)?;
        let shape =
            Geometry::new(Kind::Ring, geometry.record() as u64, slots as u64, geometry.shards() as u64)?;
        let shape = shape.with_options(geometry.options(), None)?;
        let next = region.another(shape, None, OpenOptions::new().write(true), locator.clone())?;
        let new = next.shared_mut()?;
        let readers = Linked::to(&region)?;
        if let Some(readers) = &readers {
            new.words().store(
                Preamble::LINK,
                old.words().load(Preamble::LINK, Ordering::Relaxed),
                Ordering::Relaxed,
            );
            readers.expect(id(&next));
        }
        let mut pinned = Ok(());
        replace(whole(&old), whole(&new), || {
            state.maps.put(next.as_fd())?;
            readers.iter().for_each(|readers| readers.follow(id(&next), id(&region)));
            pinned = state.pins.iter().map(|path| renew_pin(next.as_fd(), path)).fold(Ok(()), Result::and);
            Ok::<_, Error>(())
        })?;
        state.region = state.options.find(locator)?;
        pinned.map_err(|e| Error::system("replacing the pin", e))
    }
}

/// Opens the gate of the ring in `maps` by writing its preamble. Finishes the resize of a process that died in it.
pub(crate) fn initialize(maps: &MapOfMaps) -> Result<()> {
    let options = OpenOptions::new().write(true).write_preamble(true);
    let region = options.find(MapLocator::Inner(maps.clone()))?;
    // A frozen ring was opened before, and can't be resized: there is nothing to finish.
    if region.writable() == Err(Refusal::Frozen)
        && region.gate_word()? == Gate::Open.encode(region.geometry().capacity())
    {
        return Ok(());
    }
    finish_earlier(&region.shared_mut()?)
}

/// Finishes the resize of a process that put `new` in the place of another ring and died.
fn finish_earlier(new: &SharedMut) -> Result<()> {
    unfinished(whole(new)).map_or(Ok(()), |old| {
        if let Some(readers) = Linked::to(new.region())? {
            readers.follow(id(new.region()), old);
        }
        finish_for_another(old, new)
    })
}

/// Finishes the resize of a process that put `new` in the place of the ring with the id `old` and died. Programs that
/// found the old ring may still write to it, and readers wait until it is retired.
fn finish_for_another(old: u32, new: &SharedMut) -> Result<()> {
    let region = match OpenOptions::new().write(true).open(Source::id(old)) {
        Err(e) if is_gone(&e) => {
            give_up(whole(new));
            return Ok(());
        }
        region => region?,
    };
    let shared = region.shared_mut()?;
    let (is, was) = (new.region().geometry(), region.geometry());
    let same_but_for_slots = was.options().is_resizable()
        && (was.kind(), was.record(), was.shards()) == (is.kind(), is.record(), is.shards());
    // Any process that can write the new ring can forge the id of the old one. So the old ring must name the new one as
    // well.
    if same_but_for_slots && is_replaced_by(*shared.words(), id(new.region())) {
        finish(Whole { id: old, ..whole(&shared) }, whole(new));
    } else {
        give_up(whole(new));
    }
    Ok(())
}

/// A region that was found in a map of maps, or created for one.
fn whole(shared: &SharedMut) -> Whole<'_> {
    let region = shared.region();
    Whole { words: shared.words(), geometry: region.geometry(), id: id(region) }
}

/// Its id; 0, which no map has, if it was found in another way.
fn id(region: &Region) -> u32 {
    region.id().unwrap_or_default()
}
