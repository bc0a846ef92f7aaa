//! Refuses expressions that can't be true of any record, and says why.

use anyhow::{Result, bail};
use mapring::btf::{Kind, Type};

use super::{Compare, Expr, Literal, Names, Part};
use crate::regions::value::{self, Value};

impl Expr {
    /// Refuses a field that no record has, and a comparison that never holds. `empty` is a decoded record of zeros, with an
    /// empty tail if records have tails; `ty` is the type of the record, if it is known.
    pub(crate) fn check(&self, empty: Names<'_>, ty: Option<Type<'_>>) -> Result<()> {
        let known = |path: &str| empty.at(path).is_some() || ty.is_some_and(|ty| leaf(ty, path).is_some());
        if let Some(field) = self.unknown(&known) {
            let fields = if let Value::Struct(fields) = empty.value { &fields[..] } else { &[] };
            let fields = fields.iter().map(|(name, _)| name.as_str()).filter(|name| !name.starts_with('('));
            let names: Vec<_> = fields.chain(empty.tail.map(|_| "tail")).collect();
            bail!("--where: no field {field}; the fields are {}", names.join(", "));
        }
        match self.mismatch(&|path| Field::find(path, empty, ty)) {
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
    fn mismatch<'t>(&self, find: &impl Fn(&str) -> Option<Field<'t>>) -> Option<String> {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().find_map(|part| part.mismatch(find)),
            Self::Not(part) => part.mismatch(find),
            Self::Field(_) | Self::Match(..) => None,
            Self::Compare(path, how, with) => {
                let Field { ty, sort } = find(path)?;
                let ty = ty.map_or(String::new(), |ty| format!("; its type is {ty}"));
                sort.mismatch(*how, with).map(|why| format!("{path} is {}{why}{ty}", sort.name()))
            }
        }
    }
}

/// A field: its type, if it is known, and what it can be compared with.
struct Field<'t> {
    ty: Option<String>,
    sort: Sort<'t>,
}

enum Sort<'t> {
    /// Whole numbers from the first to the last.
    Whole(i128, i128),
    Enum(Type<'t>, i128, i128),
    Bool,
    Float,
    Pointer,
    Text,
    /// All bytes of a text.
    AllBytes,
    Bytes(usize),
    Struct,
    List,
    /// Of another type.
    Other,
}

impl<'t> Field<'t> {
    fn find(path: &str, empty: Names<'_>, ty: Option<Type<'t>>) -> Option<Self> {
        if let Some((ty, bits)) = ty.and_then(|ty| leaf(ty, path)) {
            let width = if bits > 0 { format!(":{bits}") } else { String::new() };
            return Some(Self { ty: Some(value::type_name(ty) + &width), sort: Sort::of(ty, bits)? });
        }
        let sort = match empty.at(path)? {
            Part::Tail(_) => Sort::Text,
            Part::Bytes(_) => Sort::AllBytes,
            Part::Byte(_) => Sort::Whole(0, 255),
            Part::Value(Value::Unsigned(_)) => Sort::Whole(0, u64::MAX.into()),
            Part::Value(Value::Signed(_)) => Sort::Whole(i64::MIN.into(), i64::MAX.into()),
            Part::Value(Value::Float(_)) => Sort::Float,
            Part::Value(Value::Text(_)) => Sort::Text,
            Part::Value(Value::Bytes(bytes)) => Sort::Bytes(bytes.len()),
            Part::Value(Value::Struct(_)) => Sort::Struct,
            Part::Value(Value::List(_)) => Sort::List,
            Part::Value(_) => return None,
        };
        Some(Self { ty: None, sort })
    }
}

/// The type of the field at this path, and its bits if it is a bit field.
fn leaf<'t>(ty: Type<'t>, path: &str) -> Option<(Type<'t>, u32)> {
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

impl<'t> Sort<'t> {
    fn of(ty: Type<'t>, bits: u32) -> Option<Self> {
        let ty = ty.resolved();
        let bits = if bits > 0 { bits } else { u32::try_from(8 * ty.bytes()?).ok()? };
        let range = |signed: bool| match (signed, bits) {
            (_, 0 | 65..) => (i128::MIN, i128::MAX),
            (true, bits) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            (false, bits) => (0, (1 << bits) - 1),
        };
        Some(match ty.kind() {
            Kind::Int if ty.encoding() & 4 != 0 => Self::Bool,
            Kind::Int if bits > 64 => Self::Bytes(bits as usize / 8),
            Kind::Int => {
                let (first, last) = range(ty.encoding() & 1 != 0);
                Self::Whole(first, last)
            }
            Kind::Enum | Kind::Enum64 => {
                let (first, last) = range(ty.is_signed());
                Self::Enum(ty, first, last)
            }
            Kind::Float => Self::Float,
            Kind::Ptr => Self::Pointer,
            Kind::Struct | Kind::Union => Self::Struct,
            Kind::Array => match value::bytes_of(ty) {
                Some((true, _)) => Self::Text,
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
            Self::Bool => "a boolean",
            Self::Pointer => "a pointer",
            Self::Text => "a text",
            Self::AllBytes => "the bytes of a text",
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
            let can_hold = match how {
                Compare::Equal => (first..=last).contains(&number),
                Compare::NotEqual => true,
                Compare::Less => first < number,
                Compare::LessOrEqual => first <= number,
                Compare::Greater => last > number,
                Compare::GreaterOrEqual => last >= number,
            };
            (!can_hold).then(|| format!(", from {first} to {last}"))
        };
        match self {
            Self::Whole(first, last) => whole(*first, *last),
            Self::Enum(ty, first, last) => match &with.text {
                None => whole(*first, *last),
                Some(name) => no_constant(*ty, how, name),
            },
            Self::Bool if is_text => {
                let is_one =
                    with.text.as_deref().is_some_and(|text| [&b"true"[..], b"false"].contains(&text));
                (!is_one).then(|| ": compare it with true or false".to_owned())
            }
            Self::Bool => whole(0, u8::MAX.into()),
            Self::Float => is_text.then(|| ", and is compared with a text".to_owned()),
            Self::Pointer => {
                let is_one = with.address().is_some_and(|address| u64::try_from(address).is_ok());
                (!is_one).then(|| ": compare it with a number such as 0xffff888100000000".to_owned())
            }
            Self::Text => with.text.is_none().then(|| ", and is compared with a number".to_owned()),
            Self::AllBytes => {
                let is_one = with.bytes.is_some() || with.text.is_some();
                (!is_one).then(|| ": compare them with bytes such as 0x6c73, or a text".to_owned())
            }
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
