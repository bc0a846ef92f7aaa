//! Dispatch tables: programs to which other programs jump, replaced while they run.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bytemuck::{bytes_of, bytes_of_mut};
use mapring_core::text::printable;
use mapring_sys::bpf::{self, Elements};
use mapring_sys::fdinfo::is_frozen;
use mapring_sys::fdinfo::program_type;
use mapring_sys::kinds::{MapType, program_type_name};

use crate::access::Refusal;
use crate::bpf::MapFd;
use crate::error::{Cause, Error, Result};
use crate::record;
use crate::region::Source;

/// A `PROG_ARRAY`: programs by slot, to which BPF programs jump by `mapring_dispatch` (`dispatch.bpf.h`) or
/// `bpf_tail_call`.
///
/// A slot is replaced as a whole: a jump finds the old program or the new one. Every method makes a system call; none
/// blocks, except that [`insert`](Self::insert) and [`remove`](Self::remove) may wait for a grace period. Each jump to
/// an empty slot is counted, by CPU, in the counters that `MAPRING_DISPATCH` declares next to the table.
///
/// The kernel empties the table when its last descriptor and pin are gone, even if programs still use it: keep this
/// handle (or the object) open, or pin the map.
pub struct Dispatch {
    map: MapFd,
}

/// A program in a slot of a [`Dispatch`].
#[derive(Debug)]
pub struct Program {
    /// Its id, unique while the machine is up.
    pub id: u32,
    /// Its name in the kernel: at most 15 bytes.
    pub name: String,
    /// The name of its type in libbpf (`xdp`, `raw_tracepoint`, …).
    pub kind: String,
    fd: OwnedFd,
}

impl Dispatch {
    /// Opens a table of any loader.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open), [`ErrorKind::WrongType`](crate::ErrorKind::WrongType).
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        Self::new(source.into().map()?.0)
    }

    fn new(map: MapFd) -> Result<Self> {
        map.expect(MapType::PROG_ARRAY, "prog_array")?;
        Ok(Self { map })
    }

    /// The number of slots.
    pub fn len(&self) -> usize {
        self.map.info.max_entries as usize
    }

    /// Always false: there is at least one slot. It may be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a loaded program into a slot, replacing the program that was there.
    ///
    /// # Errors
    /// [`ErrorKind::Program`](crate::ErrorKind::Program) with both types if the program is not of the table's type, or
    /// `program` is not a program (a table accepts programs of one type, attach type and way of compiling: those of the
    /// first program that was loaded with it or put into it); [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange);
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed) for a frozen table;
    /// [`ErrorKind::System`](crate::ErrorKind::System) for a read-only descriptor.
    pub fn insert(&self, slot: usize, program: impl AsFd) -> Result<()> {
        let key = self.key(slot)?;
        let fd = program.as_fd();
        self.slots().update(bytes_of(&key), bytes_of(&fd.as_raw_fd())).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => self.failed("bpf(BPF_MAP_UPDATE_ELEM)", error),
            _ => self.refused(slot, fd, error),
        })
    }

    /// Empties a slot. Returns `false` if it was empty.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange); [`ErrorKind::Sealed`](crate::ErrorKind::Sealed);
    /// [`ErrorKind::System`](crate::ErrorKind::System) for a read-only descriptor.
    pub fn remove(&self, slot: usize) -> Result<bool> {
        let removed = self.slots().delete(bytes_of(&self.key(slot)?));
        there(removed).map(|done| done.is_some()).map_err(|e| self.failed("bpf(BPF_MAP_DELETE_ELEM)", e))
    }

    /// The id of a slot's program; `None` if the slot is empty.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange), [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn id(&self, slot: usize) -> Result<Option<u32>> {
        let mut id = 0_u32;
        let found = self.slots().lookup(bytes_of(&self.key(slot)?), bytes_of_mut(&mut id));
        there(found.map(|()| id)).map_err(|e| self.failed("bpf(BPF_MAP_LOOKUP_ELEM)", e))
    }

    /// A slot's program, opened by its id, which needs CAP_SYS_ADMIN; `None` if the slot is empty.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange), [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn get(&self, slot: usize) -> Result<Option<Program>> {
        /// The program can be replaced, and freed, between reading its id and opening it.
        const TRIES: u32 = 16;
        for _ in 0..TRIES {
            let Some(id) = self.id(slot)? else { return Ok(None) };
            if let Some(program) = there(Program::by_id(id)).map_err(|e| {
                Error::from(Cause::System {
                    call: "bpf(BPF_PROG_GET_FD_BY_ID)",
                    hint: match e.kind() {
                        io::ErrorKind::PermissionDenied => "; needs CAP_SYS_ADMIN; Dispatch::id does not",
                        _ => "",
                    },
                    error: e,
                })
            })? {
                return Ok(Some(program));
            }
        }
        let busy = io::Error::new(io::ErrorKind::NotFound, "the slot was replaced all the time");
        Err(self.failed("bpf(BPF_PROG_GET_FD_BY_ID)", busy))
    }

    /// The slots that hold a program, with the ids of the programs. Each slot is read at a different moment.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System), as an item, for a slot that can't be read.
    pub fn iter(&self) -> impl Iterator<Item = Result<(usize, u32)>> + '_ {
        (0..self.len()).filter_map(|slot| self.id(slot).map(|id| id.map(|id| (slot, id))).transpose())
    }

    fn slots(&self) -> Elements<&Self> {
        Elements::new(self, &self.map.info)
    }

    fn key(&self, slot: usize) -> Result<u32> {
        let small = u32::try_from(slot).ok().filter(|_| slot < self.len());
        small.ok_or(Error::from(Cause::Index { thing: "slot", index: slot, count: self.len() }))
    }

    fn failed(&self, call: &'static str, error: io::Error) -> Error {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        if denied && !call.contains("LOOKUP") && is_frozen(self.as_fd()) == Some(true) {
            return Error::not_writable(&self.map.what, Refusal::Frozen);
        }
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; the descriptor is read-only: with a pin of mode 0600 its owner can write it"
            }
            _ => "",
        };
        Error::from(Cause::System { call, error, hint })
    }

    /// Why a program was refused, as far as this can be found out.
    fn refused(&self, slot: usize, program: BorrowedFd<'_>, error: io::Error) -> Error {
        let owner = program_type(self.as_fd()).map(program_type_name);
        let table = match &owner {
            Some(owner) => format!("{}[{slot}] (programs of type {owner})", self.map.what),
            None => format!("{}[{slot}]", self.map.what),
        };
        let (program, hint) = match about(program) {
            Ok((id, name, kind)) => {
                let hint = if owner.is_some_and(|owner| owner != kind) {
                    "; all programs of a table are of one type: make a table for each"
                } else {
                    "; all programs of a table have one attach type, are all compiled by the JIT or none, and are \
                     bound to the same device or none"
                };
                (format!("program {id} {name} (of type {kind})"), hint)
            }
            Err(_) => ("what is no loaded program".to_owned(), "; load it first, and keep its object"),
        };
        Error::from(Cause::Program { table, program, error, hint })
    }
}

impl Program {
    fn by_id(id: u32) -> io::Result<Self> {
        let fd = bpf::program_by_id(id)?;
        let (id, name, kind) = about(fd.as_fd())?;
        Ok(Self { id, name, kind, fd })
    }
}

/// A program's id, name and type.
fn about(program: BorrowedFd<'_>) -> io::Result<(u32, String, String)> {
    // For a map, the info call would return the map's info instead.
    let name = rustix::fs::readlink(format!("/proc/self/fd/{}", program.as_raw_fd()), Vec::new());
    if name.is_ok_and(|name| name.as_bytes() != b"anon_inode:bpf-prog") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let info = bpf::program_info(program)?;
    let name = record::string(&info.name);
    Ok((info.id, printable(&name), program_type_name(info.ty)))
}

/// `None` if it does not exist.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl AsFd for Dispatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

/// The descriptor can be put into other slots and tables, or attached.
impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch").field("what", &self.map.what).field("len", &self.len()).finish()
    }
}
