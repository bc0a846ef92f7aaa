//! The global data of a BPF object: one map per section, with its variables in BTF.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use mapring_core::text::printable;
use mapring_sys::btf::{Btf, Kind, Type, Variable};
use mapring_sys::kinds::MapType;

use super::map_or_lookup;
use crate::abi::WORD;
use crate::access::{Access, Refusal};
use crate::bpf::compare::{compare, name_of};
use crate::bpf::{Lookup, MapFd, describe};
use crate::error::{Cause, Error, Result};
use crate::record::TypeLayout;
use crate::region::{Identity, Memory, OpenOptions, Source};

/// An open section.
pub(crate) struct Section {
    pub(crate) what: String,
    pub(crate) identity: Identity,
    pub(crate) name: String,
    /// The size of all variables together, in bytes.
    pub(crate) bytes: usize,
    pub(crate) memory: Memory,
    pub(crate) writable: Result<(), Refusal>,
    /// The variables, with their types.
    globals: Vec<Global>,
    btf: Arc<Btf>,
}

/// A variable in a section.
#[derive(Clone, Debug)]
pub(crate) struct Global {
    pub(crate) name: String,
    pub(crate) offset: usize,
    ty: u32,
}

impl Section {
    pub(crate) fn new(opened: MapFd, options: OpenOptions) -> Result<Self> {
        const EXPECTED: &str = "global data (.data, .bss, .rodata)";
        opened.expect(MapType::ARRAY, EXPECTED)?;
        let btf = types_of(&opened)?;
        let MapFd { fd, info, what, .. } = opened;
        let bytes = info.value_size as usize;
        let Some((name, globals)) = globals(&btf, info.value_type, bytes) else {
            let found = "an array without variables in its BTF".to_owned();
            return Err(Error::from(Cause::MapType {
                what,
                found,
                expected: EXPECTED,
                hint: "; Array reads plain values",
            }));
        };
        let (memory, writable) = map_or_lookup(fd.as_fd(), &info, &what, options.write)?;
        Ok(Self { what, identity: Identity::Map(info.id), name, bytes, memory, writable, globals, btf })
    }

    pub(crate) fn access(&self) -> Access {
        self.memory.access()
    }

    /// All variables that have a name.
    pub(crate) fn globals(&self) -> Vec<Global> {
        self.globals.clone()
    }

    /// The variable with this name.
    pub(crate) fn global(&self, name: &str) -> Result<Global> {
        self.globals.iter().find(|global| global.name == name).cloned().ok_or_else(|| {
            let there = self.globals.iter().map(|global| global.name.as_str()).collect::<Vec<_>>().join(", ");
            let name = printable(&format!("{name} in {}", self.name));
            Error::from(Cause::NoSuch { thing: "variable", name, there: printable(&there) })
        })
    }

    /// Checks a variable's type.
    pub(crate) fn check(&self, global: &Global, layout: &TypeLayout, rust: &'static str) -> Result<()> {
        self.same(self.type_of(global)?, layout, rust, &global.name)
    }

    /// Checks that a variable consists of a sequence word and `copies` values of this layout, the first of which is
    /// named `record`.
    pub(crate) fn check_guarded(
        &self,
        global: &Global,
        layout: &TypeLayout,
        copies: usize,
        rust: &'static str,
    ) -> Result<()> {
        let (record, _) = self.guarded(global, copies, Some(layout.bytes()))?;
        self.same(record, layout, rust, &global.name)
    }

    /// The words of a variable that consists of a sequence word and `copies` values of any type of up to `most` bytes.
    pub(crate) fn any_guarded(&self, global: &Global, copies: usize, most: usize) -> Result<usize> {
        let (_, bytes) = self.guarded(global, copies, None)?;
        if bytes > most {
            return Err(self.not_guarded(global, copies, Some(most)));
        }
        Ok(1 + copies * bytes.div_ceil(WORD))
    }

    /// The type of the values, and their bytes, if the variable has room for them: as many as expected, or as the type has.
    fn guarded(&self, global: &Global, copies: usize, expected: Option<usize>) -> Result<(Type<'_>, usize)> {
        let value = self.type_of(global)?.resolved();
        let differs = || self.not_guarded(global, copies, expected);
        let record = describe::record_type(value).ok_or_else(differs)?;
        let declared = record.bytes().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = expected.or(declared).ok_or_else(differs)?;
        let wanted = bytes.div_ceil(WORD).checked_mul(copies * WORD).and_then(|all| all.checked_add(WORD));
        if wanted.is_none_or(|wanted| value.bytes() < Some(wanted as u64))
            || !global.offset.is_multiple_of(WORD)
        {
            return Err(differs());
        }
        Ok((record, bytes))
    }

    fn not_guarded(&self, global: &Global, copies: usize, bytes: Option<usize>) -> Error {
        let values = bytes.map_or("a value".to_owned(), |bytes| format!("{bytes} bytes"));
        let found = self.type_of(global).map(|value| name_of(value.resolved()));
        Error::from(Cause::Layout {
            what: self.what.clone(),
            field: printable(&global.name),
            rust: format!("a sequence and {copies} times {values}"),
            c: printable(&found.unwrap_or_default()),
        })
    }

    fn type_of(&self, global: &Global) -> Result<Type<'_>> {
        self.btf.get(global.ty).ok_or_else(|| Error::from(Cause::NoTypes { what: self.what.clone() }))
    }

    fn same(&self, ty: Type<'_>, layout: &TypeLayout, rust: &'static str, at: &str) -> Result<()> {
        compare(layout, ty, at).map_err(|difference| difference.error(format!("{} ({rust})", self.what)))
    }
}

/// The name of the section of global data that a map holds, from its types; empty if it holds none. Makes system calls. Needs
/// CAP_SYS_ADMIN, unless the source has its [object](Source::loaded).
///
/// # Errors
/// [`ErrorKind::Layout`](crate::ErrorKind::Layout) without types; as for opening the map.
pub fn section_name(map: impl Into<Source>) -> Result<String> {
    let map = map.into().map()?.0;
    let section = globals(&*types_of(&map)?, map.info.value_type, 0);
    Ok(section.map(|(name, _)| name).unwrap_or_default())
}

fn types_of(map: &MapFd) -> Result<Arc<Btf>> {
    map.types().into_btf().map_err(|_| Error::from(Cause::NoTypes { what: map.what.clone() }))
}

/// The name of a section, and its variables that lie within its `bytes`.
fn globals(btf: &Btf, section: u32, bytes: usize) -> Option<(String, Vec<Global>)> {
    let section = btf.get(section).filter(|section| section.kind() == Kind::DataSec)?;
    let name = |name: &[u8]| Some(str::from_utf8(name).ok().filter(|name| !name.is_empty())?.to_owned());
    let within = section.variables().filter(|var| var.offset.saturating_add(var.size) <= bytes);
    let global =
        |var: Variable<'_>| Some(Global { name: name(var.name)?, offset: var.offset, ty: var.ty.id });
    Some((name(section.name())?, within.filter_map(global).collect()))
}

/// Three copies of a section, by three lookups in a row.
pub(crate) fn three_lookups(lookup: &Lookup, bytes: usize) -> io::Result<[Vec<u64>; 3]> {
    let mut copies: [Vec<u64>; 3] = std::array::from_fn(|_| vec![0; bytes.div_ceil(WORD)]);
    copies.iter_mut().try_for_each(|copy| lookup.run(0, 1, copy))?;
    Ok(copies)
}
