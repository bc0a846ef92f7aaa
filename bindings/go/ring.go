// Opens rings: in one map or memfd, in a map for each CPU, or in a map of maps where another ring can replace it.

package mapring

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring is a ring of records of type T, with a shard for each CPU that writes. Programs overwrite the oldest record and never
// wait. A reader that is fast enough gets every record whole, once, in order within its shard, and counts exactly how many it
// missed. Readers have no effect on programs and on each other. A Ring is safe for use by several goroutines.
type Ring[T any] struct {
	parts  []part
	check  string
	closed atomic.Bool
}

// part is a region of a ring, with the number of its first shard.
type part struct {
	number int
	*region
}

// OpenRing opens a ring for reading. T has the layout of the C record: integers of a fixed size, floats, arrays and structs of
// these, with the same names (PrevPID for prev_pid, or a tag `btf:"prev_pid"`), offsets and sizes. Where this process may read
// the map's BTF (CAP_SYS_ADMIN), OpenRing compares all fields, and otherwise the size (LayoutCheck). The source of a ring with
// PER_CPU_MAPS is its map of maps or the directory of its pins, of a RESIZABLE ring its map of maps or its pin.
//
// It makes system calls. Reading makes none where the kernel maps the ring (Access).
func OpenRing[T any](source Source) (*Ring[T], error) {
	parts, err := openParts(source)
	if err != nil {
		return nil, err
	}
	r := &Ring[T]{parts: parts}
	for _, part := range parts {
		err = part.expect(KindRing)
		if err == nil {
			r.check, err = checkRecord[T](part.region)
		}
		if err != nil {
			closeParts(parts)
			return nil, err
		}
	}
	for _, part := range parts {
		part.share()
	}
	return r, nil
}

// OpenPinned opens the ring that is pinned at a path in a BPF file system.
func OpenPinned[T any](path string) (*Ring[T], error) { return OpenRing[T](Pin(path)) }

// Shards is the number of shards: the possible CPUs, if programs write the ring.
func (r *Ring[T]) Shards() int {
	shards := 0
	for _, part := range r.parts {
		shards += int(part.shards)
	}
	return shards
}

// Slots is the number of slots in each shard.
func (r *Ring[T]) Slots() int { return int(r.parts[0].capacity) }

// Options are the options with which the ring was declared.
func (r *Ring[T]) Options() RingOptions { return r.parts[0].options }

// Access says how it is read: "mapped", or by system call and why.
func (r *Ring[T]) Access() string { return how(r.parts) }

func how(parts []part) string {
	for _, part := range parts {
		if !part.mapped() {
			return part.how()
		}
	}
	return "mapped"
}

// LayoutCheck says whether T was compared with the C type field by field, or by size alone and why.
func (r *Ring[T]) LayoutCheck() string { return r.check }

// Close ends it: a reader that is made later is closed, too. Those that were made go on. The memory goes back once nobody reads.
func (r *Ring[T]) Close() error {
	if r.closed.Swap(true) {
		return closed(r.parts[0].what)
	}
	return nil
}

func closeParts(parts []part) {
	for _, part := range parts {
		part.close()
	}
}

// openParts finds the regions of a ring.
func openParts(source Source) ([]part, error) {
	if dir, err := os.Stat(source.path); source.path != "" && err == nil && dir.IsDir() {
		for try := 1; ; try++ {
			parts, err := eachCPU(func(cpu int) (*region, error) {
				return openRegion(Pin(filepath.Join(source.path, fmt.Sprintf("cpu%d", cpu))))
			})
			// Another directory may have taken its place, and what was in this one is removed.
			now, gone := os.Stat(source.path)
			if gone != nil || os.SameFile(dir, now) || try == again {
				return parts, err
			}
			closeParts(parts)
			dir = now
		}
	}
	fd, what, _, err := source.open()
	if err != nil {
		return nil, err
	}
	info, err := infoOf(fd)
	if err != nil || info.typ != typeArrayOfMaps {
		_ = unix.Close(fd)
		r, err := openRegion(source)
		if err != nil {
			return nil, err
		}
		return []part{{0, r}}, nil
	}
	outer := &outer{os.NewFile(uintptr(fd), what), what, info.maxEntries}
	first, err := outer.region(0)
	switch {
	case err != nil:
		return nil, err
	case first.options.Has(Resizable):
		return []part{{0, first}}, nil
	case !first.options.Has(PerCPUMaps):
		first.close()
		return nil, failf(ErrWrongType, "%s is an array of maps that holds %s, expected a resizable ring or a PER_CPU_MAPS ring; "+
			"open one of its maps by its id", what, first.kind)
	}
	first.close()
	cpus, err := possibleCPUs()
	if err != nil {
		return nil, err
	}
	if last := cpus[len(cpus)-1]; int(outer.entries) != last+1 {
		return nil, failf(ErrNotPrepared, "%s has %s, expected %d, one for each possible CPU (0 to %d): call mapring.Prepare before "+
			"the object is loaded", what, counted(uint64(outer.entries), "shard"), last+1, last)
	}
	return eachCPU(func(cpu int) (*region, error) { return outer.region(uint32(cpu)) })
}

// eachCPU opens the map of each CPU that has one: at least one CPU has.
func eachCPU(open func(cpu int) (*region, error)) (parts []part, err error) {
	defer func() {
		if err != nil {
			closeParts(parts)
		}
	}()
	cpus, err := possibleCPUs()
	if err != nil {
		return nil, err
	}
	var missing error
	for _, cpu := range cpus {
		r, err := open(cpu)
		if isErrno(err, unix.ENOENT) {
			missing = err
			continue
		}
		if err != nil {
			return parts, err
		}
		parts = append(parts, part{cpu, r})
		if first := parts[0]; !r.options.Has(PerCPUMaps) || r.options != first.options || r.record != first.record ||
			r.capacity != first.capacity {
			return parts, failf(ErrWrongType, "%s can't be the ring of CPU %d: it is %s, expected %s", r.what, cpu, &r.layout, &first.layout)
		}
		for _, other := range parts[:len(parts)-1] {
			if other.info.id == r.info.id {
				return parts, failf(ErrWrongType, "%s can't be the ring of CPU %d: it is the ring of CPU %d", r.what, cpu, other.number)
			}
		}
	}
	if len(parts) == 0 {
		return nil, missing
	}
	return parts, nil
}

// outer is an array of maps. Its descriptor is closed with the last region that was found in it.
type outer struct {
	file    *os.File
	what    string
	entries uint32
}

// Tries to open a map that may be replaced, and freed, before it is opened by its id.
const again = 16

// id is the id of the map under a key.
func (o *outer) id(key uint32) (id uint32, err error) {
	args := lookupArgs{fd: uint32(o.file.Fd()), key: unsafe.Pointer(&key), value: unsafe.Pointer(&id)}
	if _, err = bpf(bpfMapLookupElem, unsafe.Pointer(&args), unsafe.Sizeof(args)); err != nil {
		err = failf(ErrOpen, "can't open the map under key %d of %s: %v; mapring.Initialize makes the maps of a PER_CPU_MAPS ring",
			key, o.what, err)
	}
	return id, err
}

// region opens the map under a key.
func (o *outer) region(key uint32) (*region, error) {
	for try := 1; ; try++ {
		id, err := o.id(key)
		if err != nil {
			return nil, err
		}
		fd, err := openID(id)
		if err == nil {
			return regionOf(fd, fmt.Sprintf("map id %d under key %d of %s", id, key, o.what), locator{outer: o, key: key})
		}
		if !isErrno(err, unix.ENOENT) || try == again {
			return nil, failf(ErrOpen, "can't open map id %d under key %d of %s: %v%s", id, key, o.what, err, openHint(err, false))
		}
	}
}

// open opens the region that is there now.
func (l locator) open() (*region, error) {
	if l.outer != nil {
		return l.outer.region(l.key)
	}
	return openRegion(Pin(l.pin))
}

func (l locator) isKnown() bool { return l.outer != nil || l.pin != "" }
