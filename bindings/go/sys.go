// The calls of bpf(2) that a reader makes. cilium/ebpf loads and attaches; this package reads through a descriptor alone.

package mapring

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	bpfMapLookupElem  = 1
	bpfObjGet         = 7
	bpfMapGetFdByID   = 14
	bpfObjGetInfoByFd = 15

	flagRdonly   = 1 << 3
	flagMmapable = 1 << 10

	typeArray       = 2
	typePerCPUArray = 6
	typeArrayOfMaps = 12
)

// errnoNotSupported is ENOTSUPP, which has no name for userspace.
const errnoNotSupported = unix.Errno(524)

// The package is for 64-bit machines: on others, this constant is negative, and does not compile.
const _ = uint(unsafe.Sizeof(uintptr(0)) - 8)

// The arguments of the calls, as the kernel reads them on 64-bit machines (union bpf_attr).
type (
	lookupArgs struct {
		fd    uint32
		_     uint32
		key   unsafe.Pointer
		value unsafe.Pointer
		flags uint64
	}
	objGetArgs struct {
		path  unsafe.Pointer
		_     uint32
		flags uint32
	}
	byIDArgs struct {
		id, _ uint32
		flags uint32
	}
	infoArgs struct {
		fd, length uint32
		info       unsafe.Pointer
	}
)

// mapInfo is struct bpf_map_info, up to the fields that a reader needs. The kernel fills as much as there is.
type mapInfo struct {
	typ, id, keySize, valueSize, maxEntries, flags uint32
	name                                           [16]byte
	ifindex, vmlinuxValue                          uint32
	netnsDev, netnsIno                             uint64
	btf, btfKey, btfValue, vmlinux                 uint32
	extra                                          uint64
}

// bpf makes one call. The arguments are a struct of this file whose pointers are to private memory of the size that the
// kernel writes.
func bpf(command uintptr, args unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(args), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// openPin opens a pin for reading and writing, without which the kernel does not map it, or else for reading.
func openPin(path string) (int, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	args := objGetArgs{path: unsafe.Pointer(name)}
	fd, err := bpf(bpfObjGet, unsafe.Pointer(&args), unsafe.Sizeof(args))
	if isErrno(err, unix.EACCES) {
		args.flags = flagRdonly
		return bpf(bpfObjGet, unsafe.Pointer(&args), unsafe.Sizeof(args))
	}
	return fd, err
}

var mapTypes = strings.Fields("unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array " +
	"lru_hash lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage " +
	"reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage task_storage " +
	"bloom_filter user_ringbuf cgrp_storage arena insn_array")

// mapType is the name of a type of maps, as the kernel's tools name it.
func mapType(number uint32) string {
	if int(number) < len(mapTypes) {
		return mapTypes[number]
	}
	return "that is unknown"
}

func openID(id uint32) (int, error) { return openIDWith(id, 0) }

func openIDWith(id, flags uint32) (int, error) {
	args := byIDArgs{id: id, flags: flags}
	return bpf(bpfMapGetFdByID, unsafe.Pointer(&args), unsafe.Sizeof(args))
}

// infoOf is what the kernel says of a map; before Linux 5.19 procfs says it to processes without privilege, but not the types.
func infoOf(fd int) (info mapInfo, err error) {
	// Of a program or a link the kernel says other things.
	if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && name != "anon_inode:bpf-map" {
		return info, unix.EINVAL
	}
	args := infoArgs{fd: uint32(fd), length: uint32(unsafe.Sizeof(info)), info: unsafe.Pointer(&info)}
	if _, err = bpf(bpfObjGetInfoByFd, unsafe.Pointer(&args), unsafe.Sizeof(args)); isErrno(err, unix.EPERM) {
		info = mapInfo{}
		if fromProcfs(fd, &info) {
			err = nil
		}
	}
	return info, err
}

func fromProcfs(fd int, info *mapInfo) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return false
	}
	fields := map[string]*uint32{"map_type": &info.typ, "map_id": &info.id, "key_size": &info.keySize,
		"value_size": &info.valueSize, "max_entries": &info.maxEntries, "map_flags": &info.flags}
	for row := range bytes.Lines(text) {
		name, value, _ := strings.Cut(string(row), ":")
		if field := fields[name]; field != nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 0, 32); err == nil {
				*field = uint32(n)
				delete(fields, name)
			}
		}
	}
	return len(fields) == 0
}

func onlineCPUs() ([]int, error) { return cpuList("/sys/devices/system/cpu/online") }

func cpuList(path string) (cpus []int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, failf(ErrUnsupported, "no list of the CPUs: %v; mount sysfs at /sys", err)
	}
	for _, part := range strings.Split(strings.TrimSpace(string(text)), ",") { // such as 0-3,8
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		last := first
		if err == nil && isRange {
			last, err = strconv.Atoi(to)
		}
		if err != nil || first < 0 || last >= shardsMax {
			return nil, failf(ErrUnsupported, "%s has %q, which is no list of CPUs", path, text)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// lookups are three lookups of one element, with the copies of all CPUs for a per-CPU map (docs/abi.md, "By system call").
type lookups struct {
	args   lookupArgs
	key    uint32
	size   uint64 // words of a copy
	copies [3][]uint64
}

func newLookups(r *region) *lookups {
	// As many bytes as the kernel writes: round_up(value_size, 8), for each possible CPU of a per-CPU map.
	size := wordsOf(uint64(r.info.valueSize))
	l := &lookups{size: size}
	for i := range l.copies {
		l.copies[i] = make([]uint64, size*uint64(len(r.cpus)))
	}
	l.args = lookupArgs{fd: uint32(r.fd), key: unsafe.Pointer(&l.key)}
	return l
}

// lookup makes one of the three.
func (l *lookups) lookup(number int, element uint64) error {
	fence() // SYNC publish, claim: between two lookups, which the kernel makes by plain loads
	l.key, l.args.value = uint32(element), unsafe.Pointer(&l.copies[number][0])
	_, err := bpf(bpfMapLookupElem, unsafe.Pointer(&l.args), unsafe.Sizeof(l.args))
	return err
}

func (l *lookups) three(element uint64) error {
	for i := range l.copies {
		if err := l.lookup(i, element); err != nil {
			return err
		}
	}
	return nil
}

// median is the median of a word of a copy, which only grows.
func (l *lookups) median(copy int, at uint64) uint64 {
	at += uint64(copy) * l.size
	first := l.copies[0][at]
	a, b := int64(l.copies[1][at]-first), int64(l.copies[2][at]-first)
	return first + uint64(max(min(a, b), min(max(a, b), 0)))
}
