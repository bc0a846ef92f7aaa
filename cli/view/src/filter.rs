//! Filters over the fields of records: `pid == 12 && (comm ~ "ba.*" || !ok)`.

mod check;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;

use anyhow::Result;
use mapring_sys::btf::Type;

use self::parse::Literal;
use crate::value::{self, VALUE, Value, hex};

/// An expression that holds of some records, as the option `--where` has it.
#[derive(Clone, Debug)]
pub struct Filter(Expr);

impl Filter {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self> {
        Expr::parse(text).map(Self)
    }

    /// Checks that it can hold of a record. `empty` has for each type of records a decoded one of zeros, with an empty tail if
    /// they have tails.
    ///
    /// # Errors
    /// If it names a field that no record has, or has a comparison that never holds.
    pub fn check(&self, empty: &[Names<'_>]) -> Result<()> {
        self.0.check(empty)
    }

    /// Whether it holds of this record. A comparison with a field that the record lacks is false.
    pub fn holds(&self, record: Names<'_>) -> bool {
        self.0.holds(record)
    }
}

/// A parsed expression.
#[derive(Clone, Debug)]
enum Expr {
    Any(Vec<Expr>),
    All(Vec<Expr>),
    Not(Box<Expr>),
    /// The field is not zero.
    Field(String),
    Compare(String, Compare, Literal),
    Match(String, regex::Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a filter can name: the fields of a record or value, and its tail.
#[derive(Clone, Copy)]
pub struct Names<'v> {
    /// The record or value.
    pub value: &'v Value,
    /// Its tail, if it is of a ring with tails.
    pub tail: Option<&'v [u8]>,
    /// The type of the value, if it is known.
    pub ty: Option<Type<'v>>,
}

/// A named part.
enum Part<'v> {
    Value(&'v Value),
    /// All bytes of a text, and whether it is a tail. Zeros at the end of a char array do not count.
    Bytes(&'v [u8], bool),
    Tail(&'v [u8]),
    /// An element of an array of bytes.
    Byte(Value),
}

impl<'v> Names<'v> {
    fn at(&self, path: &str) -> Option<Part<'v>> {
        if let Some(value) = self.value.at(path) {
            return Some(Part::Value(value));
        }
        match path {
            VALUE if !matches!(self.value, Value::Struct(_)) => return Some(Part::Value(self.value)),
            "tail" => return self.tail.map(Part::Tail),
            _ => {}
        }
        if let Some(text) = path.strip_suffix(".bytes") {
            return match self.at(text)? {
                Part::Value(Value::Text(chars)) => Some(Part::Bytes(chars.bytes(), false)),
                Part::Tail(bytes) => Some(Part::Bytes(bytes, true)),
                _ => None,
            };
        }
        let (array, index) = path.strip_suffix(']')?.rsplit_once('[')?;
        let index: usize = index.parse().ok()?;
        let bytes = match self.at(array)? {
            Part::Value(Value::List(list)) => return list.get(index).map(Part::Value),
            Part::Value(Value::Bytes(bytes)) => bytes,
            Part::Value(Value::Text(chars)) => chars.bytes(),
            _ => return None,
        };
        let byte = *bytes.get(index)?;
        let ty = self.ty.and_then(|ty| check::leaf(ty, path)).map(|(ty, _)| ty);
        Some(Part::Byte(ty.map_or(Value::Unsigned(byte.into()), |ty| value::decode(ty, &[byte]))))
    }
}

impl Expr {
    /// Whether it is true of this record. A comparison with a field that the record lacks is false.
    fn holds(&self, record: Names<'_>) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Self::All(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Not(part) => !part.holds(record),
            Self::Field(path) => record.at(path).is_some_and(|part| !part.is_zero()),
            Self::Compare(path, how, with) => record.at(path).is_some_and(|part| how.holds(part.order(with))),
            Self::Match(path, regex) => record.at(path).is_some_and(|part| part.matches(regex)),
        }
    }
}

impl Part<'_> {
    fn is_zero(&self) -> bool {
        match self {
            Self::Value(value) => value.is_zero(),
            Self::Byte(value) => value.is_zero(),
            Self::Bytes(bytes, _) | Self::Tail(bytes) => bytes.iter().all(|byte| *byte == 0),
        }
    }

    /// How it compares with a literal. `None` if it can't be compared.
    fn order(&self, with: &Literal) -> Option<Ordering> {
        match self {
            Self::Value(Value::Text(chars)) => {
                let text = with.text.as_deref()?;
                // Only a text with a zero in it asks for what follows the first one.
                match trimmed(text).contains(&0) {
                    true => Some(trimmed(chars.bytes()).cmp(trimmed(text))),
                    false => Some(chars.text_bytes().cmp(trimmed(text))),
                }
            }
            Self::Tail(bytes) => Some(trimmed(bytes).cmp(trimmed(with.text.as_deref()?))),
            Self::Bytes(bytes, is_tail) => match (&with.bytes, &with.text) {
                (Some(with), _) if *is_tail => Some((*bytes).cmp(with)),
                (Some(with), _) => Some(trimmed(bytes).cmp(trimmed(with))),
                (None, text) => Some(trimmed(bytes).cmp(trimmed(text.as_deref()?))),
            },
            Self::Value(Value::Bytes(bytes)) => Some(bytes.cmp(with.bytes.as_ref()?)),
            Self::Byte(value) => Part::Value(value).order(with),
            Self::Value(Value::Name(name, _)) if with.text.is_some() => {
                with.text.as_deref().map(|text| name.as_bytes().cmp(text))
            }
            Self::Value(Value::Bool(value)) if with.text.is_some() => {
                with.text.as_deref().map(|text| value.to_string().as_bytes().cmp(text))
            }
            Self::Value(Value::Pointer(address)) => Some(i128::from(*address).cmp(&with.address()?)),
            #[allow(clippy::cast_precision_loss)] // as in C
            Self::Value(Value::Float(value)) => {
                value.partial_cmp(&with.float.or(with.number.map(|number| number as f64))?)
            }
            #[allow(clippy::cast_precision_loss)]
            part => match (part.number()?, with.number, with.float) {
                // A constant of 0xffffffff is -1 too, if the BTF does not say whether its enum is signed.
                (value @ ..0, Some(number), _)
                    if part.is_name() && [32, 64].iter().any(|bits| value + (1 << bits) == number) =>
                {
                    Some(Ordering::Equal)
                }
                (value, Some(number), _) => Some(value.cmp(&number)),
                (value, None, Some(float)) => (value as f64).partial_cmp(&float),
                _ => None,
            },
        }
    }

    fn is_name(&self) -> bool {
        matches!(self, Self::Value(Value::Name(..)))
    }

    fn number(&self) -> Option<i128> {
        Some(match self {
            Self::Value(Value::Unsigned(number)) => (*number).into(),
            Self::Value(Value::Signed(number)) => (*number).into(),
            Self::Value(Value::Bool(value)) => (*value).into(),
            Self::Value(Value::Name(_, number) | Value::Code(number)) => *number,
            _ => return None,
        })
    }

    fn matches(&self, regex: &regex::Regex) -> bool {
        // Bytes are printed as digits.
        regex.is_match(&self.text()) || matches!(self, Self::Bytes(bytes, _) if regex.is_match(&hex(bytes)))
    }

    /// The text that a pattern must match.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Value(Value::Text(chars)) => chars.text(),
            Self::Value(Value::Bytes(bytes)) => hex(bytes).into(),
            Self::Value(Value::Name(name, _)) => name.into(),
            Self::Value(value) => value.to_string().into(),
            Self::Bytes(bytes, _) | Self::Tail(bytes) => String::from_utf8_lossy(trimmed(bytes)),
            Self::Byte(value) => value.to_string().into(),
        }
    }
}

/// Bytes without the zeros at their end.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

impl Compare {
    fn holds(self, order: Option<Ordering>) -> bool {
        match (self, order) {
            (Self::NotEqual, None) => true,
            (_, None) => false,
            (Self::Equal, Some(order)) => order.is_eq(),
            (Self::NotEqual, Some(order)) => order.is_ne(),
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::LessOrEqual, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::GreaterOrEqual, Some(order)) => order.is_ge(),
        }
    }
}
