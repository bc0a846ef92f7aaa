//! Compares a Rust type with a C type, field by field, as BTF describes it.
//!
//! The comparison costs two system calls and a memfd when a region is opened, and nothing when it is read.

use mapring_core::text::printable;
use mapring_sys::btf::{Btf, DEPTH, Field, Kind, Type};
use rustix::io::Errno;

use super::describe::Types;
use crate::abi::Geometry;
use crate::error::{Cause, Error};
use crate::record::{self, Compared, Expected, LayoutCheck, TypeLayout, UncheckedReason, Variant};

/// A difference: the field, and its type on both sides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) rust: String,
    pub(crate) c: String,
}

/// The first difference between `layout` and the type `c`. `at` is the name of the compared value.
pub(crate) fn compare(layout: &TypeLayout, c: Type<'_>, at: &str) -> Result<(), Difference> {
    let mut c = c.resolved();
    if !matches!(layout, TypeLayout::Struct(..) | TypeLayout::Tagged(..)) {
        // A Rust type without fields has no field names either.
        c = std::iter::successors(Some(c), |c| only_field(*c)).take(DEPTH).last().unwrap_or(c);
    }
    let has = |bytes: usize| c.bytes() == Some(bytes as u64);
    let different = |c: String| Err(Difference { field: at.to_owned(), rust: describe(layout), c });
    match *layout {
        // The types themselves, and their replacements by libbpf for kernels without enums of 8 bytes (before 6.0) or
        // floats (before 5.13).
        TypeLayout::Integer(bytes) if has(bytes) && (is_integer(c) || is_enum64(c)) => Ok(()),
        TypeLayout::Float(bytes) if has(bytes) && (c.kind() == Kind::Float || is_placeholder(c)) => Ok(()),
        TypeLayout::Array(of, count) => match c.array() {
            Some((theirs, found)) if found == count => {
                compare(of, theirs, &format!("{at}[]"))?;
                if has(layout.bytes()) { Ok(()) } else { different(name_of(c)) }
            }
            _ => different(name_of(c)),
        },
        TypeLayout::Struct(_, fields) if matches!(c.kind(), Kind::Struct | Kind::Union) => {
            compare_fields(fields, c, at)?;
            if c.bytes().is_some_and(|c| layout.fits(c)) { Ok(()) } else { different(name_of(c)) }
        }
        TypeLayout::Tagged(_, variants) if c.kind() == Kind::Struct => {
            compare_variants(variants, c, at)?;
            if c.bytes().is_some_and(|c| layout.fits(c)) { Ok(()) } else { different(name_of(c)) }
        }
        _ => different(name_of(c)),
    }
}

/// The first difference between these fields and the fields of the struct or union `c`.
fn compare_fields(fields: &[record::Field], c: Type<'_>, at: &str) -> Result<(), Difference> {
    let mut theirs = c.fields_within(|field| field.name.is_empty());
    theirs.retain(|field| !field.name.is_empty());
    for field in fields.iter().filter(|field| !field.name.starts_with('_')) {
        let path = format!("{at}.{}", field.name);
        let rust = format!("{} at byte {}", describe(&field.layout), field.offset);
        let differs = |c: String| Err(Difference { field: path.clone(), rust, c });
        let Some(their) = theirs.iter().find(|their| their.name == field.name.as_bytes()) else {
            return differs("no such field".to_owned());
        };
        if their.bits > 0 {
            return differs(format!("a bit field of {} bits at bit {}", their.bits, their.from));
        }
        if their.from / 8 != field.offset {
            return differs(format!("{} at byte {}", name_of(their.ty.resolved()), their.from / 8));
        }
        compare(&field.layout, their.ty, &path)?;
    }
    let is_ours = |their: &Field<'_>| fields.iter().any(|field| field.name.as_bytes() == their.name);
    match theirs.iter().find(|their| !their.choice && !their.name.starts_with(b"_") && !is_ours(their)) {
        None => Ok(()),
        Some(their) => Err(Difference {
            field: format!("{at}.{}", String::from_utf8_lossy(their.name)),
            rust: "no such field".to_owned(),
            c: name_of(their.ty.resolved()),
        }),
    }
}

/// The field of this many 0-byte arrays that carries the tag of the variant after its name: `MAPRING_VARIANT`.
const TAG: &[u8] = b"mapring_tag__";

/// The first difference between these variants and those of the tagged record `c`, which may have more.
fn compare_variants(variants: &[Variant], c: Type<'_>, at: &str) -> Result<(), Difference> {
    let differs = |field: &str, rust: &str, c: String| {
        Err(Difference { field: format!("{at}.{field}"), rust: rust.to_owned(), c })
    };
    let theirs = c.fields_within(|field| field.name.is_empty());
    let tag = "an integer of 8 bytes at byte 0, before a union of the variants";
    match c.field("tag") {
        Some(field) if (field.from, field.bits, field.ty.bytes()) == (0, 0, Some(8)) => {}
        Some(field) => {
            return differs("tag", tag, format!("{} at byte {}", name_of(field.ty), field.from / 8));
        }
        None => return differs("tag", tag, "no such field".to_owned()),
    }
    for variant in variants {
        let rust = format!("{} (tag {})", variant.name, variant.tag);
        let tagged = theirs.iter().find_map(|field| {
            let name = field.name.strip_prefix(TAG)?;
            let (_, tag) = field.ty.array()?.0.array()?;
            (tag as u64 == variant.tag).then_some(name)
        });
        let Some(name) = tagged else {
            return differs(&format!("tag {}", variant.tag), variant.name, "no such variant".to_owned());
        };
        let shown = String::from_utf8_lossy(name);
        if !same_name(variant.name.as_bytes(), name) {
            return differs(&format!("tag {}", variant.tag), variant.name, format!("variant {shown}"));
        }
        let Some(their) = theirs.iter().find(|field| field.name == name && field.choice && field.bits == 0)
        else {
            return differs(&shown, &rust, "no such field".to_owned());
        };
        if their.from != 64 {
            return differs(&shown, &format!("{rust} at byte 8"), format!("at byte {}", their.from / 8));
        }
        compare(&variant.layout, their.ty, &format!("{at}.{shown}"))?;
    }
    let known = |field: &&Field<'_>| field.choice || field.name.is_empty() || field.name == b"tag";
    match theirs.iter().find(|field| !known(field)) {
        None => Ok(()),
        Some(field) => {
            differs(&String::from_utf8_lossy(field.name), "no such field", name_of(field.ty.resolved()))
        }
    }
}

/// Whether the names are equal without underscores and capitals: `TaskExit` and `task_exit`.
fn same_name(rust: &[u8], c: &[u8]) -> bool {
    let letters =
        |name: &[u8]| name.iter().filter(|&&c| c != b'_').map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    letters(rust) == letters(c)
}

/// The only field of a struct, if it has the same size as the struct.
fn only_field(c: Type<'_>) -> Option<Type<'_>> {
    let mut fields = c.fields();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let ty = field.ty.resolved();
    (c.kind() == Kind::Struct && (field.from, field.bits) == (0, 0) && ty.bytes() == c.bytes()).then_some(ty)
}

/// Whether this is the empty struct with which libbpf replaces a float.
fn is_placeholder(c: Type<'_>) -> bool {
    c.kind() == Kind::Struct && c.name().is_empty() && c.fields().next().is_none()
}

/// Whether this is the union with which libbpf replaces an enum of 8 bytes.
fn is_enum64(c: Type<'_>) -> bool {
    c.kind() == Kind::Union && c.fields().next().is_some_and(|field| field.ty.name() == b"enum64_placeholder")
}

/// Whether values of this type are whole numbers in memory.
fn is_integer(c: Type<'_>) -> bool {
    matches!(c.kind(), Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr)
}

/// The Rust type in words.
fn describe(layout: &TypeLayout) -> String {
    match layout {
        TypeLayout::Integer(bytes) => format!("an integer of {bytes} bytes"),
        TypeLayout::Float(bytes) => format!("a float of {bytes} bytes"),
        TypeLayout::Array(of, count) => format!("{count} times {}", describe(of)),
        TypeLayout::Struct(bytes, _) => format!("a struct of {bytes} bytes"),
        TypeLayout::Tagged(bytes, _) => format!("a tagged record of {bytes} bytes"),
    }
}

/// The C type in words.
pub(crate) fn name_of(c: Type<'_>) -> String {
    let (mut c, mut text) = (c, String::new());
    for _ in 0..DEPTH {
        let Some((of, count)) = c.array() else { break };
        text += &format!("{count} times ");
        c = of.resolved();
    }
    let bytes = c.bytes().map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
    let name = String::from_utf8_lossy(c.name());
    text += &match c.kind() {
        Kind::Int | Kind::Float => name.into_owned(),
        Kind::Ptr => "a pointer".to_owned(),
        Kind::Enum64 => format!("enum {name}"),
        kind => format!("{} {name}", format!("{kind:?}").to_lowercase()),
    };
    text.trim_end().to_owned() + &bytes
}

/// Compares the expected type with the records in a map's BTF, if it is available.
pub(crate) fn compare_record(
    types: &Types,
    geometry: &Geometry,
    what: &str,
    expected: Option<&Expected>,
) -> Result<Compared, Error> {
    let Some(expected) = expected else {
        return Ok(Compared::new(None, None, LayoutCheck::Size(UncheckedReason::NotAsked)));
    };
    let found = geometry.kind();
    if let Some(kind) = expected.kind.filter(|&kind| kind != found) {
        return Err(Error::from(Cause::Kind { what: what.to_owned(), found, expected: kind }));
    }
    let record = |btf| {
        let record = types.record(btf)?;
        // Behind the place of its tail.
        if geometry.tails().is_some() { Some(record.field("record")?.ty) } else { Some(record) }
    };
    let check = compare_with(types, record, what, expected)?;
    Ok(Compared::new(Some(expected), Some(expected.id), check))
}

/// Why this process has no types of a map.
pub(crate) fn no_types(e: &std::io::Error) -> UncheckedReason {
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        // The kernel keeps the types of a map as long as the map.
        Some(Errno::NOENT) => UncheckedReason::NoBtf,
        Some(Errno::PERM) => UncheckedReason::NotAllowed,
        errno => UncheckedReason::Errno(errno.map_or(0, Errno::raw_os_error)),
    }
}

/// Compares the expected type with the C type that `find` returns, if there is one.
pub(crate) fn compare_with<'t>(
    types: &'t Types,
    find: impl FnOnce(&'t Btf) -> Option<Type<'t>>,
    what: &str,
    expected: &Expected,
) -> Result<LayoutCheck, Error> {
    let not = |why| Ok(LayoutCheck::Size(why));
    let btf = match types.btf() {
        Ok(btf) => btf,
        Err(e) => return not(no_types(e)),
    };
    let Some(record) = find(btf) else { return not(UncheckedReason::NotDescribed) };
    let name = String::from_utf8_lossy(record.first_name().unwrap_or(b"record"));
    compare(&expected.layout, record, &name)
        .map_err(|different| different.error(format!("{what} ({})", expected.rust)))?;
    Ok(LayoutCheck::Fields)
}

impl Difference {
    /// Converts it to an error about `what`.
    pub(crate) fn error(self, what: String) -> Error {
        Error::from(Cause::Layout {
            what,
            field: printable(&self.field),
            rust: self.rust,
            c: printable(&self.c),
        })
    }
}
