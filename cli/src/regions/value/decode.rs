//! Decodes values from bytes by their BTF types. Types and bytes can have any content.

use mapring::btf::{Field, Kind, Type, Variable};
use mapring::record;

use super::{Value, text};

/// The most parts of one value that are shown: an array in BTF can claim any length.
const PARTS: usize = 1 << 14;
/// The deepest nesting that is shown: types may contain themselves in BTF that no compiler made.
const DEPTH: usize = 16;
/// How the name of the field starts that gives the tag of a variant (`MAPRING_VARIANT`).
const TAG: &[u8] = b"mapring_tag__";

/// The variants among the fields of a record: those with a tag.
pub(super) fn variants<'f, 't>(fields: &'f [Field<'t>]) -> impl Iterator<Item = &'f Field<'t>> {
    let has_tag =
        |field: &&Field<'_>| fields.iter().any(|tag| tag.name.strip_prefix(TAG) == Some(field.name));
    fields.iter().filter(has_tag)
}

/// Decodes the bytes of a value of this type. Global data becomes a struct of its variables.
pub(crate) fn decode(ty: Type<'_>, bytes: &[u8]) -> Value {
    if ty.kind() == Kind::DataSec {
        return Value::Struct(variables(ty, bytes));
    }
    Decoder { left: PARTS }.value(ty, bytes, DEPTH)
}

/// The variables of global data, each with its name.
fn variables(section: Type<'_>, bytes: &[u8]) -> Vec<(String, Value)> {
    let mut decoder = Decoder { left: PARTS };
    let variable = |variable: Variable<'_>| {
        let end = variable.offset.saturating_add(variable.size).min(bytes.len());
        let value = decoder.value(variable.ty, bytes.get(variable.offset..end).unwrap_or_default(), DEPTH);
        (text(variable.name), value)
    };
    section.variables().map(variable).collect()
}

struct Decoder {
    /// The parts that may still be shown.
    left: usize,
}

impl Decoder {
    fn value(&mut self, ty: Type<'_>, bytes: &[u8], depth: usize) -> Value {
        let resolved = ty.resolved();
        if self.left == 0 || depth == 0 {
            return Value::Cut;
        }
        self.left -= 1;
        let size = resolved.bytes().and_then(|size| usize::try_from(size).ok());
        let Some(bytes) = size.and_then(|size| bytes.get(..size)) else { return Value::Cut };
        match resolved.kind() {
            Kind::Int => int(resolved, bytes),
            Kind::Ptr => Value::Bytes(reversed(bytes)),
            Kind::Enum | Kind::Enum64 => {
                let Some(number) = number(bytes) else { return Value::Bytes(bytes.to_vec()) };
                resolved.constant(number).map_or(Value::Code(number), |name| Value::Name(text(name)))
            }
            Kind::Float => match bytes {
                &[a, b, c, d] => Value::Float(f32::from_ne_bytes([a, b, c, d]).into()),
                _ => bytes
                    .try_into()
                    .map_or_else(|_| Value::Bytes(bytes.to_vec()), |b| Value::Float(f64::from_ne_bytes(b))),
            },
            Kind::Array => self.array(resolved, bytes, depth),
            Kind::Struct | Kind::Union => {
                let mut fields = Vec::new();
                self.fields(resolved, bytes, depth, &mut fields);
                Value::Struct(fields)
            }
            _ => Value::Bytes(bytes.to_vec()),
        }
    }

    fn array(&mut self, ty: Type<'_>, bytes: &[u8], depth: usize) -> Value {
        let Some((of, count)) = ty.array() else { return Value::Cut };
        let element = of.resolved();
        if element.kind() == Kind::Int && element.bytes() == Some(1) {
            let is_char = element.encoding() & 2 != 0 || element.name() == b"char";
            return match is_char {
                true => Value::Text(record::string(bytes).into_owned()),
                false => Value::Bytes(bytes.to_vec()),
            };
        }
        let Some(size) = element.bytes().and_then(|size| usize::try_from(size).ok()) else {
            return Value::Cut;
        };
        let mut list = Vec::new();
        for at in 0..count {
            let next = at.checked_mul(size).and_then(|from| bytes.get(from..));
            list.push(next.map_or(Value::Cut, |bytes| self.value(of, bytes, depth - 1)));
            if self.left == 0 && at + 1 < count {
                list.push(Value::Cut);
                break;
            }
        }
        Value::List(list)
    }

    /// The fields of a struct or union. Those of a part without a name belong to the whole, as in C.
    fn fields(&mut self, ty: Type<'_>, bytes: &[u8], depth: usize, fields: &mut Vec<(String, Value)>) {
        let tag = ty.field("tag").filter(|tag| tag.from == 0 && tag.ty.bytes() == Some(8));
        let tag = tag.and_then(|_| number(bytes.get(..8)?));
        for field in ty.fields() {
            if self.left == 0 {
                return fields.push(("…".to_owned(), Value::Cut));
            }
            let inner = field.ty.resolved();
            let from = bytes.get(field.from / 8..).unwrap_or_default();
            if field.name.is_empty() && matches!(inner.kind(), Kind::Struct | Kind::Union) {
                self.left -= 1;
                match tag {
                    Some(tag) if has_variants(inner) => self.variant(inner, tag, from, depth, fields),
                    _ if depth > 1 => self.fields(inner, from, depth - 1, fields),
                    _ => fields.push(("…".to_owned(), Value::Cut)),
                }
                continue;
            }
            if field.name.is_empty() || field.name.starts_with(b"mapring_") {
                continue;
            }
            let value = match field.bits {
                0 => self.value(field.ty, from, depth - 1),
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
            None => fields.push(("(unknown tag)".to_owned(), Value::Bytes(bytes.to_vec()))),
        }
    }
}

fn has_variants(union: Type<'_>) -> bool {
    union.fields().any(|field| field.name.starts_with(TAG))
}

fn int(ty: Type<'_>, bytes: &[u8]) -> Value {
    let Some(value) = number(bytes) else { return Value::Bytes(reversed(bytes)) };
    let encoding = ty.encoding();
    if encoding & 4 != 0 && value < 2 {
        return Value::Bool(value == 1);
    }
    signed(value, 8 * bytes.len(), encoding & 1 != 0)
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

/// The bytes of a large number, the most significant first.
fn reversed(bytes: &[u8]) -> Vec<u8> {
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
        return ty.constant(value).map_or(Value::Code(value), |name| Value::Name(text(name)));
    }
    match ty.encoding() {
        encoding if encoding & 4 != 0 && value < 2 => Value::Bool(value == 1),
        encoding => signed(value, bits, encoding & 1 != 0),
    }
}
