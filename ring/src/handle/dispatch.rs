//! Dispatch tables: programs that other programs jump to, replaced while they run.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::MapType;

use crate::error::{Error, Result};
use crate::region::{MapFd, Refusal, Source, is_frozen};

/// A `PROG_ARRAY`: programs by slot, which BPF programs jump to by `mapring_dispatch`
/// (`dispatch.bpf.h`) or `bpf_tail_call`.
///
/// A slot is replaced as a whole: whoever jumps finds the old program or the new one. Every method
/// makes a system call; none blocks, but [`insert`](Self::insert) and [`remove`](Self::remove) may
/// wait for a grace period. Jumps to an empty slot are counted, one by one and by CPU, in the
/// counters that `MAPRING_DISPATCH` makes beside the table.
///
/// The kernel empties the table when its last descriptor and pin are gone, even if programs still
/// use it: keep this handle (or the object) open, or pin the map.
pub struct Dispatch {
    map: MapFd,
}

/// A program in a slot of a [`Dispatch`].
#[derive(Debug)]
pub struct Program {
    /// Its id, unique while the machine is up.
    pub id: u32,
    /// Its name, as the kernel keeps it: 15 bytes at most.
    pub name: String,
    /// Its type, as libbpf calls it (`xdp`, `raw_tracepoint`, …).
    pub kind: String,
    fd: OwnedFd,
}

impl Dispatch {
    /// Opens a table of any loader.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotARegion`]; [`Error::MapType`] for another type of map.
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        Self::new(source.into().map()?.0)
    }

    fn new(map: MapFd) -> Result<Self> {
        map.expect(MapType::ProgArray, "prog_array")?;
        Ok(Self { map })
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.map.info.info.max_entries as usize
    }

    /// Whether there are none. There is always one; it may be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a loaded program into a slot, in place of what was there.
    ///
    /// # Errors
    /// [`Error::Program`] with both types, if the program is not of the table's type (a table takes
    /// the programs of one type, attach type and way of compiling: those of the first that was
    /// loaded with it or put into it), or `program` is none; [`Error::Index`]; [`Error::Sealed`] for a
    /// frozen table; [`Error::System`] for a read-only descriptor.
    pub fn insert(&self, slot: usize, program: impl AsFd) -> Result<()> {
        let key = self.key(slot)?;
        let fd = program.as_fd();
        kernel::insert(self.as_fd(), key, fd).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => self.failed("bpf(BPF_MAP_UPDATE_ELEM)", error),
            _ => self.refused(slot, fd, error),
        })
    }

    /// Empties a slot; `false` if it was empty.
    ///
    /// # Errors
    /// [`Error::Index`]; [`Error::Sealed`]; [`Error::System`] for a read-only descriptor.
    pub fn remove(&self, slot: usize) -> Result<bool> {
        let removed = kernel::remove(self.as_fd(), self.key(slot)?);
        there(removed).map(|done| done.is_some()).map_err(|e| self.failed("bpf(BPF_MAP_DELETE_ELEM)", e))
    }

    /// The id of a slot's program; `None` if the slot is empty.
    ///
    /// # Errors
    /// [`Error::Index`], [`Error::System`].
    pub fn id(&self, slot: usize) -> Result<Option<u32>> {
        let id = kernel::id(self.as_fd(), self.key(slot)?);
        there(id).map_err(|e| self.failed("bpf(BPF_MAP_LOOKUP_ELEM)", e))
    }

    /// A slot's program, opened by its id, which needs CAP_SYS_ADMIN; `None` if the slot is empty.
    ///
    /// # Errors
    /// [`Error::Index`], [`Error::System`].
    pub fn get(&self, slot: usize) -> Result<Option<Program>> {
        /// A program may be replaced, and gone, between the look at its id and the next step.
        const TRIES: u32 = 16;
        for _ in 0..TRIES {
            let Some(id) = self.id(slot)? else { return Ok(None) };
            if let Some(program) = there(Program::by_id(id)).map_err(|e| Error::System {
                call: "bpf(BPF_PROG_GET_FD_BY_ID)",
                hint: match e.kind() {
                    io::ErrorKind::PermissionDenied => "; needs CAP_SYS_ADMIN; Dispatch::id does not",
                    _ => "",
                },
                error: e,
            })? {
                return Ok(Some(program));
            }
        }
        let busy = io::Error::new(io::ErrorKind::NotFound, "the slot was replaced all the time");
        Err(self.failed("bpf(BPF_PROG_GET_FD_BY_ID)", busy))
    }

    /// The slots that hold a program, and the programs' ids. Each is of the moment of its look.
    ///
    /// # Errors
    /// [`Error::System`], as an item, for a slot that can't be looked at.
    pub fn iter(&self) -> impl Iterator<Item = Result<(usize, u32)>> + '_ {
        (0..self.len()).filter_map(|slot| self.id(slot).map(|id| id.map(|id| (slot, id))).transpose())
    }

    fn key(&self, slot: usize) -> Result<u32> {
        let small = u32::try_from(slot).ok().filter(|_| slot < self.len());
        small.ok_or(Error::Index { thing: "slot", index: slot, count: self.len() })
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
        Error::System { call, error, hint }
    }

    /// Why a program was refused, as far as can be told.
    fn refused(&self, slot: usize, program: BorrowedFd<'_>, error: io::Error) -> Error {
        let owner = kernel::owner(self.as_fd());
        let table = match &owner {
            Some(owner) => format!("{}[{slot}] (programs of type {owner})", self.map.what),
            None => format!("{}[{slot}]", self.map.what),
        };
        let (program, hint) = match kernel::program(program) {
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
        Error::Program { table, program, error, hint }
    }
}

impl Program {
    fn by_id(id: u32) -> io::Result<Self> {
        let fd = kernel::open(id)?;
        let (id, name, kind) = kernel::program(fd.as_fd())?;
        Ok(Self { id, name, kind, fd })
    }
}

/// `None` for what is not there.
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

/// To be put into other slots and tables, or attached.
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

/// The system calls. libbpf-rs has them, but keeps their errno to itself.
mod kernel {
    #![allow(unsafe_code)]

    use std::ffi::CStr;
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    use libbpf_rs::libbpf_sys;

    use crate::text::printable;

    pub(super) fn insert(map: BorrowedFd<'_>, slot: u32, program: BorrowedFd<'_>) -> io::Result<()> {
        let value = program.as_raw_fd();
        // SAFETY: a `PROG_ARRAY` has keys and values of 4 bytes.
        result(unsafe {
            libbpf_sys::bpf_map_update_elem(
                map.as_raw_fd(),
                (&raw const slot).cast(),
                (&raw const value).cast(),
                0,
            )
        })
    }

    pub(super) fn remove(map: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
        // SAFETY: as above.
        result(unsafe { libbpf_sys::bpf_map_delete_elem(map.as_raw_fd(), (&raw const slot).cast()) })
    }

    pub(super) fn id(map: BorrowedFd<'_>, slot: u32) -> io::Result<u32> {
        let mut id = 0_u32;
        // SAFETY: as above; the value is a program's id.
        result(unsafe {
            libbpf_sys::bpf_map_lookup_elem(map.as_raw_fd(), (&raw const slot).cast(), (&raw mut id).cast())
        })?;
        Ok(id)
    }

    pub(super) fn open(id: u32) -> io::Result<OwnedFd> {
        // SAFETY: any id is fine.
        let fd = unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) };
        result(fd)?;
        // SAFETY: a new descriptor, and ours alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// A program's id, name and type.
    pub(super) fn program(fd: BorrowedFd<'_>) -> io::Result<(u32, String, String)> {
        // A map would tell of itself instead.
        let name = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
        if name.is_ok_and(|name| name.as_bytes() != b"anon_inode:bpf-prog") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut info = libbpf_sys::bpf_prog_info::default();
        #[allow(clippy::cast_possible_truncation)] // some hundred bytes
        let mut size = size_of_val(&info) as u32;
        // SAFETY: the information is as long as said, and asks for no arrays.
        result(unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size) })?;
        // A C character has a sign on some machines.
        let name =
            info.name.iter().take_while(|&&c| c != 0).flat_map(|c| c.to_ne_bytes()).collect::<Vec<_>>();
        Ok((info.id, printable(&String::from_utf8_lossy(&name)), type_name(info.type_)))
    }

    /// The type of the programs that a table takes, where that is settled and procfs is there.
    pub(super) fn owner(map: BorrowedFd<'_>) -> Option<String> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
        let owner = info.lines().find_map(|line| line.strip_prefix("owner_prog_type:"))?;
        owner.trim().parse().ok().map(type_name)
    }

    fn type_name(ty: u32) -> String {
        // SAFETY: any number is fine; the result is null or a constant string.
        let name = unsafe { libbpf_sys::libbpf_bpf_prog_type_str(ty) };
        if name.is_null() {
            return format!("{ty}");
        }
        // SAFETY: it is not null, and so a C string that is never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    fn result(ret: i32) -> io::Result<()> {
        if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(()) }
    }
}
