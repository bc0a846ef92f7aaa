//! Takes over what an earlier loader pinned.

use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::OpenObject;
use mapring::loader::{Declarations, Pinned};
use mapring::{Error, Result};

use crate::error::libbpf;
use crate::no_such;
use crate::types::types_of;

/// What [`reuse`] found.
#[derive(Debug)]
#[must_use]
pub enum Reuse {
    /// The object uses the maps that are pinned.
    Pinned,
    /// Nothing is pinned. The object makes new maps.
    Nothing,
    /// What is pinned does not fit, for this reason. The object makes new maps.
    Unfit(Error),
}

/// Use what is pinned at `pin` for the region that an object declares as `name`, if it fits; otherwise replace it. Call this
/// between `open` and `load`, in a loader that starts again. After [`initialize`](crate::initialize), pin the region in any
/// case, with [`PinOptions::replace`](mapring::loader::PinOptions::replace):
///
/// ```no_run
/// # fn load(mut open: mapring_loader::libbpf_rs::OpenObject) -> Result<(), Box<dyn std::error::Error>> {
/// use mapring::loader::PinOptions;
/// use mapring_loader::Reuse;
///
/// const PIN: &str = "/sys/fs/bpf/switches";
/// if let Reuse::Unfit(why) = mapring_loader::reuse(&mut open, "switches", PIN)? {
///     eprintln!("{why}");
/// }
/// mapring_loader::prepare_object(&mut open)?;
/// let object = open.load()?;
/// mapring_loader::initialize_object(&object)?;
/// let ring = mapring::Ring::<[u64; 2]>::open(mapring_loader::map(&object, "switches")?)?;
/// ring.pin(PIN, PinOptions::new(0o600).replace(true))?;
/// # Ok(())
/// # }
/// ```
///
/// [`Declarations::pinned`] says what fits, what is changed, what this may wait for, and the errors. A loader may die at any
/// step: until it pins the region, `pin` is as it was. Only one loader at a time may start.
///
/// # Errors
/// As for [`Declarations::pinned`].
pub fn reuse(object: &mut OpenObject, name: &str, pin: impl AsRef<Path>) -> Result<Reuse> {
    let Some(btf) = types_of(object)? else { return Err(no_such("map", name, &[]).into()) };
    match Declarations::new(btf.into())?.pinned(name, pin.as_ref())? {
        Pinned::Nothing => Ok(Reuse::Nothing),
        Pinned::Unfit(why) => Ok(Reuse::Unfit(why)),
        Pinned::Fits(maps) => {
            for (name, fd) in maps {
                if let Some(mut map) = object.maps_mut().find(|map| map.name() == &*name) {
                    map.reuse_fd(fd.as_fd()).map_err(libbpf)?;
                }
            }
            Ok(Reuse::Pinned)
        }
    }
}
