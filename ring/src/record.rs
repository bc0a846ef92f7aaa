//! The layout of Rust types, to be compared with the layout in C.

mod tailed;

use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;

use bytemuck::{AnyBitPattern, NoUninit, Pod};

pub(crate) use self::tailed::Tailed;
use crate::abi::Kind;

/// Plain data whose layout is known field by field. When a BPF map is opened, this layout is compared with the map's
/// BTF: see [`LayoutCheck`] and [`Globals::variable`](crate::globals::Globals::variable).
///
/// Numbers and arrays are records. `#[derive(Record)]` (cargo feature `derive`) implements it for your own structs;
/// [`record!`](macro@crate::record) does so without the feature. [`plain_record!`](crate::plain_record) implements it
/// for structs that libbpf-cargo generated from C.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a mapring `Record`",
    label = "not plain data whose layout mapring knows",
    note = "a struct of your own: `#[derive(Record)]` with `#[repr(C)]`; one that libbpf-cargo made: `skeleton_records!`",
    note = "a `bool` (`_Bool` in C, `MaybeUninit<bool>` in a skeleton) has bytes that mean nothing: use `u8` (`__u8`)",
    note = "a union (`__anon_…` in a skeleton) has no one layout: use an array of bytes, and take it apart in Rust",
    note = "a pointer, `char` or enum: use an integer of its size"
)]
pub trait Record: AnyBitPattern {
    /// The layout.
    const LAYOUT: TypeLayout;
}

/// The layout of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeLayout {
    /// A number of this many bytes. Signs are not compared: whether C's `char` is signed depends on the machine.
    Integer(usize),
    /// A floating point number of this many bytes.
    Float(usize),
    /// An array: the type of its elements, and how many.
    Array(&'static TypeLayout, usize),
    /// A struct of this many bytes, with its fields.
    Struct(usize, &'static [Field]),
    /// A [tagged record](crate::tagged::Tagged) of this many bytes, with its variants. In C it may have more bytes.
    Tagged(usize, &'static [Variant]),
}

/// A field of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name. A name that starts with `_` means padding, which is not compared.
    pub name: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
    /// The layout of its type.
    pub layout: TypeLayout,
}

/// A variant of a tagged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its tag.
    pub tag: u64,
    /// Its name. Underscores and capitals are not compared: `TaskExit` is `task_exit` in C.
    pub name: &'static str,
    /// The layout of its record.
    pub layout: TypeLayout,
}

impl TypeLayout {
    /// The size in bytes.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Integer(bytes) | Self::Float(bytes) | Self::Struct(bytes, _) | Self::Tagged(bytes, _) => {
                *bytes
            }
            Self::Array(of, count) => of.bytes() * *count,
        }
    }

    /// Whether the C type may have more bytes at its end: those of variants that Rust does not know.
    pub(crate) const fn is_open(&self) -> bool {
        match self {
            Self::Tagged(..) => true,
            Self::Struct(_, [.., last]) => last.layout.is_open(),
            _ => false,
        }
    }

    /// Whether a C type of this many bytes can have this layout.
    pub(crate) fn fits(&self, c: u64) -> bool {
        let bytes = self.bytes() as u64;
        c == bytes || c > bytes && self.is_open()
    }
}

/// How a handle's record type was compared with the C type when the region was opened.
///
/// The `open` functions of the handles compare every field with the map's BTF if it is available: a different name,
/// offset or size is an [`ErrorKind::Layout`](crate::ErrorKind::Layout). Otherwise this type contains the reason.
/// Fields whose names start with `_` are padding and not compared. The signs of numbers are not compared either. A Rust
/// type without fields is compared with the only field of a C struct. Of a [tagged record](crate::tagged::Tagged) each
/// variant of the Rust type is compared with the C type that has its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutCheck {
    /// Every field was compared with the C type in the map's BTF, and all are the same.
    Fields,
    /// Only the sizes were compared, for this reason.
    Size(UncheckedReason),
}

/// Why the fields of a record type were not compared with those of the C type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UncheckedReason {
    /// The handle was made from a region (`from_region`) that was opened without
    /// [`OpenOptions::expect_record`](crate::OpenOptions::expect_record), or with another type.
    NotAsked,
    /// The region is a memfd, which has no BTF.
    Memfd,
    /// The map has no BTF: its object was compiled without BTF, or its loader did not pass it on.
    NoBtf,
    /// The map's BTF does not describe records: mapring's macros did not declare the map.
    NotDescribed,
    /// This process may not read the BTF: that needs CAP_SYS_ADMIN (EPERM).
    NotAllowed,
    /// The kernel returned this error number, whose cause the library does not know.
    Errno(i32),
}

impl fmt::Display for LayoutCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields => f.write_str("field by field with the map's BTF"),
            Self::Size(why) => write!(f, "by size alone ({why})"),
        }
    }
}

impl fmt::Display for UncheckedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "the region was opened without this type: OpenOptions::expect_record",
            Self::Memfd => "a memfd has no BTF",
            Self::NoBtf => "the map has no BTF: compile its object with clang -g",
            Self::NotDescribed => "the map's BTF describes no records: no macro of mapring declared it",
            Self::NotAllowed => "reading BTF takes CAP_SYS_ADMIN",
            Self::Errno(errno) => {
                return write!(f, "no BTF: {}", std::io::Error::from_raw_os_error(*errno));
            }
        })
    }
}

/// A type with which records are to be compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) id: TypeId,
    pub(crate) layout: TypeLayout,
    pub(crate) rust: &'static str,
    /// The kind of region that must contain them.
    pub(crate) kind: Option<Kind>,
}

impl Expected {
    pub(crate) fn of<T: Record>(kind: Option<Kind>) -> Self {
        Self { id: TypeId::of::<T>(), layout: T::LAYOUT, rust: std::any::type_name::<T>(), kind }
    }
}

/// How the records of a region were compared when it was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared {
    /// The type with which they were compared.
    pub(crate) with: Option<TypeId>,
    pub(crate) check: LayoutCheck,
    /// The expected type, if the region's records may be larger.
    pub(crate) open: Option<TypeId>,
    /// Whether an [`AnyRecord`](crate::any::AnyRecord) may be larger than the region's records.
    pub(crate) any: bool,
}

impl Compared {
    pub(crate) fn new(expected: Option<&Expected>, with: Option<TypeId>, check: LayoutCheck) -> Self {
        let open = expected.filter(|expected| expected.layout.is_open()).map(|expected| expected.id);
        Self { with, check, open, any: false }
    }
}

/// The text of a C string in an array of `u8` or `i8`: up to the first zero, or all of it. Invalid UTF-8 becomes
/// `\u{fffd}`. Control characters stay: escape text from other processes before you print it to a terminal.
///
/// ```
/// assert_eq!(mapring::record::string(b"init\0t\0\0"), "init");
/// let comm: [i8; 4] = [105, 100, 0, 7]; // as libbpf-cargo has C's `char`
/// assert_eq!(mapring::record::string(&comm), "id");
/// ```
pub fn string<C: NoUninit>(chars: &[C]) -> Cow<'_, str> {
    let bytes: &[u8] = bytemuck::cast_slice(chars);
    String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
}

/// The layout of a field, for [`record!`](macro@crate::record). The function is never called; it only gives the type.
#[doc(hidden)]
pub const fn layout_of<T, F: Record>(_: fn(T) -> F) -> TypeLayout {
    F::LAYOUT
}

/// A field's name in C, which has no `r#type`.
#[doc(hidden)]
pub const fn name_of(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match core::str::from_utf8(rest) {
            Ok(name) => name,
            Err(_) => name,
        },
        _ => name,
    }
}

/// The size of a field of plain data, for [`plain_record!`](crate::plain_record).
#[doc(hidden)]
pub const fn plain_size<T, F: Pod>(_: fn(T) -> F) -> usize {
    size_of::<F>()
}

macro_rules! numbers {
    ($($kind:ident: $($number:ty)*;)*) => {
        $($(impl Record for $number {
            const LAYOUT: TypeLayout = TypeLayout::$kind(size_of::<$number>());
        })*)*
    };
}
numbers! {
    Integer: u8 u16 u32 u64 u128 i8 i16 i32 i64 i128;
    Float: f32 f64;
}

impl<T: Record + Pod, const N: usize> Record for [T; N] {
    const LAYOUT: TypeLayout = TypeLayout::Array(&T::LAYOUT, N);
}

/// Implements [`Record`](trait@crate::Record) for a struct that is already plain data by `bytemuck`'s derives. It takes
/// the names of all fields, padding included. The field types must be records.
///
/// ```
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct SwitchEvent { ns: u64, prev: u32, next: u32, comm: [u8; 16] }
/// mapring::record!(SwitchEvent { ns, prev, next, comm });
///
/// use mapring::{Record, record::TypeLayout};
/// assert_eq!(SwitchEvent::LAYOUT.bytes(), 32);
/// assert!(matches!(SwitchEvent::LAYOUT, TypeLayout::Struct(32, [_, prev, ..]) if prev.offset == 8));
/// ```
///
/// If a field is missing, it does not compile.
#[macro_export]
macro_rules! record {
    ($ty:path { $($field:ident),* $(,)? }) => {
        const _: fn($ty) = |this| {
            // Names all fields, so that a missing one does not compile.
            let $ty { $($field: _),* } = this;
        };
        impl $crate::Record for $ty {
            const LAYOUT: $crate::record::TypeLayout = $crate::record::TypeLayout::Struct(
                ::core::mem::size_of::<$ty>(),
                &[$($crate::record::Field {
                    name: $crate::__private::name_of(::core::stringify!($field)),
                    offset: ::core::mem::offset_of!($ty, $field),
                    layout: $crate::__private::layout_of(|this: $ty| this.$field),
                }),*],
            );
        }
    };
}

/// [`record!`](macro@crate::record) for a struct that libbpf-cargo generated from C, so that it need not be declared
/// again: `mapring::plain_record!(types::switch_event { ns, prev, next, comm, __pad_28 });`, and
/// `mapring::plain_record!(types::mode);` for an enum. It also implements `bytemuck::Pod`. That requires that all
/// fields are plain data and that there is no padding between them; anything else does not compile.
#[cfg_attr(
    feature = "derive",
    doc = "[`skeleton_records!`](crate::skeleton_records) finds the fields by itself."
)]
///
/// ```
/// mod types {
///     #[derive(Debug, Default, Copy, Clone)]
///     #[repr(C)]
///     pub struct switch_event { pub ns: u64, pub prev: u32, pub next: u32, pub comm: [i8; 16] }
/// }
/// mapring::plain_record!(types::switch_event { ns, prev, next, comm });
/// let ring = mapring::Ring::<types::switch_event>::create_memfd(8, 1)?;
/// # Ok::<(), mapring::Error>(())
/// ```
///
/// ```compile_fail
/// #[derive(Copy, Clone)]
/// #[repr(C)]
/// struct Padded { small: u8, large: u64 }
/// mapring::plain_record!(Padded { small, large });
/// ```
#[macro_export]
macro_rules! plain_record {
    ($ty:path { $($field:ident),* $(,)? }) => {
        $crate::record!($ty { $($field),* });
        $crate::plain_record!(@plain $ty: $($field)*);
    };
    ($ty:path) => {
        impl $crate::Record for $ty {
            const LAYOUT: $crate::record::TypeLayout = $crate::__private::layout_of(|this: $ty| this.0);
        }
        const _: fn($ty) = |this| {
            let $ty(_) = this;
        };
        $crate::plain_record!(@plain $ty: 0);
    };
    (@plain $ty:path: $($field:tt)*) => {
        const _: () = ::core::assert!(
            ::core::mem::size_of::<$ty>()
                == 0 $(+ $crate::__private::plain_size(|this: $ty| this.$field))*,
            "there is padding between the fields, or behind them: it must be fields, too",
        );
        // SAFETY: any bytes are a valid value of a struct if this is true of all its fields and it has no other bytes.
        // `record!` names all fields, `plain_size` accepts only `Pod` fields, and the assertion excludes other bytes.
        #[allow(unsafe_code)]
        unsafe impl $crate::__private::Pod for $ty {}
        // SAFETY: as above: zeros are such bytes.
        #[allow(unsafe_code)]
        unsafe impl $crate::__private::Zeroable for $ty {}
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_has_the_bytes_of_its_type() {
        assert_eq!(<[[u32; 3]; 5]>::LAYOUT.bytes(), size_of::<[[u32; 3]; 5]>());
        assert_eq!(f64::LAYOUT.bytes(), 8);
        assert_eq!(TypeLayout::Struct(24, &[]).bytes(), 24);
        assert_eq!(TypeLayout::Tagged(16, &[]).bytes(), 16);
        assert_eq!(plain_size(|value: [u32; 3]| value), 12);
        assert_eq!(layout_of(|value: [u32; 3]| value), TypeLayout::Array(&TypeLayout::Integer(4), 3));
    }

    #[test]
    fn only_the_last_part_of_a_record_may_be_larger_in_c() {
        const TAGGED: TypeLayout = TypeLayout::Tagged(16, &[]);
        const FIRST: &[Field] = &[
            Field { name: "tagged", offset: 0, layout: TAGGED },
            Field { name: "ns", offset: 16, layout: TypeLayout::Integer(8) },
        ];
        const LAST: &[Field] = &[
            Field { name: "ns", offset: 0, layout: TypeLayout::Integer(8) },
            Field { name: "tagged", offset: 8, layout: TAGGED },
        ];
        assert!(TAGGED.fits(16) && TAGGED.fits(24) && !TAGGED.fits(8));
        assert!(TypeLayout::Struct(24, LAST).fits(24) && TypeLayout::Struct(24, LAST).fits(25));
        assert!(TypeLayout::Struct(24, FIRST).fits(24) && !TypeLayout::Struct(24, FIRST).fits(25));
        assert!(!TypeLayout::Array(&TAGGED, 2).fits(40) && !TypeLayout::Struct(0, &[]).fits(8));
    }

    #[test]
    fn fields_have_the_names_that_c_knows() {
        assert_eq!(["r#type", "r", "regs", "r#"].map(name_of), ["type", "r", "regs", ""]);
    }

    #[test]
    fn what_was_compared_is_said_with_the_reason() {
        assert_eq!(LayoutCheck::Fields.to_string(), "field by field with the map's BTF");
        assert_eq!(
            LayoutCheck::Size(UncheckedReason::Memfd).to_string(),
            "by size alone (a memfd has no BTF)"
        );
        assert!(UncheckedReason::Errno(13).to_string().starts_with("no BTF: Permission denied"));
    }
}
