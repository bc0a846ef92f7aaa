//! Several record types in one ring: records that start with a tag.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{AnyBitPattern, Pod};

use crate::record::{Record, TypeLayout, Variant};

/// A record that is one of the variants of the enum `E`, as `MAPRING_VARIANT` (`tagged.bpf.h`) declares them in C.
///
/// `Ring<Tagged<E>>` is a ring of such records. `E` is an enum of references with `#[derive(Tagged)]`, with the lifetime
/// `'static`. [`variant`](TaggedRecord::variant) returns it with references into the private copy of the record that the
/// reader made, without another copy.
#[cfg_attr(feature = "derive", doc = "```")]
#[cfg_attr(not(feature = "derive"), doc = "```ignore")]
/// use mapring::{Record, Ring, Tagged};
///
/// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
/// #[repr(C)]
/// struct Exec { pid: u32, ppid: u32 }
///
/// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
/// #[repr(C)]
/// struct Exit { pid: u32, code: i32, ns: u64 }
///
/// #[derive(Debug, PartialEq, Tagged)]
/// enum Event<'r> {
///     #[tag(1)]
///     Exec(&'r Exec),
///     #[tag(2)]
///     Exit(&'r Exit),
/// }
///
/// # use std::os::fd::AsFd;
/// # let programs = Ring::<[u64; 4]>::create_memfd(8, 1)?; // with a larger variant
/// # let writer = programs.writer(0)?;
/// # for record in [[1, 7 | 1 << 32, 0, 0], [2, 7, 5, 0], [9, 10, 11, 12]] { writer.push(&record); }
/// # let fd = programs.region().as_fd().try_clone_to_owned().unwrap();
/// let mut reader = Ring::<Tagged<Event<'_>>>::open(fd)?.reader();
/// let mut seen = Vec::new();
/// reader.for_each(usize::MAX, |event| match event.record.variant() {
///     Ok(Event::Exec(exec)) => seen.push(format!("{} started by {}", exec.pid, exec.ppid)),
///     Ok(Event::Exit(exit)) => seen.push(format!("{} ended after {} ns", exit.pid, exit.ns)),
///     Err(unknown) => seen.push(unknown.to_string()), // from a newer program
/// });
/// assert_eq!(seen, ["7 started by 1", "7 ended after 5 ns", "tag 9, 16 bytes"]);
/// # Ok::<(), mapring::Error>(())
/// ```
///
/// A process that writes such records to a memfd declares the tag and the variant as a struct of the same size.
///
/// **Programs of another version.** A program may have more variants than `E`, and larger ones: the ring's records may
/// be larger than `Tagged<E>`. All others are refused when the ring is opened. If the map has BTF that this process may
/// read, the tag, the name and the fields of each variant of `E` must be the same in C.
pub type Tagged<E> = TaggedRecord<<E as Variants>::Payload, PhantomData<E>>;

/// The type behind [`Tagged`].
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub struct TaggedRecord<P, E> {
    tag: u64,
    payload: P,
    of: E,
}

/// The variants of a tagged record: `#[derive(Tagged)]` implements it for an enum of references to records.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the enum of a tagged record",
    note = "`#[derive(mapring::Tagged)]` on `enum Event<'r> {{ #[tag(1)] Exec(&'r Exec), … }}` makes it one"
)]
pub trait Variants: 'static {
    /// The enum with another lifetime.
    type With<'r>;
    /// Whole words that hold the largest variant.
    type Payload: Pod;
    /// The tags, names and layouts of all variants.
    const VARIANTS: &'static [Variant];
    /// The variant with this tag, if there is one. The payload can have any bytes.
    fn decode(tag: u64, payload: &Self::Payload) -> Option<Self::With<'_>>;
}

/// A record with a tag that the enum does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown<'r> {
    /// Its tag.
    pub tag: u64,
    /// The bytes after the tag: as many as the largest variant of the enum has, rounded up to 8. Bytes that a larger
    /// variant has behind them are not copied. Bytes behind a smaller one have any value.
    pub bytes: &'r [u8],
}

impl<E: Variants> TaggedRecord<E::Payload, PhantomData<E>> {
    /// The variant of this record, to match. It refers to this record. Costs a comparison of the tag, and no copy.
    ///
    /// # Errors
    /// [`Unknown`] if `E` has no variant with this tag: the record is from a newer program.
    #[inline]
    pub fn variant(&self) -> Result<E::With<'_>, Unknown<'_>> {
        let unknown = || Unknown { tag: self.tag, bytes: bytemuck::bytes_of(&self.payload) };
        E::decode(self.tag, &self.payload).ok_or_else(unknown)
    }
}

impl<E: Variants> Record for TaggedRecord<E::Payload, PhantomData<E>> {
    const LAYOUT: TypeLayout = TypeLayout::Tagged(size_of::<Self>(), E::VARIANTS);
}

impl<E: Variants> fmt::Debug for TaggedRecord<E::Payload, PhantomData<E>>
where
    for<'r> E::With<'r>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variant() {
            Ok(variant) => variant.fmt(f),
            Err(unknown) => unknown.fmt(f),
        }
    }
}

/// `tag 9, 16 bytes`
impl fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag {}, {} bytes", self.tag, self.bytes.len())
    }
}

impl std::error::Error for Unknown<'_> {}

/// The record at the start of a payload.
#[doc(hidden)]
#[inline]
pub fn record_in<P: Pod, T: Record>(payload: &P) -> &T {
    const {
        assert!(size_of::<T>() <= size_of::<P>(), "a payload holds all variants");
        assert!(align_of::<T>() <= align_of::<P>(), "records are aligned to 8 at most");
    }
    bytemuck::from_bytes(&bytemuck::bytes_of(payload)[..size_of::<T>()])
}

/// The words of the largest of these sizes in bytes.
#[doc(hidden)]
pub const fn payload_words(sizes: &[usize]) -> usize {
    let (mut at, mut most) = (0, 0);
    while at < sizes.len() {
        if sizes[at] > most {
            most = sizes[at];
        }
        at += 1;
    }
    most.div_ceil(8)
}
