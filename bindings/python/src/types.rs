//! The types of records, from BTF to a tree of a few sorts, which Python turns into a numpy dtype and into decoders.
//!
//! BTF can have any content. So the tree has a limited number of nodes, each part lies inside of its whole, and a value has a
//! limited number of parts: fields can lie over each other, and be arrays of structs whose fields do so as well.

use std::collections::HashSet;

use mapring_sys::btf::{Btf, Kind, Type};
use pyo3::prelude::*;

/// The most nodes of a tree and members of types that are looked at.
const STEPS: usize = 1 << 14;
/// The deepest nesting. numpy has arrays of up to 32 dimensions.
const DEPTH: usize = 16;

/// A type whose size is known.
pub(crate) enum Node {
    /// As numpy names it: `u4`, `i8`, `f8`, `?` (a byte), `S16` (characters), `V3` (bytes).
    Leaf(String),
    Array(Box<Node>, usize),
    Struct(usize, Vec<(String, usize, Node)>, Vec<Bits>),
}

/// A bit field: its name, its first bit, its number of bits, and whether it is signed.
type Bits = (String, usize, u32, bool);

impl Node {
    /// `str`, `("array", node, count)` or `("struct", size, [(name, offset, node)], [bit field])`.
    pub(crate) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Leaf(code) => Ok(code.into_pyobject(py)?.into_any()),
            Self::Array(of, count) => Ok(("array", of.to_python(py)?, count).into_pyobject(py)?.into_any()),
            Self::Struct(size, fields, bits) => {
                let field =
                    |(name, at, node): &(String, usize, Node)| Ok((name.clone(), *at, node.to_python(py)?));
                let fields = fields.iter().map(field).collect::<PyResult<Vec<_>>>()?;
                Ok(("struct", size, fields, bits.clone()).into_pyobject(py)?.into_any())
            }
        }
    }
}

/// The type of the records in the values of a region: what the macros of the BPF headers declare.
pub(crate) fn record(btf: &Btf, value: u32, has_tails: bool) -> Option<Type<'_>> {
    let value = btf.get(value).filter(|value| value.kind() == Kind::Struct)?;
    // In a ring with tails, a value is a whole shard, and a record is in a struct with the place of its tail.
    let slot = value.field("slot").and_then(|slots| slots.ty.array()).map(|(slot, _)| slot);
    let record = slot.filter(|slot| slot.kind() == Kind::Struct).unwrap_or(value).field("record")?.ty;
    if has_tails { Some(record.resolved().field("record")?.ty) } else { Some(record) }
}

/// The tree of a type of this size.
pub(crate) fn tree(ty: Type<'_>, size: usize) -> Option<Node> {
    if bytes(ty)? != size {
        return None;
    }
    // Types that a compiler made cost far less, also unions of many variants.
    let scaled = |least: usize, each: usize| least.saturating_add(size.saturating_mul(each));
    let mut builder = Builder { steps: STEPS, parts: scaled(1 << 12, 16), bytes: scaled(1 << 16, 64) };
    Some(builder.node(ty, size, (1, DEPTH)))
}

/// The size of a type.
pub(crate) fn bytes(ty: Type<'_>) -> Option<usize> {
    usize::try_from(ty.bytes()?).ok()
}

/// What the tree and its values may still cost. Once any of it is 0, they may cost nothing.
struct Builder {
    /// Nodes of the tree, and members of types that are looked at.
    steps: usize,
    /// Parts of a value.
    parts: usize,
    /// Their bytes.
    bytes: usize,
}

/// How many times a value has this part, and how deep its types may still be nested.
type Budget = (usize, usize);

impl Builder {
    /// Whether a part of `size` bytes may be taken apart.
    fn may_visit(&mut self, ty: Type<'_>, size: usize, (times, depth): Budget) -> bool {
        self.steps = self.steps.saturating_sub(1 + ty.members_len());
        self.parts = self.parts.saturating_sub(times);
        self.bytes = self.bytes.saturating_sub(times.saturating_mul(size));
        depth > 0 && !self.is_spent()
    }

    fn is_spent(&self) -> bool {
        self.steps == 0 || self.parts == 0 || self.bytes == 0
    }

    /// The node of a type that has `size` bytes.
    fn node(&mut self, ty: Type<'_>, size: usize, budget: Budget) -> Node {
        let (ty, opaque) = (ty.resolved(), Node::Leaf(format!("V{size}")));
        if !self.may_visit(ty, size, budget) {
            return opaque;
        }
        let number = |code: &str| Node::Leaf(format!("{code}{size}"));
        match (ty.kind(), size) {
            (Kind::Int, 1) if ty.encoding() & 4 != 0 => Node::Leaf("?".to_owned()),
            (Kind::Int, 1 | 2 | 4 | 8) => number(if ty.encoding() & 1 != 0 { "i" } else { "u" }),
            (Kind::Enum | Kind::Enum64, 1 | 2 | 4 | 8) => number(if ty.is_signed() { "i" } else { "u" }),
            (Kind::Ptr, 8) => number("u"),
            (Kind::Float, 4 | 8) => number("f"),
            (Kind::Array, _) => self.array(ty, size, budget).unwrap_or(opaque),
            (Kind::Struct | Kind::Union, _) => {
                let (mut fields, mut bits, mut names) = (Vec::new(), Vec::new(), HashSet::new());
                self.fields(ty, size, 0, budget, &mut |part| match part {
                    Part::Field(name, ..) | Part::Bits((name, ..)) if !names.insert(name.clone()) => {}
                    Part::Field(name, at, node) => fields.push((name, at, node)),
                    Part::Bits(field) => bits.push(field),
                });
                if fields.is_empty() && bits.is_empty() { opaque } else { Node::Struct(size, fields, bits) }
            }
            _ => opaque,
        }
    }

    fn array(&mut self, ty: Type<'_>, size: usize, (times, depth): Budget) -> Option<Node> {
        let (of, count) = ty.array()?;
        let each = bytes(of).filter(|each| each.checked_mul(count) == Some(size))?;
        let inner = of.resolved();
        if inner.kind() == Kind::Int && each == 1 && (inner.encoding() & 2 != 0 || inner.name() == b"char") {
            return Some(Node::Leaf(format!("S{size}")));
        }
        // Numbers of one byte become one object.
        let parts = if inner.kind() == Kind::Int && each == 1 { times } else { times.saturating_mul(count) };
        let inner = self.node(of, each, (parts, depth - 1));
        // Its elements cost too much: then it is one part.
        if self.is_spent() { None } else { Some(Node::Array(Box::new(inner), count)) }
    }

    /// The fields of a struct or union of `size` bytes that begins at `base` of the whole. Those of a part without a name belong
    /// to the whole, as in C. What the macros add has no field.
    fn fields(
        &mut self,
        ty: Type<'_>,
        size: usize,
        base: usize,
        budget: Budget,
        found: &mut dyn FnMut(Part),
    ) {
        let inside = (budget.0, budget.1 - 1);
        for field in ty.fields() {
            if self.is_spent() {
                return;
            }
            let name = String::from_utf8_lossy(field.name).into_owned();
            let hidden = name.starts_with("mapring_");
            if field.bits != 0 {
                let end = field.from.checked_add(field.bits as usize).filter(|end| *end <= 8 * size);
                if end.is_some() && field.bits <= 64 && !name.is_empty() && !hidden {
                    let inner = field.ty.resolved();
                    self.may_visit(inner, size_of::<u64>(), budget);
                    let signed = inner.encoding() & 5 == 1 || inner.kind() != Kind::Int && inner.is_signed();
                    found(Part::Bits((name, 8 * base + field.from, field.bits, signed)));
                }
                continue;
            }
            let at = field.from / 8;
            let len =
                bytes(field.ty).filter(|len| *len > 0 && at.checked_add(*len).is_some_and(|end| end <= size));
            let Some(len) = len.filter(|_| field.from.is_multiple_of(8) && !hidden) else { continue };
            let inner = field.ty.resolved();
            if !name.is_empty() {
                let node = self.node(field.ty, len, inside);
                found(Part::Field(name, base + at, node));
            } else if matches!(inner.kind(), Kind::Struct | Kind::Union) && self.may_visit(inner, 0, inside) {
                self.fields(inner, len, base + at, inside, found);
            }
        }
    }
}

enum Part {
    Field(String, usize, Node),
    Bits(Bits),
}
