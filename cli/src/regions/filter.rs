//! Expressions over the fields of records: `pid == 12 && (comm ~ "ba.*" || !ok)`.

mod check;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;

pub(crate) use self::parse::Literal;
use super::value::{Value, hex};

/// A parsed expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Any(Vec<Expr>),
    All(Vec<Expr>),
    Not(Box<Expr>),
    /// The field is not zero.
    Field(String),
    Compare(String, Compare, Literal),
    Match(String, regex::Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an expression can name: the fields of a record or value, and its tail.
#[derive(Clone, Copy)]
pub(crate) struct Names<'v> {
    pub(crate) value: &'v Value,
    pub(crate) tail: Option<&'v [u8]>,
}

/// The name of a number without fields.
pub(crate) const VALUE: &str = "value";

/// A named part.
enum Part<'v> {
    Value(&'v Value),
    /// All bytes of a text.
    Bytes(&'v [u8]),
    Tail(&'v [u8]),
    Byte(u8),
}

impl<'v> Names<'v> {
    fn at(&self, path: &str) -> Option<Part<'v>> {
        if let Some(value) = self.value.at(path) {
            return Some(Part::Value(value));
        }
        let is_number = matches!(self.value, Value::Unsigned(_) | Value::Signed(_) | Value::Float(_));
        match path {
            VALUE if is_number => return Some(Part::Value(self.value)),
            "tail" => return self.tail.map(Part::Tail),
            _ => {}
        }
        if let Some(text) = path.strip_suffix(".bytes") {
            return match self.at(text)? {
                Part::Value(Value::Text(chars)) => Some(Part::Bytes(chars.bytes())),
                Part::Tail(bytes) => Some(Part::Bytes(bytes)),
                _ => None,
            };
        }
        let (bytes, index) = path.strip_suffix(']')?.rsplit_once('[')?;
        let Part::Value(Value::Bytes(bytes)) = self.at(bytes)? else { return None };
        bytes.get(index.parse::<usize>().ok()?).map(|byte| Part::Byte(*byte))
    }
}

impl Expr {
    /// Whether it is true of this record. A comparison with a field that the record lacks is false.
    pub(crate) fn holds(&self, record: Names<'_>) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Self::All(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Not(part) => !part.holds(record),
            Self::Field(path) => record.at(path).is_some_and(|part| !part.is_zero()),
            Self::Compare(path, how, with) => record.at(path).is_some_and(|part| how.holds(part.order(with))),
            Self::Match(path, regex) => record.at(path).is_some_and(|part| regex.is_match(&part.text())),
        }
    }
}

impl Part<'_> {
    fn is_zero(&self) -> bool {
        match self {
            Self::Value(value) => value.is_zero(),
            Self::Bytes(bytes) | Self::Tail(bytes) => bytes.iter().all(|byte| *byte == 0),
            Self::Byte(byte) => *byte == 0,
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
            Self::Bytes(bytes) => match (&with.bytes, &with.text) {
                (Some(with), _) => Some((*bytes).cmp(with)),
                (None, text) => Some(trimmed(bytes).cmp(trimmed(text.as_deref()?))),
            },
            Self::Value(Value::Bytes(bytes)) => Some(bytes.cmp(with.bytes.as_ref()?)),
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
                (value, Some(number), _) => Some(value.cmp(&number)),
                (value, None, Some(float)) => (value as f64).partial_cmp(&float),
                _ => None,
            },
        }
    }

    fn number(&self) -> Option<i128> {
        Some(match self {
            Self::Byte(byte) => (*byte).into(),
            Self::Value(Value::Unsigned(number)) => (*number).into(),
            Self::Value(Value::Signed(number)) => (*number).into(),
            Self::Value(Value::Bool(value)) => (*value).into(),
            Self::Value(Value::Name(_, number) | Value::Code(number)) => *number,
            _ => return None,
        })
    }

    /// The text that a pattern must match.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Value(Value::Text(chars)) => chars.text(),
            Self::Value(Value::Bytes(bytes)) => hex(bytes).into(),
            Self::Value(Value::Name(name, _)) => name.into(),
            Self::Value(value) => value.to_string().into(),
            Self::Bytes(bytes) | Self::Tail(bytes) => String::from_utf8_lossy(trimmed(bytes)),
            Self::Byte(byte) => byte.to_string().into(),
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
