//! Global variables of BPF programs, by name.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use bytemuck::{AnyBitPattern, NoUninit};
use crossbeam_utils::Backoff;
use mapring_core::protocol::first_of;

use super::table::{Guard, Seqlock, Snapshot, TwoCopies};
use crate::abi::WORD;
use crate::access::{Access, Refusal};
use crate::any_record::AnyRecord;
use crate::error::{Cause, Error, ReadError, Result};
use crate::record::Record;
use crate::region::maps::{Section, three_lookups};
use crate::region::{Memory, OpenOptions, Source, Writer};

/// A section of a BPF object's global data: `.data`, `.bss`, `.rodata`, or your own such as `.data.hot`. BTF gives the
/// names of its variables, and their types, which are checked.
///
/// The section is mapped if the kernel allows it: then reading a variable makes no system call, takes no lock and does
/// not wait. Opening makes system calls, and needs CAP_SYS_ADMIN to read the types, unless the source is from
/// `mapring_loader::section`. Clones are handles to the same mapping.
///
/// Variables of 1, 2, 4 or 8 bytes are read and written whole: [`variable`](Self::variable). Larger variables that
/// change while they are read must be declared by the macros of `global.bpf.h`: [`cell`](Self::cell) and
/// [`latch`](Self::latch).
#[derive(Clone)]
pub struct Globals(Arc<Section>);

impl Globals {
    /// Opens a section for reading: the source is its map. `mapring_loader::section` finds the map of a
    /// loaded object by the section's name. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open); [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a map
    /// that does not hold global data; [`ErrorKind::Layout`](crate::ErrorKind::Layout).
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        Self::open_with(source, OpenOptions::new())
    }

    /// The same with options: [`OpenOptions::write`] requests a writable mapping.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(source: impl Into<Source>, options: OpenOptions) -> Result<Self> {
        Ok(Self(Arc::new(Section::new(source.into().map()?.0, options)?)))
    }

    /// The section's name, such as `.bss`.
    pub fn section(&self) -> &str {
        &self.0.name
    }

    /// The names of its variables. Allocates; makes no system call.
    pub fn names(&self) -> Vec<String> {
        self.0.globals().into_iter().map(|global| global.name).collect()
    }

    /// How it is read: mapped, or by system calls and why.
    pub fn access(&self) -> Access {
        self.0.access()
    }

    /// Whether it is mapped for writing, and if not, why.
    ///
    /// # Errors
    /// The [`Refusal`]: [`Refusal::Frozen`] for `.rodata`, [`Refusal::NotAsked`] if it was opened without
    /// [`OpenOptions::write`].
    pub fn writable(&self) -> Result<(), Refusal> {
        self.0.writable
    }

    /// A variable of 1, 2, 4 or 8 bytes, aligned to its size. Makes no system call.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) with the variables that exist;
    /// [`ErrorKind::Layout`](crate::ErrorKind::Layout) with both sides for another type, or for a variable that can't
    /// be read whole.
    pub fn variable<T: Record>(&self, name: &str) -> Result<Variable<T>> {
        let global = self.0.global(name)?;
        self.0.check(&global, &T::LAYOUT, std::any::type_name::<T>())?;
        let bytes = size_of::<T>();
        if !matches!(bytes, 1 | 2 | 4 | 8) || !global.offset.is_multiple_of(bytes) {
            return Err(Error::from(Cause::Layout {
                what: self.0.what.clone(),
                field: name.to_owned(),
                rust: "read whole if it has 1, 2, 4 or 8 bytes and is aligned to as many (others are declared by \
                       MAPRING_GLOBAL_CELL or MAPRING_GLOBAL_LATCH)"
                    .to_owned(),
                c: format!("of {bytes} bytes at offset {}", global.offset),
            }));
        }
        Ok(Variable { section: self.0.clone(), offset: global.offset, value: PhantomData })
    }

    /// A variable declared by `MAPRING_GLOBAL_CELL`, of any size. Makes no system call.
    ///
    /// # Errors
    /// As for [`variable`](Self::variable).
    pub fn cell<T: Record>(&self, name: &str) -> Result<Global<T, Seqlock>> {
        self.guarded(name, 1)
    }

    /// A variable declared by `MAPRING_GLOBAL_LATCH`, of any size. Makes no system call.
    ///
    /// # Errors
    /// As for [`variable`](Self::variable).
    pub fn latch<T: Record>(&self, name: &str) -> Result<Global<T, TwoCopies>> {
        self.guarded(name, 2)
    }

    /// The same as [`cell`](Self::cell) for a type of up to 16 × `N` bytes that is not known: for tools that learn it at run time.
    ///
    /// # Errors
    /// As for [`variable`](Self::variable).
    pub fn any_cell<const N: usize>(&self, name: &str) -> Result<Global<AnyRecord<N>, Seqlock>> {
        self.any_guarded(name, 1)
    }

    /// The same as [`latch`](Self::latch) for a type of up to 16 × `N` bytes that is not known.
    ///
    /// # Errors
    /// As for [`variable`](Self::variable).
    pub fn any_latch<const N: usize>(&self, name: &str) -> Result<Global<AnyRecord<N>, TwoCopies>> {
        self.any_guarded(name, 2)
    }

    fn guarded<T: Record, P: Guard>(&self, name: &str, copies: usize) -> Result<Global<T, P>> {
        let global = self.0.global(name)?;
        self.0.check_guarded(&global, &T::LAYOUT, copies, std::any::type_name::<T>())?;
        Ok(self.at(global.offset / WORD, 1 + copies * size_of::<T>().div_ceil(WORD)))
    }

    fn any_guarded<const N: usize, P>(&self, name: &str, copies: usize) -> Result<Global<AnyRecord<N>, P>> {
        let global = self.0.global(name)?;
        let words = self.0.any_guarded(&global, copies, AnyRecord::<N>::MAX)?;
        Ok(self.at(global.offset / WORD, words))
    }

    fn at<T, P>(&self, at: usize, words: usize) -> Global<T, P> {
        let writer = self.0.writable.is_ok().then(|| Writer::new(self.0.identity, at));
        Global { section: self.0.clone(), at, words, writer, value: PhantomData }
    }
}

impl fmt::Debug for Globals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Globals")
            .field("what", &self.0.what)
            .field("section", &self.0.name)
            .field("access", &self.access())
            .field("writable", &self.writable())
            .finish()
    }
}

fn not_writable(section: &Section) -> Error {
    let refusal = section.writable.err().unwrap_or(Refusal::NotAsked);
    Error::not_writable(&section.what, refusal)
}

/// A global variable of up to 8 bytes.
pub struct Variable<T> {
    section: Arc<Section>,
    offset: usize,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Record> Variable<T> {
    /// How many times a variable is read by system call until two reads agree.
    const MAX_TRIES: u32 = 128;

    /// The current value: all bytes are of one write. If mapped: one load of its size, followed by an acquire fence. Otherwise
    /// lookups of the section, until two agree.
    ///
    /// # Errors
    /// Only if it is not mapped: [`ReadError::Lookup`], or [`ReadError::Busy`] if it changed all the time.
    #[inline]
    pub fn get(&self) -> Result<T, ReadError> {
        match &self.section.memory {
            Memory::Mapped(mapping) => {
                let bytes = mapping.load(self.offset, size_of::<T>());
                fence(Ordering::Acquire);
                Ok(bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()]))
            }
            Memory::Lookup(lookup, _) => {
                for _ in 0..Self::MAX_TRIES {
                    let copies = three_lookups(lookup, self.section.bytes)?;
                    let [first, _, last] = copies.map(|copy| copy[self.offset / WORD].to_ne_bytes());
                    let place = self.offset % WORD..self.offset % WORD + size_of::<T>();
                    if first[place.clone()] == last[place.clone()] {
                        return Ok(bytemuck::pod_read_unaligned(&last[place]));
                    }
                }
                Err(ReadError::Busy { tries: Self::MAX_TRIES })
            }
        }
    }
}

impl<T: Record + NoUninit> Variable<T> {
    /// Writes the variable whole, without touching its neighbours: one store of its size, a release. The old value is lost: a
    /// program that is adding to the variable at this moment may add to the old value.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed).
    pub fn set(&self, value: T) -> Result<()> {
        let mut word = [0; WORD];
        word[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
        match &self.section.memory {
            Memory::Mapped(mapping) if mapping.store(self.offset, size_of::<T>(), word) => Ok(()),
            _ => Err(not_writable(&self.section)),
        }
    }
}

impl<T> fmt::Debug for Variable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variable").field("section", &self.section.name).field("offset", &self.offset).finish()
    }
}

/// A global variable with a sequence word: a cell ([`Globals::cell`]) or a latch ([`Globals::latch`]). It is read
/// whole, whatever its size.
pub struct Global<T, P> {
    section: Arc<Section>,
    at: usize,
    words: usize,
    /// `None` if the section is not mapped for writing.
    writer: Option<Writer>,
    value: PhantomData<fn(T) -> (T, P)>,
}

impl<T: AnyBitPattern, P: Guard> Global<T, P> {
    /// How many times a read tries before it returns [`ReadError::Busy`].
    pub const MAX_TRIES: u32 = 128;

    /// The latest value, all zeros if it was never written. If mapped: no system call, no lock, one attempt unless a
    /// writer interferes, and at most [`MAX_TRIES`](Self::MAX_TRIES). Otherwise three lookups of the section per attempt.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if a writer interfered with each attempt, [`ReadError::Lookup`].
    pub fn read(&self) -> Result<T, ReadError> {
        self.snapshot().map(|snapshot| snapshot.value)
    }

    /// Like [`read`](Self::read), with the value's version.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn snapshot(&self) -> Result<Snapshot<T>, ReadError> {
        let backoff = Backoff::new();
        for _ in 0..Self::MAX_TRIES {
            if let Some(snapshot) = self.try_read()? {
                return Ok(snapshot);
            }
            backoff.spin();
        }
        Err(ReadError::Busy { tries: Self::MAX_TRIES })
    }

    fn try_read(&self) -> io::Result<Option<Snapshot<T>>> {
        let mut value = T::zeroed();
        let seq = match &self.section.memory {
            Memory::Mapped(mapping) => P::try_read(mapping.words().slice(self.at, self.words), &mut value),
            Memory::Lookup(lookup, _) => {
                let [first, middle, last] = three_lookups(lookup, self.section.bytes)?;
                let seq = last[self.at];
                P::at::<T>(seq, self.words).filter(|_| first[self.at] == seq).map(|at| {
                    value = first_of(bytemuck::cast_slice(&middle[self.at..][at..self.words]));
                    seq
                })
            }
        };
        Ok(seq.map(|seq| Snapshot { version: P::version(seq), value }))
    }
}

impl<T: Record + NoUninit, P: Guard> Global<T, P> {
    /// Publishes a value. Returns `false` if a program, or a writer in another process, is in the cell; this update is
    /// then dropped. Makes no system call.
    ///
    /// Writers of this variable in this process take turns by a lock, whichever handles they have. A latch must be
    /// written by one process at a time: two that write at once can publish a mixture.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed).
    pub fn set(&self, value: &T) -> Result<bool> {
        let words = match &self.section.memory {
            Memory::Mapped(mapping) => mapping.words_mut(),
            Memory::Lookup(..) => None,
        };
        let (Some(words), Some(writer)) = (words, &self.writer) else {
            return Err(not_writable(&self.section));
        };
        let _turn = writer.turn();
        Ok(P::set(words.slice(self.at, self.words), value))
    }
}

impl<T, P> fmt::Debug for Global<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Global").field("section", &self.section.name).field("at", &self.at).finish()
    }
}
