//! Compares the records of a map with those that another object declares, type by type: both are C, and BTF describes
//! them.

use std::collections::HashSet;

use mapring_sys::btf::{DEPTH, Field, Kind, Type};

use super::compare::name_of;

/// A difference: its place, and what is there on both sides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unlike {
    pub(crate) at: String,
    pub(crate) found: String,
    pub(crate) declared: String,
}

/// The first difference that changes what the bytes of a record mean. Names of types and what pointers point to do not
/// count. The declared enums may have more constants than those that were found.
pub(crate) fn unlike(found: Type<'_>, declared: Type<'_>) -> Option<Unlike> {
    let name = String::from_utf8_lossy(declared.first_name().unwrap_or(b"record")).into_owned();
    Comparison::default().compare(found, declared, &name, DEPTH).err()
}

/// The structs that were compared already: a few types can nest so that they have billions of fields.
#[derive(Default)]
struct Comparison(HashSet<(u32, u32)>);

impl Comparison {
    fn compare(&mut self, found: Type<'_>, declared: Type<'_>, at: &str, depth: usize) -> Result<(), Unlike> {
        let (found, declared) = (found.resolved(), declared.resolved());
        let differ = |found, declared| Err(Unlike { at: at.to_owned(), found, declared });
        let Some(depth) = depth.checked_sub(1) else { return differ(name_of(found), name_of(declared)) };
        let head = |ty: Type<'_>| (ty.kind(), ty.bytes(), ty.encoding(), ty.array().map(|(_, count)| count));
        if head(found) != head(declared) {
            return differ(described(found), described(declared));
        }
        match found.kind() {
            Kind::Array => {
                let elements = found.array().zip(declared.array());
                elements.map_or(Ok(()), |((one, _), (other, _))| {
                    self.compare(one, other, &format!("{at}[]"), depth)
                })
            }
            Kind::Struct | Kind::Union if self.0.insert((found.id, declared.id)) => {
                let (mut ours, mut theirs) = (declared.fields(), found.fields());
                loop {
                    let (field, other) = match (theirs.next(), ours.next()) {
                        (None, None) => return Ok(()),
                        (Some(field), Some(other)) if place(&field) == place(&other) => (field, other),
                        (field, other) => return differ(shown(field), shown(other)),
                    };
                    let path = format!("{at}.{}", String::from_utf8_lossy(field.name));
                    self.compare(field.ty, other.ty, &path, depth)?;
                }
            }
            Kind::Enum | Kind::Enum64 => {
                let known: HashSet<_> = declared.constants().collect();
                let missing = found.constants().find(|constant| !known.contains(constant));
                missing.map_or(Ok(()), |(name, value)| {
                    let now = declared.constants().find(|(other, _)| *other == name);
                    let number =
                        |value: u64| format!("{} = {}", String::from_utf8_lossy(name), value.cast_signed());
                    let none = || format!("no {}", String::from_utf8_lossy(name));
                    differ(number(value), now.map_or_else(none, |(_, value)| number(value)))
                })
            }
            _ => Ok(()),
        }
    }
}

fn place<'btf>(field: &Field<'btf>) -> (&'btf [u8], usize, u32) {
    (field.name, field.from, field.bits)
}

/// A field in words.
fn shown(field: Option<Field<'_>>) -> String {
    let Some(Field { name, from, bits, .. }) = field else { return "no more fields".to_owned() };
    let name = if name.is_empty() { "a field without a name".into() } else { String::from_utf8_lossy(name) };
    match bits {
        0 if from.is_multiple_of(8) => format!("{name} at byte {}", from / 8),
        0 => format!("{name} at bit {from}"),
        _ => format!("{name}, {bits} bits at bit {from}"),
    }
}

/// A type in words, with what its name may not say.
fn described(ty: Type<'_>) -> String {
    let sign = match ty.kind() {
        Kind::Int if ty.encoding() & 1 == 1 => "signed ",
        Kind::Int if !ty.name().starts_with(b"unsigned") => "unsigned ",
        _ => "",
    };
    format!("{sign}{}", name_of(ty))
}
