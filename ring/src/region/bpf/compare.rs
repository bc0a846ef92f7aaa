//! A Rust type against a C type, field by field, as BTF describes it.

use libbpf_rs::btf::types::{Array, Composite, Enum, Enum64, Float, Int, MemberAttr, Ptr};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, HasSize};

use crate::record::Layout;

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
    layout: &Layout,
    c: BtfType<'btf>,
    at: &str,
) -> Result<(), Difference> {
    let c = c.skip_mods_and_typedefs();
    let different = |c: String| Err(Difference { field: at.to_owned(), rust: describe(layout), c });
    let said = || name_of(c);
    match *layout {
        Layout::Integer(bytes) => match integer(c) {
            Some(found) if found == bytes => Ok(()),
            _ => different(said()),
        },
        Layout::Float(bytes) => match Float::try_from(c) {
            Ok(float) if float.size() == bytes => Ok(()),
            _ => different(said()),
        },
        Layout::Array(of, count) => match Array::try_from(c) {
            Ok(array) if array.capacity() == count => {
                compare(btf, of, array.contained_type(), &format!("{at}[]"))
            }
            _ => different(said()),
        },
        Layout::Struct(bytes, fields) => {
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
                let Some(offset) = their.offset else {
                    return Err(Difference { field: path, rust, c: "a bit field".to_owned() });
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
    /// In bytes; none for a bit field.
    offset: Option<usize>,
    ty: BtfType<'btf>,
    /// One of several in the same place: a struct need not have them all.
    choice: bool,
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
        let offset = match member.attr {
            MemberAttr::Normal { offset } => Some(base + offset as usize / 8),
            MemberAttr::BitField { .. } => None,
        };
        match member.name.and_then(|name| name.to_str()).filter(|name| !name.is_empty()) {
            Some(name) => into.push(Theirs { name: name.to_owned(), offset, ty, choice }),
            None => {
                if let (Ok(inner), Some(offset)) = (Composite::try_from(ty.skip_mods_and_typedefs()), offset)
                {
                    flatten(btf, &inner, offset, choice, into);
                }
            }
        }
    }
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
fn describe(layout: &Layout) -> String {
    match layout {
        Layout::Integer(bytes) => format!("an integer of {bytes} bytes"),
        Layout::Float(bytes) => format!("a float of {bytes} bytes"),
        Layout::Array(of, count) => format!("{count} times {}", describe(of)),
        Layout::Struct(bytes, _) => format!("a struct of {bytes} bytes"),
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
