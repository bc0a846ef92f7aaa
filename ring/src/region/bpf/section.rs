//! The global data of a BPF object: one map a section, with its variables in BTF.

use std::io;
use std::os::fd::AsFd;

use libbpf_rs::MapType;
use libbpf_rs::btf::types::{DataSec, Struct, Var};
use libbpf_rs::btf::{Btf, BtfType, HasSize, ReferencesType, TypeId};
use parking_lot::Mutex;

use self::types::Types;
use super::compare::{compare, name_of};
use super::{Lookup, MapFd, describe, owned, refusal};
use crate::error::{Error, Result};
use crate::layout::WORD;
use crate::record::TypeLayout;
use crate::region::{Access, Identity, Mapping, OpenOptions, Refusal};
use crate::text::printable;

/// An open section.
pub(crate) struct Section {
    pub(crate) what: String,
    pub(crate) identity: Identity,
    pub(crate) name: String,
    /// Bytes of all variables together.
    pub(crate) bytes: usize,
    pub(crate) memory: Result<Mapping, (Lookup, Refusal)>,
    pub(crate) writable: Result<(), Refusal>,
    /// The variables, with their types.
    places: Vec<Place>,
    btf: Mutex<Types>,
}

/// A variable in a section.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) offset: usize,
    ty: TypeId,
}

impl Section {
    pub(crate) fn new(opened: MapFd, options: OpenOptions) -> Result<Self> {
        const EXPECTED: &str = "global data (.data, .bss, .rodata)";
        opened.expect(MapType::Array, EXPECTED)?;
        let MapFd { fd, info, what } = opened;
        let btf =
            describe::kernel::btf(info.info.btf_id).map_err(|_| Error::NoTypes { what: what.clone() })?;
        let bytes = info.info.value_size as usize;
        let Some((name, places)) = places(&btf, info.info.btf_value_type_id.into(), bytes) else {
            let found = "an array without variables in its BTF".to_owned();
            return Err(Error::MapType {
                what,
                found,
                expected: EXPECTED,
                hint: "; Array reads plain values",
            });
        };
        let mut writable = Err(Refusal::NotAsked);
        let mut mapping = None;
        if options.write {
            match Mapping::new(fd.as_fd(), bytes.next_multiple_of(WORD), true) {
                Ok(mapped) => (mapping, writable) = (Some(mapped), Ok(())),
                Err(e) => writable = Err(refusal(&e, &info, fd.as_fd(), true)),
            }
        }
        let read_only = || Mapping::new(fd.as_fd(), bytes.next_multiple_of(WORD), false);
        let memory = match mapping.map_or_else(read_only, Ok) {
            Ok(mapping) => Ok(mapping),
            Err(e) => {
                let refusal = refusal(&e, &info, fd.as_fd(), false);
                Err((Lookup::new(owned(fd.as_fd())?, bytes, 1), refusal))
            }
        };
        if options.write && writable.is_ok() && memory.is_err() {
            writable = Err(Refusal::NotAsked);
        }
        let identity = Identity::Map(info.info.id);
        Ok(Self { what, identity, name, bytes, memory, writable, places, btf: Mutex::new(Types::new(btf)) })
    }

    pub(crate) fn access(&self) -> Access {
        match &self.memory {
            Ok(_) => Access::Mapped,
            Err((_, refusal)) => Access::Syscall(*refusal),
        }
    }

    /// All variables that have a name.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    /// The variable of this name.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        self.places.iter().find(|place| place.name == name).cloned().ok_or_else(|| {
            let there = self.places.iter().map(|place| place.name.as_str()).collect::<Vec<_>>().join(", ");
            let name = printable(&format!("{name} in {}", self.name));
            Error::NoSuch { thing: "variable", name, there: printable(&there) }
        })
    }

    /// Checks a variable's type.
    pub(crate) fn check(&self, place: &Place, layout: &TypeLayout, rust: &'static str) -> Result<()> {
        let btf = self.btf.lock();
        let ty = self.type_of(&btf, place)?;
        self.same(&btf, ty, layout, rust, &place.name)
    }

    /// Checks that a variable is a sequence word and `copies` of such values, the first of which is
    /// called `record`.
    pub(crate) fn check_guarded(
        &self,
        place: &Place,
        layout: &TypeLayout,
        copies: usize,
        rust: &'static str,
    ) -> Result<()> {
        let btf = self.btf.lock();
        let ty = self.type_of(&btf, place)?.skip_mods_and_typedefs();
        let differs = || Error::Layout {
            what: self.what.clone(),
            field: printable(&place.name),
            rust: format!("a sequence and {copies} times {} bytes", layout.bytes()),
            c: printable(&name_of(ty)),
        };
        let value = Struct::try_from(ty).map_err(|_| differs())?;
        let record = describe::record_type(&btf, value.type_id()).ok_or_else(differs)?;
        let wanted = WORD + copies * layout.bytes().next_multiple_of(WORD);
        if value.size() < wanted || !place.offset.is_multiple_of(WORD) {
            return Err(differs());
        }
        self.same(&btf, record, layout, rust, &place.name)
    }

    fn type_of<'btf>(&self, btf: &'btf Btf<'_>, place: &Place) -> Result<BtfType<'btf>> {
        btf.type_by_id(place.ty).ok_or_else(|| Error::NoTypes { what: self.what.clone() })
    }

    fn same<'btf>(
        &self,
        btf: &'btf Btf<'_>,
        ty: BtfType<'btf>,
        layout: &TypeLayout,
        rust: &'static str,
        at: &str,
    ) -> Result<()> {
        compare(btf, layout, ty, at).map_err(|difference| Error::Layout {
            what: format!("{} ({rust})", self.what),
            field: printable(&difference.field),
            rust: difference.rust,
            c: printable(&difference.c),
        })
    }
}

/// The name of the section that a map holds; empty, if it holds none.
pub(crate) fn section_name(map: &MapFd) -> Result<String> {
    let btf =
        describe::kernel::btf(map.info.info.btf_id).map_err(|_| Error::NoTypes { what: map.what.clone() })?;
    let section = places(&btf, map.info.info.btf_value_type_id.into(), 0);
    Ok(section.map(|(name, _)| name).unwrap_or_default())
}

/// The name of a section, and its variables that lie within its `bytes`.
fn places(btf: &Btf<'_>, section: TypeId, bytes: usize) -> Option<(String, Vec<Place>)> {
    let section: DataSec<'_> = btf.type_by_id(section)?;
    let place = |at| {
        let info = section.get(at)?;
        let var: Var<'_> = btf.type_by_id(info.ty)?;
        let name = var.name()?.to_str()?.to_owned();
        Some((info.size, Place { name, offset: info.offset as usize, ty: var.referenced_type().type_id() }))
    };
    let places = (0..section.len())
        .filter_map(place)
        .filter(|(size, place)| place.offset + size <= bytes)
        .map(|(_, place)| place)
        .collect();
    Some((section.name()?.to_string_lossy().into_owned(), places))
}

/// Three copies of a section, as lookups found them one after the other.
pub(crate) fn look(lookup: &Lookup, bytes: usize) -> io::Result<[Vec<u64>; 3]> {
    let mut looks: [Vec<u64>; 3] = std::array::from_fn(|_| vec![0; bytes.div_ceil(WORD)]);
    looks.iter_mut().try_for_each(|look| lookup.run(0, 1, look))?;
    Ok(looks)
}

/// Types that may move from thread to thread.
mod types {
    #![allow(unsafe_code)]

    use std::ops::Deref;

    use libbpf_rs::btf::Btf;

    pub(super) struct Types(Btf<'static>);

    // SAFETY: the object behind the pointer is this one's alone, on the heap, and libbpf keeps nothing
    // of it with a thread. (It is not `Sync`, and looked at by one thread at a time.)
    unsafe impl Send for Types {}

    impl Types {
        pub(super) fn new(btf: Btf<'static>) -> Self {
            Self(btf)
        }
    }

    impl Deref for Types {
        type Target = Btf<'static>;

        fn deref(&self) -> &Btf<'static> {
            &self.0
        }
    }
}
