//! How a region is read, and if it isn't mapped, why.

use std::fmt;

/// How a region is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// From mapped memory: no system call, no lock, no effect on writers.
    Mapped,
    /// By system calls, because the kernel refused the mapping.
    Syscall(Refusal),
}

/// Why the kernel refused a mapping. Its message contains the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The descriptor is read-only (by the mode of a pin, or `BPF_F_RDONLY`). Linux never maps such a descriptor: the
    /// mapping would not be shared, and arrays require shared mappings (EINVAL).
    ReadOnlyFd,
    /// A writable mapping of a memfd whose descriptor is read-only (EACCES).
    ReadOnlyMemfd,
    /// The map is write-only for userspace (`BPF_F_WRONLY`, EACCES).
    WriteOnlyFd,
    /// The map was made without `BPF_F_MMAPABLE` (EINVAL).
    NotMmapable,
    /// The value contains a `bpf_spin_lock`, a `bpf_timer` or similar (ENOTSUPP).
    SpecialFields,
    /// A writable mapping of a frozen map (EPERM).
    Frozen,
    /// A writable mapping of a `BPF_F_RDONLY_PROG` map (EACCES).
    ReadOnlyForPrograms,
    /// A writable mapping of a memfd sealed against writes (EPERM).
    Sealed,
    /// It was opened without a request for a writable mapping.
    NotAsked,
    /// The kernel never maps this type of map (ENOTSUPP).
    MapType,
    /// The kernel returned this error number, whose cause the library does not know.
    Errno(i32),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped => f.write_str("mapped"),
            Self::Syscall(refusal) => write!(f, "by system call ({refusal})"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnlyFd => {
                "a read-only file descriptor, which Linux refuses to map (EINVAL): freeze the map and pin it with mode \
                 0666 (Region::freeze_and_pin), and any process can map it; the process that created a map with \
                 BPF_F_RDONLY reopens it by id or pin"
            }
            Self::ReadOnlyMemfd => {
                "the descriptor of the memfd is read-only (EACCES): use one that was opened for reading and writing"
            }
            Self::WriteOnlyFd => {
                "the map is write-only for userspace (BPF_F_WRONLY): create it without this flag, or reopen it by id or \
                 pin: the flag applies only to the creator's descriptor"
            }
            Self::NotMmapable => "the map was made without BPF_F_MMAPABLE (EINVAL): set map_flags to it",
            Self::SpecialFields => {
                "its value holds a bpf_spin_lock, bpf_timer or the like (ENOTSUPP): keep those in a map of their own"
            }
            Self::Frozen => {
                "the map is frozen (EPERM): only programs can write it; put data that userspace writes into a separate \
                 map that is not frozen"
            }
            Self::ReadOnlyForPrograms => {
                "the map is read-only for programs (BPF_F_RDONLY_PROG), which the kernel maps for reading only \
                 (EACCES): write it with bpf_map_update_elem, as Latches do"
            }
            Self::Sealed => {
                "the memfd is sealed against writes (EPERM): only mappings made before the seal can write; ask the \
                 creator to write, or for a new memfd"
            }
            Self::NotAsked => "it was opened for reading: open it with OpenOptions::write",
            Self::MapType => {
                "maps of this type are never mapped (ENOTSUPP): use an ARRAY made with BPF_F_MMAPABLE"
            }
            Self::Errno(errno) => {
                return write!(f, "the kernel said: {}", std::io::Error::from_raw_os_error(*errno));
            }
        })
    }
}
