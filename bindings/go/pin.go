// Pins a region for other processes. Another pin is replaced at once, with the maps of readers and bells.

package mapring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// PinOptions say how PinRegion pins.
type PinOptions struct {
	Mode    os.FileMode // of the pins: with 0666 any process can open them
	Freeze  bool        // from now on only programs write the region
	Replace bool        // what is pinned there, if anything is
}

// PinRegion pins the region `name` of the loaded maps, after Initialize: a ring with its readers and bells, as PATH__readers and
// PATH__bells; a ring with PER_CPU_MAPS as a directory with the ring of each CPU. A reader that opens the pin at any moment finds the
// earlier region or this one, whole, also if this process dies meanwhile. (A directory is replaced from Linux 5.16 on.) The directory of
// the pin must be in a BPF file system, and no other user may be able to exchange names in it or above it.
func PinRegion(maps map[string]*ebpf.Map, name, path string, how PinOptions) error {
	if maps[name] == nil {
		return failf(ErrOpen, "the object has no map %s", name)
	}
	parts, err := openParts(Map(maps[name]))
	if err != nil {
		return err
	}
	defer closeParts(parts)
	if how.Freeze && parts[0].options.Has(Resizable) {
		return failf(ErrUnsupported, "map %s: a resizable ring is not frozen: resizing writes it", name)
	}
	companions := map[string]int{}
	for _, suffix := range []string{suffixReaders, suffixBells} {
		if m := maps[name+suffix]; m != nil {
			companions[suffix] = m.FD()
		}
	}
	dir, err := pinDir(path)
	if err == nil {
		defer unix.Close(dir)
		err = pinIn(dir, path, parts, companions, maps[name].Type() == ebpf.ArrayOfMaps && !parts[0].options.Has(Resizable), how)
	}
	if errors.As(err, new(*failure)) || err == nil {
		return err
	}
	hint := ""
	if isErrno(err, unix.EEXIST) {
		hint = "; something is already pinned there: remove it first, or set PinOptions.Replace"
	}
	return failf(ErrNotWritable, "map %s is not pinned at %s: %v%s", name, printable(path), err, hint)
}

func pinIn(dir int, path string, parts []part, companions map[string]int, eachCPU bool, how PinOptions) (err error) {
	pin := filepath.Base(path)
	s, err := openStage(dir, pin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for suffix := range companions {
		if !how.Replace && !eachCPU && exists(dir, pin+suffix) {
			return unix.EEXIST
		}
		if err := replaceable(dir, path+suffix); err != nil && !eachCPU {
			return err
		}
	}
	if !how.Replace && exists(dir, pin) { // a freeze can't be undone
		return unix.EEXIST
	}
	if err := replaceable(dir, path); err != nil {
		return err
	}
	first := "new"
	if eachCPU {
		err = unix.Mkdirat(s.fd, "new", 0o700)
		first = fmt.Sprintf("new/cpu%d", parts[0].number)
	}
	for _, part := range parts {
		name := first
		if eachCPU {
			name = fmt.Sprintf("new/cpu%d", part.number)
		}
		if err == nil && how.Freeze {
			err = freeze(part.fd)
		}
		if err == nil {
			err = s.pinMap(part.fd, name, how.Mode)
		}
	}
	// The ring comes first: without it, another process that finds the others takes them for those of the ring that is public.
	for suffix, fd := range companions {
		if err == nil {
			err = s.pinMap(fd, first+suffix, how.Mode)
		}
	}
	if err == nil && eachCPU { // users that may read the pins may also look them up, and none exchanges names
		err = unix.Fchmodat(s.fd, "new", uint32(0o700|how.Mode&0o444|how.Mode&0o444>>2), 0)
	} else if err == nil && len(companions) > 0 {
		err = unix.Fchmod(s.fd, 0o711) // until they have their names, readers find them here
	}
	if err != nil {
		return err
	}
	if !how.Replace {
		return unix.Renameat2(s.fd, "new", dir, pin, unix.RENAME_NOREPLACE)
	}
	err = unix.Renameat2(s.fd, "new", dir, pin, 0)
	if isErrno(err, unix.EISDIR, unix.ENOTDIR, unix.ENOTEMPTY, unix.EEXIST) {
		if err = replaceable(dir, path); err != nil {
			return err
		}
		err = unix.Renameat2(s.fd, "new", dir, pin, unix.RENAME_EXCHANGE)
		if isErrno(err, unix.EINVAL) {
			err = fmt.Errorf("replacing a directory of pins needs Linux 5.16: remove it first: %w", err)
		}
	}
	if old, failed := openRegion(Pin(fmt.Sprintf("/proc/self/fd/%d/%s%s", dir, pin, suffixReaders))); failed == nil {
		if err == nil && (eachCPU || len(companions) == 0) && old.kind == KindReaders { // of a ring that this one replaced
			_ = unix.Unlinkat(dir, pin+suffixReaders, 0)
			_ = unix.Unlinkat(dir, pin+suffixBells, 0)
		}
		old.close()
	}
	return err
}

// replaceable refuses a directory of another user, who could fill it at any time. All others keep their names.
func replaceable(dir int, path string) error {
	var found unix.Stat_t
	err := unix.Fstatat(dir, filepath.Base(path), &found, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && found.Mode&unix.S_IFMT == unix.S_IFDIR && !isOurs(&found) {
		return failf(ErrUntrusted, "%s belongs to user %d, who may have put it there: remove it", printable(path), found.Uid)
	}
	return nil
}

// isOurs says whether only root or this user can rename it, or what is in it.
func isOurs(found *unix.Stat_t) bool { return found.Uid == 0 || int(found.Uid) == os.Geteuid() }

const (
	bpfObjPin    = 6
	bpfMapFreeze = 22
)

func freeze(fd int) error {
	args := struct{ fd uint32 }{uint32(fd)}
	_, err := bpf(bpfMapFreeze, unsafe.Pointer(&args), unsafe.Sizeof(args))
	if isErrno(err, unix.EBUSY, unix.EPERM) { // both, if it is frozen already
		if text, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd)); strings.Contains(string(text), "frozen:\t1") {
			return nil
		}
	}
	if isErrno(err, unix.EBUSY) {
		return fmt.Errorf("bpf(BPF_MAP_FREEZE): %w; a process has it mapped for writing", err)
	}
	return err
}

// pinDir opens the directory of a pin, name by name, and follows no symbolic link. Each directory must belong to root or to this user,
// and others may write it only if it is sticky: then no other user can exchange a name that is made in it.
func pinDir(path string) (int, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return -1, err
	}
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err := unix.Open("/", how, 0)
	names := strings.Split(whole[1:], "/")
	for i, name := range names {
		var found unix.Stat_t
		var system unix.Statfs_t
		if err == nil {
			err = errors.Join(unix.Fstat(dir, &found), unix.Fstatfs(dir, &system))
		}
		if err != nil {
			return -1, err
		}
		kernels := system.Type == unix.PROC_SUPER_MAGIC || system.Type == unix.SYSFS_MAGIC // who makes all names in them
		switch {
		case !kernels && (!isOurs(&found) || found.Mode&0o022 != 0 && found.Mode&unix.S_ISVTX == 0):
			err = failf(ErrUntrusted, "another user could exchange names in the directory above %q of %s: it must "+
				"belong to root or to this user, and if others may write it, it must be sticky", name, printable(path))
		case i < len(names)-1:
			next, err := unix.Openat(dir, name, how, 0)
			_ = unix.Close(dir)
			if dir = next; err != nil {
				return -1, err
			}
			continue
		case uint32(system.Type) != unix.BPF_FS_MAGIC || name == "":
			err = failf(ErrOpen, "%s: not a name in a BPF file system (mount -t bpf)", printable(path))
		default:
			return dir, nil
		}
		_ = unix.Close(dir)
		return -1, err
	}
	return dir, err
}

// stage is the directory PIN__next, in which a new pin is made, and which is a lock: one process at a time changes a pin. The loaders in
// Rust and C do the same (ring/src/bpf/stage.rs).
type stage struct {
	dir, fd int
	pin     string
}

func exists(dir int, name string) bool {
	var found unix.Stat_t
	return unix.Fstatat(dir, name, &found, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// openStage waits a second for another process that changes this pin.
func openStage(dir int, pin string) (*stage, error) {
	name := pin + "__next"
	for range 200 {
		if err := unix.Mkdirat(dir, name, 0o700); err != nil && !isErrno(err, unix.EEXIST) {
			return nil, err
		}
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if isErrno(err, unix.ENOENT) {
			continue // the other process has just removed it
		}
		if err != nil {
			return nil, err
		}
		var locked, now unix.Stat_t
		if err = unix.Fstat(fd, &locked); err == nil && (!isOurs(&locked) || locked.Mode&0o022 != 0) {
			err = failf(ErrUntrusted, "%s belongs to another user, or can be written by one: remove it", name)
		}
		if err != nil {
			_ = unix.Close(fd)
			return nil, err
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil && unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW) == nil &&
			now.Ino == locked.Ino {
			s := &stage{dir, fd, pin}
			if err := s.finish(); err != nil {
				return nil, errors.Join(err, s.close())
			}
			return s, nil
		}
		_ = unix.Close(fd)
		time.Sleep(5 * time.Millisecond)
	}
	return nil, fmt.Errorf("another process is at work in %s", name)
}

func (s *stage) path(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", s.fd, name) }

func (s *stage) pinMap(fd int, name string, mode os.FileMode) error {
	path, err := unix.BytePtrFromString(s.path(name))
	if err != nil {
		return err
	}
	args := struct {
		path unsafe.Pointer
		fd   uint32
		_    uint32
	}{unsafe.Pointer(path), uint32(fd), 0}
	if _, err := bpf(bpfObjPin, unsafe.Pointer(&args), unsafe.Sizeof(args)); err != nil {
		return err
	}
	return unix.Fchmodat(s.fd, name, uint32(mode.Perm()), 0)
}

// finish finishes what this process, or one that died, has begun: if the ring is public, its readers and bells become so. Otherwise all
// is taken back.
func (s *stage) finish() error {
	isPublic := exists(s.dir, s.pin)
	var found unix.Stat_t
	if unix.Fstatat(s.fd, "new", &found, unix.AT_SYMLINK_NOFOLLOW) == nil {
		isPublic = found.Mode&unix.S_IFMT == unix.S_IFDIR // which was exchanged for the pin, or has no companions beside it
	}
	var err error
	for _, suffix := range []string{suffixReaders, suffixBells} {
		if !isPublic {
			_ = unix.Unlinkat(s.fd, "new"+suffix, 0)
		} else if failed := unix.Renameat2(s.fd, "new"+suffix, s.dir, s.pin+suffix, 0); err == nil && !isErrno(failed, unix.ENOENT) {
			err = failed
		}
	}
	err = errors.Join(err, os.RemoveAll(s.path("new")))
	// What `mapring clean` took away, and died.
	if isErrno(unix.Renameat2(s.fd, "old", s.dir, s.pin, unix.RENAME_NOREPLACE), unix.EEXIST) {
		_ = unix.Unlinkat(s.fd, "old", 0)
	}
	return err
}

func (s *stage) close() error {
	err := s.finish()
	_ = unix.Unlinkat(s.dir, s.pin+"__next", unix.AT_REMOVEDIR)
	_ = unix.Close(s.fd)
	return err
}
