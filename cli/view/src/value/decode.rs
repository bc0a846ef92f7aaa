//! Decodes values from bytes by their BTF types. Types and bytes can have any content.

use std::collections::HashSet;

use mapring_sys::btf::{Field, Kind, Type, Variable};

use super::{Chars, Value, text};

/// The most parts of one value that are shown.
const PARTS: usize = 1 << 14;
/// The most members and constants of types that are looked at for one value.
const STEPS: usize = 1 << 24;
/// The deepest nesting that is shown: types may contain themselves in BTF that no compiler made.
const DEPTH: usize = 16;
/// The bytes of the largest number that compilers have.
const NUMBER: usize = 16;
/// How the name of the field starts that gives the tag of a variant (`MAPRING_VARIANT`).
const TAG: &[u8] = b"mapring_tag__";

/// How many fields are looked at for those that the macros declare first.
const FIRST: usize = 16;

/// The variants among the fields of a record: those with a tag.
pub(super) fn variants<'f, 't>(fields: &'f [Field<'t>]) -> impl Iterator<Item = &'f Field<'t>> {
    let tags: HashSet<_> = fields.iter().filter_map(|tag| tag.name.strip_prefix(TAG)).collect();
    fields.iter().filter(move |field| tags.contains(field.name))
}

/// Decodes the bytes of a value of this type. Global data becomes a struct of its variables.
pub fn decode(ty: Type<'_>, bytes: &[u8]) -> Value {
    Decoder::new(bytes).whole(ty, bytes)
}

/// The most parts of a value of which the numbers are exported.
const EXPORTED: usize = 1 << 10;

/// Decodes the first parts of a value, at a cost of which `left` is what all values together may still cost.
pub fn decode_within(ty: Type<'_>, bytes: &[u8], left: &mut usize) -> Value {
    let all = Decoder::new(bytes);
    let mut decoder = Decoder { parts: all.parts.min(EXPORTED), steps: all.steps.min(*left), ..all };
    let before = (decoder.steps, decoder.bytes);
    let value = decoder.whole(ty, bytes);
    *left = left.saturating_sub(before.0 - decoder.steps + (before.1 - decoder.bytes) / 64 + 1);
    value
}

/// What decoding may still cost. The bytes of the value bound it, since a few types can describe any number of parts:
/// arrays of arrays, members without bytes, unions of unions.
struct Decoder {
    /// Parts of the value.
    parts: usize,
    /// Bytes of names and texts.
    bytes: usize,
    /// Members and constants of types.
    steps: usize,
}

impl Decoder {
    /// For a value of these bytes. Types that a compiler made cost far less.
    fn new(bytes: &[u8]) -> Self {
        let len = bytes.len();
        let scaled = |least: usize, each: usize| least.saturating_add(len.saturating_mul(each));
        Self {
            parts: PARTS.min(scaled(256, 16)),
            // Small texts may be in several members of unions; copies of a large one would not fit in memory.
            bytes: scaled(4096, 64).min(scaled(1 << 20, 2)),
            steps: STEPS.min(scaled(1 << 16, 1 << 12)),
        }
    }

    fn whole(&mut self, ty: Type<'_>, bytes: &[u8]) -> Value {
        if ty.kind() == Kind::DataSec { self.variables(ty, bytes) } else { self.value(ty, bytes, DEPTH) }
    }

    /// The variables of global data, each with its name.
    fn variables(&mut self, section: Type<'_>, bytes: &[u8]) -> Value {
        let variable = |variable: Variable<'_>| {
            let end = variable.offset.saturating_add(variable.size).min(bytes.len());
            let value = self.value(variable.ty, bytes.get(variable.offset..end).unwrap_or_default(), DEPTH);
            (text(variable.name), value)
        };
        Value::Struct(section.variables().map(variable).collect())
    }

    /// Whether it may still cost as much as a part of this type. Once it may not, it may cost nothing.
    fn may_visit(&mut self, ty: Type<'_>) -> bool {
        self.steps = self.steps.saturating_sub(ty.members_len());
        self.parts = if self.steps == 0 { 0 } else { self.parts.saturating_sub(1) };
        self.parts > 0
    }

    /// The same for a copy of bytes.
    fn may_copy(&mut self, bytes: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes.len());
        if self.bytes == 0 {
            self.parts = 0;
        }
        self.parts > 0
    }

    fn bytes(&mut self, bytes: &[u8]) -> Value {
        if self.may_copy(bytes) { Value::Bytes(bytes.to_vec()) } else { Value::Cut }
    }

    fn value(&mut self, ty: Type<'_>, bytes: &[u8], depth: usize) -> Value {
        let resolved = ty.resolved();
        if !self.may_visit(resolved) || depth == 0 {
            return Value::Cut;
        }
        let size = resolved.bytes().and_then(|size| usize::try_from(size).ok());
        let Some(bytes) = size.and_then(|size| bytes.get(..size)) else { return Value::Cut };
        match resolved.kind() {
            Kind::Int | Kind::Ptr | Kind::Enum | Kind::Enum64 | Kind::Float if bytes.len() > NUMBER => {
                Value::Cut
            }
            Kind::Int => match number(bytes) {
                Some(number) => int(resolved, number, bytes.len()),
                None => self.bytes(&most_significant_first(bytes)),
            },
            Kind::Ptr => number(bytes).map_or_else(|| self.bytes(bytes), Value::Pointer),
            Kind::Enum | Kind::Enum64 => match number(bytes) {
                Some(number) => constant(resolved, number, 8 * bytes.len()),
                None => self.bytes(bytes),
            },
            Kind::Float => match bytes {
                &[a, b, c, d] => Value::Float(f32::from_ne_bytes([a, b, c, d]).into()),
                _ => bytes
                    .try_into()
                    .map_or_else(|_| self.bytes(bytes), |b| Value::Float(f64::from_ne_bytes(b))),
            },
            Kind::Array => self.array(resolved, bytes, depth),
            Kind::Struct | Kind::Union => {
                let mut fields = Vec::new();
                self.fields(resolved, bytes, depth, &mut fields);
                Value::Struct(fields)
            }
            _ => self.bytes(bytes),
        }
    }

    fn array(&mut self, ty: Type<'_>, bytes: &[u8], depth: usize) -> Value {
        let Some((of, count)) = ty.array() else { return Value::Cut };
        match bytes_of(ty) {
            Some((true, _)) if self.may_copy(bytes) => return Value::Text(Chars::array(bytes)),
            Some((true, _)) => return Value::Cut,
            Some((false, _)) => return self.bytes(bytes),
            None => {}
        }
        let Some(size) = of.resolved().bytes().and_then(|size| usize::try_from(size).ok()) else {
            return Value::Cut;
        };
        let mut list = Vec::new();
        for at in 0..count {
            let next = at.checked_mul(size).and_then(|from| bytes.get(from..));
            let value = next.map_or(Value::Cut, |bytes| self.value(of, bytes, depth - 1));
            list.push(value);
            if self.parts == 0 || next.is_none() {
                // Once, however many elements are left out.
                list.extend((list.last() != Some(&Value::Cut) && at + 1 < count).then_some(Value::Cut));
                break;
            }
        }
        Value::List(list)
    }

    /// The fields of a struct or union. Those of a part without a name belong to the whole, as in C.
    fn fields(&mut self, ty: Type<'_>, bytes: &[u8], depth: usize, fields: &mut Vec<(String, Value)>) {
        // The macros declare it first.
        let tag = ty
            .fields()
            .take(FIRST)
            .find(|field| field.name == b"tag")
            .filter(|tag| tag.from == 0 && tag.ty.bytes() == Some(8));
        let tag = tag.and_then(|_| number(bytes.get(..8)?));
        for field in ty.fields() {
            if self.parts == 0 || !self.may_copy(field.name) {
                return fields.push(("…".to_owned(), Value::Cut));
            }
            let inner = field.ty.resolved();
            let from = bytes.get(field.from / 8..).unwrap_or_default();
            if field.name.is_empty() && matches!(inner.kind(), Kind::Struct | Kind::Union) {
                match tag {
                    _ if !self.may_visit(inner) => fields.push(("…".to_owned(), Value::Cut)),
                    Some(tag) if has_variants(inner) => self.variant(inner, tag, from, depth, fields),
                    _ if depth > 1 => self.fields(inner, from, depth - 1, fields),
                    _ => fields.push(("…".to_owned(), Value::Cut)),
                }
                continue;
            }
            if !is_shown(&field) {
                continue;
            }
            let value = match field.bits {
                0 => self.value(field.ty, from, depth - 1),
                _ if !self.may_visit(inner) => Value::Cut,
                bits => bit_field(inner, bytes, field.from, bits),
            };
            fields.push((text(field.name), value));
        }
    }

    /// The one variant of a tagged record that has this tag.
    fn variant(
        &mut self,
        union: Type<'_>,
        tag: u64,
        bytes: &[u8],
        depth: usize,
        fields: &mut Vec<(String, Value)>,
    ) {
        let tag_of = |field: &Field<'_>| Some(field.ty.array()?.0.array()?.1 as u64);
        let names = union.fields().filter(|field| tag_of(field) == Some(tag));
        let variant = names.filter_map(|field| field.name.strip_prefix(TAG)).next();
        let variant = variant.and_then(|name| union.fields().find(|field| field.name == name));
        match variant {
            Some(field) => fields.push((text(field.name), self.value(field.ty, bytes, depth - 1))),
            None => fields.push(("(unknown tag)".to_owned(), self.bytes(bytes))),
        }
    }
}

fn has_variants(union: Type<'_>) -> bool {
    union.fields().take(FIRST).any(|field| field.name.starts_with(TAG))
}

/// Whether a field is the user's own.
pub(crate) fn is_shown(field: &Field<'_>) -> bool {
    !field.name.is_empty() && !field.name.starts_with(b"mapring_")
}

/// Whether an array of bytes is one of characters, and its length. `None` if it is of other elements.
pub(crate) fn bytes_of(array: Type<'_>) -> Option<(bool, usize)> {
    let (of, count) = array.array()?;
    let of = of.resolved();
    let is_char = of.encoding() & 2 != 0 || of.name() == b"char";
    (of.kind() == Kind::Int && of.bytes() == Some(1)).then_some((is_char, count))
}

/// A value of an enum, of which `value` has this number of bits.
fn constant(ty: Type<'_>, value: u64, bits: usize) -> Value {
    let (value, number) = match signed(value, bits, ty.is_signed()) {
        Value::Signed(number) => (number.cast_unsigned(), number.into()),
        _ => (value, value.into()),
    };
    ty.constant(value).map_or(Value::Code(number), |name| Value::Name(text(name), number))
}

fn int(ty: Type<'_>, value: u64, bytes: usize) -> Value {
    let encoding = ty.encoding();
    if encoding & 4 != 0 && value < 2 {
        return Value::Bool(value == 1);
    }
    signed(value, 8 * bytes, encoding & 1 != 0)
}

fn signed(value: u64, bits: usize, signed: bool) -> Value {
    if !signed || bits == 0 || bits > 64 {
        return Value::Unsigned(value);
    }
    let unused = 64 - bits;
    Value::Signed((value << unused).cast_signed() >> unused)
}

/// A number in at most 8 bytes of this machine's order.
fn number(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    let at = if cfg!(target_endian = "big") { 8_usize.checked_sub(bytes.len())? } else { 0 };
    word.get_mut(at..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_ne_bytes(word))
}

fn most_significant_first(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    bytes
}

fn bit_field(ty: Type<'_>, bytes: &[u8], from: usize, bits: u32) -> Value {
    let bits = bits as usize;
    let bit = |at: usize| {
        Some(bytes.get(at / 8)? >> if cfg!(target_endian = "big") { 7 - at % 8 } else { at % 8 } & 1)
    };
    if bits > 64 {
        return Value::Cut;
    }
    let mut value = 0_u64;
    for at in 0..bits {
        let Some(bit) = from.checked_add(at).and_then(bit) else { return Value::Cut };
        let to = if cfg!(target_endian = "big") { bits - 1 - at } else { at };
        value |= u64::from(bit) << to;
    }
    if matches!(ty.kind(), Kind::Enum | Kind::Enum64) {
        return constant(ty, value, bits);
    }
    match ty.encoding() {
        encoding if encoding & 4 != 0 && value < 2 => Value::Bool(value == 1),
        encoding => signed(value, bits, encoding & 1 != 0),
    }
}
