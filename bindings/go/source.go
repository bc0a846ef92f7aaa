// Where a region is: a map of this process, a pin, a descriptor or an id.

package mapring

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Source says where a region is: Map, Pin, FD or ID.
type Source struct {
	m    *ebpf.Map
	path string
	fd   *int
	id   uint32
}

// Map is a map that this process has, of cilium/ebpf. It stays the caller's, who may close it after opening.
func Map(m *ebpf.Map) Source { return Source{m: m} }

// Pin is a path in a BPF file system. For a ring with PER_CPU_MAPS it is the directory of its pins.
func Pin(path string) Source { return Source{path: path} }

// FD is a descriptor of a BPF map or of a sealed memfd, for example one that another process has handed over. It stays the
// caller's, who may close it after opening.
func FD(fd int) Source { return Source{fd: &fd} }

// ID is the id of a BPF map. Opening it needs CAP_SYS_ADMIN.
func ID(id ebpf.MapID) Source { return Source{id: uint32(id)} }

// locator finds a map, now and after another one replaced it.
type locator struct {
	pin   string
	outer *outer
	key   uint32
}

// open gets a descriptor of its own.
func (s Source) open() (fd int, what string, origin locator, err error) {
	switch {
	case s.m != nil:
		what = printable(s.m.String())
		if fd, err = unix.FcntlInt(uintptr(s.m.FD()), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			if info, err := infoOf(fd); err == nil && info.name[0] != 0 {
				what = "map " + printable(unix.ByteSliceToString(info.name[:]))
			}
		}
	case s.fd != nil:
		what = fmt.Sprintf("fd %d", *s.fd)
		fd, err = unix.FcntlInt(uintptr(*s.fd), unix.F_DUPFD_CLOEXEC, 0)
	case s.id != 0:
		what = fmt.Sprintf("map id %d", s.id)
		fd, err = openID(s.id)
	default:
		what, origin.pin = printable(s.path), s.path
		fd, err = openPin(s.path)
		var system unix.Statfs_t
		if isErrno(err, unix.EACCES, unix.EINVAL) && unix.Statfs(s.path, &system) == nil && uint32(system.Type) != unix.BPF_FS_MAGIC {
			return fd, what, origin, failf(ErrOpen, "can't open %s: %v; is it a pin in a BPF file system?", what, err)
		}
	}
	if err != nil {
		err = failf(ErrOpen, "can't open %s: %v%s", what, err, openHint(err, s.fd == nil && s.id == 0))
	}
	return fd, what, origin, err
}
