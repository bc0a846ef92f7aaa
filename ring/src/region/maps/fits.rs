//! Whether a map that an object reuses holds what the object declares. Programs write a map by what their object says, so
//! a map of another shape must be refused before they run.

use mapring_core::text::printable;
use mapring_sys::btf::Btf;
use mapring_sys::kinds::MapType;

use super::open::open;
use super::readers::links_of;
use crate::abi::{Gate, Geometry, PreambleError, RingOptions};
use crate::bpf::MapFd;
use crate::bpf::alike::unlike;
use crate::bpf::describe::{Description, Shape, TSO, from_btf, record_type};
use crate::error::{Cause, Error, Result};
use crate::region::OpenOptions;

/// A region as an object declares it, for this machine.
#[derive(Clone, Copy)]
pub struct Declared<'btf> {
    pub(crate) btf: &'btf Btf,
    /// The type of its values.
    pub(crate) value: u32,
    /// The shards that it gets on this machine, if it is of a kind with shards.
    pub(crate) shards: usize,
}

impl Declared<'_> {
    fn description(&self) -> Option<Description> {
        from_btf(self.btf, self.value)
    }

    /// The shape of the map, with a shard for each possible CPU. `None` if the macros of mapring's headers did not declare it.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for sizes that no region can have.
    pub fn geometry(&self) -> Result<Option<Geometry>> {
        Ok(self.description().map(|described| described.geometry(self.shards as u64)).transpose()?)
    }

    /// Its options, or none for another kind than a ring. `None` if it is no region.
    pub fn options(&self) -> Option<RingOptions> {
        self.description().map(|described| described.options)
    }

    /// Whether programs find it in a map of maps, for which this one is the template: `RESIZABLE` and `PER_CPU_MAPS` rings.
    pub fn in_map_of_maps(&self) -> bool {
        self.description().is_some_and(|described| described.in_map_of_maps())
    }

    /// Whether its writers publish by plain stores, which only x86 keeps in order.
    pub fn needs_x86(&self) -> bool {
        self.btf.get(self.value).and_then(|value| value.field(TSO)).is_some()
    }

    /// Refuses a map that holds another region. Compares the fields of records only if this process may read the map's
    /// types. Makes system calls.
    pub(crate) fn fits(&self, map: &MapFd) -> Result<()> {
        let Some(declared) = self.description() else { return Ok(()) };
        let geometry = declared.geometry(self.shards as u64)?;
        let shape = declared.shape();
        let differ = |found, declared| Err(Error::mismatch(&map.what, found, declared));

        let expected = if geometry.kind().is_per_cpu() { MapType::PERCPU_ARRAY } else { MapType::ARRAY };
        if map.info.ty != expected {
            let others = [MapType::ARRAY, MapType::PERCPU_ARRAY].contains(&map.info.ty);
            return if others {
                differ(map.info.ty.to_string(), shape.to_string())
            } else {
                Err(map.wrong_type("array"))
            };
        }
        let region = match open(map.try_clone()?, OpenOptions::new()) {
            // Neither a preamble nor types: only the kernel says what it is.
            Err(e) if matches!(e.preamble_error(), Some(PreambleError::Magic { found: 0 })) => {
                let size = |element, entries| format!("{entries} elements of {element} bytes");
                let found = (map.info.value_size as usize, map.info.max_entries as usize);
                let expected = (geometry.element(), geometry.entries());
                let any_number = geometry.options().is_resizable() && found.0 == expected.0;
                return match found == expected || any_number {
                    true => Ok(()),
                    false => {
                        differ(size(found.0, found.1), format!("{shape}, {}", size(expected.0, expected.1)))
                    }
                };
            }
            region => region?,
        };
        let found = Shape::of(region.geometry());
        if declared.contradicts(region.geometry()).is_some() {
            return differ(found.to_string(), shape.to_string());
        }
        let shards = [region.geometry(), &geometry].map(Geometry::shards);
        if shards[0] != shards[1] {
            return differ(
                format!("{found}, {} shards", shards[0]),
                format!("{shape}, {} shards", shards[1]),
            );
        }
        if geometry.options().is_resizable() && region.gate().map_err(lookup)? == Gate::Retired {
            return differ(format!("{found}, which another ring has replaced"), shape.to_string());
        }
        let types = map.types();
        if let Some(found) = types.btf().ok().and_then(|btf| types.record(btf))
            && let Some(record) = self.btf.get(self.value).and_then(record_type)
            && let Some(unlike) = unlike(found, record)
        {
            let at = |part: &str| format!("{shape}, {}: {}", printable(&unlike.at), printable(part));
            return differ(at(&unlike.found), at(&unlike.declared));
        }
        Ok(())
    }

    /// [`fits`](Self::fits) for a map that was found by its pin alone.
    pub(crate) fn fits_at_its_pin(&self, map: &MapFd) -> Result<()> {
        self.fits(map)?;
        let is_resizable = self.description().is_some_and(|it| it.options.is_resizable());
        if is_resizable
            && open(map.try_clone()?, OpenOptions::new())?.gate().map_err(lookup)? == Gate::Closing
        {
            // Whether programs still write it, only its map of maps would tell.
            let found = "a resizable ring that another one was to replace, by a process that died or has not finished";
            return Err(Error::mismatch(&map.what, found.to_owned(), "one in use".to_owned()));
        }
        Ok(())
    }

    /// Whether it is a ring that wakes readers.
    pub(crate) fn wakes_readers(&self) -> bool {
        self.description().is_some_and(|declared| declared.options.wakes_readers())
    }
}

fn lookup(e: std::io::Error) -> Error {
    Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e)
}

/// Refuses a ring and maps of readers and bells that do not belong together: programs would look for readers where no
/// reader is. Of each it takes the name, and the map if the object reuses one.
pub(crate) fn belong_together(all: [(&str, Option<&MapFd>); 3]) -> Result<()> {
    let reused = all.map(|(_, map)| map);
    let [Some(ring), Some(readers), Some(bells)] = reused else {
        let missing = all.iter().find(|(_, map)| map.is_none());
        let (Some(map), Some((missing, _))) = (reused.into_iter().flatten().next(), missing) else {
            return Ok(());
        };
        let [ring, readers, bells] = all.map(|(name, _)| printable(name));
        let names = format!("{ring}, {readers} and {bells}");
        return Err(Error::from(Cause::Companions {
            what: map.what.clone(),
            missing: printable(missing),
            why: "readers would sleep where no program looks",
            names,
        }));
    };
    let links = |map: &MapFd| match open(map.try_clone()?, OpenOptions::new()) {
        Err(e) if e.preamble_error().is_some() => Ok(None),
        region => links_of(&region?),
    };
    let (of_ring, of_readers) = (links(ring)?, links(readers)?);
    let ids = [readers, ring, bells].map(|map| map.info.id);
    let found = [
        of_ring.map(|(readers, _)| readers),
        of_readers.map(|(ring, _)| ring),
        of_readers.map(|(_, bells)| bells),
    ];
    // 0, or nothing: not linked yet.
    let differs =
        found.iter().zip(ids).any(|(found, id)| found.is_some_and(|found| found != 0 && found != id));
    if !differs {
        return Ok(());
    }
    let shown = |[readers, ring, bells]: [u32; 3]| {
        format!("a ring (map id {ring}) with readers (id {readers}) and bells (id {bells})")
    };
    Err(Error::mismatch(&ring.what, shown(found.map(Option::unwrap_or_default)), shown(ids)))
}
