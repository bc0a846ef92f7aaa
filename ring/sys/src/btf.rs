//! BTF: the types of a BPF object, parsed from bytes that can have any content.
//!
//! Missing types, and types of another kind, are `None` or void. Only a limited number of references is followed, as
//! types may refer to each other in circles.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::bpf;

/// The most steps from one type to another: the kernel's limit.
pub const DEPTH: usize = 32;
/// The most fields of a struct, including those of nested structs: further fields are ignored.
const FIELDS: usize = 1 << 14;
/// The most members of all structs that are searched for these fields: one struct has up to 65,535.
const MEMBERS: usize = 1 << 18;
/// The longest name: the kernel's limit. Further bytes are ignored.
const NAME: usize = 512;

const MAGIC: u16 = 0xeb9f;
/// Bytes of the header, and of the part that all types have.
const HEADER: usize = 24;
const HEAD: usize = 12;

/// The kinds of types, by number.
const KINDS: [Kind; 20] = {
    use Kind::*;
    [
        Void, Int, Ptr, Array, Struct, Union, Enum, Fwd, Typedef, Volatile, Const, Restrict, Func, FuncProto,
        Var, DataSec, Float, DeclTag, TypeTag, Enum64,
    ]
};

/// The kind of a type, as `linux/btf.h` names it.
#[allow(missing_docs, reason = "the kernel's names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn of(info: u32) -> Option<Self> {
        KINDS.get((info >> 24 & 0x1f) as usize).copied()
    }

    /// Bytes of a type after its head, for this number of members.
    fn rest(self, members: usize) -> usize {
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::DataSec | Self::Enum64 => 12 * members,
            Self::Enum | Self::FuncProto => 8 * members,
            _ => 0,
        }
    }
}

/// All types of an object.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    /// The start and the end of the strings.
    strings: [usize; 2],
    /// The start of each type; the first one has the id 1.
    types: Vec<usize>,
}

impl Btf {
    /// Parses BTF in this machine's byte order. Returns `None` if it is invalid, or has kinds of types that are not
    /// supported.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let magic = bytes.first_chunk().copied().map(u16::from_ne_bytes)?;
        let at = |offset: usize| Some(word(&bytes, offset)? as usize);
        let header = at(4)?;
        if magic != MAGIC || header < HEADER {
            return None;
        }
        let [mut next, end] = part(&bytes, header, at(8)?, at(12)?)?;
        let strings = part(&bytes, header, at(16)?, at(20)?)?;
        let mut types = Vec::new();
        while next < end {
            types.push(next);
            let info = word(&bytes, next.checked_add(4)?)?;
            next = next.checked_add(HEAD + Kind::of(info)?.rest(info as usize & 0xffff))?;
        }
        (next == end).then_some(Self { bytes, strings, types })
    }

    /// The types of an object, from the kernel. Makes system calls, and needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// ENOENT if there are none (the id is 0); those of the kernel.
    pub fn load(id: u32) -> io::Result<Self> {
        if id == 0 {
            return Err(Errno::NOENT.into());
        }
        Self::read(bpf::btf_by_id(id)?.as_fd()).map(|(_, btf)| btf)
    }

    /// The types that a descriptor of BTF gives, after their id. Makes system calls, and needs no privilege.
    ///
    /// # Errors
    /// Those of the kernel; if there are kinds of types that are not supported.
    pub fn read(btf: BorrowedFd<'_>) -> io::Result<(u32, Self)> {
        let (id, bytes) = bpf::btf_bytes(btf)?;
        let btf = Self::new(bytes);
        Ok((id, btf.ok_or_else(|| io::Error::other("BTF that this version of mapring can't read"))?))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The type with this id; 0 is void.
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        let Some(index) = (id as usize).checked_sub(1) else {
            return Some(Type { btf: self, id, name: 0, info: 0, size: 0, rest: &[] });
        };
        let (head, rest) = self.bytes.get(*self.types.get(index)?..)?.split_first_chunk::<HEAD>()?;
        let [name, info, size] = words(head);
        Some(Type { btf: self, id, name, info, size, rest })
    }

    /// All types but void.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (1..).map_while(|id| self.get(id))
    }

    /// The string at this offset; empty if there is none.
    fn string(&self, at: u32) -> &[u8] {
        let [start, end] = self.strings;
        let strings = &self.bytes[start..end];
        let string = strings.get(at as usize..).unwrap_or_default();
        let string = string.get(..NAME).unwrap_or(string);
        string.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// A type.
#[derive(Clone, Copy)]
pub struct Type<'btf> {
    btf: &'btf Btf,
    /// Its number; 0 is void.
    pub id: u32,
    name: u32,
    info: u32,
    /// Its size in bytes, or the type to which it refers.
    size: u32,
    /// All bytes after its head.
    rest: &'btf [u8],
}

/// A field of a struct or union.
#[derive(Clone, Copy)]
pub struct Field<'btf> {
    /// Its name, which can have any bytes; empty if it has none.
    pub name: &'btf [u8],
    /// Its type.
    pub ty: Type<'btf>,
    /// Its offset in bits.
    pub from: usize,
    /// The number of its bits if it is a bit field, else 0.
    pub bits: u32,
    /// Whether it is in a union, so that other fields can have the same place.
    pub choice: bool,
}

/// A variable of a section.
#[derive(Clone, Copy)]
pub struct Variable<'btf> {
    /// Its name, which can have any bytes.
    pub name: &'btf [u8],
    /// Its type.
    pub ty: Type<'btf>,
    /// Its first byte in the section.
    pub offset: usize,
    /// Its bytes.
    pub size: usize,
}

impl<'btf> Type<'btf> {
    /// Its kind.
    pub fn kind(self) -> Kind {
        Kind::of(self.info).unwrap_or(Kind::Void)
    }

    /// Its name, which can have any bytes; empty if it has none.
    pub fn name(self) -> &'btf [u8] {
        self.btf.string(self.name)
    }

    /// The first name among this type and the types to which it refers.
    pub fn first_name(self) -> Option<&'btf [u8]> {
        let types = std::iter::successors(Some(self), |ty| ty.target());
        types.take(DEPTH).map(Self::name).find(|name| !name.is_empty())
    }

    /// The type to which it refers.
    pub fn target(self) -> Option<Self> {
        use Kind::*;
        match self.kind() {
            Ptr | Typedef | Volatile | Const | Restrict | Func | FuncProto | Var | DeclTag | TypeTag => {
                self.btf.get(self.size)
            }
            _ => None,
        }
    }

    /// The type that this qualifier or typedef is of.
    fn qualified(self) -> Option<Self> {
        use Kind::*;
        self.target().filter(|_| matches!(self.kind(), Volatile | Const | Restrict | TypeTag | Typedef))
    }

    /// The type without qualifiers and typedefs.
    pub fn resolved(self) -> Self {
        let mut ty = self;
        for _ in 0..DEPTH {
            let Some(target) = ty.qualified() else { break };
            ty = target;
        }
        ty
    }

    /// Its size in bytes, without qualifiers and typedefs.
    pub fn bytes(self) -> Option<u64> {
        use Kind::*;
        let (mut ty, mut count) = (self, 1_u64);
        for _ in 0..2 * DEPTH {
            (ty, count) = match (ty.qualified(), ty.array()) {
                (Some(target), _) => (target, count),
                (None, Some((of, more))) => (of, count.checked_mul(more as u64)?),
                (None, None) => break,
            };
        }
        count.checked_mul(match ty.kind() {
            Int | Struct | Union | Enum | Float | Enum64 => ty.size.into(),
            Ptr => size_of::<usize>() as u64,
            _ => return None,
        })
    }

    /// How an integer is encoded: bit 0 signed, bit 1 a character, bit 2 a boolean. 0 for other types.
    pub fn encoding(self) -> u32 {
        let int = self.rest.first_chunk().filter(|_| self.kind() == Kind::Int);
        int.map_or(0, |word| u32::from_ne_bytes(*word) >> 24 & 0xf)
    }

    /// The name of an enum's constant with this value, of which only the bytes of the enum count.
    pub fn constant(self, value: u64) -> Option<&'btf [u8]> {
        let count = self.info as usize & 0xffff;
        let name = match self.kind() {
            Kind::Enum => {
                let mut all = self.rest.as_chunks::<8>().0.iter().take(count);
                // The constants are of 4 bytes, whatever the size of the enum.
                let used = u64::MAX >> (64 - 8 * self.size.clamp(1, 4));
                let is_it =
                    |pair: &&[u8; 8]| word(*pair, 4).is_some_and(|it| u64::from(it) & used == value & used);
                all.find(is_it).and_then(|pair| word(pair, 0))
            }
            _ => {
                let is_it = |[_, low, high]: &[u32; 3]| u64::from(*low) | u64::from(*high) << 32 == value;
                self.members(&[Kind::Enum64]).find(is_it).map(|[name, ..]| name)
            }
        };
        name.map(|name| self.btf.string(name))
    }

    /// The names and values of an enum's constants, in order. Of an enum of 4 bytes or less only the low half counts.
    pub fn constants(self) -> impl Iterator<Item = (&'btf [u8], u64)> {
        let count = if self.kind() == Kind::Enum { self.info as usize & 0xffff } else { 0 };
        let short = self.rest.as_chunks::<8>().0.iter().take(count);
        let short = short.map(|pair| [0, 4].map(|at| word(pair, at).unwrap_or_default()));
        let long = self.members(&[Kind::Enum64]);
        let long = long.map(|[name, low, high]| (name, u64::from(low) | u64::from(high) << 32));
        let all = short.map(|[name, value]| (name, u64::from(value))).chain(long);
        all.map(move |(name, value)| (self.btf.string(name), value))
    }

    /// Whether an enum has negative values. Compilers before clang 15 do not say: then a constant from -4095 to -1 does.
    pub fn is_signed(self) -> bool {
        let is_negative = |value: u64| u32::try_from(value).is_ok_and(|value| value > u32::MAX - 4095);
        self.info >> 31 == 1
            || self.kind() == Kind::Enum && self.constants().any(|(_, value)| is_negative(value))
    }

    /// The type of an array's elements, and their number.
    pub fn array(self) -> Option<(Self, usize)> {
        let [of, _, count] = words(self.rest.first_chunk::<12>().filter(|_| self.kind() == Kind::Array)?);
        Some((self.btf.get(of)?, count as usize))
    }

    /// The fields of a struct or union, in order.
    pub fn fields(self) -> impl Iterator<Item = Field<'btf>> {
        let (is_union, has_bits) = (self.kind() == Kind::Union, self.info >> 31 == 1);
        self.members(&[Kind::Struct, Kind::Union]).filter_map(move |[name, ty, at]| {
            let (from, bits) = if has_bits { (at & 0xff_ffff, at >> 24) } else { (at, 0) };
            let ty = self.btf.get(ty)?;
            Some(Field { name: self.btf.string(name), ty, from: from as usize, bits, choice: is_union })
        })
    }

    /// Its field with this name.
    pub fn field(self, name: &str) -> Option<Field<'btf>> {
        self.fields().find(|field| field.name == name.as_bytes())
    }

    /// How many members or constants it has: what it costs to go through them.
    pub fn members_len(self) -> usize {
        use Kind::*;
        let has_members = matches!(self.kind(), Struct | Union | Enum | Enum64 | DataSec | FuncProto);
        if has_members { self.info as usize & 0xffff } else { 0 }
    }

    /// Its fields. After each field for which `enter` is true come the fields of its type. All offsets are relative to
    /// this type.
    pub fn fields_within(self, enter: impl Fn(&Field<'btf>) -> bool) -> Vec<Field<'btf>> {
        let (mut found, mut left) = (Vec::new(), MEMBERS);
        self.resolved().find_fields((0, false), DEPTH, &enter, &mut found, &mut left);
        found
    }

    fn find_fields(
        self,
        (base, choice): (usize, bool),
        depth: usize,
        enter: &impl Fn(&Field<'btf>) -> bool,
        found: &mut Vec<Field<'btf>>,
        left: &mut usize,
    ) {
        // Members without a type are no fields, but to pass over them costs as much.
        let Some(rest) = left.checked_sub(self.members_len()) else { return };
        *left = rest;
        for mut field in self.fields() {
            if found.len() == FIELDS {
                return;
            }
            field.from = field.from.saturating_add(base);
            field.choice |= choice;
            found.push(field);
            if depth > 0 && field.bits == 0 && enter(&field) {
                field.ty.resolved().find_fields((field.from, field.choice), depth - 1, enter, found, left);
            }
        }
    }

    /// The variables of a section.
    pub fn variables(self) -> impl Iterator<Item = Variable<'btf>> {
        self.members(&[Kind::DataSec]).filter_map(move |[var, offset, size]| {
            let var = self.btf.get(var).filter(|var| var.kind() == Kind::Var)?;
            Some(Variable {
                name: var.name(),
                ty: var.target()?,
                offset: offset as usize,
                size: size as usize,
            })
        })
    }

    /// The words of each member, if the type is of one of these kinds.
    fn members(self, of: &[Kind]) -> impl Iterator<Item = [u32; 3]> {
        let members = if of.contains(&self.kind()) { self.info as usize & 0xffff } else { 0 };
        self.rest.as_chunks::<12>().0.iter().take(members).map(words)
    }
}

/// The three words in these bytes.
fn words(bytes: &[u8; 12]) -> [u32; 3] {
    std::array::from_fn(|at| word(bytes, 4 * at).unwrap_or_default())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// The start and the end of a part of `len` bytes at `offset` after the header.
fn part(bytes: &[u8], header: usize, offset: usize, len: usize) -> Option<[usize; 2]> {
    let start = header.checked_add(offset)?;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some([start, end])
}
