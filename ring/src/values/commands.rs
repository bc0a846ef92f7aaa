//! Commands: a ring that userspace writes, and whose commands programs carry out.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};
use mapring_core::protocol::commands;
use thiserror::Error as ThisError;

use super::openers;
use crate::abi::Kind;
use crate::abi::Process;
use crate::abi::commands::{APPLIED, CommandsPlace, OWNER, PUSHED, SKIPPED};
use crate::error::{Cause, Error, ReadError, Result};
use crate::region::fallback::{TripleRead, lookup};
use crate::region::{Region, Shared, SharedMut, Writer, is_alive, this_process};

/// A ring of commands of type `T`, from userspace to programs: `MAPRING_COMMANDS` of `commands.bpf.h`.
///
/// Programs carry out each command once, in order, at the start of their next event. They acknowledge it by counting:
/// command `n` is carried out once [`acknowledged`](Self::acknowledged) returns `n` or more. Every program that begins
/// after that sees the change. A program that begins after [`push`](CommandsWriter::push) returned carries the command
/// out itself, unless another one is carrying out commands at that moment.
///
/// ```no_run
/// # use mapring::{Commands, OpenOptions};
/// let commands = Commands::<[u32; 2]>::open_with("/sys/fs/bpf/commands", OpenOptions::new().write(true))?;
/// let writer = commands.writer()?;
/// let number = writer.push(&[4, 10])?;
/// while writer.acknowledged() < number {
///     std::thread::yield_now(); // until a program runs
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Commands<T> {
    region: Region,
    /// `None` if the region is not mapped.
    mapped: Option<Shared>,
    places: CommandsPlace,
    command: PhantomData<fn(T)>,
}

openers!([] Commands<T>, T, Kind::Commands);

impl<T> Clone for Commands<T> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), mapped: self.mapped.clone(), ..*self }
    }
}

impl<T: AnyBitPattern> Commands<T> {
    /// Commands over a region that is already open. Whether their type is compared: see
    /// [`Ring::from_region`](crate::Ring::from_region).
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) and [`ErrorKind::Layout`](crate::ErrorKind::Layout), with
    /// both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect_record::<T>(Kind::Commands)?;
        let places = CommandsPlace::new(region.geometry());
        let mapped = region.shared();
        Ok(Self { region, mapped, places, command: PhantomData })
    }
}

impl<T> Commands<T> {
    /// The number of slots: how many commands can wait for programs.
    pub fn slots(&self) -> usize {
        self.places.count()
    }

    /// The number of commands that programs carried out or [skipped](Self::skipped). An acquire: this thread, and each
    /// program that begins afterwards, sees what the commands changed. If mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    #[inline]
    pub fn acknowledged(&self) -> Result<u64, ReadError> {
        match &self.mapped {
            Some(shared) => Ok(commands::acknowledged(shared.words(), &self.places)),
            None => self.look(APPLIED),
        }
    }

    /// The number of commands that were pushed. If mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn pushed(&self) -> Result<u64, ReadError> {
        self.word(PUSHED)
    }

    /// How often programs found words that no writer writes, and skipped them: something else writes this memory. If
    /// mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn skipped(&self) -> Result<u64, ReadError> {
        self.word(SKIPPED)
    }

    /// The pid of the process that has a writer, or had one when it died; `None` if no process does. If mapped: one
    /// load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn owner(&self) -> Result<Option<u32>, ReadError> {
        Ok(Process::decode(self.word(OWNER)?).map(|owner| owner.pid))
    }

    fn word(&self, word: usize) -> Result<u64, ReadError> {
        match &self.mapped {
            Some(shared) => {
                Ok(shared.words().load(self.places.header() + word, std::sync::atomic::Ordering::Relaxed))
            }
            None => self.look(word),
        }
    }

    #[cold]
    fn look(&self, word: usize) -> Result<u64, ReadError> {
        let words = self.region.geometry().element_words();
        let mut triple = TripleRead::new(1, words);
        triple.fetch(lookup(&self.region), self.region.geometry().first() + word / words, 1)?;
        Ok(triple.word(0, word % words))
    }
}

impl<T: NoUninit> Commands<T> {
    /// A writer, for this process alone. The region must be mapped for writing: a BPF map opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write).
    ///
    /// One *process* writes commands at a time: the first to call this, until it drops its last writer or ends, in any
    /// way. Then the next process can take over: it continues after the last command that was pushed. A command whose
    /// writer died in [`push`](CommandsWriter::push) was not pushed. Processes are known by their pid and start time
    /// (procfs), so all must be in one PID namespace. A child of `fork` is another process: it must not use inherited
    /// writers.
    ///
    /// Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::OtherWriters`](crate::ErrorKind::OtherWriters) if another process writes these commands and lives:
    /// the message names its pid, as does [`owner`](Self::owner).
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::System`](crate::ErrorKind::System) without procfs.
    pub fn writer(&self) -> Result<CommandsWriter<T>> {
        let (shared, me) = (self.region.shared_mut()?, this_process()?);
        let mut writer = self.region.count_writer(0);
        {
            let _turn = writer.turn();
            let alive = |owner| Process::decode(owner).is_some_and(is_alive);
            commands::own(shared.words(), &self.places, me.encode(), alive).map_err(|owner| {
                let pid = Process::decode(owner).map_or(0, |owner| owner.pid);
                Error::from(Cause::Owned { what: self.region.what().to_owned(), pid })
            })?;
        }
        let (given_back, places) = (shared.clone(), self.places);
        writer.on_last(move || {
            // A child of `fork` drops what it inherited.
            if std::process::id() == me.pid {
                commands::disown(given_back.words(), &places, me.encode());
            }
        });
        Ok(CommandsWriter { inner: Arc::new(Inner { shared, writer, places }), command: PhantomData })
    }
}

impl<T> fmt::Debug for Commands<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Commands").field(&self.region).finish()
    }
}

/// A writer of commands. Clones, and other writers of this process, take turns: any thread may use any of them.
pub struct CommandsWriter<T> {
    inner: Arc<Inner>,
    command: PhantomData<fn(T)>,
}

struct Inner {
    shared: SharedMut,
    writer: Writer,
    places: CommandsPlace,
}

/// All slots are taken: programs have not carried out enough commands yet. Nothing was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error("no slot for the command: {slots} wait for programs to carry them out; push it again after an event")]
#[non_exhaustive]
pub struct Full {
    /// The number of slots.
    pub slots: usize,
}

impl<T: NoUninit> CommandsWriter<T> {
    /// Pushes a command, and returns its number: 1 for the first one. It is carried out once
    /// [`acknowledged`](Self::acknowledged) returns this number or more. All commands up to it are then visible to
    /// programs (a release). Makes no system call. Waits only while other threads of this process push.
    ///
    /// # Errors
    /// [`Full`], and then nothing was pushed.
    #[inline]
    pub fn push(&self, command: &T) -> Result<u64, Full> {
        let Inner { shared, writer, places } = &*self.inner;
        let _turn = writer.turn();
        commands::push(shared.words(), places, command).ok_or(Full { slots: places.count() })
    }
}

impl<T> CommandsWriter<T> {
    /// The number of commands that programs carried out or skipped: see [`Commands::acknowledged`]. One load.
    #[inline]
    pub fn acknowledged(&self) -> u64 {
        commands::acknowledged(*self.inner.shared.words(), &self.inner.places)
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.inner.shared.region()
    }
}

impl<T> Clone for CommandsWriter<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), command: PhantomData }
    }
}

impl<T> fmt::Debug for CommandsWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandsWriter").field("places", &self.inner.places).finish_non_exhaustive()
    }
}
