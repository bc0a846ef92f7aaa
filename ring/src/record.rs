//! What a Rust type looks like in memory, to be compared with what it looks like in C.

use bytemuck::{AnyBitPattern, Pod};

/// Plain data whose layout is known field by field, so that it can be compared with what the BTF
/// of a BPF program says: see [`Ring::checked`](crate::Ring::checked) and
/// [`Globals::variable`](crate::Globals::variable).
///
/// Numbers and arrays are records. `#[derive(Record)]` (cargo feature `derive`) makes one of a struct of
/// one's own, as does [`record!`](crate::record) without it; [`plain_record!`](crate::plain_record) of
/// one that libbpf-cargo made from C.
pub trait Record: AnyBitPattern {
    /// The layout.
    const LAYOUT: Layout;
}

/// The layout of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A number of so many bytes. Signs are not compared: C's `char` has one here and none there.
    Integer(usize),
    /// A floating point number of so many bytes.
    Float(usize),
    /// So many of something.
    Array(&'static Layout, usize),
    /// A struct of so many bytes.
    Struct(usize, &'static [Field]),
}

/// A field of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; one that starts with `_` is padding, and not compared.
    pub name: &'static str,
    /// Where it starts, in bytes.
    pub offset: usize,
    /// What it is.
    pub layout: Layout,
}

impl Layout {
    /// Bytes that it takes.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Integer(bytes) | Self::Float(bytes) | Self::Struct(bytes, _) => *bytes,
            Self::Array(of, count) => of.bytes() * *count,
        }
    }
}

/// The layout of a field, for [`record!`](crate::record): its type is found by the function, which
/// is never called.
#[doc(hidden)]
pub const fn layout_of<T, F: Record>(_: fn(&T) -> &F) -> Layout {
    F::LAYOUT
}

/// The size of a field that is plain data, for [`plain_record!`](crate::plain_record).
#[doc(hidden)]
pub const fn plain_size<T, F: Pod>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! numbers {
    ($($kind:ident: $($number:ty)*;)*) => {
        $($(impl Record for $number {
            const LAYOUT: Layout = Layout::$kind(size_of::<$number>());
        })*)*
    };
}
numbers! {
    Integer: u8 u16 u32 u64 u128 i8 i16 i32 i64 i128;
    Float: f32 f64;
}

impl<T: Record + Pod, const N: usize> Record for [T; N] {
    const LAYOUT: Layout = Layout::Array(&T::LAYOUT, N);
}

/// Says the layout of a struct that is plain data already, by `bytemuck`'s derives: names its fields,
/// padding too. Field types are records themselves.
///
/// ```
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct SwitchEvent { ns: u64, prev: u32, next: u32, comm: [u8; 16] }
/// mapring::record!(SwitchEvent { ns, prev, next, comm });
///
/// use mapring::{Layout, Record};
/// assert_eq!(SwitchEvent::LAYOUT.bytes(), 32);
/// assert!(matches!(SwitchEvent::LAYOUT, Layout::Struct(32, [_, prev, ..]) if prev.offset == 8));
/// ```
///
/// A field that is left out does not compile.
#[macro_export]
macro_rules! record {
    ($ty:path { $($field:ident),* $(,)? }) => {
        const _: fn($ty) = |this| {
            // All of them, by name.
            let $ty { $($field: _),* } = this;
        };
        impl $crate::Record for $ty {
            const LAYOUT: $crate::Layout = $crate::Layout::Struct(
                ::core::mem::size_of::<$ty>(),
                &[$($crate::Field {
                    name: ::core::stringify!($field),
                    offset: ::core::mem::offset_of!($ty, $field),
                    layout: $crate::__private::layout_of(|this: &$ty| &this.$field),
                }),*],
            );
        }
    };
}

/// [`record!`](crate::record) for a struct that libbpf-cargo made from C, so that nobody writes it
/// down again: `mapring::plain_record!(types::switch_event { ns, prev, next, comm, __pad_28 });`. It
/// also makes it plain data (`bytemuck::Pod`), which it is if all of its fields are, and there is
/// nothing between them; anything else does not compile.
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
        const _: () = ::core::assert!(
            ::core::mem::size_of::<$ty>()
                == 0 $(+ $crate::__private::plain_size(|this: &$ty| &this.$field))*,
            "there is padding between the fields, or behind them: it must be fields, too",
        );
        // SAFETY: any bytes are a value of a struct all of whose fields that is so of: `record!` names
        // them all, and `plain_size` takes none other. There are no bytes but theirs.
        #[allow(unsafe_code)]
        unsafe impl $crate::__private::Pod for $ty {}
        // SAFETY: as above: zeros are such bytes.
        #[allow(unsafe_code)]
        unsafe impl $crate::__private::Zeroable for $ty {}
    };
}
