//! Values of programs and their BTF types, for people, as JSON, and part by part.

mod chars;
mod decode;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use mapring_kit::text::printable;
use mapring_sys::btf::{Btf, Field, Kind, Type};

pub use self::chars::Chars;
pub(crate) use self::decode::{bytes_of, is_shown};
pub use self::decode::{decode, decode_within};

/// The name of a value without fields.
pub(crate) const VALUE: &str = "value";

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A char array, or a tail.
    Text(Chars),
    /// A constant of an enum, and its number.
    Name(String, i128),
    /// A number of an enum without a constant.
    Code(i128),
    /// An address.
    Pointer(u64),
    /// The fields of a struct, by name.
    Struct(Vec<(String, Value)>),
    /// The elements of an array.
    List(Vec<Value>),
    /// Bytes without a type, or of a type that has no other form.
    Bytes(Vec<u8>),
    /// Not shown: the bytes end before it, or there was too much before it.
    Cut,
}

/// The type of the records in the values of a region: what the macros of the BPF headers declare.
pub(crate) fn record_type(btf: &Btf, value: u32) -> Option<Type<'_>> {
    let value = btf.get(value).filter(|value| value.kind() == Kind::Struct)?;
    // In a ring with tails, a value is a whole shard.
    let slot = value.field("slot").and_then(|slots| slots.ty.array()).map(|(slot, _)| slot);
    Some(slot.filter(|slot| slot.kind() == Kind::Struct).unwrap_or(value).field("record")?.ty)
}

/// The type of the records or values of a map whose values have the type `value`.
pub(crate) fn described(btf: &Btf, value: u32, has_records: bool, has_tails: bool) -> Option<Type<'_>> {
    if !has_records {
        return btf.get(value).filter(|ty| ty.id != 0);
    }
    let record = record_type(btf, value);
    // A record with a tail is in a struct with the place of the tail.
    if has_tails { record.and_then(|record| Some(record.field("record")?.ty)) } else { record }
}

/// A type's name as in C, escaped.
pub(crate) fn type_name(ty: Type<'_>) -> String {
    let prefix = match ty.kind() {
        Kind::Struct => "struct ",
        Kind::Union => "union ",
        Kind::Enum | Kind::Enum64 => "enum ",
        _ => "",
    };
    if ty.resolved().kind() == Kind::Ptr {
        let named = |ty: &Type<'_>| !matches!(ty.kind(), Kind::Ptr | Kind::FuncProto);
        let of = ty.resolved().target().map(Type::resolved).filter(named);
        return of.map_or_else(
            || "a pointer".to_owned(),
            |of| match of.kind() {
                Kind::Void => "void *".to_owned(),
                _ => format!("{} *", type_name(of)),
            },
        );
    }
    if let Some((of, count)) = ty.array() {
        return format!("{}[{count}]", of.first_name().map(text).unwrap_or_default());
    }
    match ty.first_name() {
        Some(name) => format!("{prefix}{}", text(name)),
        None => format!("{prefix}(no name)"),
    }
}

/// The names and the offsets in bytes of the fields that may be the time at which a record was made, the likeliest first; or
/// of the field `wanted`. In a record of several types, each of them must have it at the same offset.
pub(crate) fn stamps(ty: Type<'_>, wanted: Option<&str>) -> Vec<(String, usize)> {
    let fields = ty.fields_within(|field| field.name.is_empty());
    let own = own_stamps(&fields, wanted);
    if !own.is_empty() {
        return own;
    }
    // Each type is looked at once, and there are more of them only in types that no compiler made.
    let mut seen = HashSet::new();
    let variants = decode::variants(&fields).filter(|variant| seen.insert((variant.ty.id, variant.from)));
    let found = variants.take(VARIANTS).map(|variant| {
        let fields = variant.ty.resolved().fields_within(|field| field.name.is_empty());
        let own = own_stamps(&fields, wanted).into_iter();
        own.map(|(name, at)| (name, variant.from / 8 + at)).collect::<Vec<_>>()
    });
    let in_all = found.reduce(|mut all, other| {
        all.retain(|one| other.contains(one));
        all
    });
    in_all.unwrap_or_default()
}

/// The most variants of a tagged record whose stamps are compared.
const VARIANTS: usize = 1024;

fn own_stamps(fields: &[Field<'_>], wanted: Option<&str>) -> Vec<(String, usize)> {
    let is_stamp = |field: &&Field<'_>| {
        let resolved = field.ty.resolved();
        resolved.kind() == Kind::Int
            && resolved.bytes() == Some(8)
            && field.bits == 0
            && field.from.is_multiple_of(8)
    };
    let named = |name: &str| fields.iter().filter(is_stamp).find(|field| field.name == name.as_bytes());
    let usual = ["ns", "ts", "ts_ns", "time_ns", "timestamp", "timestamp_ns", "time", "ktime"];
    let names = wanted.as_ref().map_or(&usual[..], std::slice::from_ref);
    names.iter().filter_map(|name| named(name)).map(|field| (text(field.name), field.from / 8)).collect()
}

/// BTF text can have any bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes)).into_owned()
}

impl Value {
    /// Bytes without a type.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }

    /// The part at `path`, such as `args[0].len`.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        let mut value = self;
        for part in path.split('.') {
            let mut names = part.split('[');
            let name = names.next()?;
            if !name.is_empty() {
                let Self::Struct(fields) = value else { return None };
                value = fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)?;
            }
            for index in names {
                let index: usize = index.strip_suffix(']')?.parse().ok()?;
                let Self::List(list) = value else { return None };
                value = list.get(index)?;
            }
        }
        Some(value)
    }

    /// Adds it to a JSON object, and as `NAME.bytes` the bytes of its texts if these do not say all of them.
    pub(crate) fn put(&self, name: &str, object: &mut serde_json::Map<String, serde_json::Value>) {
        if let Some(bytes) = self.unless_all(as_it_is) {
            object.insert(format!("{name}.bytes"), bytes.json());
        }
        object.insert(name.to_owned(), self.json());
    }

    /// The bytes of a text, unless `shown` says all of them. Of a list, a list of these. The fields of a struct are not
    /// looked at.
    pub(crate) fn unless_all(&self, shown: fn(&str) -> Cow<'_, str>) -> Option<Self> {
        match self {
            Self::Text(chars) => chars.unless_all(&shown(&chars.text())).map(Self::bytes),
            Self::List(list) => {
                let each = || list.iter().map(|one| one.unless_all(as_it_is));
                let any = each().any(|one| one.is_some());
                any.then(|| Self::List(each().map(|one| one.unwrap_or(Self::Cut)).collect()))
            }
            _ => None,
        }
    }

    /// Whether [`unless_all`](Self::unless_all) can return something for values of this type.
    pub(crate) fn has_text(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::List(list) => list.first().is_some_and(Self::has_text),
            _ => false,
        }
    }

    /// The same as JSON. Bytes are text in hexadecimal.
    pub(crate) fn json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Unsigned(number) => (*number).into(),
            Self::Signed(number) => (*number).into(),
            Self::Code(number) => {
                i64::try_from(*number).map_or_else(|_| u64::try_from(*number).ok().into(), Json::from)
            }
            Self::Float(number) => (*number).into(),
            Self::Bool(value) => (*value).into(),
            Self::Text(text) => text.text().into(),
            Self::Name(name, _) => name.as_str().into(),
            Self::Pointer(_) => self.to_string().into(),
            Self::Struct(fields) => {
                let mut object = serde_json::Map::new();
                fields.iter().for_each(|(name, value)| value.put(name, &mut object));
                Json::Object(object)
            }
            Self::List(list) => list.iter().map(Self::json).collect(),
            Self::Bytes(bytes) => hex(bytes).into(),
            Self::Cut => Json::Null,
        }
    }

    /// Whether all of it is zero.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Unsigned(number) | Self::Pointer(number) => *number == 0,
            Self::Code(number) | Self::Name(_, number) => *number == 0,
            Self::Signed(number) => *number == 0,
            Self::Float(number) => *number == 0.0,
            Self::Bool(value) => !value,
            Self::Text(text) => text.is_empty(),
            Self::Struct(fields) => fields.iter().all(|(_, value)| value.is_zero()),
            Self::List(list) => list.iter().all(Self::is_zero),
            Self::Bytes(bytes) => bytes.iter().all(|byte| *byte == 0),
            Self::Cut => true,
        }
    }
}

fn as_it_is(text: &str) -> Cow<'_, str> {
    text.into()
}

/// Bytes as hexadecimal digits, in groups of 8 bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len() + bytes.len() / 8);
    text.push_str("0x");
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % 8 == 0 {
            text.push('_');
        }
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// The most bytes that are shown to people.
const SHOWN: usize = 4096;

/// In one line, with names and text escaped: `pid=12 comm="sh" args=[1, 2]`, with braces around nested structs.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)?;
        if self.continues() { write!(f, " +{VALUE}.bytes") } else { Ok(()) }
    }
}

impl Value {
    /// Whether it is a text, or a list with one, of which bytes follow the end.
    fn continues(&self) -> bool {
        match self {
            Self::Text(text) => text.continues(),
            Self::List(list) => list.iter().any(Self::continues),
            _ => false,
        }
    }

    fn write_inner(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Struct(_) => write!(f, "{{{self}}}"),
            _ => self.write(f),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Struct(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(f, "{space}{name}=")?;
                    value.write_inner(f)?;
                }
                // What follows the end of a text is named.
                let mut texts = fields.iter().filter(|(_, value)| value.continues());
                texts.try_for_each(|(name, _)| write!(f, " +{name}.bytes"))
            }
            Self::List(list) => {
                f.write_str("[")?;
                for (at, value) in list.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    value.write_inner(f)?;
                }
                f.write_str("]")
            }
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Code(number) => write!(f, "{number}"),
            Self::Pointer(address) => write!(f, "0x{address:016x}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text}"),
            Self::Name(name, _) => f.write_str(&printable(name)),
            Self::Bytes(bytes) if bytes.len() > SHOWN => write!(f, "{}…", hex(&bytes[..SHOWN])),
            Self::Bytes(bytes) => f.write_str(&hex(bytes)),
            Self::Cut => f.write_str("…"),
        }
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
pub(crate) mod tests;
