//! A Rust type against a C type, field by field, as BTF describes it.

use libbpf_rs::btf::types::{Array, Composite, Enum, Enum64, Float, Int, MemberAttr, Ptr, Struct, Union};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, HasSize};

use crate::record::TypeLayout;

/// Where they differ: the field, and what both sides say of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) field: String,
    pub(super) rust: String,
    pub(super) c: String,
}

/// The first difference between `layout` and the type `c`; `at` names what is compared.
pub(super) fn compare<'btf>(
    btf: &'btf Btf<'_>,
    layout: &TypeLayout,
    c: BtfType<'btf>,
    at: &str,
) -> Result<(), Difference> {
    let mut c = c.skip_mods_and_typedefs();
    if !matches!(layout, TypeLayout::Struct(..)) {
        // Whoever has no fields has no names for them, either.
        while let Some(only) = only_field(btf, c) {
            c = only;
        }
    }
    let different = |c: String| Err(Difference { field: at.to_owned(), rust: describe(layout), c });
    let said = || name_of(c);
    match *layout {
        TypeLayout::Integer(bytes) => match integer(c) {
            Some(found) if found == bytes => Ok(()),
            // What libbpf makes of an enum of 8 bytes for kernels before 6.0.
            _ if is_enum64(btf, c, bytes) => Ok(()),
            _ => different(said()),
        },
        TypeLayout::Float(bytes) => match Float::try_from(c) {
            Ok(float) if float.size() == bytes => Ok(()),
            // What libbpf makes of it for kernels before 5.13.
            _ if is_placeholder(c, bytes) => Ok(()),
            _ => different(said()),
        },
        TypeLayout::Array(of, count) => match Array::try_from(c) {
            Ok(array) if array.capacity() == count => {
                compare(btf, of, array.contained_type(), &format!("{at}[]"))
            }
            _ => different(said()),
        },
        TypeLayout::Struct(bytes, fields) => {
            let Ok(composite) = Composite::try_from(c) else { return different(said()) };
            let mut theirs = Vec::new();
            flatten(btf, &composite, 0, false, &mut theirs);
            for field in fields.iter().filter(|field| !field.name.starts_with('_')) {
                let path = format!("{at}.{}", field.name);
                let side = |what: &str, offset: usize| format!("{what} at byte {offset}");
                let rust = side(&describe(&field.layout), field.offset);
                let Some(their) = theirs.iter().find(|their| their.name == field.name) else {
                    return Err(Difference { field: path, rust, c: "no such field".to_owned() });
                };
                let offset = match their.place {
                    Place::Byte(offset) => offset,
                    Place::Bits { from, bits } => {
                        let c = format!("a bit field of {bits} bits at bit {from}");
                        return Err(Difference { field: path, rust, c });
                    }
                };
                if offset != field.offset {
                    let c = side(&name_of(their.ty.skip_mods_and_typedefs()), offset);
                    return Err(Difference { field: path, rust, c });
                }
                compare(btf, &field.layout, their.ty, &path)?;
            }
            let ours = |name: &str| fields.iter().any(|field| field.name == name);
            for their in theirs.iter().filter(|their| !their.choice && !their.name.starts_with('_')) {
                if !ours(&their.name) {
                    let field = format!("{at}.{}", their.name);
                    let c = name_of(their.ty.skip_mods_and_typedefs());
                    return Err(Difference { field, rust: "no such field".to_owned(), c });
                }
            }
            if composite.size() == bytes { Ok(()) } else { different(said()) }
        }
    }
}

/// A named field of a C struct.
struct Theirs<'btf> {
    name: String,
    place: Place,
    ty: BtfType<'btf>,
    /// One of several in the same place: a struct need not have them all.
    choice: bool,
}

enum Place {
    Byte(usize),
    /// Counted from the start of the struct.
    Bits {
        from: usize,
        bits: u8,
    },
}

/// The only field of a struct that has no more bytes than it.
fn only_field<'btf>(btf: &'btf Btf<'_>, c: BtfType<'btf>) -> Option<BtfType<'btf>> {
    let c = Struct::try_from(c).ok().filter(|c| c.len() == 1)?;
    let field = c.get(0).filter(|field| matches!(field.attr, MemberAttr::Normal { offset: 0 }))?;
    let ty = btf.type_by_id::<BtfType<'_>>(field.ty)?.skip_mods_and_typedefs();
    (super::describe::size_of(ty) == Some(c.size() as u64)).then_some(ty)
}

/// The fields of a struct or union, those of nameless ones within it included.
fn flatten<'btf>(
    btf: &'btf Btf<'_>,
    of: &Composite<'btf>,
    base: usize,
    choice: bool,
    into: &mut Vec<Theirs<'btf>>,
) {
    let choice = choice || of.kind() == BtfKind::Union;
    for member in (0..of.len()).filter_map(|at| of.get(at)) {
        let Some(ty) = btf.type_by_id::<BtfType<'_>>(member.ty) else { continue };
        let place = match member.attr {
            MemberAttr::Normal { offset } => Place::Byte(base + offset as usize / 8),
            MemberAttr::BitField { size, offset } => {
                Place::Bits { from: base * 8 + offset as usize, bits: size }
            }
        };
        match member.name.and_then(|name| name.to_str()).filter(|name| !name.is_empty()) {
            Some(name) => into.push(Theirs { name: name.to_owned(), place, ty, choice }),
            None => {
                if let (Ok(inner), Place::Byte(offset)) =
                    (Composite::try_from(ty.skip_mods_and_typedefs()), place)
                {
                    flatten(btf, &inner, offset, choice, into);
                }
            }
        }
    }
}

/// Whether this is the empty struct, so large, that libbpf has in place of a float for kernels that know none.
fn is_placeholder(c: BtfType<'_>, bytes: usize) -> bool {
    Struct::try_from(c)
        .is_ok_and(|c| c.name().is_none_or(|name| name.is_empty()) && c.is_empty() && c.size() == bytes)
}

/// Whether this is the union, so large, that libbpf has in place of an enum for kernels that know none.
fn is_enum64(btf: &Btf<'_>, c: BtfType<'_>, bytes: usize) -> bool {
    let Ok(union) = Union::try_from(c) else { return false };
    let constant = union.get(0).and_then(|member| btf.type_by_id::<BtfType<'_>>(member.ty));
    union.size() == bytes && constant.is_some_and(|ty| ty.name().is_some_and(|n| n == "enum64_placeholder"))
}

/// Bytes of what is a whole number in memory.
fn integer(c: BtfType<'_>) -> Option<usize> {
    Int::try_from(c)
        .map(|t| t.size())
        .or_else(|_| Enum::try_from(c).map(|t| t.size()))
        .or_else(|_| Enum64::try_from(c).map(|t| t.size()))
        .or_else(|_| Ptr::try_from(c).map(|_| size_of::<usize>()))
        .ok()
}

/// What Rust has, in words.
fn describe(layout: &TypeLayout) -> String {
    match layout {
        TypeLayout::Integer(bytes) => format!("an integer of {bytes} bytes"),
        TypeLayout::Float(bytes) => format!("a float of {bytes} bytes"),
        TypeLayout::Array(of, count) => format!("{count} times {}", describe(of)),
        TypeLayout::Struct(bytes, _) => format!("a struct of {bytes} bytes"),
    }
}

/// What C has, in words.
pub(super) fn name_of(c: BtfType<'_>) -> String {
    if let Ok(array) = Array::try_from(c) {
        return format!(
            "{} times {}",
            array.capacity(),
            name_of(array.contained_type().skip_mods_and_typedefs())
        );
    }
    let name = c.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = super::describe::size_of(c).map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
    let kind = format!("{:?}", c.kind()).to_lowercase();
    format!("{kind} {name}{bytes}")
}
