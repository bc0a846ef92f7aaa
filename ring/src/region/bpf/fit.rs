//! Before an object is loaded: its maps get as many shards as the machine has possible CPUs, its
//! rings the cheapest claim that is shown to be safe.
#![allow(unsafe_code)]

use std::fmt;

use libbpf_rs::btf::types::{DataSec, Var};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{AsRawLibbpf, OpenObject, libbpf_sys};

use super::atomics;
use super::describe::{self, Inner};
use super::limits;
use super::nesting::{self, Grounds};
use super::nodes::{checked_node, place_on_node};
use crate::cpus::{nodes_of_cpus, possible_cpus};
use crate::error::{Error, Result};
use crate::layout::{Claim, Geometry, Kind};

/// [`Fit::skeleton`] with nothing asked for. Call it between `open` and `load`, after all else
/// that changes the object (`set_autoload`, `set_prog_type`).
///
/// # Errors
/// See there.
pub fn fit_to_machine<'obj>(open: &mut impl OpenSkel<'obj>) -> Result<Fitted> {
    Fit::new().skeleton(open)
}

/// [`Fit::object`] with nothing asked for.
///
/// # Errors
/// See there.
pub fn fit_object(object: &mut OpenObject) -> Result<Fitted> {
    Fit::new().object(object)
}

/// How an object is fitted to the machine that it is about to be loaded on.
///
/// Every ring and every bank of counters gets a shard for each CPU up to the last possible one; what is not fitted
/// has one shard, and counts what other CPUs write as dropped. A ring's producers claim slots by
/// plain stores ([`Claim::Nested`]) if every program of the object that is to be loaded is known
/// to run where no other can preempt it, else by compare-and-swap ([`Claim::Atomic`]):
/// [`Grounds`] has the reasons. Maps that the headers' macros did not make are left alone.
///
/// A ring with nested claims may be written by the programs of this object only. An object that is
/// given it by its pin and would claim in another way is refused by libbpf (the maps differ in
/// `max_entries`); by `reuse_fd` or `set_inner_map_fd` it is not: use [`Fit::atomic`] there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fit {
    atomic: bool,
    node: Option<usize>,
}

impl Fit {
    /// What the machine and the object allow.
    pub fn new() -> Self {
        Self::default()
    }

    /// Atomic claims whatever the object: for rings that others write, too.
    pub fn atomic(self) -> Self {
        Self { atomic: true, ..self }
    }

    /// The memory of every map that is fitted on this node, where a machine has several: best that of
    /// the CPUs whose programs write most, or of the reader. Per-CPU maps are left alone and the rings of
    /// [`NumaRing`](crate::NumaRing) (what each CPU writes is on its own node anyway), and resizable
    /// rings. For a node a map see [`place_on_node`].
    pub fn node(self, node: usize) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Fits the object of a skeleton. Reads a file or two, and asks the kernel whether it has fetching atomics
    /// by loading a program of three instructions, on kernels old enough to lack them.
    ///
    /// # Errors
    /// [`Error::System`] without sysfs; [`Error::Geometry`] if a map would have more elements than maps can have;
    /// [`Error::MemoryOrder`] for an object compiled for x86 on another machine; [`Error::NoFetchingAtomics`] for
    /// programs that this kernel will not load; [`Error::NotNested`] for a ring whose programs can claim in no
    /// other way than nested, and may not; [`Error::MapSize`] for a key or value that this kernel makes no
    /// array of; [`Error::Node`] for a node that is not there.
    pub fn skeleton<'obj>(self, open: &mut impl OpenSkel<'obj>) -> Result<Fitted> {
        self.object(open.open_object_mut())
    }

    /// [`skeleton`](Self::skeleton) for an object without one.
    ///
    /// # Errors
    /// As there.
    pub fn object(self, object: &mut OpenObject) -> Result<Fitted> {
        // Numbers of CPUs may have gaps, and a program goes by its CPU's number.
        let shards = possible_cpus()?.last().map_or(1, |last| last + 1);
        let raw = object.as_libbpf_object();
        // SAFETY: the object is open for as long as `object` is borrowed, and its BTF is never
        // changed after opening it.
        let btf = Btf::from_bpf_object(unsafe { raw.as_ref() })?;
        let Some(btf) = btf else { return Ok(Fitted { rings: Vec::new() }) };
        atomics::check(object)?;
        let of_object = if self.atomic { Grounds::Asked } else { nesting::grounds(object, &btf) };
        let (mut shapes, mut constants, mut rings) = (Vec::new(), Vec::new(), Vec::new());
        for map in object.maps() {
            // SAFETY: the map belongs to the open object.
            let value = unsafe { libbpf_sys::bpf_map__btf_value_type_id(map.as_libbpf_object().as_ptr()) };
            let Some(description) = describe::from_btf(&btf, value) else { continue };
            let name = map.name().to_string_lossy();
            // What programs call it is the map of maps.
            let name =
                description.inner.and_then(|_| name.strip_suffix("__first")).unwrap_or(&name).to_owned();
            if description.tso && !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
                return Err(Error::MemoryOrder { map: name });
            }
            let mut geometry = description.geometry(shards as u64)?;
            limits::check(&name, geometry.kind().is_per_cpu(), map.key_size(), map.value_size())?;
            if geometry.kind() == Kind::Ring {
                let constant = Constant::of_ring(&btf, &name);
                let grounds = match constant {
                    _ if description.inner == Some(Inner::Resizable) => Grounds::Resizable,
                    None if !self.atomic => Grounds::NotX86,
                    _ if geometry.capacity() < Geometry::NESTED_MIN => Grounds::TooSmall,
                    _ => of_object.clone(),
                };
                if constant.is_some_and(|constant| constant.only) && grounds != Grounds::OnlyNest {
                    return Err(Error::NotNested { ring: name, grounds });
                }
                geometry = geometry.with_claim(grounds.claim())?;
                // Either way: an object may be fitted again.
                let nested = u32::from(grounds.claim() == Claim::Nested);
                constants.extend(constant.map(|constant| (constant.offset, nested)));
                rings.push((name.clone(), grounds));
            }
            let count = |entries| u32::try_from(entries).expect("no more than maps have");
            if description.inner == Some(Inner::OfCpu) {
                // Where the kernel can see how claims are made, as it does for other rings in their geometry.
                let nested = usize::from(geometry.claim() == Claim::Nested);
                shapes.push((name.into(), count(shards + nested), None));
            }
            let node = self.node_of(description.inner, geometry.kind())?;
            shapes.push((map.name().to_os_string(), count(geometry.entries()), node));
        }
        for mut map in object.maps_mut() {
            if let Some((_, entries, node)) = shapes.iter().find(|(name, ..)| *name == map.name()) {
                map.set_max_entries(*entries)?;
                if let Some(node) = *node {
                    place_on_node(&mut map, node)?;
                }
            } else if map.name().to_string_lossy().ends_with(".rodata")
                && let Some(constants_of_object) = map.initial_value_mut()
            {
                for (offset, nested) in constants.drain(..) {
                    constants_of_object[offset..offset + 4].copy_from_slice(&nested.to_ne_bytes());
                }
            }
        }
        assert!(constants.is_empty(), "libbpf gives an object with constants a map for them");
        Ok(Fitted { rings })
    }

    /// The node of a map of this kind, if it is not all the same.
    fn node_of(&self, inner: Option<Inner>, kind: Kind) -> Result<Option<usize>> {
        match inner {
            None => Ok(self.node.filter(|_| !kind.is_per_cpu())),
            // An array of maps takes only maps with the flags of its first.
            Some(Inner::Resizable) => Ok(None),
            Some(Inner::OfCpu) => {
                checked_node(0)?; // where libbpf makes a map to show the kernel
                let (cpus, nodes) = (possible_cpus()?, nodes_of_cpus()?);
                Ok(cpus.first().and_then(|first| nodes.get(first)).copied())
            }
        }
    }
}

/// What a loader tells a ring's programs of claims by.
#[derive(Clone, Copy)]
struct Constant {
    /// Where it is in `.rodata`.
    offset: usize,
    /// They have no claims but nested ones.
    only: bool,
}

impl Constant {
    /// That of the ring `name`, if its programs have one.
    fn of_ring(btf: &Btf<'_>, name: &str) -> Option<Self> {
        let either = constant(btf, &format!("mapring__nested__{name}"));
        let only = constant(btf, &format!("mapring__nested_only__{name}"));
        only.or(either).map(|offset| Self { offset, only: only.is_some() })
    }
}

/// Where in `.rodata` the constant `name` is.
fn constant(btf: &Btf<'_>, name: &str) -> Option<usize> {
    let section: DataSec<'_> = btf.type_by_name(".rodata")?;
    section.iter().find_map(|variable| {
        let var: BtfType<'_> = btf.type_by_id(variable.ty)?;
        let var = Var::try_from(var).ok()?;
        (var.name().is_some_and(|n| n == name) && variable.size == 4).then_some(variable.offset as usize)
    })
}

/// What became of an object's rings.
#[derive(Clone, Debug)]
pub struct Fitted {
    rings: Vec<(String, Grounds)>,
}

impl Fitted {
    /// Each ring's name, and on what grounds it has the claim that it has.
    pub fn rings(&self) -> impl Iterator<Item = (&str, &Grounds)> {
        self.rings.iter().map(|(name, grounds)| (name.as_str(), grounds))
    }
}

impl fmt::Display for Fitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, grounds)) in self.rings.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{name}: {} claims ({grounds})", grounds.claim())?;
        }
        Ok(())
    }
}
