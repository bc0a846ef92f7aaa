//! Refuses expressions that can't be true of any record, and says why.

use std::collections::HashSet;

use anyhow::{Result, bail};
use mapring_sys::btf::{Kind, Type};

use super::{Compare, Expr, Literal, Names, Part, trimmed};
use crate::value::{self, VALUE, Value};

impl Expr {
    /// Refuses a field that no record has, and a comparison that never holds. `empty` has for each type of records a decoded
    /// one of zeros, with an empty tail if they have tails.
    pub(super) fn check(&self, empty: &[Names<'_>]) -> Result<()> {
        let find =
            |path: &str| empty.iter().filter_map(|empty| Field::find(path, *empty)).collect::<Vec<_>>();
        let known = |path: &str| empty.iter().any(|empty| empty.at(path).is_some()) || !find(path).is_empty();
        if let Some(field) = self.unknown(&known) {
            let mut names: Vec<String> = Vec::new();
            for empty in empty {
                let known: HashSet<_> = names.iter().cloned().collect();
                names.extend(names_of(*empty).into_iter().filter(|name| !known.contains(name)));
            }
            let more = names.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} others") } else { String::new() };
            let names = names.into_iter().take(LISTED).collect::<Vec<_>>().join(", ");
            bail!("--where: no field {field}; the fields are {names}{more}");
        }
        match self.mismatch(&find) {
            Some(why) => bail!("--where: {why}"),
            None => Ok(()),
        }
    }

    /// The first field that `known` does not know.
    fn unknown(&self, known: &impl Fn(&str) -> bool) -> Option<&str> {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().find_map(|part| part.unknown(known)),
            Self::Not(part) => part.unknown(known),
            Self::Field(path) | Self::Compare(path, ..) | Self::Match(path, _) => {
                (!known(path)).then_some(path)
            }
        }
    }

    /// Why a comparison can never be true.
    fn mismatch<'t>(&self, find: &impl Fn(&str) -> Vec<Field<'t>>) -> Option<String> {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().find_map(|part| part.mismatch(find)),
            Self::Not(part) => part.mismatch(find),
            Self::Field(_) | Self::Match(..) => None,
            Self::Compare(path, how, with) => {
                let why = |Field { ty, comparable }: Field<'_>| {
                    let ty = ty.map_or(String::new(), |ty| format!("; its type is {ty}"));
                    comparable
                        .mismatch(*how, with)
                        .map(|why| format!("{path} is {}{why}{ty}", comparable.name()))
                };
                // In another type it may hold.
                find(path).into_iter().map(why).collect::<Option<Vec<_>>>()?.into_iter().next()
            }
        }
    }
}

/// The most fields that are named.
const LISTED: usize = 50;

/// The names at the top, also of variants that a record of zeros does not have.
fn names_of(empty: Names<'_>) -> Vec<String> {
    let fields = empty.ty.map_or(Vec::new(), |ty| ty.resolved().fields_within(|field| field.name.is_empty()));
    let mut names: Vec<_> = match empty.value {
        _ if !fields.is_empty() => fields
            .iter()
            .filter(|field| value::is_shown(field))
            .map(|field| value::text(field.name))
            .collect(),
        Value::Struct(fields) => fields.iter().map(|(name, _)| name.clone()).collect(),
        _ => vec![VALUE.to_owned()],
    };
    names.extend(empty.tail.map(|_| "tail".to_owned()));
    names
}

/// A field: its type, if it is known, and what it can be compared with.
struct Field<'t> {
    ty: Option<String>,
    comparable: Comparable<'t>,
}

enum Comparable<'t> {
    /// Whole numbers from the first to the last.
    Whole(i128, i128),
    Enum(Type<'t>, i128, i128),
    /// The largest number.
    Bool(i128),
    Float,
    Pointer,
    /// Of a char array this long.
    Text(Option<usize>),
    /// All bytes of a char array of this length, or of a tail.
    AllBytes(Option<usize>),
    Bytes(usize),
    Struct,
    List,
    /// Of another type.
    Other,
}

impl<'t> Field<'t> {
    fn find(path: &str, empty: Names<'t>) -> Option<Self> {
        let leaf = |path| empty.ty.and_then(|ty| leaf(ty, path));
        if let Some((ty, bits)) = leaf(path) {
            let width = if bits > 0 { format!(":{bits}") } else { String::new() };
            return Some(Self {
                ty: Some(value::type_name(ty) + &width),
                comparable: Comparable::of(ty, bits)?,
            });
        }
        if let Some((ty, _)) = path.strip_suffix(".bytes").and_then(leaf)
            && let Some((true, count)) = value::bytes_of(ty.resolved())
        {
            return Some(Self {
                ty: Some(value::type_name(ty)),
                comparable: Comparable::AllBytes(Some(count)),
            });
        }
        let comparable = match empty.at(path)? {
            Part::Tail(_) => Comparable::Text(None),
            Part::Bytes(bytes, is_tail) => Comparable::AllBytes((!is_tail).then_some(bytes.len())),
            Part::Byte(_) => Comparable::Whole(0, 255),
            Part::Value(Value::Unsigned(_)) => Comparable::Whole(0, u64::MAX.into()),
            Part::Value(Value::Signed(_)) => Comparable::Whole(i64::MIN.into(), i64::MAX.into()),
            Part::Value(Value::Float(_)) => Comparable::Float,
            Part::Value(Value::Text(_)) => Comparable::Text(None),
            Part::Value(Value::Bytes(bytes)) => Comparable::Bytes(bytes.len()),
            Part::Value(Value::Struct(_)) => Comparable::Struct,
            Part::Value(Value::List(_)) => Comparable::List,
            Part::Value(_) => return None,
        };
        Some(Self { ty: None, comparable })
    }
}

/// The type of the field at this path, and its bits if it is a bit field.
pub(super) fn leaf<'t>(ty: Type<'t>, path: &str) -> Option<(Type<'t>, u32)> {
    let has_fields = matches!(ty.resolved().kind(), Kind::Struct | Kind::Union | Kind::DataSec);
    let path = if has_fields { path } else { path.strip_prefix(VALUE)? };
    let mut found = (ty, 0);
    for part in path.split('.') {
        let mut names = part.split('[');
        let name = names.next()?;
        if !name.is_empty() {
            let ty = found.0.resolved();
            let variable = || ty.variables().find(|variable| value::text(variable.name) == name);
            let field = || {
                let fields = ty.fields_within(|field| field.name.is_empty());
                fields.into_iter().find(|field| value::is_shown(field) && value::text(field.name) == name)
            };
            found = match ty.kind() {
                Kind::DataSec => (variable()?.ty, 0),
                _ => field().map(|field| (field.ty, field.bits))?,
            };
        }
        for index in names {
            let (of, count) = found.0.resolved().array()?;
            let index: usize = index.strip_suffix(']')?.parse().ok()?;
            found = (index < count).then_some((of, 0))?;
        }
    }
    Some(found)
}

impl<'t> Comparable<'t> {
    fn of(ty: Type<'t>, bits: u32) -> Option<Self> {
        let ty = ty.resolved();
        let bits = if bits > 0 { bits } else { u32::try_from(8 * ty.bytes()?).ok()? };
        let range = |signed: bool| match (signed, bits) {
            (_, 0 | 65..) => (i128::MIN, i128::MAX),
            (true, bits) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            (false, bits) => (0, (1 << bits) - 1),
        };
        Some(match ty.kind() {
            Kind::Int if ty.encoding() & 4 != 0 => Self::Bool(range(false).1),
            Kind::Int if bits > 64 => Self::Bytes(bits as usize / 8),
            Kind::Int => {
                let (first, last) = range(ty.encoding() & 1 != 0);
                Self::Whole(first, last)
            }
            Kind::Enum | Kind::Enum64 => {
                let (first, last) = range(ty.is_signed());
                // Compilers before clang 15 keep the lower half of a constant.
                let is_cut = ty.kind() == Kind::Enum && bits == 64;
                Self::Enum(ty, first, if is_cut { u64::MAX.into() } else { last })
            }
            Kind::Float => Self::Float,
            Kind::Ptr => Self::Pointer,
            Kind::Struct | Kind::Union => Self::Struct,
            Kind::Array => match value::bytes_of(ty) {
                Some((true, count)) => Self::Text(Some(count)),
                Some((false, count)) => Self::Bytes(count),
                None => Self::List,
            },
            _ => Self::Other,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Whole(..) | Self::Float => "a number",
            Self::Enum(..) => "an enum",
            Self::Bool(_) => "a boolean",
            Self::Pointer => "a pointer",
            Self::Text(_) => "a text",
            Self::AllBytes(_) => "the bytes of a text",
            Self::Bytes(_) => "bytes",
            Self::Struct => "a struct",
            Self::List => "an array",
            Self::Other => "a value",
        }
    }

    /// Why a comparison with this literal never holds, as the end of a sentence.
    fn mismatch(&self, how: Compare, with: &Literal) -> Option<String> {
        let is_text = with.number.is_none() && with.float.is_none();
        let whole = |first: i128, last: i128| {
            let number = match (with.number, with.float) {
                (Some(number), _) => number,
                #[allow(clippy::cast_possible_truncation)] // a float beyond all numbers stays beyond them
                (None, Some(float)) if matches!(how, Compare::Less | Compare::GreaterOrEqual) => {
                    float.ceil() as i128
                }
                #[allow(clippy::cast_possible_truncation)]
                (None, Some(float)) if float.fract() == 0.0 || how != Compare::Equal => float.floor() as i128,
                (None, Some(_)) => return Some(", a whole number".to_owned()),
                (None, None) => return Some(", and is compared with a text".to_owned()),
            };
            (!how.can_hold(first, last, number)).then(|| format!(", from {first} to {last}"))
        };
        match self {
            Self::Whole(first, last) => whole(*first, *last),
            Self::Enum(ty, first, last) => match &with.text {
                None => whole(*first, *last).filter(|_| !is_constant(*ty, how, with)),
                Some(name) => no_constant(*ty, how, name),
            },
            Self::Bool(_) if is_text => {
                let is_one =
                    with.text.as_deref().is_some_and(|text| [&b"true"[..], b"false"].contains(&text));
                (!is_one).then(|| ": compare it with true or false".to_owned())
            }
            Self::Bool(last) => whole(0, *last),
            Self::Float => is_text.then(|| ", and is compared with a text".to_owned()),
            Self::Pointer => {
                let holds = |address| how.can_hold(0, u64::MAX.into(), address);
                (!with.address().is_some_and(holds))
                    .then(|| ": compare it with a number such as 0xffff888100000000".to_owned())
            }
            Self::Text(count) => match &with.text {
                None => Some(", and is compared with a number".to_owned()),
                Some(text) if text.windows(3).any(|c| c == "\u{fffd}".as_bytes()) => {
                    Some(", and U+FFFD stands for other bytes: compare its .bytes".to_owned())
                }
                Some(text) => (count.filter(|count| how == Compare::Equal && trimmed(text).len() > *count))
                    .map(|count| format!(", of at most {count} bytes")),
            },
            Self::AllBytes(count) => match with.bytes.as_ref().or(with.text.as_ref()) {
                None => Some(": compare them with bytes such as 0x6c73, or a text".to_owned()),
                Some(bytes) => (count.filter(|count| trimmed(bytes).len() > *count))
                    .map(|count| format!(", of which there are {count}")),
            },
            Self::Bytes(count) => {
                let is_one = with.bytes.as_ref().is_some_and(|bytes| bytes.len() == *count);
                let such =
                    if *count <= 16 { format!(" such as 0x{}", "00".repeat(*count)) } else { String::new() };
                (!is_one).then(|| format!(": compare them with {count} bytes{such}"))
            }
            Self::Struct => Some(": compare one of its fields".to_owned()),
            Self::List => Some(": compare one of its elements".to_owned()),
            Self::Other => None,
        }
    }
}

impl Compare {
    /// Whether it can hold of a number from the first to the last.
    fn can_hold(self, first: i128, last: i128, number: i128) -> bool {
        match self {
            Self::Equal => (first..=last).contains(&number),
            Self::NotEqual => true,
            Self::Less => first < number,
            Self::LessOrEqual => first <= number,
            Self::Greater => last > number,
            Self::GreaterOrEqual => last >= number,
        }
    }
}

/// Whether an enum of 4 bytes, which may be signed or not, has a constant with this number.
fn is_constant(ty: Type<'_>, how: Compare, with: &Literal) -> bool {
    let number = with.number.and_then(|number| u64::try_from(number).ok());
    how == Compare::Equal
        && ty.kind() == Kind::Enum
        && number.is_some_and(|number| ty.constants().any(|(_, constant)| constant == number))
}

/// Why no value of an enum has this name. A value has the name of the first constant with it.
fn no_constant(ty: Type<'_>, how: Compare, name: &[u8]) -> Option<String> {
    let all: Vec<_> = ty.constants().collect();
    let Some((_, number)) = all.iter().find(|(constant, _)| value::text(constant).as_bytes() == name) else {
        let names: Vec<_> = all.iter().take(20).map(|(name, _)| value::text(name)).collect();
        return Some(format!(" without this constant: it has {}", names.join(", ")));
    };
    if ![Compare::Equal, Compare::NotEqual].contains(&how) {
        return Some(": compare it with a number".to_owned());
    }
    let first = ty.constant(*number).map(value::text).unwrap_or_default();
    (first.as_bytes() != name).then(|| format!(", in which the first name of this number is {first}"))
}
